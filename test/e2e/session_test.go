package e2e

import (
	"errors"
	"io"
	"net/http"
	"strings"
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

// vMCP answers 404 to a session that it does not know, and Envoy's access log reports it to Bellhop: what the session
// kept is not sent any more.
func TestASessionUnknownToTheFanoutKeepsNothing(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{Policy: "version: 1\nforward: [{name: x-mcp-api-key, keep: session}]\n"}, backends)
	const ended = `bellhop_sessions_ended_total{fanout=""} `
	withKey := ticketOf(t, s, "gone", "k")
	wait(t, "the session is forgotten", func() bool {
		metrics, err := s.Metrics(limit(t))
		return err == nil && strings.Contains(metrics, ended+"1")
	})
	if without := ticketOf(t, s, "gone"); without == withKey {
		t.Error("the session still keeps the key")
	}
	wantClean(t, s, backends)
}

// ticketOf sends a request of a session that the fan-out does not know, and returns the ticket that the fan-out got
// with it.
func ticketOf(t *testing.T, s *stack.Stack, session string, values ...string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(
		limit(t), http.MethodPost, s.Endpoint(), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`),
	)
	if err != nil {
		t.Fatal(err)
	}
	request.Header = http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"},
		"Mcp-Session-Id": {session}, "Authorization": {"Bearer alice"}, key: values,
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, response.Body) // a client that hangs up is what Envoy logs then, and not the 404
	if err = errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusNotFound {
		t.Fatalf("vMCP answers %s", response.Status)
	}
	all := s.FanoutTap().Requests()
	return all[len(all)-1].Header.Get("X-Bellhop-Ticket")
}
