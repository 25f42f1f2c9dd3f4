package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// A fan-out that passes on all that it gets, and adds what proxies add, gives backends none of what is stripped, on the
// real Envoy: its own lists have to allow the removal.
func TestAFanoutThatPassesEverythingOn(t *testing.T) {
	for name, policy := range map[string]string{
		"names":    "version: 1\nforward: [x-mcp-api-key]\nstrip: [cookie, x-internal-*, x-envoy-force-trace]\n",
		"families": "version: 1\nforward: [x-mcp-*]\nstrip: [cookie, x-internal-*, x-envoy-force-trace]\n",
	} {
		t.Run(name, func(t *testing.T) {
			var seen, reached http.Header
			backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				reached = r.Header.Clone()
			}))
			t.Cleanup(backend.Close)
			endpoint := around(t, policy, backend.URL+"/mcp", func(egress *url.URL) http.Handler {
				return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
					seen = r.In.Header.Clone()
					r.SetURL(egress)
					r.Out.Header = r.In.Header.Clone()
					for _, name := range []string{
						"forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port",
						"x-forwarded-client-cert", "x-forwarded-other", "x-real-ip", "x-envoy-external-address", "cookie",
						"x-internal-debug", "x-envoy-force-trace",
						"x_forwarded_for", "x-forwarded_for", "x_real_ip", "x_internal_debug", "x_mcp_api_key", "x-mcp-api_key",
					} {
						r.Out.Header.Set(name, "added")
					}
				}}
			})
			status, body := send(t, endpoint, http.Header{
				key: {"k"}, "Cookie": {"c"}, "X-Internal-Debug": {"d"}, "X-Other": {"o"}, "X_other": {"o"},
				"X_internal_debug": {"d"}, "X-Internal_debug": {"d"}, "X_mcp_api_key": {"k"}, "X-Mcp_api_key": {"k"},
			}, 0, called(100))
			if status != http.StatusOK {
				t.Fatalf("status %d: %s", status, body)
			}
			for name := range seen {
				lower := strings.ReplaceAll(strings.ToLower(name), "_", "-")
				if lower == "cookie" || lower == "x-mcp-api-key" || strings.HasPrefix(lower, "x-internal") {
					t.Errorf("the fan-out sees %s", name)
				}
			}
			for name := range reached {
				lower := strings.ReplaceAll(strings.ToLower(name), "_", "-")
				if lower == "x-mcp-api-key" && name != key {
					t.Errorf("the backend gets %s", name)
				}
				if strings.HasPrefix(lower, "x-forwarded") || strings.HasPrefix(lower, "x-envoy") || lower == "forwarded" ||
					lower == "x-real-ip" || lower == "cookie" || strings.HasPrefix(lower, "x-internal") {
					t.Errorf("the backend gets %s", name)
				}
			}
			if reached.Get(key) != "k" || reached.Get("X-Other") != "o" || reached.Get("X_other") != "o" {
				t.Errorf("the backend gets %v", reached)
			}
		})
	}
}
