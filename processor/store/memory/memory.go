// Package memory keeps captures and sessions in this process, bounded in bytes.
package memory

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/store"
	"bellhop/processor/store/cache"
	"bellhop/processor/ticket"
)

// Store implements [store.Backend] in memory. Of more entries than fit, those that were not used for longest are
// evicted. Safe for concurrent use.
type Store struct {
	captures *cache.Cache[kept]
	sessions *cache.Cache[session.Record]
	holders  *cache.Cache[*holders]

	updates sync.Mutex // one update of a session at a time: they are rare, because only changes cause one
	closed  atomic.Bool
	now     func() time.Time
}

// kept is a capture, and when a client last sent it.
type kept struct {
	capture policy.Capture
	life    ticket.Life
	put     time.Time
}

func weighCapture(key string, k kept) uint32 {
	const times = 40 // beside the capture
	return store.Weigh(key, k.capture) + times
}

// The share of each kind of entry in the store's limit, in sixteenths. The shares are fixed, so that no kind can evict
// another.
const (
	captureShare      = 12
	sessionShare      = 3
	supersessionShare = 1
	wholeShare        = captureShare + sessionShare + supersessionShare
)

// New makes a store of at most limit bytes in all.
func New(limit uint64) *Store {
	s := &Store{now: time.Now}
	s.captures = cache.New(part(limit, captureShare), weighCapture, nil)
	s.sessions = cache.New(part(limit, sessionShare), weighSession, s.onEvict)
	s.holders = cache.New(part(limit, supersessionShare), weighHolders, nil)
	return s
}

func part(limit, share uint64) uint64 { return limit / wholeShare * share }

// Resize changes the limit. What no longer fits is evicted.
func (s *Store) Resize(limit uint64) {
	s.captures.Resize(part(limit, captureShare))
	s.sessions.Resize(part(limit, sessionShare))
	s.holders.Resize(part(limit, supersessionShare))
}

func weighSession(key string, r session.Record) uint32 {
	// the principal and the content, beside their own lengths
	const texts = 64
	return store.Weigh(key, r.Kept) + texts + uint32(len(r.Principal)+len(r.Content)) //nolint:gosec // digests
}

// Put keeps a capture for a life. One that is known already costs no write.
func (s *Store) Put(_ context.Context, name string, capture policy.Capture, life ticket.Life) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	known, ok := s.captures.Peek(name)
	switch {
	case !ok || known.life != life:
		s.captures.Set(name, kept{capture: store.Clone(capture), life: life, put: s.now()}, life.Idle)
	case life.Renews(known.put, s.now()):
		known.put = s.now()
		s.captures.Set(name, known, life.Idle)
	default:
		s.captures.Touch(name, life.Idle)
	}
	return nil
}

// Get returns a capture, and whether there is one. Its idle time begins again.
func (s *Store) Get(_ context.Context, name string) (policy.Capture, bool, error) {
	if s.closed.Load() {
		return nil, false, store.ErrClosed
	}
	found, ok := s.captures.Get(name)
	if ok && found.life.Ended(found.put, s.now()) {
		s.captures.Delete(name)
		return nil, false, nil
	}
	return found.capture, ok, nil
}

// Lookup returns the record of a session. Only its own principal extends its life. A session that the fan-out has not
// accepted stays on probation, however often it is looked up: a flood of made-up ones evicts none that is in use.
func (s *Store) Lookup(_ context.Context, name, principal string) (session.Record, bool, error) {
	if s.closed.Load() {
		return session.Record{}, false, store.ErrClosed
	}
	found, ok := s.sessions.Peek(name)
	switch {
	case !ok || found.Principal != principal:
	case found.Content == "" || s.accepted(found.Content):
		_, _ = s.sessions.Get(name)
	default:
		s.sessions.Renew(name)
	}
	return found, ok, nil
}

// Update writes what change makes of a session's record.
func (s *Store) Update(
	_ context.Context, name string, idle time.Duration, change func(session.Record) (session.Record, bool),
) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	s.updates.Lock()
	defer s.updates.Unlock()
	before, known := s.sessions.Peek(name)
	next, changed := change(before)
	if !changed {
		return nil
	}
	next.Kept = store.Clone(next.Kept)
	same := known && before.Content == next.Content
	if !same {
		s.acquire(next)
	}
	s.sessions.Set(name, next, idle)
	if known && !same {
		s.release(before, next.Content != "")
	}
	return nil
}

// End deletes a session.
func (s *Store) End(_ context.Context, name string) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	s.sessions.Delete(name)
	return nil
}

// onEvict releases what a session held that has left for whatever reason: it has superseded nothing.
func (s *Store) onEvict(r session.Record, _ cache.Reason) { s.release(r, false) }

// Usage returns how full the store is, by kind of entry. The limits add up to that of the store.
func (s *Store) Usage() []store.Usage {
	return []store.Usage{
		usage(store.Captures, s.captures.Usage()),
		usage(store.Sessions, s.sessions.Usage()),
		usage(store.Supersession, s.holders.Usage()),
	}
}

func usage(kind store.Kind, u cache.Usage) store.Usage {
	return store.Usage{Kind: kind, Entries: u.Entries, Bytes: u.Bytes, Limit: u.Limit, Evictions: u.Evictions}
}

// Close releases what the store holds. Every later call returns an error.
func (s *Store) Close() {
	if !s.closed.Swap(true) {
		s.captures.Clear()
		s.sessions.Clear()
		s.holders.Clear()
	}
}
