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
	"bellhop/processor/store"
	"bellhop/processor/store/memory"
	"bellhop/processor/ticket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func capture(value string) policy.Capture {
	return policy.Capture{{Name: "x-mcp-api-key", Value: policy.NewValue(value)}}
}

func open(t *testing.T, limit uint64) *memory.Store {
	t.Helper()
	s := memory.New(limit)
	t.Cleanup(s.Close)
	return s
}

func get(t *testing.T, s *memory.Store, ticket string) (string, bool) {
	t.Helper()
	found, ok, err := s.Get(context.Background(), ticket)
	if err != nil {
		t.Fatal(err)
	}
	if !ok || len(found) == 0 {
		return "", ok
	}
	return found[0].Value.Reveal(), true
}

func put(t *testing.T, s *memory.Store, name, value string, lifetime time.Duration) {
	t.Helper()
	if err := s.Put(context.Background(), name, capture(value), ticket.Life{Idle: lifetime}); err != nil {
		t.Fatal(err)
	}
}

// sum is the usage of all kinds of entries.
func sum(s *memory.Store) store.Usage {
	var all store.Usage
	for _, usage := range s.Usage() {
		all.Entries += usage.Entries
		all.Bytes += usage.Bytes
		all.Limit += usage.Limit
		all.Evictions += usage.Evictions
	}
	return all
}

// A ticket that was just redeemed is redeemed again by the next backend of the same call, whatever else is in use.
func TestARedeemedTicketOutlivesNewcomers(t *testing.T) {
	s := open(t, 1<<20)
	hot := func(i int) string { return fmt.Sprintf("hot-%d", i%1500) }
	for i := range 20 * 1500 {
		put(t, s, hot(i), "0123456789", time.Hour)
		_, _ = get(t, s, hot(i))
	}
	newcomer := func(i int) string { return fmt.Sprintf("new-%d", i) }
	lost := 0
	for i := range 2000 {
		put(t, s, newcomer(i), "0123456789", time.Hour)
		if _, ok := get(t, s, newcomer(i)); !ok {
			t.Fatalf("%s: lost before its first redemption", newcomer(i))
		}
		for n := range 10 {
			_, _ = get(t, s, hot(10*i+n))
		}
		if i < 100 {
			continue
		}
		if _, ok := get(t, s, newcomer(i-100)); !ok {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of 1900 second redemptions failed after 100 other newcomers", lost)
	}
}

func TestMemoryReturnsWhatWasPut(t *testing.T) {
	s := open(t, 1<<20)
	put(t, s, "T", "v", time.Minute)
	if got, ok := get(t, s, "T"); !ok || got != "v" {
		t.Errorf("got %q %v", got, ok)
	}
	if _, ok := get(t, s, "U"); ok {
		t.Error("an unknown ticket was found")
	}
	if err := s.Put(context.Background(), "E", nil, ticket.Life{Idle: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if _, ok := get(t, s, "E"); !ok {
		t.Error("an empty capture must be known")
	}
}

func TestIdleCapturesExpire(t *testing.T) {
	s := open(t, 1<<20)
	put(t, s, "idle", "v", 100*time.Millisecond)
	put(t, s, "used", "v", 100*time.Millisecond)
	for range 10 {
		time.Sleep(30 * time.Millisecond)
		if _, ok := get(t, s, "used"); !ok {
			t.Fatal("a ticket in use was forgotten")
		}
	}
	if _, ok := get(t, s, "idle"); ok {
		t.Error("an idle ticket is still known")
	}
}

// Invariant 8: a flood of new headers neither grows the store beyond its limit nor evicts the captures in use.
func TestAFloodStaysWithinTheLimitAndKeepsWhatIsInUse(t *testing.T) {
	const limit = 4 << 20
	s := open(t, limit)
	live := make([]string, 20)
	for i := range live {
		live[i] = fmt.Sprintf("live-%d", i)
		for range 3 { // a client at work: each call is a Put at ingress and a Get at egress or more
			put(t, s, live[i], live[i], time.Hour)
			_, _ = get(t, s, live[i])
		}
	}
	flood := 1_000_000
	if testing.Short() {
		flood = 100_000
	}
	before := heap()
	for i := range flood {
		put(t, s, fmt.Sprintf("flood-%d", i), strings.Repeat("x", i%200), time.Hour)
		if i%100 == 0 {
			use := live[i/100%len(live)]
			if got, ok := get(t, s, use); !ok || got != use {
				t.Fatalf("after %d new captures a live one is lost", i)
			}
		}
		if i%10_000 == 0 {
			if usage := sum(s); usage.Bytes > limit {
				t.Fatalf("%d bytes are above the limit of %d", usage.Bytes, limit)
			}
		}
	}
	usage := s.Usage()[0]
	if usage.Kind != store.Captures || usage.Evictions == 0 || usage.Bytes < usage.Limit*9/10 || sum(s).Limit != limit {
		t.Errorf("usage does not show the flood: %+v", s.Usage())
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
func TestNewClientsSurviveAFlood(t *testing.T) {
	s := open(t, 4<<20)
	for i := range 20_000 {
		put(t, s, fmt.Sprintf("before-%d", i), "v", time.Hour)
		_, _ = get(t, s, fmt.Sprintf("before-%d", i)) // in use, so that the store is full
	}
	for client := range 50 {
		name := fmt.Sprintf("client-%d", client)
		put(t, s, name, name, time.Hour)
		for i := range 200 {
			put(t, s, fmt.Sprintf("flood-%d-%d", client, i), strings.Repeat("x", 2000), time.Hour)
		}
		for range 3 {
			if got, ok := get(t, s, name); !ok || got != name {
				t.Fatalf("client %d lost its header", client)
			}
		}
	}
}

func TestExpiryIsNotCountedAsEviction(t *testing.T) {
	s := open(t, 1<<20)
	put(t, s, "T", "v", 10*time.Millisecond)
	time.Sleep(50 * time.Millisecond)
	_, _ = get(t, s, "T")
	if got := sum(s).Evictions; got != 0 {
		t.Errorf("%d evictions, want none", got)
	}
}

// The requests of one call come side by side: each finds the capture, also the moment it is first used.
func TestConcurrentFirstRequestsFindTheCapture(t *testing.T) {
	s := open(t, 1<<20)
	for i := range 2000 {
		ticket := strconv.Itoa(i)
		put(t, s, ticket, ticket, time.Minute)
		var group sync.WaitGroup
		for range 4 {
			group.Go(func() {
				if found, ok, _ := s.Get(context.Background(), ticket); !ok || found[0].Value.Reveal() != ticket {
					t.Errorf("ticket %s was lost", ticket)
				}
			})
		}
		group.Wait()
	}
}

func TestMemoryIsSafeForConcurrentUse(t *testing.T) {
	s := open(t, 1<<20)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 2000 {
				name := strconv.Itoa((worker + i) % 50)
				_ = s.Put(context.Background(), name, capture(name), ticket.Life{Idle: time.Minute})
				if found, ok, _ := s.Get(context.Background(), name); ok && found[0].Value.Reveal() != name {
					t.Errorf("ticket %s gives another's capture", name)
				}
			}
		})
	}
	group.Wait()
}
