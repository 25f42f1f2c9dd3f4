package policy

import (
	"slices"
	"strings"
)

// Question describes a client's request and the request to a backend that it causes, for [Policy.Explain].
type Question struct {
	Backend   string   // its name, or that of a cluster which is the backend
	Client    []Header // what the client sends
	Earlier   []Header // what an earlier request of the same MCP session sent
	Session   bool     // the client has an MCP session; Earlier implies it
	NoTicket  bool     // no client caused the request to the backend: Client and Earlier are ignored
	Unread    bool     // the backend's discovery identity cannot be read
	Operation Operation
	Fanout    []Header // what the fan-out itself sends to the backend
}

// IngressOutcome says what becomes of a header at the ingress. Its text is stable.
type IngressOutcome string

const (
	// IngressCaptured is a header that the request's ticket stands for.
	IngressCaptured IngressOutcome = "captured"
	// IngressKept is a header that the request lacks and its session has kept.
	IngressKept IngressOutcome = "kept"
	// IngressLeftOut is a header that the session has kept, and with which the request would exceed a limit.
	IngressLeftOut IngressOutcome = "left_out"
	// IngressNotSent is a header of a rule that the client did not send.
	IngressNotSent IngressOutcome = "not_sent"
	// IngressNotListed is a header that no rule lists.
	IngressNotListed IngressOutcome = "not_listed"
	// IngressRestricted is a header that no policy can carry.
	IngressRestricted IngressOutcome = "restricted"
	// IngressSensitive is a header with the prefix of a family, which only a rule of its own can carry.
	IngressSensitive IngressOutcome = "sensitive"
	// IngressStripped is a header that the policy strips, and no rule captures.
	IngressStripped IngressOutcome = "stripped"
	// IngressSpelling is a header that many servers read as one of the policy's, such as x_key as x-key.
	IngressSpelling IngressOutcome = "other_spelling"
	// IngressNominated is a header that the request's own Connection makes hop-by-hop.
	IngressNominated IngressOutcome = "nominated"
	// IngressRejected is the header for which the client's request is refused.
	IngressRejected IngressOutcome = "rejected"
	// IngressRefused is a listed header of a request that is refused for another one.
	IngressRefused IngressOutcome = "refused"
	// IngressIdentity is a header of the backend's discovery identity, which no client sends.
	IngressIdentity IngressOutcome = "discovery"
)

// Visibility says what the fan-out sees of a header that a client sends. Its text is stable.
type Visibility string

const (
	// VisibilityHidden is a header that Bellhop removes.
	VisibilityHidden Visibility = "hidden"
	// VisibilityShown is a header that Bellhop leaves in the request.
	VisibilityShown Visibility = "shown"
	// VisibilityNone is a header that is not sent, or whose request is refused.
	VisibilityNone Visibility = "none"
)

// Row is one header, from the client to one place at the backend. It holds names, never a value of a client.
type Row struct {
	Header         string         `json:"header"` // the client's name for it, or the family; of an identity the backend's name
	IngressOutcome IngressOutcome `json:"ingress"`
	FirstLine      bool           `json:"first_line_only"` // of several
	Fanout         Visibility     `json:"fanout"`
	Keep           Keep           `json:"keep,omitempty"` // what the rule says
	Outcome        Outcome        `json:"outcome,omitempty"`
	As             string         `json:"as,omitempty"`     // the name at the backend; empty where it gets nothing
	Prefix         string         `json:"prefix,omitempty"` // the rule's
	Lines          []int          `json:"lines"`            // of the rules or of the identity, in the policy
	Why            string         `json:"why,omitempty"`
}

// Explanation says what becomes of each header, and why.
type Explanation struct {
	Backend  string   `json:"backend"`
	Declared bool     `json:"declared"` // or no backend is declared at all
	Backends []string `json:"backends"` // the declared ones
	NoTicket bool     `json:"no_ticket"`
	Mode     Mode     `json:"mode"`
	// Refused is the text with which the client's own request is refused, or "". It then never reaches the fan-out.
	Refused string `json:"refused,omitempty"`
	// BackendRefused is the text with which the request to the backend is refused, or "".
	BackendRefused string   `json:"backend_refused,omitempty"`
	Sees           []string `json:"fanout_sees"`  // headers of the client, beside the ticket
	Gets           []string `json:"backend_gets"` // by the backend's names
	Removed        []string `json:"removed"`      // headers of the fan-out that the backend does not get
	Rows           []Row    `json:"rows"`
	Notes          []string `json:"notes"`
}

