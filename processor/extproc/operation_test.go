package extproc_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"

	"bellhop/test/envoytest"
)

// jsonPost are the lines of a JSON POST, after others.
func jsonPost(lines ...string) []string {
	return append(slices.Clone(lines), ":method: POST", "content-type: application/json")
}

const (
	callSearch = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search_x"}}`
	callDelete = `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"delete_x"}}`
	listTools  = `{"jsonrpc":"2.0","id":3,"method":"tools/list"}`
)

const toolPolicy = `version: 1
forward: [{name: x-key, tools: [search_*]}]
backends: {github: {discovery: [{name: authorization, file: f}]}}
`

// A rule for tools is for calls that are known to be of these alone, and the discovery identity for requests that are
// known to need no client. What is not known is neither.
func TestOnlyAKnownOperationIsTrusted(t *testing.T) {
	b := start(t, setup{policy: toolPolicy, identities: identity})
	_, minted := b.ingress(t, "x-key: k")
	method := func(name string) string { return `{"jsonrpc":"2.0","id":1,"method":"` + name + `"}` }
	session := "mcp-session-id: s"
	tests := []struct {
		name, body     string
		lines          []string
		rule, identity bool
	}{
		{"a call of the tool", callSearch, jsonPost(), true, false},
		{"a call of another tool", callDelete, jsonPost(), false, false},
		{"headers say it too", callSearch, jsonPost("mcp-method: tools/call", "mcp-name: search_x"), true, false},
		{"headers say another tool", callSearch, jsonPost("mcp-method: tools/call", "mcp-name: search_y"), false, false},
		{"headers say a listing", callSearch, jsonPost("mcp-method: tools/list"), false, false},
		{"the body is a call, and headers say a listing", callDelete, jsonPost("mcp-method: tools/list"), false, false},
		{"a batch of calls of the tool", "[" + callSearch + "," + callSearch + "]", jsonPost(), true, false},
		{"a batch with another call", "[" + callSearch + "," + callDelete + "]", jsonPost(), false, false},
		{"a batch with a listing", "[" + callSearch + "," + listTools + "]", jsonPost(), false, false},
		{"a listing", listTools, jsonPost(), false, true},
		{"a batch of listings", "[" + listTools + "," + method("prompts/list") + "]", jsonPost(), false, true},
		{"initialize", method("initialize"), jsonPost(), false, true},
		{"initialized", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, jsonPost(), false, true},
		{"ping", method("ping"), jsonPost(), false, true},
		{"a level", method("logging/setLevel"), jsonPost(), false, true},
		{"a modern discovery", method("server/discover"), jsonPost("mcp-method: server/discover"), false, true},
		{"a subscription", method("resources/subscribe"), jsonPost(), false, false},
		{"a resource", method("resources/read"), jsonPost(), false, false},
		{"a prompt", method("prompts/get"), jsonPost(), false, false},
		{"a completion", method("completion/complete"), jsonPost(), false, false},
		{"a task", method("tasks/cancel"), jsonPost(), false, false},
		{"another method", method("admin/export"), jsonPost(), false, false},
		{"no list of anything", method("/list"), jsonPost(), false, false},
		{"an answer to the server", `{"jsonrpc":"2.0","id":1,"result":{}}`, jsonPost(), false, false},
		{"the method twice", strings.Replace(listTools, `"id"`, `"method":"tools/call","id"`, 1), jsonPost(), false, false},
		{
			"the method in another case",
			strings.Replace(listTools, `"id"`, `"Method":"tools/call","id"`, 1),
			jsonPost(),
			false,
			false,
		},
		{"two documents", listTools + callSearch, jsonPost(), false, false},
		{"a byte order mark", "\ufeff" + callSearch, jsonPost(), false, false},
		{"a call that looks like none", strings.Replace(callSearch, "tools/call", "TOOLS/CALL", 1), jsonPost(), false, false},
		{"PUT", listTools, []string{":method: PUT", "content-type: application/json"}, false, false},
		{
			"DELETE with a body",
			listTools,
			[]string{":method: DELETE", "content-type: application/json", session},
			false,
			false,
		},
		{"a form", listTools, []string{":method: POST", "content-type: application/x-www-form-urlencoded"}, false, false},
		{"no content-type", callSearch, []string{":method: POST"}, false, false},
		{"compressed", callSearch, jsonPost("content-encoding: gzip"), false, false},
		{"a stream of a session", "", []string{":method: GET", session}, false, true},
		{"the end of a session", "", []string{":method: DELETE", session}, false, true},
		{"GET without a session", "", []string{":method: GET"}, false, false},
		{"POST without a body", "", []string{":method: POST", session}, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ask := func(lines ...string) []string {
				got, _ := b.post(t, test.body, append(lines, test.lines...), "bellhop-role", "egress", "bellhop-backend", "github")
				return got
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

// A filter that was generated before the policy needed bodies, or that another wrote, does not show them.
func TestWhereTheBodyIsNotShownNothingIsKnown(t *testing.T) {
	b := start(t, setup{policy: toolPolicy, identities: identity})
	_, minted := b.ingress(t, "x-key: k")
	headers := []string{"mcp-method: tools/call", "mcp-name: search_x"}
	ask := func(lines ...string) []string {
		return apply(t, lines, b.ask(t, requestHeaders(lines...), "bellhop-role", "egress", "bellhop-backend", "github"))
	}
	if got := ask(jsonPost(append(headers, "x-bellhop-ticket: "+minted)...)...); slices.Contains(got, "x-key: k") {
		t.Errorf("the rule for tools: %q", got)
	}
	if got := ask(jsonPost("mcp-method: tools/list")...); slices.Contains(got, "authorization: Bearer own") {
		t.Errorf("the identity: %q", got)
	}
	if !strings.Contains(b.log.String(), "does not show the bodies that this policy needs") {
		t.Errorf("the log does not say it: %s", b.log.String())
	}
	b.metric(t, "bellhop_headers_total", `bellhop_headers_total{backend="",fanout="",header="x-key",outcome="captured"} 1
bellhop_headers_total{backend="github",fanout="",header="x-key",outcome="unknown_operation"} 1`)
}

// The identity goes to the backend's own path and below it, and nowhere else at its host.
func TestTheIdentityGoesToTheBackendsOwnPath(t *testing.T) {
	b := start(t, setup{policy: toolPolicy, identities: identity})
	for path, want := range map[string]bool{
		"/a/mcp": true, "/a/mcp?x=1": true, "/a/mcp/": true, "/a/mcp/message?id=1": true, "/a/admin": false, "/a/mcpx": false,
		"/a/mcp/../admin": false, "/a/mcp/%2e%2e/admin": false, "/a/mcp//x": false, "/a": false, "": false, "/b/mcp": false,
		"/a/mcp;x/admin": false, "/a/mcp\\..\\admin": false,
	} {
		got, _ := b.post(
			t,
			listTools,
			jsonPost(":path: "+path),
			"bellhop-role",
			"egress",
			"bellhop-backend",
			"github",
			"bellhop-path",
			"/a/mcp",
		)
		if slices.Contains(got, "authorization: Bearer own") != want {
			t.Errorf("%q: %q", path, got)
		}
	}
}

// A body is held only where a decision needs it: the rest passes as if Bellhop read none.
func TestABodyIsTakenOnlyWhereItIsNeeded(t *testing.T) {
	b := start(t, setup{
		policy: "version: 1\nforward: [x-other, {name: x-key, tools: [search_*], to: [github]}]\n" +
			"backends: {github: {}, plain: {}}\nlimits: {body_bytes: 1000}\n",
	})
	_, both := b.ingress(t, "x-key: k", "x-other: o")
	_, other := b.ingress(t, "x-other: o")
	tests := []struct {
		name, backend string
		lines         []string
		want          bool
	}{
		{"a header for tools", "github", jsonPost("x-bellhop-ticket: " + both), true},
		{"none was sent", "github", jsonPost("x-bellhop-ticket: " + other), false},
		{"no ticket, no identity", "github", jsonPost(), false},
		{"another backend", "plain", jsonPost("x-bellhop-ticket: " + both), false},
		{"no JSON", "github", []string{":method: POST", "content-type: text/plain", "x-bellhop-ticket: " + both}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			out := b.exchange(t, envoytest.Exchange{
				Metadata: []string{"bellhop-role", "egress", "bellhop-backend", test.backend},
				Request:  envoytest.Held(requestHeaders(test.lines...)), Body: []byte(callSearch),
			})
			if got := out.Body != nil; got != test.want {
				t.Errorf("taken: %v", got)
			}
			if left := apply(t, test.lines, out.Request); strings.Contains(strings.Join(left, " "), "x-bellhop-ticket") {
				t.Errorf("before the body is read the ticket must be gone already: %q", left)
			}
		})
	}
	long := jsonPost("content-length: 1001", "x-bellhop-ticket: "+both)
	_, refused := b.post(t, callSearch, long, "bellhop-role", "egress", "bellhop-backend", "github")
	if refused.GetStatus().GetCode() != 413 || !strings.Contains(string(refused.GetBody()), "limits.body_bytes") {
		t.Errorf("a body that is too long: %v", refused)
	}
	if _, refused := b.post(t, callSearch, long, "bellhop-role", "egress", "bellhop-backend", "plain"); refused != nil {
		t.Errorf("the same at a backend that needs none: %v", refused)
	}
}

// Where a required header may be meant and it is not known what a request asks for, the request is refused, and the
// error says why.
func TestARequiredHeaderForToolsIsNotGotRound(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward: [{name: x-key, tools: [search_*], required: true}]\n"})
	_, with := b.ingress(t, "x-key: k")
	_, without := b.ingress(t)
	tests := []struct{ name, body, reason string }{
		{"a call", callSearch, "missing"},
		{"a byte order mark", "\ufeff" + callSearch, "unknown_operation"},
		{"the name twice", strings.Replace(callSearch, `"name"`, `"Name":"delete_x","name"`, 1), "unknown_operation"},
		{"a batch with another call", "[" + callDelete + "," + callSearch + "]", "mixed_batch"},
		{"another tool", callDelete, ""},
		{"a listing", listTools, ""},
	}
	egress := []string{"bellhop-role", "egress", "bellhop-backend", "a"}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, refused := b.post(t, test.body, jsonPost("x-bellhop-ticket: "+without), egress...)
			if test.reason == "" && refused != nil || !strings.Contains(string(refused.GetBody()), test.reason) {
				t.Errorf("without the header: %v", refused)
			}
			got, refused := b.post(t, test.body, jsonPost("x-bellhop-ticket: "+with), egress...)
			if slices.Contains(got, "x-key: k") != (test.reason == "missing") ||
				(refused != nil) != (test.reason != "missing" && test.reason != "") {
				t.Errorf("with it: %q, %v", got, refused)
			}
		})
	}
	_, refused := b.post(t, "\ufeff"+callSearch, jsonPost("x-bellhop-ticket: "+with), egress...)
	if body := string(refused.GetBody()); !strings.Contains(body, "x-key") ||
		!strings.Contains(body, "not one JSON document") {
		t.Errorf("the error does not say why: %s", body)
	}
	answer := b.ask(t, requestHeaders(jsonPost("x-bellhop-ticket: "+with)...), egress...)
	if got := answer.GetImmediateResponse(); got.GetStatus().GetCode() != 500 ||
		!strings.Contains(string(got.GetBody()), "does not show") {
		t.Errorf("a filter that shows no body: %v", got)
	}
}

