package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
)

const strictPolicy = `
version: 1
forward: [x-mcp-api-key]
backends:
  strict: {}
  open: {}
`

const strictPolicyWithIdentity = `
version: 1
forward: [x-mcp-api-key]
backends:
  strict: {discovery: [{name: x-mcp-api-key, file: discovery}]}
  open: {}
`

func strictBackends(t *testing.T) map[string]*mcptest.Backend {
	t.Helper()
	known := []string{"alice", "bob", "discovery"}
	return map[string]*mcptest.Backend{
		"strict": backend(
			t,
			mcptest.BackendOptions{
				Name:          "strict",
				RequireHeader: key,
				Allow:         func(value string) bool { return slices.Contains(known, value) },
			},
		),
		"open": backend(t, mcptest.BackendOptions{Name: "open", Era: mcptest.Modern}),
	}
}

// The case this project exists for: a backend that answers 401 to anything without a key is usable through the
// fan-out, each client with its own key; the fan-out's own discovery has the backend's identity, and no client ever.
func TestAStrictBackendWithADiscoveryIdentity(t *testing.T) {
	backends := strictBackends(t)
	s := start(t, stack.Options{
		Policy: strictPolicyWithIdentity, Files: map[string]string{"discovery": "discovery\n"},
		HealthCheckInterval: time.Second,
	}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	for _, era := range eras {
		for _, who := range []string{"alice", "bob"} {
			client := connect(t, s, mcptest.ClientOptions{Era: era, Header: sends(who)})
			wantKey(t, client, "strict_whoami", who)
			wantKey(t, client, "open_whoami", who)
		}
		// A client without a key has no identity to borrow, and one with a bad key gets the backend's error.
		for _, keys := range [][]string{nil, {"mallory"}} {
			client := connect(t, s, mcptest.ClientOptions{Era: era, Header: sends(keys...)})
			if result, err := client.Call(limit(t), "strict_whoami", nil); err == nil && !result.IsError {
				t.Errorf("%s client with keys %q was let in: %s", era, keys, mcptest.Text(result))
			}
		}
	}
	wantClean(t, s, backends)
	wantIdentityOnlyWithoutClients(t, backends["strict"])
}

// Nothing that a client causes has the identity, not even the sessions that the fan-out opens for it.
func TestTheDiscoveryIdentityIsOnNoRequestOfAClient(t *testing.T) {
	backends := strictBackends(t)
	s := start(t, stack.Options{
		Policy: strictPolicyWithIdentity, Files: map[string]string{"discovery": "discovery\n"},
		HealthCheckInterval: 10 * time.Minute,
	}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	backends["strict"].Reset() // from here on every request is a client's: the next health check is minutes away
	for _, era := range eras {
		client := connect(t, s, mcptest.ClientOptions{Era: era, Header: sends("alice")})
		if _, err := client.Tools(limit(t)); err != nil {
			t.Error(err)
		}
		wantKey(t, client, "strict_whoami", "alice")
	}
	requests := backends["strict"].Requests()
	for _, request := range requests {
		if got := request.Header.Get(key); got != "alice" {
			t.Errorf("%s %s had %q", request.Method, request.RPCMethod, got)
		}
	}
	if len(requests) < 10 {
		t.Errorf("only %d requests", len(requests))
	}
}

// wantIdentityOnlyWithoutClients looks at every request of a backend: the identity was used, and for no tool call.
func wantIdentityOnlyWithoutClients(t *testing.T, b *mcptest.Backend) {
	t.Helper()
	used := 0
	for _, request := range b.Requests() {
		if request.Header.Get(key) != "discovery" {
			continue
		}
		used++
		if request.RPCMethod == "tools/call" {
			t.Errorf("a tool call had the discovery identity")
		}
	}
	if used == 0 {
		t.Error("the discovery identity was never used")
	}
}

// Without an identity the fan-out never learns the strict backend's tools, and the other backend is not harmed.
func TestAStrictBackendWithoutADiscoveryIdentity(t *testing.T) {
	backends := strictBackends(t)
	s := start(t, stack.Options{Policy: strictPolicy, HealthCheckInterval: time.Second}, backends)
	if err := s.WaitHealthy(limit(t), "open"); err != nil {
		t.Fatal(err)
	}
	client := connect(t, s, mcptest.ClientOptions{Header: sends("alice")})
	tools, err := client.Tools(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(tools, "strict_whoami") {
		t.Error("vMCP shows the tools of a backend that it could not discover: FANOUTS.md is out of date")
	}
	wantKey(t, client, "open_whoami", "alice")
	for _, request := range backends["strict"].Requests() {
		if value := request.Header.Get(key); value != "" && value != "alice" {
			t.Errorf("the strict backend got %q with %s", value, request.RPCMethod)
		}
	}
}

// A tool list that depends on the caller is shown only to that caller, although the fan-out caches it.
func TestAPrivateToolIsShownToItsOwnerOnly(t *testing.T) {
	backends := map[string]*mcptest.Backend{}
	for name, era := range map[string]mcptest.Era{"old": mcptest.Legacy, "new": mcptest.Modern} {
		backends[name] = backend(
			t,
			mcptest.BackendOptions{Name: name, Era: era, PrivateTool: func(header http.Header) string {
				switch header.Get(key) {
				case "alice":
					return "alice_only"
				case "bob":
					return "bob_only"
				default:
					return ""
				}
			}},
		)
	}
	s := start(t, stack.Options{Policy: smallest}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time from the fan-out's cache
		for _, who := range []string{"alice", "bob", ""} {
			for _, era := range eras {
				var header func() http.Header
				if who != "" {
					header = sends(who)
				}
				client := connect(t, s, mcptest.ClientOptions{Era: era, Header: header})
				wantTools(t, client, who)
			}
		}
	}
}

func wantTools(t *testing.T, client *mcptest.Client, who string) {
	t.Helper()
	tools, err := client.Tools(limit(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, owner := range []string{"alice", "bob"} {
		for _, name := range []string{"old_", "new_"} {
			if slices.Contains(tools, name+owner+"_only") != (owner == who) {
				t.Errorf("%q sees of %s: %q", who, owner, tools)
			}
		}
	}
}

// An identity that cannot be read any more stays what it was; a new one is taken at once. Clients notice neither.
func TestADiscoveryIdentityIsRotatedWhileItIsInUse(t *testing.T) {
	var known sync.Map
	known.Store("discovery", true)
	known.Store("alice", true)
	backends := map[string]*mcptest.Backend{
		"strict": backend(
			t,
			mcptest.BackendOptions{RequireHeader: key, Allow: func(value string) bool { _, ok := known.Load(value); return ok }},
		),
		"open": backend(t, mcptest.BackendOptions{Era: mcptest.Modern}),
	}
	s := start(t, stack.Options{
		Policy: strictPolicyWithIdentity, Files: map[string]string{"discovery": "discovery\n"},
		HealthCheckInterval: time.Second,
	}, backends)
	if err := s.WaitHealthy(limit(t)); err != nil {
		t.Fatal(err)
	}
	client := connect(t, s, mcptest.ClientOptions{Header: sends("alice")})
	file := filepath.Join(s.Dir(), "discovery")
	before := reloadsOf(t, s, "discovery_failed")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	wait(t, "the fault is counted", func() bool { return reloadsOf(t, s, "discovery_failed") != before })
	backends["strict"].Reset()
	wantSees(t, backends["strict"], "discovery")
	wantKey(t, client, "strict_whoami", "alice")
	if log := s.BellhopLog(); !strings.Contains(log, "discovery header x-mcp-api-key of backend strict") {
		t.Error("the log does not say which file is missing")
	}
	known.Store("rotated", true)
	if err := os.WriteFile(file, []byte("rotated\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantSees(t, backends["strict"], "rotated")
	wantKey(t, client, "strict_whoami", "alice")
	wantKey(t, client, "open_whoami", "alice")
}

// wantSees waits until the backend gets a request with this key.
func wantSees(t *testing.T, b *mcptest.Backend, value string) {
	t.Helper()
	wait(t, "the backend sees "+value, func() bool {
		return slices.ContainsFunc(b.Requests(), func(r mcptest.Recorded) bool { return r.Header.Get(key) == value })
	})
}
