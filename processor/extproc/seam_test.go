package extproc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"bellhop/policy"
	"bellhop/processor"
	"bellhop/processor/store/memory"
	"bellhop/processor/ticket"
	"bellhop/test/envoytest"
)

// exchange is one HTTP request, as both transports can make it.
type exchange struct {
	role     string
	backend  string
	cluster  string // of an egress request, as Envoy sends it
	held     bool   // the proxy holds the body
	body     string // empty: none
	request  []string
	response []string // if it is asked for
}

// result is what became of an exchange, whatever the transport.
type result struct {
	Lines    []string // of the request that goes on
	Status   int      // of an error in its place
	Body     string
	Headers  []string // of the error
	Session  string
	Asked    bool // for the response
	Response responseResult
}

// responseResult is what became of the response.
type responseResult struct {
	Set    []string
	Status int
	Body   string
}

// transport makes exchanges.
type transport func(t testing.TB, x exchange) result

// direct drives a core of its own, with no transport between.
func direct(t testing.TB, keys ticket.Keys, s setup) transport {
	t.Helper()
	kept := memory.New(4 << 20)
	core := processor.New(processor.Settings{
		Store: kept, Sessions: kept, Supersession: kept, Single: true,
		Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	}, keys, processor.Rules{Policy: loadPolicy(t, s.policy), Identities: s.identities})
	return func(t testing.TB, x exchange) result {
		t.Helper()
		binding := processor.Binding{Role: processor.Role(x.role), Backend: x.backend}
		request := processor.Request{Headers: headerLines(x.request), Cluster: x.cluster}
		switch {
		case x.body == "":
			request.Body = processor.BodyNone
		case x.held:
			request.Body = processor.BodyOffered
		}
		answer, err := core.Request(context.Background(), binding, request)
		if err != nil {
			t.Fatal(err)
		}
		lines := changed(x.request, answer)
		if answer.Reading != nil {
			answer = core.Body(answer.Reading, []byte(x.body))
			lines = changed(lines, answer)
		}
		if answer.Error != nil {
			body := answer.Error.Body()
			headers := append([]string{"content-type: application/json"}, texts(answer.Error.Headers)...)
			return result{Status: answer.Error.Status, Body: string(body), Headers: headers}
		}
		got := result{Lines: lines, Session: answer.Session, Asked: answer.Pending != nil}
		if answer.Pending != nil {
			last := core.Response(context.Background(), answer.Pending, processor.Response{Headers: headerLines(x.response)})
			got.Response.Set = texts(last.Set)
			if last.Error != nil {
				got.Response.Status, got.Response.Body = last.Error.Status, string(last.Error.Body())
			}
		}
		return got
	}
}

// overGRPC drives the service as Envoy does.
func overGRPC(t testing.TB, keys ticket.Keys, s setup) transport {
	t.Helper()
	s.keys = keys
	b := start(t, s)
	return func(t testing.TB, x exchange) result {
		t.Helper()
		metadata := []string{"bellhop-role", x.role}
		if x.backend != "" {
			metadata = append(metadata, "bellhop-backend", x.backend)
		}
		message := requestHeaders(x.request...)
		if x.held {
			message = envoytest.Held(message)
		}
		if x.body == "" {
			message = envoytest.Bodiless(message)
		}
		if x.cluster != "" {
			message = withCluster(message, "envoy.filters.http.ext_proc", x.cluster)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		out, err := envoytest.Do(ctx, b.client, envoytest.Exchange{
			Metadata: metadata, Request: message, Body: []byte(x.body), Response: x.response,
		})
		if err != nil {
			t.Fatal(err)
		}
		refused := out.Request.GetImmediateResponse()
		if out.Body.GetImmediateResponse() != nil {
			refused = out.Body.GetImmediateResponse()
		}
		if refused != nil {
			got := result{Status: int(refused.GetStatus().GetCode()), Body: string(refused.GetBody())}
			for _, option := range refused.GetHeaders().GetSetHeaders() {
				got.Headers = append(got.Headers, option.GetHeader().GetKey()+": "+string(option.GetHeader().GetRawValue()))
			}
			return got
		}
		own := out.Request.GetDynamicMetadata().GetFields()["bellhop"].GetStructValue()
		session := own.GetFields()["session"].GetStringValue()
		got := result{Lines: apply(t, x.request, out.Request), Session: session, Asked: out.Response != nil}
		if out.Body != nil {
			got.Lines = apply(t, got.Lines, out.Body)
		}
		for _, option := range out.Response.GetResponseHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
			line := option.GetHeader().GetKey() + ": " + string(option.GetHeader().GetRawValue())
			got.Response.Set = append(got.Response.Set, line)
		}
		if refused := out.Response.GetImmediateResponse(); refused != nil {
			got.Response.Status, got.Response.Body = int(refused.GetStatus().GetCode()), string(refused.GetBody())
		}
		return got
	}
}

