// Package session tracks MCP sessions: which of them keeps which headers of which principal, and the content of the
// last ticket that each was issued.
package session

import (
	"context"
	"time"

	"bellhop/policy"
)

// Record is the stored state of one MCP session.
type Record struct {
	Principal string         // whose headers are kept, by [Names.Principal]; empty: none were kept yet
	Kept      policy.Capture // the headers that the policy keeps for the session
	Content   string         // of the last ticket issued; it does not change when the ticket rotates; empty: unknown
	Lifetime  time.Duration  // of that ticket after its last use, for which its supersession has to be known
}

// Store keeps the records of sessions under their names. Implementations are safe for concurrent use.
type Store interface {
	// Lookup returns the record of a session, and false where there is none. Only a lookup by its own principal extends
	// its life. An error means that the store cannot answer.
	Lookup(ctx context.Context, name, principal string) (Record, bool, error)
	// Update replaces a session's record, or the zero record if there is none, by the result of change. The session
	// expires when it has not been used for idle. Updates are atomic, but change may be called several times; if it
	// returns false, nothing is written.
	Update(ctx context.Context, name string, idle time.Duration, change func(Record) (Record, bool)) error
	// End deletes a session.
	End(ctx context.Context, name string) error
}
