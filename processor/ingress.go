package processor

import (
	"context"
	"net/http"
	"slices"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

// ingress takes the carried headers off a client's request and gives the fan-out a ticket in their place. The
// ticket goes on every request, also when nothing was captured: a fan-out that finds none may use the one of an
// earlier request again.
func (p *Processor) ingress(ctx context.Context, _ binding, request incoming) (change, *problem) {
	taken, rejection := p.policy.Capture(request.headers)
	if rejection == nil && request.method != http.MethodOptions {
		rejection = p.policy.Missing(taken.Capture, request.act)
	}
	if rejection != nil {
		p.metrics.rejected(rejection)
		return p.reject(rejected(rejection), outcomeRejected)
	}
	minted := p.minter.Mint(taken.Capture, p.now())
	made := p.exchangeForTicket(request.headers, taken.Hide, minted)
	if !made.fits(request.headers) {
		return p.reject(tooLarge(), outcomeRejected)
	}
	if err := p.store.Put(ctx, minted, taken.Capture, p.policy.Lifetime()); err != nil {
		p.warnings.warn("store cannot be written; the request is refused", "error", err)
		return p.reject(storeFailed(), outcomeStoreFailed)
	}
	p.metrics.taken(taken)
	return made, nil
}

// exchangeForTicket is the one change of a client's request: hidden headers and whatever the client sent as a
// ticket go, the ticket comes in.
func (p *Processor) exchangeForTicket(request []policy.Header, hide []string, minted string) change {
	sent := ticket.Read(request)
	made := change{remove: append(slices.Clone(hide), policy.TicketAlias)}
	if p.policy.Uses(policy.CarrierHeader) {
		made.set = append(made.set, policy.Header{Name: policy.TicketHeader, Value: policy.NewValue(minted)})
	} else {
		made.remove = append(made.remove, policy.TicketHeader)
	}
	if p.policy.Uses(policy.CarrierBaggage) {
		line, dropped := ticket.Baggage(minted, valid(sent.Baggage))
		p.metrics.baggageDropped.Add(float64(dropped))
		made.set = append(made.set, policy.Header{Name: policy.BaggageHeader, Value: policy.NewValue(line)})
	} else if sent.Taints() {
		made.setBaggage(sent.Baggage)
	}
	return made
}

func (p *Processor) reject(trouble *problem, outcome outcome) (change, *problem) {
	p.metrics.request(ingress, outcome)
	p.log.Debug("client request refused", "reason", trouble.reason, "header", trouble.header)
	return change{}, trouble
}
