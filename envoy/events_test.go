package envoy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bellhop/envoy"
)

// In MCP's old transport the server names, in an event of a stream, the path to which the client shall send its
// requests. At an Envoy where all backends have one origin it could name another backend's.
func TestAnEventDoesNotRouteRequests(t *testing.T) {
	var pieces []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		if encoding := r.Header.Get("X-Encoding"); encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		for _, piece := range pieces {
			_, _ = io.WriteString(w, piece)
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}))
	t.Cleanup(server.Close)
	_, address := serve(t, "unix")
	running, options := startEnvoy(t, load(t, openPolicy), envoy.BootstrapOptions{
		Fanout: server.URL, Backends: []string{"a=" + server.URL + "/mcp", "root=" + server.URL},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
	})
	const other = "id: 1\ndata: {\"method\":\"an endpoint\"}\n\n"
	for name, test := range map[string]struct {
		pieces []string
		passes bool
	}{
		"others":         {[]string{other, "event: message\n" + other, ": event: endpoint\ndata: event: endpoint\n\n"}, true},
		"at once":        {[]string{"event: endpoint\ndata: /b/mcp\n\n"}, false},
		"no space":       {[]string{"event:endpoint\ndata: /b/mcp\n\n"}, false},
		"CRLF":           {[]string{"event: endpoint\r\ndata: /b/mcp\r\n\r\n"}, false},
		"CR":             {[]string{"event: endpoint\rdata: /b/mcp\r\r"}, false},
		"BOM":            {[]string{"\ufeffevent: endpoint\ndata: /b/mcp\n\n"}, false},
		"data first":     {[]string{other + "data: /b/mcp\nevent: endpoint\n\n"}, false},
		"after others":   {[]string{other, strings.Repeat(other, 100), "event: endpoint\ndata: /b/mcp\n\n"}, false},
		"in pieces":      {[]string{other + "ev", "ent: endp", "oint", "\ndata: /b/mcp\n", "\n"}, false},
		"byte by byte":   {strings.Split("event: endpoint\ndata: /b/mcp\n\n", ""), false},
		"the first wins": {[]string{"event: message\nevent: endpoint\ndata: /b/mcp\n\n"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			pieces = test.pieces
			for _, path := range []string{"/a/mcp", "/root", "/root/sse"} {
				got := answered(t, http.MethodGet, "http://"+options.Egress+path)
				if sent := strings.Join(pieces, ""); test.passes && got.body != sent {
					t.Errorf("%s: the stream became %q, want %q", path, got.body, sent)
				}
				if !test.passes && dispatchesEndpoint(got.body) {
					t.Errorf("%s: the client sees an endpoint in %q", path, got.body)
				}
			}
		})
	}
	t.Run("encoded", func(t *testing.T) {
		pieces = []string{"\x1f\x8b\x08"}
		got := answered(t, http.MethodGet, "http://"+options.Egress+"/a/mcp", "X-Encoding", "gzip", "Accept-Encoding", "gzip")
		if got.header.Get("Content-Encoding") != "" {
			t.Error("an encoded stream passes unread")
		}
	})
	t.Run("an answer to a POST is no such stream", func(t *testing.T) {
		pieces = []string{"event: endpoint\ndata: x\n\n"}
		if got := answered(t, http.MethodPost, "http://"+options.Egress+"/a/mcp"); got.body != pieces[0] {
			t.Errorf("the stream became %q", got.body)
		}
	})
	if !strings.Contains(running.Output(), "backend a names in an event where to send requests") {
		t.Errorf("the log does not say so:\n%s", running.Output())
	}
}

// dispatchesEndpoint reads a stream as a client does: an event is one only when a blank line ends it.
func dispatchesEndpoint(stream string) bool {
	stream = strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(stream, "\ufeff"))
	events := strings.Split(stream, "\n\n")
	for _, event := range events[:len(events)-1] {
		for line := range strings.SplitSeq(event, "\n") {
			if name, ok := strings.CutPrefix(line, "event:"); ok && strings.TrimSpace(name) == "endpoint" {
				return true
			}
		}
	}
	return false
}
