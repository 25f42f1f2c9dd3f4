package policy_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/policy"
)

const decidePolicy = `
version: 1
forward:
  - x-tenant-id
  - {name: x-mcp-api-key, to: [billing, search]}
  - {name: x-github-token, to: [github], as: authorization, prefix: "Bearer "}
  - {name: x-shown, to: [billing], hide: false}
backends:
  github:
    clusters: [mcp-github]
    discovery: [{name: authorization, file: f}]
  billing: {clusters: [mcp-billing]}
  search: {clusters: [mcp-search]}
`

func TestDecide(t *testing.T) {
	p := load(t, decidePolicy)
	all, _ := p.Capture(
		headers("x-tenant-id: t", "x-mcp-api-key: k1", "x-mcp-api-key: k2", "x-github-token: g", "x-shown: s"),
	)
	none, _ := p.Capture(nil)
	identity := headers("authorization: Bearer own")
	tests := []struct {
		name   string
		call   policy.Call
		set    []policy.Header
		remove []string
	}{
		{
			"a backend gets its headers, lines kept",
			policy.Call{Backend: "billing", Ticket: policy.StatusRedeemed, Capture: all.Capture},
			headers("x-tenant-id: t", "x-mcp-api-key: k1", "x-mcp-api-key: k2", "x-shown: s"),
			[]string{"x-tenant-id", "x-mcp-api-key", "x-shown"},
		},
		{
			"renamed, with prefix",
			policy.Call{Backend: "github", Ticket: policy.StatusRedeemed, Capture: all.Capture, Identity: identity},
			headers("x-tenant-id: t", "authorization: Bearer g"),
			[]string{"x-tenant-id", "authorization"},
		},
		{
			"outside the declared world",
			policy.Call{Backend: "other", Ticket: policy.StatusRedeemed, Capture: all.Capture},
			nil,
			nil,
		},
		{
			"known but empty stays empty, no identity",
			policy.Call{Backend: "github", Ticket: policy.StatusRedeemed, Capture: none.Capture, Identity: identity},
			nil,
			[]string{"x-tenant-id", "authorization"},
		},
		{
			"unknown ticket gets nothing, no identity",
			policy.Call{Backend: "github", Ticket: policy.StatusUnknown, Capture: all.Capture, Identity: identity},
			nil,
			[]string{"x-tenant-id", "authorization"},
		},
		{
			"no ticket gets the identity, for the stream of a session",
			policy.Call{
				Backend: "github", Ticket: policy.StatusNone, Capture: all.Capture, Identity: identity,
				Operation: policy.AsksNothing(true),
			},
			identity,
			[]string{"x-tenant-id", "authorization"},
		},
		{
			"no ticket, a method that lists",
			policy.Call{
				Backend:   "github",
				Ticket:    policy.StatusNone,
				Identity:  identity,
				Operation: policy.Asks(policy.Message{Method: "tools/list"}),
			},
			identity,
			[]string{"x-tenant-id", "authorization"},
		},
		{
			"no ticket, a tool call gets nothing",
			policy.Call{
				Backend:   "github",
				Ticket:    policy.StatusNone,
				Identity:  identity,
				Operation: policy.Asks(policy.Message{Method: "tools/call"}),
			},
			nil,
			[]string{"x-tenant-id", "authorization"},
		},
		{
			"no ticket, no identity",
			policy.Call{Backend: "billing", Ticket: policy.StatusNone},
			nil,
			[]string{"x-tenant-id", "x-mcp-api-key", "x-shown"},
		},
		{"a shown header that the fan-out sends elsewhere by itself is withheld",
			policy.Call{Backend: "search", Ticket: policy.StatusRedeemed, Capture: all.Capture, Request: headers("x-shown: s")},
			headers(
				"x-tenant-id: t", "x-mcp-api-key: k1", "x-mcp-api-key: k2",
			), []string{"x-tenant-id", "x-mcp-api-key", "x-shown"}},
		{"without a capture no one can tell whose a shown header is: it is withheld",
			policy.Call{
				Backend: "search",
				Ticket:  policy.StatusUnknown,
				Request: headers("x-shown: s", "x-shown: t", "x-other: o"),
			},
			nil, []string{"x-tenant-id", "x-mcp-api-key", "x-shown"}},
		{"no ticket, nothing known of the request",
			policy.Call{Backend: "github", Ticket: policy.StatusNone, Identity: identity},
			nil, []string{"x-tenant-id", "authorization"}},
		{"without a ticket neither",
			policy.Call{
				Backend: "github", Ticket: policy.StatusNone, Identity: identity, Request: headers("x-shown: s"),
				Operation: policy.Asks(policy.Message{Method: "ping"}),
			},
			identity, []string{"x-tenant-id", "authorization", "x-shown"}},
		{"whatever its value: it may be an old one, or joined",
			policy.Call{
				Backend: "search",
				Ticket:  policy.StatusRedeemed,
				Capture: all.Capture,
				Request: headers("x-shown: fan-out"),
			},
			headers(
				"x-tenant-id: t", "x-mcp-api-key: k1", "x-mcp-api-key: k2",
			), []string{"x-tenant-id", "x-mcp-api-key", "x-shown"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := p.Decide(test.call)
			if diff := cmp.Diff(test.set, got.Set); diff != "" {
				t.Errorf("set: %s", diff)
			}
			if diff := cmp.Diff(test.remove, got.Remove); diff != "" {
				t.Errorf("remove: %s", diff)
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	p := load(t, decidePolicy)
	capture, _ := p.Capture(headers("x-mcp-api-key: k", "x-github-token: g"))
	got := p.Decide(policy.Call{Backend: "billing", Ticket: policy.StatusRedeemed, Capture: capture.Capture}).Verdicts
	want := []policy.Verdict{
		{Header: "x-tenant-id", Outcome: policy.OutcomeAbsent, Line: 4, Rule: 1},
		{Header: "x-mcp-api-key", As: "x-mcp-api-key", Outcome: policy.OutcomeForwarded, Line: 5, Rule: 2},
		{Header: "x-shown", Outcome: policy.OutcomeAbsent, Line: 7, Rule: 4},
		{Header: "x-github-token", Outcome: policy.OutcomeNotAllowed},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDecideDoesNotChangeThePolicy(t *testing.T) {
	p := load(t, decidePolicy)
	capture, _ := p.Capture(headers("x-shown: s"))
	leak := policy.Call{
		Backend: "search",
		Ticket:  policy.StatusRedeemed,
		Capture: capture.Capture,
		Request: headers("x-shown: s"),
	}
	for range 3 {
		if got := p.Decide(leak).Remove; len(got) != 3 {
			t.Fatalf("remove grows from call to call: %v", got)
		}
	}
}

func TestBackend(t *testing.T) {
	closed, open := load(t, decidePolicy), load(t, "version: 1\nforward: [x-a]\n")
	tests := []struct {
		name              string
		policy            *policy.Policy
		explicit, cluster string
		want              string
		declared          bool
	}{
		{"by metadata", closed, "github", "", "github", true},
		{"by cluster", closed, "", "mcp-search", "search", true},
		{"metadata wins", closed, "github", "mcp-search", "github", true},
		{"metadata that is not declared does not fall back", closed, "other", "mcp-search", "other", false},
		{"a cluster named as a backend is not it", closed, "", "github", "", false},
		{"unknown cluster", closed, "", "nope", "", false},
		{"nothing known", closed, "", "", "", false},
		{"open world, metadata", open, "a", "c", "a", true},
		{"open world, cluster", open, "", "c", "c", true},
		{"open world, nothing known", open, "", "", "", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, declared := test.policy.Backend(test.explicit, test.cluster)
			if got != test.want || declared != test.declared {
				t.Errorf("got %q %v, want %q %v", got, declared, test.want, test.declared)
			}
		})
	}
}

func TestFootprints(t *testing.T) {
	p := load(t, decidePolicy)
	want := policy.Footprint{
		Reads: []string{
			"x-bellhop-ticket",
			"baggage",
			"mcp-method",
			"mcp-session-id",
			":method",
			"connection",
			"content-length",
			"content-type",
			"content-encoding",
			":status",
			"x-tenant-id",
			"x-mcp-api-key",
			"x-github-token",
			"x-shown",
		},
		Writes: []string{
			"x-bellhop-ticket", "baggage", "x-tenant-id", "x-mcp-api-key", "x-github-token",
		},
	}
	if diff := cmp.Diff(want, p.IngressFootprint()); diff != "" {
		t.Errorf("ingress: %s", diff)
	}
	names := []string{
		"x-bellhop-ticket",
		"baggage",
		"x-tenant-id",
		"x-mcp-api-key",
		"authorization",
		"x-github-token",
		"x-shown",
		"forwarded",
		"x-forwarded-*",
		"x-real-ip",
		"x-envoy-external-address",
	}
	reads := append(
		slices.Clone(names), "x-envoy-original-url", ":method", ":path", "mcp-session-id", "content-length",
		"content-type", "content-encoding", "mcp-method", "mcp-name",
	)
	if diff := cmp.Diff(policy.Footprint{Reads: reads, Writes: names}, p.EgressFootprint()); diff != "" {
		t.Errorf("egress: %s", diff)
	}
}
