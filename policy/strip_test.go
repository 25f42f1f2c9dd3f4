package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/policy"
)

const strippingPolicy = `version: 1
forward:
  - {name: x-internal-key, to: [a]}
  - {name: x-shown, hide: false, to: [a]}
  - {name: x-kept, conflict: keep, to: [a]}
strip: [cookie, X-Internal-*, x-shown, x-kept, user-agent]
backends: {a: {discovery: [{name: x-internal-id, file: f}]}, b: {}}
`

// What is stripped never reaches the fan-out unless a rule says so, and never a backend unless a rule sets it.
func TestStrip(t *testing.T) {
	p := load(t, strippingPolicy)
	client := headers("cookie: c", "x-internal-key: k", "x-internal-debug: d", "x-shown: s", "x-other: o")
	taken, rejection := p.Capture(client)
	if rejection != nil {
		t.Fatal(rejection)
	}
	slices.Sort(taken.Hide)
	hidden := []string{"cookie", "user-agent", "x-internal-debug", "x-internal-key", "x-kept"}
	if diff := cmp.Diff(hidden, taken.Hide); diff != "" {
		t.Errorf("hidden from the fan-out: %s", diff)
	}
	if diff := cmp.Diff([]string{"cookie", "x-internal-*"}, taken.Stripped); diff != "" {
		t.Errorf("counted: %s", diff)
	}
	sent := headers("cookie: c", "x-internal-key: fan-out", "x-internal-debug: d", "x-shown: s", "x-kept: fan-out",
		"X-Real-IP: 1", "x-forwarded-for: 1", "forwarded: 1", "x-envoy-external-address: 1", "x-other: o", "x_internal_x: d")
	for i := range sent {
		sent[i].Name = strings.ToLower(sent[i].Name)
	}
	for backend, want := range map[string][]string{
		"a":          {"x-other", "x-internal-key", "x-shown"},
		"b":          {"x-other"},
		"undeclared": {"x-other"},
	} {
		decision := p.Decide(policy.Call{
			Backend: backend, Ticket: policy.StatusRedeemed, Capture: taken.Capture, Request: sent,
		})
		if diff := cmp.Diff(want, names(apply(sent, decision))); diff != "" {
			t.Errorf("%s gets: %s", backend, diff)
		}
	}
	decision := p.Decide(policy.Call{
		Backend: "a", Ticket: policy.StatusNone, Identity: headers("x-internal-id: own"), Request: sent,
		Operation: policy.Asks(policy.Message{Method: "ping"}),
	})
	if diff := cmp.Diff([]string{"x-other", "x-internal-id"}, names(apply(sent, decision))); diff != "" {
		t.Errorf("the identity: %s", diff)
	}
}

func names(all []policy.Header) []string {
	var list []string
	for _, header := range all {
		list = append(list, header.Name)
	}
	return list
}

func TestStripIsChecked(t *testing.T) {
	for name, want := range map[string]string{
		"cookie": "", "x-internal-*": "", "authorization": "", "origin": "", "x-envoy-external-address": "",
		"accept-language": "", "sec-*": "",
		"host": "part of HTTP", "content-length": "part of HTTP", "c*": "part of HTTP", "mcp-session-id": "part of HTTP",
		"MCP-*": "part of HTTP", "x-bellhop-ticket": "part of HTTP", "x_bellhop_ticket": "part of HTTP",
		"x-*":   "part of HTTP",
		":path": "neither", "*": "neither", "a b": "neither", "x-*-y": "neither",
	} {
		_, findings := policy.Load("p.yaml", []byte("version: 1\nforward: [x-a]\nstrip: [\""+name+"\"]\n"))
		switch text := findings.Error(); {
		case want == "" && findings.HasErrors():
			t.Errorf("%s: %s", name, text)
		case want != "" && !strings.Contains(text, want):
			t.Errorf("%s: got %q", name, text)
		}
	}
	_, findings := policy.Load("p.yaml", []byte("version: 1\nforward: [x-a]\nstrip: [cookie, Cookie]\n"))
	if !strings.Contains(findings.Error(), "listed twice") {
		t.Errorf("got %v", findings)
	}
}

func TestExplainShowsWhatIsStripped(t *testing.T) {
	explained := load(t, strippingPolicy).Explain(policy.Question{
		Backend: "b", Client: headers("cookie: c"), Fanout: headers("x-internal-debug: d", "x-real-ip: 1"),
	})
	why := map[string]string{}
	for _, row := range explained.Rows {
		why[row.Header] = string(row.IngressOutcome) + ", " + string(row.Fanout) + ", " + row.Why
	}
	if diff := cmp.Diff(map[string]string{
		"cookie":           "stripped, hidden, strip takes it off: cookie",
		"x-internal-debug": "not_sent, none, the fan-out's own header; strip takes it off: x-internal-*",
	}, why); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"x-internal-debug", "x-real-ip"}, explained.Removed); diff != "" {
		t.Error(diff)
	}
}
