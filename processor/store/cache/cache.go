// Package cache is a segmented LRU cache that is bounded in bytes.
//
// A ticket is a capability, so no admission policy may drop one that was just used: what stays is decided by the order
// of use alone. A new entry is on probation; its first use moves it to the protected segment. A flood of new entries
// evicts only entries on probation, so it cannot evict what is in use; and what is in use leaves a quarter of the room
// to newcomers, so that they last until their first use.
package cache

import (
	"sync"
	"time"
)

// Reason says why an entry left the cache.
type Reason int

const (
	// Evicted is for an entry that left before its time to make room.
	Evicted Reason = iota
	// Expired is for an entry that was not used for its idle time.
	Expired
	// Deleted is for an entry that was deleted.
	Deleted
)

// Cache keeps values by key. Safe for concurrent use.
type Cache[V any] struct {
	limit   uint64
	weigh   func(key string, value V) uint32
	onEvict func(value V, reason Reason)
	started time.Time // monotonic zero of all times

	mu        sync.Mutex
	entries   entries[V]
	index     index
	probation segment[V]
	protected segment[V]
	evictions uint64
}

// New makes a cache of at most limit bytes, by what weigh says. OnEvict is called for each entry that leaves for
// another reason than a newer value; it may be nil, and must not call the cache.
func New[V any](limit uint64, weigh func(key string, value V) uint32, onEvict func(value V, reason Reason)) *Cache[V] {
	if onEvict == nil {
		onEvict = func(V, Reason) {}
	}
	c := &Cache[V]{limit: limit, weigh: weigh, onEvict: onEvict, started: time.Now()}
	c.reset()
	return c
}

func (c *Cache[V]) reset() {
	c.entries, c.index = entries[V]{}, newIndex()
	c.probation, c.protected = segment[V]{entries: &c.entries}, segment[V]{entries: &c.entries}
}

// protectedShare is the most that the protected segment takes of the limit: three quarters.
func (c *Cache[V]) protectedShare() uint64 { return c.limit - c.limit/4 }

// Get returns a value. Its idle time begins again, and it is protected from now on.
func (c *Cache[V]) Get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	at, found := c.live(key, now)
	if at == 0 {
		var none V
		return none, false
	}
	c.segmentOf(found).remove(at)
	found.protected = true
	c.renew(at, found, now)
	for c.protected.bytes > c.protectedShare() && c.protected.length > 1 {
		oldest := c.protected.oldest
		c.protected.remove(oldest)
		c.entries.at(oldest).protected = false
		c.probation.add(oldest)
	}
	return found.value, true
}

// Peek returns a value without using it.
func (c *Cache[V]) Peek(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, found := c.live(key, c.now())
	if at == 0 {
		var none V
		return none, false
	}
	return found.value, true
}

// Touch begins the idle time of an entry again, which stays in its segment, and reports whether there is one with that
// idle time.
func (c *Cache[V]) Touch(key string, idle time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	at, found := c.live(key, now)
	if at == 0 || found.idle != idle {
		return false
	}
	c.segmentOf(found).remove(at)
	c.renew(at, found, now)
	return true
}

// Renew begins the idle time of an entry again, which stays in its segment.
func (c *Cache[V]) Renew(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if at, found := c.live(key, now); at != 0 {
		c.segmentOf(found).remove(at)
		c.renew(at, found, now)
	}
}

// Set keeps a value until it has not been used for idle. A new entry is on probation; a known one stays in its segment.
func (c *Cache[V]) Set(key string, value V, idle time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	at, known := c.live(key, now) // an expired one is gone before its successor comes
	if at != 0 {
		c.segmentOf(known).remove(at)
	} else {
		at, known = c.insert(key)
	}
	known.value, known.idle, known.weight = value, idle, c.weigh(key, value)
	c.renew(at, known, now)
	c.shrink(now)
}

// Delete removes an entry.
func (c *Cache[V]) Delete(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, _ := c.find(key); at != 0 {
		c.drop(at, Deleted)
	}
}

// Resize changes the limit. What no longer fits is evicted.
func (c *Cache[V]) Resize(limit uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = limit
	c.shrink(c.now())
}

// Usage is how full a cache is.
type Usage struct {
	Entries   int
	Bytes     uint64 // by weight; never above Limit
	Limit     uint64
	Evictions uint64 // entries that left before their time, since the start
}

// Usage returns how full the cache is.
func (c *Cache[V]) Usage() Usage {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shrink(c.now())
	return Usage{
		Entries: c.probation.length + c.protected.length,
		Bytes:   c.probation.bytes + c.protected.bytes, Limit: c.limit, Evictions: c.evictions,
	}
}

// Clear removes all entries without a call of onEvict.
func (c *Cache[V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset()
}

func (c *Cache[V]) now() time.Duration { return time.Since(c.started) }

// find returns the entry of a key, and 0 where there is none.
func (c *Cache[V]) find(key string) (position, *entry[V]) {
	at, ok := c.index.positions[c.index.hash(key)]
	if !ok {
		return 0, nil
	}
	found := c.entries.at(at)
	if found.key != key {
		return 0, nil
	}
	return at, found
}

// live is find for entries whose idle time is not over. One that is over is removed.
func (c *Cache[V]) live(key string, now time.Duration) (position, *entry[V]) {
	at, found := c.find(key)
	if at != 0 && now > found.until {
		c.drop(at, Expired)
		return 0, nil
	}
	return at, found
}

// insert makes an entry for a key that has none, in no segment yet.
func (c *Cache[V]) insert(key string) (position, *entry[V]) {
	hash := c.index.hash(key)
	if other, ok := c.index.positions[hash]; ok {
		c.drop(other, Evicted)
	}
	at, one := c.entries.take()
	*one = entry[V]{key: key}
	c.index.positions[hash] = at
	return at, one
}

func (c *Cache[V]) segmentOf(e *entry[V]) *segment[V] {
	if e.protected {
		return &c.protected
	}
	return &c.probation
}

// renew makes an entry, which is in no segment, the newest of its own, with a new idle time.
func (c *Cache[V]) renew(at position, e *entry[V], now time.Duration) {
	e.until = now + e.idle
	c.segmentOf(e).add(at)
}

// shrink evicts what has expired at the end of a segment, and entries in the order of use while the cache is above its
// limit. What is on probation goes first.
func (c *Cache[V]) shrink(now time.Duration) {
	for _, s := range []*segment[V]{&c.probation, &c.protected} {
		for why, leaves := c.leaves(s, now); leaves; why, leaves = c.leaves(s, now) {
			c.drop(s.oldest, why)
		}
	}
}

// leaves reports whether the oldest entry of a segment has to leave, and why.
func (c *Cache[V]) leaves(s *segment[V], now time.Duration) (why Reason, leaves bool) {
	switch {
	case s.length == 0:
		return Evicted, false
	case now > c.entries.at(s.oldest).until:
		return Expired, true
	default:
		return Evicted, c.probation.bytes+c.protected.bytes > c.limit
	}
}

// drop removes an entry that is in its segment.
func (c *Cache[V]) drop(at position, why Reason) {
	gone := c.entries.at(at)
	value := gone.value
	c.segmentOf(gone).remove(at)
	delete(c.index.positions, c.index.hash(gone.key))
	c.entries.give(at)
	if why == Evicted {
		c.evictions++
	}
	c.onEvict(value, why)
}
