// Package store remembers which capture a ticket stands for.
package store

import (
	"context"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/maypok86/otter/v2/stats"

	"bellhop/policy"
)

// entryOverhead is what one entry costs beside its names and values, in bytes: the ticket, the slice, and the
// cache's own records. It bounds the number of entries too, when captures are small.
const entryOverhead = 320

// Memory keeps captures in this process. It is bounded in bytes; when it is full, captures that are not in use give
// way before those that are, so a flood of new headers cannot push out the clients at work. Safe for concurrent use.
type Memory struct {
	cache *otter.Cache[string, entry]
	limit uint64
}

type entry struct {
	capture  policy.Capture
	lifetime time.Duration
}

// Usage is how full a store is.
type Usage struct {
	Tickets   int    // live tickets
	Bytes     uint64 // estimated size of all captures
	Limit     uint64 // Bytes never stays above it
	Evictions uint64 // captures that gave way before their lifetime was over, since the start
}

// NewMemory makes a store of at most limit bytes.
func NewMemory(limit uint64) (*Memory, error) {
	cache, err := otter.New(&otter.Options[string, entry]{
		MaximumWeight:    limit,
		Weigher:          weigh,
		ExpiryCalculator: otter.ExpiryAccessingFunc(func(e otter.Entry[string, entry]) time.Duration { return e.Value.lifetime }),
		StatsRecorder:    stats.NewCounter(),
	})
	if err != nil {
		return nil, err
	}
	return &Memory{cache: cache, limit: limit}, nil
}

// Put remembers the capture of a ticket until it has not been used for lifetime. Where it is known already, its
// lifetime begins anew and nothing is written.
func (m *Memory) Put(_ context.Context, ticket string, capture policy.Capture, lifetime time.Duration) error {
	if known, ok := m.cache.GetIfPresent(ticket); ok && known.lifetime == lifetime {
		return nil
	}
	m.cache.Set(ticket, entry{capture: capture, lifetime: lifetime})
	return nil
}

// Get returns the capture of a ticket, and whether there is one. Its lifetime begins anew.
func (m *Memory) Get(_ context.Context, ticket string) (policy.Capture, bool, error) {
	found, ok := m.cache.GetIfPresent(ticket)
	return found.capture, ok, nil
}

// Usage tells how full the store is.
func (m *Memory) Usage() Usage {
	return Usage{
		Tickets:   m.cache.EstimatedSize(),
		Bytes:     m.cache.WeightedSize(),
		Limit:     m.limit,
		Evictions: m.cache.Stats().Evictions,
	}
}

// Close frees what the store holds. It must not be used afterwards.
func (m *Memory) Close() {
	m.cache.InvalidateAll()
	m.cache.StopAllGoroutines()
}

func weigh(_ string, e entry) uint32 {
	bytes := entryOverhead
	for _, header := range e.capture {
		bytes += len(header.Name) + header.Value.Len() + 32
	}
	return uint32(bytes)
}
