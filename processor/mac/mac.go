// Package mac computes the keyed digests that name captures, sessions and principals.
package mac

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"sync"
)

// Length is the length of every name in bytes: 256 bits in unpadded base64url, which passes unchanged through headers,
// baggage and log lines.
const Length = 43

// Namer computes names under one key, by HMAC-SHA-256 (RFC 2104). Safe for concurrent use.
type Namer struct {
	states sync.Pool // of *state: resetting a keyed MAC is cheaper than making one
}

// state is what one name is computed with. Pooling avoids allocating its buffers for each name.
type state struct {
	mac  hash.Hash
	text []byte
	sum  [sha256.Size]byte
}

// maxPooled is the longest text whose buffer is kept, in bytes.
const maxPooled = 4 << 10

// New returns a namer with a key.
func New(key []byte) *Namer {
	return &Namer{states: sync.Pool{New: func() any { return &state{mac: hmac.New(sha256.New, key)} }}}
}

// Name names the text that fill appends to its argument. Begin it with a text of the purpose, so that names for several
// purposes can have one key.
func (n *Namer) Name(fill func(text []byte) []byte) string { return n.Tagged("", fill) }

// Tagged is [Namer.Name] with a tag in place of its end.
func (n *Namer) Tagged(tag string, fill func(text []byte) []byte) string {
	var name [Length]byte
	n.Into(name[:], fill)
	copy(name[Length-len(tag):], tag)
	return string(name[:])
}

// Into fills name, of at most [Length] bytes, with the beginning of a name: six bits for each byte.
func (n *Namer) Into(name []byte, fill func(text []byte) []byte) {
	s := n.states.Get().(*state) //nolint:forcetypeassert // the pool holds nothing else
	s.text = fill(s.text[:0])
	s.mac.Reset()
	s.mac.Write(s.text)
	var whole [Length]byte
	base64.RawURLEncoding.Encode(whole[:], s.mac.Sum(s.sum[:0]))
	copy(name, whole[:])
	clear(s.text) // it may hold a credential
	if cap(s.text) <= maxPooled {
		n.states.Put(s)
	}
}

// Encode writes a digest as a name, with one allocation.
func Encode(sum [sha256.Size]byte) string {
	var name [Length]byte
	base64.RawURLEncoding.Encode(name[:], sum[:])
	return string(name[:])
}

// AppendText appends a text after its length, so that no two sequences of texts have the same bytes.
func AppendText(to []byte, text string) []byte {
	to = binary.BigEndian.AppendUint64(to, uint64(len(text)))
	return append(to, text...)
}
