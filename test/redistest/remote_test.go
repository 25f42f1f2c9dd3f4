package redistest_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valkey-io/valkey-go"
	"go.uber.org/goleak"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/store"
	"bellhop/processor/store/redis"
	"bellhop/processor/store/storetest"
	"bellhop/processor/ticket"
	"bellhop/test/redistest"
)

// programs is set by TestMain before any test runs and never again.
var programs map[string]string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "bellhop-redis")
	if err == nil {
		err = trust(folder)
	}
	if err == nil {
		programs, err = redistest.Programs(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	// The client forgets, a second after the last use, how long to wait before it asks a cluster for its nodes again.
	goleak.VerifyTestMain(
		m, goleak.Cleanup(func(code int) { _ = os.RemoveAll(folder); os.Exit(code) }),
		goleak.IgnoreAnyFunction("github.com/valkey-io/valkey-go.(*call).DelayDo.func1"),
	)
}

func limit(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// serve starts a server.
func serve(t testing.TB, program string, args ...string) *redistest.Server {
	t.Helper()
	server, err := redistest.Start(limit(t), program, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Kill)
	return server
}

// open opens a store and waits until its server is there.
func open(t testing.TB, options redis.Options) *redis.Store {
	t.Helper()
	if options.Bytes == 0 {
		options.Bytes = 4 << 20
	}
	if options.Timeout == 0 {
		options.Timeout = 2 * time.Second // other tests run beside these
	}
	s, err := redis.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	wait(t, func() bool { return s.Ready() == nil })
	return s
}

func wait(t testing.TB, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen within 10 s")
		}
	}
}

func value(s *redis.Store, name string) string {
	capture, ok, err := s.Get(context.Background(), name)
	switch {
	case err != nil:
		return "error"
	case !ok:
		return "unknown"
	default:
		return capture[0].Value.Reveal()
	}
}

// record is what a session of the principal P has whose value is kept, and has made a ticket of that name.
func record(kept string) session.Record {
	return session.Record{Principal: "P", Kept: storetest.Capture(kept), Content: kept, Lifetime: time.Hour}
}

// replace makes another record of a session.
func replace(t testing.TB, s *redis.Store, id string, next session.Record) {
	t.Helper()
	if err := s.Update(limit(t), id, time.Hour, func(session.Record) (session.Record, bool) {
		return next,
			true
	}); err != nil {
		t.Fatalf("%s: %v", next.Content, err)
	}
}

// superseded asks whether a ticket is superseded; an error counts as no.
func superseded(s *redis.Store, name string, grace time.Duration) bool {
	is, err := s.Superseded(context.Background(), name, grace)
	return is && err == nil
}

func put(t testing.TB, s *redis.Store, name, value string) {
	t.Helper()
	if err := s.Put(context.Background(), name, storetest.Capture(value), ticket.Life{Idle: time.Hour}); err != nil {
		t.Fatal(err)
	}
}

// least are the rules of the README for a user that may do no more than it has to.
func least(t *testing.T) []string {
	t.Helper()
	readme, err := os.ReadFile("../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(readme), "\nuser bellhop ")
	line, _, end := strings.Cut(rest, "\n")
	if !ok || !end {
		t.Fatal("the README has no line of an ACL file")
	}
	return append(
		[]string{"--user", "default", "off", "--user", "bellhop"},
		strings.Fields(strings.Replace(line, ">PASSWORD", ">canary", 1))...)
}

func TestAServerKeepsTheContract(t *testing.T) {
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			server := serve(t, program, least(t)...)
			storetest.Run(t, func(t *testing.T) store.Backend {
				keys := ticket.RandomKeys() // other keys: other names
				return open(t, redis.Options{Address: "redis://bellhop:canary@" + server.HostPort(), Keys: keys})
			})
		})
	}
}

// The same contract holds for two Bellhops: what one writes the other reads.
func TestTwoBellhopsKeepTheContractTogether(t *testing.T) {
	server := serve(t, programs["redis"])
	storetest.Run(t, func(t *testing.T) store.Backend {
		keys := ticket.RandomKeys()
		one := open(t, redis.Options{Address: server.Address(), Keys: keys})
		other := open(t, redis.Options{Address: server.Address(), Keys: keys})
		return pair{crossed{one, other}, turns{all: []*redis.Store{one, other}}.begin()}
	})
}

// pair is two Bellhops as one store.
type pair struct {
	crossed
	turns
}

func (p pair) Usage() []store.Usage { return slices.Concat(p.in.Usage(), p.out.Usage()) }

func (p pair) Close() {
	p.in.Close()
	p.out.Close()
}

// crossed writes at one Bellhop and reads at another.
type crossed struct{ in, out *redis.Store }

func (c crossed) Put(ctx context.Context, name string, capture policy.Capture, life ticket.Life) error {
	return c.in.Put(ctx, name, capture, life)
}

func (c crossed) Get(ctx context.Context, name string) (policy.Capture, bool, error) {
	return c.out.Get(ctx, name)
}
func (c crossed) Issued(ctx context.Context, name string) { c.in.Issued(ctx, name) }

