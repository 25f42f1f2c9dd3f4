// Package store remembers which capture a ticket stands for.
package store

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"bellhop/policy"
)

// entryOverhead is what one entry costs beside its names and values, in bytes: the ticket, the slice, and the
// cache's own records. It bounds the number of entries too, when captures are small.
const entryOverhead = 320

// ErrClosed is all that a store says after it was closed.
var ErrClosed = errors.New("the store is closed")

// Memory keeps captures in this process, bounded in bytes. Safe for concurrent use.
type Memory struct {
	captures *Cache[policy.Capture]
	closed   atomic.Bool
}

// NewMemory makes a store of at most limit bytes.
func NewMemory(limit uint64) (*Memory, error) {
	captures, err := NewCache(limit, func(_ string, capture policy.Capture) uint32 { return Weigh(capture) }, nil)
	return &Memory{captures: captures}, err
}

// Put remembers the capture of a ticket until it has not been used for lifetime. Where it is in use already, its
// lifetime begins anew and nothing is written.
func (m *Memory) Put(_ context.Context, ticket string, capture policy.Capture, lifetime time.Duration) error {
	if m.closed.Load() {
		return ErrClosed
	}
	if !m.captures.Touch(ticket, lifetime) {
		m.captures.Set(ticket, capture, lifetime)
	}
	return nil
}

// Get returns the capture of a ticket, and whether there is one. Its lifetime begins anew.
func (m *Memory) Get(_ context.Context, ticket string) (policy.Capture, bool, error) {
	if m.closed.Load() {
		return nil, false, ErrClosed
	}
	found, ok := m.captures.Get(ticket)
	return found, ok, nil
}

// Usage tells how full the store is.
func (m *Memory) Usage() Usage { return m.captures.Usage() }

// Close frees what the store holds. Whoever uses it afterwards gets an error.
func (m *Memory) Close() {
	if !m.closed.Swap(true) {
		m.captures.Close()
	}
}

// Weigh estimates what keeping a capture costs, in bytes.
func Weigh(capture policy.Capture) uint32 {
	bytes := entryOverhead
	for _, header := range capture {
		bytes += len(header.Name) + header.Value.Len() + 32
	}
	return uint32(bytes)
}
