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
	key     = "X-Mcp-Api-Key"
	clients = 8
	// pause is between two calls of one client: the load is steady and not all that the machine can do.
	pause = 25 * time.Millisecond
	// patience is how long a call may take.
	patience = 10 * time.Second
)

// tally is what became of the calls of one run.
type tally struct {
	mu      sync.Mutex
	good    int
	missing int // the backend got no key
	wrong   int // the backend got another client's key, or an older one
	failed  int // the client got an error
	took    []time.Duration
	errors  map[string]int
}

func (t *tally) count(want string, header http.Header, took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch got := header.Values(key); {
	case err != nil:
		t.failed++
		t.errors[err.Error()]++
	case len(got) == 0:
		t.missing++
	case !slices.Equal(got, []string{want}):
		t.wrong++
	default:
		t.good++
		t.took = append(t.took, took)
	}
}

// calls is how many there were.
func (t *tally) calls() int { return t.good + t.missing + t.wrong + t.failed }

// within is the time within which a part of the good calls was answered.
func (t *tally) within(part float64) time.Duration {
	if len(t.took) == 0 {
		return 0
	}
	slices.Sort(t.took)
	return t.took[min(len(t.took)-1, int(part*float64(len(t.took))))]
}

// load calls backends by many clients, of both eras and through both Envoys, until ctx is done. A client that renews takes
// another key every so many calls; 0 keeps its first.
type load struct {
	fleet  *fleet
	renew  int
	tally  atomic.Pointer[tally] // into which calls are counted that begin now
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
	now    atomic.Value // its key
}

func (c *caller) connect(ctx context.Context) error {
	c.now.Store(fmt.Sprintf("key-of-%d", c.number))
	client, err := mcptest.Connect(ctx, mcptest.ClientOptions{
		URL: c.load.fleet.ingress[c.number%2], Era: []mcptest.Era{mcptest.Legacy, mcptest.Modern}[c.number/2%2],
		Header: func() http.Header { return http.Header{key: {c.now.Load().(string)}} }, //nolint:forcetypeassert // only texts are stored
	})
	c.client = client
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
	counts, want, begun := c.load.tally.Load(), c.now.Load().(string), time.Now() //nolint:forcetypeassert // only texts are stored
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	header, err := c.client.WhoAmI(limited, tool)
	counts.count(want, header, time.Since(begun), err)
	if err != nil && ctx.Err() == nil { // an error can be the end of a session
		old, key := c.client, want
		if c.connect(limited) != nil {
			c.client = old
		} else {
			_ = old.Close()
		}
		c.now.Store(key)
	}
}
