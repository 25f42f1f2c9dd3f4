package ticket

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"time"

	"bellhop/policy"
	"bellhop/processor/mac"
)

// Length is the length of every stored ticket in bytes.
const Length = mac.Length

// The parts of a stored ticket, in bytes of six bits each. The name is that of the content; what follows makes another
// text of it in each epoch and under each key. Nobody can make either without the key: together they are 204 bits of
// MAC.
const (
	nameLength  = 28
	epochLength = 4
	tagLength   = 6
	keyLength   = 5
	epochEnd    = nameLength + epochLength
	tagEnd      = epochEnd + tagLength
)

// epochs is how many epochs are told apart.
const epochs = 1 << 24

// The domains separate these MACs from any other use of the same key.
const (
	nameDomain = "bellhop ticket 2"
	tagDomain  = "bellhop ticket 2 epoch"
	keyDomain  = "ticket id"
)

// Minter mints and verifies the stored tickets of one fan-out, under one key. Safe for concurrent use.
type Minter struct {
	names  *mac.Namer
	id     string // says which key made a ticket
	fanout string
	rotate time.Duration
}

// NewMinter mints tickets for one fan-out with a key. The same headers get a new ticket every rotate.
func NewMinter(key Key, fanout string, rotate time.Duration) *Minter {
	id := base64.RawURLEncoding.EncodeToString(key.Derive(keyDomain))[:keyLength]
	return &Minter{names: mac.New([]byte(*key.secret)), id: id, fanout: fanout, rotate: rotate}
}

// Mint returns the ticket of a capture at a time. An empty capture has a ticket too: it says that this client sent
// nothing, which is not the same as no client at all.
func (m *Minter) Mint(capture policy.Capture, now time.Time) string {
	var text [Length]byte
	m.names.Into(text[:nameLength], func(text []byte) []byte {
		text = mac.AppendText(text, nameDomain)
		text = mac.AppendText(text, m.fanout)
		return appendCapture(text, capture)
	})
	epoch := uint32(now.UnixNano() / int64(m.rotate) % epochs) //nolint:gosec // after 1970
	var raw [4]byte
	binary.BigEndian.PutUint32(raw[:], epoch)
	base64.RawURLEncoding.Encode(text[nameLength:epochEnd], raw[1:]) // 24 bits
	m.tag(text[epochEnd:tagEnd], text[:epochEnd])
	copy(text[tagEnd:], m.id)
	return string(text[:])
}

// tag authenticates the name and the epoch of a ticket.
func (m *Minter) tag(tag, of []byte) {
	m.names.Into(tag, func(text []byte) []byte {
		text = mac.AppendText(text, tagDomain)
		text = mac.AppendText(text, m.fanout)
		return append(text, of...)
	})
}

// Made reports whether the key of this minter made a ticket, or claims to.
func (m *Minter) Made(text string) bool { return WellFormed(text) && text[tagEnd:] == m.id }

// Verify reports whether a ticket that this minter made is unchanged.
func (m *Minter) Verify(text string) bool {
	var tag [tagLength]byte
	m.tag(tag[:], []byte(text[:epochEnd]))
	return subtle.ConstantTimeCompare(tag[:], []byte(text[epochEnd:tagEnd])) == 1
}

// nameOf is the name of a ticket's content, under which it is stored.
func nameOf(text string) string { return text[:nameLength] }

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
