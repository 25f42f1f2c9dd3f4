package extproc_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"
)

// withBody adds what envoy.filters.http.mcp files of a body (measured with Envoy 1.40): of one that it could not read,
// no method.
func withBody(t testing.TB, message *extprocv3.ProcessingRequest, body string) *extprocv3.ProcessingRequest {
	t.Helper()
	if body == "" {
		return message
	}
	fields := &structpb.Struct{}
	if err := fields.UnmarshalJSON([]byte(body)); err != nil {
		t.Fatal(err)
	}
	message.MetadataContext = &corev3.Metadata{
		FilterMetadata: map[string]*structpb.Struct{"envoy.filters.http.mcp": fields},
	}
	return message
}

const (
	unreadBody = `{"is_mcp_request":false,"passthrough_reason":"mcp_body_too_large"}`
	callSearch = `{"id":1,"method":"tools/call","params":{"name":"search_x"}}`
)

// Whoever says what a request asks for, a rule for tools is for calls of these alone, and the discovery identity for
// nothing that only a client can cause. What is not sure is neither.
func TestAnAmbiguousOperationIsNotTrusted(t *testing.T) {
	b := start(t, setup{
		policy: "version: 1\nforward: [{name: x-key, tools: [search_*]}]\nbackends: {github: {discovery: [{name: " +
			"authorization, file: f}]}}\n",
		identities: identity,
	})
	_, minted := b.ingress(t, "x-key: k")
	header := func(method, name string) []string { return []string{"mcp-method: " + method, "mcp-name: " + name} }
	tests := []struct {
		name, reads, body string
		lines             []string
		rule, identity    bool
	}{
		{"nothing is known", "", "", nil, false, true},
		{"the headers say it", "", "", header("tools/call", "search_x"), true, false},
		{"the headers say another tool", "", "", header("tools/call", "delete_x"), false, false},
		{"the body says it", "mcp", callSearch, []string{":method: POST"}, true, false},
		{"both say it", "mcp", callSearch, append(header("tools/call", "search_x"), ":method: POST"), true, false},
		{
			"they contradict each other",
			"mcp",
			callSearch,
			append(header("tools/call", "search_y"), ":method: POST"),
			false,
			false,
		},
		{
			"the body cannot be read",
			"mcp",
			unreadBody,
			append(header("tools/call", "search_x"), ":method: POST"),
			false,
			false,
		},
		{
			"the body cannot be read, and no filter reads bodies",
			"",
			unreadBody,
			header("tools/call", "search_x"),
			false,
			false,
		},
		{
			"the body is a batch, of which nothing is filed",
			"mcp",
			"",
			append(header("tools/call", "search_x"), ":method: POST"),
			false,
			false,
		},
		{"a batch, without headers", "mcp", "", []string{":method: POST"}, false, false},
		{"no body", "mcp", "", []string{":method: GET"}, false, true},
		{"discovery", "mcp", `{"id":1,"method":"tools/list"}`, []string{":method: POST"}, false, true},
		{"a resource", "mcp", `{"id":1,"method":"resources/read"}`, []string{":method: POST"}, false, false},
		{"a prompt", "mcp", `{"id":1,"method":"prompts/get"}`, []string{":method: POST"}, false, false},
		{"a completion", "mcp", `{"id":1,"method":"completion/complete"}`, []string{":method: POST"}, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ask := func(lines ...string) []string {
				pairs := []string{"bellhop-role", "egress", "bellhop-backend", "github"}
				if test.reads != "" {
					pairs = append(pairs, "bellhop-reads", test.reads)
				}
				lines = append(slices.Clone(test.lines), lines...)
				return apply(t, lines, b.ask(t, withBody(t, requestHeaders(lines...), test.body), pairs...))
			}
			if got := slices.Contains(ask("x-bellhop-ticket: "+minted), "x-key: k"); got != test.rule {
				t.Errorf("the rule for tools: %v", got)
			}
			if got := slices.Contains(ask(), "authorization: Bearer own"); got != test.identity {
				t.Errorf("the identity: %v", got)
			}
		})
	}
}

// An error has the id of the client's own request, exactly, or none of a client's.
func TestAnErrorHasTheIDOfTheRequest(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward: [{name: x-key, required: true}]\n"})
	for sent, want := range map[string]string{
		`"a-1"`: `"a-1"`, `7`: `7`, `-7`: `-7`, `9007199254740991`: `9007199254740991`,
		`9007199254740993`: `"bellhop"`, `1e21`: `"bellhop"`, `1.5`: `"bellhop"`, `null`: `"bellhop"`,
	} {
		answer := b.ask(
			t, withBody(t, requestHeaders(":method: POST"), `{"method":"tools/list","id":`+sent+`}`), "bellhop-role",
			"ingress",
		)
		var body struct{ ID json.RawMessage }
		if err := json.Unmarshal(answer.GetImmediateResponse().GetBody(), &body); err != nil || string(body.ID) != want {
			t.Errorf("id %s: got %s, %v; want %s", sent, body.ID, err, want)
		}
	}
}

