package policy_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/policy"
)

func TestFamilies(t *testing.T) {
	p := load(t, "version: 1\nforward: [x-*, auth*]\nlimits: {value_bytes: 64}\n")
	taken, rejection := p.Capture(
		headers(
			"x-b: 2", "x-forwarded-for: 1.1.1.1", "X-Up: no", "x-a: 1", "authorization: secret", "x-a: 3",
			"x_forwarded_for: 1", "authx: 4", "accept: x",
		),
	)
	if rejection != nil {
		t.Fatal(rejection)
	}
	if diff := cmp.Diff(headers("x-a: 1", "x-a: 3", "x-b: 2", "authx: 4"), []policy.Header(taken.Capture)); diff != "" {
		t.Errorf("captured: %s", diff)
	}
	if diff := cmp.Diff([]string{"x-forwarded-for", "authorization"}, taken.LeftOut); diff != "" {
		t.Errorf("left out: %s", diff)
	}
	if diff := cmp.Diff([]string{"x-b", "x-a", "authx"}, taken.Hide); diff != "" {
		t.Errorf("hidden: %s", diff)
	}
	got := p.Decide(
		policy.Call{
			Ticket:  policy.StatusRedeemed,
			Capture: taken.Capture,
			Request: headers("x-fanout: own", "x-forwarded-for: 2.2.2.2", "x-a: own"),
		},
	)
	if diff := cmp.Diff([]string{"x-fanout", "x-a", "x-forwarded-for"}, got.Remove); diff != "" {
		t.Errorf("removed at egress: %s", diff)
	}
	if diff := cmp.Diff([]policy.Header(taken.Capture), got.Set, cmp.Comparer(policy.Value.Equal)); len(got.Set) != 4 {
		t.Errorf("set: %s", diff)
	}
}

// Invariant 1: a family whose beginning a sensitive name has neither carries it nor covers for the fan-out that does.
func TestAFamilyExcludesSensitiveNames(t *testing.T) {
	p := load(
		t,
		"version: 1\nbackends: {a: {}, b: {}}\nforward: [{name: authorization, to: [a], hide: false}, {name: auth*, to: "+
			"[b], hide: false}]\n",
	)
	sent := headers("authorization: secret")
	taken, _ := p.Capture(sent)
	for status, want := range map[policy.TicketStatus][]policy.Verdict{
		policy.StatusRedeemed: {{Header: "auth*", Outcome: policy.OutcomeAbsent, Line: 3, Rule: 2},
			{Header: "authorization", Outcome: policy.OutcomeNotAllowed}},
		policy.StatusNone: nil,
	} {
		got := p.Decide(policy.Call{Backend: "b", Ticket: status, Capture: taken.Capture, Request: sent})
		if diff := cmp.Diff([]string{"authorization"}, got.Remove); diff != "" || len(got.Set) > 0 {
			t.Errorf("status %d: the fan-out may pass it on: %s", status, diff)
		}
		if diff := cmp.Diff(want, got.Verdicts); diff != "" {
			t.Errorf("status %d: %s", status, diff)
		}
	}
}

func TestRepeat(t *testing.T) {
	request := headers("x-a: 1", "x-a: 2")
	for mode, want := range map[string]policy.Capture{"all": headers("x-a: 1", "x-a: 2"), "first": headers("x-a: 1")} {
		taken, rejection := load(t, "version: 1\nforward: [{name: x-a, repeat: "+mode+"}]\n").Capture(request)
		if diff := cmp.Diff(want, taken.Capture); diff != "" || rejection != nil {
			t.Errorf("%s: %v %s", mode, rejection, diff)
		}
	}
	_, rejection := load(t, "version: 1\nforward: [{name: x-a, repeat: reject}]\n").Capture(request)
	if diff := cmp.Diff(&policy.Rejection{Header: "x-a", Reason: policy.ReasonRepeat}, rejection); diff != "" {
		t.Error(diff)
	}
}

func TestMaxBytes(t *testing.T) {
	p := load(
		t,
		"version: 1\nbackends: {a: {}, b: {}}\nforward: [{name: x-a, to: [a], max_bytes: 10}, {name: x-a, to: [b], "+
			"max_bytes: 5}]\n",
	)
	if _, rejection := p.Capture(headers("x-a: 12345")); rejection != nil {
		t.Error(rejection)
	}
	_, rejection := p.Capture(headers("x-a: 123456"))
	if diff := cmp.Diff(&policy.Rejection{Header: "x-a", Reason: policy.ReasonValue, Limit: 5}, rejection); diff != "" {
		t.Errorf("the lowest limit holds: %s", diff)
	}
}

