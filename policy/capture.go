package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Capture holds the headers captured from one client request, in the policy's order; lines of one name are in the
// client's order.
type Capture []Header

// Captured is the result of [Policy.Capture].
type Captured struct {
	Capture  Capture
	Hide     []string // names to remove, present or not, in case a header was not shown to Bellhop
	LeftOut  []string // names with the prefix of a family that are restricted or sensitive
	Repeated []string // names of which only the first line was taken
	// Nominated are listed names that the request's own Connection header makes hop-by-hop, so they are not captured.
	Nominated []string
	// Respelled are names that many servers read as a listed one, such as x_key as x-key. They are not captured.
	Respelled []string
	Stripped  []string // the patterns of strip that the request has headers of
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
	// ReasonMissing is a header with required: true that was not sent, or is empty.
	ReasonMissing Reason = "missing"
	// ReasonLeftOut is a header with required: true that the session keeps, and with which the request exceeds a limit.
	ReasonLeftOut Reason = "over_limit"
	// ReasonSession is a header with required: true that sessions keep, in a request of a session that is not known: what
	// it kept may be lost.
	ReasonSession Reason = "unknown_session"
	// ReasonConflict is a header with conflict: reject that the fan-out sends too, with another value.
	ReasonConflict Reason = "conflict"
	// ReasonOperation is a required header of a rule for tools, where it is not known what the request asks for.
	ReasonOperation Reason = "unknown_operation"
	// ReasonBatch is a required header of a rule for tools, where only a part of a batch calls these.
	ReasonBatch Reason = "mixed_batch"
	// ReasonNoTicket is a required header of a tool call to which the fan-out has given no ticket.
	ReasonNoTicket Reason = "no_ticket"
	// ReasonTicket is a required header of a request whose ticket cannot be redeemed.
	ReasonTicket Reason = "unknown_ticket"
	// ReasonOtherKey is a required header of a request whose ticket a key made that Bellhop does not have.
	ReasonOtherKey Reason = "other_key"
	// ReasonMalformed is a required header of a request whose ticket is none of Bellhop's.
	ReasonMalformed Reason = "malformed_ticket"
	// ReasonSuperseded is a required header of a request whose ticket a newer one has replaced.
	ReasonSuperseded Reason = "superseded"
	// ReasonRedirected is a required header of a request that follows a backend's redirect.
	ReasonRedirected Reason = "redirected"
	// ReasonNoRoom is a required header for which Envoy's limits leave no room in the request.
	ReasonNoRoom Reason = "no_room"
)

// Rejection is a request that the policy refuses. It names the header, never its value.
type Rejection struct {
	Header string
	Reason Reason
	Limit  int        // lines or bytes; 0 where the reason has none
	Why    Unreadable // of [ReasonOperation]
}

// Error implements error with a text that is fit for the client.
func (r *Rejection) Error() string {
	switch r.Reason {
	case ReasonByte:
		return fmt.Sprintf(
			"header %s contains a control character, which HTTP does not allow; remove it and send the request again",
			r.Header,
		)
	case ReasonValue:
		return fmt.Sprintf("header %s is longer than the %d bytes allowed; send a shorter value", r.Header, r.Limit)
	case ReasonCount:
		return fmt.Sprintf("header %s exceeds the %d header lines allowed; send fewer headers", r.Header, r.Limit)
	case ReasonTotal:
		return fmt.Sprintf(
			"header %s exceeds the %d bytes allowed for all headers; send shorter values", r.Header, r.Limit,
		)
	case ReasonRepeat:
		return fmt.Sprintf("header %s is repeated; send it once", r.Header)
	case ReasonMissing:
		return fmt.Sprintf("header %s is missing or empty; send it with the request", r.Header)
	case ReasonLeftOut:
		return fmt.Sprintf(
			"header %s, which the session keeps, is left out because with it the request exceeds a limit; "+
				"send it with the request, and fewer or shorter others", r.Header,
		)
	case ReasonSession:
		return fmt.Sprintf(
			"the session is not known, and header %s is missing; begin a new session, and send it there", r.Header,
		)
	case ReasonConflict:
		return fmt.Sprintf(
			"header %s is sent by the gateway too, with another value; only one of them can be right",
			r.Header,
		)
	default:
		return r.undelivered()
	}
}

