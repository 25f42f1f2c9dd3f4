package memory_test

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"bellhop/processor/store/memory"
	"bellhop/processor/ticket"
)

// fill puts and redeems captures of one header with 40 bytes, as clients with one key each do.
func fill(b *testing.B, captures int) (*memory.Store, []string) {
	b.Helper()
	s := memory.New(1 << 30)
	b.Cleanup(s.Close)
	tickets := make([]string, captures)
	for i := range tickets {
		tickets[i] = fmt.Sprintf("%043d", i)
		life := ticket.Life{Idle: time.Hour}
		if err := s.Put(context.Background(), tickets[i], capture(fmt.Sprintf("%040d", i)), life); err != nil {
			b.Fatal(err)
		}
		_, _, _ = s.Get(context.Background(), tickets[i])
	}
	return s, tickets
}

// use does what one call does to the store: a Put of a known capture at ingress, a Get at egress.
func use(b *testing.B, s *memory.Store, tickets []string, i int) {
	b.Helper()
	name := tickets[i*7919%len(tickets)]
	_ = s.Put(context.Background(), name, nil, ticket.Life{Idle: time.Hour})
	if _, ok, _ := s.Get(context.Background(), name); !ok {
		b.Fatal("a capture is lost")
	}
}

// BenchmarkCaptures measures a call's share of the store, and the heap that one capture takes, by the number of
// captures.
func BenchmarkCaptures(b *testing.B) {
	for _, captures := range []int{1000, 1_000_000} {
		b.Run(strconv.Itoa(captures), func(b *testing.B) {
			before := heap()
			s, tickets := fill(b, captures)
			perCapture := float64(heap()-before)/float64(captures) - 48 - 16 // less the benchmark's own tickets
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				use(b, s, tickets, i)
				i++
			}
			b.ReportMetric(perCapture, "B/capture")
			runtime.KeepAlive(s)
		})
	}
}

// TestAKnownCaptureCostsNoAllocation holds the steady state.
func TestAKnownCaptureCostsNoAllocation(t *testing.T) {
	s := open(t, 1<<20)
	put(t, s, "T", "v", time.Hour)
	known := capture("v")
	if got := testing.AllocsPerRun(100, func() {
		_ = s.Put(context.Background(), "T", known, ticket.Life{Idle: time.Hour})
		_, _, _ = s.Get(context.Background(), "T")
	}); got > 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

// The value of a header can be a part of a much longer text. Kept, it does not pin that.
func TestAKeptCaptureDoesNotPinTheRequest(t *testing.T) {
	s := open(t, 64<<20)
	before := heap()
	const captures, padding = 500, 60 << 10
	for i := range captures {
		long := fmt.Sprintf("%d%*s", i, padding, "")
		put(t, s, fmt.Sprint("T", i), long[:3], time.Hour)
	}
	if grown := heap() - before; grown > captures*padding/10 {
		t.Errorf("the process has grown by %d bytes for %d captures of 3 bytes", grown, captures)
	}
	runtime.KeepAlive(s)
}
