package policy

import (
	"fmt"
	"slices"
	"strings"
)

// whyNotCaptured says why a header that the client sent is not captured.
func (e *explainer) whyNotCaptured(row Row) string {
	switch row.IngressOutcome {
	case IngressRestricted:
		restriction, _ := restricted(row.Header)
		return fmt.Sprintf("no policy can carry it (%s): %s", restriction.Pattern, restriction.Reason)
	case IngressSensitive:
		return "families do not include it: it carries a credential and needs its own rule with to: and hide:"
	case IngressStripped:
		return "strip takes it off: " + e.policy.StripPattern(row.Header)
	case IngressSpelling:
		return "many servers read _ as -; it is not taken for " + e.policy.SpelledPattern(row.Header) + ", which a rule lists"
	case IngressNominated:
		return "the request's own Connection makes it hop-by-hop (RFC 9110, 7.6.1)"
	case IngressRejected:
		return e.refusal.Error()
	case IngressRefused:
		return "the request is refused because of " + e.refusal.Header
	default:
		return "no rule lists it"
	}
}

// whyDecided says why a captured header does or does not reach the backend.
func (e *explainer) whyDecided(row Row, rule Rule) string {
	switch row.Outcome {
	case OutcomeAbsent:
		if row.IngressOutcome == IngressLeftOut {
			return "an earlier request of this session sent it, and with it this one would exceed a limit"
		}
		return whyAbsent(rule)
	case OutcomeNotAllowed:
		return e.whyNotAllowed(row.Header)
	case OutcomeOtherTool, OutcomeOperation:
		return whyOtherTool(rule, e.question.Operation)
	case OutcomeConflict:
		return whyConflict(rule)
	case OutcomeStripped:
		return "the fan-out's own header; strip takes it off: " + e.policy.StripPattern(row.Header)
	case OutcomeNoTicket:
		return "required, and the fan-out sent this call without its ticket: the request is refused"
	case OutcomeSpelling:
		return "the fan-out's own header; many servers take it for " + e.policy.SpelledPattern(row.Header)
	case OutcomeForwarded:
		return e.whyWithheld()
	default:
		return ""
	}
}

// whyWithheld says why a header that the rules allow does not arrive.
func (e *explainer) whyWithheld() string {
	switch {
	case e.refusal != nil:
		return "the request is refused because of " + e.refusal.Header
	case e.decision.Rejection != nil:
		return "the request to the backend is refused because of " + e.decision.Rejection.Header
	default:
		return ""
	}
}

func whyAbsent(rule Rule) string {
	if rule.Required {
		return "required, and the client did not send it: the request is refused"
	}
	return "the client did not send it"
}

func (e *explainer) whyNotAllowed(name string) string {
	if !e.Declared {
		return "the policy does not declare this backend"
	}
	var backends []string
	for _, rule := range e.policy.doc.Forward {
		if matches(rule.Name, name) {
			for _, backend := range rule.To {
				backends = appendOnce(backends, backend)
			}
		}
	}
	return "its rule is for " + strings.Join(backends, ", ")
}

func whyOtherTool(rule Rule, operation Operation) string {
	why := "only for calls of " + strings.Join(rule.Tools, ", ")
	if !operation.known {
		return why + "; what this request asks for is not known: " + operation.why.Text()
	}
	if len(operation.messages) != 1 {
		return why + "; this request asks for other things"
	}
	switch asked := operation.messages[0]; {
	case asked.Method != CallTool:
		return why + "; this request is " + asked.Method
	default:
		return why + "; this call is of " + asked.Tool
	}
}

func whyConflict(rule Rule) string {
	if rule.Conflict == ConflictReject {
		return "the fan-out sends another value, and conflict: reject refuses the request"
	}
	return "the fan-out sends its own, and conflict: keep leaves it"
}

func (e *explainer) whyFirst(row Row) string {
	if row.FirstLine {
		return "only its first line is carried (repeat: first)"
	}
	return ""
}

