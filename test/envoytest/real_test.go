package envoytest_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocfilterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_proc/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"bellhop/test/envoytest"
	"bellhop/test/process"
	"bellhop/test/tools"
)

// scripted is a processor that gives configured answers and records the messages.
type scripted struct {
	extprocv3.UnimplementedExternalProcessorServer
	mu     sync.Mutex
	answer *extprocv3.ProcessingResponse
	asked  []*extprocv3.ProcessingRequest
}

// Process implements the service.
func (s *scripted) Process(stream extprocv3.ExternalProcessor_ProcessServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil //nolint:nilerr // Envoy ends a stream by a reset
		}
		s.mu.Lock()
		s.asked = append(s.asked, request)
		answer := s.answer
		s.mu.Unlock()
		if request.GetResponseHeaders() != nil {
			answer = &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ResponseHeaders{
				ResponseHeaders: &extprocv3.HeadersResponse{},
			}}
		}
		if err := stream.Send(answer); err != nil {
			return nil //nolint:nilerr // as above
		}
	}
}

// take sets the answer to the next request and forgets what was asked before.
func (s *scripted) take(answer *extprocv3.ProcessingResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer, s.asked = answer, nil
}

func (s *scripted) requests() []*extprocv3.ProcessingRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// realEnvoy is a running Envoy between raw HTTP/1.1 connections, so that exact lines are seen, with a scripted
// processor.
type realEnvoy struct {
	*scripted
	address string
	lines   chan []string // of each request that reached the upstream
}

func startReal(t *testing.T) *realEnvoy {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Envoy; run make test")
	}
	binary, err := tools.Path(t.Context(), "envoy")
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "envoytest") //nolint:usetesting // the path of t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	r := &realEnvoy{scripted: &scripted{}, lines: make(chan []string, 1)}
	ports, err := process.FreePorts(2)
	if err != nil {
		t.Fatal(err)
	}
	r.address = fmt.Sprintf("127.0.0.1:%d", ports[0])
	admin := fmt.Sprintf("127.0.0.1:%d", ports[1])
	socket := filepath.Join(folder, "s")
	r.serve(t, socket)
	config := filepath.Join(folder, "envoy.yaml")
	text := fmt.Sprintf(configuration, admin[len("127.0.0.1:"):], ports[0], socket, r.upstream(t))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	running, err := envoytest.Start(ctx, envoytest.Options{Path: binary, Config: config, Admin: admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { running.Kill(); <-running.Done() })
	return r
}

// configuration shows request headers alone, and response headers where a processor asks for them; no other setting
// than the least.
const configuration = `
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: test
          generate_request_id: false
          http_filters:
          - name: processor
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor
              grpc_service: {envoy_grpc: {cluster_name: processor}, initial_metadata: [{key: bellhop-role, value: egress}]}
              processing_mode: {request_header_mode: SEND, response_header_mode: SKIP}
              allow_mode_override: true
              allowed_override_modes: [{response_header_mode: SEND}]
              request_attributes: [xds.cluster_name]
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: upstream}}]}
  clusters:
  - name: processor
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: processor, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: %s}}}}]}]}
  - name: upstream
    load_assignment:
      cluster_name: upstream
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]
`

func (r *realEnvoy) serve(t *testing.T, socket string) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	extprocv3.RegisterExternalProcessorServer(server, r.scripted)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
}

// upstream answers 200 to each request, and hands on its header lines; it returns its port.
func (r *realEnvoy) upstream(t *testing.T) int {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			lines, _ := readHead(bufio.NewReader(connection))
			_, _ = io.WriteString(connection, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
			_ = connection.Close()
			r.lines <- lines
		}
	}()
	address, _ := listener.Addr().(*net.TCPAddr)
	return address.Port
}

// readHead reads a request line or a status line, and the header lines after it.
func readHead(from *bufio.Reader) (lines []string, err error) {
	for {
		line, err := from.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if err != nil || line == "" {
			return lines, err
		}
		lines = append(lines, line)
	}
}

// send sends a request with exactly these lines, and returns the status and the lines that reached the upstream.
func (r *realEnvoy) send(t *testing.T, method string, lines ...string) (status int, reached []string) {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(20 * time.Second))
	head := method + " /mcp HTTP/1.1\r\nhost: test\r\n" + strings.Join(lines, "\r\n") + "\r\n"
	if method == http.MethodPost {
		head += "content-length: 0\r\n"
	}
	if _, err := io.WriteString(connection, head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	answer, err := readHead(bufio.NewReader(connection))
	if err != nil && len(answer) == 0 {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(answer[0], "HTTP/1.1 %d", &status); err != nil {
		t.Fatal(err)
	}
	select {
	case reached = <-r.lines:
	case <-time.After(200 * time.Millisecond):
	}
	return status, reached
}

// own are the lines that a test is about: those of Envoy's own it is not.
func own(lines []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.HasPrefix(line, "x-t") })
}

// set is one operation of a mutation.
func set(name, value string, another bool) *corev3.HeaderValueOption {
	option := &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, RawValue: []byte(value)}}
	if another {
		option.Append = wrapperspb.Bool(true) //nolint:staticcheck // the field that Envoy's ext_proc reads
	}
	return option
}

func answer(remove []string, sets ...*corev3.HeaderValueOption) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
		RequestHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{
			HeaderMutation: &extprocv3.HeaderMutation{RemoveHeaders: remove, SetHeaders: sets},
		}},
	}}
}

func repeat(n int, one *corev3.HeaderValueOption) []*corev3.HeaderValueOption {
	return slices.Repeat([]*corev3.HeaderValueOption{one}, n)
}

