package extproc_test

import (
	"slices"
	"testing"
	"time"

	"bellhop/processor"
	"bellhop/processor/ticket"
)

const aging = "version: 1\nforward: [x-a]\nticket: {lifetime: 1s, rotate: 1s, max_age: 1s, grace: 0s}\n"

func (b *bench) redeems(t *testing.T, minted string) bool {
	t.Helper()
	return slices.Contains(b.egress(t, "a", "x-bellhop-ticket: "+minted), "x-a: 1")
}

// However often a ticket is redeemed, it ends: "5m" has to bound something.
func TestATicketInUseEnds(t *testing.T) {
	b := start(t, setup{policy: aging})
	_, minted := b.ingress(t, "x-a: 1")
	begun := time.Now()
	for b.redeems(t, minted) {
		if time.Since(begun) > 5*time.Second {
			t.Fatal("a ticket in use never ends")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if lived := time.Since(begun); lived < 800*time.Millisecond {
		t.Errorf("it lived for %v only", lived)
	}
}

// A fan-out that froze an old ticket goes on with it, across rotations, while its client sends the same headers.
func TestAFrozenTicketGoesOnWithItsClient(t *testing.T) {
	b := start(t, setup{policy: aging})
	_, frozen := b.ingress(t, "x-a: 1")
	others := 0
	for begun := time.Now(); time.Since(begun) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
		if _, minted := b.ingress(t, "x-a: 1"); minted != frozen {
			others++
		}
	}
	if others == 0 {
		t.Fatal("the ticket was not rotated: this proves nothing")
	}
	if !b.redeems(t, frozen) { // idle all the while
		t.Error("it is lost, though its client sends the header")
	}
}

// A key that is taken out of the file revokes its tickets, stored ones too; one that stays redeems them.
func TestAKeyThatIsTakenOutRevokesItsTickets(t *testing.T) {
	b := start(t, setup{policy: aging})
	_, minted := b.ingress(t, "x-a: 1")
	rules := processor.Rules{Policy: loadPolicy(t, aging)}
	added := slices.Concat(ticket.RandomKeys(), b.keys)
	b.processor.Apply(added, rules)
	if !b.redeems(t, minted) {
		t.Error("a key that is no longer the newest does not redeem")
	}
	b.processor.Apply(added[:1], rules)
	if b.redeems(t, minted) {
		t.Error("a key that is gone redeems")
	}
	b.metric(t, "bellhop_requests_total", `bellhop_requests_total{fanout="",outcome="captured",role="ingress"} 1
bellhop_requests_total{fanout="",outcome="forwarded",role="egress"} 1
bellhop_requests_total{fanout="",outcome="other_key",role="egress"} 1`)
}

// Whatever is changed in a ticket, it is none any more.
func TestAChangedTicketIsNone(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward: [x-a]\n"})
	_, minted := b.ingress(t, "x-a: 1")
	if !b.redeems(t, minted) {
		t.Fatal("the ticket itself does not redeem")
	}
	for i := range minted {
		changed := []byte(minted)
		if changed[i]++; changed[i] == 'z'+1 || changed[i] == 'Z'+1 || changed[i] == '9'+1 || changed[i] == '.' ||
			changed[i] == '`' {
			changed[i] = 'A'
		}
		if string(changed) != minted && b.redeems(t, string(changed)) {
			t.Errorf("with another byte at %d it redeems", i)
		}
	}
}
