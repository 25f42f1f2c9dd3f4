package mcptest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bellhop/test/mcptest"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	legacyVersion = "2025-11-25"
	modernVersion = "2026-07-28"
)

// backend starts a backend for the length of a test.
func backend(t *testing.T, options mcptest.BackendOptions) *mcptest.Backend {
	t.Helper()
	b, err := mcptest.StartBackend(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, b) })
	return b
}

// connect opens a session for the length of a test.
func connect(t *testing.T, options mcptest.ClientOptions) *mcptest.Client {
	t.Helper()
	c, err := mcptest.Connect(limited(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // some tests have broken it by then
	return c
}

func tap(t *testing.T, target string) *mcptest.Tap {
	t.Helper()
	p, err := mcptest.StartTap(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closed(t, p) })
	return p
}

func closed(t *testing.T, c io.Closer) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// limited is a context that ends a hanging call long before the test times out.
func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// key is a header that a test may change at any time.
type key struct {
	mu    sync.Mutex
	lines http.Header
}

func (k *key) set(values ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lines = http.Header{"X-Mcp-Api-Key": values}
}

func (k *key) header() http.Header {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lines.Clone()
}

// rpcMethods lists requests as "POST tools/call", "GET" and so on.
func rpcMethods(requests []mcptest.Recorded) []string {
	var names []string
	for _, request := range requests {
		names = append(names, strings.TrimSpace(request.Method+" "+request.RPCMethod))
	}
	return names
}

func TestEveryEraSpeaksToEvery(t *testing.T) {
	modernStart := []string{"POST server/discover"}
	legacyStart := []string{"POST initialize", "GET", "POST notifications/initialized"}
	cases := []struct {
		client, backend mcptest.Era
		protocol        string
		requests        []string // until the first tools/call
	}{
		{mcptest.Legacy, mcptest.Legacy, legacyVersion, legacyStart},
		{mcptest.Legacy, mcptest.Modern, legacyVersion, legacyStart},
		{mcptest.Modern, mcptest.Legacy, legacyVersion, slices.Concat(modernStart, legacyStart)},
		{mcptest.Modern, mcptest.Modern, modernVersion, modernStart},
	}
	for _, c := range cases {
		t.Run(c.client.String()+" client, "+c.backend.String()+" backend", func(t *testing.T) {
			var user key
			user.set("one", "two")
			b := backend(t, mcptest.BackendOptions{Name: "b", Era: c.backend})
			client := connect(t, mcptest.ClientOptions{URL: b.URL(), Era: c.client, Header: user.header})

			if got := client.Protocol(); got != c.protocol {
				t.Errorf("protocol %s, want %s", got, c.protocol)
			}
			header, err := client.WhoAmI(limited(t), mcptest.WhoAmI)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"one", "two"}, header.Values("x-mcp-api-key")); diff != "" {
				t.Errorf("the key at the backend (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(append(c.requests, "POST tools/call"), rpcMethods(b.Requests())); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeyChangesInMidSession(t *testing.T) {
	for _, era := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
		t.Run(era.String(), func(t *testing.T) {
			var user key
			b := backend(t, mcptest.BackendOptions{Era: era})
			client := connect(t, mcptest.ClientOptions{URL: b.URL(), Era: era, Header: user.header})
			for _, values := range [][]string{{"alice"}, {"bob", "bob2"}, nil, {"alice"}} {
				user.set(values...)
				header, err := client.WhoAmI(limited(t), mcptest.WhoAmI)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(values, header.Values("x-mcp-api-key")); diff != "" {
					t.Errorf("the key at the backend (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestRecorded(t *testing.T) {
	b := backend(t, mcptest.BackendOptions{Era: mcptest.Modern})
	client := connect(t, mcptest.ClientOptions{
		URL: b.URL(), Era: mcptest.Modern, Meta: map[string]any{"baggage": "a=1", "other": "x"},
	})
	b.Reset()
	result, err := client.CallWithMeta(
		limited(t), mcptest.Echo, map[string]any{"text": "hello"}, map[string]any{"baggage": "a=2"},
	)
	if err != nil {
		t.Fatal(err)
	}
	if got := mcptest.Text(result); got != "hello" {
		t.Errorf("echo says %q, want hello", got)
	}
	requests := b.Requests()
	if len(requests) != 1 {
		t.Fatalf("%d requests recorded, want 1", len(requests))
	}
	got := requests[0]
	if got.Method != http.MethodPost || got.Path != "/mcp" || got.RPCMethod != "tools/call" ||
		got.ToolName != mcptest.Echo ||
		"http://"+got.Host+got.Path != b.URL() || got.Host != b.Address() ||
		got.Time.IsZero() {
		t.Errorf("recorded %+v", got)
	}
	for _, want := range []string{`"baggage":"a=2"`, `"other":"x"`, `"text":"hello"`} {
		if !strings.Contains(string(got.Body), want) {
			t.Errorf("body %s, want %s in it", got.Body, want)
		}
	}
}

func TestLongBodiesPassWholeAndAreKeptInPart(t *testing.T) {
	b := backend(t, mcptest.BackendOptions{})
	client := connect(t, mcptest.ClientOptions{URL: b.URL()})
	b.Reset()
	long := strings.Repeat("x", 2<<20)
	result, err := client.Call(limited(t), mcptest.Echo, map[string]any{"text": long})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(mcptest.Text(result)); got != len(long) {
		t.Errorf("%d bytes came back, want %d", got, len(long))
	}
	if got := len(b.Requests()[0].Body); got != 1<<20 {
		t.Errorf("%d bytes of the body kept, want 1 MiB", got)
	}
}

func TestStrictBackend(t *testing.T) {
	for _, era := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
		t.Run(era.String(), func(t *testing.T) {
			b := backend(t, mcptest.BackendOptions{
				Name: "strict", Era: era, RequireHeader: "x-mcp-api-key",
				Allow: func(value string) bool { return value == "alice-key" },
			})
			for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete, http.MethodOptions} {
				if status, body := plain(t, method, b.URL()); status != http.StatusUnauthorized ||
					!strings.Contains(body, "x-mcp-api-key") {
					t.Errorf("%s without a key: %d %q, want 401 with the header's name", method, status, body)
				}
			}

			var user key
			user.set("mallory")
			_, err := mcptest.Connect(limited(t), mcptest.ClientOptions{URL: b.URL(), Era: era, Header: user.header})
			if err == nil || !strings.Contains(err.Error(), "Unauthorized") {
				t.Errorf("connect with a wrong key: %v, want Unauthorized", err)
			}

			user.set("alice-key")
			client := connect(t, mcptest.ClientOptions{URL: b.URL(), Era: era, Header: user.header})
			if _, err := client.WhoAmI(limited(t), mcptest.WhoAmI); err != nil {
				t.Errorf("call with the key: %v", err)
			}

			// The SDK gives up a session at the first 401, even when the key is back.
			user.set()
			if _, err := client.WhoAmI(limited(t), mcptest.WhoAmI); err == nil ||
				!strings.Contains(err.Error(), "Unauthorized") {
				t.Errorf("call without the key: %v, want Unauthorized", err)
			}
			user.set("alice-key")
			if _, err := client.WhoAmI(limited(t), mcptest.WhoAmI); !errors.Is(err, mcp.ErrConnectionClosed) {
				t.Errorf("call after a 401: %v, want a closed connection", err)
			}
		})
	}
}

// plain sends a request without MCP.
func plain(t *testing.T, method, url string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(limited(t), method, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

func TestPrivateTool(t *testing.T) {
	for _, era := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
		t.Run(era.String(), func(t *testing.T) {
			b := backend(t, mcptest.BackendOptions{Era: era, PrivateTool: func(header http.Header) string {
				user, isKey := strings.CutSuffix(header.Get("x-mcp-api-key"), "-key")
				if !isKey {
					return ""
				}
				return user + "_only"
			}})
			common := []string{mcptest.Echo, mcptest.Slow, mcptest.WhoAmI}
			for keyValue, want := range map[string][]string{
				"alice-key": append([]string{"alice_only"}, common...),
				"bob-key":   append([]string{"bob_only"}, common...),
				"":          common,
			} {
				var user key
				user.set(keyValue)
				client := connect(t, mcptest.ClientOptions{URL: b.URL(), Era: era, Header: user.header})
				got, err := client.Tools(limited(t))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("tools of %q (-want +got):\n%s", keyValue, diff)
				}
			}
		})
	}
}

// An HTTP error with a JSON-RPC error in its body is how Bellhop refuses a request.
// The SDK shows the error to its caller and keeps the session only when the
// error has an ID, whichever. That of the request is not needed.
func TestJSONRPCErrorInA4xx(t *testing.T) {
	cases := map[string]struct {
		body  string
		shown bool
	}{
		"ID null":         {`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no x-mcp-api-key"}}`, false},
		"no ID":           {`{"jsonrpc":"2.0","error":{"code":-32600,"message":"no x-mcp-api-key"}}`, false},
		"ID empty string": {`{"jsonrpc":"2.0","id":"","error":{"code":-32600,"message":"no x-mcp-api-key"}}`, true},
		"ID of nothing":   {`{"jsonrpc":"2.0","id":"bellhop","error":{"code":-32600,"message":"no x-mcp-api-key"}}`, true},
		"plain text":      {`no x-mcp-api-key`, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var refuse atomic.Bool
			b := backend(t, mcptest.BackendOptions{Era: mcptest.Modern})
			target := &url.URL{Scheme: "http", Host: b.Address()}
			proxy := httputil.NewSingleHostReverseProxy(target)
			door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if refuse.Load() {
					http.Error(w, c.body, http.StatusBadRequest)
					return
				}
				proxy.ServeHTTP(w, r)
			}))
			defer door.Close()

			client := connect(t, mcptest.ClientOptions{URL: door.URL + "/mcp", Era: mcptest.Modern})
			refuse.Store(true)
			_, err := client.Call(limited(t), mcptest.Echo, map[string]any{"text": "hi"})
			var wire *jsonrpc.Error
			if shown := errors.As(err, &wire) && strings.Contains(wire.Message, "x-mcp-api-key"); shown != c.shown {
				t.Errorf("refused call: %v; shows the error: %t, want %t", err, shown, c.shown)
			}
			refuse.Store(false)
			_, err = client.Call(limited(t), mcptest.Echo, map[string]any{"text": "hi"})
			if alive := err == nil; alive != c.shown {
				t.Errorf("the call after it: %v; session alive: %t, want %t", err, alive, c.shown)
			}
		})
	}
}

func TestProgressThroughATap(t *testing.T) {
	for _, era := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
		t.Run(era.String(), func(t *testing.T) {
			t.Parallel()
			b := backend(t, mcptest.BackendOptions{Era: era})
			arrived := make(chan time.Time, 10)
			client := connect(t, mcptest.ClientOptions{
				URL: tap(t, b.URL()).URL() + "/mcp", Era: era,
				OnProgress: func(*mcp.ProgressNotificationParams) { arrived <- time.Now() },
			})
			if _, err := client.Call(limited(t), mcptest.Slow, map[string]any{"seconds": 2}); err != nil {
				t.Fatal(err)
			}
			first, second := <-arrived, <-arrived
			if gap := second.Sub(first); gap < 500*time.Millisecond {
				t.Errorf("two notifications within %s: the stream was held back", gap)
			}
		})
	}
}

func TestTapChangesNothing(t *testing.T) {
	for _, era := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
		t.Run(era.String(), func(t *testing.T) {
			b := backend(t, mcptest.BackendOptions{Era: era})
			proxy := tap(t, b.URL())
			client := connect(t, mcptest.ClientOptions{URL: proxy.URL() + "/mcp?x=1;y", Era: era, Header: func() http.Header {
				return http.Header{
					"X-Acme": {"b", "a", "b"}, "X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1"},
					"Baggage": {"a=1"}, "X-Empty": {""},
				}
			}})
			if _, err := client.WhoAmI(limited(t), mcptest.WhoAmI); err != nil {
				t.Fatal(err)
			}
			if err := client.Close(); err != nil {
				t.Fatal(err)
			}
			seen, came := proxy.Requests(), b.Requests()
			if len(seen) != len(came) || len(seen) == 0 {
				t.Fatalf("the tap saw %q, the backend %q", rpcMethods(seen), rpcMethods(came))
			}
			for i := range seen {
				if came[i].Host != b.Address() {
					t.Errorf("host %q at the backend, want its own, %q", came[i].Host, b.Address())
				}
				seen[i].Host, came[i].Host = "", ""
				seen[i].Time, came[i].Time = time.Time{}, time.Time{}
			}
			if diff := cmp.Diff(seen, came); diff != "" {
				t.Errorf("the tap changed something (-before +after):\n%s", diff)
			}
		})
	}
}

