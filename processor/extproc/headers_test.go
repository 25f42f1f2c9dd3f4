package extproc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"bellhop/policy"
	"bellhop/processor/ticket"
	"bellhop/test/envoytest"
)

const (
	smallest = "version: 1\nforward: [x-mcp-api-key]\n"
	declared = `
version: 1
forward:
  - {name: x-mcp-api-key, to: [billing]}
  - {name: x-github-token, to: [github], as: authorization, prefix: "Bearer "}
backends:
  github: {clusters: [mcp-github], discovery: [{name: authorization, file: f}]}
  billing: {clusters: [mcp-billing]}
`
)

var identity = map[string][]policy.Header{"github": {{Name: "authorization", Value: policy.NewValue("Bearer own")}}}

func TestAHeaderTravelsFromClientToBackend(t *testing.T) {
	b := start(t, setup{policy: smallest})
	request, minted := b.ingress(t, ":path: /mcp", "x-mcp-api-key: alice", "x-mcp-api-key: second", "x-other: o")
	if diff := cmp.Diff([]string{":path: /mcp", "x-other: o", "x-bellhop-ticket: " + minted}, request); diff != "" {
		t.Errorf("the fan-out: %s", diff)
	}
	if !ticket.WellFormed(minted) {
		t.Errorf("%q is no ticket", minted)
	}
	got := b.egress(t, "a", "accept: x", "x-bellhop-ticket: "+minted)
	if diff := cmp.Diff([]string{"accept: x", "x-mcp-api-key: alice", "x-mcp-api-key: second"}, got); diff != "" {
		t.Errorf("the backend: %s", diff)
	}
}

