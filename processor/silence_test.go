package processor_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestAHeaderThatNobodySendsIsTold(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward: [x-mcp-api-key, x-mcp-api-kee]\nbackends: {a: {}, b: {}}\n"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { b.processor.Watch(ctx, 300*time.Millisecond); close(done) }()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(b.log.String(), "header=x-mcp-api-kee") && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		_, minted := b.ingress(t, "x-mcp-api-key: k")
		b.egress(t, "a", "x-bellhop-ticket: "+minted)
	}
	cancel()
	<-done
	log := b.log.String()
	for text, want := range map[string]bool{"header=x-mcp-api-kee": true, "backend=b": true, "header=x-mcp-api-key": false, "backend=a": false} {
		if got := strings.Contains(log, text+" fanout="); got != want {
			t.Errorf("%q in the log: %v, want %v", text, got, want)
		}
	}
	never := "# HELP bellhop_header_last_seen_timestamp_seconds When a client last sent a header that the policy lists; 0 for never.\n"
	if err := testutil.GatherAndCompare(b.registry, strings.NewReader(never), "bellhop_header_last_seen_timestamp_seconds"); err == nil {
		t.Error("the metric is missing")
	}
}
