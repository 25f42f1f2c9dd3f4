// Package cache is a segmented LRU cache that is bounded in bytes.
//
// A ticket is a capability, so no admission policy may drop one that was just used: what stays is decided by the order
// of use alone. A new entry is on probation; its first use moves it to the protected segment. A flood of new entries
// evicts only entries on probation, so it cannot evict what is in use; and what is in use leaves a quarter of the room
// to newcomers, so that they last until their first use.
package cache

import (
	"math"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
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
	probation segment[V]
	protected segment[V]
	evictions uint64
}

// segment is one LRU list with its weight.
type segment[V any] struct {
	lru   *simplelru.LRU[string, entry[V]]
	bytes uint64
}

// entry is a value with what the cache needs of it. Times are nanoseconds since the cache was made: a [time.Time] has
// three times the size.
type entry[V any] struct {
	value  V
	idle   time.Duration
	until  time.Duration
	weight uint32
}

// New makes a cache of at most limit bytes, by what weigh says. OnEvict is called for each entry that leaves for
// another reason than a newer value; it may be nil, and must not call the cache.
func New[V any](
	limit uint64, weigh func(key string, value V) uint32, onEvict func(value V, reason Reason),
) (*Cache[V], error) {
	if onEvict == nil {
		onEvict = func(V, Reason) {}
	}
	c := &Cache[V]{limit: limit, weigh: weigh, onEvict: onEvict, started: time.Now()}
	for _, s := range []*segment[V]{&c.probation, &c.protected} {
		var err error
		if s.lru, err = simplelru.NewLRU[string, entry[V]](math.MaxInt, nil); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// protectedShare is the most that the protected segment takes of the limit: three quarters.
func (c *Cache[V]) protectedShare() uint64 { return c.limit - c.limit/4 }

// Get returns a value. Its idle time begins again, and it is protected from now on.
func (c *Cache[V]) Get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.live(key)
	if !ok {
		return found.value, false
	}
	if s := c.segmentOf(key); s != &c.protected {
		s.remove(key)
	}
	c.put(&c.protected, key, found)
	for c.protected.bytes > c.protectedShare() && c.protected.lru.Len() > 1 {
		demoted, e, _ := c.protected.removeOldest()
		c.probation.add(demoted, e)
	}
	return found.value, true
}

// Peek returns a value without using it.
func (c *Cache[V]) Peek(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.live(key)
	return found.value, ok
}

// Touch begins the idle time of an entry again, which stays in its segment, and reports whether there is one with that
// idle time.
func (c *Cache[V]) Touch(key string, idle time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.live(key)
	if !ok || found.idle != idle {
		return false
	}
	c.put(c.segmentOf(key), key, found)
	return true
}

// Set keeps a value until it has not been used for idle. A new entry is on probation; a known one stays in its segment.
func (c *Cache[V]) Set(key string, value V, idle time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = c.live(key) // an expired one is gone before its successor comes
	c.put(c.segmentOf(key), key, entry[V]{value: value, idle: idle, weight: c.weigh(key, value)})
	c.shrink()
}

// Delete removes an entry.
func (c *Cache[V]) Delete(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(c.segmentOf(key), key, Deleted)
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
	c.shrink()
	return Usage{
		Entries: c.probation.lru.Len() + c.protected.lru.Len(),
		Bytes:   c.probation.bytes + c.protected.bytes, Limit: c.limit, Evictions: c.evictions,
	}
}

// Clear removes all entries without a call of onEvict.
func (c *Cache[V]) Clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range []*segment[V]{&c.probation, &c.protected} {
		s.lru.Purge()
		s.bytes = 0
	}
}

func (c *Cache[V]) now() time.Duration { return time.Since(c.started) }

// live returns an entry whose idle time is not over. One that is over is removed.
func (c *Cache[V]) live(key string) (entry[V], bool) {
	s := c.segmentOf(key)
	found, ok := s.lru.Peek(key)
	if ok && c.now() > found.until {
		c.drop(s, key, Expired)
		return entry[V]{}, false
	}
	return found, ok
}

// segmentOf is where an entry is, or where a new one belongs.
func (c *Cache[V]) segmentOf(key string) *segment[V] {
	if c.protected.lru.Contains(key) {
		return &c.protected
	}
	return &c.probation
}

// put makes an entry the most recent of a segment, with a new idle time.
func (c *Cache[V]) put(s *segment[V], key string, e entry[V]) {
	e.until = c.now() + e.idle
	if before, ok := s.lru.Peek(key); ok {
		s.bytes -= uint64(before.weight)
	}
	s.add(key, e)
}

// shrink evicts: what has expired at the end of a segment, and entries in the order of use while the
// cache is above its limit. What is on probation goes first.
func (c *Cache[V]) shrink() {
	for _, s := range []*segment[V]{&c.probation, &c.protected} {
		for key, why, ok := c.coldest(s); ok; key, why, ok = c.coldest(s) {
			c.drop(s, key, why)
		}
	}
}

// coldest is the least recent entry of a segment, if it has to leave, and why.
func (c *Cache[V]) coldest(s *segment[V]) (key string, why Reason, leaves bool) {
	key, oldest, ok := s.lru.GetOldest()
	switch {
	case !ok:
		return "", Evicted, false
	case c.now() > oldest.until:
		return key, Expired, true
	default:
		return key, Evicted, c.probation.bytes+c.protected.bytes > c.limit
	}
}

func (c *Cache[V]) drop(s *segment[V], key string, why Reason) {
	gone, ok := s.remove(key)
	if !ok {
		return
	}
	if why == Evicted {
		c.evictions++
	}
	c.onEvict(gone.value, why)
}

func (s *segment[V]) add(key string, e entry[V]) {
	s.lru.Add(key, e)
	s.bytes += uint64(e.weight)
}

func (s *segment[V]) remove(key string) (entry[V], bool) {
	gone, ok := s.lru.Peek(key)
	if ok {
		s.lru.Remove(key)
		s.bytes -= uint64(gone.weight)
	}
	return gone, ok
}

func (s *segment[V]) removeOldest() (string, entry[V], bool) {
	key, gone, ok := s.lru.RemoveOldest()
	if ok {
		s.bytes -= uint64(gone.weight)
	}
	return key, gone, ok
}