// undelivered is the text of a request to a backend for which Bellhop has no required header, whatever its client sent.
func (r *Rejection) undelivered() string {
	why := "it is not allowed"
	switch r.Reason {
	case ReasonOperation:
		why = "it is for certain tools only, and what this request asks for is not known: " + r.Why.Text()
	case ReasonBatch:
		why = "it is for certain tools only, and this batch asks for other things too; send each call by itself"
	case ReasonNoTicket:
		why = "the gateway sent this call without its ticket; the operator has to let it pass " + TicketHeader + " on"
	case ReasonTicket:
		why = "the gateway sent a ticket that has expired or is not stored any more; send the request again"
	case ReasonOtherKey:
		why = "the gateway sent a ticket that was made with a key which Bellhop does not have; send the request again"
	case ReasonMalformed:
		why = "the gateway sent a ticket that is forged, or was changed on the way"
	case ReasonSuperseded:
		why = "the gateway sent an old ticket: the client has since sent other headers; send the request again, " +
			"in a new session if it fails again"
	case ReasonRedirected:
		why = "the request follows a backend's redirect; the operator has to give the gateway the backend's final URL"
	case ReasonNoRoom:
		why = "the request has no room for it; send fewer or shorter headers"
	default:
	}
	return fmt.Sprintf("header %s cannot be delivered to the backend: %s", r.Header, why)
}

// line is one header of a capture and the lookup of its name.
type line struct {
	Header
	covering
}

// hide adds a name to those that the fan-out must not see; at most is how many a request can add.
func (p *Policy) hide(taken *Captured, name string, atMost int) {
	if len(taken.Hide) == len(p.hidden) { // p.hidden is shared: copy before the first append
		taken.Hide = append(make([]string, 0, len(p.hidden)+atMost), p.hidden...)
	}
	taken.Hide = appendOnce(taken.Hide, name)
}

// stripAtIngress takes off a header that no rule captures.
func (p *Policy) stripAtIngress(taken *Captured, name string, atMost int) {
	if len(p.doc.Strip) == 0 {
		return
	}
	if pattern := p.StripPattern(name); pattern != "" {
		taken.Stripped = appendOnce(taken.Stripped, pattern)
		p.hide(taken, name, atMost)
	}
}

// Capture captures the headers that the policy lists from a client's request. A request that exceeds a limit is
// rejected; nothing is truncated.
func (p *Policy) Capture(request []Header) (Captured, *Rejection) {
	taken := Captured{Hide: p.hidden}
	hopByHop := nominated(request)
	lines := make([]line, 0, maxHeaders)
	for _, header := range request {
		cover, leftOut := p.sources.cover(header.Name)
		if leftOut {
			taken.LeftOut = appendOnce(taken.LeftOut, header.Name)
		}
		if cover.set == 0 && p.hideRespelled(&taken, header.Name, len(request)) {
			continue
		}
		if cover.set == 0 {
			p.stripAtIngress(&taken, header.Name, len(request))
			continue
		}
		source := &p.sources.list[cover.position]
		if _, isFamily := family(source.pattern); isFamily && source.hide {
			p.hide(&taken, header.Name, len(request))
		}
		if hopByHop[header.Name] {
			taken.Nominated = appendOnce(taken.Nominated, header.Name)
			continue
		}
		if source.repeat != RepeatAll && hasLine(lines, header.Name) {
			if source.repeat == RepeatReject {
				return Captured{}, &Rejection{Header: header.Name, Reason: ReasonRepeat}
			}
			taken.Repeated = appendOnce(taken.Repeated, header.Name)
			continue
		}
		if source.pattern == header.Name {
			header.Name = source.pattern // share one string among all captures
		}
		if most := lower(p.doc.Limits.ValueBytes, cover.maxBytes); header.Value.Len() > most { // white space is held too
			return Captured{}, &Rejection{Header: header.Name, Reason: ReasonValue, Limit: most}
		}
		header.Value = header.Value.trimmed()
		lines = append(lines, line{header, cover})
	}
	var within budget
	for i := range lines {
		if rejection := within.take(p.doc.Limits, &lines[i]); rejection != nil {
			return Captured{}, rejection
		}
	}
	taken.Capture = inOrder(lines)
	return taken, nil
}

