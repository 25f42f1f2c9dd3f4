package stack_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bellhop/test/mcptest"
	"bellhop/test/stack"
	"bellhop/test/tools"

	"go.uber.org/goleak"
)

// found are the programs that all tests run: TestMain finds them, and no test changes them.
var found stack.Options

func TestMain(m *testing.M) {
	flag.Parse()
	folder, err := os.MkdirTemp("", "bellhop-stack")
	if err == nil && !testing.Short() {
		err = findPrograms(folder)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(exitCode int) {
		_ = os.RemoveAll(folder)
		os.Exit(exitCode)
	}))
}

func findPrograms(folder string) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	if found.Bellhop, err = tools.BuildBellhop(ctx, folder, false); err != nil {
		return err
	}
	if found.Envoy, err = tools.Path(ctx, "envoy"); err != nil {
		return err
	}
	found.VMCP, err = tools.Path(ctx, "vmcp")
	return err
}

const (
	key     = "k-3fa1"
	minimal = "version: 1\nforward: [x-mcp-api-key]\n"
)

// options run the minimal policy in front of one backend.
func options(t *testing.T) stack.Options {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Envoy and vMCP")
	}
	o := found
	o.Dir = t.TempDir()
	o.Policy = minimal
	o.Backends = []stack.Backend{{Name: "a", URL: backend(t).URL()}}
	return o
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, options stack.Options) *stack.Stack {
	t.Helper()
	s, err := stack.Start(limited(t), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		for name, p := range s.Processes() {
			select {
			case <-p.Done():
			default:
				t.Errorf("%s still runs after Stop", name)
			}
		}
		if t.Failed() {
			t.Logf("Bellhop:\n%s\nEnvoy:\n%s\nvMCP:\n%s", s.BellhopLog(), s.EnvoyLog(), s.VMCPLog())
		}
	})
	return s
}

