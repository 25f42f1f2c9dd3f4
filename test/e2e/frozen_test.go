package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bellhop/test/envoytest"
	"bellhop/test/mcptest"
	"bellhop/test/process"
)

// freezer is a fan-out that pools its connections: the first ticket of a session goes on all of its calls.
type freezer struct {
	mu     sync.Mutex
	first  map[string]string // session → ticket
	frozen http.Handler
}

func (f *freezer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if session := r.Header.Get("Mcp-Session-Id"); session != "" {
		f.mu.Lock()
		if _, known := f.first[session]; !known {
			f.first[session] = r.Header.Get("X-Bellhop-Ticket")
		}
		r.Header.Set("X-Bellhop-Ticket", f.first[session])
		f.mu.Unlock()
	}
	f.frozen.ServeHTTP(w, r)
}

// A fan-out that freezes its first carrier would go on sending the key that a client has replaced. Once the grace is
// over, that key reaches no backend any more.
func TestAFrozenTicketIsInvalidOnceSuperseded(t *testing.T) {
	b := backend(t, mcptest.BackendOptions{Name: "a"})
	endpoint := around(
		t,
		"version: 1\nforward: [x-mcp-api-key]\nticket: {grace: 300ms}\n",
		b.URL(),
		func(egress *url.URL) http.Handler {
			return &freezer{first: map[string]string{}, frozen: &httputil.ReverseProxy{
				FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(egress) },
			}}
		},
	)
	var now atomic.Value
	now.Store([]string{"old"})
	client, err := mcptest.Connect(
		limit(t),
		mcptest.ClientOptions{URL: endpoint, NoStream: true, Header: func() http.Header {
			return http.Header{key: now.Load().([]string)}
		}},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	wantKey(t, client, mcptest.WhoAmI, "old")
	now.Store([]string{"new"})
	if _, err := client.WhoAmI(limit(t), mcptest.WhoAmI); err != nil { // within the grace: either is right
		t.Fatal(err)
	}
	time.Sleep(600 * time.Millisecond)
	wantKey(t, client, mcptest.WhoAmI)
	now.Store([]string{"old"})
	wantKey(t, client, mcptest.WhoAmI, "old")
}

// around runs Bellhop and Envoy around a fan-out of the test's own with one backend, and returns the clients' endpoint.
func around(
	t testing.TB,
	text, backend string,
	handler func(egress *url.URL) http.Handler,
) string {
	t.Helper()
	ports, err := process.FreePorts(4)
	if err != nil {
		t.Fatal(err)
	}
	address := func(i int) string { return "127.0.0.1:" + strconv.Itoa(ports[i]) }
	egress := &url.URL{Scheme: "http", Host: address(1), Path: "/a"}
	fanout := httptest.NewServer(handler(egress))
	t.Cleanup(fanout.Close)
	dir := t.TempDir()
	policyFile, config := filepath.Join(dir, "p.yaml"), filepath.Join(dir, "e.yaml")
	socket := "unix://" + filepath.Join(dir, "b.sock")
	if err := os.WriteFile(policyFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	yaml, err := exec.CommandContext(t.Context(), found.bellhop, "envoy", "bootstrap", "--policy", policyFile,
		"--bellhop", socket, "--ingress", address(0), "--egress", address(1), "--envoy-admin", address(2),
		"--fanout", fanout.URL, "--backend", "a="+backend).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, yaml, 0o600); err != nil {
		t.Fatal(err)
	}
	bellhop, err := process.Start(process.Options{Name: "Bellhop", Path: found.bellhop, Args: []string{
		"serve", "--policy", policyFile, "--listen", socket, "--admin", address(3), "--drain-delay", "0s",
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bellhop.Kill(); <-bellhop.Done() })
	if err := process.WaitHTTP(limit(t), bellhop, "http://"+address(3)+"/readyz"); err != nil {
		t.Fatal(err)
	}
	envoy, err := envoytest.Start(limit(t), envoytest.Options{Path: found.envoy, Config: config, Admin: address(2)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { envoy.Kill(); <-envoy.Done() })
	return "http://" + address(0) + "/mcp"
}
