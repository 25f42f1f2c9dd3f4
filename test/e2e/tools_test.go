package e2e

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
)

// A rule for certain tools gives its header to calls of these alone, at backends of both eras: an old one does not say
// the tool in a header, so Bellhop reads it from the body.
func TestARuleForToolsAppliesToTheirCallsOnly(t *testing.T) {
	backends := both(t)
	s := start(
		t, stack.Options{Policy: "version: 1\nforward:\n  - {name: x-mcp-api-key, tools: [who*]}\n  - x-tenant-id\n"},
		backends,
	)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	for _, era := range eras {
		client := connect(t, s, mcptest.ClientOptions{Era: era, Header: func() http.Header {
			return http.Header{key: {"k"}, "X-Tenant-Id": {"t"}}
		}})
		for _, backend := range []string{"old", "new"} {
			wantKey(t, client, backend+"_whoami", "k")
			if _, err := client.Call(limit(t), backend+"_echo", map[string]any{"text": "x"}); err != nil {
				t.Error(err)
			}
		}
	}
	for name, b := range backends {
		for _, request := range b.Requests() {
			want := ""
			if request.RPCMethod == "tools/call" && request.ToolName == mcptest.WhoAmI {
				want = "k"
			}
			if got := request.Header.Get(key); got != want {
				t.Errorf("backend %s: %s %s got %q, want %q", name, request.RPCMethod, request.ToolName, got, want)
			}
		}
	}
	wantClean(t, s, backends)
}

// An error has the request's own JSON-RPC id.
func TestAMissingRequiredHeaderIsRefused(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{
		Policy: "version: 1\nforward: [{name: x-mcp-api-key, required: true, to: [old]}]\nbackends: {old: " +
			"{}, new: {}}\n",
		HealthCheckInterval: time.Second,
	}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := mcptest.Connect(limit(t), mcptest.ClientOptions{URL: s.Endpoint(), Era: mcptest.Legacy}); err == nil {
		t.Error("a client without the header was let in")
	}
	wantKey(t, connect(t, s, mcptest.ClientOptions{Era: mcptest.Legacy, Header: sends("k")}), "old_whoami", "k")
	body, status := post(t, s.Endpoint(), `{"jsonrpc":"2.0","id":"mine-7","method":"tools/list"}`)
	if status != http.StatusBadRequest || body["id"] != "mine-7" {
		t.Errorf("got %d %v", status, body)
	}
}

// post sends one JSON-RPC message by hand.
func post(t *testing.T, url, message string) (body map[string]any, status int) {
	t.Helper()
	request, err := http.NewRequestWithContext(limit(t), http.MethodPost, url, strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if err := json.NewDecoder(response.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return body, response.StatusCode
}
