package policy

import "slices"

// TicketStatus says what the ticket of a request to a backend tells about the client that caused it.
type TicketStatus int

const (
	// StatusUnknown is a ticket that cannot be redeemed: expired, forged, or of another fan-out. It is the zero value
	// because it gets nothing.
	StatusUnknown TicketStatus = iota
	// StatusNone is no ticket at all: no client caused the request.
	StatusNone
	// StatusRedeemed is a redeemed ticket, of a capture that may be empty.
	StatusRedeemed
	// StatusSuperseded is a ticket that a newer one has replaced in every session that had it.
	StatusSuperseded
	// StatusRedirected is a request that a proxy repeats to follow a backend's redirect. The headers that it may still
	// have were set for the first backend.
	StatusRedirected
	// StatusOtherKey is a ticket that a key made which Bellhop does not have: another Bellhop's, or one that was taken
	// out.
	StatusOtherKey
	// StatusMalformed is a text that no key of Bellhop's has made as it is: forged, or changed on the way.
	StatusMalformed
	// StatusNoRoom is a redeemed ticket whose headers do not fit into the request.
	StatusNoRoom
)

// Call describes one request to one backend for [Policy.Decide].
type Call struct {
	Backend   string // as [Policy.Backend] names it
	Ticket    TicketStatus
	Capture   Capture  // with StatusRedeemed
	Identity  []Header // the backend's discovery identity, as it is to be sent
	Operation Operation
	Request   []Header // what the fan-out sent
}

// IsDiscovery reports whether the request gets the backend's discovery identity: no client caused it, and it is known
// to ask for nothing that only a client can cause.
func (c Call) IsDiscovery() bool { return c.Ticket == StatusNone && c.Operation.isDiscovery() }

// Outcome says what became of one header at one backend. Its text is stable: metrics may rely on it.
type Outcome string

const (
	// OutcomeForwarded is a client's header that the backend gets.
	OutcomeForwarded Outcome = "forwarded"
	// OutcomeAbsent is a header that may go to the backend and that this client did not send, or sent empty although it
	// is required.
	OutcomeAbsent Outcome = "absent"
	// OutcomeNotAllowed is a client's header that no rule allows for the backend.
	OutcomeNotAllowed Outcome = "not_allowed"
	// OutcomeOtherTool is a header whose rule is for other tools.
	OutcomeOtherTool Outcome = "other_tool"
	// OutcomeOperation is a header whose rule is for tools, where it is not known what the request asks for.
	OutcomeOperation Outcome = "unknown_operation"
	// OutcomeConflict is a client's header that gives way to the fan-out's own.
	OutcomeConflict Outcome = "conflict_kept"
	// OutcomeUnknown is a header of a rule for the backend, in a request whose ticket cannot be redeemed.
	OutcomeUnknown Outcome = "unknown_ticket"
	// OutcomeOtherKey is the same for a ticket of a key that Bellhop does not have.
	OutcomeOtherKey Outcome = "other_key"
	// OutcomeMalformed is the same for a text that is no ticket of Bellhop's.
	OutcomeMalformed Outcome = "malformed_ticket"
	// OutcomeSuperseded is the same for a ticket that has been superseded.
	OutcomeSuperseded Outcome = "superseded"
	// OutcomeRedirected is the same for a request that follows a backend's redirect.
	OutcomeRedirected Outcome = "redirected"
	// OutcomeNoRoom is a header of a rule for the backend that does not fit into the request, with the others.
	OutcomeNoRoom Outcome = "no_room"
	// OutcomeNoTicket is a required header of a rule for the backend, in a call that only a client can cause and that has
	// no ticket.
	OutcomeNoTicket Outcome = "no_ticket"
	// OutcomeStripped is a header of the fan-out's own that the policy strips.
	OutcomeStripped Outcome = "stripped"
	// OutcomeSpelling is a header of the fan-out's own that many servers read as one of the policy's, such as x_key as
	// x-key.
	OutcomeSpelling Outcome = "other_spelling"
	// OutcomeIdentity is a header of the backend's discovery identity.
	OutcomeIdentity Outcome = "discovery"
)

