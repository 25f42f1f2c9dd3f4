package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"sync"

	"bellhop/policy"
)

// Names makes the names under which sessions and principals are stored: keyed digests, so that neither a session's ID
// nor a user's credential is stored. Safe for concurrent use.
type Names struct {
	macs   *sync.Pool // of hash.Hash: resetting a keyed MAC is cheaper than making one
	fanout string
}

// NewNames makes names for the sessions of one fan-out.
func NewNames(key []byte, fanout string) Names {
	return Names{macs: &sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}, fanout: fanout}
}

// nameLength is that of every name, in bytes: 256 bits of MAC in unpadded base64url.
const nameLength = 43

// scratch is room for most texts, in bytes. The compiler keeps it on the stack; a longer text moves to the heap.
const scratch = 512

// Session names the session with an ID.
func (n Names) Session(id string) string {
	text := appendText(make([]byte, 0, scratch), "session")
	text = appendText(text, n.fanout)
	return n.digest(appendText(text, id))
}

// Principal names the sender of a request: the values of the headers that the policy binds sessions to.
func (n Names) Principal(request []policy.Header, bind []string) string {
	text := appendText(make([]byte, 0, scratch), "principal")
	text = appendText(text, n.fanout)
	for _, name := range bind {
		text = appendText(text, name)
		for _, header := range request {
			if header.Name == name {
				text = appendText(text, "=")
				text = appendText(text, header.Value.Reveal())
			}
		}
	}
	return n.digest(text)
}

func (n Names) digest(text []byte) string {
	mac := n.macs.Get().(hash.Hash) //nolint:forcetypeassert // the pool holds nothing else
	defer n.macs.Put(mac)
	mac.Reset()
	mac.Write(text)
	var name [nameLength]byte
	base64.RawURLEncoding.Encode(name[:], mac.Sum(text[:0]))
	return string(name[:])
}

// appendText appends a text after its length, so that no two sequences of texts have the same bytes.
func appendText(to []byte, text string) []byte {
	to = binary.BigEndian.AppendUint64(to, uint64(len(text)))
	return append(to, text...)
}
