package mcptest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// ClientOptions describe a client.
type ClientOptions struct {
	URL string // the MCP endpoint
	// Era is what the client offers first. As all real ones, a modern client falls
	// back to the legacy way when the server knows no better: see Client.Protocol.
	Era Era
	// Header returns the lines to add to the next HTTP request. It is asked for each
	// request, from several goroutines, so a test may change a key in mid-session.
	Header func() http.Header
	// Meta goes into the _meta of each call.
	Meta map[string]any
	// OnProgress, if set, makes calls ask for progress and receives it.
	OnProgress func(*mcp.ProgressNotificationParams)
	TLS        *tls.Config // for an https URL
	// NoStream leaves out the GET with which a legacy client listens all the time.
	NoStream bool
}

// Client is one MCP session of a real client. A status of 401, or any other 4xx
// without a JSON-RPC error in its body, ends it for good: that is how the
// SDK is made. After 429, 500, 502, 503, 504 it goes on.
type Client struct {
	options   ClientOptions
	transport *headerTransport
	session   *mcp.ClientSession
	calls     atomic.Int64
}

// Connect opens a session.
func Connect(ctx context.Context, options ClientOptions) (*Client, error) {
	c := &Client{options: options, transport: newHeaderTransport(options)}
	client := mcp.NewClient(&mcp.Implementation{Name: "mcptest", Version: "0"}, &mcp.ClientOptions{
		ProgressNotificationHandler: c.progress,
	})
	var session mcp.ClientSessionOptions
	if options.Era == Legacy {
		session.ProtocolVersion = legacyVersion
	}
	var err error
	c.session, err = client.Connect(ctx, &mcp.StreamableClientTransport{
		Endpoint:             options.URL,
		HTTPClient:           &http.Client{Transport: c.transport},
		DisableStandaloneSSE: options.NoStream,
	}, &session)
	if err != nil {
		c.transport.CloseIdleConnections()
		return nil, fmt.Errorf("connect a %s client to %s: %w", options.Era, options.URL, err)
	}
	return c, nil
}

// Protocol is the MCP version that client and server have agreed on.
func (c *Client) Protocol() string { return c.session.InitializeResult().ProtocolVersion }

// Close ends the session; a legacy client says so to the server.
func (c *Client) Close() error {
	err := c.session.Close()
	c.transport.CloseIdleConnections()
	if err != nil {
		return fmt.Errorf("close the session with %s: %w", c.options.URL, err)
	}
	return nil
}

// Call calls a tool. A tool's own failure is a result with IsError, no error.
func (c *Client) Call(ctx context.Context, tool string, arguments any) (*mcp.CallToolResult, error) {
	return c.CallWithMeta(ctx, tool, arguments, nil)
}

// CallWithMeta calls a tool with more _meta, which wins over that of the options.
func (c *Client) CallWithMeta(
	ctx context.Context,
	tool string,
	arguments any,
	meta map[string]any,
) (*mcp.CallToolResult, error) {
	params := &mcp.CallToolParams{Name: tool, Arguments: arguments, Meta: mcp.Meta{}}
	maps.Copy(params.Meta, c.options.Meta)
	maps.Copy(params.Meta, meta)
	if c.options.OnProgress != nil {
		params.SetProgressToken(fmt.Sprintf("call-%d", c.calls.Add(1)))
	}
	result, err := c.session.CallTool(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("call %s at %s: %w", tool, c.options.URL, err)
	}
	return result, nil
}

// WhoAmI calls a whoami tool, under the name that it has here, and returns the
// header with which the call arrived at the backend.
func (c *Client) WhoAmI(ctx context.Context, tool string) (http.Header, error) {
	result, err := c.Call(ctx, tool, nil)
	if err != nil {
		return nil, err
	}
	content := Text(result)
	if result.IsError {
		return nil, fmt.Errorf("call %s at %s: the tool failed: %s", tool, c.options.URL, content)
	}
	var header http.Header
	if err := json.Unmarshal([]byte(content), &header); err != nil {
		return nil, fmt.Errorf(
			"read the answer of %s at %s, %q: %w (is it a whoami tool?)", tool, c.options.URL, content, err,
		)
	}
	return header, nil
}

// Tools returns the names of all tools that the server shows to this client.
func (c *Client) Tools(ctx context.Context) ([]string, error) {
	var names []string
	for tool, err := range c.session.Tools(ctx, nil) {
		if err != nil {
			return nil, fmt.Errorf("list the tools at %s: %w", c.options.URL, err)
		}
		names = append(names, tool.Name)
	}
	return names, nil
}

// Text joins the text parts of a result.
func Text(result *mcp.CallToolResult) string {
	var parts []string
	for _, content := range result.Content {
		if text, ok := content.(*mcp.TextContent); ok {
			parts = append(parts, text.Text)
		}
	}
	return strings.Join(parts, "\n")
}

func (c *Client) progress(_ context.Context, request *mcp.ProgressNotificationClientRequest) {
	if c.options.OnProgress != nil {
		c.options.OnProgress(request.Params)
	}
}

// headerTransport adds the lines of a function to each request. It has its own
// connections and no proxy: nothing but the URL decides where a request goes.
type headerTransport struct {
	*http.Transport
	header func() http.Header
}

func newHeaderTransport(options ClientOptions) *headerTransport {
	return &headerTransport{
		Transport: &http.Transport{TLSClientConfig: options.TLS, DisableCompression: true},
		header:    options.Header,
	}
}

// RoundTrip sends a copy, as a transport must not change what it was given.
func (t *headerTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	if t.header == nil {
		return t.Transport.RoundTrip(request)
	}
	request = request.Clone(request.Context())
	for name, values := range t.header() {
		for _, value := range values {
			request.Header.Add(name, value)
		}
	}
	return t.Transport.RoundTrip(request)
}
