package extproc_test

import (
	"slices"
	"testing"
)

// A stranger cannot claim a session that keeps nothing yet: what the fan-out has not accepted changes nothing for
// others.
func TestARefusedRequestClaimsNoSession(t *testing.T) {
	b := start(t, setup{policy: keeping})
	request := func(user, key string) []string {
		return []string{":method: POST", "mcp-session-id: S1", "authorization: " + user, "x-mcp-api-key: " + key}
	}
	if !b.converse(t, request("stranger", "s"), ":status: 401") {
		t.Error("the response is not asked for")
	}
	b.converse(t, request("owner", "o"), ":status: 200")
	later := request("owner", "")[:3]
	if got := b.reaches(t, later...); !slices.Contains(got, "x-mcp-api-key: o") {
		t.Errorf("the owner's later requests get %q", got)
	}
	if b.converse(t, request("owner", "o"), ":status: 200") {
		t.Error("once it is claimed, no response is asked for")
	}
	b.metric(t, "bellhop_session_not_accepted_total", `bellhop_session_not_accepted_total{fanout=""} 1`)
}
