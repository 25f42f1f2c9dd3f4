package memory_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bellhop/policy"
	"bellhop/processor/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func capture(value string) policy.Capture {
	return policy.Capture{{Name: "x-mcp-api-key", Value: policy.NewValue(value)}}
}

func open(t *testing.T, limit uint64) *memory.Memory {
	t.Helper()
	memory, err := memory.NewMemory(limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(memory.Close)
	return memory
}

func get(t *testing.T, memory *memory.Memory, ticket string) (string, bool) {
	t.Helper()
	found, ok, err := memory.Get(context.Background(), ticket)
	if err != nil {
		t.Fatal(err)
	}
	if !ok || len(found) == 0 {
		return "", ok
	}
	return found[0].Value.Reveal(), true
}

func put(t *testing.T, memory *memory.Memory, ticket, value string, lifetime time.Duration) {
	t.Helper()
	if err := memory.Put(context.Background(), ticket, capture(value), lifetime); err != nil {
		t.Fatal(err)
	}
}

func TestMemoryGivesBackWhatItWasGiven(t *testing.T) {
	memory := open(t, 1<<20)
	put(t, memory, "T", "v", time.Minute)
	if got, ok := get(t, memory, "T"); !ok || got != "v" {
		t.Errorf("got %q %v", got, ok)
	}
	if _, ok := get(t, memory, "U"); ok {
		t.Error("an unknown ticket was found")
	}
	if err := memory.Put(context.Background(), "E", nil, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, ok := get(t, memory, "E"); !ok {
		t.Error("an empty capture must be known")
	}
}

func TestMemoryForgetsWhatIsNotUsed(t *testing.T) {
	memory := open(t, 1<<20)
	put(t, memory, "idle", "v", 100*time.Millisecond)
	put(t, memory, "used", "v", 100*time.Millisecond)
	for range 10 {
		time.Sleep(30 * time.Millisecond)
		if _, ok := get(t, memory, "used"); !ok {
			t.Fatal("a ticket in use was forgotten")
		}
	}
	if _, ok := get(t, memory, "idle"); ok {
		t.Error("an idle ticket is still known")
	}
}

// Invariant 8: a flood of new headers neither grows the store without limit nor pushes out the clients at work.
func TestAFloodStaysWithinTheBoundAndLeavesTheLiveAlone(t *testing.T) {
	const limit = 4 << 20
	memory := open(t, limit)
	live := make([]string, 20)
	for i := range live {
		live[i] = fmt.Sprintf("live-%d", i)
		for range 3 { // a client at work: each call is a Put at ingress and a Get at egress or more
			put(t, memory, live[i], live[i], time.Hour)
			_, _ = get(t, memory, live[i])
		}
	}
	flood := 1_000_000
	if testing.Short() {
		flood = 100_000
	}
	before := heap()
	for i := range flood {
		put(t, memory, fmt.Sprintf("flood-%d", i), strings.Repeat("x", i%200), time.Hour)
		if i%100 == 0 {
			use := live[i/100%len(live)]
			if got, ok := get(t, memory, use); !ok || got != use {
				t.Fatalf("after %d new captures a live one is lost", i)
			}
		}
		if i%10_000 == 0 {
			if usage := memory.Usage(); usage.Bytes > limit+limit/10 {
				t.Fatalf("%d bytes are above the limit of %d", usage.Bytes, limit)
			}
		}
	}
	if usage := memory.Usage(); usage.Evictions == 0 || usage.Tickets == 0 || usage.Limit != limit {
		t.Errorf("usage does not tell of the flood: %+v", usage)
	}
	if grown := heap() - before; grown > 2*limit { // what the store estimates is about what it takes
		t.Errorf("the process has grown by %d bytes, with a limit of %d", grown, limit)
	}
}

// heap is what the process keeps, in bytes.
func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// A new client under a flood finds its own capture when its call reaches the backend, some hundred requests later.
func TestAFloodLeavesNewClientsAlone(t *testing.T) {
	memory := open(t, 4<<20)
	for i := range 20_000 {
		put(t, memory, fmt.Sprintf("before-%d", i), "v", time.Hour)
		_, _ = get(t, memory, fmt.Sprintf("before-%d", i)) // in use, so that the store is full
	}
	for client := range 50 {
		name := fmt.Sprintf("client-%d", client)
		put(t, memory, name, name, time.Hour)
		for i := range 200 {
			put(t, memory, fmt.Sprintf("flood-%d-%d", client, i), strings.Repeat("x", 2000), time.Hour)
		}
		for range 3 {
			if got, ok := get(t, memory, name); !ok || got != name {
				t.Fatalf("client %d lost its header", client)
			}
		}
	}
}

func TestExpiryIsNoEviction(t *testing.T) {
	memory := open(t, 1<<20)
	put(t, memory, "T", "v", 10*time.Millisecond)
	time.Sleep(50 * time.Millisecond)
	_, _ = get(t, memory, "T")
	if got := memory.Usage().Evictions; got != 0 {
		t.Errorf("%d evictions, want none", got)
	}
}

// The requests of one call come side by side: each finds the capture, also the moment it is first used.
func TestAllOfTheFirstRequestsFindTheCapture(t *testing.T) {
	memory := open(t, 1<<20)
	for i := range 2000 {
		ticket := strconv.Itoa(i)
		put(t, memory, ticket, ticket, time.Minute)
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				if found, ok, _ := memory.Get(context.Background(), ticket); !ok || found[0].Value.Reveal() != ticket {
					t.Errorf("ticket %s was lost", ticket)
				}
			})
		}
		group.Wait()
	}
}

func TestMemoryIsSafeForConcurrentUse(t *testing.T) {
	memory := open(t, 1<<20)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 2000 {
				ticket := strconv.Itoa((worker + i) % 50)
				_ = memory.Put(context.Background(), ticket, capture(ticket), time.Minute)
				if found, ok, _ := memory.Get(context.Background(), ticket); ok && found[0].Value.Reveal() != ticket {
					t.Errorf("ticket %s gives another's capture", ticket)
				}
			}
		})
	}
	group.Wait()
}