func hasLine(lines []line, name string) bool {
	return slices.ContainsFunc(lines, func(l line) bool { return l.Name == name })
}

// budget counts the lines and bytes of a capture against the limits.
type budget struct{ lines, bytes int }

// take adds a line, or returns which limit it exceeds.
func (b *budget) take(limits Limits, l *line) *Rejection {
	b.lines++
	b.bytes += len(l.Name) + l.Value.Len()
	most := lower(limits.ValueBytes, l.maxBytes)
	switch {
	case !ValidValue(l.Value.Reveal()):
		return &Rejection{Header: l.Name, Reason: ReasonByte}
	case l.Value.Len() > most:
		return &Rejection{Header: l.Name, Reason: ReasonValue, Limit: most}
	case b.lines > limits.Headers:
		return &Rejection{Header: l.Name, Reason: ReasonCount, Limit: limits.Headers}
	case b.bytes > limits.TotalBytes:
		return &Rejection{Header: l.Name, Reason: ReasonTotal, Limit: limits.TotalBytes}
	}
	return nil
}

// byPlace orders lines as the policy does: by source, then by name.
func byPlace(a, b line) int {
	if a.position != b.position {
		return a.position - b.position
	}
	return strings.Compare(a.Name, b.Name)
}

// sortLines sorts lines into the policy's order. Lines of one name keep their order.
func sortLines(lines []line) {
	if !slices.IsSortedFunc(lines, byPlace) {
		slices.SortStableFunc(lines, byPlace)
	}
}

// inOrder returns a capture in the policy's order, so that the same headers have the same ticket in whatever order a
// client sends them.
func inOrder(lines []line) Capture {
	if len(lines) == 0 {
		return nil
	}
	sortLines(lines)
	capture := make(Capture, len(lines))
	for i := range lines {
		capture[i] = lines[i].Header
	}
	return capture
}

// Kept returns the part of a capture that a session keeps. It shares memory with the capture.
func (p *Policy) Kept(capture Capture) Capture {
	if p.sources.kept == 0 {
		return nil
	}
	dropped := slices.IndexFunc(capture, func(h Header) bool { return !p.keeps(h.Name) })
	if dropped < 0 {
		return slices.Clip(capture)
	}
	kept := slices.Clone(capture[:dropped])
	for _, header := range capture[dropped+1:] {
		if p.keeps(header.Name) {
			kept = append(kept, header)
		}
	}
	return kept
}

func (p *Policy) keeps(name string) bool {
	cover, _ := p.sources.cover(name)
	return p.keepsLine(line{covering: cover})
}

func (p *Policy) keepsLine(l line) bool { return l.set != 0 && p.sources.kept.has(l.position) }

// KeepsSessions reports whether any rule keeps a header for a session.
func (p *Policy) KeepsSessions() bool { return p.sources.kept != 0 }

// TracksSessions reports whether anything depends on MCP sessions: kept headers, or which stored tickets are
// superseded.
func (p *Policy) TracksSessions() bool { return p.KeepsSessions() || !p.Sealed() }

// HasToolRules reports whether any rule is for certain tools only.
func (p *Policy) HasToolRules() bool {
	return slices.ContainsFunc(p.doc.Forward, func(r Rule) bool { return len(r.Tools) > 0 })
}

// HasDiscovery reports whether any backend has a discovery identity.
func (p *Policy) HasDiscovery() bool {
	return slices.ContainsFunc(p.doc.Backends, func(b Backend) bool { return len(b.Discovery) > 0 })
}

// ReadsBodies reports whether a decision at any backend can depend on what a request asks for.
func (p *Policy) ReadsBodies() bool { return p.HasToolRules() || p.HasDiscovery() }

// ReadsBodiesOf reports whether a decision at that backend can depend on what a request asks for.
func (p *Policy) ReadsBodiesOf(backend string) bool {
	r := p.routeTo(backend)
	return r.tools || r.identity
}

// BodyLimit is how many bytes of a body are read, where it has to be read.
func (p *Policy) BodyLimit() int { return p.doc.Limits.BodyBytes }

