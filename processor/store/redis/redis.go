// Package redis keeps captures and sessions in a Redis or Valkey server, for several Bellhops.
//
// The server learns nothing: values are encrypted, and their names are digests, both under keys of Bellhop's own. Each
// Bellhop caches what it has seen and queries the store only when something changes. A capture never changes, because
// its ticket names its content; its TTL is extended when half of it is over. Sessions and supersession do change: the
// server invalidates the cached values of every Bellhop that has read them (client-side caching).
package redis

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"bellhop/processor/store"
	"bellhop/processor/store/cache"
	"bellhop/processor/ticket"
)

// Options say where the server is. Address, Keys and Bytes are needed.
type Options struct {
	Address string        // redis://, rediss://, valkey://, valkeys:// or unix://; it may hold a password
	Keys    ticket.Keys   // see [Store.Rekey]
	Bytes   uint64        // the limit of the near cache
	Timeout time.Duration // of one call; 0: 100 ms, well below Envoy's message timeout
	OnState func(error)   // called at the start and on each change: nil, or why the server cannot be used; may be nil
}

// Store keeps captures and sessions. Safe for concurrent use.
type Store struct {
	conn         *connection
	keyring      atomic.Pointer[keyring]
	cached       *cache.Cache[cachedCapture] // captures, by their tickets
	sessions     *tracked[cachedSession]
	supersededAt *tracked[time.Time]     // since when content is superseded; zero: it is not
	lastIssued   *cache.Cache[time.Time] // when clients were issued content that is superseded, or may be
	lastOwned    *cache.Cache[time.Time] // when it was last written that a request without a session owns a content
	transitions  chan transition
	refresher    *refresher
	now          func() time.Time

	closing    sync.Mutex // guards starts of background work against Close
	background sync.WaitGroup
	slots      chan struct{} // of that work
	stop       context.CancelFunc
	closed     atomic.Bool
}

const (
	defaultTimeout = 100 * time.Millisecond
	maxBackground  = 256
)

// Open makes a store. It waits a second at most for the server, which may also come up later: see [Store.Ready].
func Open(options Options) (*Store, error) {
	parsed, err := parse(options.Address)
	if err != nil {
		return nil, err
	}
	if options.Timeout == 0 {
		options.Timeout = defaultTimeout
	}
	if options.OnState == nil {
		options.OnState = func(error) {}
	}
	s := &Store{
		now: time.Now, transitions: make(chan transition, maxTransitions), refresher: newRefresher(),
		slots: make(chan struct{}, maxBackground),
		conn:  newConnection(parsed, options.Timeout, options.OnState),
	}
	s.Rekey(options.Keys)
	s.cached = cache.New(options.Bytes/2, weighCapture, nil)
	s.sessions = s.newTrackedSessions(options.Bytes / 8)
	s.supersededAt = s.newTrackedSupersession(options.Bytes / 16 * 5)
	s.lastIssued = cache.New(options.Bytes/32, func(key string, _ time.Time) uint32 { return store.Weigh(key, nil) }, nil)
	s.lastOwned = cache.New(options.Bytes/32, func(key string, _ time.Time) uint32 { return store.Weigh(key, nil) }, nil)
	s.conn.open(s.changed)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.background.Go(func() { s.flushLoop(ctx) })
	s.background.Go(func() { s.refresh(ctx) })
	return s, nil
}

// Rekey replaces the keys, the newest first: that one encrypts and names, and all of them read.
func (s *Store) Rekey(keys ticket.Keys) {
	all := newKeyring(keys)
	s.keyring.Store(&all)
}

func (s *Store) newest() ringKey { return (*s.keyring.Load())[0] }

// keys are the names of a value under each key, the newest first.
func (s *Store) keys(of purpose, name string) []string { return s.keyring.Load().keys(of, name) }

// Ready returns why the server cannot be reached or refuses writes, or nil.
func (s *Store) Ready() error { return s.conn.ready() }

// Usage returns how full the near cache is, by kind of entry.
func (s *Store) Usage() []store.Usage {
	return []store.Usage{
		usage(store.Captures, s.cached.Usage()),
		usage(store.Sessions, s.sessions.values.Usage()),
		usage(store.Supersession, s.supersededAt.values.Usage(), s.lastIssued.Usage(), s.lastOwned.Usage()),
	}
}

func usage(kind store.Kind, parts ...cache.Usage) store.Usage {
	sum := store.Usage{Kind: kind}
	for _, part := range parts {
		sum.Entries += part.Entries
		sum.Bytes += part.Bytes
		sum.Limit += part.Limit
		sum.Evictions += part.Evictions
	}
	return sum
}

// Commands counts commands: those that succeeded, those that failed, and those that were not sent because the server
// could not be reached.
func (s *Store) Commands() (good, failed, refused uint64) {
	c := &s.conn.commands
	return c.good.Load(), c.failed.Load(), c.refused.Load()
}

// Close closes the connection. Every later call returns an error.
func (s *Store) Close() {
	s.closing.Lock()
	before := s.closed.Swap(true)
	s.closing.Unlock()
	if before {
		return
	}
	s.stop()
	s.background.Wait()
	s.conn.close()
	s.cached.Clear()
	s.sessions.values.Clear()
	s.supersededAt.values.Clear()
	s.lastIssued.Clear()
	s.lastOwned.Clear()
}

// later runs a command in the background, unless too many are running. Close waits for them.
func (s *Store) later(do command) (begun bool) {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.closed.Load() || s.conn.down() != nil {
		return false
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return false
	}
	s.background.Go(func() {
		defer func() { <-s.slots }()
		_ = s.conn.doInBackground(context.Background(), do)
	})
	return true
}

var errClosed = fmt.Errorf("%w: it is closed", errDown)