func (c crossed) Owned(ctx context.Context, name string, life time.Duration) {
	c.in.Owned(ctx, name, life)
}
func (c crossed) Superseded(ctx context.Context, name string, grace time.Duration) (bool, error) {
	return c.out.Superseded(ctx, name, grace)
}

// turns uses one Bellhop after the other. The other is notified of a change a moment later.
type turns struct {
	all  []*redis.Store
	next chan int
}

func (t turns) begin() turns {
	t.next = make(chan int, 1)
	t.next <- 0
	return t
}

func (t turns) turn() *redis.Store {
	i := <-t.next
	t.next <- i + 1
	time.Sleep(20 * time.Millisecond)
	return t.all[i%len(t.all)]
}

func (t turns) Lookup(ctx context.Context, id, principal string) (session.Record, bool, error) {
	return t.turn().Lookup(ctx, id, principal)
}

func (t turns) Update(
	ctx context.Context,
	id string,
	idle time.Duration,
	change func(session.Record) (session.Record, bool),
) error {
	return t.turn().Update(ctx, id, idle, change)
}
func (t turns) End(ctx context.Context, id string) error { return t.turn().End(ctx, id) }

// connect speaks with a server past the store.
func connect(t *testing.T, address string) valkey.Client {
	t.Helper()
	options, err := valkey.ParseURL(address)
	if err != nil {
		t.Fatal(err)
	}
	client, err := valkey.NewClient(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// calls counts the commands that a server has had of clients, by name, without those that keep connections alive.
func calls(t *testing.T, address string) map[string]string {
	t.Helper()
	client := connect(t, address)
	text, err := client.Do(limit(t), client.B().Info().Section("commandstats").Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(text) {
		name, counts, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "cmdstat_"), ":")
		count, _, _ := strings.Cut(counts, ",")
		if ok &&
			!slices.Contains(
				[]string{
					"ping",
					"info",
					"hello",
					"client",
					"client|tracking",
					"client|setinfo",
					"client|setname",
					"command",
					"cluster",
					"cluster|shards",
					"cluster|slots",
				},
				name,
			) {
			found[name] = count
		}
	}
	return found
}

// A store has one connection: over two, a reply could arrive after the notice that it is out of date.
func TestAStoreHasOneConnection(t *testing.T) {
	server := serve(t, programs["redis"])
	s := open(t, redis.Options{Address: server.Address(), Keys: ticket.RandomKeys()})
	for i := range 20 {
		put(t, s, "T"+strconv.Itoa(i), "v")
	}
	client := connect(t, server.Address())
	list, err := client.Do(limit(t), client.B().ClientList().Build()).ToString()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(list, "name=bellhop "); got != 1 {
		t.Errorf("%d connections, want 1:\n%s", got, list)
	}
}

// Invariant 8: while nothing changes the server is asked for nothing, at ingress and egress, with sessions and without.
func TestNoCommandWhileNothingChanges(t *testing.T) {
	server := serve(t, programs["redis"])
	keys := ticket.RandomKeys()
	one := open(t, redis.Options{Address: server.Address(), Keys: keys})
	other := open(t, redis.Options{Address: server.Address(), Keys: keys})
	request := func() { // one call of a session: ingress at one, egress at both
		put(t, one, "T", "v")
		if _, ok, err := one.Lookup(context.Background(), "S", "P"); err != nil || !ok {
			t.Errorf("session: %v, %v", ok, err)
		}
		one.Issued(limit(t), "T")
		for _, s := range []*redis.Store{one, other} {
			if got := value(s, "T"); got != "v" || superseded(s, "T", time.Second) {
				t.Errorf("got %s", got)
			}
		}
	}
	record := session.Record{Principal: "P", Content: "C"}
	if err := one.Update(limit(t), "S", time.Hour, func(session.Record) (session.Record, bool) {
		return record,
			true
	}); err != nil {
		t.Fatal(err)
	}
	for range 5 { // warm
		request()
		time.Sleep(50 * time.Millisecond)
	}
	before := calls(t, server.Address())
	for range 1000 {
		request()
	}
	if after := calls(t, server.Address()); !maps.Equal(before, after) {
		t.Errorf("1000 calls have asked the server:\nbefore %v\nafter  %v", before, after)
	}
}

// A store starts whether its server is there or not.
func TestAServerMayStartLater(t *testing.T) {
	server := serve(t, programs["redis"])
	server.Kill()
	var mu sync.Mutex
	var reported []error
	s, err := redis.Open(
		redis.Options{Address: server.Address(), Keys: ticket.RandomKeys(), Bytes: 1 << 20, OnState: func(err error) {
			mu.Lock()
			defer mu.Unlock()
			reported = append(reported, err)
		}},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	begun := time.Now()
	if got := value(s, "T"); got != "error" || s.Ready() == nil || time.Since(begun) > time.Second {
		t.Errorf("got %s after %s, ready: %v", got, time.Since(begun), s.Ready())
	}
	if err := server.Again(limit(t)); err != nil {
		t.Fatal(err)
	}
	wait(t, func() bool { return s.Ready() == nil })
	put(t, s, "T", "v")
	mu.Lock()
	defer mu.Unlock()
	if len(reported) == 0 || reported[len(reported)-1] != nil {
		t.Errorf("it was not reported: %v", reported)
	}
}
