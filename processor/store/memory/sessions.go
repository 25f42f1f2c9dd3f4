package memory

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"bellhop/processor/session"
	"bellhop/processor/store"
	"bellhop/processor/store/cache"
)

// Sessions keeps sessions in this process, and knows which ticket each of them holds. It is bounded in bytes: of more
// tickets than have room, those that were asked for least lately are forgotten, and with them that they are superseded. Safe
// for concurrent use.
type Sessions struct {
	sessions *cache.Cache[session.Record]
	holds    *otter.Cache[string, *hold]
	updates  sync.Mutex
	closed   atomic.Bool
	now      func() time.Time
}

// hold says how many sessions have tickets of one content as their latest, and since when none has any more.
type hold struct {
	lifetime time.Duration // see remembered
	mu       sync.Mutex
	sessions int
	left     bool      // a session has replaced it
	replaced time.Time // zero: a session has it, or none has replaced it
	minted   time.Time // when a client got it last
}

// holdBytes is what a hold costs with its name, in bytes.
const holdBytes = 192

// remembered is how long a ticket that nobody mints or redeems is known to be superseded: longer than the ticket itself.
func (h *hold) remembered() time.Duration { return max(2*h.lifetime, time.Second) }

// NewSessions makes a store of at most limit bytes.
func NewSessions(limit uint64) (*Sessions, error) {
	s := &Sessions{now: time.Now}
	var err error
	s.holds, err = otter.New(&otter.Options[string, *hold]{
		MaximumWeight:    limit / 4,
		Weigher:          func(string, *hold) uint32 { return holdBytes },
		ExpiryCalculator: otter.ExpiryAccessingFunc(func(e otter.Entry[string, *hold]) time.Duration { return e.Value.remembered() }),
	})
	if err != nil {
		return nil, err
	}
	s.sessions, err = cache.New(limit-limit/4, func(_ string, r session.Record) uint32 { return store.Weigh(r.Kept) }, func(r session.Record) {
		s.release(r, false)
	})
	return s, err
}

// Lookup returns what is remembered of a session. Only its own principal keeps it alive by that.
func (s *Sessions) Lookup(_ context.Context, id, principal string) (session.Record, bool, error) {
	if s.closed.Load() {
		return session.Record{}, false, store.ErrClosed
	}
	found, ok := s.sessions.Peek(id)
	if ok && found.Principal == principal {
		_, _ = s.sessions.Get(id)
	}
	return found, ok, nil
}

// Update remembers what change makes of a session's record. There is one update at a time: they are rare, because they
// come only when a session changes.
func (s *Sessions) Update(_ context.Context, id string, idle time.Duration, change func(session.Record) (session.Record, bool)) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	s.updates.Lock()
	defer s.updates.Unlock()
	before, known := s.sessions.Peek(id)
	next, changed := change(before)
	if !changed {
		return nil
	}
	same := known && before.Content == next.Content
	if !same {
		s.acquire(next)
	}
	s.sessions.Set(id, next, idle)
	if known && !same {
		s.release(before, next.Content != "")
	}
	return nil
}

// End forgets a session.
func (s *Sessions) End(_ context.Context, id string) error {
	if s.closed.Load() {
		return store.ErrClosed
	}
	s.sessions.Delete(id)
	return nil
}

// Issued records that a client got a ticket of the content: it is of use for a while, whoever has replaced it.
func (s *Sessions) Issued(_ context.Context, content string) {
	if h, ok := s.holds.GetIfPresent(content); ok {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.minted = s.now()
	}
}

// Superseded reports whether a session has replaced the ticket, and no session has had it for longer than grace.
func (s *Sessions) Superseded(_ context.Context, content string, grace time.Duration) (bool, error) {
	if s.closed.Load() {
		return false, store.ErrClosed
	}
	h, ok := s.holds.GetIfPresent(content)
	if !ok {
		return false, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.replaced
	if h.minted.After(last) {
		last = h.minted
	}
	return h.sessions == 0 && !h.replaced.IsZero() && s.now().Sub(last) > grace, nil
}

// Usage tells how full the store is; Tickets counts sessions.
func (s *Sessions) Usage() store.Usage {
	usage := s.sessions.Usage()
	usage.Bytes += s.holds.WeightedSize()
	usage.Limit += s.holds.GetMaximum()
	return usage
}

// Close frees what the store holds. Whoever uses it afterwards gets an error.
func (s *Sessions) Close() {
	if !s.closed.Swap(true) {
		s.sessions.Close()
		s.holds.StopAllGoroutines()
	}
}

func (s *Sessions) acquire(r session.Record) {
	if r.Content == "" {
		return
	}
	h, _ := s.holds.ComputeIfAbsent(r.Content, func() (*hold, bool) { return &hold{lifetime: r.Lifetime}, false })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions++
	h.replaced = time.Time{}
}

// release takes a session off a ticket: one that has another now, or one that has ended. A hold that had to give way is made anew by
// who replaces the ticket: then nobody has it as far as is known, and in doubt it is of no use.
func (s *Sessions) release(r session.Record, replaced bool) {
	h, ok := s.holds.GetIfPresent(r.Content)
	if !ok && (!replaced || r.Content == "") {
		return
	}
	if !ok {
		h, _ = s.holds.ComputeIfAbsent(r.Content, func() (*hold, bool) { return &hold{lifetime: r.Lifetime}, false })
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions = max(h.sessions-1, 0)
	h.left = h.left || replaced
	if h.sessions == 0 && h.left {
		h.replaced = s.now()
	}
}
