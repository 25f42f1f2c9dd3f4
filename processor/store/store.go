// Package store is the interface of the stores of captures and sessions: package memory keeps them in this process,
// package redis in a server that several Bellhops share. Package storetest is the contract that both pass.
package store

import (
	"errors"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/ticket"
)

// ErrClosed is returned by every method of a store that was closed.
var ErrClosed = errors.New("the store is closed")

// Backend keeps captures, sessions, and which captures are superseded. Implementations are safe for concurrent use.
type Backend interface {
	ticket.Store
	ticket.Supersession
	session.Store
	Lifecycle
}

// Lifecycle is for the process that owns a store.
type Lifecycle interface {
	// Usage returns how full the store is, by kind of entry.
	Usage() []Usage
	// Close releases what the store holds. Every later call returns an error.
	Close()
}

// Kind is a kind of entry in a store. Its text is the label of metrics.
type Kind string

// The kinds of entries.
const (
	Captures     Kind = "captures"     // by ticket
	Sessions     Kind = "sessions"     // records of MCP sessions
	Supersession Kind = "supersession" // which captures are superseded
)

// Usage is how full a store is with one kind of entry.
type Usage struct {
	Kind      Kind
	Entries   int
	Bytes     uint64 // estimated; never above Limit
	Limit     uint64
	Evictions uint64 // entries that left before their time to make room, since the start
}

// EntryBytes is what an entry of a cache occupies besides its texts, in bytes: its place in an index and a list, and
// the texts' own headers, rounded up as the allocator does (measured with 64-bit Go 1.26).
const EntryBytes = 104

// headerBytes is what a header of a capture occupies besides its texts, in bytes.
const headerBytes = 64

// Weigh estimates what an entry with a capture occupies, in bytes.
func Weigh(key string, capture policy.Capture) uint32 {
	bytes := EntryBytes + len(key)
	for i := range capture {
		bytes += headerBytes + len(capture[i].Name) + capture[i].Value.Len()
	}
	return uint32(bytes) //nolint:gosec // a capture is far smaller
}

// Clone copies a capture, so that what is kept does not pin the buffers of the request that it came with.
func Clone(capture policy.Capture) policy.Capture {
	clone := make(policy.Capture, len(capture))
	for i := range capture {
		clone[i] = capture[i].Clone()
	}
	return clone
}
