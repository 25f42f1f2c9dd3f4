// Package storetest is the contract of every store: what the processor relies on, whatever keeps it.
package storetest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/store"
	"bellhop/processor/ticket"
)

// Run runs the contract on stores that open makes, each one new.
func Run(t *testing.T, open func(t *testing.T) store.Backend) {
	for name, test := range map[string]func(t *testing.T, s store.Backend){
		"captures":             captures,
		"captures expire":      capturesExpire,
		"concurrent captures":  concurrentCaptures,
		"captures have an age": capturesAge,
		"sessions":             sessions,
		"sessions expire":      sessionsExpire,
		"a principal's alone":  principals,
		"no update is lost":    concurrentUpdates,
		"succession":           succession,
		"succession of many":   successionOfMany,
		"succession at an end": successionEnds,
		"superseded for long":  supersededForLong,
		"minted again":         mintedAgain,
		"a context that ended": ended,
		"bounds":               bounds,
		"an end":               closed,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(s.Close)
			test(t, s)
		})
	}
}

// Capture is one of a single header.
func Capture(value string) policy.Capture {
	return policy.Capture{{Name: "x-mcp-api-key", Value: policy.NewValue(value)}}
}

func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func put(t *testing.T, s store.Backend, name string, capture policy.Capture, lifetime time.Duration) {
	t.Helper()
	if err := s.Put(limit(t), name, capture, ticket.Life{Idle: lifetime}); err != nil {
		t.Error(err)
	}
}

// want looks a ticket up; nil for one that is not known.
func want(t *testing.T, s store.Backend, ticket string, capture policy.Capture) {
	t.Helper()
	got, ok, err := s.Get(limit(t), ticket)
	if err != nil {
		t.Error(err)
	}
	if ok != (capture != nil) || len(got) != len(capture) {
		t.Errorf("%s: known %v, with %d headers, want %d", ticket, ok, len(got), len(capture))
		return
	}
	for i, header := range got {
		if header.Name != capture[i].Name || !header.Value.Equal(capture[i].Value) {
			t.Errorf("%s: header %d is another", ticket, i)
		}
	}
}

func captures(t *testing.T, s store.Backend) {
	full := policy.Capture{
		{Name: "x-a", Value: policy.NewValue("1")}, {Name: "x-a", Value: policy.NewValue("2")},
		{Name: "x-bytes", Value: policy.NewValue("\xff\x80 \t\"")}, {Name: "x-empty", Value: policy.NewValue("")},
	}
	want(t, s, "unknown", nil)
	put(t, s, "full", full, time.Minute)
	put(t, s, "empty", policy.Capture{}, time.Minute)
	for range 3 {
		want(t, s, "full", full)
		want(t, s, "empty", policy.Capture{})
		want(t, s, "unknown", nil)
		put(t, s, "full", full, time.Minute)
	}
	put(t, s, "full", full, time.Hour) // another lifetime is no other capture
	want(t, s, "full", full)
}

// capturesAge checks that a capture ends its greatest age after it was last put, however often it is got.
func capturesAge(t *testing.T, s store.Backend) {
	life := ticket.Life{Idle: time.Minute, MaxAge: time.Second}
	keep := func(name string) {
		if err := s.Put(limit(t), name, Capture(name), life); err != nil {
			t.Error(err)
		}
	}
	keep("got")
	keep("put")
	for begun := time.Now(); time.Since(begun) < 1500*time.Millisecond; time.Sleep(50 * time.Millisecond) {
		_, _, _ = s.Get(limit(t), "got")
		keep("put")
	}
	want(t, s, "got", nil)
	want(t, s, "put", Capture("put"))
	keep("got")
	want(t, s, "got", Capture("got"))
}

func capturesExpire(t *testing.T, s store.Backend) {
	put(t, s, "idle", Capture("v"), time.Second)
	put(t, s, "used", Capture("v"), time.Second)
	for range 13 { // longer than the lifetime, in steps that a busy machine keeps well within it
		time.Sleep(100 * time.Millisecond)
		want(t, s, "used", Capture("v"))
	}
	// A store may keep a little longer, to avoid an update for each use.
	wait(t, func() bool { _, ok, _ := s.Get(limit(t), "idle"); return !ok }, 2500*time.Millisecond)
}