func many(n int) []*corev3.HeaderValueOption {
	var all []*corev3.HeaderValueOption
	for i := range n {
		all = append(all, set(fmt.Sprintf("x-t%d", i), "v", false))
	}
	return all
}

// TestApplyDoesWhatEnvoyDoes gives the same answers to the real Envoy and to the one that tests play.
func TestApplyDoesWhatEnvoyDoes(t *testing.T) {
	r := startReal(t)
	client := []string{"x-t: old", "x-t: older", "x-tu: kept"}
	ignored := set("x-t", "new", false)
	ignored.AppendAction = corev3.HeaderValueOption_ADD_IF_ABSENT
	for name, answer := range map[string]*extprocv3.ProcessingResponse{
		"nothing":                    answer(nil),
		"remove":                     answer([]string{"x-t"}),
		"remove in upper case":       answer([]string{"X-T"}),
		"remove an empty name":       answer([]string{""}),
		"overwrite":                  answer(nil, set("x-t", "new", false)),
		"overwrite, append_action":   answer(nil, ignored),
		"add a line":                 answer(nil, set("x-t", "new", true)),
		"overwrite, then add":        answer(nil, set("x-t", "A", false), set("x-t", "B", true)),
		"remove, then add twice":     answer([]string{"x-t"}, set("x-t", "A", true), set("x-t", "B", true)),
		"upper case":                 answer(nil, set("X-T", "new", false)),
		"obs-text and a tab":         answer(nil, set("x-t", "a\tb\xff", false)),
		"a control character":        answer(nil, set("x-t", "a\nb", false)),
		"NUL":                        answer(nil, set("x-t", "a\x00", false)),
		"a name with a space":        answer(nil, set("x t", "v", false)),
		"remove a name with a space": answer([]string{"x t"}),
		"100 operations":             answer(nil, repeat(100, set("x-t", "v", false))...),
		"101 operations":             answer(nil, repeat(101, set("x-t", "v", false))...),
		"101 removes":                answer(slices.Repeat([]string{"x-t"}, 101)),
		"80 headers":                 answer(nil, many(80)...),
		"a value of 40 KiB":          answer(nil, set("x-t", strings.Repeat("v", 40<<10), false)),
		"a value of 70 KiB":          answer(nil, set("x-t", strings.Repeat("v", 70<<10), false)),
	} {
		t.Run(name, func(t *testing.T) {
			r.take(answer)
			status, reached := r.send(t, http.MethodGet, client...)
			want, err := envoytest.Apply(client, answer)
			if err != nil {
				if status != http.StatusInternalServerError || reached != nil {
					t.Errorf("Envoy answers %d, and the upstream got %q; want that it refuses: %v", status, own(reached), err)
				}
				return
			}
			got := own(reached)
			slices.Sort(got)
			slices.Sort(want)
			if status != http.StatusOK || !slices.Equal(got, want) {
				t.Errorf("Envoy makes of it %q with status %d, want %q", got, status, want)
			}
		})
	}
}

// shape is what a message is, whatever it holds.
func shape(m *extprocv3.ProcessingRequest) string {
	kind := strings.TrimPrefix(fmt.Sprintf("%T", m.GetRequest()), "*ext_procv3.ProcessingRequest_")
	var attributes []string
	for key, fields := range m.GetAttributes() {
		for name := range fields.GetFields() {
			attributes = append(attributes, key+"/"+name)
		}
	}
	raw, names := true, true
	headers := slices.Concat(
		m.GetRequestHeaders().GetHeaders().GetHeaders(),
		m.GetResponseHeaders().GetHeaders().GetHeaders(),
	)
	for _, header := range headers {
		raw = raw && header.GetValue() == ""
		names = names && header.GetKey() == strings.ToLower(header.GetKey())
	}
	return fmt.Sprintf(
		"%s, protocol_config %v, body modes %v %v, attributes %v, raw values %v, names in lower case %v", kind,
		m.GetProtocolConfig() != nil, m.GetProtocolConfig().GetRequestBodyMode(),
		m.GetProtocolConfig().GetResponseBodyMode(), attributes, raw, names,
	)
}

// TestMessagesAreThoseOfEnvoy compares the messages that the real Envoy sends with those that tests play.
func TestMessagesAreThoseOfEnvoy(t *testing.T) {
	r := startReal(t)
	plain, asks, other := answer(nil), answer(nil), answer(nil)
	asks.ModeOverride = &extprocfilterv3.ProcessingMode{ResponseHeaderMode: extprocfilterv3.ProcessingMode_SEND}
	other.ModeOverride = &extprocfilterv3.ProcessingMode{
		ResponseHeaderMode: extprocfilterv3.ProcessingMode_SEND, ResponseTrailerMode: extprocfilterv3.ProcessingMode_SKIP,
	}
	request := shape(envoytest.WithCluster(envoytest.RequestHeaders("x-t: v"), envoytest.AttributesKey, "upstream"))
	response := shape(envoytest.ResponseHeaders(":status: 200"))
	for name, test := range map[string]struct {
		method string
		answer *extprocv3.ProcessingResponse
	}{
		"GET": {http.MethodGet, plain}, "POST": {http.MethodPost, plain},
		"asked for the response": {http.MethodPost, asks}, "asked in another way": {http.MethodPost, other},
	} {
		t.Run(name, func(t *testing.T) {
			want := []string{request}
			if envoytest.AsksForResponse(test.answer) {
				want = append(want, response)
			}
			r.take(test.answer)
			if status, _ := r.send(t, test.method, "X-T: v"); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			var got []string
			for _, m := range r.requests() {
				got = append(got, shape(m))
			}
			if !slices.Equal(got, want) {
				t.Errorf("Envoy sends\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}
