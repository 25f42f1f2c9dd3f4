package session

import (
	"strings"

	"bellhop/policy"
	"bellhop/processor/mac"
)

// Names computes the names under which sessions and principals are stored: keyed digests, so that neither a session's
// ID nor a user's credential is stored. Safe for concurrent use.
type Names struct {
	names  *mac.Namer
	fanout string
	tag    string // at the end of each session's name: says of which fan-out it is
}

// tagLength is the length of a tag: 48 bits.
const tagLength = 8

// NewNames returns the names for the sessions of one fan-out.
func NewNames(key []byte, fanout string) Names {
	n := Names{names: mac.New(key), fanout: fanout}
	name := n.names.Name(func(text []byte) []byte { return mac.AppendText(mac.AppendText(text, "tag"), fanout) })
	n.tag = name[:tagLength]
	return n
}

// Session names the session with an ID.
func (n Names) Session(id string) string {
	return n.names.Tagged(n.tag, func(text []byte) []byte {
		text = mac.AppendText(text, "session")
		text = mac.AppendText(text, n.fanout)
		return mac.AppendText(text, id)
	})
}

// Owns reports whether a name is that of a session of this fan-out.
func (n Names) Owns(name string) bool {
	return len(name) == mac.Length && strings.HasSuffix(name, n.tag)
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
