package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"bellhop/test/stack"
)

// asPage sends the first request of a session with the given Host and Origin.
func asPage(t *testing.T, url, host, origin string) (int, string) {
	t.Helper()
	body := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},` +
		`"clientInfo":{"name":"test","version":"1"}}}`
	request, err := http.NewRequestWithContext(limit(t), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	request.Header = http.Header{
		"Content-Type": {"application/json"}, "Accept": {"application/json, text/event-stream"}, "Origin": {origin},
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var got bytes.Buffer
	_, _ = got.ReadFrom(response.Body)
	return response.StatusCode, got.String()
}

// A web page whose name leads to a loopback port is let in neither by vMCP nor through Envoy; one of loopback by both.
// (The check dns-rebinding-protection of the MCP conformance suite.)
func TestDNSRebindingIsRefusedAsByTheFanout(t *testing.T) {
	ownListeners(t)
	s := start(t, stack.Options{Policy: smallest}, both(t))
	before := len(s.FanoutTap().Requests())
	for _, url := range []string{s.VMCP().Endpoint(), s.Endpoint()} {
		if status, body := asPage(t, url, "evil.example", "http://evil.example"); status != http.StatusForbidden {
			t.Errorf("%s: %d %s, want 403", url, status, body)
		}
	}
	if got := len(s.FanoutTap().Requests()); got != before {
		t.Error("a request with a foreign Host reached the fan-out")
	}
	for _, host := range []string{"localhost:8080", "127.0.0.1", "[::1]:9"} {
		for _, url := range []string{s.VMCP().Endpoint(), s.Endpoint()} {
			if status, body := asPage(t, url, host, "http://"+host); status != http.StatusOK {
				t.Errorf("%s as %s: %d %s, want 200", url, host, status, body)
			}
		}
	}
}

// Invariant 11: only the fan-out has business at the egress. A page that reaches its port gets no discovery identity.
func TestAWebPageDoesNotReachABackend(t *testing.T) {
	ownListeners(t)
	backends := strictBackends(t)
	s := start(t, stack.Options{
		Policy: strictPolicyWithIdentity, Files: map[string]string{"discovery": "discovery\n"},
	}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	for _, headers := range []http.Header{
		{"Origin": {"http://evil.example"}}, {"Origin": {"http://localhost"}}, {"Sec-Fetch-Site": {"cross-site"}},
		{"Host": {"evil.example"}},
	} {
		for _, path := range []string{"/strict/mcp", "/strict/admin/export", "/strict/../strict/mcp"} {
			request, err := http.NewRequestWithContext(limit(t), http.MethodGet, s.EgressURL()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header, request.Host = headers, headers.Get("Host")
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			var body struct {
				Error struct {
					Data struct{ Reason string } `json:"data"`
				} `json:"error"`
			}
			err = json.NewDecoder(response.Body).Decode(&body)
			_ = response.Body.Close()
			if response.StatusCode < 400 || response.StatusCode > 499 || err != nil || body.Error.Data.Reason == "" {
				t.Errorf("%s with %v: %d, reason %q (%v)", path, headers, response.StatusCode, body.Error.Data.Reason, err)
			}
		}
	}
	for _, request := range backends["strict"].Requests() {
		if request.Method == http.MethodGet && request.Header.Get("Mcp-Session-Id") == "" && request.RPCMethod == "" {
			t.Errorf("the backend got a page's request with %q", request.Header.Get(key))
		}
	}
}
