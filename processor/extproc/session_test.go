package extproc_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/ticket"
	"bellhop/test/envoytest"
)

const keeping = "version: 1\nforward:\n  - {name: x-mcp-api-key, keep: session}\n  - x-tenant-id\n"

// reaches says what a backend gets of a client's request.
func (b *bench) reaches(t *testing.T, lines ...string) []string {
	t.Helper()
	_, minted := b.ingress(t, lines...)
	return b.egress(t, "a", "x-bellhop-ticket: "+minted)
}

// converse sends a request and, where Bellhop asks for it, the response. It reports whether it asked.
func (b *bench) converse(t *testing.T, lines []string, response ...string) bool {
	t.Helper()
	stream := b.stream(t, "bellhop-role", "ingress")
	request := requestHeaders(lines...)
	request.ProtocolConfig = &extprocv3.ProtocolConfiguration{}
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if answer.GetModeOverride() == nil {
		eof(t, stream)
		return false
	}
	want := &extprocfilterv3.ProcessingMode{ResponseHeaderMode: extprocfilterv3.ProcessingMode_SEND}
	if diff := cmp.Diff(want, answer.GetModeOverride(), protocmp.Transform()); diff != "" {
		t.Errorf("Envoy ignores any other override: %s", diff)
	}
	if err := stream.Send(responseHeaders(response...)); err != nil {
		t.Fatal(err)
	}
	if answer, err = stream.Recv(); err != nil || kind(answer) != "response_headers" {
		t.Fatalf("got %v, %v", answer, err)
	}
	eof(t, stream) // by itself: the first message has said that no bodies come
	return true
}

func responseHeaders(lines ...string) *extprocv3.ProcessingRequest {
	return envoytest.ResponseHeaders(lines...)
}

var start1 = []string{":method: POST", "x-mcp-api-key: alice", "authorization: user-1"}

func TestASessionKeepsItsHeaders(t *testing.T) {
	b := start(t, setup{policy: keeping})
	if !b.converse(t, start1, ":status: 200", "mcp-session-id: S1") {
		t.Fatal("the response to initialize names the session: it must be asked for")
	}
	later := []string{":method: POST", "mcp-session-id: S1", "authorization: user-1"}
	if diff := cmp.Diff([]string{"x-mcp-api-key: alice"}, b.reaches(t, later...)); diff != "" {
		t.Errorf("a later request that lacks it: %s", diff)
	}
	if diff := cmp.Diff([]string{"x-mcp-api-key: bob"}, b.reaches(t, append(later, "x-mcp-api-key: bob")...)); diff != "" {
		t.Errorf("its own value wins: %s", diff)
	}
	if diff := cmp.Diff([]string{"x-mcp-api-key: bob", "x-tenant-id: t"},
		b.reaches(t, append(later, "x-tenant-id: t")...)); diff != "" {
		t.Errorf("the newer value is kept: %s", diff)
	}
	if diff := cmp.Diff([]string{"x-mcp-api-key: bob"}, b.reaches(t, later...)); diff != "" {
		t.Errorf("keep: request is not kept: %s", diff)
	}
	if got := b.reaches(t, ":method: POST", "mcp-session-id: S2", "authorization: user-1"); len(got) != 0 {
		t.Errorf("another session: %q", got)
	}
	if strings.Contains(b.log.String(), "S1") {
		t.Error("the session's ID is in the log")
	}
}

// Invariant 3: a value reaches only requests of its session and principal.
func TestAnotherPrincipalGetsNothingOfASession(t *testing.T) {
	b := start(t, setup{policy: keeping})
	b.converse(t, start1, ":status: 200", "mcp-session-id: S1")
	for _, other := range []string{"authorization: user-2", "x-other: none"} {
		if got := b.reaches(t, ":method: POST", "mcp-session-id: S1", other); len(got) != 0 {
			t.Errorf("%s got %q", other, got)
		}
		if diff := cmp.Diff([]string{"x-mcp-api-key: own"}, b.reaches(t, ":method: POST", "mcp-session-id: S1", other,
			"x-mcp-api-key: own")); diff != "" {
			t.Errorf("%s: its own headers go on: %s", other, diff)
		}
	}
	if diff := cmp.Diff([]string{"x-mcp-api-key: alice"}, b.reaches(t, ":method: POST", "mcp-session-id: S1",
		"authorization: user-1")); diff != "" {
		t.Errorf("the owner after them: %s", diff)
	}
	b.metric(t, "bellhop_session_principal_mismatch_total", "bellhop_session_principal_mismatch_total{fanout=\"\"} 2")
	b.metric(t, "bellhop_session_no_principal_total", "bellhop_session_no_principal_total{fanout=\"\"} 2")
	if !strings.Contains(b.log.String(), "session.bind") {
		t.Errorf("the log does not say how to fix it: %s", b.log)
	}
}

