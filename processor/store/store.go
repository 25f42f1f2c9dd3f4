// Package store says what Bellhop needs of whatever keeps captures and sessions: this process ([memory]) or a server that
// several Bellhops share ([redis]). Package storetest holds the contract that both pass.
//
// [memory]: https://pkg.go.dev/bellhop/processor/store/memory
// [redis]: https://pkg.go.dev/bellhop/processor/store/redis
package store

import (
	"errors"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/ticket"
)

// ErrClosed is returned by every method of a store that was closed.
var ErrClosed = errors.New("the store is closed")

// Backend keeps captures, sessions, and which captures were superseded. Implementations are safe for concurrent use.
type Backend interface {
	ticket.Store
	ticket.Supersession
	session.Store
	Lifecycle
}

// Lifecycle is what the process that owns a store needs of it.
type Lifecycle interface {
	// Rekey replaces the keys, newest first. A store that encrypts nothing ignores them.
	Rekey(keys ticket.Keys)
	// Ready returns why the store cannot be queried or written now, or nil.
	Ready() error
	// Close releases what the store holds. Every later call returns an error.
	Close()
}

// Usage is how full a store is.
type Usage struct {
	Tickets   int    // live entries
	Bytes     uint64 // estimated size of all of them
	Limit     uint64 // Bytes never stays above it
	Evictions uint64 // entries that were evicted before their lifetime was over, since the start
}

// With is the usage of this store and of one beside it, whose entries are no tickets.
func (u Usage) With(other Usage) Usage {
	return Usage{Tickets: u.Tickets, Bytes: u.Bytes + other.Bytes, Limit: u.Limit + other.Limit, Evictions: u.Evictions + other.Evictions}
}

// entryOverhead is what one entry costs beside its names and values, in bytes: the ticket, the slice, and the
// cache's own records. It bounds the number of entries too, when captures are small.
const entryOverhead = 320

// Weigh estimates what keeping a capture costs, in bytes.
func Weigh(capture policy.Capture) uint32 {
	bytes := entryOverhead
	for _, header := range capture {
		bytes += len(header.Name) + header.Value.Len() + 32
	}
	return uint32(bytes)
}
