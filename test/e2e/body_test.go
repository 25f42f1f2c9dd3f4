package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"
)

const toolsOfA = `version: 1
forward:
  - {name: x-mcp-api-key, tools: [search_*]}
  - x-tenant-id
backends: {a: {}}
`

// got is what reached a backend.
type got struct {
	header http.Header
	length int
}

// passing is the whole path with a fan-out that sends each request on to backend a, with its headers, and a backend
// that records what it gets.
func passing(t *testing.T, policy string) (ingress string, reached chan got) {
	t.Helper()
	reached = make(chan got, 100)
	backend := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		length, _ := io.Copy(io.Discard, r.Body)
		reached <- got{r.Header.Clone(), int(length)}
	}))
	t.Cleanup(backend.Close)
	ingress = around(t, policy, backend.URL+"/mcp", func(egress *url.URL) http.Handler {
		proxy := httputil.NewSingleHostReverseProxy(egress)
		proxy.FlushInterval = -1
		return proxy
	})
	return ingress, reached
}

// called is a call of a tool with an argument of that many bytes, before the tool's name.
func called(size int) string {
	const frame = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"arguments":{"a":""},"name":"search_x"}}`
	return strings.Replace(frame, `"a":""`, `"a":"`+strings.Repeat("k", max(0, size-len(frame)))+`"`, 1)
}

// send posts a body in the pieces given, with a pause between them; the length is announced if there is one piece.
func send(
	t *testing.T,
	url string,
	header http.Header,
	pause time.Duration,
	pieces ...string,
) (status int, body string) {
	t.Helper()
	reader, writer := io.Pipe()
	go func() {
		for i, piece := range pieces {
			if i > 0 {
				time.Sleep(pause)
			}
			if _, err := io.WriteString(writer, piece); err != nil {
				return
			}
		}
		_ = writer.Close()
	}()
	request, err := http.NewRequestWithContext(limit(t), http.MethodPost, url, reader)
	if err != nil {
		t.Fatal(err)
	}
	if len(pieces) == 1 {
		request.Body, request.ContentLength = io.NopCloser(strings.NewReader(pieces[0])), int64(len(pieces[0]))
	}
	request.Header = header.Clone()
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	text, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(text)
}

// Where a decision needs the body, bodies up to limits.body_bytes pass with their headers, however they come, and
// longer ones are refused. Elsewhere they pass at any length.
func TestBodiesOfAnyLength(t *testing.T) {
	ingress, reached := passing(t, toolsOfA)
	const most = 4 << 20
	tools, plain := http.Header{key: {"k"}}, http.Header{"X-Tenant-Id": {"t"}}
	tests := []struct {
		name   string
		header http.Header
		pause  time.Duration
		pieces []string
		status int
	}{
		{"small", tools, 0, []string{called(100)}, 200},
		{"64 KiB", tools, 0, []string{called(64 << 10)}, 200},
		{"all that is allowed", tools, 0, []string{called(most)}, 200},
		{"too much", tools, 0, []string{called(most + 1)}, 413},
		{"all that is allowed, in pieces", tools, 0, []string{called(most)[:1<<20], called(most)[1<<20:]}, 200},
		{"too much, in pieces", tools, 0, []string{called(most + 1)[:1<<20], called(most + 1)[1<<20:]}, 413},
		{"slow", tools, 300 * time.Millisecond, []string{called(100)[:10], called(100)[10:50], called(100)[50:]}, 200},
		{"no header for tools", plain, 0, []string{called(3 * most)}, 200},
		{
			"no header for tools, in pieces",
			plain,
			10 * time.Millisecond,
			[]string{called(3 * most)[:most], called(3 * most)[most:]},
			200,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			status, body := send(t, ingress, test.header, test.pause, test.pieces...)
			if status != test.status {
				t.Fatalf("status %d, want %d: %.300s", status, test.status, body)
			}
			if status != http.StatusOK {
				return
			}
			at := <-reached
			if want := len(strings.Join(test.pieces, "")); at.length != want {
				t.Errorf("the backend got %d bytes of %d", at.length, want)
			}
			for name := range test.header {
				if at.header.Get(name) == "" {
					t.Errorf("the backend did not get %s", name)
				}
			}
		})
	}
}

// Under a policy that needs no body, none is too long, whatever the machine has to do beside.
func TestABodyThatNobodyReadsHasNoLimit(t *testing.T) {
	ingress, reached := passing(t, smallest)
	for range 8 {
		const size = 40 << 20
		status, body := send(t, ingress, http.Header{key: {"k"}}, 0, called(size))
		if at := <-reached; status != http.StatusOK || at.length != size {
			t.Fatalf("status %d, the backend got %d bytes: %.300s", status, at.length, body)
		}
	}
}

// The same over HTTP/2, where the window of the stream is what bounds a body that is held.
func TestBodiesOfAnyLengthOverHTTP2(t *testing.T) {
	ingress, reached := passing(t, toolsOfA)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	for name, test := range map[string]struct {
		size   int
		header string
		status int
	}{
		"all that is allowed": {4 << 20, key, 200}, "too much": {4<<20 + 1, key, 413},
		"no header for tools": {12 << 20, "X-Tenant-Id", 200},
	} {
		t.Run(name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(limit(t), http.MethodPost, ingress, strings.NewReader(called(test.size)))
			if err != nil {
				t.Fatal(err)
			}
			request.Header = http.Header{test.header: {"k"}, "Content-Type": {"application/json"}}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != test.status {
				t.Fatalf("status %d, want %d", response.StatusCode, test.status)
			}
			if test.status != http.StatusOK {
				return
			}
			if at := <-reached; at.length != test.size || at.header.Get(test.header) == "" {
				t.Errorf("the backend got %d bytes of %d, and %v", at.length, test.size, at.header)
			}
		})
	}
}

// A request that is refused gets its own ID in the error, whatever it has of a body, and a large body does not hide
// why.
func TestARefusedRequestWithALargeBody(t *testing.T) {
	ingress, _ := passing(t, "version: 1\nforward: [{name: x-mcp-api-key, required: true}]\n")
	for name, test := range map[string]struct {
		size   int
		status int
		want   string
	}{
		"small": {100, 400, `"id":7`}, "large": {4 << 20, 400, `"id":7`}, "too large for the ID": {4<<20 + 1, 400, "x-mcp-api-key"},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := send(t, ingress, http.Header{}, 0, called(test.size))
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("status %d: %.300s", status, body)
			}
		})
	}
}

// A body that a client does not finish is answered, and bounded, by Bellhop alone.
func TestABodyThatIsNotFinished(t *testing.T) {
	t.Setenv("BELLHOP_BODY_TIMEOUT", "300ms")
	ingress, _ := passing(t, "version: 1\nforward: [{name: x-mcp-api-key, required: true}]\n")
	address, err := url.Parse(ingress)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := net.Dial("tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	_, _ = fmt.Fprintf(connection, "POST /mcp HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\n"+
		"content-length: 100\r\n\r\n{", address.Host)
	_ = connection.SetReadDeadline(time.Now().Add(20 * time.Second))
	begun := time.Now()
	answer := make([]byte, 4096)
	n, err := connection.Read(answer)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 400")) {
		t.Errorf("after %v: %v %s", time.Since(begun), err, answer[:n])
	}
}
