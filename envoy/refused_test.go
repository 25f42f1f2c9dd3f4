package envoy_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bellhop/envoy"
	"bellhop/test/envoytest"
)

// redirecting is an Envoy in front of a server, for what is beside the Location of its answers.
func redirecting(t *testing.T, server *httptest.Server) (*envoytest.Envoy, envoy.BootstrapOptions) {
	t.Helper()
	_, address := serve(t, "unix")
	return startEnvoy(t, load(t, openPolicy), envoy.BootstrapOptions{
		Fanout: server.URL, Backends: []string{"a=" + server.URL + "/mcp"},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
	})
}

// The operator reads in Envoy's log what to write, without what a URL can hold of secrets, and counts it.
func TestARefusedRedirectIsLoggedAndCounted(t *testing.T) {
	server := redirector(t)
	running, options := redirecting(t, server)
	for location, want := range map[string]string{
		"https://other.example/mcp?token=secret#secret": "backend a answers 307 with a Location that leads to another " +
			"server: https://other.example:443/mcp; if it is meant, write --backend a=https://other.example:443/mcp",
		"/other?token=secret":                          "write --backend a=" + server.URL + "/other",
		"https://user:secret@other.example/mcp":        "no URL that all programs read alike: https://*@other.example/mcp",
		"/mcp/\u00e9\u2028" + strings.Repeat("x", 400): "no URL that all programs read alike: /mcp/?????xxx",
	} {
		answered(t, http.MethodGet, "http://"+options.Egress+"/a/mcp", "x-location", location)
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(running.Output(), want); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the log has no %q:\n%s", location, want, running.Output())
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	for line := range strings.Lines(running.Output()) {
		if strings.Contains(line, "secret") || len(line) > 500 {
			t.Errorf("the log shows too much: %s", line)
		}
	}
	answered(t, http.MethodGet, "http://"+options.Egress+"/a/mcp", "x-location", "/mcp/")
	answered(t, http.MethodGet, "http://"+options.Ingress+"/mcp", "x-location", "//evil.example")
	stats, err := running.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint64{
		"http.egress.lua.bellhop.redirect.refused": 4, "http.egress.lua.bellhop.redirect.translated": 1,
		"http.ingress.lua.bellhop.redirect.refused": 1, "http.egress.lua.bellhop.redirect.errors": 0,
		"http.ingress.lua.bellhop.redirect.errors": 0,
	} {
		if stats[name] != want {
			t.Errorf("%s is %d, want %d", name, stats[name], want)
		}
	}
}

// Whatever the rest of the answer, a Location that leads elsewhere does not come through.
func TestARedirectInAnyAnswer(t *testing.T) {
	body := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Location"] = r.Header["X-Location"]
		for _, name := range []string{"Content-Location", "Refresh", "Alt-Svc", "Content-Encoding", "Content-Type"} {
			if values := r.Header.Values("X-" + name); len(values) > 0 {
				w.Header()[name] = values
			}
		}
		w.WriteHeader(statusOf(r))
		_, _ = w.Write([]byte(body))
		if r.Header.Get("X-Endless") != "" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	t.Cleanup(server.Close)
	_, options := redirecting(t, server)
	url := "http://" + options.Egress + "/a/mcp"
	t.Run("without a body", func(t *testing.T) {
		body = ""
		wantRefusedRedirect(t, answered(t, http.MethodPost, url, "X-Location", "/b/mcp"))
	})
	t.Run("HEAD", func(t *testing.T) {
		got := answered(t, http.MethodHead, url, "X-Location", "/b/mcp")
		if got.status != http.StatusBadGateway || got.header.Get("Location") != "" || got.body != "" {
			t.Errorf("%d %v %q", got.status, got.header, got.body)
		}
	})
	t.Run("with an encoded body", func(t *testing.T) {
		body = "\x1f\x8b not really"
		got := answered(t, http.MethodPost, url, "X-Location", "/b/mcp", "X-Content-Encoding", "gzip")
		wantRefusedRedirect(t, got)
		if got.header.Get("Content-Encoding") != "" {
			t.Error("the error is said to be encoded")
		}
	})
	t.Run("with a body that is too large", func(t *testing.T) {
		body = strings.Repeat("x", 4<<20)
		got := answered(t, http.MethodPost, url, "X-Location", "/b/mcp")
		if got.status < 500 || got.header.Get("Location") != "" {
			t.Errorf("%d %v", got.status, got.header)
		}
		body = ""
	})
	t.Run("an event stream goes on without it", func(t *testing.T) {
		body = "data: 1\n\n"
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header = http.Header{
			"X-Answer": {"200"}, "X-Location": {"/b/mcp"}, "X-Endless": {"1"}, "X-Content-Type": {"text/event-stream"},
		}
		began := time.Now()
		response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		first := make([]byte, len(body))
		if _, err := response.Body.Read(first); err != nil || string(first) != body || time.Since(began) > 5*time.Second {
			t.Errorf("%q after %v, %v", first, time.Since(began), err)
		}
		if response.StatusCode != http.StatusOK || response.Header.Get("Location") != "" {
			t.Errorf("%d with %v", response.StatusCode, response.Header)
		}
	})
	t.Run("more than one", func(t *testing.T) {
		for _, locations := range [][]string{
			{"http://evil.example/", "/mcp"}, {"//evil.example/", "/mcp"}, {"/b/mcp", "/mcp"}, {"/mcp", "http://evil.example/"},
			{"/mcp", "/../b/mcp"}, {"/mcp", "/mcp"},
		} {
			got := answered(t, http.MethodPost, url, "X-Location", locations[0], "X-Location", locations[1])
			wantRefusedRedirect(t, got)
		}
	})
	t.Run("others that lead away", func(t *testing.T) {
		got := answered(
			t, http.MethodGet, url, "X-Answer", "200", "X-Refresh", "0; url=http://evil.example", "X-Alt-Svc",
			`h2="evil.example:443"`, "X-Content-Location", "http://evil.example/mcp",
		)
		for _, name := range []string{"Refresh", "Alt-Svc", "Content-Location"} {
			if got.header.Get(name) != "" {
				t.Errorf("%s comes through", name)
			}
		}
		got = answered(t, http.MethodGet, url, "X-Answer", "200", "X-Content-Location", server.URL+"/mcp/x")
		if got.header.Get("Content-Location") != "/a/mcp/x" {
			t.Errorf("Content-Location is %q", got.header.Get("Content-Location"))
		}
	})
	t.Run("no Location", func(t *testing.T) {
		for _, status := range []string{"304", "300", "200", "204"} {
			if got := answered(t, http.MethodGet, url, "X-Answer", status); got.status == http.StatusBadGateway {
				t.Errorf("%s became %d", status, got.status)
			}
		}
	})
}
