package processor

import (
	"context"
	"net/http"
	"slices"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

// egress takes the ticket off a request to a backend and puts on what this backend may have of the client's headers.
func (e *engine) egress(ctx context.Context, bound binding, request incoming) (change, *problem) {
	sent := ticket.Read(request.headers)
	backend, declared := e.policy.Backend(bound.backend, request.cluster)
	if !declared {
		e.warnings.warn("request to a backend that the policy does not declare: it gets no header", "backend", bound.backend, "cluster", request.cluster)
	}
	e.seen.backend(backend, e.now())
	status, capture, err := e.redeem(ctx, request, sent)
	if err != nil && !e.fails("the store cannot be read", err) {
		e.metrics.request(egress, outcomeStoreFailed)
		return change{}, storeFailed()
	}
	identity, has := e.identity(backend)
	call := policy.Call{
		Backend: backend, Ticket: status, Capture: capture, Identity: identity, Operation: bound.operation(request), Request: request.headers,
	}
	if has && len(identity) == 0 && call.IsDiscovery() {
		e.warnings.warn("a discovery identity cannot be read; the request is refused", "backend", backend)
		e.metrics.request(egress, outcomeNoIdentity)
		return change{}, identityUnread()
	}
	decision := e.policy.Decide(call)
	if decision.Rejection != nil {
		e.metrics.rejected(e.policy, backend, decision.Rejection)
		e.metrics.request(egress, outcomeRejected)
		return change{}, rejected(decision.Rejection)
	}
	made := change{remove: append(slices.Clone(decision.Remove), policy.TicketHeader)}
	if sent.Taints() {
		made.setBaggage(sent.Baggage)
	}
	bare := made
	if !bare.fits(request.headers) {
		e.metrics.request(egress, outcomeNoRoom)
		return change{}, tooMany()
	}
	made.set = append(slices.Clip(made.set), decision.Set...)
	if !made.fits(request.headers) {
		return e.withoutHeaders(backend, bare)
	}
	e.metrics.delivered(e.policy, backend, decision.Verdicts)
	if err != nil {
		e.metrics.request(egress, outcomeStoreFailed)
		return made, nil
	}
	e.metrics.request(egress, egressOutcome(status, declared, decision))
	return made, nil
}

// identity is the discovery identity of a backend, and whether it has one: an empty one cannot be read.
func (e *engine) identity(backend string) (identity []policy.Header, has bool) {
	if e.now().Before(e.quiet) {
		return nil, false
	}
	identity, has = e.identities[backend]
	return identity, has
}

// operation is what a request asks for. Where Envoy reads bodies and could not read this one, it may be anything, whatever its headers say.
func (b binding) operation(request incoming) policy.Operation {
	operation := request.operation
	if b.reads == readsMCP && !request.read && (request.method == "" || request.method == http.MethodPost) {
		operation.Ambiguous = true
	}
	return operation
}

// withoutHeaders lets a request go on without any of the client's headers, where Envoy would refuse it with them.
func (e *engine) withoutHeaders(backend string, bare change) (change, *problem) {
	e.metrics.request(egress, outcomeNoRoom)
	e.warnings.warn("request has no room for the client's headers within Envoy's 100 headers and 60 KiB: it gets none", "backend", backend)
	return bare, nil
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