// Explain says what becomes of a client's headers at one backend, and why. It calls [Policy.Capture] and
// [Policy.Decide], the functions that serve requests.
func (p *Policy) Explain(q Question) Explanation {
	q.Client, q.Earlier, q.Fanout = lowered(q.Client), lowered(q.Earlier), lowered(q.Fanout)
	q.Session = q.Session || len(q.Earlier) > 0
	e := explainer{policy: p, question: q, reported: make(map[int]bool)}
	e.Rows = []Row{}
	e.locate()
	if q.NoTicket {
		e.egress(StatusNone)
	} else {
		e.ingress()
		e.egress(StatusRedeemed)
		e.clientRows()
	}
	e.ruleRows()
	e.identityRows()
	e.results()
	e.notes()
	return e.Explanation
}

// explainer gathers one explanation.
type explainer struct {
	Explanation
	policy      *Policy
	question    Question
	taken       Captured
	capture     Capture    // of the request and its session
	refusal     *Rejection // of the client's request
	limited     bool       // the refusal is for a limit, so that there is no capture at all
	overLimit   []string   // kept headers left out because with them the request would break a limit
	noPrincipal bool       // the request has no principal, so it gets nothing from its session
	// otherPrincipal says that the session is another principal's, so that the request gets nothing from it.
	otherPrincipal bool
	nothingKept    bool // the earlier request was refused, or has no principal
	unread         bool // the request needs the backend's discovery identity, which cannot be read
	decision       Decision
	reported       map[int]bool // verdicts that already have a row
}

// locate finds the backend, by its name or by a cluster of it.
func (e *explainer) locate() {
	e.Mode, e.NoTicket, e.Backends = e.policy.Mode(), e.question.NoTicket, []string{}
	for _, backend := range e.policy.doc.Backends {
		e.Backends = append(e.Backends, backend.Name)
	}
	e.Backend, e.Declared = e.policy.Backend(e.question.Backend, "")
	if owner, ok := e.policy.Backend("", e.question.Backend); !e.Declared && ok {
		e.Backend, e.Declared = owner, true
	}
}

// ingress applies the policy to the client's request.
func (e *explainer) ingress() {
	e.taken, e.refusal = e.policy.Capture(e.question.Client)
	if e.refusal != nil {
		e.limited, e.taken = true, Captured{}
		return
	}
	e.capture, e.overLimit = e.policy.Complete(e.taken.Capture, e.kept())
	e.refusal = e.policy.Missing(e.capture, Lack{LeftOut: e.overLimit, UnknownSession: e.unknownSession()})
}

// kept is what the session keeps of the earlier request for this one. A request that is refused, or has no principal,
// leaves nothing in its session.
func (e *explainer) kept() Capture {
	earlier, refused := e.policy.Capture(e.question.Earlier)
	kept := e.policy.Kept(earlier.Capture)
	switch {
	case len(kept) == 0 && refused == nil:
		return nil
	case !e.policy.HasPrincipal(e.question.Client):
		e.noPrincipal = true
		return nil
	case refused != nil || !e.policy.HasPrincipal(e.question.Earlier) ||
		e.policy.Missing(earlier.Capture, Lack{UnknownSession: true}) != nil:
		e.nothingKept = true
		return nil
	case !e.policy.SamePrincipal(e.question.Earlier, e.question.Client):
		e.otherPrincipal = true
		return nil
	default:
		return kept
	}
}

// unknownSession reports whether the client's session is not known, or is another principal's: no earlier request of it
// was accepted, or that one left nothing.
func (e *explainer) unknownSession() bool {
	if !e.question.Session || !e.policy.KeepsSessions() || !e.policy.HasPrincipal(e.question.Client) {
		return false
	}
	earlier, refused := e.policy.Capture(e.question.Earlier)
	accepted := refused == nil && len(e.question.Earlier) > 0 &&
		e.policy.Missing(earlier.Capture, Lack{UnknownSession: true}) == nil
	keeps := len(e.policy.Kept(earlier.Capture)) > 0 && e.policy.HasPrincipal(e.question.Earlier)
	return e.otherPrincipal || !accepted || e.policy.Sealed() && !keeps
}

