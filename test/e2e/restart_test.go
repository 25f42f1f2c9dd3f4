package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
)

// Bellhop is killed and started again under traffic: calls fail or succeed, but no backend ever gets a wrong key.
func TestAKilledBellhopNeverMixesKeys(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{Policy: smallest}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var good, bad atomic.Int64
	for i := range 8 {
		group.Go(func() { traffic(ctx, s, i, &good, &bad) })
	}
	for range 4 {
		time.Sleep(time.Second)
		s.KillBellhop()
		time.Sleep(300 * time.Millisecond)
		if err := s.StartBellhop(limit(t)); err != nil {
			t.Fatal(err)
		}
	}
	before := good.Load()
	time.Sleep(2 * time.Second)
	cancel()
	group.Wait()
	t.Logf("%d calls succeeded, %d failed, in 4 kills of 0.3 s each", good.Load(), bad.Load())
	if good.Load() == before {
		t.Error("no call succeeded after the last start")
	}
	if bad.Load() == 0 {
		t.Error("no call failed, so the kills were not felt and the test proves nothing")
	}
	wantOwnKeys(t, backends)
	wantClean(t, s, backends)
}

// traffic calls with a key of its own, and says in each call which, until stop.
func traffic(ctx context.Context, s *stack.Stack, i int, good, bad *atomic.Int64) {
	mine := fmt.Sprintf("key-of-%d;", i)
	for ctx.Err() == nil {
		client, err := mcptest.Connect(
			ctx,
			mcptest.ClientOptions{URL: s.Endpoint(), Era: eras[i%2], Header: sends(mine), NoStream: true},
		)
		if err != nil {
			bad.Add(1)
			time.Sleep(20 * time.Millisecond)
			continue
		}
		for err == nil && ctx.Err() == nil {
			result, callErr := client.Call(ctx, []string{"old_echo", "new_echo"}[i/2%2], map[string]any{"text": mine})
			if err = callErr; err != nil || result.IsError {
				bad.Add(1)
			} else {
				good.Add(1)
			}
		}
		_ = client.Close()
	}
}

func wantOwnKeys(t *testing.T, backends map[string]*mcptest.Backend) {
	t.Helper()
	calls := 0
	for name, b := range backends {
		for _, request := range b.Requests() {
			if request.RPCMethod != "tools/call" {
				continue
			}
			calls++
			if got := request.Header.Get(key); got != "" && !strings.Contains(string(request.Body), got) {
				t.Fatalf("backend %s got the key %q with the call %s", name, got, request.Body)
			}
		}
	}
	if calls == 0 {
		t.Error("no call reached a backend")
	}
}
