package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bellhop/test/mcptest"
)

const (
	key     = "X-Mcp-Api-Key" // with each request
	kept    = "X-Kept"        // only until the session has begun
	clients = 8
	// pause is between two calls of one client: the load is steady and not all that the machine can do.
	pause = 25 * time.Millisecond
	// patience is how long a call may take.
	patience = 10 * time.Second
)

// tally is what became of the calls of one run.
type tally struct {
	mu        sync.Mutex
	good      int
	missing   int // the backend got no key
	forgotten int // the backend got nothing of what is kept for the session
	wrong     int // the backend got a key of another client, or an older one, or what is kept for another session
	failed    int // the client got an error
	took      []time.Duration
	errors    map[string]int
}

// wanted is what a backend should get of a call. Nothing is kept where it is empty.
type wanted struct{ key, kept string }

func (t *tally) count(want wanted, header http.Header, took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	gotKey, gotKept := header.Values(key), header.Values(kept)
	switch {
	case err != nil:
		t.failed++
		t.errors[err.Error()]++
	case len(gotKey) > 0 && !slices.Equal(gotKey, []string{want.key}),
		len(gotKept) > 0 && !slices.Equal(gotKept, []string{want.kept}):
		t.wrong++
	case len(gotKey) == 0:
		t.missing++
	case len(gotKept) == 0 && want.kept != "":
		t.forgotten++
	default:
		t.good++
		t.took = append(t.took, took)
	}
}

// calls is how many there were.
func (t *tally) calls() int { return t.good + t.missing + t.forgotten + t.wrong + t.failed }

// within is the time within which a part of the good calls was answered.
func (t *tally) within(part float64) time.Duration {
	if len(t.took) == 0 {
		return 0
	}
	slices.Sort(t.took)
	return t.took[min(len(t.took)-1, int(part*float64(len(t.took))))]
}

// load calls backends by many clients, of both eras and through both Envoys, until ctx is done. A client that renews
// takes another key every so many calls; 0 keeps its first.
type load struct {
	fleet  *fleet
	renew  int
	tally  atomic.Pointer[tally] // into which calls are counted that end now
	group  sync.WaitGroup
	cancel context.CancelFunc
}

func newTally() *tally { return &tally{errors: map[string]int{}} }

// startLoad connects all clients and lets them call.
func startLoad(ctx context.Context, f *fleet, renew int) (*load, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{fleet: f, renew: renew, cancel: cancel}
	l.tally.Store(newTally())
	var all []*caller
	for i := range clients {
		c := &caller{load: l, number: i}
		c.now.Store(fmt.Sprintf("key-of-%d", i))
		if err := c.connect(ctx); err != nil {
			cancel()
			return nil, err
		}
		all = append(all, c)
	}
	for _, c := range all {
		l.group.Go(func() { c.run(ctx) })
	}
	return l, nil
}

// turn begins another tally and returns the one until now.
func (l *load) turn() *tally { return l.tally.Swap(newTally()) }

// stop ends the load and returns the last tally.
func (l *load) stop() *tally {
	l.cancel()
	l.group.Wait()
	return l.tally.Load()
}

// caller is one client.
type caller struct {
	load   *load
	number int
	client *mcptest.Client

	now   atomic.Value // its key
	begun atomic.Bool  // its session has
}

// era is that of the client: half of them are of each, at each Envoy.
func (c *caller) era() mcptest.Era {
	return []mcptest.Era{mcptest.Legacy, mcptest.Modern}[c.number/2%2]
}

// header is what the client sends.
func (c *caller) header() http.Header {
	header := http.Header{key: {c.key()}, "X-User": {fmt.Sprintf("user-%d", c.number)}}
	if !c.begun.Load() && c.keeps() != "" {
		header.Set(kept, c.keeps())
	}
	return header
}

func (c *caller) key() string {
	text, _ := c.now.Load().(string)
	return text
}

// keeps is what is to be kept for the client's session, if it has one.
func (c *caller) keeps() string {
	if c.load.fleet.mode == sealed || c.era() == mcptest.Modern {
		return ""
	}
	return fmt.Sprintf("kept-of-%d", c.number)
}

// connect begins a session with the key that the client has now.
func (c *caller) connect(ctx context.Context) error {
	c.begun.Store(false)
	defer c.begun.Store(true)
	client, err := mcptest.Connect(
		ctx,
		mcptest.ClientOptions{URL: c.load.fleet.ingress[c.number%2], Era: c.era(), Header: c.header},
	)
	if err == nil {
		c.client = client
	}
	return err
}

func (c *caller) run(ctx context.Context) {
	defer func() { _ = c.client.Close() }()
	for call := 1; ctx.Err() == nil; call++ {
		if c.load.renew > 0 && call%c.load.renew == 0 {
			c.now.Store(fmt.Sprintf("key-of-%d-%d", c.number, call))
		}
		c.call(ctx, []string{"old_whoami", "new_whoami"}[call%2])
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (c *caller) call(ctx context.Context, tool string) {
	want, begun := wanted{c.key(), c.keeps()}, time.Now()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	header, err := c.client.WhoAmI(limited, tool)
	c.load.tally.Load().count(want, header, time.Since(begun), err)
	if err != nil && ctx.Err() == nil { // an error can be the end of a session
		if old := c.client; c.connect(limited) == nil {
			_ = old.Close()
		}
	}
}