// Requests that say nothing of their principal look alike: none of them has a session.
func TestARequestWithoutAPrincipalHasNoSession(t *testing.T) {
	b := start(t, setup{policy: keeping})
	b.reaches(t, ":method: POST", "mcp-session-id: S0", "authorization: ", "x-mcp-api-key: alice")
	if got := b.reaches(t, ":method: POST", "mcp-session-id: S0", "authorization: "); len(got) != 0 {
		t.Errorf("an empty principal got %q", got)
	}
	if b.converse(t, []string{":method: POST", "x-mcp-api-key: alice"}, ":status: 200", "mcp-session-id: S1") {
		t.Error("the response was asked for")
	}
	if got := b.reaches(t, ":method: POST", "mcp-session-id: S1", "x-mcp-api-key: alice"); len(got) != 1 {
		t.Errorf("its own header: %q", got)
	}
	if got := b.reaches(t, ":method: POST", "mcp-session-id: S1"); len(got) != 0 {
		t.Errorf("the next request got %q", got)
	}
	b = start(t, setup{policy: keeping + "session: {bind: []}\n"})
	b.reaches(t, ":method: POST", "mcp-session-id: S1", "x-mcp-api-key: alice")
	if got := b.reaches(t, ":method: POST", "mcp-session-id: S1"); len(got) != 1 {
		t.Errorf("bound to nothing: %q", got)
	}
}

// A session that was open before a reload brought a rule that keeps headers is its owner's all the same.
func TestASessionOutlivesAReloadThatBeginsToKeep(t *testing.T) {
	b := start(t, setup{policy: smallest})
	session := []string{":method: POST", "mcp-session-id: S1", "authorization: user-1"}
	b.reaches(t, append(session, "x-mcp-api-key: alice")...)
	b.apply(t, keeping)
	if got := b.reaches(t, session...); len(got) != 0 {
		t.Errorf("nothing was kept before: %q", got)
	}
	b.reaches(t, append(session, "x-mcp-api-key: alice")...)
	if got := b.reaches(t, session...); len(got) != 1 {
		t.Errorf("kept since: %q", got)
	}
	if got := b.reaches(t, ":method: POST", "mcp-session-id: S1", "authorization: user-2"); len(got) != 0 {
		t.Errorf("another principal got %q", got)
	}
}

// The headers of a session's DELETE are not kept.
func TestADeleteIsNotKept(t *testing.T) {
	b := start(t, setup{policy: keeping})
	b.reaches(t, ":method: DELETE", "mcp-session-id: S1", "authorization: user-1", "x-mcp-api-key: alice")
	if got := b.reaches(t, ":method: POST", "mcp-session-id: S1", "authorization: user-1"); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

func TestASessionEnds(t *testing.T) {
	session := []string{"mcp-session-id: S1", "authorization: user-1"}
	tests := []struct {
		name     string
		request  []string
		response string
		ended    bool
	}{
		{"DELETE", append([]string{":method: DELETE"}, session...), ":status: 200", true},
		{"DELETE that is refused", append([]string{":method: DELETE"}, session...), ":status: 405", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := start(t, setup{policy: keeping})
			b.converse(t, start1, ":status: 200", "mcp-session-id: S1")
			if !b.converse(t, test.request, test.response) {
				t.Fatal("the response was not asked for")
			}
			got := b.reaches(t, append([]string{":method: POST"}, session...)...)
			if (len(got) == 0) != test.ended {
				t.Errorf("afterwards %q", got)
			}
		})
	}
}

// One message per request in the steady state: a response is asked for only where it has something to tell.
func TestTheResponseIsRequestedOnlyIfNeeded(t *testing.T) {
	tests := []struct {
		name, policy string
		request      []string
		want         bool
	}{
		{"initialize", keeping, start1, true},
		{"initialize without the header", keeping, []string{":method: POST"}, false},
		{"initialize, known by its method", keeping, append([]string{"mcp-method: tools/call"}, start1...), false},
		{"modern", keeping, append([]string{"mcp-method: initialize"}, start1...), false},
		{"a request that would claim a session", keeping, append([]string{"mcp-session-id: S"}, start1...), true},
		{"GET", keeping, []string{":method: GET", "x-mcp-api-key: alice"}, false},
		{"nothing is kept", smallest, start1, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := start(t, setup{policy: test.policy}).converse(t, test.request, ":status: 200"); got != test.want {
				t.Errorf("asked: %v", got)
			}
		})
	}
}

func TestAResponseThatIsNoSuccessBeginsNoSession(t *testing.T) {
	b := start(t, setup{policy: keeping})
	b.converse(t, start1, ":status: 401", "mcp-session-id: S1")
	if got := b.reaches(t, ":method: POST", "mcp-session-id: S1", "authorization: user-1"); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}

