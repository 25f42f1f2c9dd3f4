package e2e

import (
	"net/http"
	"strings"
	"testing"

	"bellhop/test/stack"
)

// A client that asks gets, through the real Envoy, an explanation of its own headers.
func TestAClientGetsAnExplanation(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{Policy: smallest + "explain: true\n"}, backends)
	request, err := http.NewRequestWithContext(
		limit(t), http.MethodPost, s.Endpoint(), strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"ping"}`),
	)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"X-Bellhop-Explain": "1", key: canary, "X-Mcp-Api-Kee": canary,
	} {
		request.Header.Set(name, value)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if got := response.Header.Get("X-Bellhop-Captured"); got != "x-mcp-api-key" {
		t.Errorf("captured: %q", got)
	}
	if got := response.Header.Get("X-Bellhop-Not-Listed"); !strings.Contains(got, "x-mcp-api-kee") {
		t.Errorf("not listed: %q", got)
	}
	for _, seen := range s.FanoutTap().Requests() {
		if seen.Header.Get("X-Bellhop-Explain") != "" {
			t.Error("the question reached the fan-out")
		}
	}
}
