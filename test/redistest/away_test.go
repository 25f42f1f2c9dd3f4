package redistest_test

import (
	"testing"
	"time"

	"bellhop/processor/session"
	"bellhop/processor/store/redis"
	"bellhop/processor/store/storetest"
	"bellhop/processor/ticket"
)

// A server that is killed and comes back empty: what was known goes on all the while, a client's next request teaches
// the server again, and then the other Bellhop knows it too.
func TestAServerThatComesBackEmptyIsRefilled(t *testing.T) {
	server := serve(t, programs["redis"])
	keys := ticket.RandomKeys()
	one := open(t, redis.Options{Address: server.Address(), Keys: keys, Timeout: 500 * time.Millisecond})
	other := open(t, redis.Options{Address: server.Address(), Keys: keys, Timeout: 500 * time.Millisecond})
	put(t, one, "T", "v")
	server.Kill()
	wait(t, func() bool { return one.Ready() != nil && other.Ready() != nil })
	if got := value(one, "T"); got != "v" {
		t.Errorf("what is near goes on: %s", got)
	}
	put(t, one, "T", "v") // no error: it was written once
	if got := value(other, "T"); got != "error" {
		t.Errorf("an unknown value is an error: %s", got)
	}
	if err := one.Put(limit(t), "new", storetest.Capture("n"), ticket.Life{Idle: time.Hour}); err == nil {
		t.Error("a new capture cannot be written")
	}
	if got := value(one, "new"); got != "n" {
		t.Errorf("but this Bellhop knows it: %s", got)
	}
	if err := server.Again(limit(t)); err != nil {
		t.Fatal(err)
	}
	wait(t, func() bool { return one.Ready() == nil && other.Ready() == nil })
	if got := value(other, "T"); got != "unknown" {
		t.Errorf("it came back empty: %s", got)
	}
	put(t, one, "T", "v")
	put(t, one, "new", "n")
	for name, want := range map[string]string{"T": "v", "new": "n"} {
		if got := value(other, name); got != want {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// Known sessions continue while the server is down, and are queried again when it is back.
func TestSessionsContinueWhileTheServerIsDown(t *testing.T) {
	server := serve(t, programs["redis"])
	s := open(t, redis.Options{Address: server.Address(), Keys: ticket.RandomKeys(), Timeout: 500 * time.Millisecond})
	save := func(kept string) error {
		return s.Update(limit(t), "S", time.Hour, func(session.Record) (session.Record, bool) {
			return session.Record{Principal: "P", Kept: storetest.Capture(kept)}, true
		})
	}
	if err := save("v"); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Lookup(limit(t), "S", "P"); err != nil || !ok {
		t.Fatalf("%v, %v", ok, err)
	}
	server.Kill()
	wait(t, func() bool { return s.Ready() != nil })
	if got, ok, err := s.Lookup(limit(t), "S", "P"); err != nil || !ok || got.Kept[0].Value.Reveal() != "v" {
		t.Errorf("got %v, %v", ok, err)
	}
	if _, _, err := s.Lookup(limit(t), "unknown", "P"); err == nil {
		t.Error("the state is unknown")
	}
	if save("newer") == nil {
		t.Error("nothing can be written")
	}
	if err := server.Again(limit(t)); err != nil {
		t.Fatal(err)
	}
	wait(t, func() bool { return s.Ready() == nil })
	if _, ok, err := s.Lookup(limit(t), "S", "P"); err != nil || ok {
		t.Errorf("it came back empty: %v, %v", ok, err)
	}
}

// A value that changed while this Bellhop could not be notified is not used: neither an older value nor a session that
// has ended.
func TestInvalidatedValuesAreNotUsedWhileTheServerIsDown(t *testing.T) {
	server := serve(t, programs["redis"])
	keys := ticket.RandomKeys()
	toServer := lay(t, server.HostPort(), 0)
	here := open(t, redis.Options{Address: toServer.address(), Keys: keys, Timeout: 500 * time.Millisecond})
	there := open(t, redis.Options{Address: server.Address(), Keys: keys, Timeout: 500 * time.Millisecond})
	for _, id := range []string{"changed", "ended"} {
		replace(t, here, id, record("old"))
		wait(t, func() bool { _, ok, err := here.Lookup(limit(t), id, "P"); return ok && err == nil })
	}
	time.Sleep(100 * time.Millisecond) // all values to be tracked have been read
	toServer.shut.Store(true)          // notifications pass, commands do not
	replace(t, there, "changed", record("new"))
	if err := there.End(limit(t), "ended"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // it is notified
	server.Kill()
	for _, id := range []string{"changed", "ended"} {
		if got, ok, err := here.Lookup(limit(t), id, "P"); err == nil {
			t.Errorf("%s: got %v %v", id, ok, got)
		}
	}
}

// A use of a session, here or at another Bellhop, changes nothing of it: it is known when the server goes right after
// it.
func TestASessionInUseContinuesWhileTheServerIsDown(t *testing.T) {
	server := serve(t, programs["redis"])
	keys := ticket.RandomKeys()
	here := open(t, redis.Options{Address: server.Address(), Keys: keys})
	there := open(t, redis.Options{Address: server.Address(), Keys: keys})
	const idle = 5 * time.Second
	if err := here.Update(limit(t), "S", idle, func(session.Record) (session.Record, bool) {
		return record("v"),
			true
	}); err != nil {
		t.Fatal(err)
	}
	uses := func(s *redis.Store) {
		t.Helper()
		if got, ok, err := s.Lookup(limit(t), "S", "P"); err != nil || !ok || got.Kept[0].Value.Reveal() != "v" {
			t.Errorf("got %v %v, %v", got, ok, err)
		}
	}
	uses(here)
	uses(there)
	time.Sleep(700 * time.Millisecond) // more than a tenth of the idle time
	uses(here)                         // so this is written
	time.Sleep(100 * time.Millisecond)
	if got := calls(t, server.Address())["pexpire"]; got == "" {
		t.Error("the session's TTL was not extended")
	}
	server.Kill()
	wait(t, func() bool { return here.Ready() != nil && there.Ready() != nil })
	uses(here)
	uses(there)
}
