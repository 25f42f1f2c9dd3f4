package extproc_test

import (
	"slices"
	"strings"
	"testing"

	"bellhop/processor/ticket"
)

const sealedPolicy = "version: 1\nforward: [x-mcp-api-key]\nticket: {mode: sealed}\n"

// Two replicas that share a key and nothing else: every first call at the other one has its header.
func TestASealedTicketNeedsNoStore(t *testing.T) {
	keys := ticket.RandomKeys()
	one := start(t, setup{policy: sealedPolicy, keys: keys, store: brokenStore{put: true}})
	other := start(t, setup{policy: sealedPolicy, keys: keys, store: brokenStore{put: true}})
	for _, who := range []string{"alice", "bob"} {
		_, minted := one.ingress(t, "x-mcp-api-key: "+who)
		if got := other.egress(t, "a", "x-bellhop-ticket: "+minted, "x-mcp-api-key: fan-out"); !slices.Equal(
			got,
			[]string{"x-mcp-api-key: " + who},
		) {
			t.Errorf("got %q", got)
		}
		if _, again := other.ingress(t, "x-mcp-api-key: "+who); again != minted {
			t.Error("the same headers have the same ticket on every replica")
		}
	}
	_, empty := one.ingress(t)
	if got := other.egress(t, "a", "x-bellhop-ticket: "+empty, "x-mcp-api-key: fan-out"); len(got) != 0 {
		t.Errorf("a client that sent nothing gets nothing: %q", got)
	}
}

func TestHeadersThatDoNotFitIntoASealedTicket(t *testing.T) {
	long := strings.Repeat("k", 8000)
	for carriers, want := range map[string]string{"header": "12288 bytes", "baggage": "8184 bytes"} {
		b := start(
			t,
			setup{
				policy: "version: 1\nforward: [x-mcp-api-key]\nlimits: {value_bytes: 16000}\nticket: {mode: " +
					"sealed, carriers: [" + carriers + "]}\n",
			},
		)
		got := b.ask(t, requestHeaders("x-mcp-api-key: "+long+long[:7000]), "bellhop-role", "ingress").GetImmediateResponse()
		if got.GetStatus().GetCode() != 431 || !strings.Contains(string(got.GetBody()), want) ||
			strings.Contains(string(got.GetBody()), "kkk") {
			t.Errorf("%s: got %d %s", carriers, got.GetStatus().GetCode(), got.GetBody())
		}
	}
	b := start(t, setup{policy: sealedPolicy})
	if _, minted := b.ingress(t, "x-mcp-api-key: "+long); minted == "" || len(minted) > ticket.MaxSealedInHeader {
		t.Errorf("%d bytes", len(minted))
	}
}

// Tickets that are under way when the policy changes its mind are redeemed.
func TestTicketsOfBothModesAreRedeemed(t *testing.T) {
	b := start(t, setup{policy: smallest})
	_, stored := b.ingress(t, "x-mcp-api-key: k")
	b.apply(t, sealedPolicy)
	_, sealed := b.ingress(t, "x-mcp-api-key: k")
	for _, text := range []string{smallest, sealedPolicy} {
		b.apply(t, text)
		for _, minted := range []string{stored, sealed} {
			if got := b.egress(t, "a", "x-bellhop-ticket: "+minted); !slices.Equal(got, []string{"x-mcp-api-key: k"}) {
				t.Errorf("got %q", got)
			}
		}
	}
}

// A new key makes new tickets; what older ones have made is good until they are taken away: stored, sealed, and
// sessions.
func TestKeysAreRotated(t *testing.T) {
	sealedSession := "version: 1\nforward: [{name: x-mcp-api-key, keep: session}]\nticket: {mode: sealed}\n"
	session := []string{"mcp-session-id: S", "authorization: user-1"}
	for _, text := range []string{keeping, sealedSession} {
		older := ticket.RandomKeys()
		b := start(t, setup{policy: text, keys: older})
		_, before := b.ingress(t, append(session, "x-mcp-api-key: alice")...)
		b.keys = append(ticket.RandomKeys(), older...)
		b.apply(t, text)
		if got := b.egress(t, "a", "x-bellhop-ticket: "+before); !slices.Equal(got, []string{"x-mcp-api-key: alice"}) {
			t.Errorf("a ticket from before: %q", got)
		}
		_, after := b.ingress(t, session...)
		if after == before {
			t.Error("the newest key makes tickets")
		}
		if got := b.egress(t, "a", "x-bellhop-ticket: "+after); !slices.Equal(got, []string{"x-mcp-api-key: alice"}) {
			t.Errorf("a session from before: %q", got)
		}
		if got := b.reaches(t, "mcp-session-id: S", "authorization: user-2"); len(got) != 0 {
			t.Errorf("another principal gets %q", got)
		}
	}
}

func TestSealedTicketsKeepNoSession(t *testing.T) {
	b := start(t, setup{policy: sealedPolicy, sessions: brokenSessions{}})
	if got := b.reaches(t, "mcp-session-id: S", "authorization: user-1", "x-mcp-api-key: k"); !slices.Equal(
		got,
		[]string{"x-mcp-api-key: k"},
	) {
		t.Errorf("got %q", got)
	}
	if log := b.log.String(); strings.Contains(log, "sessions cannot be") {
		t.Error("sessions were asked for")
	}
}
