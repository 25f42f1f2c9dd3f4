package processor

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

// ingress takes the carried headers off a client's request and gives the fan-out a ticket in their place. The
// ticket goes on every request, also when nothing was captured: a fan-out that finds none may use the one of an
// earlier request again.
func (e *engine) ingress(ctx context.Context, _ binding, request incoming) (change, *problem) {
	taken, rejection := e.policy.Capture(request.headers)
	if rejection != nil {
		return e.refuseHeaders(request, rejection)
	}
	visit, err := e.visit(ctx, request)
	if err != nil && !e.fails("sessions cannot be read", err) {
		return e.reject(storeFailed(), outcomeStoreFailed)
	}
	capture, leftOut := e.policy.Complete(taken.Capture, visit.kept())
	if request.method != http.MethodOptions {
		if rejection := e.policy.Missing(capture); rejection != nil {
			return e.refuseHeaders(request, rejection)
		}
	}
	minted, trouble := e.mint(capture)
	if trouble != nil {
		return e.reject(trouble, outcomeRejected)
	}
	made := e.exchangeForTicket(request.headers, taken.Hide, minted)
	if !made.fits(request.headers) {
		return e.reject(tooLarge(), outcomeRejected)
	}
	if err := errors.Join(e.keep(ctx, minted, capture), e.remember(ctx, visit, request, taken.Capture, capture)); err != nil && !e.fails("the store cannot be written", err) {
		return e.reject(storeFailed(), outcomeStoreFailed)
	}
	e.metrics.taken(e.policy, taken, capture, leftOut)
	for _, header := range taken.Capture {
		e.seen.header(e.policy.Pattern(header.Name), e.now())
	}
	made.await = e.await(request, visit, taken.Capture, capture)
	if e.policy.KeepsSessions() && !visit.nameless {
		made.session = visit.id
	}
	if e.asks(request) {
		if made.await == nil {
			made.await = &awaited{}
		}
		made.await.view = e.view(request, taken)
	}
	return made, nil
}

// fails tells of a store that fails, and reports whether the request goes on all the same.
func (e *engine) fails(what string, err error) (goesOn bool) {
	end := "the request is refused"
	if e.goesOn {
		end = "the request goes on without"
	}
	e.warnings.warn(what+"; "+end, "error", err)
	return e.goesOn
}

func (e *engine) refuseHeaders(request incoming, rejection *policy.Rejection) (change, *problem) {
	e.metrics.rejected(e.policy, "", rejection)
	trouble := rejected(rejection)
	if e.asks(request) {
		trouble.view = []policy.Header{nameList(rejectedHeader, []string{rejection.Header})}
	}
	return e.reject(trouble, outcomeRejected)
}

// exchangeForTicket is the one change of a client's request: hidden headers and whatever the client sent as a
// ticket go, the ticket comes in.
func (e *engine) exchangeForTicket(request []policy.Header, hide []string, minted string) change {
	sent := ticket.Read(request)
	made := change{remove: append(slices.Clone(hide), policy.TicketAlias)}
	if e.policy.Explains() {
		made.remove = append(made.remove, askHeader)
	}
	if e.policy.Uses(policy.CarrierHeader) {
		made.set = append(made.set, policy.Header{Name: policy.TicketHeader, Value: policy.NewValue(minted)})
	} else {
		made.remove = append(made.remove, policy.TicketHeader)
	}
	if e.policy.Uses(policy.CarrierBaggage) {
		line, dropped := ticket.Baggage(minted, valid(sent.Baggage))
		e.metrics.baggageDropped.Add(float64(dropped))
		made.set = append(made.set, policy.Header{Name: policy.BaggageHeader, Value: policy.NewValue(line)})
	} else if sent.Taints() {
		made.setBaggage(sent.Baggage)
	}
	return made
}

// carriersOff is all that a dry run does to a request: a ticket is only ever Bellhop's, and no backend sees one. One that a client
// made up could else be found in a pooled connection of the fan-out later, and one from before a dry run reach a backend.
func carriersOff(request []policy.Header) change {
	var made change
	for _, name := range []string{policy.TicketHeader, policy.TicketAlias} {
		if slices.ContainsFunc(request, func(h policy.Header) bool { return h.Name == name }) {
			made.remove = append(made.remove, name)
		}
	}
	if sent := ticket.Read(request); sent.Taints() {
		made.setBaggage(sent.Baggage)
	}
	return made
}

func (e *engine) reject(trouble *problem, outcome outcome) (change, *problem) {
	e.metrics.request(ingress, outcome)
	e.log.Debug("client request refused", "reason", trouble.reason, "header", trouble.header)
	return change{}, trouble
}
