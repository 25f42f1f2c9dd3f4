package policy_test

import (
	"testing"

	"bellhop/policy"
)

// TestAllocations holds the ceilings of the steady state. Raise one only with a reason.
func TestAllocations(t *testing.T) {
	one := newWorkload(t, 1, 1, `"x-name-%d"`, "x-name-%[1]d")
	call := one.call(t)
	unlisted := []policy.Header{{Name: ":method", Value: policy.NewValue("POST")}, {Name: "x-other"}}
	for name, step := range map[string]struct {
		ceiling float64
		run     func()
	}{
		"Capture of one header":       {1, func() { one.capture(t) }}, // the capture
		"Capture of none":             {0, func() { _, _ = one.policy.Capture(unlisted) }},
		"Complete where nothing is":   {0, func() { _, _ = one.policy.Complete(call.Capture, call.Capture) }},
		"Decide of one header":        {2, func() { _ = one.policy.Decide(call) }}, // Set and Verdicts
		"Renew of what is kept again": {0, func() { _ = one.policy.Renew(nil, call.Capture) }},
	} {
		if got := testing.AllocsPerRun(1000, step.run); got > step.ceiling {
			t.Errorf("%s: %v allocations, want at most %v", name, got, step.ceiling)
		}
	}
}
