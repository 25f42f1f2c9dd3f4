package processor

import (
	"context"
	"net/http"
	"slices"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

// egress removes the ticket from a request to a backend and sets the client's headers that this backend may get.
func (f *fanout) egress(ctx context.Context, binding Binding, request parsed) (Answer, *Error) {
	sent := ticket.Read(request.Headers)
	backend, declared := f.policy.Backend(binding.Backend, request.Cluster)
	if !declared {
		f.warnings.warn(
			"request to a backend that the policy does not declare: it gets no header", "backend", binding.Backend,
			"cluster", request.Cluster,
		)
	}
	f.lastSeen.reached(backend, request.at)
	redeemed, err := f.redeem(ctx, request, sent)
	if err != nil && !f.storeFailed("the store cannot be read", err) {
		f.metrics.request(Egress, outcomeStoreFailed)
		return Answer{}, storeFailed()
	}
	identity, has := f.identity(backend)
	call := policy.Call{
		Backend: backend, Ticket: redeemed.Status, Capture: redeemed.Capture, Identity: identity,
		Operation: operation(binding, request), Request: request.Headers,
	}
	if has && len(identity) == 0 && call.IsDiscovery() {
		f.warnings.warn("a discovery identity cannot be read; the request is refused", "backend", backend)
		f.metrics.request(Egress, outcomeNoIdentity)
		return Answer{}, identityUnavailable()
	}
	decision := f.policy.Decide(call)
	if decision.Rejection != nil {
		f.metrics.rejected(backend, decision.Rejection)
		f.metrics.request(Egress, outcomeRejected)
		return Answer{}, rejected(decision.Rejection)
	}
	answer, refused, fits := deliver(request.Headers, sent, decision)
	switch {
	case refused != nil:
		f.metrics.request(Egress, outcomeNoRoom)
	case !fits:
		f.metrics.request(Egress, outcomeNoRoom)
		f.warnings.warn(
			"request has no room for the client's headers within Envoy's 100 headers and 60 KiB: it gets none",
			"backend", backend,
		)
	case err != nil:
		f.metrics.delivered(backend, decision.Verdicts)
		f.metrics.request(Egress, outcomeStoreFailed)
	default:
		f.metrics.delivered(backend, decision.Verdicts)
		f.metrics.request(Egress, egressOutcome(redeemed.Status, declared, decision))
	}
	return answer, refused
}

// deliver builds the answer from a decision. If Envoy would reject it, the request gets none of the client's headers;
// if Envoy would reject even the removals, the request is refused.
func deliver(
	request []policy.Header,
	sent ticket.Carried,
	decision policy.Decision,
) (answer Answer, refused *Error, fits bool) {
	answer.Remove = make([]string, 0, len(decision.Remove)+2)
	answer.Remove = append(append(answer.Remove, decision.Remove...), policy.TicketHeader)
	if sent.RewriteBaggage() {
		answer.setBaggage(sent.Baggage)
	}
	bare := answer
	if answer.Set == nil {
		answer.Set = decision.Set
	} else {
		answer.Set = append(slices.Clip(answer.Set), decision.Set...)
	}
	if answer.fits(request) {
		return answer, nil, true
	}
	if !bare.fits(request) {
		return Answer{}, tooManyToRemove(), false
	}
	return bare, nil, false
}

// redeem returns the capture that a request's ticket names. A proxy that follows a redirect repeats the request without
// the ticket, because the first backend's filter removed it.
func (f *fanout) redeem(ctx context.Context, request parsed, sent ticket.Carried) (ticket.Redeemed, error) {
	redeemed, err := f.tickets.Redeem(ctx, sent)
	if redeemed.Mismatch {
		f.metrics.mismatches.Inc()
	}
	if redeemed.Status == policy.StatusNone && request.has(policy.OriginalURLHeader) {
		redeemed.Status = policy.StatusRedirected
	}
	return redeemed, err
}

// identity returns the discovery identity of a backend, and whether it has one. It is empty if its file cannot be read.
func (f *fanout) identity(backend string) (identity []policy.Header, has bool) {
	if !f.discoveryPausedUntil.IsZero() && f.now().Before(f.discoveryPausedUntil) {
		return nil, false
	}
	identity, has = f.identities[backend]
	return identity, has
}

// operation returns the operation of a request. If the proxy reads bodies but could not read this one, the operation is
// ambiguous, whatever the headers say.
func operation(binding Binding, request parsed) policy.Operation {
	asked := request.operation
	unread := binding.ReadsBodies && request.Body.Operation.Method == ""
	if unread && (request.method == "" || request.method == http.MethodPost) {
		asked.Ambiguous = true
	}
	return asked
}

func egressOutcome(status policy.TicketStatus, declared bool, decision policy.Decision) outcome {
	switch {
	case !declared:
		return outcomeUndeclared
	case status == policy.StatusUnknown:
		return outcomeUnknownTicket
	case status == policy.StatusSuperseded:
		return outcomeSuperseded
	case status == policy.StatusRedirected:
		return outcomeRedirected
	case status == policy.StatusNone && len(decision.Set) > 0:
		return outcomeDiscovery
	case status == policy.StatusNone:
		return outcomeNoTicket
	case len(decision.Set) > 0:
		return outcomeForwarded
	default:
		return outcomeEmpty
	}
}
