package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
)

// longer than Envoy's default route timeout, which cuts a call and an idle stream after 15 s.
const long = 22 * time.Second

// A call of more than twenty seconds with progress, an idle stream of a client, and the fan-out's own idle stream to
// its backend all live, through both Envoys.
func TestLongCallsAndIdleStreamsLive(t *testing.T) {
	t.Parallel()
	backends := both(t)
	s := start(t, stack.Options{Policy: smallest}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	idle := make(chan string, 1)
	go func() { idle <- listen(s.Endpoint()) }()
	var progress atomic.Int64
	client := connect(t, s, mcptest.ClientOptions{
		Era: mcptest.Legacy, Header: sends("patient"), OnProgress: func(*mcp.ProgressNotificationParams) { progress.Add(1) },
	})
	streams := openStreams(backends["old"])
	result, err := client.Call(limit(t), "old_slow", map[string]any{"seconds": long.Seconds()})
	if err != nil || result.IsError {
		t.Fatalf("the long call: %v, %v", result, err)
	}
	if progress.Load() < 15 {
		t.Errorf("%d progress notifications in %s", progress.Load(), long)
	}
	if problem := <-idle; problem != "" {
		t.Errorf("the client's idle stream: %s", problem)
	}
	// The call itself opens one more; a stream that was cut would have been opened again.
	if now := openStreams(backends["old"]); now > streams+1 {
		t.Errorf("the fan-out opened its stream to the backend %d times again", now-streams-1)
	}
	wantKey(t, client, "old_whoami", "patient")
}

func openStreams(b *mcptest.Backend) int {
	n := 0
	for _, request := range b.Requests() {
		if request.Method == http.MethodGet && request.Header.Get(key) != "" {
			n++
		}
	}
	return n
}

// listen opens a session and its event stream by hand, and says what is wrong if the stream ends within the time.
func listen(endpoint string) string {
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	session, err := initialize(ctx, endpoint)
	if err != nil {
		return err.Error()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Accept", "text/event-stream")
	request.Header.Set("Mcp-Session-Id", session)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return response.Status
	}
	_, err = io.Copy(io.Discard, response.Body)
	if ctx.Err() == nil {
		return "it ended by itself: " + errorText(err)
	}
	return ""
}

func initialize(ctx context.Context, endpoint string) (session string, err error) {
	const body = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"raw","version":"0"}}}`
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return response.Header.Get("Mcp-Session-Id"), err
}

func errorText(err error) string {
	if err == nil {
		return "end of the stream"
	}
	return err.Error()
}
