package processor

import (
	"context"
	"slices"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

// mint makes the ticket of a capture. A sealed one may be too long to cross the fan-out.
func (e *engine) mint(capture policy.Capture) (string, *problem) {
	if !e.policy.Sealed() {
		return e.minter.Mint(capture, e.now()), nil
	}
	most := ticket.MaxSealedInHeader
	if e.policy.Uses(policy.CarrierBaggage) {
		most = ticket.MaxSealedInBaggage
	}
	minted, err := e.sealer.Seal(capture, e.now())
	if err != nil || len(minted) > most {
		return "", tooLargeToSeal(most)
	}
	return minted, nil
}

// keep makes sure that a ticket can be redeemed.
func (e *engine) keep(ctx context.Context, minted string, capture policy.Capture) error {
	if e.policy.Sealed() || e.policy.Mode() == policy.ModeObserve { // nobody gets the ticket
		return nil
	}
	return e.store.Put(ctx, e.scoped(minted), capture, e.policy.Lifetime())
}

// redeem finds the capture that a request's ticket stands for. Whatever claims to be a ticket and is none makes the
// status unknown: only a request with nothing of the kind was caused by no client. Tickets of both modes are redeemed, as
// those of the other may be under way from before a reload.
func (e *engine) redeem(ctx context.Context, request incoming, sent ticket.Carried) (policy.TicketStatus, policy.Capture, error) {
	if !sent.Any() {
		if slices.ContainsFunc(request.headers, func(h policy.Header) bool { return h.Name == policy.OriginalURLHeader }) {
			return policy.StatusRedirected, nil, nil
		}
		return policy.StatusNone, nil, nil
	}
	text, mismatch := sent.Ticket(e.policy.Carriers())
	if mismatch {
		e.metrics.mismatches.Inc()
	}
	if capture, ok := e.sealer.Open(text, e.now()); ok {
		return policy.StatusRedeemed, capture, nil
	}
	if !ticket.WellFormed(text) {
		return policy.StatusUnknown, nil, nil
	}
	capture, ok, err := e.store.Get(ctx, e.scoped(text))
	if err != nil || !ok {
		return policy.StatusUnknown, nil, err
	}
	superseded, err := e.succession.Superseded(ctx, e.content(capture), e.policy.Grace())
	switch {
	case err != nil:
		return policy.StatusUnknown, nil, err
	case superseded:
		return policy.StatusSuperseded, nil, nil
	default:
		return policy.StatusRedeemed, capture, nil
	}
}

// content names what a capture holds, for who asks whether it has been replaced: whatever the time and the key, for tickets that only
// rotate replace nothing, and all tickets of what is replaced are replaced with it.
func (e *engine) content(capture policy.Capture) string { return e.scoped(ticket.Content(capture)) }

// scoped is the name under which a store keeps something: what is one fan-out's is nothing at another.
func (e *engine) scoped(text string) string {
	if fanout := e.policy.Fanout(); fanout != "" {
		return fanout + "/" + text
	}
	return text
}