func TestIngressStripsForgedTickets(t *testing.T) {
	tests := []struct {
		name, carriers string
		sent           []string
		want           func(minted string) []string
	}{
		{"header", "[header]", []string{"x-bellhop-ticket: forged", "x-bellhop-ticket: again"},
			func(minted string) []string { return []string{"x-bellhop-ticket: " + minted} }},
		{"baggage, alone", "[header]", []string{"baggage: bellhop=forged"},
			func(minted string) []string { return []string{"x-bellhop-ticket: " + minted} }},
		{"baggage, among others", "[header]", []string{"baggage: a=1,bellhop=forged", "baggage: b=2"},
			func(minted string) []string { return []string{"x-bellhop-ticket: " + minted, "baggage: a=1,b=2"} }},
		{"under an alias of servers that read _ as -", "[header]", []string{"x-bellhop_ticket: forged"},
			func(minted string) []string { return []string{"x-bellhop-ticket: " + minted} }},
		{
			"baggage, as OpenTelemetry reads it",
			"[header, baggage]",
			[]string{"baggage: a=1,\u00a0bellhop=forged,bellhop\u2003=forged,\u00a0c=3"},
			func(minted string) []string {
				return []string{"x-bellhop-ticket: " + minted, "baggage: bellhop=" + minted + ",a=1"}
			},
		},
		{"other baggage is left alone", "[header]", []string{"baggage: a=1", "baggage: b=2"},
			func(minted string) []string {
				return []string{"baggage: a=1", "baggage: b=2", "x-bellhop-ticket: " + minted}
			}},
		{"both, into baggage", "[header, baggage]", []string{"baggage: a=1,BellHop=forged", "x-bellhop-ticket: forged"},
			func(minted string) []string {
				return []string{"x-bellhop-ticket: " + minted, "baggage: bellhop=" + minted + ",a=1"}
			}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := start(t, setup{policy: smallest + "ticket: {carriers: " + test.carriers + "}\n"})
			got, minted := b.ingress(t, test.sent...)
			if diff := cmp.Diff(test.want(minted), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestBaggageAloneCarriesATicketAndNoHeader(t *testing.T) {
	b := start(t, setup{policy: smallest + "ticket: {carriers: [baggage]}\n"})
	got, _ := b.ingress(t, "x-mcp-api-key: alice", "x-bellhop-ticket: forged")
	if len(got) != 1 || !strings.HasPrefix(got[0], "baggage: bellhop=") {
		t.Fatalf("got %q", got)
	}
	if diff := cmp.Diff([]string{"x-mcp-api-key: alice"}, b.egress(t, "a", got...)); diff != "" {
		t.Error(diff)
	}
}

func TestEgress(t *testing.T) {
	b := start(t, setup{policy: declared, identities: identity})
	_, full := b.ingress(t, "x-mcp-api-key: k", "x-github-token: g")
	_, empty := b.ingress(t)
	unknown := strings.Repeat("A", ticket.Length)
	tests := []struct {
		name, backend string
		sent          []string
		want          []string
	}{
		{"its headers only", "billing", []string{"x-bellhop-ticket: " + full}, []string{"x-mcp-api-key: k"}},
		{"renamed", "github", []string{"x-bellhop-ticket: " + full}, []string{"authorization: Bearer g"}},
		{
			"the fan-out's own goes",
			"github",
			[]string{"authorization: Basic fanout", "x-bellhop-ticket: " + full},
			[]string{"authorization: Bearer g"},
		},
		{
			"undeclared backend: nothing, ticket stripped",
			"other",
			[]string{"x-bellhop-ticket: " + full, "authorization: own"},
			[]string{"authorization: own"},
		},
		{
			"empty capture: nothing, no identity",
			"github",
			[]string{"x-bellhop-ticket: " + empty, "authorization: Basic fanout"},
			nil,
		},
		{"unknown ticket: nothing, no identity", "github", []string{"x-bellhop-ticket: " + unknown}, nil},
		{"forged ticket: nothing, no identity", "github", []string{"x-bellhop-ticket: forged"}, nil},
		{"two tickets: nothing", "billing", []string{"x-bellhop-ticket: " + full, "x-bellhop-ticket: " + empty}, nil},
		{
			"a ticket in a carrier that is not configured: nothing, no identity, stripped",
			"github",
			[]string{"baggage: bellhop=" + full + ",a=1"},
			[]string{"baggage: a=1"},
		},
		{
			"no ticket: the identity",
			"github",
			[]string{":method: GET", "mcp-session-id: s"},
			[]string{":method: GET", "mcp-session-id: s", "authorization: Bearer own"},
		},
		{
			"a ticket in another spelling: nothing, no identity",
			"github",
			[]string{":method: GET", "mcp-session-id: s", "x-bellhop_ticket: " + full},
			[]string{":method: GET", "mcp-session-id: s"},
		},
		{"no ticket, no session: nothing", "github", []string{":method: GET"}, []string{":method: GET"}},
		{"no ticket, no identity: nothing", "billing", []string{"x-mcp-api-key: fanout"}, nil},
		{
			"both carriers are stripped",
			"billing",
			[]string{"x-bellhop-ticket: " + full, "baggage: bellhop=" + empty},
			[]string{"x-mcp-api-key: k"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := b.egress(t, test.backend, test.sent...)
			if len(got) == 0 {
				got = nil
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			tickets := prefixed(test.sent, "x-bellhop-ticket: ")
			if len(tickets) == 0 {
				return
			}
			again := b.egress(t, test.backend, append(append([]string{}, got...), tickets...)...)
			if diff := cmp.Diff(got, again, cmpopts.EquateEmpty(), cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("applied again on its own result: %s", diff)
			}
		})
	}
}

// A proxy that joins the spellings, or a backend, could take either for the ticket.
func TestATicketInBothSpellingsIsNone(t *testing.T) {
	b := start(t, setup{policy: smallest})
	_, minted := b.ingress(t, "x-mcp-api-key: k")
	for _, alias := range policy.TicketAliases() {
		got := b.egress(t, "a", "x-bellhop-ticket: "+minted, alias+": "+minted, "x_mcp_api_key: k", "x_other: o")
		if diff := cmp.Diff([]string{"x_other: o"}, got); diff != "" {
			t.Errorf("%s: %s", alias, diff)
		}
	}
}

func TestTheClusterIsTheSecondSourceOfTheBackend(t *testing.T) {
	b := start(t, setup{policy: declared})
	_, minted := b.ingress(t, "x-mcp-api-key: k")
	sent := []string{"x-bellhop-ticket: " + minted}
	for _, filter := range []string{"envoy.filters.http.ext_proc", "any.other.key"} {
		got := apply(
			t,
			sent,
			b.ask(t, withCluster(requestHeaders(sent...), filter, "mcp-billing"), "bellhop-role", "egress"),
		)
		if diff := cmp.Diff([]string{"x-mcp-api-key: k"}, got); diff != "" {
			t.Errorf("%s: %s", filter, diff)
		}
	}
	got := apply(
		t,
		sent,
		b.ask(
			t, withCluster(requestHeaders(sent...), "f", "mcp-billing"), "bellhop-role", "egress", "bellhop-backend",
			"github",
		),
	)
	if len(got) != 0 {
		t.Errorf("metadata must win over the cluster: %q", got)
	}
}

// Whoever may write routes could lead a backend's virtual host, with the backend's name on it, to a server of his own.
func TestANamedBackendIsWhereTheRequestGoes(t *testing.T) {
	b := start(t, setup{policy: `version: 1
forward: [{name: x-mcp-api-key, to: [github, open]}]
backends: {github: {clusters: [mcp-github]}, open: {}}
`})
	_, minted := b.ingress(t, "x-mcp-api-key: k")
	sent := []string{"x-bellhop-ticket: " + minted, "x-other: o"}
	mesh := []string{"bellhop-cluster", "outbound|80|*|github.tools.svc.cluster.local"}
	for _, test := range []struct {
		backend, cluster string
		listed           []string
		want             bool
	}{
		{"github", "mcp-github", nil, true},
		{"github", "evil", nil, false},
		{"github", "MCP-github", nil, false},
		{"github", "", nil, true}, // there is none: the request goes nowhere
		{"open", "any", nil, true},
		{"github", "outbound|80||github.tools.svc.cluster.local", mesh, true},
		{"github", "outbound|80|v2|github.tools.svc.cluster.local", mesh, true},
		{"github", "mcp-github", mesh, true},
		{"github", "outbound|8080||github.tools.svc.cluster.local", mesh, false},
		{"github", "outbound|80||github.tools.svc.cluster.local.evil.svc.cluster.local", mesh, false},
		{"github", "outbound|80||evil.evil.svc.cluster.local", mesh, false},
		{"open", "outbound|80||evil.evil.svc.cluster.local", mesh, false},
		{"open", "second", append(mesh, "bellhop-cluster", "second"), true},
	} {
		message := requestHeaders(sent...)
		if test.cluster != "" {
			message = withCluster(message, "f", test.cluster)
		}
		answer := b.ask(
			t,
			message,
			append([]string{"bellhop-role", "egress", "bellhop-backend", test.backend}, test.listed...)...)
		want := []string{"x-other: o"}
		if test.want {
			want = append(want, "x-mcp-api-key: k")
		}
		if diff := cmp.Diff(want, apply(t, sent, answer)); diff != "" {
			t.Errorf("%s by %s of %q: %s", test.backend, test.cluster, test.listed, diff)
		}
	}
	b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="",outcome="captured",role="ingress"} 1
bellhop_requests_total{fanout="",outcome="forwarded",role="egress"} 7
bellhop_requests_total{fanout="",outcome="other_cluster",role="egress"} 6`)
	if !strings.Contains(b.log.String(), "cluster=evil") {
		t.Errorf("the log does not name the cluster:\n%s", b.log)
	}
}

func TestACarrierMismatchIsCountedAndTheFirstWins(t *testing.T) {
	b := start(t, setup{policy: smallest + "ticket: {carriers: [header, baggage]}\n"})
	_, alice := b.ingress(t, "x-mcp-api-key: alice")
	_, bob := b.ingress(t, "x-mcp-api-key: bob")
	if diff := cmp.Diff([]string{"x-mcp-api-key: alice"}, b.egress(t, "a", "baggage: bellhop="+bob,
		"x-bellhop-ticket: "+alice)); diff != "" {
		t.Error(diff)
	}
	b.metric(t, "bellhop_carrier_mismatches_total", `bellhop_carrier_mismatches_total{fanout=""} 1`)
}

func TestLimitsAnswerWithAJSONRPCErrorThatNamesTheHeader(t *testing.T) {
	b := start(t, setup{policy: smallest + "limits: {headers: 2, value_bytes: 20, total_bytes: 60}\n"})
	tests := []struct {
		name   string
		lines  []string
		status int
		reason string
	}{
		{"control byte", []string{"x-mcp-api-key: canary\x01"}, 400, "control_byte"},
		{"too long", []string{"x-mcp-api-key: canary-canary-canary-canary"}, 431, "value_too_long"},
		{
			"too many",
			[]string{"x-mcp-api-key: canary", "x-mcp-api-key: canary", "x-mcp-api-key: canary"},
			431,
			"too_many_headers",
		},
		{
			"too much",
			[]string{"x-mcp-api-key: canary-canary-canary", "x-mcp-api-key: canary-canary-canary"},
			431,
			"total_too_long",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := b.ask(t, requestHeaders(test.lines...), "bellhop-role", "ingress").GetImmediateResponse()
			if got == nil || int(got.GetStatus().GetCode()) != test.status {
				t.Fatalf("got %v", got)
			}
			var body struct {
				Version string `json:"jsonrpc"`
				ID      any    `json:"id"`
				Error   struct {
					Code    int
					Message string
					Data    struct{ Reason, Header string }
				}
			}
			if err := json.Unmarshal(got.GetBody(), &body); err != nil {
				t.Fatal(err)
			}
			if body.Version != "2.0" || body.ID == nil || body.Error.Code != -32600 ||
				body.Error.Data.Reason != test.reason ||
				body.Error.Data.Header != "x-mcp-api-key" ||
				!strings.Contains(body.Error.Message, "x-mcp-api-key") {
				t.Errorf("got %s", got.GetBody())
			}
			if set := got.GetHeaders().GetSetHeaders(); len(set) != 1 ||
				set[0].GetHeader().GetKey() != "content-type" ||
				string(set[0].GetHeader().GetRawValue()) != "application/json" {
				t.Errorf("content-type: %v", set)
			}
			if strings.Contains(fmt.Sprint(got), "canary") || strings.Contains(b.log.String(), "canary") {
				t.Error("the value is in the answer or in the log")
			}
		})
	}
	if _, minted := b.ingress(t, "x-mcp-api-key: fine"); minted == "" {
		t.Error("after the errors a good request must pass")
	}
	b.metric(
		t,
		"bellhop_headers_total",
		`bellhop_headers_total{backend="",fanout="",header="x-mcp-api-key",outcome="captured"} 1
bellhop_headers_total{backend="",fanout="",header="x-mcp-api-key",outcome="rejected"} 4`,
	)
}

func TestARequestWithNoRoomForTheTicketIsRefused(t *testing.T) {
	b := start(t, setup{policy: smallest})
	got := b.ask(t, requestHeaders(manyLines(100)...), "bellhop-role", "ingress").GetImmediateResponse()
	if got.GetStatus().GetCode() != 431 || !strings.Contains(string(got.GetBody()), "no_room_for_ticket") {
		t.Errorf("got %v", got)
	}
	if _, minted := b.ingress(t, append(manyLines(99), "x-mcp-api-key: k")...); minted == "" {
		t.Error("a hidden header makes room for the ticket")
	}
}

func TestARequestWithNoRoomForTheHeadersGetsNone(t *testing.T) {
	b := start(t, setup{policy: smallest})
	_, minted := b.ingress(t, "x-mcp-api-key: 1", "x-mcp-api-key: 2")
	if got := b.egress(t, "a", append(manyLines(99), "x-bellhop-ticket: "+minted)...); len(got) != 99 {
		t.Errorf("%d lines; Envoy takes 100, so none may be added", len(got))
	}
	if got := b.egress(t, "a", append(manyLines(98), "x-bellhop-ticket: "+minted)...); len(got) != 100 {
		t.Errorf("%d lines; there was room for both", len(got))
	}
	_, long := b.ingress(t, "x-mcp-api-key: "+strings.Repeat("k", 8000))
	if got := b.egress(t, "a", "x-bellhop-ticket: "+long, "x-big: "+strings.Repeat("b", 55<<10)); len(got) != 1 {
		t.Errorf("%d lines; Envoy takes 60 KiB", len(got))
	}
	b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="",outcome="captured",role="ingress"} 2
bellhop_requests_total{fanout="",outcome="forwarded",role="egress"} 1
bellhop_requests_total{fanout="",outcome="no_room",role="egress"} 2`)
}

func manyLines(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("x-filler-%d: v", i)
	}
	return lines
}

// brokenStore fails, as a store behind a network can.
type brokenStore struct{ put bool }

func (s brokenStore) Put(context.Context, string, policy.Capture, ticket.Life) error {
	if s.put {
		return errors.New("store is away")
	}
	return nil
}

func (brokenStore) Get(context.Context, string) (policy.Capture, bool, error) {
	return policy.Capture{{Name: "x-mcp-api-key", Value: policy.NewValue("stale")}}, true, errors.New("store is away")
}

// unstored is a ticket that these keys made, of a capture that no store has.
func unstored(keys ticket.Keys) string {
	return ticket.NewMinter(keys[0], "", 24*time.Hour).Mint(nil, time.Now())
}

// Invariant 10: in doubt an error, never a wrong header.
func TestAStoreThatFailsFailsTheRequest(t *testing.T) {
	for role, message := range map[string]func(minted string) *extprocv3.ProcessingRequest{
		"ingress": func(string) *extprocv3.ProcessingRequest { return requestHeaders("x-mcp-api-key: k") },
		"egress":  func(minted string) *extprocv3.ProcessingRequest { return requestHeaders("x-bellhop-ticket: " + minted) },
	} {
		b := start(t, setup{policy: smallest, store: brokenStore{put: true}})
		message := message(unstored(b.keys))
		got := b.ask(t, message, "bellhop-role", role).GetImmediateResponse()
		if got.GetStatus().GetCode() != 503 || strings.Contains(string(got.GetBody()), "away") {
			t.Errorf("%s: got %v", role, got)
		}
	}
}

// With --on-store-error continue a request continues without unknown headers, never with other ones, and not
// where a header is required.
func TestARequestGoesOnWithoutAStore(t *testing.T) {
	b := start(t, setup{policy: smallest, store: brokenStore{put: true}, sessions: brokenSessions{}, failOpen: true})
	unknown := "x-bellhop-ticket: " + unstored(b.keys)
	request, minted := b.ingress(t, "x-mcp-api-key: k", "mcp-session-id: S")
	if minted == "" || slices.Contains(request, "x-mcp-api-key: k") {
		t.Errorf("the fan-out gets %q", request)
	}
	if got := b.egress(t, "a", unknown, "x-mcp-api-key: fan-out"); len(got) != 0 {
		t.Errorf("the backend gets %q", got)
	}
	b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="",outcome="captured",role="ingress"} 1
bellhop_requests_total{fanout="",outcome="store_failed",role="egress"} 1`)
	b = start(t, setup{policy: keeping, store: brokenStore{put: true}, sessions: brokenSessions{}, failOpen: true})
	if _, minted := b.ingress(t, "mcp-session-id: S", "authorization: user-1", "x-mcp-api-key: k"); minted == "" {
		t.Error("a request of an unreadable session continues with its own headers")
	}
	b = start(
		t,
		setup{
			policy:   "version: 1\nforward: [{name: x-mcp-api-key, required: true}]\n",
			store:    brokenStore{put: true},
			failOpen: true,
		},
	)
	if answer := b.ask(t, requestHeaders(unknown), "bellhop-role", "egress"); answer.GetImmediateResponse() == nil {
		t.Error("a required header is missed")
	}
}

// brokenSupersession fails for every ticket.
type brokenSupersession struct{}

func (brokenSupersession) Issued(context.Context, string)               {}
func (brokenSupersession) Owned(context.Context, string, time.Duration) {}
func (brokenSupersession) Superseded(context.Context, string, time.Duration) (bool, error) {
	return false, errors.New("store is away")
}

// Invariant 10: a ticket that may be superseded gives nothing, though its capture is known.
func TestATicketOfUnknownSupersessionGetsNothing(t *testing.T) {
	for _, failOpen := range []bool{false, true} {
		b := start(t, setup{policy: smallest, supersession: brokenSupersession{}, failOpen: failOpen})
		_, minted := b.ingress(t, "x-mcp-api-key: k")
		answer := b.ask(t, requestHeaders("x-bellhop-ticket: "+minted), "bellhop-role", "egress")
		set := answer.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders()
		if got := answer.GetImmediateResponse().GetStatus().GetCode(); (got == 503) == failOpen || len(set) > 0 {
			t.Errorf("continue %v: got %v", failOpen, answer)
		}
	}
}

func TestMetrics(t *testing.T) {
	b := start(t, setup{policy: declared, identities: identity})
	_, full := b.ingress(t, "x-mcp-api-key: k", "x-mcp-api-key: k2")
	b.ingress(t)
	b.egress(t, "billing", "x-bellhop-ticket: "+full)
	b.egress(t, "github", "x-bellhop-ticket: "+full)
	b.egress(t, "github", ":method: GET", "mcp-session-id: s")
	b.egress(t, "billing")
	b.egress(t, "billing", "x-bellhop-ticket: forged")
	b.egress(t, "nowhere", "x-bellhop-ticket: "+full)
	b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="",outcome="captured",role="ingress"} 1
bellhop_requests_total{fanout="",outcome="discovery",role="egress"} 1
bellhop_requests_total{fanout="",outcome="empty",role="egress"} 1
bellhop_requests_total{fanout="",outcome="empty",role="ingress"} 1
bellhop_requests_total{fanout="",outcome="forwarded",role="egress"} 1
bellhop_requests_total{fanout="",outcome="malformed_ticket",role="egress"} 1
bellhop_requests_total{fanout="",outcome="no_ticket",role="egress"} 1
bellhop_requests_total{fanout="",outcome="undeclared_backend",role="egress"} 1`)
	b.metric(
		t,
		"bellhop_headers_total",
		`bellhop_headers_total{backend="",fanout="",header="x-mcp-api-key",outcome="captured"} 1
bellhop_headers_total{backend="billing",fanout="",header="x-mcp-api-key",outcome="forwarded"} 1
bellhop_headers_total{backend="billing",fanout="",header="x-mcp-api-key",outcome="malformed_ticket"} 1
bellhop_headers_total{backend="github",fanout="",header="authorization",outcome="discovery"} 1
bellhop_headers_total{backend="github",fanout="",header="x-github-token",outcome="absent"} 1
bellhop_headers_total{backend="github",fanout="",header="x-mcp-api-key",outcome="not_allowed"} 1
bellhop_headers_total{backend="nowhere",fanout="",header="x-mcp-api-key",outcome="not_allowed"} 1`,
	)
}

