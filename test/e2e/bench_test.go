package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// BenchmarkReadBody measures a request through Envoy, Bellhop, a fan-out that passes it on, and a backend that answers
// at once, by the size of the body: under a policy that needs no body, and under one that needs it.
func BenchmarkReadBody(b *testing.B) {
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer backend.Close()
	pass := func(egress *url.URL) http.Handler { return httputil.NewSingleHostReverseProxy(egress) }
	const rule = "version: 1\nforward: [{name: x-mcp-api-key, tools: [sea*]}]\n"
	endpoints := map[string]string{
		"plain": around(b, smallest, backend.URL+"/mcp", pass), "read": around(b, rule, backend.URL+"/mcp", pass),
	}
	for _, size := range []int{200, 4 << 10, 64 << 10} {
		body := []byte(
			fmt.Sprintf(
				`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"text":%q}}}`,
				strings.Repeat("x", size),
			),
		)
		for _, name := range []string{"plain", "read", "plain", "read"} { // twice, for the machine is noisy
			b.Run(fmt.Sprintf("%d-bytes/%s", size, name), func(b *testing.B) {
				for b.Loop() {
					call(b, endpoints[name], body)
				}
			})
		}
	}
}

func call(b *testing.B, endpoint string, body []byte) {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodPost, endpoint, bytes.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(key, "k")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		b.Fatal(response.Status)
	}
}