// A family leaves out authorization, and so does its limit.
func TestMaxBytesOfAFamilyDoesNotApplyToSensitiveNames(t *testing.T) {
	p := load(t, "version: 1\nbackends: {a: {}}\n"+
		"forward: [{name: authorization, to: [a], hide: true}, {name: 'a*', max_bytes: 10}]\n")
	got, rejection := p.Capture(headers("authorization: longer than ten", "a-b: short"))
	if rejection != nil || len(got.Capture) != 2 {
		t.Errorf("captured %d headers, rejection %v", len(got.Capture), rejection)
	}
	if _, rejection := p.Capture(headers("a-b: longer than ten")); rejection == nil {
		t.Error("the family's limit does not apply to its members")
	}
}

func TestConflict(t *testing.T) {
	tests := []struct {
		name, mode string
		captured   []policy.Header
		sent       []policy.Header
		set        []policy.Header
		remove     []string
		rejected   bool
	}{
		{
			"replace",
			"replace",
			headers("x-a: client"),
			headers("x-a: fan-out"),
			headers("x-a: client"),
			[]string{"x-a"},
			false,
		},
		{"replace, client sent nothing", "replace", nil, headers("x-a: fan-out"), nil, []string{"x-a"}, false},
		{"keep", "keep", headers("x-a: client"), headers("x-a: fan-out"), nil, nil, false},
		{"keep, fan-out sent nothing", "keep", headers("x-a: client"), nil, headers("x-a: client"), nil, false},
		{"keep, client sent nothing", "keep", nil, headers("x-a: fan-out"), nil, nil, false},
		{"keep, again on its own result", "keep", headers("x-a: client"), headers("x-a: client"), nil, nil, false},
		{"reject", "reject", headers("x-a: client"), headers("x-a: fan-out"), nil, []string{"x-a"}, true},
		{
			"reject, fan-out sent nothing",
			"reject",
			headers("x-a: client"),
			nil,
			headers("x-a: client"),
			[]string{"x-a"},
			false,
		},
		{"reject, client sent nothing", "reject", nil, headers("x-a: fan-out"), nil, []string{"x-a"}, false},
		{
			"reject, again on its own result",
			"reject",
			headers("x-a: client"),
			headers("x-a: client"),
			headers("x-a: client"),
			[]string{"x-a"},
			false,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := load(t, "version: 1\nforward: [{name: x-a, conflict: "+test.mode+"}]\n")
			got := p.Decide(policy.Call{Ticket: policy.StatusRedeemed, Capture: test.captured, Request: test.sent})
			if diff := cmp.Diff(test.set, got.Set); diff != "" {
				t.Errorf("set: %s", diff)
			}
			if diff := cmp.Diff(test.remove, got.Remove); diff != "" {
				t.Errorf("remove: %s", diff)
			}
			if (got.Rejection != nil) != test.rejected {
				t.Errorf("rejection %v", got.Rejection)
			}
		})
	}
}

func TestRequired(t *testing.T) {
	p := load(
		t,
		"version: 1\nbackends: {a: {}, b: {}}\nforward: [{name: x-a, to: [a], required: true}, {name: x-t, to: [a], "+
			"required: true, tools: [pay_*]}]\n",
	)
	if got := p.Missing(nil, policy.Lack{}); got == nil || got.Header != "x-a" {
		t.Errorf("missing: %v", got)
	}
	if got := p.Missing(headers("x-a: "), policy.Lack{}); got == nil || got.Header != "x-a" {
		t.Errorf("empty: %v", got)
	}
	if got := p.Missing(headers("x-a: ", "x-a: 1"), policy.Lack{}); got != nil {
		t.Errorf("one line is empty, and one is not: %v", got)
	}
	empty := p.Decide(policy.Call{Backend: "a", Ticket: policy.StatusRedeemed, Capture: headers("x-a: ")})
	if empty.Rejection == nil || empty.Rejection.Header != "x-a" || len(empty.Set) > 0 {
		t.Errorf("empty, at the backend: %v, %d set", empty.Rejection, len(empty.Set))
	}
	if got := p.Missing(headers("x-a: 1"), policy.Lack{}); got != nil {
		t.Errorf("what a rule for tools requires is not known at ingress: %v", got)
	}
	for tool, want := range map[string]string{"pay_now": "x-t", "look": ""} {
		got := p.Decide(
			policy.Call{
				Backend:   "a",
				Ticket:    policy.StatusRedeemed,
				Capture:   headers("x-a: 1"),
				Operation: policy.Asks(policy.Message{Method: "tools/call", Tool: tool}),
			},
		).Rejection
		if (got == nil) != (want == "") || (got != nil && got.Header != want) {
			t.Errorf("%s: %v", tool, got)
		}
	}
	for status, want := range map[policy.TicketStatus]bool{policy.StatusUnknown: true, policy.StatusSuperseded: true,
		policy.StatusRedeemed: true, policy.StatusNone: false} {
		none := policy.AsksNothing(false)
		if got := p.Decide(policy.Call{Backend: "a", Ticket: status, Operation: none}).Rejection; (got != nil) != want {
			t.Errorf("status %d: %v", status, got)
		}
		if got := p.Decide(policy.Call{Backend: "b", Ticket: status}).Rejection; got != nil {
			t.Errorf("status %d at a backend that the rule is not for: %v", status, got)
		}
	}
}

