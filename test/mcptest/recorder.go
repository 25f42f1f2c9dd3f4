package mcptest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// bodyLimit bounds what is kept of one request's body. What is longer still
// passes whole, and is only recorded in part.
const bodyLimit = 1 << 20

// Recorded is one HTTP request as it arrived.
type Recorded struct {
	Time      time.Time
	Method    string      // the HTTP method
	Path      string      // path and query
	RPCMethod string      // the JSON-RPC method; empty for GET, DELETE and replies
	ToolName  string      // the tool of a tools/call
	Host      string      // Go keeps it apart from the header
	Header    http.Header // every line, repeated ones in order
	Body      []byte      // at most the first megabyte
}

// Recorder keeps the requests that pass a handler, in the order of their
// arrival. The zero value is ready to use.
type Recorder struct {
	mu       sync.Mutex
	requests []Recorded
}

// Requests returns all requests since the start or the last Reset.
func (r *Recorder) Requests() []Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Reset forgets what was recorded.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = nil
}

// Record wraps a handler. The response writer goes through untouched, so
// streaming is as it was.
func (r *Recorder) Record(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.record(request)
		next.ServeHTTP(w, request)
	})
}

// record keeps a request before it is handled, and gives its body back whole.
func (r *Recorder) record(request *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(request.Body, bodyLimit)) // the handler meets the same error
	request.Body = &replayed{
		Reader: io.MultiReader(bytes.NewReader(body), request.Body),
		Closer: request.Body,
	}
	method, tool := rpcNames(body)

	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, Recorded{
		Time:      time.Now(),
		Method:    request.Method,
		Path:      request.URL.RequestURI(),
		RPCMethod: method,
		ToolName:  tool,
		Host:      request.Host,
		Header:    request.Header.Clone(),
		Body:      body,
	})
}

// replayed is a body of which the first part was read once already.
type replayed struct {
	io.Reader
	io.Closer
}

// rpcNames reads the method and the tool from a JSON-RPC message. A body that
// is none has neither.
func rpcNames(body []byte) (method, tool string) {
	var message struct {
		Method string `json:"method"`
		Params struct {
			Name string `json:"name"`
		} `json:"params"`
	}
	if json.Unmarshal(body, &message) != nil {
		return "", ""
	}
	if message.Method == "tools/call" {
		tool = message.Params.Name
	}
	return message.Method, tool
}
