// Package memory keeps captures and sessions in this process.
package memory

import (
	"context"
	"sync/atomic"
	"time"

	"bellhop/policy"
	"bellhop/processor/store"
	"bellhop/processor/store/cache"
)

// Memory keeps captures in this process, bounded in bytes. Safe for concurrent use.
type Memory struct {
	captures *cache.Cache[policy.Capture]
	closed   atomic.Bool
}

// NewMemory makes a store of at most limit bytes.
func NewMemory(limit uint64) (*Memory, error) {
	captures, err := cache.New(limit, func(_ string, capture policy.Capture) uint32 { return store.Weigh(capture) }, nil)
	return &Memory{captures: captures}, err
}

// Put remembers the capture of a ticket until it has not been used for lifetime. Where it is in use already, its
// lifetime begins anew and nothing is written.
func (m *Memory) Put(_ context.Context, ticket string, capture policy.Capture, lifetime time.Duration) error {
	if m.closed.Load() {
		return store.ErrClosed
	}
	if !m.captures.Touch(ticket, lifetime) {
		m.captures.Set(ticket, capture, lifetime)
	}
	return nil
}

// Get returns the capture of a ticket, and whether there is one. Its lifetime begins anew.
func (m *Memory) Get(_ context.Context, ticket string) (policy.Capture, bool, error) {
	if m.closed.Load() {
		return nil, false, store.ErrClosed
	}
	found, ok := m.captures.Get(ticket)
	return found, ok, nil
}

// Usage tells how full the store is.
func (m *Memory) Usage() store.Usage { return m.captures.Usage() }

// Close frees what the store holds. Whoever uses it afterwards gets an error.
func (m *Memory) Close() {
	if !m.closed.Swap(true) {
		m.captures.Close()
	}
}
