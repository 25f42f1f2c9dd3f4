package store

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// fresh holds captures whose tickets nobody has redeemed yet, the newest longest. A capture waits here for its first
// use: among those in use it would have to prove itself against them at once, and lose. Safe for concurrent use.
type fresh struct {
	limit uint64
	now   func() time.Time

	mu        sync.Mutex
	entries   *simplelru.LRU[string, waiting]
	bytes     uint64
	evictions uint64
}

type waiting struct {
	entry
	until time.Time
}

func newFresh(limit uint64) (*fresh, error) {
	entries, err := simplelru.NewLRU[string, waiting](math.MaxInt32, nil)
	if err != nil {
		return nil, err
	}
	return &fresh{limit: limit, now: time.Now, entries: entries}, nil
}

// put makes the ticket the newest.
func (f *fresh) put(ticket string, e entry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if _, known := f.entries.Peek(ticket); !known {
		f.bytes += uint64(weigh(ticket, e))
	}
	f.entries.Add(ticket, waiting{entry: e, until: now.Add(e.lifetime)})
	f.shrink(now)
}

func (f *fresh) get(ticket string) (entry, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shrink(f.now())
	found, ok := f.entries.Peek(ticket)
	return found.entry, ok
}

func (f *fresh) remove(ticket string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if found, ok := f.entries.Peek(ticket); ok {
		f.entries.Remove(ticket)
		f.bytes -= uint64(weigh(ticket, found.entry))
	}
}

// shrink drops the oldest while they are too many or too old.
func (f *fresh) shrink(now time.Time) {
	for {
		ticket, oldest, ok := f.entries.GetOldest()
		expired := now.After(oldest.until)
		if !ok || (f.bytes <= f.limit && !expired) {
			return
		}
		f.entries.Remove(ticket)
		f.bytes -= uint64(weigh(ticket, oldest.entry))
		if !expired {
			f.evictions++
		}
	}
}

func (f *fresh) usage() Usage {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shrink(f.now())
	return Usage{Tickets: f.entries.Len(), Bytes: f.bytes, Evictions: f.evictions}
}
