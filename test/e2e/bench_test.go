package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// BenchmarkReadMCP measures a request through Envoy and Bellhop to a fan-out that answers at once, with Envoy's mcp
// filter (--read-mcp) and without, by the size of the body: what it costs to know the method and the tool.
func BenchmarkReadMCP(b *testing.B) {
	answer := func(*url.URL) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	}
	endpoints := map[string]string{
		"plain":    around(b, smallest, "http://127.0.0.1:1/mcp", answer),
		"read-mcp": around(b, smallest, "http://127.0.0.1:1/mcp", answer, "--read-mcp"),
	}
	for _, size := range []int{200, 4 << 10, 64 << 10} {
		body := []byte(
			fmt.Sprintf(
				`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"text":%q}}}`,
				strings.Repeat("x", size),
			),
		)
		for _, name := range []string{"plain", "read-mcp", "plain", "read-mcp"} { // twice, for the machine is noisy
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
