package vmcp_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"bellhop/test/mcptest"
	"bellhop/test/tools"
	"bellhop/test/vmcp"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// binary returns the path of the pinned vMCP and builds it when there is none,
// which takes minutes: "make tools" does that beforehand.
func binary(t *testing.T) string {
	t.Helper()
	path, err := tools.Path(t.Context(), "vmcp")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, options vmcp.Options) *vmcp.VMCP {
	t.Helper()
	options.Bin, options.Dir = binary(t), t.TempDir()
	v, err := vmcp.Start(limited(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("vMCP's output:\n%s", v.Output())
		}
	})
	return v
}

func backend(t *testing.T, name string, era mcptest.Era) (*mcptest.Backend, vmcp.Backend) {
	t.Helper()
	b, err := mcptest.StartBackend(mcptest.BackendOptions{Name: name, Era: era})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b, vmcp.Backend{Name: name, URL: b.URL()}
}

func connect(t *testing.T, options mcptest.ClientOptions) *mcptest.Client {
	t.Helper()
	client, err := mcptest.Connect(limited(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func eras() []mcptest.Era { return []mcptest.Era{mcptest.Legacy, mcptest.Modern} }

func TestHeadersPassThrough(t *testing.T) {
	_, a := backend(t, "a", mcptest.Legacy)
	_, b := backend(t, "b", mcptest.Modern)
	v := start(t, vmcp.Options{Backends: []vmcp.Backend{a, b}, PassthroughHeaders: []string{"x-bellhop-ticket"}})
	if err := v.WaitHealthy(limited(t), "a", "b"); err != nil {
		t.Fatal(err)
	}
	for _, era := range eras() {
		t.Run(era.String(), func(t *testing.T) {
			client := connect(t, mcptest.ClientOptions{URL: v.Endpoint(), Era: era, Header: func() http.Header {
				return http.Header{"X-Bellhop-Ticket": {"t-" + era.String()}, "X-Other": {"secret"}}
			}})
			tools, err := client.Tools(limited(t))
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(tools)
			want := []string{"a_echo", "a_slow", "a_whoami", "b_echo", "b_slow", "b_whoami"}
			if diff := cmp.Diff(want, tools); diff != "" {
				t.Errorf("tools (-want +got):\n%s", diff)
			}
			for _, tool := range []string{"a_whoami", "b_whoami"} {
				header, err := client.WhoAmI(limited(t), tool)
				if err != nil {
					t.Fatal(err)
				}
				if got := header.Get("x-bellhop-ticket"); got != "t-"+era.String() {
					t.Errorf("%s: ticket %q, want %q", tool, got, "t-"+era.String())
				}
				if got := header.Get("x-other"); got != "" {
					t.Errorf("%s: a header that is not listed arrived: %q", tool, got)
				}
			}
		})
	}
}

func TestBaggagePassesThrough(t *testing.T) {
	_, a := backend(t, "a", mcptest.Legacy)
	_, b := backend(t, "b", mcptest.Modern)
	v := start(t, vmcp.Options{Backends: []vmcp.Backend{a, b}, Baggage: true})
	if err := v.WaitHealthy(limited(t), "a", "b"); err != nil {
		t.Fatal(err)
	}
	for _, era := range eras() {
		t.Run(era.String(), func(t *testing.T) {
			client := connect(t, mcptest.ClientOptions{URL: v.Endpoint(), Era: era, Header: func() http.Header {
				return http.Header{"Baggage": {"bellhop=abc-123"}}
			}})
			for _, tool := range []string{"a_whoami", "b_whoami"} {
				header, err := client.WhoAmI(limited(t), tool)
				if err != nil {
					t.Fatal(err)
				}
				if got := header.Get("baggage"); got != "bellhop=abc-123" {
					t.Errorf("%s: baggage %q, want the client's", tool, got)
				}
			}
		})
	}
}

// What vMCP sends to a backend for one call decides where a ticket is needed.
func TestRequestsOfOneCall(t *testing.T) {
	cases := map[mcptest.Era][]string{
		mcptest.Legacy: {
			"DELETE", "GET", "POST initialize", "POST logging/setLevel", "POST notifications/initialized",
			"POST ping", "POST server/discover", "POST tools/call",
		},
		mcptest.Modern: {"POST tools/call"},
	}
	for era, want := range cases {
		t.Run(era.String()+" backend", func(t *testing.T) {
			recorded, a := backend(t, "a", era)
			v := start(t, vmcp.Options{Backends: []vmcp.Backend{a}, HealthCheckInterval: time.Hour})
			if err := v.WaitHealthy(limited(t), "a"); err != nil {
				t.Fatal(err)
			}
			client := connect(t, mcptest.ClientOptions{URL: v.Endpoint()})
			settle(recorded)
			recorded.Reset()
			if _, err := client.Call(limited(t), "a_echo", map[string]any{"text": "hi"}); err != nil {
				t.Fatal(err)
			}
			settle(recorded)
			var got []string
			for _, request := range recorded.Requests() {
				got = append(got, strings.TrimSpace(request.Method+" "+request.RPCMethod))
			}
			slices.Sort(got) // some of them go out at the same time
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// settle waits until no more requests come.
func settle(recorded *mcptest.Backend) {
	for last := -1; last != len(recorded.Requests()); time.Sleep(250 * time.Millisecond) {
		last = len(recorded.Requests())
	}
}

// A backend that requires a header from every client fails the check of vMCP, which
// sends none. It stays out: that is what discovery identities are for.
func TestStrictBackendNeverGetsHealthy(t *testing.T) {
	strict, err := mcptest.StartBackend(mcptest.BackendOptions{RequireHeader: "x-mcp-api-key"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = strict.Close() })
	v := start(t, vmcp.Options{
		Backends:            []vmcp.Backend{{Name: "strict", URL: strict.URL()}},
		HealthCheckInterval: 300 * time.Millisecond,
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := v.WaitHealthy(ctx, "strict"); err == nil || !strings.Contains(err.Error(), "strict") {
		t.Errorf("WaitHealthy: %v, want an error that names the backend", err)
	}
	health, err := v.BackendHealth(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	got := health["strict"]
	if got.Status != "unauthenticated" && got.Status != "unhealthy" || got.LastErrorCategory != "authentication_failed" {
		t.Errorf("vMCP says %+v, want a failed authentication", got)
	}
}

func TestBadConfigurationIsShown(t *testing.T) {
	_, err := vmcp.Start(limited(t), vmcp.Options{
		Bin: binary(t), Dir: t.TempDir(), ExtraYAML: "noSuchSetting: true\n",
		Backends: []vmcp.Backend{{Name: "a", URL: "http://127.0.0.1:1/mcp"}},
	})
	if err == nil || !strings.Contains(err.Error(), "noSuchSetting") {
		t.Errorf("Start: %v, want vMCP's own words about the setting", err)
	}
}