// A dry run gives out no tickets, so a client's request that is under way when it ends looks like one that no client
// caused.
func TestTheIdentityWaitsAfterADryRun(t *testing.T) {
	const rules = "version: 1\nforward: [x-key]\nbackends: {github: {discovery: [{name: authorization, file: " +
		"f}]}}\nticket: {grace: 100ms}\n"
	b := start(t, setup{policy: rules + "mode: observe\n", identities: identity})
	b.apply(t, rules)
	if got := b.egress(t, "github"); len(got) > 0 {
		t.Errorf("at once: %q", got)
	}
	b.apply(t, rules+"limits: {headers: 3}\n") // a further reload does not end the wait
	if got := b.egress(t, "github"); len(got) > 0 {
		t.Errorf("after another reload: %q", got)
	}
	deadline := time.Now().Add(5 * time.Second)
	for !slices.Contains(b.egress(t, "github"), "authorization: Bearer own") {
		if time.Now().After(deadline) {
			t.Fatal("the identity does not come back")
		}
	}
}

// Clients of MCP 2026-07-28 have no session, whatever they send.
func TestAModernRequestHasNoSession(t *testing.T) {
	b := start(t, setup{policy: keeping})
	b.converse(t, start1, ":status: 200", "mcp-session-id: S1")
	if got := b.reaches(t, ":method: POST", "mcp-method: tools/list", "mcp-session-id: S1", "authorization: user-1"); len(
		got,
	) > 0 {
		t.Errorf("got %q", got)
	}
	b.reaches(
		t, ":method: POST", "mcp-method: tools/list", "mcp-session-id: S1", "authorization: user-1", "x-mcp-api-key: bob",
	)
	if diff := cmp.Diff([]string{"x-mcp-api-key: alice"}, b.reaches(t, ":method: POST", "mcp-session-id: S1",
		"authorization: user-1")); diff != "" {
		t.Errorf("the session has learnt of it: %s", diff)
	}
}

// A limit that a reload lowers does not end the sessions that keep more.
func TestAKeptHeaderThatExceedsALimitIsLeftOut(t *testing.T) {
	b := start(t, setup{policy: keeping})
	b.converse(t, start1, ":status: 200", "mcp-session-id: S1")
	b.apply(t, keeping+"limits: {value_bytes: 3}\n")
	if got := b.reaches(t, ":method: POST", "mcp-session-id: S1", "authorization: user-1"); len(got) > 0 {
		t.Errorf("got %q", got)
	}
	b.metric(
		t,
		"bellhop_headers_total",
		`bellhop_headers_total{backend="",fanout="",header="x-mcp-api-key",outcome="captured"} 1
bellhop_headers_total{backend="",fanout="",header="x-mcp-api-key",outcome="over_limit"} 1
bellhop_headers_total{backend="a",fanout="",header="x-mcp-api-key",outcome="absent"} 1
bellhop_headers_total{backend="a",fanout="",header="x-tenant-id",outcome="absent"} 1`,
	)
}

// What a session keeps is within the limits of one request: of a family a client could send new names for ever.
func TestASessionKeepsNoMoreThanTheLimitsOfARequest(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward: [{name: x-acme-*, keep: session}]\nlimits: {headers: 5}\n"})
	for i := range 50 {
		b.ingress(t, ":method: POST", "mcp-session-id: S1", "authorization: user-1", fmt.Sprintf("x-acme-%d: v", i))
	}
	if got := b.reaches(t, ":method: POST", "mcp-session-id: S1", "authorization: user-1"); len(got) != 5 ||
		!slices.Contains(got, "x-acme-49: v") {
		t.Errorf("got %q", got)
	}
}

// A dry run knows sessions as they would be: what was sent with initialize is not missed later.
func TestADryRunKnowsSessions(t *testing.T) {
	b := start(
		t,
		setup{
			policy: "version: 1\nmode: observe\nexplain: true\nforward: [{name: x-mcp-api-key, keep: session, " +
				"required: true}]\n",
		},
	)
	if !b.converse(t, append(start1, "x-bellhop-explain: 1"), ":status: 200", "mcp-session-id: S1") {
		t.Fatal("the response to initialize names the session: it must be asked for")
	}
	b.ask(t, requestHeaders(":method: POST", "mcp-session-id: S1", "authorization: user-1"), "bellhop-role", "ingress")
	b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="",outcome="captured",role="ingress"} 2`)
}
