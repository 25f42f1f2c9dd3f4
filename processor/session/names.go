package session

import (
	"bellhop/policy"
	"bellhop/processor/mac"
)

// Names computes the names under which sessions and principals are stored: keyed digests, so that neither a session's
// ID nor a user's credential is stored. Safe for concurrent use.
type Names struct {
	names  *mac.Namer
	fanout string
}

// NewNames returns the names for the sessions of one fan-out.
func NewNames(key []byte, fanout string) Names { return Names{names: mac.New(key), fanout: fanout} }

// Session names the session with an ID.
func (n Names) Session(id string) string {
	return n.names.Name(func(text []byte) []byte {
		text = mac.AppendText(text, "session")
		text = mac.AppendText(text, n.fanout)
		return mac.AppendText(text, id)
	})
}

// Principal names the sender of a request: the values of the headers that the policy binds sessions to.
func (n Names) Principal(request []policy.Header, bind []string) string {
	return n.names.Name(func(text []byte) []byte {
		text = mac.AppendText(text, "principal")
		text = mac.AppendText(text, n.fanout)
		for _, name := range bind {
			text = mac.AppendText(text, name)
			for i := range request {
				if header := &request[i]; header.Name == name && !header.Value.IsEmpty() {
					text = mac.AppendText(text, "=")
					text = mac.AppendText(text, header.Value.Reveal())
				}
			}
		}
		return text
	})
}