func backend(t *testing.T) *mcptest.Backend {
	t.Helper()
	b, err := mcptest.StartBackend(mcptest.BackendOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func connect(t *testing.T, s *stack.Stack) *mcptest.Client {
	t.Helper()
	client, err := mcptest.Connect(limited(t), mcptest.ClientOptions{
		URL:    s.Endpoint(),
		Header: func() http.Header { return http.Header{"X-Mcp-Api-Key": {key}} },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// arrives calls the backend's tool and checks that it got the client's key.
func arrives(t *testing.T, client *mcptest.Client) {
	t.Helper()
	header, err := client.WhoAmI(limited(t), "a_whoami")
	if err != nil {
		t.Fatal(err)
	}
	if got := header.Get("x-mcp-api-key"); got != key {
		t.Errorf("the backend got x-mcp-api-key %q, want the client's", got)
	}
	if got := header.Get("x-bellhop-ticket"); got != "" {
		t.Errorf("the backend got the ticket %q", got)
	}
}

func TestKeyArrives(t *testing.T) {
	s := start(t, options(t))
	if err := s.WaitHealthy(limited(t)); err != nil {
		t.Fatal(err)
	}
	client := connect(t, s)
	arrives(t, client)

	t.Run("the fan-out saw a ticket and no key", func(t *testing.T) {
		requests := s.FanoutTap().Requests()
		if len(requests) == 0 {
			t.Fatal("the tap saw no request")
		}
		for _, request := range requests {
			if len(request.Header["X-Mcp-Api-Key"]) != 0 || len(request.Header["X-Bellhop-Ticket"]) != 1 {
				t.Errorf("%s %s came with %v", request.Method, request.RPCMethod, request.Header)
			}
		}
	})
	t.Run("all can be looked at", func(t *testing.T) {
		metrics, err := s.Metrics(limited(t))
		if err != nil || !strings.Contains(metrics, "bellhop_requests_total") {
			t.Errorf("metrics %q, error %v", metrics, err)
		}
		stats, err := s.EnvoyStats(limited(t))
		if err != nil || stats["server.live"] != 1 {
			t.Errorf("Envoy's server.live = %d, error %v", stats["server.live"], err)
		}
		if err := s.WriteLogs(); err != nil {
			t.Error(err)
		}
		if log, err := os.ReadFile(filepath.Join(s.Dir(), "bellhop.log")); err != nil ||
			!bytes.Contains(log, []byte("serving")) {
			t.Errorf("Bellhop's log file: %q, error %v", log, err)
		}
	})
	t.Run("Bellhop comes back", func(t *testing.T) {
		s.KillBellhop()
		if _, err := client.WhoAmI(limited(t), "a_whoami"); err == nil {
			t.Error("a call passed without Bellhop")
		}
		if err := s.StartBellhop(limited(t)); err != nil {
			t.Fatal(err)
		}
		arrives(t, reconnect(t, s))
		if got := strings.Count(s.BellhopLog(), "msg=serving"); got != 2 {
			t.Errorf("the log shows %d starts of Bellhop, want both", got)
		}
	})
}

// reconnect waits until Envoy has noticed that Bellhop is back.
func reconnect(t *testing.T, s *stack.Stack) *mcptest.Client {
	t.Helper()
	for ctx := limited(t); ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		response, err := http.Post(s.Endpoint(), "application/json", strings.NewReader("{}"))
		if err != nil {
			continue
		}
		_ = response.Body.Close()
		if response.StatusCode < http.StatusInternalServerError {
			break
		}
	}
	http.DefaultClient.CloseIdleConnections()
	return connect(t, s)
}

// Some folders of tests have long names. A Unix socket cannot follow them.
func TestSocketPathStaysShort(t *testing.T) {
	o := options(t)
	o.Dir = filepath.Join(o.Dir, strings.Repeat("long", 25))
	if err := os.Mkdir(o.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, o)
	if err := s.WaitHealthy(limited(t), "a"); err != nil {
		t.Fatal(err)
	}
}

func TestStacksRunSideBySide(t *testing.T) {
	for _, s := range []*stack.Stack{start(t, options(t)), start(t, options(t))} {
		if err := s.WaitHealthy(limited(t)); err != nil {
			t.Fatal(err)
		}
		arrives(t, connect(t, s))
	}
}

// vMCP reaches a backend below its name, and the backend sees nothing of that.
func TestBackendKeepsItsPath(t *testing.T) {
	o := options(t)
	tap, err := mcptest.StartTap(o.Backends[0].URL)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tap.Close() }()
	o.Backends[0].URL = tap.URL() + "/some/where"
	start(t, o)
	for ctx := limited(t); len(tap.Requests()) == 0 && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
	}
	for _, request := range tap.Requests() {
		if request.Path != "/some/where" {
			t.Errorf("the backend was asked for %q, want its own path", request.Path)
		}
	}
	if len(tap.Requests()) == 0 {
		t.Error("the backend was never asked")
	}
}

func TestMistakesAreReported(t *testing.T) {
	cases := map[string]struct {
		change func(*stack.Options)
		want   string
	}{
		"fault in the policy": {func(o *stack.Options) { o.Policy = "version: 1\nforwards: []\n" }, "forwards"},
		"no such program":     {func(o *stack.Options) { o.Envoy = "/no/such/envoy" }, "find Envoy"},
		"file beside the way": {func(o *stack.Options) { o.Files = map[string]string{"../x": ""} }, "../x"},
		"vMCP does not start": {func(o *stack.Options) { o.VMCPYAML = "noSuchSetting: true\n" }, "noSuchSetting"},
		"Envoy does not":      {func(o *stack.Options) { o.EnvoyArgs = []string{"--no-such-flag"} }, "no-such-flag"},
		"Bellhop does not":    {func(o *stack.Options) { o.ServeArgs = []string{"--no-such-flag"} }, "no-such-flag"},
		"no configuration":    {func(o *stack.Options) { o.BootstrapArgs = []string{"--no-such-flag"} }, "no-such-flag"},
		"backend is no URL":   {func(o *stack.Options) { o.Backends[0].URL = "http://[" }, "backend a"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			c.change(&o)
			_, err := stack.Start(limited(t), o)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Start: %v, want an error with %q", err, c.want)
			}
		})
	}
}

// Somebody else may take a port between its choice and its use. Here it is taken
// all the time, so that every attempt fails.
func TestABusyPortIsRetried(t *testing.T) {
	taken := backend(t).Address()
	cases := map[string]struct {
		change func(*stack.Options)
		step   string
	}{
		"by Bellhop": {func(o *stack.Options) { o.ServeArgs = []string{"--admin", taken} }, "starting Bellhop"},
		"by Envoy":   {func(o *stack.Options) { o.BootstrapArgs = []string{"--ingress", taken} }, "starting Envoy"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			tries := 0
			o.Progress = func(step string) {
				if step == c.step {
					tries++
				}
			}
			c.change(&o)
			_, err := stack.Start(limited(t), o)
			if err == nil || !strings.Contains(strings.ToLower(err.Error()), "address already in use") || tries != 3 {
				t.Errorf("Start: %v after %d tries, want the taken port after 3", err, tries)
			}
		})
	}
}

// A program that dies is not taken for one that was stopped.
func TestWaitAndStopReportADeath(t *testing.T) {
	s, err := stack.Start(limited(t), options(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Processes()["Envoy"].Kill()
	if err := s.Wait(limited(t)); err == nil || !strings.Contains(err.Error(), "Envoy") {
		t.Errorf("Wait: %v, want an error that names Envoy", err)
	}
	if err := s.Stop(limited(t)); err == nil || !strings.Contains(err.Error(), "Envoy") {
		t.Errorf("Stop: %v, want an error that names Envoy", err)
	}
}
