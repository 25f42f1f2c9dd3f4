package processor

import (
	"context"
	"slices"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

// egress removes the ticket from a request to a backend and sets the client's headers that this backend may get.
func (f *fanout) egress(ctx context.Context, binding Binding, request parsed) (Answer, *Error) {
	sent := ticket.Read(request.Headers)
	backend, declared := f.policy.Backend(binding.Backend, request.Cluster)
	elsewhere := binding.Backend != "" && !f.policy.Reaches(binding.Backend, request.Cluster, binding.Clusters)
	switch {
	case elsewhere:
		backend, declared = "", false
		f.warnings.warn(
			"the proxy sends a request for a backend to a cluster that is not the backend's: it gets no header; somebody "+
				"else's route may lead it there, or the cluster has to be listed: by bellhop envoy, or under clusters",
			"backend", binding.Backend, "cluster", request.Cluster,
		)
	case !declared:
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
	if !request.within(binding.Path) {
		identity, has = nil, false
	}
	asking := asking{
		backend: backend, declared: declared, elsewhere: elsewhere, sent: sent,
		unreadable: has && len(identity) == 0, storeFailed: err != nil,
		call: policy.Call{
			Backend: backend, Ticket: redeemed.Status, Capture: redeemed.Capture, Identity: identity, Request: request.Headers,
		},
	}
	operation, needsBody := request.operation()
	switch needs := f.policy.NeedsOperation(asking.call); {
	case needs && needsBody && request.length > f.policy.BodyLimit():
		return Answer{}, f.bodyTooLarge(backend, request.length)
	case needs && needsBody:
		answer := withoutCarriers(Egress, request.Headers)
		answer.Reading = &Reading{fanout: f, request: request, asking: asking}
		return answer, nil
	case needs && operation.Why() == policy.UnreadableHidden:
		f.warnings.warn(
			"the filter does not show the bodies that this policy needs: rules for tools and the discovery identity do not "+
				"apply; generate its configuration again, with bellhop envoy",
			"backend",
			backend,
		)
	}
	return f.decide(request, asking, operation)
}

// bodyTooLarge refuses a request whose body is too long to be read.
func (f *fanout) bodyTooLarge(backend string, bytes int) *Error {
	limit := f.policy.BodyLimit()
	f.metrics.request(Egress, outcomeBodyTooLarge)
	f.warnings.warn(
		"a request's body is longer than limits.body_bytes, so that it cannot be read; the request is refused",
		"backend", backend, "bytes", bytes, "body_bytes", limit,
	)
	return bodyTooLarge(limit)
}

// asking is a request to a backend of which everything is known but what it asks for.
type asking struct {
	backend     string
	declared    bool
	elsewhere   bool // the proxy names the backend, and sends the request to a cluster that is not the backend's
	sent        ticket.Carried
	call        policy.Call
	unreadable  bool // the backend has an identity, and its file cannot be read
	storeFailed bool
}

// decide answers a request of which it is known, or known that it is not, what it asks for.
func (f *fanout) decide(request parsed, asking asking, operation policy.Operation) (Answer, *Error) {
	call, backend := asking.call, asking.backend
	call.Operation = operation
	if asking.unreadable && call.IsDiscovery() {
		f.warnings.warn("a discovery identity cannot be read; the request is refused", "backend", backend)
		f.metrics.request(Egress, outcomeNoIdentity)
		return Answer{}, identityUnavailable()
	}
	decision := f.policy.Decide(call)
	answer, refused, fits := deliver(request.Headers, asking.sent, decision)
	if !fits && refused == nil { // what is left must be right without these headers
		f.warnings.warn(
			"request has no room for the client's headers within Envoy's 100 headers and 60 KiB: it gets none",
			"backend", backend,
		)
		call.Ticket = policy.StatusNoRoom
		decision = f.policy.Decide(call)
	}
	switch {
	case decision.Rejection != nil:
		f.metrics.rejected(backend, decision.Rejection)
		f.metrics.request(Egress, rejectedOutcome(decision.Rejection.Reason))
		return Answer{}, rejected(decision.Rejection)
	case refused != nil:
		f.metrics.request(Egress, outcomeNoRoom)
		return Answer{}, refused
	}
	f.metrics.delivered(backend, decision.Verdicts)
	switch {
	case asking.elsewhere:
		f.metrics.request(Egress, outcomeElsewhere)
	case !fits:
		f.metrics.request(Egress, outcomeNoRoom)
	case asking.storeFailed:
		f.metrics.request(Egress, outcomeStoreFailed)
	default:
		f.metrics.request(Egress, egressOutcome(call.Ticket, asking.declared, decision))
	}
	return answer, nil
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
	answer.Remove = append(answer.Remove, sent.Aliases...)
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

func egressOutcome(status policy.TicketStatus, declared bool, decision policy.Decision) outcome {
	switch {
	case !declared:
		return outcomeUndeclared
	case status == policy.StatusUnknown:
		return outcomeUnknownTicket
	case status == policy.StatusOtherKey:
		return outcomeOtherKey
	case status == policy.StatusMalformed:
		return outcomeMalformed
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

// rejectedOutcome tells a request that breaks a rule from one whose headers were lost on the way.
func rejectedOutcome(reason policy.Reason) outcome {
	switch reason {
	case policy.ReasonNoTicket:
		return outcomeNoTicket
	case policy.ReasonSuperseded:
		return outcomeSuperseded
	case policy.ReasonOtherKey:
		return outcomeOtherKey
	case policy.ReasonMalformed:
		return outcomeMalformed
	case policy.ReasonTicket:
		return outcomeUnknownTicket
	case policy.ReasonRedirected:
		return outcomeRedirected
	case policy.ReasonNoRoom:
		return outcomeNoRoom
	default:
		return outcomeRejected
	}
}