// wait polls at long intervals, because each poll is a use.
func wait(t *testing.T, condition func() bool, every time.Duration) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !condition(); time.Sleep(every) {
		if time.Now().After(end) {
			t.Error("it did not happen within 10 s")
			return
		}
	}
}

func concurrentCaptures(t *testing.T, s store.Backend) {
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 200 {
				name := fmt.Sprintf("ticket-%d", (worker*7+i)%40)
				put(t, s, name, Capture(name), time.Minute)
				want(t, s, name, Capture(name))
			}
		})
	}
	group.Wait()
}

// record is what a session of the principal P holds.
func record(value, content string) session.Record {
	return session.Record{Principal: "P", Kept: Capture(value), Content: content, Lifetime: time.Minute}
}

func save(t *testing.T, s store.Backend, id string, idle time.Duration, r session.Record) {
	t.Helper()
	if err := s.Update(limit(t), id, idle, func(session.Record) (session.Record, bool) { return r, true }); err != nil {
		t.Error(err)
	}
}

func find(t *testing.T, s store.Backend, id, principal string) (session.Record, bool) {
	t.Helper()
	got, ok, err := s.Lookup(limit(t), id, principal)
	if err != nil {
		t.Error(err)
	}
	return got, ok
}

func sessions(t *testing.T, s store.Backend) {
	if _, ok := find(t, s, "S", "P"); ok {
		t.Error("an unknown session was found")
	}
	save(t, s, "S", time.Minute, record("v", "T"))
	for _, value := range []string{"v", "newer", "newest"} {
		save(t, s, "S", time.Minute, record(value, "T"))
		for range 3 {
			got, ok := find(t, s, "S", "P")
			if !ok || got.Principal != "P" || got.Content != "T" || len(got.Kept) != 1 || got.Kept[0].Value.Reveal() != value {
				t.Errorf("want %s: known %v, %+v", value, ok, got)
			}
		}
	}
	err := s.Update(limit(t), "S", time.Minute, func(now session.Record) (session.Record, bool) {
		return session.Record{}, now.Principal != "P" // false: nothing is written
	})
	if got, _ := find(t, s, "S", "P"); err != nil || got.Principal != "P" {
		t.Errorf("a change of nothing has changed it: %+v, %v", got, err)
	}
	if err := s.End(limit(t), "S"); err != nil {
		t.Error(err)
	}
	if _, ok := find(t, s, "S", "P"); ok {
		t.Error("it has ended")
	}
	if err := s.End(limit(t), "never there"); err != nil {
		t.Error(err)
	}
}

func sessionsExpire(t *testing.T, s store.Backend) {
	save(t, s, "idle", time.Second, record("v", "T"))
	save(t, s, "used", time.Second, record("v", "T"))
	for range 13 {
		time.Sleep(100 * time.Millisecond)
		if _, ok := find(t, s, "used", "P"); !ok {
			t.Fatal("a session in use has expired")
		}
	}
	wait(t, func() bool { _, ok := find(t, s, "idle", "P"); return !ok }, 2*time.Second)
}

// principals: a lookup by another principal does not keep a session alive.
func principals(t *testing.T, s store.Backend) {
	save(t, s, "S", 300*time.Millisecond, record("v", "T"))
	wait(t, func() bool { _, ok := find(t, s, "S", "another principal"); return !ok }, 90*time.Millisecond)
}

func concurrentUpdates(t *testing.T, s store.Backend) {
	const workers, updates = 4, 10
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for done := 0; done < updates; {
				err := s.Update(limit(t), "S", time.Minute, func(now session.Record) (session.Record, bool) {
					now.Principal += "x"
					return now, true
				})
				if err == nil { // a store may give up where others are always faster
					done++
				}
			}
		})
	}
	group.Wait()
	if got, _ := find(t, s, "S", ""); len(got.Principal) != workers*updates {
		t.Errorf("%d updates are left of %d", len(got.Principal), workers*updates)
	}
}