func headerLines(lines []string) []policy.Header {
	headers := []policy.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		headers = append(headers, policy.Header{Name: name, Value: policy.NewValue(value)})
	}
	return headers
}

func texts(headers []policy.Header) []string {
	var lines []string
	for _, header := range headers {
		lines = append(lines, header.Name+": "+header.Value.Reveal())
	}
	return lines
}

// changed applies an answer: first Remove, then Set.
func changed(request []string, answer processor.Answer) []string {
	gone := slices.Clone(answer.Remove)
	for _, header := range answer.Set {
		gone = append(gone, header.Name)
	}
	kept := slices.DeleteFunc(slices.Clone(request), func(line string) bool {
		name, _, _ := strings.Cut(line, ": ")
		return slices.Contains(gone, name)
	})
	return append(kept, texts(answer.Set)...)
}

// both makes exchanges by both transports, with the same keys and the same history, and wants the same of them. TICKET
// in a line stands for the ticket of the last request.
func both(t testing.TB, s setup) transport {
	t.Helper()
	keys := ticket.RandomKeys()
	core, service := direct(t, keys, s), overGRPC(t, keys, s)
	last := ""
	return func(t testing.TB, x exchange) result {
		t.Helper()
		for i, line := range x.request {
			x.request[i] = strings.ReplaceAll(line, "TICKET", last)
		}
		got, want := service(t, x), core(t, x)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%s %q: the service differs from the core: %s", x.role, x.request, diff)
		}
		for _, line := range got.Lines {
			if minted, ok := strings.CutPrefix(line, "x-bellhop-ticket: "); ok && x.role == "ingress" {
				last = minted
			}
		}
		return got
	}
}

const seamPolicy = `version: 1
explain: true
forward:
  - {name: x-key, to: [a], required: true, max_bytes: 20}
  - {name: x-kept, keep: session}
  - {name: "x-f-*", repeat: reject}
  - {name: x-shown, hide: false, conflict: keep, as: x-renamed, prefix: "p "}
  - {name: x-tool, tools: [get_*], to: [b]}
backends: {a: {clusters: [ca]}, b: {clusters: [cb], discovery: [{name: authorization, file: f}]}}
ticket: {carriers: [header], grace: 0s}
`