// whySession says what keep: session does for a row.
func (e *explainer) whySession(row Row) string {
	switch {
	case row.Keep != KeepSession || e.NoTicket:
		return ""
	case !e.question.Session:
		return "no MCP session: the same as keep: request"
	case row.IngressOutcome == IngressKept:
		return "sent by an earlier request of this session"
	case row.IngressOutcome == IngressCaptured:
		return "later requests of this session without it get it too"
	case row.Outcome == OutcomeAbsent && row.IngressOutcome == IngressNotSent && !e.otherPrincipal && !e.noPrincipal:
		return "no earlier request of this session sent it either"
	default:
		return ""
	}
}

func join(reasons ...string) string {
	return strings.Join(slices.DeleteFunc(reasons, func(reason string) bool { return reason == "" }), "; ")
}

// Summary says in one line what the fan-out and the backend get.
func (x *Explanation) Summary() string {
	backend := x.Backend
	if backend == "" {
		backend = "a backend"
	}
	switch {
	case x.Refused != "":
		return "The client's request is refused: " + x.Refused + "."
	case x.BackendRefused != "":
		return fmt.Sprintf("%s The request to %s is refused: %s.", x.fanoutSummary(), backend, x.BackendRefused)
	case !x.Declared:
		return fmt.Sprintf(
			"%s %s is not among the declared backends (%s) and gets nothing.", x.fanoutSummary(), backend,
			strings.Join(x.Backends, ", "),
		)
	default:
		return strings.TrimSpace(fmt.Sprintf("%s %s gets %s.%s", x.fanoutSummary(), backend, x.gets(), x.removed()))
	}
}

func (x *Explanation) fanoutSummary() string {
	if x.NoTicket {
		return "No ticket:"
	}
	return "The fan-out sees " + strings.Join(append(slices.Clone(x.Sees), "a ticket"), ", ") + "."
}

func (x *Explanation) removed() string {
	if len(x.Removed) == 0 {
		return ""
	}
	return " Removed from the fan-out's request: " + strings.Join(x.Removed, ", ") + "."
}

// gets lists what the backend gets, with the client's name where it differs.
func (x *Explanation) gets() string {
	var all []string
	for _, row := range x.Rows {
		switch row.As {
		case "":
		case row.Header:
			all = appendOnce(all, row.As)
		default:
			all = append(all, row.As+" (from "+row.Header+")")
		}
	}
	if len(all) == 0 {
		return "none of these headers"
	}
	return strings.Join(all, ", ")
}

func (e *explainer) notes() {
	e.Notes = []string{}
	note := func(when bool, text string) {
		if when {
			e.Notes = append(e.Notes, text)
		}
	}
	keeps := slices.ContainsFunc(e.Rows, func(row Row) bool { return row.Keep == KeepSession })
	note(e.Mode == ModeObserve, "mode: observe: all of this is computed, counted and logged, and nothing is changed")
	note(e.policy.Open(), "the policy declares no backends: every backend behind the filter gets the same")
	note(e.NoTicket, "no ticket: no client caused the request, so no client's headers are sent")
	note(
		e.noPrincipal,
		"keep: session: this request gets nothing from its session because it has no principal: it has none of "+
			strings.Join(e.policy.doc.Session.Bind, ", ")+" (session.bind); send one of them, with -H here",
	)
	note(
		e.otherPrincipal,
		"keep: session: this request gets nothing from its session, which is another principal's: "+
			strings.Join(e.policy.doc.Session.Bind, ", ")+" (session.bind) of the earlier request differs",
	)
	note(
		e.nothingKept,
		"keep: session: the earlier request leaves nothing in the session: it is refused, or has none of "+
			strings.Join(e.policy.doc.Session.Bind, ", ")+" (session.bind)",
	)
	note(
		len(e.overLimit) > 0,
		"keep: session: "+strings.Join(
			e.overLimit,
			", ",
		)+" of an earlier request is left out because the request would exceed a limit",
	)
	note(
		keeps,
		"keep: session: a later request of the same MCP session without the header gets the session's last value if "+
			"the principal ("+
			principal(
				e.policy.doc.Session.Bind,
			)+") is the same; clients of MCP 2026-07-28 have no session, so for them it is the same as request",
	)
}

func principal(bind []string) string {
	if len(bind) == 0 {
		return "none configured"
	}
	return "the client's " + strings.Join(bind, ", ")
}