// A fan-out that freezes a carrier sends a session's old ticket with its later calls.
func TestASupersededTicketGetsNothing(t *testing.T) {
	b := start(t, setup{policy: smallest + "ticket: {grace: 50ms}\n"})
	session := func(id, key string) string {
		_, minted := b.ingress(t, "mcp-session-id: "+id, "x-mcp-api-key: "+key)
		return minted
	}
	gets := func(ticket string) bool { return len(b.egress(t, "a", "x-bellhop-ticket: "+ticket)) == 1 }
	old := session("S1", "first")
	if session("S2", "first") != old {
		t.Fatal("the same headers have the same ticket")
	}
	next := session("S1", "second")
	time.Sleep(100 * time.Millisecond)
	if !gets(old) {
		t.Error("another session still has it")
	}
	session("S2", "second")
	if !gets(old) {
		t.Error("within the grace it is of use, for calls in flight")
	}
	time.Sleep(100 * time.Millisecond)
	if gets(old) {
		t.Error("no session has it any more")
	}
	if !gets(next) {
		t.Error("the newer one is of use")
	}
	if session("S1", "first") != old || !gets(old) {
		t.Error("a session has it again")
	}
	session("S1", "second")
	time.Sleep(100 * time.Millisecond)
	b.ingress(t, "x-mcp-api-key: first") // a client without a session
	if !gets(old) {
		t.Error("a client without a session has it")
	}
	b.metric(
		t,
		"bellhop_headers_total",
		`bellhop_headers_total{backend="",fanout="",header="x-mcp-api-key",outcome="captured"} 7
bellhop_headers_total{backend="a",fanout="",header="x-mcp-api-key",outcome="forwarded"} 5
bellhop_headers_total{backend="a",fanout="",header="x-mcp-api-key",outcome="superseded"} 1`,
	)
}

// A session has a ticket whether or not it keeps a header, and whether or not it says who it is.
func TestATicketIsSupersededAlsoWhereNothingIsKept(t *testing.T) {
	for name, own := range map[string][]string{
		"nothing to keep": {"mcp-session-id: S", "authorization: user-1"},
		"no principal":    {"mcp-session-id: S"},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, setup{policy: keeping + "ticket: {grace: 50ms}\n"})
			_, old := b.ingress(t, append(own, "x-tenant-id: first")...)
			b.ingress(t, append(own, "x-tenant-id: second")...)
			time.Sleep(100 * time.Millisecond)
			if got := b.egress(t, "a", "x-bellhop-ticket: "+old); len(got) != 0 {
				t.Errorf("got %q", got)
			}
		})
	}
}

// Who says nothing of itself changes nothing of a session that keeps somebody's headers.
func TestARequestWithoutAPrincipalLeavesASessionUnchanged(t *testing.T) {
	b := start(t, setup{policy: keeping + "ticket: {grace: 50ms}\n"})
	_, minted := b.ingress(t, "mcp-session-id: S", "authorization: user-1", "x-mcp-api-key: k")
	b.ingress(t, "mcp-session-id: S", "x-mcp-api-key: other")
	time.Sleep(100 * time.Millisecond)
	if got := b.egress(t, "a", "x-bellhop-ticket: "+minted); len(got) != 1 {
		t.Errorf("its ticket is superseded: %q", got)
	}
	if got := b.reaches(t, "mcp-session-id: S", "authorization: user-1"); len(got) != 1 ||
		!strings.HasSuffix(got[0], "k") {
		t.Errorf("got %q", got)
	}
}

// A session in use outlives the key that was the newest when it began.
func TestASessionMovesToTheNewestKey(t *testing.T) {
	b := start(t, setup{policy: keeping})
	older, newer := b.keys, ticket.RandomKeys()
	b.reaches(t, "mcp-session-id: S", "authorization: user-1", "x-mcp-api-key: k")
	for _, keys := range []ticket.Keys{append(slices.Clone(newer), older...), newer} {
		b.keys = keys
		b.apply(t, keeping)
		if got := b.reaches(t, "mcp-session-id: S", "authorization: user-1"); len(got) != 1 ||
			!strings.HasSuffix(got[0], "k") {
			t.Fatalf("with %d keys got %q", len(keys), got)
		}
		if got := b.reaches(t, "mcp-session-id: S", "authorization: user-2"); len(got) != 0 {
			t.Fatalf("another principal got %q", got)
		}
	}
}

// brokenSessions fail, as a store behind a network can.
type brokenSessions struct{}

var errAway = errors.New("sessions are away")

func (brokenSessions) Lookup(context.Context, string, string) (session.Record, bool, error) {
	return session.Record{Kept: policy.Capture{{Name: "x-mcp-api-key", Value: policy.NewValue("stale")}}}, true, errAway
}

func (brokenSessions) Update(
	context.Context,
	string,
	time.Duration,
	func(session.Record) (session.Record, bool),
) error {
	return errAway
}

