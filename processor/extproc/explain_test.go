package extproc_test

import (
	"slices"
	"strings"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

func TestAClientThatAsksGetsAnExplanationOfItsOwnHeaders(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nexplain: true\nforward: [x-mcp-api-key, x-f*]\nlimits: {value_bytes: 20}\n"})
	stream := b.stream(t, "bellhop-role", "ingress")
	request := requestHeaders(
		":path: /mcp", "accept: x", "x-bellhop-explain: 1", "x-mcp-api-key: canary", "x-api-kee: canary",
		"x-forwarded-for: canary",
	)
	request.ProtocolConfig = &extprocv3.ProtocolConfiguration{}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil || answer.GetModeOverride() == nil {
		t.Fatalf("got %v, %v", answer, err)
	}
	if removed := answer.GetRequestHeaders().GetResponse().GetHeaderMutation().GetRemoveHeaders(); !strings.Contains(
		strings.Join(removed, " "),
		"x-bellhop-explain",
	) {
		t.Errorf("the question goes on to the fan-out: %q", removed)
	}
	if err := stream.Send(messages()["response_headers"]()); err != nil {
		t.Fatal(err)
	}
	if answer, err = stream.Recv(); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, option := range answer.GetResponseHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
		got[option.GetHeader().GetKey()] = string(option.GetHeader().GetRawValue())
	}
	for name, want := range map[string]string{
		"x-bellhop-captured": "x-mcp-api-key", "x-bellhop-not-listed": "x-api-kee", "x-bellhop-left-out": "x-forwarded-for",
	} {
		if got[name] != want {
			t.Errorf("%s: got %q, want %q", name, got[name], want)
		}
	}
	if strings.Contains(answer.String(), "canary") {
		t.Error("a value is in the answer")
	}
	refused := b.ask(t, requestHeaders("x-bellhop-explain: 1", "x-mcp-api-key: "+strings.Repeat("k", 30)), "bellhop-role",
		"ingress").
		GetImmediateResponse()
	if set := refused.GetHeaders().GetSetHeaders(); len(set) != 2 ||
		string(set[1].GetHeader().GetRawValue()) != "x-mcp-api-key" {
		t.Errorf("got %v", refused)
	}
}

func TestAClientGetsNoExplanationUnlessThePolicyAllowsIt(t *testing.T) {
	b := start(t, setup{policy: smallest})
	if b.converse(t, []string{"x-bellhop-explain: 1", "x-mcp-api-key: k"}) {
		t.Error("the response was asked for")
	}
}

// Invariants 4 and 5 hold in a dry run too: what was learnt, or frozen by the fan-out, before it is of no use to
// anybody.
func TestObserveRemovesTickets(t *testing.T) {
	b := start(t, setup{policy: smallest + "mode: observe\n"})
	for _, role := range []string{"ingress", "egress"} {
		for _, line := range []string{
			"x-bellhop-ticket: forged", "x_bellhop_ticket: forged", "x-bellhop_ticket: forged", "baggage: bellhop=forged",
		} {
			answer := b.ask(t, requestHeaders(line, "x-mcp-api-key: k"), "bellhop-role", role)
			if left := apply(t, []string{line, "x-mcp-api-key: k"}, answer); !slices.Equal(left, []string{"x-mcp-api-key: k"}) {
				t.Errorf("%s %q: %q", role, line, left)
			}
		}
		if role == "ingress" { // forward rules do not show the aliases
			answer := b.ask(t, requestHeaders("x-mcp-api-key: k"), "bellhop-role", role)
			left := apply(t, []string{"x-mcp-api-key: k", "x_bellhop-ticket: forged"}, answer)
			if !slices.Equal(left, []string{"x-mcp-api-key: k"}) {
				t.Errorf("an alias that is not shown: %q", left)
			}
		}
		answer := b.ask(t, requestHeaders("baggage: a=1,bellhop=forged"), "bellhop-role", role)
		if set := answer.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders(); len(set) != 1 ||
			string(set[0].GetHeader().GetRawValue()) != "a=1" {
			t.Errorf("%s: %v", role, answer)
		}
	}
}

// A dry run changes nothing of anybody else's, refuses nothing, and counts everything.
func TestObserveChangesNothing(t *testing.T) {
	b := start(t, setup{policy: smallest + "mode: observe\nlimits: {value_bytes: 4}\n"})
	for _, role := range []string{"ingress", "egress"} {
		for _, lines := range [][]string{{"x-mcp-api-key: k"}, {"x-mcp-api-key: too-long"}, {"baggage: a=1"}} {
			answer := b.ask(t, requestHeaders(lines...), "bellhop-role", role)
			if left := apply(t, lines, answer); answer.GetRequestHeaders() == nil || !slices.Equal(left, lines) {
				t.Errorf("%s %q: %q", role, lines, left)
			}
		}
	}
	stream := b.stream(t, "bellhop-role", "ingress")
	if err := stream.Send(messages()["request_body"]()); err != nil {
		t.Fatal(err)
	}
	if answer, err := stream.Recv(); err != nil || kind(answer) != "request_body" {
		t.Errorf("a filter that shows no headers: %v, %v", answer, err)
	}
	b.metric(
		t,
		"bellhop_headers_total",
		`bellhop_headers_total{backend="",fanout="",header="x-mcp-api-key",outcome="captured"} 1
bellhop_headers_total{backend="",fanout="",header="x-mcp-api-key",outcome="rejected"} 1
`,
	)
}
