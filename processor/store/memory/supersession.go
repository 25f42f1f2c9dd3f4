package memory

import (
	"context"
	"sync"
	"time"

	"bellhop/processor/session"
	"bellhop/processor/store"
)

// holders counts the sessions whose last issued ticket is of one content, and records since when there is none any
// more.
type holders struct {
	lifetime time.Duration // of the tickets, see ttl

	mu         sync.Mutex
	sessions   int
	replaced   bool      // a session has been issued another
	superseded time.Time // zero: a session has it, or none has replaced it
	issued     time.Time // when a client was last issued it
	owned      time.Time // until when a request without a session owns it
	redeemed   bool      // a ticket of it was redeemed: the fan-out has accepted a request with it
}

// holdersBytes is what an entry occupies besides its name, in bytes.
const holdersBytes = 256

func weighHolders(key string, _ *holders) uint32 { return holdersBytes + uint32(len(key)) } //nolint:gosec // a digest

// ttl is how long supersession of content is tracked that is neither issued nor redeemed: longer than its tickets
// live.
func (h *holders) ttl() time.Duration { return max(2*h.lifetime, time.Second) }

// Issued records that a client was issued a ticket of the content, so it is not superseded for a while.
func (s *Store) Issued(_ context.Context, content string) {
	if h, ok := s.holders.Peek(content); ok {
		s.holders.Renew(content)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.issued = s.now()
	}
}

// Owned records that a request without a session was given a ticket of the content.
func (s *Store) Owned(_ context.Context, content string, life time.Duration) {
	if s.closed.Load() {
		return
	}
	h, ok := s.holders.Peek(content)
	if !ok {
		s.updates.Lock()
		h = s.holdersOf(session.Record{Content: content, Lifetime: life})
		s.updates.Unlock()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owned = s.now().Add(life)
}

// Superseded reports whether a session has replaced the content, and no session has had it for longer than grace.
func (s *Store) Superseded(_ context.Context, content string, grace time.Duration) (bool, error) {
	if s.closed.Load() {
		return false, store.ErrClosed
	}
	h, ok := s.holders.Get(content)
	if !ok {
		return false, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.redeemed = true
	last := h.superseded
	if h.issued.After(last) {
		last = h.issued
	}
	now := s.now()
	return h.sessions == 0 && !h.superseded.IsZero() && now.Sub(last) > grace && now.After(h.owned), nil
}

// accepted reports whether a ticket of a content was redeemed.
func (s *Store) accepted(content string) bool {
	h, ok := s.holders.Peek(content)
	if !ok {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.redeemed
}

// acquire records that a session was issued its content.
func (s *Store) acquire(r session.Record) {
	if r.Content == "" {
		return
	}
	h := s.holdersOf(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions++
	h.superseded = time.Time{}
}

// release records that a session no longer has its content: it was issued another, or it has ended. If the entry was
// evicted and the session was issued another ticket, a new entry counts the content as superseded.
func (s *Store) release(r session.Record, replaced bool) {
	if r.Content == "" {
		return
	}
	h, ok := s.holders.Peek(r.Content)
	if !ok && !replaced {
		return
	}
	if !ok {
		h = s.holdersOf(r)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions = max(h.sessions-1, 0)
	h.replaced = h.replaced || replaced
	if h.sessions == 0 && h.replaced {
		h.superseded = s.now()
	}
}

// holdersOf finds the holders of a record's content, or makes them. Two callers at once are kept apart by s.updates.
func (s *Store) holdersOf(r session.Record) *holders {
	if h, ok := s.holders.Peek(r.Content); ok {
		s.holders.Renew(r.Content)
		return h
	}
	h := &holders{lifetime: r.Lifetime}
	s.holders.Set(r.Content, h, h.ttl())
	return h
}
