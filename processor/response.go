package processor

import (
	"context"
	"net/http"
	"strconv"

	"bellhop/policy"
	"bellhop/processor/session"
)

// pending says what the response to a request is needed for. Most are not: the response to a session's first request
// names the session, that to a DELETE confirms its end, and that to a request that would change a session says whether
// the fan-out takes the session for the client's. An access log reports that the fan-out no longer knows a session, so
// that an open call does not depend on Bellhop: see [Processor.SessionNotFound].
func (f *fanout) pending(request parsed, state session.State, change session.Change) *Pending {
	if !f.policy.TracksSessions() {
		return nil
	}
	if state.Denied == session.PrincipalMismatch && change.Content != "" {
		return &Pending{fanout: f, superseding: f.sessions.Superseding(state, change)}
	}
	if f.policy.KeepsSessions() && request.mayBeginSession() {
		if opening := f.sessions.Opening(state, change); opening != nil {
			return &Pending{fanout: f, opening: opening}
		}
	}
	if changesSession(request) && f.sessions.Claims(state, change) {
		return &Pending{fanout: f, claim: &claim{state, change}}
	}
	if state.Found && request.method == http.MethodDelete {
		return &Pending{fanout: f, ending: state.StoredName()} // it was not saved again
	}
	return nil
}

// claim is what a request saves in a session that is not known to be its own.
type claim struct {
	state  session.State
	change session.Change
}

// onResponse begins or ends a session. A session that cannot be written must not begin: its later requests would lack
// their headers, and no one would know why.
func (f *fanout) onResponse(ctx context.Context, pending *Pending, response Response) *Error {
	status, id, several := readResponse(response)
	if status < http.StatusOK || status >= http.StatusMultipleChoices {
		if pending.opening != nil || pending.claim != nil || pending.superseding != nil {
			f.metrics.notAccepted.Inc()
		}
		return nil
	}
	if pending.claim != nil {
		if err := f.sessions.Accept(ctx, pending.claim.state, pending.claim.change); err != nil {
			f.warnings.warn("a session cannot be written; its later requests lack the headers that it should keep", "error", err)
		}
	}
	if pending.ending != "" {
		f.endSession(ctx, pending.ending)
	}
	if pending.superseding != nil {
		if err := f.sessions.Supersede(ctx, *pending.superseding); err != nil {
			f.warnings.warn("sessions cannot be written; a superseded ticket may be redeemed for longer", "error", err)
		}
	}
	switch {
	case pending.opening == nil || id == "":
		return nil
	case several:
		f.metrics.request(Ingress, outcomeRejected) // in addition: the request itself was accepted
		f.warnings.warn("the fan-out names several sessions in one response; the response is replaced by an error")
		return severalSessions()
	}
	err := f.sessions.Begin(ctx, id, *pending.opening)
	if err == nil || f.storeFailed("a session cannot be written", err) {
		return nil
	}
	f.metrics.request(Ingress, outcomeStoreFailed) // in addition: the request itself was accepted
	return storeFailed()
}

// readResponse reads the status, 0 if it was not sent, and the MCP session's ID, with whether there are several.
func readResponse(response Response) (status int, sessionID string, several bool) {
	for i := range response.Headers {
		switch header := &response.Headers[i]; header.Name {
		case statusPseudoHeader:
			status, _ = strconv.Atoi(header.Value.Reveal())
		case policy.SessionHeader:
			several = sessionID != ""
			sessionID = header.Value.Reveal()
		}
	}
	return status, sessionID, several
}

// endSession deletes a session. If that fails, the session expires.
func (f *fanout) endSession(ctx context.Context, name string) {
	if err := f.sessions.End(ctx, name); err != nil {
		f.warnings.warn("the end of a session cannot be written", "error", err)
		return
	}
	f.metrics.sessionsEnded.Inc()
}
