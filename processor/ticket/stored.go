package ticket

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"bellhop/policy"
	"bellhop/processor/mac"
)

// Length is the length of every stored ticket in bytes.
const Length = mac.Length

// The parts of a stored ticket, in bytes of six bits each. The name, a MAC of 168 bits, is that of the content. The
// mark and the key make another text of it in each epoch and under each key; a mark is that of an epoch, under the key.
const (
	nameLength  = 28
	epochLength = 4
	markLength  = 6
	keyLength   = 5
	epochEnd    = nameLength + epochLength
	markEnd     = epochEnd + markLength
)

// epochs is how many epochs are told apart.
const epochs = 1 << 24

// The domains separate these MACs from any other use of the same key.
const (
	nameDomain = "bellhop ticket 2"
	markDomain = "bellhop ticket 2 epoch"
	keyDomain  = "ticket id"
)

// Minter mints and verifies the stored tickets of one fan-out, under one key. Safe for concurrent use.
type Minter struct {
	names  *mac.Namer
	id     string // says which key made a ticket
	fanout string
	rotate time.Duration
	marks  [2]atomic.Pointer[mark] // of recent epochs, even and odd
}

// mark is the part of a ticket that says its epoch, and that the key knows it.
type mark struct {
	epoch [epochLength]byte
	tag   [markLength]byte
}

// NewMinter mints tickets for one fan-out with a key. The same headers get a new ticket every rotate.
func NewMinter(key Key, fanout string, rotate time.Duration) *Minter {
	id := base64.RawURLEncoding.EncodeToString(key.Derive(keyDomain))[:keyLength]
	return &Minter{names: mac.New([]byte(*key.secret)), id: id, fanout: fanout, rotate: rotate}
}

// Format implements [fmt.Formatter] for every verb, without the key.
func (*Minter) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, "[MINTER]") }

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
	marked := m.mark([epochLength]byte(text[nameLength:epochEnd]))
	copy(text[epochEnd:], marked.tag[:])
	copy(text[markEnd:], m.id)
	return string(text[:])
}

// mark returns that of an epoch. Tickets of the present one, and of the one before, cost no MAC of their own.
func (m *Minter) mark(epoch [epochLength]byte) *mark {
	slot := &m.marks[int(epoch[epochLength-1])%len(m.marks)]
	if known := slot.Load(); known != nil && known.epoch == epoch {
		return known
	}
	made := &mark{epoch: epoch}
	m.names.Into(made.tag[:], func(text []byte) []byte {
		text = mac.AppendText(text, markDomain)
		text = mac.AppendText(text, m.fanout)
		return append(text, epoch[:]...)
	})
	slot.Store(made)
	return made
}

// Made reports whether the key of this minter made a ticket, or claims to.
func (m *Minter) Made(text string) bool { return WellFormed(text) && text[markEnd:] == m.id }

// Verify reports whether a ticket that this minter made has the mark of its epoch.
func (m *Minter) Verify(text string) bool {
	marked := m.mark([epochLength]byte([]byte(text[nameLength:epochEnd])))
	return subtle.ConstantTimeCompare(marked.tag[:], []byte(text[epochEnd:markEnd])) == 1
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
