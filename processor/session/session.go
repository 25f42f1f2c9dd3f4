// Package session says what Bellhop remembers of an MCP session, and under which names.
package session

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"bellhop/policy"
)

// Record is what is remembered of one MCP session.
type Record struct {
	Principal string         // whose headers are kept, as [Names.Principal] says; empty: none were kept yet
	Kept      policy.Capture // the headers that the policy keeps for the session
	Content   string         // of its latest request's ticket, by a name that stays the same when the ticket rotates; empty: unknown
	Lifetime  time.Duration  // of that ticket, after its last use: for so long it has to be known who has replaced it
}

// Store keeps the records of sessions under their names. Implementations are safe for concurrent use.
type Store interface {
	// Lookup returns the record of a session, and false where there is none. Only a lookup by its own principal extends its
	// life. An error means that the store cannot tell.
	Lookup(ctx context.Context, name, principal string) (Record, bool, error)
	// Update writes what change makes of a session's record, the zero one where there is none, until the session has not
	// been used for idle. No other update comes in between, but change may be called several times; where it returns false,
	// nothing is written.
	Update(ctx context.Context, name string, idle time.Duration, change func(Record) (Record, bool)) error
	// End deletes a session.
	End(ctx context.Context, name string) error
}

// Names makes the names under which sessions and principals are remembered: digests under a key, so that neither the
// ID of a session nor what tells users apart is kept.
type Names struct {
	key    []byte
	fanout string
}

// NewNames makes names for the sessions of one fan-out.
func NewNames(key []byte, fanout string) Names { return Names{key: key, fanout: fanout} }

// Session names the session with an ID.
func (n Names) Session(id string) string { return n.digest("session", n.fanout, id) }

// Principal names who sent a request: the values of the headers to which the policy binds sessions.
func (n Names) Principal(request []policy.Header, bind []string) string {
	parts := []string{"principal", n.fanout}
	for _, name := range bind {
		parts = append(parts, name)
		for _, header := range request {
			if header.Name == name {
				parts = append(parts, "=", header.Value.Reveal())
			}
		}
	}
	return n.digest(parts...)
}

func (n Names) digest(parts ...string) string {
	mac := hmac.New(sha256.New, n.key)
	for _, part := range parts {
		// Each part by a digest of its own length: no two lists of parts have the same bytes.
		sum := sha256.Sum256([]byte(part))
		mac.Write(sum[:])
	}
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
