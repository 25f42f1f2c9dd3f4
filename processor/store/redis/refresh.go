package redis

import (
	"context"
	"strings"
	"sync"

	"github.com/valkey-io/valkey-go"
)

// refresher fetches values as soon as they are invalidated, so that they are cached should the server go down.
type refresher struct {
	mu      sync.Mutex
	waiting map[string]bool
	wake    chan struct{}
}

const (
	// maxWaiting bounds the keys that wait to be fetched. Others are fetched when they are needed.
	maxWaiting = 4096
	// maxBatch bounds one round trip.
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

// changed is called by the client library with invalidated keys.
func (s *Store) changed(keys []valkey.ValkeyMessage) {
	for _, message := range keys {
		key, err := message.ToString()
		if err == nil && (s.sessions.changed(key) || s.supersededAt.changed(key)) {
			s.refresher.add(key)
		}
	}
}

// refresh fetches invalidated values until ctx is done. What cannot be fetched now is fetched when it is needed.
func (s *Store) refresh(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.refresher.wake:
		}
		for batch := s.refresher.take(); len(batch) > 0; batch = s.refresher.take() {
			var records, supersededAt []string
			for _, key := range batch {
				if strings.HasPrefix(key, prefix(sessions)) {
					records = append(records, key)
				} else {
					supersededAt = append(supersededAt, key)
				}
			}
			if len(records) > 0 {
				_, _ = s.sessions.fetch(ctx, s.conn.doInBackground, records)
			}
			if len(supersededAt) > 0 {
				_, _ = s.supersededAt.fetch(ctx, s.conn.doInBackground, supersededAt)
			}
		}
	}
}
