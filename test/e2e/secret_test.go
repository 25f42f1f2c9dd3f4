package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
)

const canary = "canary-0b5e77"

// Invariants 4 and 6: a value is seen by its backend alone. It appears nowhere in Bellhop's log (at debug), metrics
// and errors, nor in anything that the fan-out received or logged.
func TestAValueIsSeenByItsBackendAlone(t *testing.T) {
	backends := map[string]*mcptest.Backend{
		"strict": backend(t, mcptest.BackendOptions{RequireHeader: key}),
		"open":   backend(t, mcptest.BackendOptions{Era: mcptest.Modern}),
	}
	s := start(t, stack.Options{
		Policy: `
version: 1
forward: [{name: x-mcp-api-key, to: [strict]}, x-tenant-id]
backends: {strict: {discovery: [{name: x-mcp-api-key, file: discovery}]}, open: {}}
limits: {headers: 4, value_bytes: 64}
`,
		Files: map[string]string{"discovery": canary + "-discovery\n"},
	}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	var now atomic.Value
	now.Store([]string{canary})
	var errs strings.Builder
	for _, era := range eras {
		client := connect(t, s, mcptest.ClientOptions{Era: era, Header: func() http.Header {
			return http.Header{key: now.Load().([]string), "X-Tenant-Id": {canary + "-tenant"}}
		}})
		for _, values := range [][]string{{canary}, {strings.Repeat(canary, 10)}, {canary, canary, canary, canary}, {},
			{canary}} {
			now.Store(values)
			for _, tool := range []string{"strict_echo", "open_echo"} {
				_, err := client.Call(limit(t), tool, map[string]any{"text": "x"})
				fmt.Fprintln(&errs, err)
			}
		}
	}
	metrics, err := s.Metrics(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	for place, text := range map[string]string{
		"Bellhop's log": s.BellhopLog(), "the metrics": metrics, "the errors": errs.String(), "vMCP's log": s.VMCPLog(),
		"Envoy's log": s.EnvoyLog(),
	} {
		if strings.Contains(text, canary) {
			t.Errorf("the value is in %s", place)
		}
	}
	if !strings.Contains(errs.String(), "x-mcp-api-key is longer than the 64 bytes allowed") ||
		!strings.Contains(metrics, `outcome="rejected"`) {
		t.Errorf("no request was rejected, so the errors prove nothing:\n%s", errs.String())
	}
	wantFanoutWithout(t, s, canary)
	wantCanaryOnlyWhereItMayBe(t, backends)
}

func wantFanoutWithout(t *testing.T, s *stack.Stack, secret string) {
	t.Helper()
	for _, request := range s.FanoutTap().Requests() {
		if strings.Contains(fmt.Sprint(request.Header)+string(request.Body), secret) {
			t.Errorf("the fan-out got the value with %s %s", request.Method, request.RPCMethod)
		}
	}
}

func wantCanaryOnlyWhereItMayBe(t *testing.T, backends map[string]*mcptest.Backend) {
	t.Helper()
	seen := 0
	for _, request := range backends["open"].Requests() {
		if request.Header.Get(key) != "" {
			t.Errorf("the open backend got the strict one's key with %s", request.RPCMethod)
		}
		if request.Header.Get("X-Tenant-Id") == canary+"-tenant" {
			seen++
		}
	}
	if seen == 0 {
		t.Error("the open backend never got what it may have")
	}
}

// A request that breaks a limit is refused with an error that the client's user can read, and the session lives on.
func TestARefusedHeaderLosesNothingOfTheSession(t *testing.T) {
	backends := both(t)
	s := start(t, stack.Options{Policy: smallest + "limits: {value_bytes: 64, headers: 2}\n"}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	for _, era := range eras {
		var now atomic.Value
		now.Store([]string{"fine"})
		client := connect(
			t, s,
			mcptest.ClientOptions{Era: era, Header: func() http.Header { return http.Header{key: now.Load().([]string)} }},
		)
		for want, values := range map[string][]string{
			"header x-mcp-api-key is longer than the 64 bytes allowed": {strings.Repeat("k", 65)},
			"header x-mcp-api-key exceeds the 2 header lines allowed":  {"a", "b", "c"},
		} {
			wantKey(t, client, "old_whoami", "fine")
			before := len(backends["old"].Requests()) + len(s.FanoutTap().Requests())
			now.Store(values)
			if _, err := client.Call(limit(t), "old_whoami", nil); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s client: got %v, want %q", era, err, want)
			}
			if after := len(backends["old"].Requests()) + len(s.FanoutTap().Requests()); after != before {
				t.Errorf("%d requests were forwarded", after-before)
			}
			now.Store([]string{"fine"})
		}
		wantKey(t, client, "old_whoami", "fine")
	}
}