// A call that only a client can cause, and from which the fan-out has lost the ticket, is not one without a client.
func TestACallWithoutItsTicketLacksWhatIsRequired(t *testing.T) {
	p := load(
		t,
		"version: 1\nbackends: {a: {}, b: {discovery: [{name: x-id, file: f}]}, c: {}}\n"+
			"forward: [{name: x-t, to: [a], required: true, tools: [pay_*]}, {name: x-b, to: [b, c], required: true}]\n",
	)
	asks := func(method, tool string) policy.Operation {
		return policy.Asks(policy.Message{Method: method, Tool: tool})
	}
	batch := policy.Asks(policy.Message{Method: "ping"}, policy.Message{Method: policy.CallTool, Tool: "pay_now"})
	for name, test := range map[string]struct {
		backend   string
		operation policy.Operation
		want      policy.Reason
	}{
		"a call of the rule's tool":     {"a", asks(policy.CallTool, "pay_now"), policy.ReasonNoTicket},
		"a call of another tool":        {"a", asks(policy.CallTool, "look"), ""},
		"not known":                     {"a", policy.NotKnown(policy.UnreadableKey), policy.ReasonOperation},
		"discovery":                     {"a", asks("tools/list", ""), ""},
		"a request without a body":      {"a", policy.AsksNothing(true), ""},
		"a call, for a rule of all":     {"b", asks(policy.CallTool, "look"), policy.ReasonNoTicket},
		"nothing was read":              {"b", policy.Operation{}, ""},
		"discovery, for a rule of all":  {"b", asks("initialize", ""), ""},
		"not known, for a rule of all":  {"b", policy.NotKnown(policy.UnreadableType), ""},
		"a call, where nothing reads":   {"c", asks(policy.CallTool, "look"), ""},
		"a batch, with discovery first": {"a", batch, policy.ReasonNoTicket},
	} {
		got := p.Decide(policy.Call{Backend: test.backend, Ticket: policy.StatusNone, Operation: test.operation}).Rejection
		if got == nil && test.want != "" || got != nil && got.Reason != test.want {
			t.Errorf("%s: got %v, want %q", name, got, test.want)
		}
	}
}

func TestTools(t *testing.T) {
	p := load(t, "version: 1\nforward: [{name: x-a, tools: [search_*, \"*_all\", exact]}]\n")
	call := func(tools ...string) policy.Operation {
		var all []policy.Message
		for _, tool := range tools {
			all = append(all, policy.Message{Method: policy.CallTool, Tool: tool})
		}
		return policy.Asks(all...)
	}
	for _, test := range []struct {
		act  policy.Operation
		want bool
	}{
		{call("search_web"), true},
		{call("search_"), true},
		{call("find_all"), true},
		{call("exact"), true},
		{call("exact", "search_web"), true},
		{call("exact", "other"), false},
		{call("exactly"), false},
		{call("research_web"), false},
		{call(""), false},
		{call(), false},
		{policy.Asks(policy.Message{Method: "prompts/get", Tool: "exact"}), false},
		{policy.AsksNothing(true), false},
		{policy.NotKnown(policy.UnreadableKey), false},
		{policy.Operation{}, false},
	} {
		act, want := test.act, test.want
		got := p.Decide(
			policy.Call{
				Ticket:    policy.StatusRedeemed,
				Capture:   headers("x-a: 1"),
				Operation: act,
				Request:   headers("x-a: fan-out"),
			},
		)
		if (len(got.Set) == 1) != want || len(got.Remove) != 1 {
			t.Errorf("%+v: set %d, removed %q", act, len(got.Set), got.Remove)
		}
	}
}

