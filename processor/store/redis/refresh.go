package redis

import (
	"context"
	"strings"
	"sync"

	"github.com/valkey-io/valkey-go"
)

// refresher asks for what has changed as soon as that is told, so that it is known should the server go.
type refresher struct {
	mu      sync.Mutex
	waiting map[string]bool
	wake    chan struct{}
}

const (
	// maxWaiting bounds what waits to be asked for. What does not is asked for when it is needed.
	maxWaiting = 4096
	// maxBatch bounds what is asked, or told, at once.
	maxBatch = 64
)

func newRefresher() *refresher {
	return &refresher{waiting: map[string]bool{}, wake: make(chan struct{}, 1)}
}

func (r *refresher) add(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.waiting) < maxWaiting {
		r.waiting[key] = true
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *refresher) take() (batch []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key := range r.waiting {
		if len(batch) == maxBatch {
			break
		}
		delete(r.waiting, key)
		batch = append(batch, key)
	}
	return batch
}

// changed hears from the server that keys have changed.
func (s *Store) changed(keys []valkey.ValkeyMessage) {
	for _, message := range keys {
		key, err := message.ToString()
		if err == nil && (s.sessions.changed(key) || s.marks.changed(key)) {
			s.refresher.add(key)
		}
	}
}

// refresh asks for what has changed, until ctx is done. What cannot be asked for now is so when it is needed.
func (s *Store) refresh(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.refresher.wake:
		}
		for batch := s.refresher.take(); len(batch) > 0; batch = s.refresher.take() {
			var records, marks []string
			for _, key := range batch {
				if strings.HasPrefix(key, prefix(sessions)) {
					records = append(records, key)
				} else {
					marks = append(marks, key)
				}
			}
			if len(records) > 0 {
				_, _ = s.sessions.fetch(ctx, s.link.patiently, records)
			}
			if len(marks) > 0 {
				_, _ = s.marks.fetch(ctx, s.link.patiently, marks)
			}
		}
	}
}