// The core is a seam: the service adds nothing to what it answers, and leaves nothing out.
func TestTheServiceAnswersAsTheCore(t *testing.T) {
	identity := map[string][]policy.Header{"b": {{Name: "authorization", Value: policy.NewValue("Bearer d")}}}
	const alice, session = "authorization: alice", "mcp-session-id: S"
	in := func(lines ...string) exchange {
		return exchange{role: "ingress", request: append([]string{":method: POST"}, lines...)}
	}
	out := func(backend string, lines ...string) exchange {
		return exchange{role: "egress", backend: backend, request: append([]string{":method: POST"}, lines...)}
	}
	answered := func(x exchange, response ...string) exchange {
		x.response = response
		return x
	}
	steps := []struct {
		name string
		exchange
		check func(r result) bool
	}{
		{
			"a header is missing",
			in("x-kept: v"),
			func(r result) bool { return r.Status == 400 && strings.Contains(r.Body, "x-key") },
		},
		{"too long", in("x-key: 0123456789012345678901"), func(r result) bool { return r.Status == 431 }},
		{"repeated", in("x-key: k", "x-f-1: a", "x-f-1: b"), func(r result) bool { return r.Status == 400 }},
		{"several sessions", in("x-key: k", session, "mcp-session-id: T"), func(r result) bool {
			return r.Status == 400 && strings.Contains(r.Body, `"repeated_session","header":"mcp-session-id"`)
		}},
		{
			"captured",
			in("x-key: k", "x-f-2: f", "x-shown: s", "x-other: o"),
			func(r result) bool { return len(r.Lines) == 4 },
		},
		{
			"for its backend",
			out("a", "x-bellhop-ticket: TICKET", "x-own: o"),
			func(r result) bool { return slices.Contains(r.Lines, "x-key: k") },
		},
		{"for the other", out("b", "x-bellhop-ticket: TICKET", "x-renamed: own"), func(r result) bool {
			return !slices.Contains(r.Lines, "x-key: k") && slices.Contains(r.Lines, "x-renamed: own")
		}},
		{"for an undeclared one", out("c", "x-bellhop-ticket: TICKET"), func(r result) bool { return len(r.Lines) == 1 }},
		{
			"for a tool",
			out("b", "x-bellhop-ticket: TICKET", "mcp-method: tools/call", "mcp-name: get_it"),
			func(r result) bool { return r.Status == 0 },
		},
		{
			"for its backend, by the cluster",
			exchange{role: "egress", cluster: "ca", request: []string{":method: POST", "x-bellhop-ticket: TICKET"}},
			func(r result) bool { return slices.Contains(r.Lines, "x-key: k") },
		},
		{
			"for an undeclared one, by the cluster",
			exchange{role: "egress", cluster: "cx", request: []string{":method: POST", "x-bellhop-ticket: TICKET"}},
			func(r result) bool { return len(r.Lines) == 1 },
		},
		{
			"no ticket: a listing, by the body",
			exchange{role: "egress", backend: "b", held: true, body: listTools, request: jsonPost()},
			func(r result) bool { return slices.Contains(r.Lines, "authorization: Bearer d") },
		},
		{
			"no ticket: a tool call, by the body",
			exchange{role: "egress", backend: "b", held: true, body: callSearch, request: jsonPost()},
			func(r result) bool { return len(r.Lines) == 2 },
		},
		{
			"no ticket: a body that could not be read",
			exchange{role: "egress", backend: "b", held: true, body: "no JSON", request: jsonPost()},
			func(r result) bool { return len(r.Lines) == 2 },
		},
		{
			"an error with the id of the request",
			exchange{role: "ingress", held: true, body: callSearch, request: jsonPost("x-kept: v", "content-length: 77")},
			func(r result) bool { return r.Status == 400 && strings.Contains(r.Body, `"id":1`) },
		},
		{
			"no ticket: discovery",
			exchange{role: "egress", backend: "b", request: []string{":method: GET", session}},
			func(r result) bool { return slices.Contains(r.Lines, "authorization: Bearer d") },
		},
		{"no ticket: a tool call", out("b", "mcp-method: tools/call"), func(r result) bool { return len(r.Lines) == 2 }},
		{
			"an unknown ticket",
			out("b", "x-bellhop-ticket: "+strings.Repeat("A", 43)),
			func(r result) bool { return len(r.Lines) == 1 },
		},
		{
			"an unknown ticket where a header is required",
			out("a", "x-bellhop-ticket: x"),
			func(r result) bool { return r.Status == 400 },
		},
		{
			"redirected",
			out("b", "x-envoy-original-url: http://a/"),
			func(r result) bool { return r.Status == 0 && len(r.Lines) == 2 },
		},
		{
			"a forged ticket",
			in("x-key: k", "x-bellhop-ticket: forged", "x_bellhop_ticket: forged", "baggage: bellhop=forged,a=1"),
			func(r result) bool {
				return slices.Contains(r.Lines, "baggage: a=1") && !strings.Contains(strings.Join(r.Lines, " "), "forged")
			},
		},
		{"explained", answered(in("x-key: k", "x-bellhop-explain: 1", "x-nobody: 1"), ":status: 200"), func(r result) bool {
			return slices.Contains(r.Response.Set, "x-bellhop-not-listed: x-nobody")
		}},
		{"explained, refused", in("x-bellhop-explain: 1"), func(r result) bool { return len(r.Headers) == 2 }},
		{
			"a session begins",
			answered(in("x-key: k", "x-kept: v1", alice), ":status: 200", session),
			func(r result) bool { return r.Asked },
		},
		{
			"several begin",
			answered(in("x-key: k", "x-kept: v1", alice), ":status: 200", session, session),
			func(r result) bool {
				return r.Response.Status == 502
			},
		},
		{"the session keeps", in("x-key: k", alice, session), func(r result) bool { return r.Session != "" }},
		{
			"what it keeps",
			out("b", "x-bellhop-ticket: TICKET"),
			func(r result) bool { return slices.Contains(r.Lines, "x-kept: v1") },
		},
		{"the session changes", in("x-key: k", "x-kept: v2", alice, session), func(r result) bool { return r.Status == 0 }},
		{
			"another principal",
			in("x-key: k", "authorization: mallory", session),
			func(r result) bool { return r.Session == "" },
		},
		{
			"what that gets",
			out("b", "x-bellhop-ticket: TICKET"),
			func(r result) bool { return !strings.Contains(strings.Join(r.Lines, " "), "x-kept") },
		},
		{"no principal", in("x-key: k", session), func(r result) bool { return r.Session == "" }},
		{
			"the session ends",
			answered(
				exchange{role: "ingress", request: []string{":method: DELETE", "x-key: k", alice, session}},
				":status: 200",
			),
			func(r result) bool { return r.Asked },
		},
		{"it has ended", in("x-key: k", alice, session), func(r result) bool { return r.Status == 0 }},
		{
			"what is left",
			out("b", "x-bellhop-ticket: TICKET"),
			func(r result) bool { return !strings.Contains(strings.Join(r.Lines, " "), "x-kept") },
		},
		{
			"OPTIONS passes",
			exchange{role: "ingress", request: []string{":method: OPTIONS"}},
			func(r result) bool { return r.Status == 0 },
		},
	}
	run := both(t, setup{policy: seamPolicy, identities: identity})
	for _, step := range steps {
		if got := run(t, step.exchange); !step.check(got) {
			t.Errorf("%s: %+v", step.name, got)
		} else if got.Body != "" && !json.Valid([]byte(got.Body)) {
			t.Errorf("%s: the body is no JSON: %s", step.name, got.Body)
		}
	}
}

