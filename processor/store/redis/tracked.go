package redis

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/processor/store/cache"
)

// tracked caches values of one kind that the server invalidates: it notifies us of every change of a key that we have
// read, as long as the connection is up. A cached value is one of three:
//
//   - current: not invalidated, and read over the present connection. It is used without a query.
//   - old: not invalidated, but read over an earlier connection. The server is queried; the value is used
//     only while it is down.
//   - stale: invalidated. The server is queried; while it is down, there is no answer.
type tracked[V any] struct {
	conn   *connection
	values *cache.Cache[cached[V]]
	now    func() time.Time
	read   func(key, text string) (V, error) // decodes the value of a key
	// whether it is the value looked for, so that further keys do not matter
	last func(w cached[V]) bool
	lost func(key string, before, answer cached[V]) cached[V] // what to make of a value that is gone
	// how long an unused value is cached, if there is room
	life func(w cached[V]) time.Duration

	mu      sync.Mutex // guards values against answers that an invalidation has overtaken
	seed    maphash.Seed
	changes [1024]uint64 // of all keys with the same hash
}

// cached is the cached value of one key.
type cached[V any] struct {
	value      V
	exists     bool      // the key exists
	until      time.Time // when it expires on the server; zero: never
	generation uint64    // of the connection over which it was read; 0: the server does not track it
	staleSince time.Time // when it was invalidated; zero: it was not
}

func newTracked[V any](
	link *connection,
	now func() time.Time,
	bytes uint64,
	weigh func(string, V) uint32,
) *tracked[V] {
	values := cache.New(bytes, func(key string, w cached[V]) uint32 { return weigh(key, w.value) }, nil)
	return &tracked[V]{conn: link, values: values, now: now, seed: maphash.MakeSeed()}
}

func (t *tracked[V]) current(w cached[V]) bool {
	return w.staleSince.IsZero() && w.generation == t.conn.generation.Load() &&
		(w.until.IsZero() || t.now().Before(w.until))
}

// first returns the first value of keys that is the one looked for, and the number of its key, or -1 if there is none.
// An error means that the store cannot answer.
func (t *tracked[V]) first(ctx context.Context, keys []string) (cached[V], int, error) {
	values := make([]cached[V], len(keys))
	var asked []int
	usable := true
	for i, key := range keys {
		w, ok := t.values.Get(key)
		if values[i] = w; !ok || !t.current(w) {
			asked = append(asked, i)
			usable = usable && ok && w.staleSince.IsZero()
		} else if len(asked) == 0 && t.last(w) {
			return w, i, nil
		}
	}
	if len(asked) > 0 {
		answers, err := t.fetch(ctx, t.conn.do, pick(keys, asked))
		if err != nil && (!usable || errors.Is(err, errSealed)) {
			return cached[V]{}, -1, err
		}
		for i, answer := range answers {
			values[asked[i]] = answer
		}
	}
	if i := slices.IndexFunc(values, t.last); i >= 0 {
		return values[i], i, nil
	}
	return cached[V]{}, -1, nil
}

func pick(keys []string, which []int) []string {
	picked := make([]string, len(which))
	for i, at := range which {
		picked[i] = keys[at]
	}
	return picked
}

// unasked is the client library's own cache time, which has no effect because its cache is off.
const unasked = time.Hour

// fetch queries the server for keys, in one round trip.
func (t *tracked[V]) fetch(
	ctx context.Context,
	do func(context.Context, command) error,
	keys []string,
) ([]cached[V], error) {
	generation, changes := t.conn.generation.Load(), t.versions(keys)
	answers := make([]cached[V], len(keys))
	err := do(ctx, func(ctx context.Context, client valkey.Client) error {
		commands := make([]valkey.CacheableTTL, len(keys))
		for i, key := range keys {
			commands[i] = valkey.CT(client.B().Get().Key(key).Cache(), unasked)
		}
		for i, result := range client.DoMultiCache(ctx, commands...) {
			answer, err := t.decode(keys[i], result)
			if err != nil {
				return err
			}
			answer.generation = generation
			answers[i] = answer
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, key := range keys {
		answers[i] = t.keep(key, answers[i], changes[i])
	}
	return answers, nil
}

// decode reads a value from an answer of the server.
func (t *tracked[V]) decode(key string, answer valkey.ValkeyResult) (cached[V], error) {
	text, err := answer.ToString()
	if valkey.IsValkeyNil(err) {
		return cached[V]{}, nil
	}
	if err != nil {
		return cached[V]{}, err
	}
	w := cached[V]{exists: true}
	if at := answer.CachePXAT(); at > 0 {
		w.until = time.UnixMilli(at)
	}
	w.value, err = t.read(key, text)
	return w, err
}

// keep caches an answer, unless an invalidation has overtaken it.
func (t *tracked[V]) keep(key string, answer cached[V], changes uint64) cached[V] {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, ok := t.values.Peek(key); ok && !answer.exists {
		answer = t.lost(key, before, answer)
	}
	if t.changes[t.place(key)] == changes {
		t.values.Set(key, answer, t.life(answer))
	}
	return answer
}

// written caches what this process wrote. It is queried at the next use, because the server would not notify us of a
// change right after the write.
func (t *tracked[V]) written(key string, w cached[V]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, ok := t.values.Peek(key); !ok || !before.staleSince.IsZero() { // else it was fetched already
		w.generation = 0
		t.values.Set(key, w, t.life(w))
	}
}

// amend changes a value that is current.
func (t *tracked[V]) amend(key string, change func(w *cached[V])) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w, ok := t.values.Peek(key); ok && t.current(w) {
		change(&w)
		t.values.Set(key, w, t.life(w))
	}
}

// changed marks a key as invalidated, and reports whether a value of it is cached.
func (t *tracked[V]) changed(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes[t.place(key)]++
	w, ok := t.values.Peek(key)
	if ok {
		w.staleSince = t.now()
		t.values.Set(key, w, t.life(w))
	}
	return ok
}

func (t *tracked[V]) place(key string) uint64 {
	return maphash.String(t.seed, key) % uint64(len(t.changes))
}

func (t *tracked[V]) versions(keys []string) []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	versions := make([]uint64, len(keys))
	for i, key := range keys {
		versions[i] = t.changes[t.place(key)]
	}
	return versions
}
