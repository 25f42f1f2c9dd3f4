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

// Memory keeps captures in this process. It is bounded in bytes. A quarter of them is for captures whose tickets were
// not redeemed yet; there the newest stay. The rest is for captures in use; there those that are used often stay. So a
// flood of new headers pushes out neither the clients at work nor, as long as it does not fill that quarter within the
// time that a call takes to reach its backend, new ones. Safe for concurrent use.
type Memory struct {
	fresh *fresh
	used  *otter.Cache[string, entry]
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
	waiting, err := newFresh(limit / 4)
	if err != nil {
		return nil, err
	}
	used, err := otter.New(&otter.Options[string, entry]{
		MaximumWeight:    limit - limit/4,
		Weigher:          weigh,
		ExpiryCalculator: otter.ExpiryAccessingFunc(func(e otter.Entry[string, entry]) time.Duration { return e.Value.lifetime }),
		StatsRecorder:    stats.NewCounter(),
	})
	if err != nil {
		return nil, err
	}
	return &Memory{fresh: waiting, used: used, limit: limit}, nil
}

// Put remembers the capture of a ticket until it has not been used for lifetime. Where it is in use already, its
// lifetime begins anew and nothing is written.
func (m *Memory) Put(_ context.Context, ticket string, capture policy.Capture, lifetime time.Duration) error {
	if known, ok := m.used.GetIfPresent(ticket); ok && known.lifetime == lifetime {
		return nil
	}
	m.fresh.put(ticket, entry{capture: capture, lifetime: lifetime})
	return nil
}

// Get returns the capture of a ticket, and whether there is one. Its lifetime begins anew.
func (m *Memory) Get(_ context.Context, ticket string) (policy.Capture, bool, error) {
	if found, ok := m.used.GetIfPresent(ticket); ok {
		return found.capture, true, nil
	}
	found, ok := m.fresh.get(ticket)
	if !ok {
		found, ok = m.used.GetIfPresent(ticket) // another request may have moved it in between
		return found.capture, ok, nil
	}
	// It is in both for a moment rather than in none: requests of one call come side by side.
	m.used.Set(ticket, found)
	m.fresh.remove(ticket)
	return found.capture, true, nil
}

// Usage tells how full the store is.
func (m *Memory) Usage() Usage {
	usage := m.fresh.usage()
	usage.Tickets += m.used.EstimatedSize()
	usage.Bytes += m.used.WeightedSize()
	usage.Evictions += m.used.Stats().Evictions
	usage.Limit = m.limit
	return usage
}

// Close frees what the store holds. It must not be used afterwards.
func (m *Memory) Close() {
	m.used.InvalidateAll()
	m.used.StopAllGoroutines()
}

func weigh(_ string, e entry) uint32 {
	bytes := entryOverhead
	for _, header := range e.capture {
		bytes += len(header.Name) + header.Value.Len() + 32
	}
	return uint32(bytes)
}
