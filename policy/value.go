package policy

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
)

// redacted is all that any formatter of a [Value] ever shows.
const redacted = "[REDACTED]"

// Value is the value of one header line: a credential until proven otherwise. No formatter, encoder or logger can
// print it; [Value.Reveal] is the one way out, and a test lists its callers. The zero Value is empty.
//
// The text is behind a pointer because fmt passes over a type's own formatter for a verb that does not fit it (%p)
// and prints the fields instead.
type Value struct{ text *string }

// NewValue wraps the bytes of a header value, which need not be UTF-8.
func NewValue(text string) Value { return Value{text: &text} }

// Reveal returns the bytes themselves. Only code that puts them on the wire or under a key may call it.
func (v Value) Reveal() string {
	if v.text == nil {
		return ""
	}
	return *v.text
}

// Len is the length of the value in bytes.
func (v Value) Len() int { return len(v.Reveal()) }

// Equal compares in constant time, so that a value cannot be guessed by timing.
func (v Value) Equal(other Value) bool {
	a, b := v.Reveal(), other.Reveal()
	if len(a) != len(b) {
		return false
	}
	var differ byte
	for i := range len(a) {
		differ |= a[i] ^ b[i]
	}
	return subtle.ConstantTimeByteEq(differ, 0) == 1
}

// Format implements [fmt.Formatter] for every verb.
func (Value) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// String implements [fmt.Stringer].
func (Value) String() string { return redacted }

// GoString implements [fmt.GoStringer].
func (Value) GoString() string { return redacted }

// MarshalText implements [encoding.TextMarshaler], and with it JSON, YAML and XML.
func (Value) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue implements [slog.LogValuer].
func (Value) LogValue() slog.Value { return slog.StringValue(redacted) }