// Verdict is the outcome for one header, by the name the client sends; for an identity, the backend's name for it.
type Verdict struct {
	Header  string
	As      string // the name at the backend, or empty where it gets nothing
	Outcome Outcome
	Line    int // of the rule; 0 where no rule applies
	Rule    int // its number in the policy, from 1: several rules can be on one line
}

// Decision says how to change a request to a backend: first Remove, then Set.
type Decision struct {
	Remove    []string
	Set       []Header // lines of one name are adjacent, in the client's order
	Verdicts  []Verdict
	Rejection *Rejection // not nil: the request must be refused
}

// Decide says what one request to one backend gets. Every name that a rule writes at the backend is Bellhop's alone: it
// is removed, whatever its origin, and set only from the capture.
func (p *Policy) Decide(call Call) Decision {
	r := p.routeTo(call.Backend)
	decision := Decision{Remove: r.remove(call.Request)}
	call.Request = p.dropRespelled(call.Request, &decision)
	call.Request = p.stripped(call.Request, &decision)
	call.Request = p.withhold(r, call, &decision)
	switch call.Ticket {
	case StatusRedeemed:
		p.deliver(r, call, &decision)
	case StatusNone:
		if call.IsDiscovery() {
			identify(call, &decision)
		}
		if p.NeedsOperation(call) {
			decision.demand(r, call.Operation)
		}
	case StatusSuperseded:
		decision.deny(r, call, OutcomeSuperseded, ReasonSuperseded)
	case StatusRedirected:
		decision.Remove = p.written(decision.Remove, call.Request)
		decision.deny(r, call, OutcomeRedirected, ReasonRedirected)
	case StatusOtherKey:
		decision.deny(r, call, OutcomeOtherKey, ReasonOtherKey)
	case StatusMalformed:
		decision.deny(r, call, OutcomeMalformed, ReasonMalformed)
	case StatusNoRoom:
		decision.deny(r, call, OutcomeNoRoom, ReasonNoRoom)
	default:
		decision.deny(r, call, OutcomeUnknown, ReasonTicket)
	}
	return decision
}

// NeedsOperation reports whether the decision depends on what the request asks for, so that its body has to be read.
func (p *Policy) NeedsOperation(call Call) bool {
	r := p.routeTo(call.Backend)
	if call.Ticket == StatusNone && r.identity {
		return true
	}
	return r.tools && slices.ContainsFunc(r.deliveries, func(rule delivery) bool {
		return len(rule.Tools) > 0 && (rule.Required || rule.shown ||
			call.Ticket == StatusRedeemed && p.captures(call.Capture, rule.source))
	})
}

// captures reports whether a capture has a header of a source.
func (p *Policy) captures(capture Capture, source sourceSet) bool {
	return slices.ContainsFunc(capture, func(header Header) bool {
		cover, _ := p.sources.cover(header.Name)
		return cover.set&source != 0
	})
}

// written adds to names every header that may have been set for any backend.
func (p *Policy) written(names []string, request []Header) []string {
	names = slices.Clone(names)
	for _, header := range request {
		for _, rule := range p.doc.Forward {
			if matches(rule.As, header.Name) {
				names = appendOnce(names, header.Name)
			}
		}
		for _, backend := range p.doc.Backends {
			if slices.ContainsFunc(
				backend.Discovery,
				func(identity Identity) bool { return identity.Name == header.Name },
			) {
				names = appendOnce(names, header.Name)
			}
		}
	}
	return names
}

// remove lists the names that only Bellhop may set at a backend. Members of families are known only from the request.
func (r *route) remove(request []Header) []string {
	names := r.governed
	if len(r.families) == 0 {
		return names
	}
	names = slices.Clone(names)
	for _, header := range request {
		if r.inFamily(header.Name) {
			names = appendOnce(names, header.Name)
		}
	}
	return names
}

