package extproc_test

import (
	"testing"
	"time"
)

const graced = "ticket: {grace: 50ms}\n"

func (b *bench) gets(t *testing.T, minted string) bool {
	t.Helper()
	return len(b.egress(t, "a", "x-bellhop-ticket: "+minted)) > 0
}

// A session that has ended holds no ticket, whether or not rules keep anything for it.
func TestAnEndedSessionHoldsNoTicket(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, b *bench){
		"DELETE": func(t *testing.T, b *bench) {
			t.Helper()
			if !b.converse(t, []string{":method: DELETE", "mcp-session-id: S1", "x-mcp-api-key: old"}, ":status: 204") {
				t.Error("the response to a DELETE is not asked for")
			}
		},
		"404": func(t *testing.T, b *bench) {
			t.Helper()
			lines := []string{":method: POST", "mcp-session-id: S1", "x-mcp-api-key: old"}
			answer := b.ask(t, requestHeaders(lines...), "bellhop-role", "ingress")
			log := b.accessLog(t, "bellhop-role", "ingress")
			if err := log.Send(entry(answer.GetDynamicMetadata(), ":method: POST", 404, "via_upstream")); err != nil {
				t.Fatal(err)
			}
			_, _ = log.CloseAndRecv() // all is read when it ends
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, setup{policy: smallest + graced})
			_, old := b.ingress(t, ":method: POST", "mcp-session-id: S1", "x-mcp-api-key: old")
			b.ingress(t, ":method: POST", "mcp-session-id: S2", "x-mcp-api-key: old")
			end(t, b)
			b.ingress(t, ":method: POST", "mcp-session-id: S2", "x-mcp-api-key: new")
			time.Sleep(100 * time.Millisecond)
			if b.gets(t, old) {
				t.Error("a session that has ended keeps an old ticket alive")
			}
		})
	}
}

// A stranger who sends the same value in a session, and then another, ends nobody else's ticket: who has no session
// owns what it was given.
func TestASessionSupersedesNothingOfAnotherOwner(t *testing.T) {
	b := start(t, setup{policy: smallest + graced})
	_, own := b.ingress(t, ":method: POST", "mcp-method: tools/call", "x-mcp-api-key: same")
	b.ingress(t, ":method: POST", "mcp-session-id: stranger", "x-mcp-api-key: same")
	b.ingress(t, ":method: POST", "mcp-session-id: stranger", "x-mcp-api-key: other")
	time.Sleep(100 * time.Millisecond)
	if !b.gets(t, own) {
		t.Error("a long call of a client without a session lost its header")
	}
}

// A renewed access token makes its owner another principal. Once the fan-out has accepted it in the session, the old
// token's ticket ends; until then a stranger's request ends nothing.
func TestARenewedTokenEndsTheOldOne(t *testing.T) {
	b := start(t, setup{policy: "version: 1\nforward:\n  - {name: authorization, to: [a], hide: true}\n" +
		"  - {name: x-kept, keep: session}\nbackends: {a: {}}\n" + graced})
	request := func(token string) []string {
		return []string{":method: POST", "mcp-session-id: S1", "authorization: " + token, "x-kept: k"}
	}
	_, old := b.ingress(t, request("old")...)
	b.converse(t, request("stranger"), ":status: 401")
	time.Sleep(100 * time.Millisecond)
	if !b.gets(t, old) {
		t.Error("a request that the fan-out refused ended another's ticket")
	}
	if !b.converse(t, request("new"), ":status: 200") {
		t.Error("the response is not asked for")
	}
	time.Sleep(100 * time.Millisecond)
	if b.gets(t, old) {
		t.Error("the old token is still redeemed")
	}
	_, minted := b.ingress(t, request("old")...)
	if minted != old || !b.gets(t, old) {
		t.Error("who still sends it has it again")
	}
}

// Whose a session is, only the fan-out knows: a request that it refuses changes nothing of it.
func TestARefusedRequestSupersedesNothing(t *testing.T) {
	const owner, stranger = "x-mcp-api-key: owner", "x-mcp-api-key: stranger"
	for name, test := range map[string]struct {
		policy        string
		owner, others []string
	}{
		"a session that keeps nothing": {
			"version: 1\nforward: [x-mcp-api-key]\n",
			[]string{":method: POST", "mcp-session-id: S1", owner}, []string{":method: POST", "mcp-session-id: S1", stranger},
		},
		"a session that nobody has claimed": {
			"version: 1\nforward: [x-mcp-api-key, {name: x-kept, keep: session}]\n",
			[]string{":method: POST", "mcp-session-id: S1", "authorization: u1", owner},
			[]string{":method: POST", "mcp-session-id: S1", "authorization: u2", stranger},
		},
		"no principal": {
			"version: 1\nforward: [x-mcp-api-key, {name: x-kept, keep: session}]\n",
			[]string{":method: POST", "mcp-session-id: S1", "authorization: u1", owner},
			[]string{":method: POST", "mcp-session-id: S1", stranger},
		},
		"OPTIONS": {
			"version: 1\nforward: [x-mcp-api-key]\n",
			[]string{":method: POST", "mcp-session-id: S1", owner}, []string{":method: OPTIONS", "mcp-session-id: S1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := start(t, setup{policy: test.policy + graced})
			b.converse(t, test.owner, ":status: 200")
			_, minted := b.ingress(t, test.owner...)
			if b.converse(t, test.others, ":status: 401") == (name == "OPTIONS") {
				t.Error("whether the response is asked for")
			}
			time.Sleep(100 * time.Millisecond)
			if !b.gets(t, minted) {
				t.Error("a request that the fan-out refused ended the owner's ticket")
			}
		})
	}
}
