package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Capture is the headers taken off one client request: in the policy's order, the lines of one name in the client's.
type Capture []Header

// Captured is what a client's request becomes.
type Captured struct {
	Capture  Capture
	Hide     []string // names to remove, present or not: what was not seen must not slip through either
	LeftOut  []string // names that are of a family of the policy and that no policy can carry
	Repeated []string // names of which only the first line was taken
	// Nominated are carried names that the request's own Connection makes hop-by-hop, and so nobody's but the proxy's.
	Nominated []string
}

// Reason says why a client's request is refused. Its text is stable: metrics and clients may rely on it.
type Reason string

const (
	// ReasonByte is a byte that HTTP does not allow in a header value.
	ReasonByte Reason = "control_byte"
	// ReasonValue is a value longer than limits.value_bytes, or than the rule's own max_bytes.
	ReasonValue Reason = "value_too_long"
	// ReasonCount is more header lines than limits.headers.
	ReasonCount Reason = "too_many_headers"
	// ReasonTotal is more bytes of names and values than limits.total_bytes.
	ReasonTotal Reason = "total_too_long"
	// ReasonRepeat is a second line of a header with repeat: reject.
	ReasonRepeat Reason = "repeated"
	// ReasonMissing is a header with required: true that is not there.
	ReasonMissing Reason = "missing"
	// ReasonConflict is a header with conflict: reject that the fan-out sends too, with another value.
	ReasonConflict Reason = "conflict"
)

// Rejection is a request that the policy refuses. It names the header, never its value.
type Rejection struct {
	Header string
	Reason Reason
	Limit  int // lines or bytes; 0 where the reason has none
}

// Error implements error with a text that is fit for the client.
func (r *Rejection) Error() string {
	switch r.Reason {
	case ReasonByte:
		return fmt.Sprintf("header %s holds a control character, which HTTP does not allow; remove it and send the request again", r.Header)
	case ReasonValue:
		return fmt.Sprintf("header %s is longer than the %d bytes allowed; send a shorter value", r.Header, r.Limit)
	case ReasonCount:
		return fmt.Sprintf("header %s is one line more than the %d allowed; send fewer headers", r.Header, r.Limit)
	case ReasonTotal:
		return fmt.Sprintf("header %s takes the headers above the %d bytes allowed in all; send shorter values", r.Header, r.Limit)
	case ReasonRepeat:
		return fmt.Sprintf("header %s stands more than once; send it once", r.Header)
	case ReasonMissing:
		return fmt.Sprintf("header %s is missing; send it with the request", r.Header)
	case ReasonConflict:
		return fmt.Sprintf("header %s is sent by the gateway too, with another value; only one of them can be right", r.Header)
	default:
		return fmt.Sprintf("header %s is not allowed", r.Header)
	}
}

// Capture takes off a client's request the headers that the policy carries. A broken limit rejects the request as
// a whole; nothing is cut to fit.
func (p *Policy) Capture(request []Header) (Captured, *Rejection) {
	taken := Captured{Hide: p.hidden}
	hopByHop := nominated(request)
	for _, header := range request {
		source, _, carried := p.source(header.Name)
		if !carried {
			if p.inFamily(header.Name) {
				taken.LeftOut = appendOnce(taken.LeftOut, header.Name)
			}
			continue
		}
		if _, isFamily := family(source.pattern); isFamily && source.hide {
			taken.Hide = appendOnce(slices.Clip(taken.Hide), header.Name)
		}
		if hopByHop[header.Name] {
			taken.Nominated = appendOnce(taken.Nominated, header.Name)
			continue
		}
		if source.repeat != RepeatAll && taken.Capture.Has(header.Name) {
			if source.repeat == RepeatReject {
				return Captured{}, &Rejection{Header: header.Name, Reason: ReasonRepeat}
			}
			taken.Repeated = appendOnce(taken.Repeated, header.Name)
			continue
		}
		taken.Capture = append(taken.Capture, Header{Name: header.Name, Value: NewValue(trimOuter(header.Value.Reveal()))})
	}
	if rejection := p.exceeds(taken.Capture); rejection != nil {
		return Captured{}, rejection
	}
	p.sort(taken.Capture)
	return taken, nil
}

// Kept returns the part of a capture that a session remembers.
func (p *Policy) Kept(capture Capture) Capture {
	var kept Capture
	for _, header := range capture {
		if source, _, ok := p.source(header.Name); ok && source.keep == KeepSession {
			kept = append(kept, header)
		}
	}
	return kept
}

