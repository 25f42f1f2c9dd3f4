package ticket

import (
	"net/url"
	"strings"

	"bellhop/policy"
)

// The limits of W3C baggage, which OpenTelemetry's readers enforce
// (https://www.w3.org/TR/baggage/#limits): beyond it whole members, or all of them, are dropped.
const (
	maxBaggageBytes   = 8192
	maxBaggageMembers = 64
)

// Carried holds the tickets and the baggage of one request.
type Carried struct {
	Header  []string // lines of the ticket header
	Aliases []string // names of headers that servers take for the ticket header: whoever writes it so, it is no ticket
	Member  []string // values of the baggage member
	Baggage string   // the other baggage members, joined into one line
	// Malformed says that the baggage had members that the standard does not allow. They are not in Baggage.
	Malformed bool
}

// Read finds every ticket in a request, in either carrier.
func Read(request []policy.Header) Carried {
	var carried Carried
	var others []string
	for _, header := range request {
		switch header.Name {
		case policy.TicketHeader:
			carried.Header = append(carried.Header, header.Value.Reveal())
		case policy.BaggageHeader:
			for member := range strings.SplitSeq(header.Value.Reveal(), ",") {
				member = strings.Trim(member, " \t")
				switch value, kind := read(member); {
				case member == "":
				case kind == ours:
					carried.Member = append(carried.Member, value)
				case kind == foreign:
					others = append(others, member)
				default:
					carried.Malformed = true
				}
			}
		default:
			if policy.IsTicketAlias(header.Name) {
				carried.Aliases = append(carried.Aliases, header.Name)
			}
		}
	}
	carried.Baggage = strings.Join(others, ",")
	return carried
}

// RewriteBaggage reports whether the baggage must be rewritten: it holds tickets, or what a lenient reader
// could take for one.
func (c Carried) RewriteBaggage() bool { return len(c.Member) > 0 || c.Malformed }

// Any reports whether the request has anything that claims to be a ticket.
func (c Carried) Any() bool { return len(c.Header) > 0 || len(c.Member) > 0 || len(c.Aliases) > 0 }

// Ticket returns the ticket of the first carrier that holds one. It is empty where that carrier holds several different
// ones, because no choice among them is safe, and where the header is misspelt. The second result reports that the
// carriers hold different tickets.
func (c Carried) Ticket(carriers []policy.Carrier) (ticket string, mismatch bool) {
	if len(c.Aliases) > 0 {
		return "", false
	}
	var found []string
	for _, carrier := range carriers {
		lines := c.Header
		if carrier == policy.CarrierBaggage {
			lines = c.Member
		}
		if len(lines) > 0 {
			found = append(found, single(lines))
		}
	}
	if len(found) == 0 {
		return "", false
	}
	for _, other := range found[1:] {
		mismatch = mismatch || other != found[0]
	}
	return found[0], mismatch
}

// Baggage returns the baggage line with the ticket's member in front, because readers drop members from the end.
// Members beyond what readers accept are left out, whole, from the end; the second result counts them.
func Baggage(ticket, others string) (line string, dropped int) {
	line = policy.BaggageMember + "=" + ticket
	if others == "" {
		return line, 0
	}
	kept := 1
	for member := range strings.SplitSeq(others, ",") {
		if dropped > 0 || kept >= maxBaggageMembers || len(line)+1+len(member) > maxBaggageBytes {
			dropped++
			continue
		}
		line += "," + member
		kept++
	}
	return line, dropped
}

// kind says what a baggage member is.
type kind int

const (
	malformed kind = iota // not allowed by the standard
	ours                  // Bellhop's
	foreign               // of another vendor
)

// read classifies a baggage member, and returns the value of ours without its properties. Readers are more lenient than
// the standard, each in its own way: OpenTelemetry trims any Unicode space off a key, others fold its case or decode
// it. So a member is ours if any of them could take it for ours, and malformed if its key is not a token.
func read(member string) (value string, _ kind) {
	key, value, hasValue := strings.Cut(member, "=")
	key = strings.Trim(key, " \t")
	value, _, _ = strings.Cut(value, ";")
	value = strings.Trim(value, " \t")
	lenient := key
	if decoded, err := url.PathUnescape(key); err == nil {
		lenient = decoded
	}
	switch {
	case strings.EqualFold(strings.TrimSpace(lenient), policy.BaggageMember):
		return value, ours
	case !hasValue || !policy.ValidName(key):
		return "", malformed
	default:
		return "", foreign
	}
}

func single(lines []string) string {
	for _, line := range lines[1:] {
		if line != lines[0] {
			return ""
		}
	}
	return lines[0]
}
