package envoy_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"bellhop/envoy"
)

// In MCP's old transport the server names, in an event of a stream, the path to which the client shall send its
// requests. At an Envoy where all backends have one origin it could name another backend's.
func TestAnEventDoesNotRouteRequests(t *testing.T) {
	var pieces []string
	contentType := "text/event-stream"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
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
		"VT":             {[]string{": \vevent: endpoint\vdata: /b/mcp\v\v"}, false},
		"RS":             {[]string{": \x1eevent: endpoint\ndata: /b/mcp\n\n"}, false},
		"U+0085":         {[]string{": \u0085event: endpoint\ndata: /b/mcp\n\n"}, false},
		"U+2028":         {[]string{": \u2028event: endpoint\u2029data: /b/mcp\u2029\u2029"}, false},
		"a split U+2028": {[]string{": " + strings.Repeat("x", 99) + "\xe2\x80", "\xa8event: endpoint\ndata: b\n\n"}, false},
		"VT in a name":   {[]string{"event:\vendpoint\ndata: /b/mcp\n\n"}, false},
		"NEL in a name":  {[]string{"event:\u0085endpoint\ndata: /b/mcp\n\n"}, false},
		"NBSP in a name": {[]string{"event:\u00a0endpoint\u2003\ndata: /b/mcp\n\n"}, false},
		"spaces":         {[]string{" event" + strings.Repeat(" ", 1000), ": \t", "endpoint\ndata: /b/mcp\n\n"}, false},
		"many line ends": {[]string{strings.Repeat("\n", 1<<20) + "event: endpoint\ndata: /b/mcp\n\n"}, false},
		"another name":   {[]string{"event: endpoint_list\ndata: /b/mcp\n\n", "event: endpoints\n\n"}, true},
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
	for _, kind := range []string{"application/json", "text/plain", ""} {
		t.Run("as "+kind, func(t *testing.T) {
			contentType, pieces = kind, []string{"event: endpoint\ndata: /b/mcp\n\n"}
			got := answered(t, http.MethodGet, "http://"+options.Egress+"/a/mcp")
			if contentType = "text/event-stream"; dispatchesEndpoint(got.body) {
				t.Errorf("the client sees an endpoint in %q", got.body)
			}
		})
	}
	for sent, want := range map[string]string{
		"text/event-stream; charset=utf-16": "text/event-stream", "text/event-stream;charset=utf-7": "text/event-stream",
		"Text/Event-Stream; charset=cp037; charset=utf-8": "text/event-stream",
		"text/event-stream; charset=utf-8":                "text/event-stream; charset=utf-8",
		`text/event-stream;charset="UTF-8"`:               `text/event-stream;charset="UTF-8"`,
	} {
		t.Run(sent, func(t *testing.T) {
			contentType, pieces = sent, []string{other}
			got := answered(t, http.MethodGet, "http://"+options.Egress+"/a/mcp").header.Get("Content-Type")
			if contentType = "text/event-stream"; got != want {
				t.Errorf("the content-type became %q, want %q", got, want)
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

// dispatchesEndpoint reads a stream as a lenient client does: an event is one only when a blank line ends it, and lines
// end as in Python's splitlines. An endpoint that is no URL makes the client fail.
func dispatchesEndpoint(stream string) bool {
	stream = strings.ReplaceAll(strings.TrimPrefix(stream, "\ufeff"), "\r\n", "\n")
	for _, end := range []string{"\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\u0085", "\u2028", "\u2029"} {
		stream = strings.ReplaceAll(stream, end, "\n")
	}
	events := strings.Split(stream, "\n\n")
	for _, event := range events[:len(events)-1] {
		var name, data string
		for line := range strings.SplitSeq(event, "\n") {
			if value, ok := strings.CutPrefix(line, "event:"); ok {
				name = strings.TrimSpace(value)
			} else if value, ok := strings.CutPrefix(line, "data:"); ok {
				data += strings.TrimSpace(value)
			}
		}
		if _, err := url.Parse(data); name == "endpoint" && err == nil {
			return true
		}
	}
	return false
}
