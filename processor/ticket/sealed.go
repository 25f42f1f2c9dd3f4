package ticket

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/daead/subtle"

	"bellhop/policy"
)

// The longest sealed ticket, by carrier, in bytes: a little less than what was measured to cross vMCP. Baggage above
// 8,192 bytes in all is lost silently.
const (
	MaxSealedInHeader  = 12 << 10
	MaxSealedInBaggage = maxBaggageBytes - len(policy.BaggageMember) - 1
)

const (
	sealedDomain  = "bellhop sealed ticket 1"
	sealedVersion = 1
	keyIDBytes    = 4
	sivBytes      = 16
	// block is the size in bytes to whose multiple a capture is padded, so that the length of a ticket reveals little of
	// it, and is never that of a stored one.
	block = 32
)

// Sealer makes and opens tickets that hold their capture themselves, encrypted, so that they need no store. The
// encryption is deterministic (AES-SIV, RFC 5297): the same headers have the same ticket on every replica. Safe for
// concurrent use.
type Sealer struct {
	keys     []sealingKey // the newest first
	fanout   []byte
	rotate   time.Duration
	lifetime time.Duration
}

type sealingKey struct {
	id     [keyIDBytes]byte
	cipher *subtle.AESSIV
}

// NewSealer makes and opens the tickets of one fan-out. The same headers get a new ticket every rotate; one can be
// opened until lifetime after that.
func NewSealer(keys Keys, fanout string, rotate, lifetime time.Duration) *Sealer {
	s := &Sealer{fanout: []byte(sealedDomain + "\x00" + fanout), rotate: rotate, lifetime: lifetime}
	for _, key := range keys {
		cipher, err := subtle.NewAESSIV(slices.Concat(key.Derive("seal mac"), key.Derive("seal cipher")))
		if err != nil {
			panic(err) // it takes any 64 bytes
		}
		s.keys = append(s.keys, sealingKey{id: [keyIDBytes]byte(key.Derive("seal id")), cipher: cipher})
	}
	return s
}

// Format implements [fmt.Formatter] for every verb, without the keys.
func (*Sealer) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, "[SEALER]") }

// Seal returns the ticket that holds a capture, whatever its length.
func (s *Sealer) Seal(capture policy.Capture, now time.Time) (string, error) {
	epoch := now.UnixNano()/int64(s.rotate) + 1
	expires := time.Unix(0, epoch*int64(s.rotate)).Add(s.lifetime)
	key := s.keys[0]
	sealed, err := key.cipher.EncryptDeterministically(encodeCapture(capture, expires), s.fanout)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(append(key.id[:], sealed...)), nil
}

// Open returns the capture in a ticket. It is false for a ticket that is forged, expired, of another fan-out, or sealed
// with a key that was removed.
func (s *Sealer) Open(text string, now time.Time) (policy.Capture, bool) {
	if !Sealed(text) {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) < keyIDBytes+sivBytes {
		return nil, false
	}
	for _, key := range s.keys {
		if key.id != [keyIDBytes]byte(raw) {
			continue
		}
		plain, err := key.cipher.DecryptDeterministically(raw[keyIDBytes:], s.fanout)
		if err != nil {
			continue
		}
		capture, expires, ok := decodeCapture(plain)
		return capture, ok && now.Before(expires)
	}
	return nil, false
}

// Sealed reports whether text has the form of a sealed ticket, so that other texts are not decrypted.
func Sealed(text string) bool {
	return len(text) > Length && len(text) <= MaxSealedInHeader && inAlphabet(text)
}

// encodeCapture writes a capture and when it expires: version, Unix seconds, and each header with the lengths of its
// parts, padded with zeros. No header has an empty name, so the padding ends the list.
func encodeCapture(capture policy.Capture, expires time.Time) []byte {
	plain := []byte{sealedVersion}
	plain = binary.BigEndian.AppendUint64(plain, uint64(expires.Unix())) //nolint:gosec // after 1970
	for _, header := range capture {
		plain = binary.AppendUvarint(plain, uint64(len(header.Name)))
		plain = append(plain, header.Name...)
		plain = binary.AppendUvarint(plain, uint64(header.Value.Len())) //nolint:gosec // a length
		plain = append(plain, header.Value.Reveal()...)
	}
	return append(plain, make([]byte, block-len(plain)%block)...)
}

// decodeCapture reads what encodeCapture wrote.
func decodeCapture(plain []byte) (capture policy.Capture, expires time.Time, ok bool) {
	if len(plain) < 9 || plain[0] != sealedVersion {
		return nil, time.Time{}, false
	}
	expires = time.Unix(int64(binary.BigEndian.Uint64(plain[1:])), 0) //nolint:gosec // as it was written
	rest := plain[9:]
	for len(rest) > 0 && rest[0] != 0 {
		var name, value []byte
		if name, rest, ok = cut(rest); !ok {
			return nil, time.Time{}, false
		}
		if value, rest, ok = cut(rest); !ok {
			return nil, time.Time{}, false
		}
		capture = append(capture, policy.Header{Name: string(name), Value: policy.NewValue(string(value))})
	}
	return capture, expires, true
}

// cut removes a length and the part of that length from the front.
func cut(from []byte) (part, rest []byte, ok bool) {
	length, n := binary.Uvarint(from)
	if n <= 0 || length > uint64(len(from)-n) { //nolint:gosec // n is at most the length
		return nil, nil, false
	}
	end := n + int(length) //nolint:gosec // at most what there is
	return from[n:end], from[end:], true
}