func (r *route) inFamily(name string) bool {
	return slices.ContainsFunc(r.families, func(pattern string) bool { return matches(pattern, name) })
}

func (p *Policy) deliver(r *route, call Call, decision *Decision) {
	sets := make([]sourceSet, 0, maxHeaders) // of each line of the capture
	var captured sourceSet
	for i := range call.Capture {
		cover, _ := p.sources.cover(call.Capture[i].Name)
		sets = append(sets, cover.set)
		captured |= cover.set
	}
	decision.Verdicts = append(make([]Verdict, 0, len(decision.Verdicts)+len(r.deliveries)+1), decision.Verdicts...)
	for i := range r.deliveries {
		switch rule := &r.deliveries[i]; {
		case !rule.appliesTo(call.Operation):
			decision.passOver(&rule.Rule, call.Operation)
		case captured&rule.source == 0, rule.Required && !call.Capture.hasValue(rule.Name):
			decision.verdict(&rule.Rule, rule.Name, OutcomeAbsent)
			decision.miss(&rule.Rule)
		default:
			decision.apply(rule, call, sets)
		}
	}
	r.notAllowed(call.Capture, sets, decision)
}

// apply sets the captured headers of one rule.
func (d *Decision) apply(rule *delivery, call Call, sets []sourceSet) {
	for i, header := range call.Capture {
		if sets[i]&rule.source == 0 {
			continue
		}
		first := i == 0 || call.Capture[i-1].Name != header.Name
		if rule.Conflict != ConflictReplace && d.conflicts(&rule.Rule, header.Name, call) {
			if first {
				d.verdict(&rule.Rule, header.Name, OutcomeConflict)
			}
			continue
		}
		d.Set = append(d.Set, Header{Name: rule.as(header.Name), Value: rule.value(header.Value)})
		if first {
			d.verdict(&rule.Rule, header.Name, OutcomeForwarded)
		}
	}
}

// conflicts reports whether the fan-out's own header takes precedence over a rule. The same value is no conflict: a
// proxy may run its filters twice.
func (d *Decision) conflicts(rule *Rule, name string, call Call) bool {
	theirs, ours := lines(call.Request, rule.as(name)), lines(call.Capture, name)
	if len(theirs) == 0 {
		return false
	}
	for i := range ours {
		ours[i] = rule.value(ours[i])
	}
	if slices.EqualFunc(theirs, ours, Value.Equal) {
		return rule.Conflict == ConflictKeep
	}
	if rule.Conflict == ConflictReject && d.Rejection == nil {
		d.Rejection = &Rejection{Header: name, Reason: ReasonConflict}
	}
	return true
}

// as is the name of a header at the backend: the rule's, or its own in a family.
func (r *Rule) as(name string) string {
	if _, isFamily := family(r.As); isFamily {
		return name
	}
	return r.As
}

func (r *Rule) value(value Value) Value {
	if r.Prefix == "" {
		return value
	}
	return NewValue(r.Prefix + value.Reveal())
}

// miss rejects a request without a required header.
func (d *Decision) miss(rule *Rule) { d.lack(rule, Rejection{Reason: ReasonMissing}) }

// lack rejects a request that lacks a required header for a reason.
func (d *Decision) lack(rule *Rule, why Rejection) {
	if rule.Required && d.Rejection == nil {
		why.Header = rule.Name
		d.Rejection = &why
	}
}

// passOver sends nothing of a rule for tools. It rejects the request where a required header may be meant for it.
func (d *Decision) passOver(rule *Rule, operation Operation) {
	if !operation.Known() {
		d.verdict(rule, rule.Name, OutcomeOperation)
		d.lack(rule, Rejection{Reason: ReasonOperation, Why: operation.Why()})
		return
	}
	d.verdict(rule, rule.Name, OutcomeOtherTool)
	if rule.mayApplyTo(operation) {
		d.lack(rule, Rejection{Reason: ReasonBatch})
	}
}

