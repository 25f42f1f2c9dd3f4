// Package redis keeps captures and sessions in a Redis or Valkey server, for several Bellhops.
//
// The server learns nothing: what it keeps is encrypted, and the names under which it keeps it are digests, both under
// keys of Bellhop's own. It is asked only for what is new or has changed. A capture never changes, since its ticket names its
// content, so each Bellhop has those that it has met beside it, and tells the server that they are in use when half of their
// lifetime is over. Sessions, and which ticket has replaced another, change, and the server tells everybody who has asked
// for them (client-side caching).
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
	Bytes   uint64        // the most that is kept beside the process
	Timeout time.Duration // of one call, whatever it takes; 0: 100 ms, well below Envoy's message timeout
	OnState func(error)   // called at the start and on each change: nil, or why the server cannot be used; may be nil
}

// Store keeps captures and sessions. Safe for concurrent use.
type Store struct {
	link      *link
	vaults    atomic.Pointer[vaults]
	near      *cache.Cache[nearby] // captures, by their tickets
	sessions  *told[seen]
	marks     *told[time.Time]        // since when tickets are replaced; zero: they are not
	minted    *cache.Cache[time.Time] // when clients got tickets that are replaced, or may be
	steps     chan step
	refresher *refresher
	now       func() time.Time

	closing    sync.Mutex // guards the beginning of work in the background against its end
	background sync.WaitGroup
	slots      chan struct{} // of that work
	stop       context.CancelFunc
	closed     atomic.Bool
}

const (
	defaultTimeout = 100 * time.Millisecond
	maxBackground  = 256
)

// Open makes a store. It waits a second at most for the server, which may also come later: see [Store.Ready].
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
		now: time.Now, steps: make(chan step, maxSteps), refresher: newRefresher(), slots: make(chan struct{}, maxBackground),
		link: newLink(parsed, options.Timeout, options.OnState),
	}
	s.Rekey(options.Keys)
	if s.near, err = cache.New(options.Bytes/2, func(key string, n nearby) uint32 { return store.Weigh(key, n.capture) }, nil); err != nil {
		return nil, err
	}
	if s.sessions, err = s.toldOfSessions(options.Bytes / 8); err != nil {
		return nil, err
	}
	if s.marks, err = s.toldOfMarks(options.Bytes / 16 * 5); err != nil {
		return nil, err
	}
	if s.minted, err = cache.New(options.Bytes/16, func(key string, _ time.Time) uint32 { return store.Weigh(key, nil) }, nil); err != nil {
		return nil, err
	}
	s.link.open(s.changed)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.background.Go(func() { s.walk(ctx) })
	s.background.Go(func() { s.refresh(ctx) })
	return s, nil
}

// Rekey takes other keys, the newest first: that one encrypts and names, and all of them read.
func (s *Store) Rekey(keys ticket.Keys) {
	all := newVaults(keys)
	s.vaults.Store(&all)
}

func (s *Store) newest() vault { return (*s.vaults.Load())[0] }

// keys are the names of something under each key, the newest first.
func (s *Store) keys(of purpose, name string) []string { return s.vaults.Load().keys(of, name) }

// Ready tells why the server cannot be asked or told, or nothing.
func (s *Store) Ready() error { return s.link.ready() }

// Usage returns how full the near cache is, by kind of entry.
func (s *Store) Usage() []store.Usage {
	return []store.Usage{
		usage(store.Captures, s.near.Usage()),
		usage(store.Sessions, s.sessions.words.Usage()),
		usage(store.Supersession, s.marks.words.Usage(), s.minted.Usage()),
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

// Commands counts the calls of the server: those that went well, those that failed, and those that were not made because
// it could not be reached.
func (s *Store) Commands() (good, failed, refused uint64) {
	c := &s.link.commands
	return c.good.Load(), c.failed.Load(), c.refused.Load()
}

// Close ends the connection. Whoever uses the store afterwards gets an error.
func (s *Store) Close() {
	s.closing.Lock()
	before := s.closed.Swap(true)
	s.closing.Unlock()
	if before {
		return
	}
	s.stop()
	s.background.Wait()
	s.link.close()
	s.near.Clear()
	s.sessions.words.Clear()
	s.marks.words.Clear()
	s.minted.Clear()
}

// later does what nobody waits for, unless too much of that is under way. Its end is waited for when the store is closed.
func (s *Store) later(speak speech) (begun bool) {
	s.closing.Lock()
	defer s.closing.Unlock()
	if s.closed.Load() || s.link.away() != nil {
		return false
	}
	select {
	case s.slots <- struct{}{}:
	default:
		return false
	}
	s.background.Go(func() {
		defer func() { <-s.slots }()
		_ = s.link.patiently(context.Background(), speak)
	})
	return true
}

var errClosed = fmt.Errorf("%w: it is closed", errAway)