// KeepsSessions reports whether any rule remembers a header for a session.
func (p *Policy) KeepsSessions() bool {
	return slices.ContainsFunc(p.sources, func(s source) bool { return s.keep == KeepSession })
}

// HasToolRules reports whether any rule is for certain tools only.
func (p *Policy) HasToolRules() bool {
	return slices.ContainsFunc(p.doc.Forward, func(r Rule) bool { return len(r.Tools) > 0 })
}

// HasDiscovery reports whether any backend has a discovery identity, which must not go on what only a client can cause.
func (p *Policy) HasDiscovery() bool {
	return slices.ContainsFunc(p.doc.Backends, func(b Backend) bool { return len(b.Discovery) > 0 })
}

// NeedsOperation reports whether it matters what a request asks for.
func (p *Policy) NeedsOperation() bool { return p.HasToolRules() || p.HasDiscovery() }

// Complete adds to a request's own capture what its session remembers of the headers that it lacks. A remembered header that
// breaks a limit, which may have been another when it was sent, is left out, with all its lines; their names are returned.
func (p *Policy) Complete(own, remembered Capture) (complete Capture, leftOut []string) {
	var lacking Capture
	for _, header := range p.Kept(remembered) {
		if !own.Has(header.Name) {
			lacking = append(lacking, header)
		}
	}
	complete = slices.Concat(own, lacking)
	if len(lacking) > 0 && p.exceeds(complete) != nil {
		complete, leftOut = p.completeWithin(own, lacking)
	}
	p.sort(complete)
	return complete, leftOut
}

// completeWithin adds of the lacking headers those that break no limit: one by one, which takes longer, and is rare.
func (p *Policy) completeWithin(own, lacking Capture) (complete Capture, leftOut []string) {
	complete = slices.Clone(own)
	for rest := lacking; len(rest) > 0; {
		name := rest[0].Name
		lines := slices.IndexFunc(rest, func(h Header) bool { return h.Name != name })
		if lines < 0 {
			lines = len(rest)
		}
		if with := slices.Concat(complete, rest[:lines]); p.exceeds(with) == nil {
			complete = with
		} else {
			leftOut = append(leftOut, name)
		}
		rest = rest[lines:]
	}
	return complete, leftOut
}

// Missing returns a rejection where a required header is not in the capture. What a rule for certain tools requires is
// looked at only where the backend is known: clients know its tools by the fan-out's names.
func (p *Policy) Missing(capture Capture) *Rejection {
	for _, rule := range p.doc.Forward {
		if rule.Required && len(rule.Tools) == 0 && !capture.Has(rule.Name) {
			return &Rejection{Header: rule.Name, Reason: ReasonMissing}
		}
	}
	return nil
}

// Has reports whether the capture has a header of that name.
func (c Capture) Has(name string) bool {
	return slices.ContainsFunc(c, func(h Header) bool { return h.Name == name })
}

// inFamily reports whether a name begins as one of the policy's families.
func (p *Policy) inFamily(name string) bool {
	return slices.ContainsFunc(p.families, func(i int) bool { return covers(p.sources[i].pattern, name) })
}

// sort brings a capture into the policy's order, so that the same headers have the same ticket however a client
// orders them. The lines of one name keep their order.
func (p *Policy) sort(capture Capture) {
	slices.SortStableFunc(capture, func(a, b Header) int {
		_, i, _ := p.source(a.Name)
		_, j, _ := p.source(b.Name)
		return cmp.Or(i-j, strings.Compare(a.Name, b.Name))
	})
}

func (p *Policy) exceeds(capture Capture) *Rejection {
	limits, total := p.doc.Limits, 0
	for i, header := range capture {
		total += len(header.Name) + header.Value.Len()
		source, _, _ := p.source(header.Name)
		most := lower(limits.ValueBytes, source.maxBytes)
		switch {
		case !ValidValue(header.Value.Reveal()):
			return &Rejection{Header: header.Name, Reason: ReasonByte}
		case header.Value.Len() > most:
			return &Rejection{Header: header.Name, Reason: ReasonValue, Limit: most}
		case i >= limits.Headers:
			return &Rejection{Header: header.Name, Reason: ReasonCount, Limit: limits.Headers}
		case total > limits.TotalBytes:
			return &Rejection{Header: header.Name, Reason: ReasonTotal, Limit: limits.TotalBytes}
		}
	}
	return nil
}

func appendOnce(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// Renew returns what a session remembers after a request: its newest values of the headers that the policy keeps. It is within the
// limits of one request: of a family a client could send new names for ever.
func (p *Policy) Renew(remembered, own Capture) Capture {
	renewed, _ := p.Complete(p.Kept(own), remembered)
	return renewed
}