func TestSessions(t *testing.T) {
	p := load(t, "version: 1\nforward: [{name: x-s, keep: session}, x-r]\n")
	own, _ := p.Capture(headers("x-s: 1", "x-r: 2"))
	kept := p.Kept(own.Capture)
	if diff := cmp.Diff(policy.Capture(headers("x-s: 1")), kept); diff != "" {
		t.Errorf("kept: %s", diff)
	}
	for name, test := range map[string]struct{ own, want policy.Capture }{
		"lacking": {headers("x-r: 3"), headers("x-s: 1", "x-r: 3")},
		"its own": {headers("x-s: 9"), headers("x-s: 9")},
		"nothing": {nil, headers("x-s: 1")},
	} {
		got, rejection := p.Complete(test.own, kept)
		if diff := cmp.Diff(test.want, got); diff != "" || rejection != nil {
			t.Errorf("%s: %v %s", name, rejection, diff)
		}
	}
}

// A fan-out that passes on what it sees must not use a rule that lets its own headers stand.
func TestAKeptConflictSendsNothingOfTheClient(t *testing.T) {
	p := load(t, `
version: 1
backends: {billing: {}, github: {}}
forward:
  - {name: authorization, to: [billing], hide: false}
  - {name: x-github-token, to: [github], as: authorization, conflict: keep}
  - {name: x-key, to: [github], hide: false, conflict: keep, tools: [search_*]}
  - {name: x-first, to: [billing], hide: false, repeat: first}
`)
	taken, _ := p.Capture(
		headers("authorization: billing", "x-github-token: github", "x-key: k", "x-first: one", "x-first: two"),
	)
	sent := headers("authorization: billing", "x-key: k", "x-first: one, two")
	for _, status := range []policy.TicketStatus{policy.StatusRedeemed, policy.StatusUnknown, policy.StatusSuperseded,
		policy.StatusNone} {
		got := apply(
			sent,
			p.Decide(
				policy.Call{
					Backend:   "github",
					Ticket:    status,
					Capture:   taken.Capture,
					Operation: policy.Asks(policy.Message{Method: "tools/call", Tool: "delete_all"}),
					Request:   sent,
				},
			),
		)
		want := []string(nil)
		if status == policy.StatusRedeemed {
			want = []string{"github"}
		}
		if diff := cmp.Diff(want, values(got, "authorization")); diff != "" || len(got) != len(want) {
			t.Errorf("status %d: %d headers, authorization %s", status, len(got), diff)
		}
	}
}

func TestNoTextMakesAToolPatternSlow(t *testing.T) {
	p := load(t, "version: 1\nforward: [{name: x-a, tools: [\"*a*a*b*\"]}]\n")
	for tool, want := range map[string]int{"xaxaxbx": 1, "aab": 1, "ab": 0, strings.Repeat("a", 1<<20): 0,
		"aa" + strings.Repeat("x", 300) + "b": 0} {
		if got := p.Decide(policy.Call{Ticket: policy.StatusRedeemed, Capture: headers("x-a: 1"),
			Operation: policy.Asks(policy.Message{Method: "tools/call", Tool: tool})}); len(
			got.Set,
		) != want {
			t.Errorf("%.20s: %d", tool, len(got.Set))
		}
	}
}

// A rule that can never hold is an error, not a promise.
func TestRepeatNeedsLinesThatEnvoyShows(t *testing.T) {
	for rule, want := range map[string]bool{
		"{name: authorization, to: [a], hide: true, repeat: reject}": false,
		"{name: authorization, to: [a], hide: true, repeat: first}":  false,
		"{name: authorization, to: [a], hide: true, repeat: all}":    true,
		"{name: user-agent, repeat: reject}":                         false,
		"{name: cookie, to: [a], hide: true, repeat: reject}":        true,
		"{name: x-mcp-api-key, repeat: reject}":                      true,
	} {
		_, findings := policy.Load("p.yaml", []byte("version: 1\nforward: ["+rule+"]\nbackends: {a: {}}\n"))
		if got := !findings.HasErrors(); got != want {
			t.Errorf("%s: loads: %v: %v", rule, got, findings)
		}
	}
}
