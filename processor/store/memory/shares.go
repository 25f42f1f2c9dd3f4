package memory

import (
	"slices"
	"sync"

	"bellhop/processor/store"
)

// Shares are stores of a limit in all, each fan-out's own: whatever the clients of one do, they evict nothing of
// another. Safe for concurrent use.
type Shares struct {
	limit uint64

	mu sync.Mutex
	of map[string]*Store // by fan-out
}

// NewShares makes shares of at most limit bytes in all.
func NewShares(limit uint64) *Shares { return &Shares{limit: limit, of: make(map[string]*Store)} }

// Of returns the store of a fan-out. All have equal shares.
func (s *Shares) Of(fanout string) *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.of[fanout]; ok {
		return known
	}
	share := s.limit / uint64(len(s.of)+1)
	for _, other := range s.of {
		other.Resize(share)
	}
	made := New(share)
	s.of[fanout] = made
	return made
}

// Keep closes the stores of fan-outs that are no longer served, and shares what they had among the others.
func (s *Shares) Keep(fanouts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for fanout, gone := range s.of {
		if !slices.Contains(fanouts, fanout) {
			gone.Close()
			delete(s.of, fanout)
		}
	}
	for _, left := range s.of {
		left.Resize(s.limit / uint64(len(s.of)))
	}
}

// Usage returns how full all stores together are, by kind of entry.
func (s *Shares) Usage() []store.Usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := New(s.limit).Usage()
	for i := range all {
		all[i].Limit = 0
	}
	for _, one := range s.of {
		for i, usage := range one.Usage() {
			all[i].Entries += usage.Entries
			all[i].Bytes += usage.Bytes
			all[i].Limit += usage.Limit
			all[i].Evictions += usage.Evictions
		}
	}
	return all
}

// Close closes all stores.
func (s *Shares) Close() { s.Keep(nil) }