// metric compares all series of one metric.
func (b *bench) metric(t *testing.T, name, want string) {
	t.Helper()
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			header := fmt.Sprintf(
				"# HELP %s %s\n# TYPE %s %s\n",
				name,
				family.GetHelp(),
				name,
				strings.ToLower(family.GetType().String()),
			)
			if err := testutil.GatherAndCompare(b.registry, strings.NewReader(header+want+"\n"), name); err != nil {
				t.Error(err)
			}
			return
		}
	}
	t.Errorf("there is no metric %s", name)
}

func prefixed(lines []string, prefix string) []string {
	var all []string
	for _, line := range lines {
		if strings.HasPrefix(line, prefix) {
			all = append(all, line)
		}
	}
	return all
}

// Whatever takes headers away after the decision asks it again: a required one is not lost on the way.
func TestARequiredHeaderWithoutRoomIsARefusal(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward: [{name: x-mcp-api-key, required: true, prefix: \"" +
		strings.Repeat(
			"p",
			200,
		) + " \", repeat: all}]\nlimits: {value_bytes: 20000, total_bytes: 48000, headers: 80}\n"})
	var lines []string
	for range 80 {
		lines = append(lines, "x-mcp-api-key: "+strings.Repeat("k", 560))
	}
	_, minted := b.ingress(t, lines...)
	answer := b.ask(t, envoytest.Bodiless(requestHeaders("x-bellhop-ticket: "+minted)), "bellhop-role", "egress")
	got := answer.GetImmediateResponse()
	if got.GetStatus().GetCode() != 431 || !strings.Contains(string(got.GetBody()), `"reason":"no_room"`) {
		t.Errorf("got %d %s", got.GetStatus().GetCode(), got.GetBody())
	}
	b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="",outcome="captured",role="ingress"} 1