const grace = 100 * time.Millisecond

func superseded(t *testing.T, s store.Backend, ticket string, grace time.Duration) bool {
	t.Helper()
	is, err := s.Superseded(limit(t), ticket, grace)
	if err != nil {
		t.Error(err)
	}
	return is
}

// supersededSoon checks that a ticket is superseded after the grace period.
func supersededSoon(t *testing.T, s store.Backend, ticket string) {
	t.Helper()
	wait(t, func() bool { return superseded(t, s, ticket, grace) }, 20*time.Millisecond)
}

// neverSuperseded checks that a ticket stays valid for a while.
func neverSuperseded(t *testing.T, s store.Backend, ticket string) {
	t.Helper()
	time.Sleep(3 * grace)
	if superseded(t, s, ticket, grace) {
		t.Errorf("%s is superseded", ticket)
	}
}

func succession(t *testing.T, s store.Backend) {
	neverSuperseded(t, s, "never seen")
	save(t, s, "S", time.Minute, record("v", "A"))
	neverSuperseded(t, s, "A")
	save(t, s, "S", time.Minute, record("v", "B"))
	if superseded(t, s, "A", time.Minute) {
		t.Error("calls in flight have the grace")
	}
	supersededSoon(t, s, "A")
	neverSuperseded(t, s, "B")
	save(t, s, "S", time.Minute, record("v", "A")) // it is back
	neverSuperseded(t, s, "A")
	supersededSoon(t, s, "B")
}

// successionEnds: a session that ends has not replaced its ticket; but if another session has, no session has it then.
func successionEnds(t *testing.T, s store.Backend) {
	save(t, s, "S1", time.Minute, record("v", "A"))
	save(t, s, "S2", time.Minute, record("v", "B"))
	save(t, s, "S3", time.Minute, record("v", "B"))
	for _, id := range []string{"S1", "S2"} {
		if err := s.End(limit(t), id); err != nil {
			t.Error(err)
		}
	}
	save(t, s, "S4", time.Minute, record("v", "B"))
	save(t, s, "S3", time.Minute, record("v", "C"))
	neverSuperseded(t, s, "A")
	neverSuperseded(t, s, "B")
	if err := s.End(limit(t), "S4"); err != nil {
		t.Error(err)
	}
	supersededSoon(t, s, "B")
	neverSuperseded(t, s, "A")
}

// supersededForLong: it is known for longer than the ticket lives, and also while it is asked for.
func supersededForLong(t *testing.T, s store.Backend) {
	short := func(ticket string) session.Record {
		r := record("v", ticket)
		r.Lifetime = 2 * time.Second
		return r
	}
	save(t, s, "S", time.Minute, short("A"))
	save(t, s, "S", time.Minute, short("B"))
	supersededSoon(t, s, "A")
	for end := time.Now().Add(2500 * time.Millisecond); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if !superseded(t, s, "A", grace) {
			t.Fatal("it is valid again")
		}
	}
}

// successionOfMany: all of the sessions that have a ticket must have replaced it.
func successionOfMany(t *testing.T, s store.Backend) {
	for _, id := range []string{"S1", "S2", "S3"} {
		save(t, s, id, time.Minute, record("v", "A"))
	}
	save(t, s, "S1", time.Minute, record("v", "B"))
	save(t, s, "S2", time.Minute, record("v", "B"))
	neverSuperseded(t, s, "A")
	save(t, s, "S3", time.Minute, record("v", "C"))
	supersededSoon(t, s, "A")
}

// mintedAgain: a client without a session uses the same headers.
func mintedAgain(t *testing.T, s store.Backend) {
	save(t, s, "S", time.Minute, record("v", "A"))
	save(t, s, "S", time.Minute, record("v", "B"))
	supersededSoon(t, s, "A")
	s.Issued(limit(t), "A")
	if superseded(t, s, "A", time.Minute) {
		t.Error("it was just given to a client")
	}
	supersededSoon(t, s, "A")
}
