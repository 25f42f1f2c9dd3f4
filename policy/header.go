package policy

import "strings"

const (
	// TicketHeader is the header in which a ticket crosses the fan-out.
	TicketHeader = "x-bellhop-ticket"
	// TicketAlias is how a server that reads _ as - would take a client's header for the ticket.
	TicketAlias = "x_bellhop_ticket"
	// BaggageHeader is the W3C baggage header (https://www.w3.org/TR/baggage/), the other carrier.
	BaggageHeader = "baggage"
	// BaggageMember is the key of the baggage member that holds the ticket.
	BaggageMember = "bellhop"
	// OriginalURLHeader is what Envoy adds to a request that it sends once more, to where a backend has redirected it.
	OriginalURLHeader = "x-envoy-original-url"
	// connectionHeader nominates further hop-by-hop headers of the same request (RFC 9110, 7.6.1).
	connectionHeader = "connection"
)

// Header is one header line. A name that stands on several lines is several Headers, in their order.
type Header struct {
	Name  string // lower case
	Value Value
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

// trimmed is a value without the white space around it.
func (v Value) trimmed() Value {
	text := v.Reveal()
	if inner := trimOuter(text); len(inner) != len(text) {
		return NewValue(inner)
	}
	return v
}

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

// Clone copies the value of a header, which may be a part of a much longer text. The name is shared.
func (h Header) Clone() Header {
	return Header{Name: h.Name, Value: NewValue(strings.Clone(h.Value.Reveal()))}
}
