package ticket

import (
	"context"
	"time"

	"bellhop/policy"
)

// Store keeps the capture of each stored ticket. Implementations are safe for concurrent use and return the captures
// they get, which no caller changes.
type Store interface {
	// Put keeps the capture of a ticket until the ticket has not been used for lifetime. It is called for every client
	// request, so it must cost nothing when the ticket is known already.
	Put(ctx context.Context, ticket string, capture policy.Capture, lifetime time.Duration) error
	// Get returns the capture of a ticket, and false where there is none. An error means that the store cannot answer.
	Get(ctx context.Context, ticket string) (policy.Capture, bool, error)
}

// Supersession records which captures were replaced by others, by a name of their content: a capture is superseded with
// all of its tickets. Implementations are safe for concurrent use.
type Supersession interface {
	// Issued records that a client was given a ticket of the content: it can be used for a while, even if it was
	// superseded.
	Issued(ctx context.Context, content string)
	// Superseded reports whether a session has replaced the content, and no session has had it for longer than grace. An
	// error means that the store cannot answer.
	Superseded(ctx context.Context, content string, grace time.Duration) (bool, error)
}
