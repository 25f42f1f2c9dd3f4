package e2e

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
)

// The policy changes on disk under a running path: the session that is open goes on, and no backend gets a key that
// the policy in force does not give it. One with errors changes nothing.
func TestAPolicyIsReloaded(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{Policy: smallest}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	for _, era := range eras {
		replacePolicy(t, s, smallest)
		client := connect(t, s, mcptest.ClientOptions{Era: era, Header: sends("k")})
		waitKey(t, client, "new_whoami", "k")
		wantKey(t, client, "old_whoami", "k")

		replacePolicy(t, s, "version: 1\nforward:\n  - {name: x-mcp-api-key, to: [old]}\nbackends: {old: {}, new: {}}\n")
		waitKey(t, client, "new_whoami")
		wantKey(t, client, "old_whoami", "k")

		before := refused(t, s)
		replacePolicy(t, s, "version: 1\nforward: [x-mcp-api-key, host]\n")
		wait(t, "the invalid documents are counted", func() bool { return refused(t, s) != before })
		wantKey(t, client, "new_whoami")
		wantKey(t, client, "old_whoami", "k")
	}
	if log := s.BellhopLog(); !strings.Contains(log, "policy.yaml:2:26") ||
		!strings.Contains(log, "the last good one stays in force") {
		t.Error("the log does not say where the fault is")
	}
	wantClean(t, s, backends)
}

// replacePolicy puts a whole file in the place of the policy, as careful writers do.
func replacePolicy(t *testing.T, s *stack.Stack, text string) {
	t.Helper()
	next := s.PolicyFile() + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, s.PolicyFile()); err != nil {
		t.Fatal(err)
	}
}

// waitKey calls until the backend gets these keys.
func waitKey(t *testing.T, client *mcptest.Client, tool string, want ...string) {
	t.Helper()
	wait(t, tool+" gets "+strings.Join(want, ", "), func() bool {
		header, err := client.WhoAmI(limit(t), tool)
		return err == nil && slices.Equal(header.Values(key), want)
	})
}

func refused(t *testing.T, s *stack.Stack) string { return reloadsOf(t, s, "invalid") }

// reloadsOf is the line of the metrics that counts reloads with that outcome.
func reloadsOf(t *testing.T, s *stack.Stack, outcome string) string {
	t.Helper()
	text, err := s.Metrics(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, `bellhop_policy_reloads_total{outcome="`+outcome+`"}`) {
			return line
		}
	}
	t.Fatalf("there is no count of reloads that are %s", outcome)
	return ""
}

func wait(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("it did not happen within 20 s: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// SIGHUP looks at once, and ends nothing: the reload that finds nothing new is counted.
func TestAHangupReloads(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{Policy: smallest}, backends)
	if err := s.Processes()["Bellhop"].Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	wait(t, "the reload is counted", func() bool {
		metrics, err := s.Metrics(limit(t))
		return err == nil && strings.Contains(metrics, `bellhop_policy_reloads_total{outcome="unchanged"} 1`)
	})
}
