package policy

import (
	"crypto/subtle"
	"fmt"
	"io"
	"log/slog"
	"strings"
)

const (
	// TicketHeader is the header in which a ticket crosses the fan-out.
	TicketHeader = "x-bellhop-ticket"
	// BaggageHeader is the W3C baggage header (https://www.w3.org/TR/baggage/), the other carrier.
	BaggageHeader = "baggage"
	// BaggageMember is the key of the baggage member that holds the ticket.
	BaggageMember = "bellhop"
	// OriginalURLHeader is what Envoy adds to a request that it repeats to follow a backend's redirect.
	OriginalURLHeader = "x-envoy-original-url"
	// connectionHeader nominates further hop-by-hop headers of the same request (RFC 9110, 7.6.1).
	connectionHeader = "connection"
)

// TicketAliases are the headers that servers which read _ as - would take for the ticket.
func TicketAliases() []string {
	return []string{"x_bellhop_ticket", "x_bellhop-ticket", "x-bellhop_ticket"}
}

// IsTicketAlias reports whether a name is one of [TicketAliases].
func IsTicketAlias(name string) bool {
	return len(name) == len(TicketHeader) && name != TicketHeader && hyphenated(name) == TicketHeader
}

// Header is one header line. A name with several lines is several Headers, in order.
type Header struct {
	Name  string // lower case
	Value Value
}

// Clone copies the value of a header, so that it does not keep the larger message alive of which it is a part. The
// name is shared.
func (h Header) Clone() Header {
	return Header{Name: h.Name, Value: NewValue(strings.Clone(h.Value.Reveal()))}
}

// ValidName reports whether name is a header field name: a token of RFC 9110, 5.6.2.
func ValidName(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		if !tokenByte(name[i]) {
			return false
		}
	}
	return true
}

func tokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	default:
		return strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
	}
}

// ValidValue reports whether text may be sent as a header value: no control byte but TAB. Bytes from 0x80 are
// obs-text (RFC 9110, 5.5) and pass.
func ValidValue(text string) bool {
	for i := range len(text) {
		if c := text[i]; (c < 0x20 && c != '\t') || c == 0x7f {
			return false
		}
	}
	return true
}

// trimOuter removes the optional white space around a field value, which is not part of it (RFC 9110, 5.5).
func trimOuter(text string) string { return strings.Trim(text, " \t") }

// nominated returns the header names that the request's own Connection lines make hop-by-hop.
func nominated(request []Header) map[string]bool {
	var names map[string]bool
	for _, header := range request {
		if header.Name != connectionHeader {
			continue
		}
		for option := range strings.SplitSeq(header.Value.Reveal(), ",") {
			if names == nil {
				names = make(map[string]bool)
			}
			names[strings.ToLower(trimOuter(option))] = true
		}
	}
	return names
}

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

// IsEmpty reports whether the value is nothing but white space, which is as if the header had not been sent.
func (v Value) IsEmpty() bool { return trimOuter(v.Reveal()) == "" }

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

// trimmed returns the value without surrounding white space.
func (v Value) trimmed() Value {
	text := v.Reveal()
	if inner := trimOuter(text); len(inner) != len(text) {
		return NewValue(strings.Clone(inner)) // else all of the text would live as long as what is kept of it
	}
	return v
}