// egress applies the policy to the request to the backend. It runs also where a required header is missing and there
// would be no such request, to report what else is missing.
func (e *explainer) egress(status TicketStatus) {
	if e.limited {
		return
	}
	call := Call{
		Backend: e.Backend, Ticket: status, Capture: e.capture, Identity: e.identity(), Operation: e.question.Operation,
		Request: e.question.Fanout,
	}
	e.unread = e.question.Unread && len(call.Identity) > 0 && call.IsDiscovery()
	if !e.unread {
		e.decision = e.policy.Decide(call)
	}
}

// identity returns the backend's discovery identity without its values, which do not matter here.
func (e *explainer) identity() []Header {
	var headers []Header
	for _, identity := range e.described().Discovery {
		headers = append(headers, Header{Name: identity.Name})
	}
	return headers
}

// described returns the policy's declaration of the backend.
func (e *explainer) described() Backend {
	i := slices.IndexFunc(e.policy.doc.Backends, func(b Backend) bool { return b.Name == e.Backend })
	if i < 0 {
		return Backend{}
	}
	return e.policy.doc.Backends[i]
}

// clientRows adds rows for each header that the client sends or its session has kept, in order.
func (e *explainer) clientRows() {
	var names []string
	for _, header := range slices.Concat(e.question.Client, e.capture) {
		names = appendOnce(names, header.Name)
	}
	for _, name := range names {
		row := Row{
			Header:         name,
			IngressOutcome: e.ingressOutcome(name),
			Fanout:         e.visibility(name),
			FirstLine:      slices.Contains(e.taken.Repeated, name),
		}
		if e.capture.Has(name) {
			e.deliveryRows(row)
		} else {
			e.uncapturedRow(row)
		}
	}
}

// deliveryRows adds a row for each rule that applies to a captured header.
func (e *explainer) deliveryRows(row Row) {
	if cover, _ := e.policy.sources.cover(row.Header); cover.set != 0 {
		row.Keep = e.policy.sources.list[cover.position].keep
	}
	for i, verdict := range e.decision.Verdicts {
		if matches(verdict.Header, row.Header) {
			e.reported[i] = true
			e.Rows = append(e.Rows, e.decided(row, verdict))
		}
	}
}

// uncapturedRow adds the row of a header that the client sent and that is not captured.
func (e *explainer) uncapturedRow(row Row) {
	for i, verdict := range e.decision.Verdicts {
		if verdict.Header == row.Header && verdict.Outcome == OutcomeAbsent {
			e.reported[i], row.Outcome = true, OutcomeAbsent
		}
	}
	row.Lines, row.Why = e.listing(row.Header), e.whyNotCaptured(row)
	e.Rows = append(e.Rows, row)
}

// ruleRows adds rows for the rules whose header was not sent.
func (e *explainer) ruleRows() {
	for i, verdict := range e.decision.Verdicts {
		if !e.reported[i] && verdict.Outcome != OutcomeIdentity {
			e.Rows = append(
				e.Rows,
				e.decided(
					Row{
						Header:         verdict.Header,
						IngressOutcome: e.notSent(verdict.Header),
						Fanout:         VisibilityNone,
						Keep:           e.rule(verdict).Keep,
					},
					verdict,
				),
			)
		}
	}
	if e.refusal == nil || slices.ContainsFunc(e.Rows, func(row Row) bool { return row.Header == e.refusal.Header }) {
		return
	}
	e.Rows = append(e.Rows, Row{
		Header: e.refusal.Header, IngressOutcome: IngressNotSent, Fanout: VisibilityNone, Lines: e.listing(e.refusal.Header),
		Why: "required of every client, though not for this backend",
	})
}

// notSent says why a header that the client does not send is not captured.
func (e *explainer) notSent(name string) IngressOutcome {
	if slices.ContainsFunc(e.overLimit, func(leftOut string) bool { return matches(name, leftOut) }) {
		return IngressLeftOut
	}
	return IngressNotSent
}