// Complete adds to a request's own capture the kept headers of its session that the request lacks. A kept header with
// which the request would exceed a limit is left out with all its lines, and its name returned.
func (p *Policy) Complete(own, kept Capture) (complete Capture, leftOut []string) {
	if own.covers(kept) { // the steady state: the client sends its headers each time
		return own, nil
	}
	lines := p.lines(own, make([]line, 0, 2*maxHeaders))
	keptLines := slices.DeleteFunc(
		p.lines(kept, make([]line, 0, maxHeaders)),
		func(l line) bool { return !p.keepsLine(l) },
	)
	lacking := without(keptLines, lines)
	var within budget
	for i := range lines {
		_ = within.take(p.doc.Limits, &lines[i]) // it was captured, so it exceeds none
	}
	for len(lacking) > 0 {
		if within.lines == p.doc.Limits.Headers && leftOut == nil {
			leftOut = make([]string, 0, len(lacking))
		}
		run := lacking[:sameName(lacking)]
		lacking = lacking[len(run):]
		if with, fits := within.with(p.doc.Limits, run); fits {
			within, lines = with, append(lines, run...)
		} else {
			leftOut = append(leftOut, run[0].Name)
		}
	}
	if len(lines) == len(own) {
		return own, leftOut
	}
	return inOrder(lines), leftOut
}

// covers reports whether a capture has every name of another, in the same order.
func (c Capture) covers(other Capture) bool {
	at := 0
	for i := range other {
		if i > 0 && other[i-1].Name == other[i].Name {
			continue
		}
		for at < len(c) && c[at].Name != other[i].Name {
			at++
		}
		if at == len(c) {
			return false
		}
	}
	return true
}

// lines looks up the headers of a capture and appends them in the policy's order, which a reload may have changed since
// the capture.
func (p *Policy) lines(capture Capture, lines []line) []line {
	for _, header := range capture {
		cover, _ := p.sources.cover(header.Name)
		lines = append(lines, line{header, cover})
	}
	sortLines(lines)
	return lines
}

// without removes the lines whose name is also in others. Both are in the policy's order.
func without(lines, others []line) []line {
	at := 0
	return slices.DeleteFunc(lines, func(l line) bool {
		for at < len(others) && byPlace(others[at], l) < 0 {
			at++
		}
		return at < len(others) && others[at].Name == l.Name
	})
}

// sameName returns the length of the leading run of lines with one name.
func sameName(lines []line) int {
	n := slices.IndexFunc(lines, func(l line) bool { return l.Name != lines[0].Name })
	if n < 0 {
		return len(lines)
	}
	return n
}

// with returns the budget after more lines, and whether they fit the limits.
func (b budget) with(limits Limits, lines []line) (budget, bool) {
	for i := range lines {
		if b.take(limits, &lines[i]) != nil {
			return b, false
		}
	}
	return b, true
}

// Lack is what a capture may lack headers for.
type Lack struct {
	LeftOut []string // kept headers that would exceed a limit
	// UnknownSession says that the request is one of a session that is not known, so that what it kept may be lost.
	UnknownSession bool
}

// Missing returns a rejection if a required header is not in the capture, or is empty.
func (p *Policy) Missing(capture Capture, lack Lack) *Rejection {
	for _, name := range p.required {
		switch {
		case capture.hasValue(name):
		case slices.Contains(lack.LeftOut, name):
			return &Rejection{Header: name, Reason: ReasonLeftOut}
		case lack.UnknownSession && p.keeps(name):
			return &Rejection{Header: name, Reason: ReasonSession}
		default:
			return &Rejection{Header: name, Reason: ReasonMissing}
		}
	}
	return nil
}

// Has reports whether the capture has a header of that name.
func (c Capture) Has(name string) bool {
	return slices.ContainsFunc(c, func(h Header) bool { return h.Name == name })
}

// hasValue reports whether the capture has a header of that name that is not empty.
func (c Capture) hasValue(name string) bool {
	return slices.ContainsFunc(c, func(h Header) bool { return h.Name == name && h.Value.Len() > 0 })
}

func appendOnce(names []string, name string) []string {
	if slices.Contains(names, name) {
		return names
	}
	return append(names, name)
}

// Renew returns what a session keeps after a request: the newest values of the headers with keep: session. It is
// subject to the limits of one request, because a client could send ever new names of a family.
func (p *Policy) Renew(kept, own Capture) Capture {
	renewed, _ := p.Complete(p.Kept(own), kept)
	return renewed
}
