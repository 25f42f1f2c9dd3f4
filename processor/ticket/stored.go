package ticket

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"sync"
	"time"

	"bellhop/policy"
)

// Length is the length of every stored ticket in bytes: 256 bits of MAC in unpadded base64url, so that it passes
// unchanged through headers, baggage and log lines.
const Length = 43

// domain separates this MAC from any other use of the same key.
const domain = "bellhop ticket 1"

// Minter makes the stored tickets of one fan-out. Safe for concurrent use.
type Minter struct {
	macs   *sync.Pool // of hash.Hash: resetting a keyed MAC is cheaper than making one
	fanout string
	rotate time.Duration
}

// NewMinter makes tickets for one fan-out under key. The same headers get a new ticket every rotate.
func NewMinter(key Key, fanout string, rotate time.Duration) *Minter {
	secret := []byte(*key.secret)
	return &Minter{
		macs:   &sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }},
		fanout: fanout, rotate: rotate,
	}
}

// Mint returns the ticket of a capture at a time. An empty capture has a ticket too: it says that this client sent
// nothing, which is not the same as no client at all.
func (m *Minter) Mint(capture policy.Capture, now time.Time) string {
	text := make([]byte, 0, scratch)
	text = appendText(text, domain)
	text = appendText(text, m.fanout)
	text = binary.BigEndian.AppendUint64(text, uint64(now.UnixNano()/int64(m.rotate))) //nolint:gosec // after 1970
	text = appendCapture(text, capture)
	mac := m.macs.Get().(hash.Hash) //nolint:forcetypeassert // the pool holds nothing else
	defer m.macs.Put(mac)
	mac.Reset()
	mac.Write(text)
	return encode([sha256.Size]byte(mac.Sum(text[:0])))
}

// Content names what a capture holds, whatever the time and the key: two tickets of the same content differ by their
// epoch or key only. It is a plain digest, so it is kept as the capture itself is: in memory, or encrypted.
func Content(capture policy.Capture) string {
	sum := sha256.Sum256(appendCapture(make([]byte, 0, scratch), capture))
	return encode(sum)
}

// encode writes a digest in the alphabet of tickets, with one allocation.
func encode(sum [sha256.Size]byte) string {
	var text [Length]byte
	base64.RawURLEncoding.Encode(text[:], sum[:])
	return string(text[:])
}

// scratch is room for most captures, in bytes. The compiler keeps it on the stack; a longer capture moves to the heap.
const scratch = 512

// WellFormed reports whether text can be a stored ticket at all, which spares the store look-ups of invented ones.
func WellFormed(text string) bool { return len(text) == Length && inAlphabet(text) }

func inAlphabet(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

func appendCapture(text []byte, capture policy.Capture) []byte {
	for _, header := range capture {
		text = appendText(text, header.Name)
		text = appendText(text, header.Value.Reveal())
	}
	return text
}

// appendText appends a text after its length, so that no two sequences of texts have the same bytes.
func appendText(to []byte, text string) []byte {
	to = binary.BigEndian.AppendUint64(to, uint64(len(text)))
	return append(to, text...)
}
