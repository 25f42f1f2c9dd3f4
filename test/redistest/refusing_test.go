package redistest_test

import (
	"context"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/processor/session"
	"bellhop/processor/store/redis"
	"bellhop/processor/store/storetest"
	"bellhop/processor/ticket"
	"bellhop/test/redistest"
)

// alone speaks with one server, whatever it is a part of.
func alone(t *testing.T, server *redistest.Server) valkey.Client {
	t.Helper()
	client, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{server.HostPort()}, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// say sends a command to a server past the store.
func say(t *testing.T, server *redistest.Server, words ...string) {
	t.Helper()
	client := alone(t, server)
	if err := client.Do(limit(t), client.B().Arbitrary(words...).Build()).Error(); err != nil {
		t.Fatal(err)
	}
}

// A full server refuses new entries, which is reported. When it has room again, they are written.
func TestAFullServerIsRetried(t *testing.T) {
	server := serve(t, programs["redis"])
	keys := ticket.RandomKeys()
	here := open(t, redis.Options{Address: server.Address(), Keys: keys})
	there := open(t, redis.Options{Address: server.Address(), Keys: keys})
	put(t, here, "before", "b")
	say(t, server, "CONFIG", "SET", "maxmemory", "1")
	if err := here.Put(limit(t), "T", storetest.Capture("v"), ticket.Life{Idle: time.Hour}); err == nil {
		t.Error("it was written without room")
	}
	if got := value(here, "T"); got != "v" { // as with --on-store-error continue
		t.Errorf("this Bellhop knows it: %s", got)
	}
	time.Sleep(100 * time.Millisecond)
	if err := here.Put(limit(t), "T", storetest.Capture("v"), ticket.Life{Idle: time.Hour}); err == nil {
		t.Error("it was taken for written")
	}
	if here.Ready() == nil {
		t.Error("it is not reported")
	}
	if got := value(there, "before"); got != "b" {
		t.Errorf("what is there can be read: %s", got)
	}
	say(t, server, "CONFIG", "SET", "maxmemory", "0")
	put(t, here, "T", "v")
	if got := value(there, "T"); got != "v" {
		t.Errorf("got %s", got)
	}
	wait(t, func() bool { return here.Ready() == nil })
}

// A server that has become a replica takes nothing any more, and is not where it was.
func TestAReadOnlyReplicaIsNotUsed(t *testing.T) {
	server := serve(t, programs["redis"], "--dir", t.TempDir())
	other := serve(t, programs["redis"], "--dir", t.TempDir())
	s := open(t, redis.Options{Address: server.Address(), Keys: ticket.RandomKeys()})
	put(t, s, "T", "v")
	say(t, server, "REPLICAOF", "127.0.0.1", strconv.Itoa(other.Port))
	if err := s.Put(limit(t), "U", storetest.Capture("u"), ticket.Life{Idle: time.Hour}); err == nil {
		t.Error("something was written to a replica")
	}
	for range 3 {
		if s.Ready() == nil {
			t.Fatal("a replica is used for writes")
		}
		time.Sleep(600 * time.Millisecond)
	}
	if got := value(s, "T"); got != "v" {
		t.Errorf("what is near goes on: %s", got)
	}
	say(t, server, "REPLICAOF", "NO", "ONE")
	wait(t, func() bool { return s.Ready() == nil })
	put(t, s, "U", "u")
}

// usual opens a store with the time that calls usually have.
func usual(t *testing.T, address string, keys ticket.Keys) *redis.Store {
	t.Helper()
	s, err := redis.Open(redis.Options{Address: address, Keys: keys, Bytes: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// quickly does something that must not take long.
func quickly(t *testing.T, what string, do func() error) {
	t.Helper()
	begun := time.Now()
	err := do()
	if took := time.Since(begun); took > 80*time.Millisecond || err != nil {
		t.Errorf("%s took %s: %v", what, took, err)
	}
}

// Clients that are known do not wait for a server that is slow, or says nothing, also when half of a lifetime is over.
func TestKnownClientsDoNotWait(t *testing.T) {
	for _, fault := range []string{"slow", "silent"} {
		t.Run(fault, func(t *testing.T) {
			server := serve(t, programs["redis"])
			toServer := lay(t, server.HostPort(), 0)
			s := usual(t, toServer.address(), threeKeys())
			wait(t, func() bool { return s.Ready() == nil })
			const lifetime = time.Second
			known := func() {
				t.Helper()
				quickly(t, "Put", func() error {
					return s.Put(context.Background(), "T", storetest.Capture("v"), ticket.Life{Idle: lifetime})
				})
				quickly(t, "Get", func() error { _, _, err := s.Get(context.Background(), "T"); return err })
				quickly(t, "Find", func() error { _, _, err := s.Lookup(context.Background(), "S", "P"); return err })
				quickly(t, "Superseded", func() error { _, err := s.Superseded(context.Background(), "T", 0); return err })
				quickly(t, "Minted", func() error { s.Issued(context.Background(), "T"); return nil })
			}
			if err := s.Put(limit(t), "T", storetest.Capture("v"), ticket.Life{Idle: lifetime}); err != nil {
				t.Fatal(err)
			}
			replace(t, s, "S", session.Record{Principal: "P", Kept: storetest.Capture("v"), Content: "T", Lifetime: time.Hour})
			for range 3 { // warm
				_, _, _ = s.Lookup(limit(t), "S", "P")
				_ = superseded(s, "T", 0)
				time.Sleep(50 * time.Millisecond)
			}
			if fault == "slow" {
				toServer.delay.Store(int64(95 * time.Millisecond))
			} else {
				server.Signal(t, syscall.SIGSTOP)
				t.Cleanup(func() { server.Signal(t, syscall.SIGCONT) })
			}
			for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				known()
			}
			if s.Ready() == nil {
				t.Error("a server that is too slow for a request is as good as away")
			}
			begun := time.Now()
			if s.Put(limit(t), "new", storetest.Capture("n"), ticket.Life{Idle: lifetime}) == nil ||
				time.Since(begun) > 50*time.Millisecond {
				t.Errorf("what is new waited %s", time.Since(begun))
			}
		})
	}
}

// A server that accepts and says nothing holds up no start.
func TestAnUnresponsiveServerDelaysNoStart(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	begun := time.Now()
	s := usual(t, "redis://"+listener.Addr().String()+"?addr="+listener.Addr().String(), ticket.RandomKeys())
	if took := time.Since(begun); took > 1500*time.Millisecond || s.Ready() == nil {
		t.Errorf("it took %s; ready: %v", took, s.Ready())
	}
}
