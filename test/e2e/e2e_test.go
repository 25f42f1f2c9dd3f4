// Package e2e holds the end-to-end tests: real Envoy, real vMCP, real MCP clients and backends, and Bellhop between
// them, on the configuration that Bellhop itself makes.
package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
	"bellhop/test/tools"
)

// key is the header that this project exists for.
const key = "X-Mcp-Api-Key"

const smallest = "version: 1\nforward: [x-mcp-api-key]\n"

// programs are found and built once for all tests.
type programs struct{ bellhop, envoy, vmcp string }

// found is set by TestMain before any test runs and never again.
var found programs

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "bellhop-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(folder) }()
	if found, err = findPrograms(folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func findPrograms(folder string) (programs, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	var p programs
	var err error
	if p.envoy, err = tools.Path(ctx, "envoy"); err != nil {
		return p, err
	}
	if p.vmcp, err = tools.Path(ctx, "vmcp"); err != nil {
		return p, err
	}
	p.bellhop, err = tools.BuildBellhop(ctx, folder, raceDetector)
	return p, err
}

// limit bounds a test that waits for other programs.
func limit(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// backend starts a real MCP server.
func backend(t *testing.T, options mcptest.BackendOptions) *mcptest.Backend {
	t.Helper()
	b, err := mcptest.StartBackend(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// start runs the whole path in front of the backends. On a failure it shows what every program wrote.
func start(t *testing.T, options stack.Options, backends map[string]*mcptest.Backend) *stack.Stack {
	t.Helper()
	options.Dir = t.TempDir()
	options.Bellhop, options.Envoy, options.VMCP = found.bellhop, found.envoy, found.vmcp
	if by := os.Getenv("CONFIGURE"); by != "" { // the same cases on another configuration, as "make test-istio" has it
		options.Configure = strings.Fields(by)
	}
	options.ServeArgs = append([]string{"--log-level", "debug"}, options.ServeArgs...)
	for name, b := range backends {
		options.Backends = append(options.Backends, stack.Backend{Name: name, URL: b.URL()})
	}
	slices.SortFunc(options.Backends, func(a, b stack.Backend) int { return strings.Compare(a.Name, b.Name) })
	s, err := stack.Start(limit(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("Bellhop:\n%s\nEnvoy:\n%s\nvMCP:\n%s", last(s.BellhopLog()), last(s.EnvoyLog()), last(s.VMCPLog()))
		}
		if strings.Contains(s.BellhopLog(), "DATA RACE") {
			t.Errorf("a data race in Bellhop:\n%s", s.BellhopLog())
		}
	})
	return s
}

// ownListeners skips a test of the listeners that "bellhop envoy bootstrap" makes where others are in their place.
func ownListeners(t *testing.T) {
	t.Helper()
	if os.Getenv("CONFIGURE") != "" {
		t.Skip("is about the listeners of bellhop envoy bootstrap")
	}
}

func last(log string) string { return log[max(0, len(log)-4000):] }

// connect opens a client that sends the header given, which may change between requests.
func connect(t *testing.T, s *stack.Stack, options mcptest.ClientOptions) *mcptest.Client {
	t.Helper()
	options.URL = s.Endpoint()
	client, err := mcptest.Connect(limit(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// sends returns a header function that always sends these values of the key.
func sends(values ...string) func() http.Header {
	return func() http.Header { return http.Header{key: values} }
}

// wantKey calls a whoami tool and compares the key that its backend got.
func wantKey(t *testing.T, client *mcptest.Client, tool string, want ...string) {
	t.Helper()
	header, err := client.WhoAmI(limit(t), tool)
	if err != nil {
		t.Errorf("%s: %v", tool, err)
		return
	}
	if got := header.Values(key); !slices.Equal(got, want) {
		t.Errorf("%s: the backend got %q, want %q", tool, got, want)
	}
}

// wantClean checks what must hold of everything that backends and the fan-out saw, whatever the test: no ticket
// reaches a backend, and no key and nothing but a ticket reaches the fan-out.
func wantClean(t *testing.T, s *stack.Stack, backends map[string]*mcptest.Backend) {
	t.Helper()
	for name, b := range backends {
		for _, request := range b.Requests() {
			if request.Header.Get("X-Bellhop-Ticket") != "" ||
				strings.Contains(strings.ToLower(request.Header.Get("Baggage")), "bellhop") {
				t.Fatalf("backend %s got a ticket with %s %s", name, request.Method, request.RPCMethod)
			}
		}
	}
	for _, request := range s.FanoutTap().Requests() {
		if request.Header.Get(key) != "" {
			t.Fatalf("the fan-out got the key with %s %s", request.Method, request.RPCMethod)
		}
	}
}

// wantNoTicketInBodies holds with the header as the carrier; baggage vMCP copies into the body (FANOUTS.md).
func wantNoTicketInBodies(t *testing.T, backends map[string]*mcptest.Backend) {
	t.Helper()
	for name, b := range backends {
		for _, request := range b.Requests() {
			if strings.Contains(string(request.Body), "bellhop=") {
				t.Fatalf("backend %s got a ticket in the body of %s", name, request.RPCMethod)
			}
		}
	}
}

// both are a legacy and a modern backend, which each show the key they got.
func both(t *testing.T) map[string]*mcptest.Backend {
	t.Helper()
	return map[string]*mcptest.Backend{
		"old": backend(t, mcptest.BackendOptions{Name: "old", Era: mcptest.Legacy}),
		"new": backend(t, mcptest.BackendOptions{Name: "new", Era: mcptest.Modern}),
	}
}
