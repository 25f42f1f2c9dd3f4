package memory_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"bellhop/processor/session"
	"bellhop/processor/store/memory"
)

func superseded(sessions *memory.Store, ticket string) bool {
	is, err := sessions.Superseded(context.Background(), ticket, 0)
	return is && err == nil
}

func save(t *testing.T, sessions *memory.Store, id, ticket string) {
	t.Helper()
	record := session.Record{Principal: "P-" + id, Kept: capture(id), Content: ticket}
	if err := sessions.Update(context.Background(), id, time.Hour, func(session.Record) (session.Record,
		bool) {
		return record, true
	}); err != nil {
		t.Fatal(err)
	}
}

func TestSessionsExistUntilTheyEnd(t *testing.T) {
	sessions := open(t, 1<<20)
	save(t, sessions, "S", "T")
	got, ok, err := sessions.Lookup(context.Background(), "S", "P-S")
	if err != nil || !ok || got.Principal != "P-S" || got.Content != "T" || got.Kept[0].Value.Reveal() != "S" {
		t.Errorf("got %v %v, %v", got, ok, err)
	}
	if err := sessions.End(context.Background(), "S"); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := sessions.Lookup(context.Background(), "S", "P-S"); ok {
		t.Error("it has ended")
	}
}

// A session that ends has not replaced its ticket: calls that it left behind may still use it.
func TestASessionThatEndsSupersedesNothing(t *testing.T) {
	sessions := open(t, 1<<20)
	save(t, sessions, "S", "T")
	_ = sessions.End(context.Background(), "S")
	if superseded(sessions, "T") {
		t.Error("superseded by nothing")
	}
	save(t, sessions, "S2", "U")
	save(t, sessions, "S2", "V")
	time.Sleep(time.Millisecond)
	if !superseded(sessions, "U") || superseded(sessions, "V") || superseded(sessions, "never seen") {
		t.Error("U has been replaced by V, and nothing else has")
	}
}

// Invariant 8: a client that opens a million sessions stays within the bound, and live sessions keep working.
func TestAMillionSessionsStayWithinTheBound(t *testing.T) {
	const limit = 24 << 20
	sessions := open(t, limit)
	live := make([]string, 20)
	for i := range live {
		live[i] = fmt.Sprintf("live-%d", i)
		save(t, sessions, live[i], "T-"+live[i])
	}
	flood := 1_000_000
	if testing.Short() {
		flood = 100_000
	}
	for i := range flood {
		save(t, sessions, fmt.Sprintf("flood-%d", i), fmt.Sprintf("T-%d", i))
		if i%100 == 0 {
			use := live[i/100%len(live)]
			if got, ok, _ := sessions.Lookup(context.Background(), use, "P-"+use); !ok || got.Principal != "P-"+use {
				t.Fatalf("after %d sessions a live one is lost", i)
			}
		}
		if i%50_000 == 0 {
			if usage := sum(sessions); usage.Bytes > limit {
				t.Fatalf("%d bytes are above the limit of %d", usage.Bytes, limit)
			}
		}
	}
}

// Sessions that were not used yet survive those that a client makes up by the thousand, also where the store is full.
func TestNewSessionsSurviveAFloodOfInventedOnes(t *testing.T) {
	sessions := open(t, 24<<20)
	for i := range 30_000 { // full of sessions in use
		id := fmt.Sprintf("used-%d", i)
		save(t, sessions, id, "T-"+id)
		_, _, _ = sessions.Lookup(context.Background(), id, "P-"+id)
	}
	for i := range 20 {
		save(t, sessions, fmt.Sprintf("new-%d", i), "T")
	}
	for i := range 1000 {
		save(t, sessions, fmt.Sprintf("made-up-%d", i), "T")
	}
	for i := range 20 {
		id := fmt.Sprintf("new-%d", i)
		if _, ok, _ := sessions.Lookup(context.Background(), id, "P-"+id); !ok {
			t.Errorf("%s was lost before its first use", id)
		}
	}
}
