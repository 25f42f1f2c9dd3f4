package redistest_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"bellhop/processor/session"
	"bellhop/processor/store/redis"
	"bellhop/processor/store/storetest"
	"bellhop/processor/ticket"
)

// Invariant 6: the server learns neither names nor values, and what is changed there is not believed.
func TestTheServerLearnsNothing(t *testing.T) {
	server := serve(t, programs["redis"])
	keys := ticket.RandomKeys()
	s := open(t, redis.Options{Address: server.Address(), Keys: keys})
	put(t, s, "ticket-name", "header-value")
	for _, name := range []string{"older-name", "ticket-name"} {
		replace(t, s, "session-name", session.Record{
			Principal: "principal-name", Kept: storetest.Capture("header-value"), Content: name, Lifetime: time.Hour,
		})
	}
	wait(t, func() bool { return superseded(s, "older-name", 0) })
	time.Sleep(1100 * time.Millisecond) // it was replaced a second ago, so that minting is written
	s.Issued(limit(t), "older-name")
	client := connect(t, server.Address())
	names, err := client.Do(limit(t), client.B().Keys().Pattern("*").Build()).AsStrSlice()
	if err != nil || len(names) != 5 {
		t.Fatalf("%d keys, %v", len(names), err)
	}
	for _, name := range names {
		text, err := client.Do(limit(t), client.B().Dump().Key(name).Build()).ToString()
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"ticket-name", "older-name", "session-name", "principal-name", "header-value",
			"x-mcp-api-key"} {
			if strings.Contains(name+text, secret) {
				t.Errorf("%s can be read at the server", secret)
			}
		}
		if left, err := client.Do(limit(t), client.B().Pttl().Key(name).Build()).AsInt64(); err != nil || left <= 0 ||
			left > (2*time.Hour-time.Second).Milliseconds() {
			t.Errorf("%s lives for %d ms, %v", name, left, err)
		}
		if !strings.Contains(name, "capture") {
			continue
		}
		if err := client.Do(limit(t), client.B().Append().Key(name).Value("x").Build()).Error(); err != nil {
			t.Fatal(err)
		}
	}
	if got := value(open(t, redis.Options{Address: server.Address(), Keys: keys}), "ticket-name"); got != "error" {
		t.Errorf("a value that was changed is believed: %s", got)
	}
}

// A new key writes; what older ones have written is read until they are gone.
func TestKeysOfAStoreRotate(t *testing.T) {
	server := serve(t, programs["redis"])
	older := ticket.RandomKeys()
	one := open(t, redis.Options{Address: server.Address(), Keys: older})
	put(t, one, "T", "v")
	both := append(ticket.RandomKeys(), older...)
	other := open(t, redis.Options{Address: server.Address(), Keys: both})
	if got := value(other, "T"); got != "v" {
		t.Errorf("an old key that is there reads: %s", got)
	}
	if got := value(open(t, redis.Options{Address: server.Address(), Keys: both[:1]}), "T"); got != "unknown" {
		t.Errorf("an old key that is gone reads nothing: %s", got)
	}
	one.Rekey(both)
	put(t, one, "U", "u")
	if got := value(other, "U"); got != "u" {
		t.Errorf("got %s", got)
	}
}

func TestAPasswordIsNeeded(t *testing.T) {
	server := serve(
		t, programs["redis"], "--user", "bellhop", "on", ">canary", "~bellhop:*", "+@all", "--user", "default", "off",
	)
	s := open(t, redis.Options{Address: "redis://bellhop:canary@" + server.HostPort(), Keys: ticket.RandomKeys()})
	put(t, s, "T", "v")
	var mu sync.Mutex
	var reported error
	refused, err := redis.Open(
		redis.Options{
			Address: "redis://bellhop:wrong@" + server.HostPort(),
			Keys:    ticket.RandomKeys(),
			Bytes:   1 << 20,
			OnState: func(err error) {
				mu.Lock()
				defer mu.Unlock()
				reported = err
			},
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(refused.Close)
	if refused.Ready() == nil {
		t.Error("a wrong password opens it")
	}
	mu.Lock()
	defer mu.Unlock()
	if reported == nil || !strings.Contains(reported.Error(), "WRONGPASS") ||
		!strings.Contains(refused.Ready().Error(), "WRONGPASS") {
		t.Errorf("reported %v, ready %v; want why", reported, refused.Ready())
	}
	if reported != nil && (strings.Contains(reported.Error(), "wrong") || strings.Contains(reported.Error(), "canary")) {
		t.Errorf("an error shows a password: %v", reported)
	}
}

func TestAnInvalidAddress(t *testing.T) {
	for _, address := range []string{"http://canary@host", "redis://user:canary@host:1/x", "redis://user:canary@%zz",
		"canary"} {
		_, err := redis.Open(redis.Options{Address: address, Keys: ticket.RandomKeys(), Bytes: 1 << 20})
		if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "redis://") {
			t.Errorf("%v", err)
		}
	}
}
