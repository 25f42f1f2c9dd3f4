// Package cache is a cache bounded in bytes that drops neither what is in use nor, for as long as there is room, what is new.
package cache

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"

	"bellhop/processor/store"
)

// Cache is bounded in bytes. A quarter of it is a waiting room for what was not asked for yet; there the newest stay. The
// rest is for what is in use; there those that are used often stay. Among these a newcomer would have to prove itself at
// once, and lose. So a flood of new entries pushes out neither those in use nor, as long as it does not fill the waiting
// room within the time that they take to be used, other new ones. Safe for concurrent use.
type Cache[V any] struct {
	limit uint64
	weigh func(key string, value V) uint32
	gone  func(value V)
	now   func() time.Time
	used  *otter.Cache[string, held[V]]

	mu        sync.Mutex // guards the waiting room, and the way out of it
	room      *simplelru.LRU[string, waiting[V]]
	bytes     uint64
	evictions uint64
}

type held[V any] struct {
	value V
	idle  time.Duration
}

type waiting[V any] struct {
	held[V]
	until time.Time
}

// New makes a cache of at most limit bytes, by what weigh says. Gone is told of each entry that leaves for another
// reason than a newer value; it may be nil, and must not call the cache.
func New[V any](limit uint64, weigh func(key string, value V) uint32, gone func(value V)) (*Cache[V], error) {
	if gone == nil {
		gone = func(V) {}
	}
	c := &Cache[V]{limit: limit, weigh: weigh, gone: gone, now: time.Now}
	var err error
	if c.room, err = simplelru.NewLRU[string, waiting[V]](math.MaxInt32, nil); err != nil {
		return nil, err
	}
	c.used, err = otter.New(&otter.Options[string, held[V]]{
		MaximumWeight:    limit - limit/4,
		Weigher:          func(key string, h held[V]) uint32 { return weigh(key, h.value) },
		ExpiryCalculator: otter.ExpiryAccessingFunc(func(e otter.Entry[string, held[V]]) time.Duration { return e.Value.idle }),
		StatsRecorder:    stats.NewCounter(),
		OnDeletion: func(e otter.DeletionEvent[string, held[V]]) {
			if e.Cause != otter.CauseReplacement {
				gone(e.Value.value)
			}
		},
	})
	return c, err
}

// Get returns an entry. Its idle time begins anew, and it is in use from now on.
func (c *Cache[V]) Get(key string) (V, bool) {
	if found, ok := c.used.GetIfPresent(key); ok {
		return found.value, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shrink()
	waited, ok := c.room.Peek(key)
	if !ok {
		found, ok := c.used.GetIfPresent(key) // another has moved it in between
		return found.value, ok
	}
	// It is in both for a moment rather than in none: requests of one call come side by side.
	c.used.Set(key, waited.held)
	c.drop(key, waited)
	return waited.value, true
}

// Peek returns an entry as if nobody had asked.
func (c *Cache[V]) Peek(key string) (V, bool) {
	if found, ok := c.used.GetEntryQuietly(key); ok {
		return found.Value.value, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shrink()
	if waited, ok := c.room.Peek(key); ok {
		return waited.value, true
	}
	found, ok := c.used.GetEntryQuietly(key)
	return found.Value.value, ok
}

// Touch begins the idle time of an entry in use anew, and reports whether there is one with that idle time.
func (c *Cache[V]) Touch(key string, idle time.Duration) bool {
	known, ok := c.used.GetIfPresent(key)
	return ok && known.idle == idle
}

// Set keeps a value until it has not been used for idle.
func (c *Cache[V]) Set(key string, value V, idle time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := held[V]{value: value, idle: idle}
	if _, ok := c.used.GetEntryQuietly(key); ok {
		c.used.Set(key, h)
		return
	}
	if before, known := c.room.Peek(key); known {
		c.drop(key, before)
	}
	c.room.Add(key, waiting[V]{held: h, until: c.now().Add(idle)})
	c.bytes += uint64(c.weigh(key, value))
	c.shrink()
}

// Delete forgets an entry.
func (c *Cache[V]) Delete(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if waited, ok := c.room.Peek(key); ok {
		c.drop(key, waited)
		c.gone(waited.value)
	}
	c.used.Invalidate(key)
}

// drop takes an entry out of the waiting room.
func (c *Cache[V]) drop(key string, waited waiting[V]) {
	c.room.Remove(key)
	c.bytes -= uint64(c.weigh(key, waited.value))
}

// shrink drops the oldest of the waiting room while they are too many or too old.
func (c *Cache[V]) shrink() {
	now := c.now()
	for {
		key, oldest, ok := c.room.GetOldest()
		expired := now.After(oldest.until)
		if !ok || (c.bytes <= c.limit/4 && !expired) {
			return
		}
		c.drop(key, oldest)
		c.gone(oldest.value)
		if !expired {
			c.evictions++
		}
	}
}

// Usage tells how full the cache is.
func (c *Cache[V]) Usage() store.Usage {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shrink()
	return store.Usage{
		Tickets: c.room.Len() + c.used.EstimatedSize(), Bytes: c.bytes + c.used.WeightedSize(),
		Limit: c.limit, Evictions: c.evictions + c.used.Stats().Evictions,
	}
}

// Close frees what the cache holds. It must not be used afterwards.
func (c *Cache[V]) Close() {
	c.used.InvalidateAll()
	c.used.StopAllGoroutines()
}
