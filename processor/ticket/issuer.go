package ticket

import (
	"context"
	"fmt"
	"slices"
	"time"

	"bellhop/policy"
)

// Issuer issues and redeems the tickets of one fan-out, in the mode that its policy asks for. Safe for concurrent use.
type Issuer struct {
	policy       *policy.Policy
	store        Store
	supersession Supersession
	carriers     []policy.Carrier
	minters      []*Minter // the newest first
	sealer       *Sealer
	scope        string // in front of every name in the store
	maxSealed    int    // bytes
	now          func() time.Time
}

// NewIssuer returns the issuer for one policy's fan-out. The newest key mints tickets; all keys redeem.
func NewIssuer(keys Keys, p *policy.Policy, store Store, supersession Supersession, now func() time.Time) *Issuer {
	issuer := &Issuer{
		policy: p, store: store, supersession: supersession, carriers: p.Carriers(), now: now,
		maxSealed: MaxSealedInHeader,
		sealer:    NewSealer(keys, p.Fanout(), p.Rotate(), p.Lifetime()),
	}
	for _, key := range keys {
		issuer.minters = append(issuer.minters, NewMinter(key, p.Fanout(), p.Rotate()))
	}
	if p.Uses(policy.CarrierBaggage) {
		issuer.maxSealed = MaxSealedInBaggage
	}
	if p.Fanout() != "" {
		issuer.scope = p.Fanout() + "/"
	}
	return issuer
}

// Ticket is the ticket of one capture.
type Ticket struct {
	Text string // what crosses the fan-out
	// Content names what the capture holds, for supersession; empty for a sealed ticket, which is redeemed without a
	// look-up.
	Content string
	capture policy.Capture
}

// TooLongError says that a capture does not fit into a sealed ticket.
type TooLongError struct{ Limit int } // bytes

// Error implements error.
func (e *TooLongError) Error() string {
	return fmt.Sprintf("the headers do not fit into a sealed ticket of %d bytes", e.Limit)
}

// Mint makes the ticket of a capture, which can be redeemed once it is saved. The only error is a [TooLongError].
func (i *Issuer) Mint(capture policy.Capture) (Ticket, error) {
	if !i.policy.Sealed() {
		return Ticket{
			Text: i.minters[0].Mint(capture, i.now()), Content: i.content(capture), capture: capture,
		}, nil
	}
	text, err := i.sealer.Seal(capture, i.now())
	if err != nil || len(text) > i.maxSealed {
		return Ticket{}, &TooLongError{Limit: i.maxSealed}
	}
	return Ticket{Text: text, capture: capture}, nil
}

// Save makes a ticket redeemable. While nothing changes it writes nothing.
func (i *Issuer) Save(ctx context.Context, t Ticket) error {
	if t.Content == "" {
		return nil
	}
	life := Life{Idle: i.policy.Lifetime(), MaxAge: i.policy.MaxAge()}
	return i.store.Put(ctx, i.scope+nameOf(t.Text), t.capture, life)
}

// Issued records that a client was issued the ticket, so it is not superseded for a while.
func (i *Issuer) Issued(ctx context.Context, t Ticket) {
	if t.Content != "" {
		i.supersession.Issued(ctx, t.Content)
	}
}

// Owned records that the ticket is that of a request without a session, whose owner no session can speak for.
func (i *Issuer) Owned(ctx context.Context, t Ticket) {
	if t.Content != "" {
		i.supersession.Owned(ctx, t.Content, i.policy.Lifetime())
	}
}

// Redeemed is the result of redeeming a request's ticket.
type Redeemed struct {
	Status   policy.TicketStatus
	Capture  policy.Capture // with [policy.StatusRedeemed]
	Mismatch bool           // the carriers held different tickets
}

// Redeem returns the capture that the ticket in a request names. Anything that claims to be a ticket but is not one
// makes the status unknown: only a request without any such claim was caused by no client. Tickets of both modes are
// redeemed, because tickets from before a reload may still be in use. An error means that the store cannot answer; the
// status is unknown then.
func (i *Issuer) Redeem(ctx context.Context, carried Carried) (Redeemed, error) {
	if !carried.Any() {
		return Redeemed{Status: policy.StatusNone}, nil
	}
	text, mismatch := carried.Ticket(i.carriers)
	status, capture, err := i.open(ctx, text)
	return Redeemed{Status: status, Capture: capture, Mismatch: mismatch}, err
}

func (i *Issuer) open(ctx context.Context, text string) (policy.TicketStatus, policy.Capture, error) {
	if Sealed(text) {
		if capture, ok := i.sealer.Open(text, i.now()); ok {
			return policy.StatusRedeemed, capture, nil
		}
	}
	if !WellFormed(text) {
		return policy.StatusMalformed, nil, nil
	}
	made := slices.IndexFunc(i.minters, func(m *Minter) bool { return m.Made(text) })
	switch {
	case made < 0:
		return policy.StatusOtherKey, nil, nil
	case !i.minters[made].Verify(text):
		return policy.StatusMalformed, nil, nil
	}
	capture, ok, err := i.store.Get(ctx, i.scope+nameOf(text))
	if err != nil || !ok {
		return policy.StatusUnknown, nil, err
	}
	superseded, err := i.supersession.Superseded(ctx, i.content(capture), i.policy.Grace())
	switch {
	case err != nil:
		return policy.StatusUnknown, nil, err
	case superseded:
		return policy.StatusSuperseded, nil, nil
	default:
		return policy.StatusRedeemed, capture, nil
	}
}

// content names what a capture holds. The name depends on neither time nor key: a rotated ticket supersedes nothing,
// and all tickets of a superseded capture are superseded together.
func (i *Issuer) content(capture policy.Capture) string { return i.scope + Content(capture) }
