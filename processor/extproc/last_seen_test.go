package extproc_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAHeaderThatNoClientSendsIsReported(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward: [x-mcp-api-key, x-mcp-api-kee]\nbackends: {a: {}, b: {}}\n"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { b.processor.WarnOfUnseen(ctx, 300*time.Millisecond); close(done) }()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(b.log.String(),
		"header=x-mcp-api-kee") && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		_, minted := b.ingress(t, "x-mcp-api-key: k")
		b.egress(t, "a", "x-bellhop-ticket: "+minted)
	}
	cancel()
	<-done
	log := b.log.String()
	for text, want := range map[string]bool{"header=x-mcp-api-kee": true, "backend=b": true, "header=x-mcp-api-key": false,
		"backend=a": false} {
		if got := strings.Contains(log, text+" fanout="); got != want {
			t.Errorf("%q in the log: %v, want %v", text, got, want)
		}
	}
	for name, want := range map[string]map[string]bool{
		"bellhop_header_last_seen_timestamp_seconds":  {"x-mcp-api-key": true, "x-mcp-api-kee": false},
		"bellhop_backend_last_seen_timestamp_seconds": {"a": true, "b": false},
	} {
		if diff := cmp.Diff(want, b.seen(t, name)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// seen says of what a metric tells whether it was seen within the last minute; 0 is for never.
func (b *bench) seen(t *testing.T, name string) map[string]bool {
	t.Helper()
	families, err := b.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() != name {
				continue
			}
			for _, label := range metric.GetLabel() {
				if when := metric.GetGauge().GetValue(); label.GetName() != "fanout" {
					seen[label.GetValue()] = when != 0 && time.Since(time.Unix(int64(when), 0)) < time.Minute
				}
			}
		}
	}
	return seen
}