// A body that never comes is not waited for without end, and its request does not go on without its headers.
func TestABodyThatDoesNotComeIsARefusal(t *testing.T) {
	b := start(t, setup{policy: toolPolicy, identities: identity, bodyTimeout: 50 * time.Millisecond})
	for name, next := range map[string]*extprocv3.ProcessingRequest{
		"nothing": nil, "trailers": messages()["request_trailers"](),
	} {
		t.Run(name, func(t *testing.T) {
			stream := b.stream(t, "bellhop-role", "egress", "bellhop-backend", "github")
			for _, message := range []*extprocv3.ProcessingRequest{envoytest.Held(requestHeaders(jsonPost()...)), next} {
				if message == nil {
					continue
				}
				if err := stream.Send(message); err != nil {
					t.Fatal(err)
				}
			}
			if answer, err := stream.Recv(); err != nil || answer.GetRequestHeaders() == nil {
				t.Fatalf("the headers: %v, %v", answer, err)
			}
			answer, err := stream.Recv()
			if err != nil || answer.GetImmediateResponse().GetStatus().GetCode() != 408 {
				t.Fatalf("the body: %v, %v", answer, err)
			}
			eof(t, stream)
		})
	}
	b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="",outcome="body_timeout",role="egress"} 2`)
}

// An error has the id of the client's own request, exactly, or none of a client's.
func TestAnErrorHasTheIDOfTheRequest(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward: [{name: x-key, required: true}]\n"})
	for sent, want := range map[string]string{
		`"a-1"`: `"a-1"`, `7`: `7`, `-7`: `-7`, `9007199254740993`: `9007199254740993`, `1.5`: `1.5`, `null`: `"bellhop"`,
	} {
		body := `{"jsonrpc":"2.0","method":"tools/list","id":` + sent + `}`
		_, refused := b.post(t, body, jsonPost(fmt.Sprintf("content-length: %d", len(body))), "bellhop-role", "ingress")
		var got struct{ ID json.RawMessage }
		if err := json.Unmarshal(refused.GetBody(), &got); err != nil || string(got.ID) != want {
			t.Errorf("id %s: got %s, %v; want %s", sent, got.ID, err, want)
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
	list := func() []string {
		got, _ := b.post(t, listTools, jsonPost(), "bellhop-role", "egress", "bellhop-backend", "github")
		return got
	}
	if got := list(); slices.Contains(got, "authorization: Bearer own") {
		t.Errorf("at once: %q", got)
	}
	b.apply(t, rules+"limits: {headers: 3}\n") // a further reload does not end the wait
	if got := list(); slices.Contains(got, "authorization: Bearer own") {
		t.Errorf("after another reload: %q", got)
	}
	deadline := time.Now().Add(5 * time.Second)
	for !slices.Contains(list(), "authorization: Bearer own") {
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
