package e2e

import (
	"net/http"
	"sync/atomic"
	"testing"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
)

// A client sends its key when it opens the session and never again: the backends get it with every call, and those of
// another session or of another principal never.
func TestASessionKeepsTheKeyOfInitialize(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{Policy: "version: 1\nforward: [{name: x-mcp-api-key, keep: session}]\n"}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"alice", "bob"} {
		var sent atomic.Bool
		var principal atomic.Value
		principal.Store("Bearer " + who)
		client := connect(t, s, mcptest.ClientOptions{Era: mcptest.Legacy, NoStream: true, Header: func() http.Header {
			header := http.Header{"Authorization": {principal.Load().(string)}}
			if sent.CompareAndSwap(false, true) {
				header[key] = []string{who}
			}
			return header
		}})
		wantKey(t, client, "old_whoami", who)
		wantKey(t, client, "new_whoami", who)
		principal.Store("Bearer mallory") // has learnt the session's ID
		wantKey(t, client, "old_whoami")
		wantKey(t, client, "new_whoami")
		principal.Store("Bearer " + who)
		wantKey(t, client, "old_whoami", who)
	}
	wantClean(t, s, backends)
}