bellhop_requests_total{fanout="",outcome="no_room",role="egress"} 1`)
}

// A required header that the client did send is not called missing: the error, and the count, say where it was lost.
func TestAReasonOfItsOwn(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward: [{name: x-mcp-api-key, required: true}]\nticket: {grace: 0s}\n"})
	session := []string{":method: POST", "mcp-session-id: S", "authorization: user"}
	_, old := b.ingress(t, append(session, "x-mcp-api-key: old")...)
	b.ingress(t, append(session, "x-mcp-api-key: new")...)
	for reason, line := range map[string]string{
		"superseded": "x-bellhop-ticket: " + old, "unknown_ticket": "x-bellhop-ticket: " + unstored(b.keys),
		"malformed_ticket": "x-bellhop-ticket: forged", "other_key": "x-bellhop-ticket: " + unstored(ticket.RandomKeys()),
		"redirected": "x-envoy-original-url: http://a/mcp",
	} {
		answer := b.ask(t, envoytest.Bodiless(requestHeaders(line)), "bellhop-role", "egress")
		body := string(answer.GetImmediateResponse().GetBody())
		if !strings.Contains(body, `"reason":"`+reason+`"`) || strings.Contains(body, "missing") {
			t.Errorf("%s: %s", reason, body)
		}
	}
	b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="",outcome="captured",role="ingress"} 2
bellhop_requests_total{fanout="",outcome="malformed_ticket",role="egress"} 1
bellhop_requests_total{fanout="",outcome="other_key",role="egress"} 1
bellhop_requests_total{fanout="",outcome="redirected",role="egress"} 1
bellhop_requests_total{fanout="",outcome="superseded",role="egress"} 1
bellhop_requests_total{fanout="",outcome="unknown_ticket",role="egress"} 1`)
}

