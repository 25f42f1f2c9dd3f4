package processor

import (
	"slices"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/ticket"
)

// Envoy's limits. It answers 500 to a request whose mutation exceeds any of them, even if it is configured to fail open
// (measured with Envoy 1.40).
const (
	maxOperations  = 100      // of one kind in one mutation
	maxHeaders     = 100      // lines of the request that results
	maxHeaderBytes = 60 << 10 // of the request that results
)

// Answer says how to change a message: first Remove, then Set, or an Error instead of both. The zero Answer changes
// nothing.
type Answer struct {
	Remove []string
	Set    []policy.Header // lines of one name stand together and replace what was there
	Error  *Error          // not nil: the request, or its response, is replaced by this error
	// Pending is not nil if the response's headers are needed: the transport passes both to [Processor.Response].
	Pending *Pending
	// Reading is not nil if the request's body is needed: the transport passes both to [Processor.Body]. What the answer
	// changes it changes at once.
	Reading *Reading
	// Session is Bellhop's name for the request's MCP session, for [Processor.SessionNotFound]; empty: none.
	Session string
}

// Pending says what the response to a request is needed for. It is bound to the policy that served the request.
type Pending struct {
	fanout      *fanout
	wait        *wait
	opening     *session.Record       // not nil: the response names the session that this record begins
	claim       *claim                // not nil: what the request saves in its session
	superseding *session.Supersession // not nil: a session whose principal has changed
	ending      string                // not empty: the session that the client asked to end
	explanation []policy.Header       // for a client that asked for it
}

// replaces reports whether a line of that name does not survive the answer.
func (a *Answer) replaces(name string) bool {
	return slices.Contains(a.Remove, name) ||
		slices.ContainsFunc(a.Set, func(h policy.Header) bool { return h.Name == name })
}

// fits reports whether Envoy will accept the answer to a request. With forward rules Envoy sends only some of the
// headers, so this is an estimate.
func (a *Answer) fits(request []policy.Header) bool {
	if len(a.Remove) > maxOperations || len(a.Set) > maxOperations {
		return false
	}
	lines, bytes := len(a.Set), 0
	for i := range a.Set {
		bytes += size(&a.Set[i])
	}
	if lines+len(request) <= maxHeaders && bytes+total(request) <= maxHeaderBytes {
		return true // even if none of the request's lines goes
	}
	for i := range request {
		if header := &request[i]; !a.replaces(header.Name) {
			lines++
			bytes += size(header)
		}
	}
	return lines <= maxHeaders && bytes <= maxHeaderBytes
}

func total(headers []policy.Header) int {
	bytes := 0
	for i := range headers {
		bytes += size(&headers[i])
	}
	return bytes
}

func size(header *policy.Header) int { return len(header.Name) + header.Value.Len() }

// setBaggage sets the baggage members that remain without Bellhop's.
func (a *Answer) setBaggage(others string) {
	if others = valid(others); others == "" {
		a.Remove = append(a.Remove, policy.BaggageHeader)
		return
	}
	a.Set = append(a.Set, policy.Header{Name: policy.BaggageHeader, Value: policy.NewValue(others)})
}

// valid returns text if Envoy accepts it as a header value, else "".
func valid(text string) string {
	if !policy.ValidValue(text) {
		return ""
	}
	return text
}

// withoutCarriers removes tickets from a request, and changes nothing else. A dry run needs it: a pooled connection of
// the fan-out could keep a forged ticket, and one from before the dry run could reach a backend. A client's aliases of
// the ticket are removed unseen, because forward rules do not show them.
func withoutCarriers(role Role, request []policy.Header) Answer {
	var answer Answer
	sent := func(name string) bool {
		return slices.ContainsFunc(request, func(h policy.Header) bool { return h.Name == name })
	}
	for _, alias := range policy.TicketAliases() {
		if role == Ingress || sent(alias) {
			answer.Remove = append(answer.Remove, alias)
		}
	}
	if sent(policy.TicketHeader) {
		answer.Remove = append(answer.Remove, policy.TicketHeader)
	}
	if carried := ticket.Read(request); carried.RewriteBaggage() {
		answer.setBaggage(carried.Baggage)
	}
	return answer
}