// identityRows adds rows for the backend's discovery identity.
func (e *explainer) identityRows() {
	for _, identity := range e.described().Discovery {
		row := Row{
			Header:         identity.Name,
			IngressOutcome: IngressIdentity,
			Fanout:         VisibilityNone,
			Lines:          []int{identity.Line},
		}
		given := func(v Verdict) bool { return v.Outcome == OutcomeIdentity && v.Header == identity.Name }
		switch {
		case slices.ContainsFunc(e.decision.Verdicts, given):
			row.As, row.Prefix, row.Outcome = identity.Name, identity.Prefix, OutcomeIdentity
			row.Why = "discovery identity, from " + identity.File
		case e.unread:
			row.Why = "discovery identity: " + identity.File + " cannot be read here, so requests that need it are refused"
		case e.NoTicket && !e.question.Operation.Known():
			row.Why = "discovery identity: only where the request is known to be one of discovery: " +
				e.question.Operation.why.Text()
		case e.NoTicket:
			row.Why = "discovery identity: only for methods that need no client, such as initialize and tools/list"
		default:
			row.Why = "discovery identity: only for requests that no client caused"
		}
		e.Rows = append(e.Rows, row)
	}
}

// decided completes a row with a verdict.
func (e *explainer) decided(row Row, verdict Verdict) Row {
	rule := e.rule(verdict)
	row.Outcome, row.As, row.Lines = verdict.Outcome, verdict.As, []int{verdict.Line}
	if verdict.As != "" {
		row.Prefix = rule.Prefix
	}
	if verdict.Rule == 0 {
		row.Lines = e.listing(row.Header)
	}
	if e.refusal != nil || e.decision.Rejection != nil {
		row.As, row.Prefix = "", "" // there is no request to the backend
	}
	row.Why = join(e.whyDecided(row, rule), e.whyFirst(row), e.whySession(row))
	return row
}

// rule returns the rule of a verdict.
func (e *explainer) rule(verdict Verdict) Rule {
	if verdict.Rule == 0 {
		return Rule{}
	}
	return e.policy.doc.Forward[verdict.Rule-1]
}

func (e *explainer) ingressOutcome(name string) IngressOutcome {
	cover, leftOut := e.policy.sources.cover(name)
	_, forbidden := restricted(name)
	switch {
	case e.taken.Capture.Has(name):
		return IngressCaptured
	case e.capture.Has(name):
		return IngressKept
	case slices.Contains(e.taken.Nominated, name):
		return IngressNominated
	case e.limited && e.refusal.Header == name:
		return IngressRejected
	case cover.set != 0:
		return IngressRefused
	case e.policy.sources.spelled.respelled(name) >= 0:
		return IngressSpelling
	case e.policy.StripPattern(name) != "":
		return IngressStripped
	case forbidden:
		return IngressRestricted
	case leftOut:
		return IngressSensitive
	default:
		return IngressNotListed
	}
}

func (e *explainer) visibility(name string) Visibility {
	sent := slices.ContainsFunc(e.question.Client, func(h Header) bool { return h.Name == name })
	switch {
	case !sent || e.refusal != nil:
		return VisibilityNone
	case slices.Contains(e.taken.Hide, name), hyphenated(name) == TicketHeader:
		return VisibilityHidden
	default:
		return VisibilityShown
	}
}

// listing returns the lines of the rules that list a header, for whatever backend, each once.
func (e *explainer) listing(name string) []int {
	lines := []int{}
	for _, rule := range e.policy.doc.Forward {
		if matches(rule.Name, name) && !slices.Contains(lines, rule.Line) {
			lines = append(lines, rule.Line)
		}
	}
	return lines
}

// results summarizes the rows.
func (e *explainer) results() {
	e.Sees, e.Gets, e.Removed = []string{}, []string{}, []string{}
	for i := range e.Rows {
		if row := &e.Rows[i]; row.Fanout == VisibilityShown {
			e.Sees = appendOnce(e.Sees, row.Header)
		}
	}
	if e.refusal != nil {
		e.Refused = e.refusal.Error()
		return
	}
	if e.unread {
		e.BackendRefused = "its discovery identity cannot be read"
		return
	}
	if e.decision.Rejection != nil {
		e.BackendRefused = e.decision.Rejection.Error()
		return
	}
	for _, header := range e.decision.Set {
		e.Gets = appendOnce(e.Gets, header.Name)
	}
	for _, header := range e.question.Fanout {
		if slices.Contains(e.decision.Remove, header.Name) && !slices.Contains(e.Gets, header.Name) {
			e.Removed = appendOnce(e.Removed, header.Name)
		}
	}
}

func lowered(headers []Header) []Header {
	all := make([]Header, len(headers))
	for i, header := range headers {
		all[i] = Header{Name: strings.ToLower(header.Name), Value: header.Value}
	}
	return all
}
