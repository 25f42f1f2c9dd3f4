package processor

import (
	"context"
	"errors"
	"net/http"

	"bellhop/policy"
	"bellhop/processor/jsonrpc"
	"bellhop/processor/session"
	"bellhop/processor/ticket"
)

// ingress captures the listed headers of a client's request and sets a ticket in their place. Every request gets a
// ticket, even if nothing was captured: without one a fan-out may replay the ticket of an earlier request.
func (f *fanout) ingress(ctx context.Context, _ Binding, request parsed) (Answer, *Error) {
	if request.sessions > 1 {
		return f.refuse(repeatedSession())
	}
	captured, rejection := f.policy.Capture(request.Headers)
	if rejection != nil {
		return f.reject(request, rejection)
	}
	state, err := f.lookup(ctx, request)
	if err != nil && !f.storeFailed("a session cannot be read", err) {
		return f.refuseAs(outcomeStoreFailed, storeFailed())
	}
	capture, leftOut := f.policy.Complete(captured.Capture, state.Kept())
	if request.method != http.MethodOptions {
		unknown := state.Name != "" && !state.Found && state.CanKeep || state.Denied == session.PrincipalMismatch
		lack := policy.Lack{LeftOut: leftOut, UnknownSession: unknown}
		if rejection := f.policy.Missing(capture, lack); rejection != nil {
			return f.reject(request, rejection)
		}
	}
	if len(leftOut) > 0 {
		f.warnings.warn("headers that a session keeps are left out because with them a request exceeds the policy's limits; "+
			"the session keeps them no longer", "headers", leftOut)
	}
	minted, err := f.tickets.Mint(capture)
	if err != nil {
		return f.refuse(tooLargeToSeal(err))
	}
	answer := f.exchange(request.Headers, captured.Hide, minted.Text)
	if !answer.fits(request.Headers) {
		return f.refuse(noRoomForTicket())
	}
	change := session.Change{Own: captured.Capture, Content: minted.Content}
	if err := f.save(ctx, request, state, minted, change); err != nil &&
		!f.storeFailed("the store cannot be written", err) {
		return f.refuseAs(outcomeStoreFailed, storeFailed())
	}
	f.metrics.captured(captured, capture, leftOut)
	f.lastSeen.captured(f.policy, captured.Capture, request.at)
	answer.Pending = f.pending(request, state, change)
	if f.policy.TracksSessions() && (state.CanKeep || !f.policy.KeepsSessions()) {
		answer.Session = state.Name
	}
	if f.explains(request.Headers) {
		if answer.Pending == nil {
			answer.Pending = &Pending{fanout: f}
		}
		answer.Pending.explanation = f.explanation(request.Headers, captured)
	}
	return answer, nil
}

// exchange changes a client's request: it removes hidden headers and every ticket that the client sent, and sets ours.
func (f *fanout) exchange(request []policy.Header, hide []string, minted string) Answer {
	sent := ticket.Read(request)
	var answer Answer
	answer.Remove = append(make([]string, 0, len(hide)+6), hide...)
	answer.Remove = append(answer.Remove, policy.TicketAliases()...)
	if f.policy.Explains() {
		answer.Remove = append(answer.Remove, explainHeader)
	}
	if f.policy.Uses(policy.CarrierHeader) {
		answer.Set = append(answer.Set, policy.Header{Name: policy.TicketHeader, Value: policy.NewValue(minted)})
	} else {
		answer.Remove = append(answer.Remove, policy.TicketHeader)
	}
	if f.policy.Uses(policy.CarrierBaggage) {
		line, dropped := ticket.Baggage(minted, valid(sent.Baggage))
		f.metrics.baggageDropped.Add(float64(dropped))
		answer.Set = append(answer.Set, policy.Header{Name: policy.BaggageHeader, Value: policy.NewValue(line)})
	} else if sent.RewriteBaggage() {
		answer.setBaggage(sent.Baggage)
	}
	return answer
}

// lookup looks up the session of a request, and counts denied and unknown ones.
func (f *fanout) lookup(ctx context.Context, request parsed) (session.State, error) {
	state, err := f.sessions.Lookup(ctx, request.forTracker())
	switch {
	case err != nil || !f.policy.KeepsSessions():
	case state.Denied == session.PrincipalMismatch:
		f.metrics.principalMismatch.Inc()
	case state.Denied == session.NoPrincipal:
		f.metrics.noPrincipal.Inc()
		f.warnings.warn("a request without a principal belongs to a session that keeps headers, and gets none of them; "+
			"let clients send one of the headers in session.bind with each request", "bind", f.policy.Session().Bind)
	case state.Name != "" && !state.Found && state.CanKeep && request.method != http.MethodDelete:
		f.metrics.unknownSession.Inc()
	}
	return state, err
}

// save makes the ticket redeemable and saves changes of the session. A dry run issues no ticket. A session that its
// client ends is not saved again.
func (f *fanout) save(
	ctx context.Context,
	request parsed,
	state session.State,
	minted ticket.Ticket,
	change session.Change,
) error {
	var saved error
	if !f.observes() {
		saved = f.tickets.Save(ctx, minted)
	}
	f.tickets.Issued(ctx, minted)
	if request.modern {
		f.tickets.Owned(ctx, minted)
	}
	if !changesSession(request) || f.sessions.Claims(state, change) {
		return saved // a claim is saved once the fan-out has accepted the request: see onResponse
	}
	err := f.sessions.Save(ctx, state, change)
	if errors.Is(err, session.ErrSupersession) {
		f.warnings.warn("sessions cannot be written; a superseded ticket may be redeemed for longer", "error", err)
		err = nil
	}
	return errors.Join(saved, err)
}

// changesSession reports whether a request can change its session. OPTIONS is not of MCP, and a session that its client
// ends is not saved again.
func changesSession(request parsed) bool {
	return request.method != http.MethodDelete && request.method != http.MethodOptions
}

// reject refuses a request that violates the policy.
func (f *fanout) reject(request parsed, rejection *policy.Rejection) (Answer, *Error) {
	f.metrics.rejected("", rejection)
	refused := rejected(rejection)
	if f.explains(request.Headers) {
		refused.Headers = []policy.Header{nameList(rejectedHeader, []string{rejection.Header})}
	}
	return f.refuse(refused)
}

// refuseWithID refuses a client's request when its body is read, so that the error has the ID by which the client knows
// its request. Until then nothing that is hidden may get past the filter. A body that does not say how long it is, or
// is too long, is not worth the proxy's memory.
func (f *fanout) refuseWithID(request parsed, why *Error) (Answer, *Error) {
	readable := request.method == http.MethodPost && jsonrpc.IsJSON(request.Headers)
	if !readable || request.length == 0 || request.length > f.policy.BodyLimit() {
		return Answer{}, why
	}
	answer := Answer{Remove: f.policy.Hidden(request.Headers)}
	answer.Remove = append(append(answer.Remove, policy.TicketAliases()...), policy.TicketHeader, policy.BaggageHeader)
	if len(answer.Remove) > maxOperations {
		return Answer{}, why
	}
	answer.Reading = &Reading{fanout: f, request: request, refused: why}
	return answer, nil
}

func (f *fanout) refuse(why *Error) (Answer, *Error) { return f.refuseAs(outcomeRejected, why) }

func (f *fanout) refuseAs(outcome outcome, why *Error) (Answer, *Error) {
	f.metrics.request(Ingress, outcome)
	f.Log.Debug("client request refused", "reason", why.Reason, "header", why.Header)
	return Answer{}, why
}
