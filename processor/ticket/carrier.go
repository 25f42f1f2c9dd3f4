package ticket

import (
	"strings"

	"bellhop/policy"
)

// The least that W3C baggage guarantees to pass, and the most that OpenTelemetry's readers take
// (https://www.w3.org/TR/baggage/#limits): beyond it whole members, or all of them, are dropped.
const (
	maxBaggageBytes   = 8192
	maxBaggageMembers = 64
)

// Carried is what one request holds of tickets.
type Carried struct {
	Header  []string // lines of the ticket header
	Member  []string // values of the baggage member
	Baggage string   // the other baggage members, joined into one line
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
				if value, ok := ours(member); ok {
					carried.Member = append(carried.Member, value)
				} else if member = strings.Trim(member, " \t"); member != "" {
					others = append(others, member)
				}
			}
		}
	}
	carried.Baggage = strings.Join(others, ",")
	return carried
}

// Any reports whether the request holds anything that claims to be a ticket.
func (c Carried) Any() bool { return len(c.Header) > 0 || len(c.Member) > 0 }

// Ticket returns the ticket of the first of the carriers that holds one. It is empty where that carrier holds
// several different ones, because no choice among them would be safe. The second result reports that the carriers
// contradict each other.
func (c Carried) Ticket(carriers []policy.Carrier) (ticket string, mismatch bool) {
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

// Baggage returns the baggage line with the ticket's member in front, because readers drop from the end. Members
// that would take the line beyond what readers accept are left out, whole, from the end; the second result counts
// them.
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

// ours returns the value of a baggage member that is Bellhop's, without its properties. Keys are compared without
// regard to case: a reader that folds them must not find a client's ticket.
func ours(member string) (string, bool) {
	key, value, ok := strings.Cut(member, "=")
	if !ok || !strings.EqualFold(strings.Trim(key, " \t"), policy.BaggageMember) {
		return "", false
	}
	value, _, _ = strings.Cut(value, ";")
	return strings.Trim(value, " \t"), true
}

func single(lines []string) string {
	for _, line := range lines[1:] {
		if line != lines[0] {
			return ""
		}
	}
	return lines[0]
}
