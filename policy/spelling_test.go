package policy_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bellhop/policy"
)

// Many servers read x_a_key as x-a-key, so that a client's or fan-out's header in another spelling is the same to them.
func TestAnotherSpelling(t *testing.T) {
	p := load(t, `version: 1
forward:
  - {name: x-a-key, to: [a]}
  - {name: x-fam-*, to: [a]}
  - {name: x_own, to: [a], as: x-as-b}
  - {name: x-both, to: [a]}
  - {name: x_both, to: [a]}
  - {name: x-shown, to: [a], hide: false}
backends: {a: {discovery: [{name: x-id-a, file: f}]}, b: {}}
`)
	sent := headers(
		"x_a_key: 1",
		"x-a_key: 2", "x_fam_q: 3", "x-fam_q: 4", "x-fam-_q: 4", "x-own: 5", "x-both: 6", "x_both: 7", "x_shown: 8",
		"x_other: 9",
	)
	taken, rejection := p.Capture(sent)
	if rejection != nil {
		t.Fatal(rejection)
	}
	if diff := cmp.Diff([]string{"x-fam-_q", "x-both", "x_both"}, names(taken.Capture)); diff != "" {
		t.Errorf("captured: %s", diff)
	}
	hidden := []string{
		"x-a-key", "x-a_key", "x-both", "x-fam-_q", "x-fam_q", "x-own", "x_a_key", "x_both", "x_fam_q", "x_own",
	}
	slices.Sort(taken.Hide)
	if diff := cmp.Diff(hidden, taken.Hide); diff != "" {
		t.Errorf("hidden from the fan-out: %s", diff)
	}
	respelled := []string{"x_a_key", "x-a_key", "x_fam_q", "x-fam_q", "x-own", "x_shown"}
	if diff := cmp.Diff(respelled, taken.Respelled); diff != "" {
		t.Errorf("counted: %s", diff)
	}
	for _, name := range []string{"x_a_key", "x_fam_q", "x-own"} {
		if !slices.Contains(p.Hidden(sent), name) {
			t.Errorf("%s of a refused request is not hidden", name)
		}
	}
	theirs := slices.Concat(sent, headers("x_as_b: 1", "x_id_a: 2", "x_forwarded_for: 3", "x_id-a: 4"))
	for _, backend := range []string{"a", "b", "undeclared"} {
		for _, status := range []policy.TicketStatus{policy.StatusRedeemed, policy.StatusNone, policy.StatusUnknown} {
			decision := p.Decide(policy.Call{Backend: backend, Ticket: status, Request: theirs})
			for _, name := range names(apply(theirs, decision)) {
				if name != "x_other" && name != "x-both" && name != "x_both" && name != "x-fam-_q" {
					t.Errorf("status %d: %s gets the fan-out's %s", status, backend, name)
				}
			}
		}
	}
}