func (brokenSessions) End(context.Context, string) error { return errAway }

// Invariant 10: a request that needs its session gets an error if the session cannot be read; others continue.
func TestAFailingSessionStoreFailsOnlyRequestsThatNeedIt(t *testing.T) {
	tests := []struct {
		name, policy string
		lines        []string
		refused      bool
	}{
		{"it needs its session", keeping, []string{"mcp-session-id: S", "authorization: user-1"}, true},
		{"it has no session", keeping, []string{"authorization: user-1", "x-mcp-api-key: k"}, false},
		{"it says nothing of its principal", keeping, []string{"mcp-session-id: S", "x-mcp-api-key: k"}, false},
		{"nothing is kept", smallest, []string{"mcp-session-id: S", "x-mcp-api-key: k"}, false},
		{"OPTIONS", keeping, []string{":method: OPTIONS"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := start(t, setup{policy: test.policy, sessions: brokenSessions{}})
			answer := b.ask(t, requestHeaders(test.lines...), "bellhop-role", "ingress")
			if got := answer.GetImmediateResponse(); (got != nil) != test.refused || strings.Contains(answer.String(), "stale") {
				t.Fatalf("got %v", answer)
			} else if test.refused && got.GetStatus().GetCode() != 503 {
				t.Errorf("got %v", got)
			}
			if test.refused {
				b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="",outcome="store_failed",role="ingress"} 1`)
			}
		})
	}
}

// All tickets of what a session has replaced are of no use, also those that only a rotation has replaced.
func TestARotatedTicketIsSupersededWithItsContent(t *testing.T) {
	const rotating = smallest + "ticket: {rotate: 1s, grace: 10ms}\n"
	b := start(t, setup{policy: rotating})
	session := []string{":method: POST", "mcp-session-id: S1"}
	_, first := b.ingress(t, append(session, "x-mcp-api-key: alice")...)
	second := first
	end := time.Now().Add(5 * time.Second)
	for ; second == first && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		_, second = b.ingress(t, append(session, "x-mcp-api-key: alice")...)
	}
	if second == first {
		t.Fatal("the ticket does not rotate")
	}
	if got := b.egress(t, "a", "x-bellhop-ticket: "+first); len(got) != 1 {
		t.Errorf("one that only rotates is of use: %q", got)
	}
	b.ingress(t, append(session, "x-mcp-api-key: bob")...)
	time.Sleep(50 * time.Millisecond) // longer than the grace
	for _, old := range []string{first, second} {
		if got := b.egress(t, "a", "x-bellhop-ticket: "+old); len(got) > 0 {
			t.Errorf("an old ticket gives %q", got)
		}
	}
}

// A kept header that is lost, as in a restart, must not end a session in errors for ever: to 404 a client begins anew.
func TestAnUnknownSessionBeginsAnew(t *testing.T) {
	b := start(
		t,
		setup{
			policy: "version: 1\nforward: [{name: x-mcp-api-key, keep: session, required: true}, " +
				"{name: x-now, required: true}]\n",
		},
	)
	ask := func(lines ...string) (int32, string) {
		answer := b.ask(t, requestHeaders(append(lines, "authorization: user-1")...), "bellhop-role", "ingress")
		refused := answer.GetImmediateResponse()
		return int32(refused.GetStatus().GetCode()), string(refused.GetBody())
	}
	for name, test := range map[string]struct {
		lines  []string
		status int32
		reason string
	}{
		"unknown":               {[]string{":method: POST", "mcp-session-id: S1", "x-now: 1"}, 404, "unknown_session"},
		"unknown, and it ends":  {[]string{":method: DELETE", "mcp-session-id: S1", "x-now: 1"}, 404, "unknown_session"},
		"no session":            {[]string{":method: POST", "x-now: 1"}, 400, "missing"},
		"nothing that is kept":  {[]string{":method: POST", "mcp-session-id: S1", "x-mcp-api-key: k"}, 400, "missing"},
		"the header is with it": {[]string{":method: POST", "mcp-session-id: S2", "x-now: 1", "x-mcp-api-key: k"}, 0, ""},
	} {
		if status, body := ask(test.lines...); status != test.status || !strings.Contains(body, test.reason) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	renewed := b.ask(
		t, requestHeaders(":method: POST", "mcp-session-id: S2", "x-now: 1", "authorization: renewed"), "bellhop-role",
		"ingress",
	).GetImmediateResponse()
	if renewed.GetStatus().GetCode() != 404 {
		t.Errorf("after a renewed token: %v, want 404, so that the client begins a session of its new principal", renewed)
	}
	if status, body := ask(":method: POST", "mcp-session-id: S2", "x-now: 1"); status != 0 {
		t.Errorf("a known one: %d %s", status, body)
	}
}
