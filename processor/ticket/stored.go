package ticket

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"bellhop/policy"
	"bellhop/processor/mac"
)

// Length is the length of every stored ticket in bytes.
const Length = mac.Length

// domain separates this MAC from any other use of the same key.
const domain = "bellhop ticket 1"

// Minter mints the stored tickets of one fan-out. Safe for concurrent use.
type Minter struct {
	names  *mac.Namer
	fanout string
	rotate time.Duration
}

// NewMinter mints tickets for one fan-out with a key. The same headers get a new ticket every rotate.
func NewMinter(key Key, fanout string, rotate time.Duration) *Minter {
	return &Minter{names: mac.New([]byte(*key.secret)), fanout: fanout, rotate: rotate}
}

// Mint returns the ticket of a capture at a time. An empty capture has a ticket too: it says that this client sent
// nothing, which is not the same as no client at all.
func (m *Minter) Mint(capture policy.Capture, now time.Time) string {
	return m.names.Name(func(text []byte) []byte {
		text = mac.AppendText(text, domain)
		text = mac.AppendText(text, m.fanout)
		text = binary.BigEndian.AppendUint64(text, uint64(now.UnixNano()/int64(m.rotate))) //nolint:gosec // after 1970
		return appendCapture(text, capture)
	})
}

// Content names what a capture holds, whatever the time and the key: two tickets of the same content differ by their
// epoch or key only. It is a plain digest, so it is kept as the capture itself is: in memory, or encrypted.
func Content(capture policy.Capture) string {
	sum := sha256.Sum256(appendCapture(make([]byte, 0, scratch), capture))
	return mac.Encode(sum)
}

// scratch is room for most captures, in bytes. The compiler keeps it on the stack; a longer capture moves to the heap.
const scratch = 512

// WellFormed reports whether text has the form of a stored ticket, so that other texts are not looked up.
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
		text = mac.AppendText(text, header.Name)
		text = mac.AppendText(text, header.Value.Reveal())
	}
	return text
}
