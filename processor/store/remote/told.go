package remote

import (
	"sync"

	"github.com/valkey-io/valkey-go"
)

// told counts what the server has told of changes, so that an answer which a change has overtaken is not kept.
type told struct {
	mu      sync.Mutex
	changes uint64
}

// now is a point in time, among the changes.
func (t *told) now() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changes
}

// since keeps something if nothing has changed since then.
func (t *told) since(then uint64, keep func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changes == then {
		keep()
	}
}

// changed forgets what the server says has changed: it is not to be answered with any more, also while the server is away.
func (s *Store) changed(keys []valkey.ValkeyMessage) {
	s.told.mu.Lock()
	defer s.told.mu.Unlock()
	s.told.changes++
	for _, message := range keys {
		key, err := message.ToString()
		if err != nil {
			continue
		}
		s.marks.Delete(key)
		if before, ok := s.known.Peek(key); ok {
			before.stale = true
			s.known.Set(key, before, before.life())
		}
	}
}
