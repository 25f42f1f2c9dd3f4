package store

import (
	"context"
	"sync"
	"time"

	"github.com/maypok86/otter/v2"

	"bellhop/processor/session"
)

// Sessions keeps sessions in this process, and knows which ticket each of them holds. It is bounded in bytes; when it
// is full, sessions that are seldom used give way. Safe for concurrent use.
type Sessions struct {
	sessions *otter.Cache[string, kept]
	holds    *otter.Cache[string, *hold]
	now      func() time.Time
}

type kept struct {
	session.Record
	idle time.Duration
}

// hold says how many sessions have a ticket as their latest, and since when none has it any more.
type hold struct {
	mu       sync.Mutex
	sessions int
	replaced time.Time // zero: not every session that had it has another
}

// holdLifetime is how long a ticket that nobody mints or redeems is known to be superseded.
const holdLifetime = time.Hour

// NewSessions makes a store of at most limit bytes.
func NewSessions(limit uint64) (*Sessions, error) {
	s := &Sessions{now: time.Now}
	var err error
	s.holds, err = otter.New(&otter.Options[string, *hold]{
		MaximumWeight:    limit / 4,
		Weigher:          func(string, *hold) uint32 { return entryOverhead },
		ExpiryCalculator: otter.ExpiryAccessing[string, *hold](holdLifetime),
	})
	if err != nil {
		return nil, err
	}
	s.sessions, err = otter.New(&otter.Options[string, kept]{
		MaximumWeight:    limit - limit/4,
		Weigher:          func(id string, k kept) uint32 { return weigh(id, entry{capture: k.Kept}) },
		ExpiryCalculator: otter.ExpiryAccessingFunc(func(e otter.Entry[string, kept]) time.Duration { return e.Value.idle }),
		OnDeletion: func(e otter.DeletionEvent[string, kept]) {
			if e.Cause != otter.CauseReplacement {
				s.release(e.Value.Ticket, false)
			}
		},
	})
	return s, err
}

// Find returns what is remembered of a session.
func (s *Sessions) Find(_ context.Context, id string) (session.Record, bool, error) {
	found, ok := s.sessions.GetIfPresent(id)
	return found.Record, ok, nil
}

// Save remembers a session until it has not been used for idle.
func (s *Sessions) Save(_ context.Context, id string, record session.Record, idle time.Duration) error {
	before, isNew := s.sessions.Set(id, kept{Record: record, idle: idle})
	if !isNew && before.Ticket == record.Ticket {
		return nil
	}
	s.acquire(record.Ticket)
	if !isNew {
		// A ticket that only rotates is not replaced: what it stands for is still what the session sends.
		s.release(before.Ticket, before.Content != record.Content)
	}
	return nil
}

// End forgets a session.
func (s *Sessions) End(_ context.Context, id string) error {
	s.sessions.Invalidate(id)
	return nil
}

// Minted tells that a client without a session got the ticket: it is of use again.
func (s *Sessions) Minted(ticket string) {
	if h, ok := s.holds.GetIfPresent(ticket); ok {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.replaced.IsZero() {
			h.replaced = s.now()
		}
	}
}

// Superseded reports whether every session that had the ticket has had another for longer than grace.
func (s *Sessions) Superseded(ticket string, grace time.Duration) bool {
	h, ok := s.holds.GetIfPresent(ticket)
	if !ok {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sessions == 0 && !h.replaced.IsZero() && s.now().Sub(h.replaced) > grace
}

// Usage tells how full the store is; Tickets counts sessions.
func (s *Sessions) Usage() Usage {
	return Usage{
		Tickets: s.sessions.EstimatedSize(), Bytes: s.sessions.WeightedSize() + s.holds.WeightedSize(),
		Limit: s.sessions.GetMaximum() + s.holds.GetMaximum(), Evictions: s.sessions.Stats().Evictions,
	}
}

// Close frees what the store holds. It must not be used afterwards.
func (s *Sessions) Close() {
	s.sessions.StopAllGoroutines()
	s.holds.StopAllGoroutines()
}

func (s *Sessions) acquire(ticket string) {
	h, _ := s.holds.ComputeIfAbsent(ticket, func() (*hold, bool) { return &hold{}, false })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions++
	h.replaced = time.Time{}
}

// release takes a session off a ticket: one that has another now, or one that has ended.
func (s *Sessions) release(ticket string, replaced bool) {
	h, ok := s.holds.GetIfPresent(ticket)
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions = max(h.sessions-1, 0)
	if h.sessions == 0 && replaced {
		h.replaced = s.now()
	}
}
