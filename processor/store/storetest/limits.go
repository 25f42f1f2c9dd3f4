package storetest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"bellhop/processor/session"
	"bellhop/processor/store"
	"bellhop/processor/ticket"
)

// soon is the most that a call takes whose caller waits no longer.
const soon = 500 * time.Millisecond

// ended: a caller that waits no longer gets a right answer or an error, at once; never that there is nothing, or that
// nothing has changed, because nobody was asked.
func ended(t *testing.T, s store.Backend) {
	put(t, s, "T", Capture("v"), time.Minute)
	save(t, s, "S", time.Minute, record("v", "A"))
	save(t, s, "S", time.Minute, record("v", "B"))
	supersededSoon(t, s, "A")
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancelLate := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancelLate()
	for _, ctx := range []context.Context{canceled, late} {
		begun := time.Now()
		if got, ok, err := s.Get(ctx, "T"); err == nil && (!ok || !got[0].Value.Equal(Capture("v")[0].Value)) {
			t.Errorf("Get: %v %v", got, ok)
		}
		if got, ok, err := s.Lookup(ctx, "S", "P"); err == nil && (!ok || got.Content != "B") {
			t.Errorf("Find: %v %v", got, ok)
		}
		if is, err := s.Superseded(ctx, "A", grace); err == nil && !is {
			t.Error("A is valid again")
		}
		s.Issued(ctx, "B")
		if s.Put(ctx, "U", Capture("u"), ticket.Life{Idle: time.Minute}) == nil {
			want(t, s, "U", Capture("u"))
		}
		if s.Update(
			ctx, "V", time.Minute, func(session.Record) (session.Record, bool) { return record("v", "C"), true },
		) == nil {
			if _, ok := find(t, s, "V", "P"); !ok {
				t.Error("the session was not written")
			}
		}
		if s.End(ctx, "S2") == nil {
			if _, ok := find(t, s, "S2", "P"); ok {
				t.Error("the session has not ended")
			}
		}
		if took := time.Since(begun); took > soon {
			t.Errorf("it took %s", took)
		}
	}
}

// bounds: a flood of whatever a client can make up stays within the bound, and what is in use stays.
func bounds(t *testing.T, s store.Backend) {
	within := func() {
		t.Helper()
		for _, usage := range s.Usage() {
			if usage.Limit == 0 || usage.Bytes > usage.Limit {
				t.Errorf("%s: %d bytes, with a limit of %d", usage.Kind, usage.Bytes, usage.Limit)
			}
		}
	}
	put(t, s, "used", Capture("v"), time.Minute)
	save(t, s, "used", time.Minute, record("v", "used"))
	long := strings.Repeat("x", 20_000)
	for i := range 300 {
		name := fmt.Sprintf("made-up-%d", i)
		put(t, s, name, Capture(long), time.Minute)
		s.Issued(limit(t), name)
		if _, ok := find(t, s, name, "P"); ok {
			t.Error("a session that was made up is known")
		}
		save(t, s, name, time.Minute, record(long, name))
		if i%30 == 0 {
			want(t, s, "used", Capture("v"))
			if _, ok := find(t, s, "used", "P"); !ok {
				t.Error("a session in use is lost")
			}
			within()
		}
	}
	within()
}

// closed: after its end a store says so, at once, and nothing else.
func closed(t *testing.T, s store.Backend) {
	put(t, s, "T", Capture("v"), time.Minute)
	save(t, s, "S", time.Minute, record("v", "T"))
	s.Close()
	s.Close() // twice is once
	ctx, begun := limit(t), time.Now()
	_, _, getErr := s.Get(ctx, "T")
	_, _, findErr := s.Lookup(ctx, "S", "P")
	_, supersededErr := s.Superseded(ctx, "T", grace)
	s.Issued(ctx, "T")
	for call, err := range map[string]error{
		"Put": s.Put(ctx, "T", Capture("v"),
			ticket.Life{Idle: time.Minute}), "Get": getErr, "Find": findErr, "Superseded": supersededErr, "End": s.End(ctx, "S"),
		"Update": s.Update(ctx, "S", time.Minute, func(r session.Record) (session.Record, bool) { return r, true }),
	} {
		if err == nil {
			t.Errorf("%s says nothing of the end", call)
		}
	}
	if took := time.Since(begun); took > soon {
		t.Errorf("it took %s", took)
	}
}
