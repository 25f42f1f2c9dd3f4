package extproc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	accesslogservicev3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	"bellhop/policy"
	"bellhop/processor"
	"bellhop/processor/extproc"
	"bellhop/processor/session"
	"bellhop/processor/store/memory"
	"bellhop/processor/ticket"
	"bellhop/test/envoytest"
)

// storeTimeout is what one message may wait for the store in these tests.
const storeTimeout = 250 * time.Millisecond

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a processor behind a real gRPC server, without a network.
type bench struct {
	client    extprocv3.ExternalProcessorClient
	logs      accesslogservicev3.AccessLogServiceClient
	registry  *prometheus.Registry
	sessions  session.Store
	processor *processor.Processor
	service   *extproc.Service
	log       *safeBuffer
	keys      ticket.Keys
	own       map[string][]policy.Header // discovery identities of the fan-out
}

type setup struct {
	policy       string
	others       []string // policies of further fan-outs
	store        ticket.Store
	sessions     session.Store
	supersession ticket.Supersession
	identities   map[string][]policy.Header
	keys         ticket.Keys
	failOpen     bool // where the store fails
	bodyTimeout  time.Duration
}

func start(t testing.TB, s setup) *bench {
	t.Helper()
	all := []processor.Rules{{Policy: loadPolicy(t, s.policy), Identities: s.identities}}
	for _, other := range s.others {
		all = append(all, processor.Rules{Policy: loadPolicy(t, other)})
	}
	kept := memory.New(4 << 20)
	t.Cleanup(kept.Close)
	if s.store == nil {
		s.store = kept
	}
	if s.sessions == nil {
		s.sessions = kept
	}
	if s.supersession == nil {
		s.supersession = kept
	}
	b := &bench{own: s.identities, sessions: kept, registry: prometheus.NewRegistry(), log: &safeBuffer{}}
	server := grpc.NewServer(extproc.Options()...)
	if s.keys == nil {
		s.keys = ticket.RandomKeys()
	}
	b.keys = s.keys
	b.processor = processor.New(processor.Settings{
		Store: s.store, Sessions: s.sessions, Supersession: s.supersession, FailOpen: s.failOpen, StoreTimeout: storeTimeout,
		Single: len(s.others) == 0, Metrics: b.registry,
		Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, s.keys, all...)
	b.service = extproc.New(b.processor, extproc.Settings{BodyTimeout: s.bodyTimeout})
	b.service.Register(server)
	listener := bufconn.Listen(1 << 20)
	go func() { _ = server.Serve(listener) }()
	connection, err := grpc.NewClient("passthrough:bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close(); server.Stop() })
	b.client = extprocv3.NewExternalProcessorClient(connection)
	b.logs = accesslogservicev3.NewAccessLogServiceClient(connection)
	return b
}

func loadPolicy(t testing.TB, text string) *policy.Policy {
	t.Helper()
	loaded, findings := policy.Load("policy.yaml", []byte(text))
	if loaded == nil {
		t.Fatal(findings.Error())
	}
	return loaded
}

// apply takes other rules, and the identities that there are already.
func (b *bench) apply(t *testing.T, texts ...string) {
	t.Helper()
	var all []processor.Rules
	for _, text := range texts {
		all = append(all, processor.Rules{Policy: loadPolicy(t, text), Identities: b.own})
	}
	b.processor.Apply(b.keys, all...)
}

// stream opens a stream as a filter with that metadata would.
func (b *bench) stream(t testing.TB, pairs ...string) extprocv3.ExternalProcessor_ProcessClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), pairs...), 10*time.Second)
	t.Cleanup(cancel)
	stream, err := b.client.Process(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// ask sends one request's headers on a stream of its own, as Envoy does, and returns the answer. Where that asks for
// the response, one of status 200 follows.
func (b *bench) ask(t testing.TB, message *extprocv3.ProcessingRequest, pairs ...string) *extprocv3.ProcessingResponse {
	t.Helper()
	return b.exchange(t, envoytest.Exchange{Metadata: pairs, Request: message, Response: []string{":status: 200"}}).Request
}

// exchange makes one exchange on a stream of its own, as Envoy does.
func (b *bench) exchange(t testing.TB, x envoytest.Exchange) envoytest.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	out, err := envoytest.Do(ctx, b.client, x)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// post sends a request with a body, which the filter holds, and returns the lines that go on, or the error in their
// place.
func (b *bench) post(
	t testing.TB, body string, lines []string, pairs ...string,
) (request []string, refused *extprocv3.ImmediateResponse) {
	t.Helper()
	message := envoytest.Held(requestHeaders(lines...))
	if body == "" {
		message = envoytest.Bodiless(message)
	}
	out := b.exchange(t, envoytest.Exchange{Metadata: pairs, Request: message, Body: []byte(body)})
	for _, answer := range []*extprocv3.ProcessingResponse{out.Request, out.Body} {
		if answer == nil {
			continue
		}
		if refused := answer.GetImmediateResponse(); refused != nil {
			return nil, refused
		}
		lines = apply(t, lines, answer)
	}
	return lines, nil
}

// ingress sends a client's request and returns what the fan-out gets, and the ticket.
func (b *bench) ingress(t testing.TB, lines ...string) (request []string, ticket string) {
	t.Helper()
	got := apply(t, lines, b.ask(t, requestHeaders(lines...), "bellhop-role", "ingress"))
	for _, line := range got {
		if value, ok := strings.CutPrefix(line, "x-bellhop-ticket: "); ok {
			ticket = value
		}
	}
	return got, ticket
}

// egress sends a request of the fan-out, without a body, and returns what the backend gets.
func (b *bench) egress(t testing.TB, backend string, lines ...string) []string {
	t.Helper()
	message := envoytest.Bodiless(requestHeaders(lines...))
	return apply(t, lines, b.ask(t, message, "bellhop-role", "egress", "bellhop-backend", backend))
}

// requestHeaders is a request's headers as the first message of a stream.
func requestHeaders(lines ...string) *extprocv3.ProcessingRequest {
	return envoytest.RequestHeaders(lines...)
}

func withCluster(message *extprocv3.ProcessingRequest, filter, cluster string) *extprocv3.ProcessingRequest {
	return envoytest.WithCluster(message, filter, cluster)
}

// apply does with an answer what Envoy does. What Envoy would refuse fails the test.
func apply(t testing.TB, lines []string, answer *extprocv3.ProcessingResponse) []string {
	t.Helper()
	result, err := envoytest.Apply(lines, answer)
	if err != nil {
		t.Fatalf("Envoy would refuse the answer: %v", err)
	}
	return result
}

// eof reads the end of a stream that the server has ended well.
func eof(t testing.TB, stream extprocv3.ExternalProcessor_ProcessClient) {
	t.Helper()
	if answer, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("want the end of the stream, got %v, %v", answer, err)
	}
}

type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
