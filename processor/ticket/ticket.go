// Package ticket makes tickets, and reads and writes them in the carriers in which they cross the fan-out.
//
// A stored ticket names the content of a capture: it is a MAC over it, so the same headers have the same ticket on every
// replica that holds the key, and nobody without the key can make one. A sealed ticket is the capture itself, encrypted
// so that the same holds.
package ticket

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash"
	"time"

	"bellhop/policy"
)

// Length is the length of every stored ticket in bytes: 256 bits of MAC in unpadded base64url, so that it passes unchanged
// through headers, baggage and log lines.
const Length = 43

// domain separates this MAC from any other use of the same key.
const domain = "bellhop ticket 1"

// Minter makes the stored tickets of one fan-out.
type Minter struct {
	key    Key
	fanout string
	rotate time.Duration
}

// NewMinter makes tickets for one fan-out under key. The same headers get a new ticket every rotate.
func NewMinter(key Key, fanout string, rotate time.Duration) *Minter {
	return &Minter{key: key, fanout: fanout, rotate: rotate}
}

// Mint returns the ticket of a capture at a time. An empty capture has a ticket too: it says that this client sent
// nothing, which is not the same as no client at all.
func (m *Minter) Mint(capture policy.Capture, now time.Time) string {
	mac := hmac.New(sha256.New, []byte(*m.key.secret))
	writeText(mac, domain)
	writeText(mac, m.fanout)
	writeNumber(mac, uint64(now.UnixNano()/int64(m.rotate))) //nolint:gosec // the epoch of a time after 1970
	writeCapture(mac, capture)
	var sum [sha256.Size]byte
	return base64.RawURLEncoding.EncodeToString(mac.Sum(sum[:0]))
}

// Content names what a capture holds, whatever the time and the key: two tickets of the same content differ by their epoch
// or key only. It is a plain digest, so it is kept as the capture itself is: in memory, or encrypted.
func Content(capture policy.Capture) string {
	sum := sha256.New()
	writeCapture(sum, capture)
	return base64.RawURLEncoding.EncodeToString(sum.Sum(nil))
}

// WellFormed reports whether text can be a stored ticket at all. It spares the store a search for what a client made up.
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

func writeCapture(mac hash.Hash, capture policy.Capture) {
	for _, header := range capture {
		writeText(mac, header.Name)
		writeText(mac, header.Value.Reveal())
	}
}

// writeText adds text with its length, so that no two sequences of texts have the same bytes.
func writeText(mac hash.Hash, text string) {
	writeNumber(mac, uint64(len(text)))
	mac.Write([]byte(text))
}

func writeNumber(mac hash.Hash, number uint64) {
	var bytes [8]byte
	binary.BigEndian.PutUint64(bytes[:], number)
	mac.Write(bytes[:])
}