func TestHTTPSBackend(t *testing.T) {
	// httptest has a certificate for 127.0.0.1 at hand.
	lender := httptest.NewTLSServer(nil)
	defer lender.Close()
	trusted := x509.NewCertPool()
	trusted.AddCert(lender.Certificate())

	b := backend(t, mcptest.BackendOptions{TLS: &tls.Config{Certificates: lender.TLS.Certificates}})
	client := connect(t, mcptest.ClientOptions{URL: b.URL(), TLS: &tls.Config{RootCAs: trusted}})
	if _, err := client.WhoAmI(limited(t), mcptest.WhoAmI); err != nil {
		t.Error(err)
	}
}

func TestMistakesAreReported(t *testing.T) {
	b := backend(t, mcptest.BackendOptions{})
	if _, err := mcptest.StartBackend(mcptest.BackendOptions{Name: "second", Address: b.Address()}); err == nil ||
		!strings.Contains(err.Error(), "second") {
		t.Errorf("a taken port: %v, want an error that names the backend", err)
	}
	if _, err := mcptest.StartTap("localhost"); err == nil || !strings.Contains(err.Error(), "localhost") {
		t.Errorf("a target that is none: %v, want an error that names it", err)
	}
	client := connect(t, mcptest.ClientOptions{URL: b.URL()})
	if _, err := client.WhoAmI(limited(t), mcptest.Slow); err == nil {
		t.Error("whoami on another tool: no error")
	}
}
