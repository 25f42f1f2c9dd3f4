package ticket

import (
	"context"
	"time"

	"bellhop/policy"
)

// Life is how long a capture is kept.
type Life struct {
	Idle   time.Duration // since it was last put or got
	MaxAge time.Duration // since it was last put, however often it is got; 0: as long as it is in use
}

// Ended reports whether a capture that was last put at a time may not be got any more.
func (l Life) Ended(put, now time.Time) bool { return l.MaxAge > 0 && now.Sub(put) > l.MaxAge }

// Renews reports whether the time of a put has to be written: so rarely that a client in use causes no writes.
func (l Life) Renews(put, now time.Time) bool {
	const parts = 8
	return l.MaxAge > 0 && now.Sub(put) > l.MaxAge/parts
}

// Store keeps the capture of each stored ticket. Implementations are safe for concurrent use and return the captures
// they get, which no caller changes.
type Store interface {
	// Put keeps a capture under a name for a life. It is called for every client request, so it must cost nothing while
	// the capture is known already, but for a write each eighth of its greatest age.
	Put(ctx context.Context, name string, capture policy.Capture, life Life) error
	// Get returns the capture of a ticket, and false where there is none. An error means that the store cannot answer.
	Get(ctx context.Context, ticket string) (policy.Capture, bool, error)
}

// Supersession records which captures were replaced by others, by a name of their content: a capture is superseded with
// all of its tickets. Implementations are safe for concurrent use.
type Supersession interface {
	// Issued records that a client was given a ticket of the content: it can be used for a while, even if it was
	// superseded.
	Issued(ctx context.Context, content string)
	// Owned records that a request without a session was given a ticket of the content: whatever sessions do, it is not
	// superseded for a life.
	Owned(ctx context.Context, content string, life time.Duration)
	// Superseded reports whether a session has replaced the content, and no session has had it for longer than grace. An
	// error means that the store cannot answer.
	Superseded(ctx context.Context, content string, grace time.Duration) (bool, error)
}
