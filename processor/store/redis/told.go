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

// told is what the server has said of keys of one kind, and whether that still holds. The server tells of every change of
// a key for which it was asked, as long as the connection stands. So what it said is one of three:
//
//   - current: nothing was told since, and the connection is still the one by which it would be. That is the answer, and
//     nobody is asked.
//   - old: nothing was told since, but the connection has been another. The server is asked. While it cannot be, that is
//     the answer.
//   - stale: it has changed. The server is asked. While it cannot be, there is no answer.
type told[V any] struct {
	link  *link
	words *cache.Cache[word[V]]
	now   func() time.Time
	read  func(key, text string) (V, error)                // what stands at a key
	last  func(w word[V]) bool                             // whether it is what is looked for, so that further keys do not matter
	lost  func(key string, before, answer word[V]) word[V] // what to make of an answer that there is nothing any more
	life  func(w word[V]) time.Duration                    // for how long a word that is not used is kept, if there is room

	mu      sync.Mutex // guards words against answers that a change has overtaken
	seed    maphash.Seed
	changes [1024]uint64 // of all keys with the same hash
}

// word is what the server has said of one key.
type word[V any] struct {
	value V
	there bool      // something stands there
	until time.Time // when the server forgets it; zero: never
	heard uint64    // by which generation of the connection; 0: the server would not tell of a change
	stale time.Time // when it has changed since then; zero: it has not
}

func newTold[V any](link *link, now func() time.Time, bytes uint64, weigh func(string, V) uint32) (*told[V], error) {
	words, err := cache.New(bytes, func(key string, w word[V]) uint32 { return weigh(key, w.value) }, nil)
	return &told[V]{link: link, words: words, now: now, seed: maphash.MakeSeed()}, err
}

func (t *told[V]) current(w word[V]) bool {
	return w.stale.IsZero() && w.heard == t.link.generation.Load() && (w.until.IsZero() || t.now().Before(w.until))
}

// first returns the first word of keys that is what is looked for, and the number of its key, or -1 if none is. An error
// means that nobody can tell.
func (t *told[V]) first(ctx context.Context, keys []string) (word[V], int, error) {
	words := make([]word[V], len(keys))
	var asked []int
	believed := true
	for i, key := range keys {
		w, ok := t.words.Get(key)
		if words[i] = w; !ok || !t.current(w) {
			asked = append(asked, i)
			believed = believed && ok && w.stale.IsZero()
		} else if len(asked) == 0 && t.last(w) {
			return w, i, nil
		}
	}
	if len(asked) > 0 {
		answers, err := t.fetch(ctx, t.link.ask, pick(keys, asked))
		if err != nil && (!believed || errors.Is(err, errSealed)) {
			return word[V]{}, -1, err
		}
		for i, answer := range answers {
			words[asked[i]] = answer
		}
	}
	if i := slices.IndexFunc(words, t.last); i >= 0 {
		return words[i], i, nil
	}
	return word[V]{}, -1, nil
}

func pick(keys []string, which []int) []string {
	picked := make([]string, len(which))
	for i, at := range which {
		picked[i] = keys[at]
	}
	return picked
}

// unasked is how long the client library could answer by itself, if it kept anything.
const unasked = time.Hour

// fetch asks the server for keys, in one go.
func (t *told[V]) fetch(ctx context.Context, ask func(context.Context, speech) error, keys []string) ([]word[V], error) {
	generation, changes := t.link.generation.Load(), t.versions(keys)
	answers := make([]word[V], len(keys))
	err := ask(ctx, func(ctx context.Context, client valkey.Client) error {
		commands := make([]valkey.CacheableTTL, len(keys))
		for i, key := range keys {
			commands[i] = valkey.CT(client.B().Get().Key(key).Cache(), unasked)
		}
		for i, result := range client.DoMultiCache(ctx, commands...) {
			answer, err := t.hear(keys[i], result)
			if err != nil {
				return err
			}
			answer.heard = generation
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

// hear takes a word from an answer of the server.
func (t *told[V]) hear(key string, answer valkey.ValkeyResult) (word[V], error) {
	text, err := answer.ToString()
	if valkey.IsValkeyNil(err) {
		return word[V]{}, nil
	}
	if err != nil {
		return word[V]{}, err
	}
	w := word[V]{there: true}
	if at := answer.CachePXAT(); at > 0 {
		w.until = time.UnixMilli(at)
	}
	w.value, err = t.read(key, text)
	return w, err
}

// keep remembers an answer, unless a change has overtaken it.
func (t *told[V]) keep(key string, answer word[V], changes uint64) word[V] {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, ok := t.words.Peek(key); ok && !answer.there {
		answer = t.lost(key, before, answer)
	}
	if t.changes[t.place(key)] == changes {
		t.words.Set(key, answer, t.life(answer))
	}
	return answer
}

// written remembers what this process has told the server itself. The server is asked for it at the next use: of a change
// that came right after it would not tell.
func (t *told[V]) written(key string, w word[V]) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, ok := t.words.Peek(key); !ok || !before.stale.IsZero() { // else it was asked for already
		w.heard = 0
		t.words.Set(key, w, t.life(w))
	}
}

// amend changes a word that is current.
func (t *told[V]) amend(key string, change func(w *word[V])) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w, ok := t.words.Peek(key); ok && t.current(w) {
		change(&w)
		t.words.Set(key, w, t.life(w))
	}
}

// changed is told that a key has changed, and reports whether a word of it is here.
func (t *told[V]) changed(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.changes[t.place(key)]++
	w, ok := t.words.Peek(key)
	if ok {
		w.stale = t.now()
		t.words.Set(key, w, t.life(w))
	}
	return ok
}

func (t *told[V]) place(key string) uint64 {
	return maphash.String(t.seed, key) % uint64(len(t.changes))
}

func (t *told[V]) versions(keys []string) []uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	versions := make([]uint64, len(keys))
	for i, key := range keys {
		versions[i] = t.changes[t.place(key)]
	}
	return versions
}