func TestTheServiceAnswersAsTheCoreInOtherModes(t *testing.T) {
	for name, document := range map[string]string{
		"observe": "version: 1\nmode: observe\nforward: [x-key]\n",
		"sealed":  "version: 1\nforward: [x-key]\nticket: {mode: sealed}\n",
		"baggage": "version: 1\nforward: [x-key]\nticket: {carriers: [baggage, header]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			run := both(t, setup{policy: document})
			run(t, exchange{role: "ingress", request: []string{"x-key: k", "baggage: bellhop=f,a=1", "x-bellhop-ticket: f"}})
			run(t, exchange{role: "egress", request: []string{"x-bellhop-ticket: TICKET", "baggage: bellhop=TICKET"}})
			run(t, exchange{role: "egress", request: []string{"x-key: own"}})
		})
	}
}

// Whatever a client and a fan-out send, under any of the policies, in any order.
func TestTheServiceAnswersAsTheCoreWhateverComes(t *testing.T) {
	names := []string{
		":method", "x-key", "x-kept", "x-f-1", "x-f-2", "x-shown", "x-renamed", "x-tool", "authorization", "mcp-session-id",
		"connection", "content-type", "content-length",
		"mcp-method", "mcp-name", "x-bellhop-ticket", "x_bellhop_ticket", "baggage", "x-bellhop-explain",
		"x-envoy-original-url", "cookie",
	}
	values := []string{
		"POST",
		"DELETE",
		"k",
		"v",
		"S",
		"alice",
		"mallory",
		"tools/call",
		"get_it",
		"TICKET",
		"1", "application/json", "5000000",
		"bellhop=TICKET,a=1",
		"x-key",
		"\xff",
	}
	rapid.Check(t, func(rt *rapid.T) {
		run := both(t, setup{policy: seamPolicy})
		for range rapid.IntRange(1, 6).Draw(rt, "exchanges") {
			x := exchange{role: rapid.SampledFrom([]string{"ingress", "egress"}).Draw(rt, "role")}
			if x.role == "egress" {
				x.backend = rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(rt, "backend")
				x.cluster = rapid.SampledFrom([]string{"", "ca", "cb", "cx"}).Draw(rt, "cluster")
			}
			x.held = rapid.Bool().Draw(rt, "held")
			x.body = rapid.SampledFrom([]string{"", "no JSON", callSearch, listTools, `{"jsonrpc":"2.0","id":9,"method":"tools/call",` +
				`"params":{"name":"get_it"}}`}).
				Draw(rt, "body")
			for range rapid.IntRange(0, 8).Draw(rt, "lines") {
				name, value := rapid.SampledFrom(names).Draw(rt, "name"), rapid.SampledFrom(values).Draw(rt, "value")
				x.request = append(x.request, fmt.Sprintf("%s: %s", name, value))
			}
			x.response = rapid.SampledFrom([][]string{
				{":status: 200", "mcp-session-id: S"}, {":status: 200", "mcp-session-id: S", "mcp-session-id: T"},
				{":status: 404"}, {":status: 500"}, {},
			}).Draw(rt, "response")
			got := run(t, x)
			if bytes.Contains([]byte(got.Body), []byte("\xff")) {
				rt.Fatalf("a value is in the body: %q", got.Body)
			}
		}
	})
}
