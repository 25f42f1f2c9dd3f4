package mcptest

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// mcpPath is where backends serve MCP.
const mcpPath = "/mcp"

// BackendOptions describe a backend. The zero value is a legacy backend that
// admits everyone.
type BackendOptions struct {
	Name    string // what it calls itself; default: backend
	Era     Era
	Address string      // host:port; default: a free port on 127.0.0.1
	TLS     *tls.Config // not nil: https, with its certificates

	// RequireHeader makes the backend strict: any request without this header gets
	// 401, whatever its method. Allow, if set, also has a say in its value.
	RequireHeader string
	Allow         func(value string) bool

	// PrivateTool names a tool that only this caller sees, beside the common
	// ones; empty for none. A legacy session keeps the one of its first request.
	PrivateTool func(http.Header) string
}

// Backend is a running MCP server with the tools whoami, echo and slow. Its
// Recorder holds every HTTP request that came, also those it refused.
type Backend struct {
	Recorder

	options  BackendOptions
	listener *listener

	mu      sync.Mutex
	servers map[string]*mcp.Server // by private tool
}

// StartBackend starts a backend in this process.
func StartBackend(options BackendOptions) (*Backend, error) {
	if options.Name == "" {
		options.Name = "backend"
	}
	b := &Backend{options: options, servers: map[string]*mcp.Server{}}
	handler := mcp.NewStreamableHTTPHandler(b.serverFor, &mcp.StreamableHTTPOptions{Stateless: options.Era == Modern})
	mux := http.NewServeMux()
	mux.Handle(mcpPath, b.guard(handler))

	var err error
	if b.listener, err = listen(options.Address, options.TLS, b.Record(mux)); err != nil {
		return nil, fmt.Errorf("start backend %s: %w", options.Name, err)
	}
	return b, nil
}

// URL is the address of the MCP endpoint.
func (b *Backend) URL() string { return b.listener.url + mcpPath }

// Address is the backend's host:port, as a proxy in front of it needs it.
func (b *Backend) Address() string { return b.listener.address }

// Close stops the backend and ends its sessions and streams.
func (b *Backend) Close() error {
	b.closeSessions()
	err := b.listener.close()
	b.closeSessions() // those that came in between
	return err
}

func (b *Backend) closeSessions() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, server := range b.servers {
		for session := range server.Sessions() {
			_ = session.Close() // a session that its client has left cannot end well
		}
	}
}

// guard refuses what a strict backend does not take.
func (b *Backend) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !b.allowed(r.Header) {
			http.Error(
				w, fmt.Sprintf("%s: missing or unknown %s", b.options.Name, b.options.RequireHeader), http.StatusUnauthorized,
			)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (b *Backend) allowed(header http.Header) bool {
	if b.options.RequireHeader == "" {
		return true
	}
	value := header.Get(b.options.RequireHeader)
	return value != "" && (b.options.Allow == nil || b.options.Allow(value))
}

// serverFor returns the MCP server whose tools this caller may see. Callers
// with the same private tool share one, so that their number stays small.
func (b *Backend) serverFor(r *http.Request) *mcp.Server {
	private := ""
	if b.options.PrivateTool != nil {
		private = b.options.PrivateTool(r.Header)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	server, ok := b.servers[private]
	if !ok {
		server = newServer(b.options.Name, private)
		b.servers[private] = server
	}
	return server
}