// What is no longer served is no longer reported.
func TestTheSeriesOfARemovedFanoutGo(t *testing.T) {
	const own, other = "version: 1\nfanout: own\nforward: [x-a]\n", "version: 1\nfanout: other\nforward: [x-a]\n"
	b := start(t, setup{policy: own, others: []string{other}})
	for _, fanout := range []string{"own", "other"} {
		b.ask(t, requestHeaders("x-a: 1"), "bellhop-role", "ingress", "bellhop-fanout", fanout)
	}
	b.apply(t, own)
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() != "fanout" {
					continue
				}
				left++
				if label.GetValue() == "other" {
					t.Errorf("%s is left: %v", family.GetName(), metric)
				}
			}
		}
	}
	if left == 0 {
		t.Error("nothing is reported at all")
	}
}

// What a policy names no longer is no longer reported.
func TestTheSeriesOfRemovedNamesGo(t *testing.T) {
	const rules = "version: 1\nforward: [x-a, x-b]\nbackends: {a: {}, b: {}}\n"
	b := start(t, setup{policy: rules})
	_, minted := b.ingress(t, "x-a: 1", "x-b: 1")
	b.egress(t, "a", "x-bellhop-ticket: "+minted)
	b.egress(t, "b", "x-bellhop-ticket: "+minted)
	b.apply(t, "version: 1\nforward: [x-a]\nbackends: {a: {}}\n")
	b.metric(t, "bellhop_headers_total", `bellhop_headers_total{backend="",fanout="",header="x-a",outcome="captured"} 1
bellhop_headers_total{backend="a",fanout="",header="x-a",outcome="forwarded"} 1`)
}