// withhold removes headers that the fan-out could see (hide: false) and may have passed on itself, unless a rule sends
// them to this backend under the same name. It removes the fan-out's own header of that name too, because the value
// does not tell them apart: fan-outs join lines, keep old ones, and see more than is captured. It returns the rest.
func (p *Policy) withhold(r *route, call Call, decision *Decision) []Header {
	withheld := func(header Header) bool {
		cover, _ := p.sources.cover(header.Name)
		return cover.set != 0 && !p.sources.list[cover.position].hide &&
			!r.delivers(header.Name, cover.set, call.Operation)
	}
	left, _ := decision.drop(call.Request, withheld)
	return left
}

// drop removes the headers of a request that are to go, and returns the rest and what is dropped.
func (d *Decision) drop(request []Header, goes func(Header) bool) (left, dropped []Header) {
	if !slices.ContainsFunc(request, goes) {
		return request, nil
	}
	left = make([]Header, 0, len(request))
	for _, header := range request {
		if !goes(header) {
			left = append(left, header)
			continue
		}
		d.Remove, dropped = appendOnce(slices.Clip(d.Remove), header.Name), append(dropped, header)
	}
	return left, dropped
}

// notAllowed reports the client's headers that no rule sends to the backend.
func (r *route) notAllowed(capture Capture, sets []sourceSet, decision *Decision) {
	for i, captured := range capture {
		if i > 0 && capture[i-1].Name == captured.Name {
			continue
		}
		if sets[i]&r.sources == 0 {
			decision.Verdicts = append(decision.Verdicts, Verdict{Header: captured.Name, Outcome: OutcomeNotAllowed})
		}
	}
}

// delivers reports whether a rule that applies to the request sends a header of these sources to the backend under its
// own name.
func (r *route) delivers(name string, of sourceSet, operation Operation) bool {
	for i := range r.deliveries {
		rule := &r.deliveries[i]
		if of&rule.source != 0 && rule.as(name) == name && rule.appliesTo(operation) {
			return true
		}
	}
	return false
}

// identify sets the backend's discovery identity.
func identify(call Call, decision *Decision) {
	for _, header := range call.Identity {
		decision.Set = append(decision.Set, header)
		decision.Verdicts = append(
			decision.Verdicts,
			Verdict{Header: header.Name, As: header.Name, Outcome: OutcomeIdentity},
		)
	}
}

// deny sets nothing, and rejects the request where a header is required, or may be.
func (d *Decision) deny(r *route, call Call, outcome Outcome, why Reason) {
	for i := range r.deliveries {
		rule := &r.deliveries[i].Rule
		d.verdict(rule, rule.Name, outcome)
		if rule.mayApplyTo(call.Operation) {
			d.lack(rule, Rejection{Reason: why})
		}
	}
}

// demand rejects a request without a ticket that is a client's call, or may be one, and lacks a required header: the
// fan-out has lost the ticket.
func (d *Decision) demand(r *route, operation Operation) {
	for i := range r.deliveries {
		switch rule := &r.deliveries[i].Rule; {
		case !rule.Required || !rule.mayApplyTo(operation):
		case operation.Known() && operation.some(Message.isCall):
			d.verdict(rule, rule.Name, OutcomeNoTicket)
			d.lack(rule, Rejection{Reason: ReasonNoTicket})
		case !operation.Known() && len(rule.Tools) > 0:
			d.verdict(rule, rule.Name, OutcomeOperation)
			d.lack(rule, Rejection{Reason: ReasonOperation, Why: operation.Why()})
		}
	}
}

func (d *Decision) verdict(rule *Rule, header string, outcome Outcome) {
	verdict := Verdict{Header: header, Outcome: outcome, Line: rule.Line, Rule: rule.Number}
	if outcome == OutcomeForwarded {
		verdict.As = rule.as(header)
	}
	d.Verdicts = append(d.Verdicts, verdict)
}

// lines returns the values of all lines of a name.
func lines(headers []Header, name string) []Value {
	var values []Value
	for _, header := range headers {
		if header.Name == name {
			values = append(values, header.Value)
		}
	}
	return values
}
