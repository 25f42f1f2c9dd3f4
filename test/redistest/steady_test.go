package redistest_test

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"bellhop/policy"
	"bellhop/processor"
	"bellhop/processor/extproc"
	"bellhop/processor/store/redis"
	"bellhop/processor/store/storetest"
	"bellhop/processor/ticket"
	"bellhop/test/envoytest"
)

// bellhop is the service on a store, without a network.
type bellhop struct {
	extprocv3.ExternalProcessorClient
}

func serveProcessor(t *testing.T, s *redis.Store, keys ticket.Keys, text string) bellhop {
	t.Helper()
	loaded, findings := policy.Load("policy.yaml", []byte(text))
	if loaded == nil {
		t.Fatal(findings.Error())
	}
	server, listener := grpc.NewServer(extproc.Options()...), bufconn.Listen(1<<20)
	core := processor.New(processor.Settings{
		Store: s, Sessions: s, Supersession: s, StoreTimeout: time.Second,
		Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	}, keys, processor.Rules{Policy: loaded})
	extproc.New(core, extproc.Settings{}).Register(server)
	go func() { _ = server.Serve(listener) }()
	connection, err := grpc.NewClient("passthrough:bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close(); server.Stop() })
	return bellhop{extprocv3.NewExternalProcessorClient(connection)}
}

// headers sends the headers of one request and returns those that the answer sets, or "refused". The fan-out accepts
// it.
func (b bellhop) headers(t *testing.T, role string, lines ...string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := envoytest.Do(ctx, b, envoytest.Exchange{
		Metadata: []string{
			"bellhop-role",
			role,
		}, Request: envoytest.RequestHeaders(lines...), Response: []string{":status: 200"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if refused := out.Request.GetImmediateResponse(); refused != nil {
		return map[string]string{"refused": refused.GetStatus().GetCode().String()}
	}
	set := map[string]string{}
	for _, option := range out.Request.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
		set[option.GetHeader().GetKey()] = string(option.GetHeader().GetRawValue())
	}
	return set
}

// Invariant 8: a client at work costs the server nothing, through all that a request meets at two Bellhops with three
// keys.
func TestAnActiveClientCausesNoCommand(t *testing.T) {
	for name, program := range programs {
		t.Run(name, func(t *testing.T) {
			server := serve(t, program)
			keys := threeKeys()
			var all []bellhop
			for range 2 {
				s := open(t, redis.Options{Address: server.Address(), Keys: keys})
				all = append(
					all,
					serveProcessor(t, s, keys, "version: 1\nforward:\n  - {name: x-mcp-api-key, keep: session}\n  - x-tenant-id\n"),
				)
			}
			call := func(i int, lines ...string) { // ingress at one, egress at the other and at the same
				t.Helper()
				lines = append(lines, "authorization: user-1", "mcp-session-id: S", "x-tenant-id: t")
				ticket := all[i%2].headers(t, "ingress", lines...)["x-bellhop-ticket"]
				for _, b := range all {
					if got := b.headers(t, "egress", "x-bellhop-ticket: "+ticket); got["x-mcp-api-key"] != "k" ||
						got["x-tenant-id"] != "t" {
						t.Fatalf("call %d: the backend gets %v", i, got)
					}
				}
			}
			call(0, "x-mcp-api-key: k")
			for i := range 10 { // warm
				call(i)
				time.Sleep(30 * time.Millisecond)
			}
			before := calls(t, server.Address())
			for i := range 500 {
				call(i)
			}
			if after := calls(t, server.Address()); !maps.Equal(before, after) {
				t.Errorf("500 calls have asked the server:\nbefore %v\nafter  %v", before, after)
			}
		})
	}
}

// A capture in use at four Bellhops is written once when it is new, and once each half of its lifetime by all of them.
func TestACaptureIsWrittenOnceAHalfLifetime(t *testing.T) {
	server := serve(t, programs["redis"])
	keys := threeKeys()
	var all []*redis.Store
	for range 4 {
		all = append(all, open(t, redis.Options{Address: server.Address(), Keys: keys}))
	}
	const lifetime = 4 * time.Second
	if err := all[0].Put(limit(t), "T", storetest.Capture("v"), ticket.Life{Idle: lifetime}); err != nil {
		t.Fatal(err)
	}
	use := func(until time.Duration) {
		for end := time.Now().Add(until); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			for _, s := range all {
				if got := value(s, "T"); got != "v" {
					t.Errorf("got %s", got)
				}
			}
		}
	}
	use(lifetime / 4)
	if got := calls(t, server.Address())["set"]; got != "calls=1" {
		t.Errorf("%s of set for a new capture, want 1", got)
	}
	use(lifetime) // one and a quarter of it have passed: two halves
	if got := calls(t, server.Address())["set"]; got != "calls=3" {
		t.Errorf("%s of set, want 3", got)
	}
}
