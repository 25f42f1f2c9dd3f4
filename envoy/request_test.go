package envoy_test

import (
	"crypto/tls"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/metadata"

	"bellhop/envoy"
)

const servedPolicy = `
version: 1
fanout: search
forward:
  - x-mcp-api-key
  - x-request-id
  - {name: x-token, to: [a], as: authorization, prefix: "Bearer "}
backends:
  a: {clusters: [mcp-a, mcp-a-old]}
  root: {}
`

// TestEnvoyServes sends requests through a real Envoy.
func TestEnvoyServes(t *testing.T) {
	bellhop, address := serve(t, "unix")
	fanout, a, root := newUpstream(t, nil), newUpstream(t, nil), newUpstream(t, nil)
	options := start(t, load(t, servedPolicy), envoy.BootstrapOptions{
		Fanout:        fanout.URL,
		Backends:      []string{"a=" + a.URL + "/mcp", "root=" + root.URL},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}},
	})
	ingress, egress := "http://"+options.Ingress, "http://"+options.Egress

	t.Run("ingress tells its role and shows only the policy's headers", func(t *testing.T) {
		bellhop.tell(set())
		get(
			t, ingress+"/mcp", "x-mcp-api-key", "k", "x-other", "o", "baggage", "b=1", "bellhop-role",
			"egress", "bellhop-backend", "a",
		)
		asked := bellhop.last(t)
		wantMetadata(t, asked.metadata, map[string]string{"bellhop-role": "ingress", "bellhop-fanout": "search"})
		if diff := cmp.Diff(map[string]string{":method": "GET", "x-mcp-api-key": "k", "baggage": "b=1"},
			asked.headers); diff != "" {
			t.Errorf("headers shown (-want +got):\n%s", diff)
		}
	})
	t.Run("egress tells its role and the backend and shows only the policy's headers", func(t *testing.T) {
		bellhop.tell(set())
		get(
			t, egress+"/a/mcp", "x-bellhop-ticket", "t", "authorization", "z", "x-other", "o", "mcp-method",
			"ping", "bellhop-backend", "root",
		)
		asked := bellhop.last(t)
		wantMetadata(
			t, asked.metadata,
			map[string]string{
				"bellhop-role": "egress", "bellhop-fanout": "search", "bellhop-backend": "a", "bellhop-cluster": "mcp-a",
			},
		)
		if diff := cmp.Diff(map[string]string{
			"x-bellhop-ticket": "t", "authorization": "z", "x-forwarded-proto": "http", // which Envoy itself adds
		}, asked.headers); diff != "" {
			t.Errorf("headers shown (-want +got):\n%s", diff)
		}
	})
	t.Run("the cluster's name agrees with the policy", func(t *testing.T) {
		for path, want := range map[string]string{"/a/mcp": "mcp-a", "/root": "backend_root"} {
			bellhop.tell(set())
			get(t, egress+path)
			if got := bellhop.last(t).cluster; got != want {
				t.Errorf("%s: xds.cluster_name = %q, want %q", path, got, want)
			}
		}
	})
	t.Run("ingress keeps path, query and host", func(t *testing.T) {
		for _, path := range []string{"/mcp?x=1&y=%20", "/", "//x", "/a%2Fb/..;/c?"} {
			get(t, ingress+path)
			wantRequest(t, fanout.take(), options.Ingress, path)
		}
	})
	t.Run("egress strips the backend's name", func(t *testing.T) {
		for _, test := range []struct {
			server   *upstream
			in, want string
		}{
			{a, "/a/mcp", "/mcp"},
			{a, "/a/mcp?x=1", "/mcp?x=1"},
			{a, "/a/mcp?x=/a/%2F", "/mcp?x=/a/%2F"},
			{a, "/a/mcp/a/mcp", "/mcp/a/mcp"},
			{a, "/a/mcp/x%20y", "/mcp/x%20y"},
			{root, "/root", "/"},
			{root, "/root?x=1", "/?x=1"},
			{root, "/root/", "/"},
			{root, "/root/x?y", "/x?y"},
		} {
			get(t, egress+test.in)
			wantRequest(t, test.server.take(), test.server.host(), test.want)
		}
	})
	t.Run("a path of no backend is 404 and reaches no backend", func(t *testing.T) {
		bellhop.tell(set())
		for _, path := range []string{"/", "/a", "/a?x=/", "/ab/mcp", "/A/mcp", "/rootx", "/mcp", "/a/a/mcp"} {
			got := get(t, egress+path, "x-bellhop-ticket", "t")
			if got.status != http.StatusNotFound || !strings.Contains(got.body, "/NAME") {
				t.Errorf("%s: %d %q, want 404 that names the fault", path, got.status, got.body)
			}
		}
		if got := bellhop.count(); got != 0 {
			t.Errorf("the processor was asked %d times, want never", got)
		}
		if a.take() != nil || root.take() != nil {
			t.Error("a backend was reached")
		}
	})
	t.Run("nothing is added on the way to a backend", func(t *testing.T) {
		bellhop.tell(set())
		response := get(t, egress+"/a/mcp", "x-own", "1", "x-forwarded-for", "192.0.2.1")
		want := http.Header{"User-Agent": {"test"}, "X-Own": {"1"}}
		if diff := cmp.Diff(want, withoutConnection(a.take().Header)); diff != "" {
			t.Errorf("headers at the backend (-want +got):\n%s", diff)
		}
		if got := names(response.header); !slices.Equal(got, []string{"Content-Length", "Content-Type", "Date", "Server"}) ||
			response.header.Get("Server") != "upstream" {
			t.Errorf("headers of the response: %v", response.header)
		}
	})
	t.Run("a client's request ID stays unchanged, and none is generated", func(t *testing.T) {
		for _, sent := range []string{"", "of-the-client"} {
			bellhop.tell(set())
			var pairs []string
			if sent != "" {
				pairs = []string{"x-request-id", sent}
			}
			get(t, ingress+"/mcp", pairs...)
			shown, present := bellhop.last(t).headers["x-request-id"]
			if shown != sent || present != (sent != "") {
				t.Errorf("x-request-id %q: shown as %q", sent, shown)
			}
			if got := fanout.take().Header.Get("x-request-id"); got != sent {
				t.Errorf("x-request-id %q: the fan-out got %q", sent, got)
			}
		}
	})
	t.Run("a mutation within the policy is applied, another refused", func(t *testing.T) {
		bellhop.tell(set("authorization", "Bearer k", "x-evil", "1", ":path", "/evil", "host", "evil"))
		if got := get(t, egress+"/a/mcp"); got.status != http.StatusOK {
			t.Fatalf("status %d", got.status)
		}
		request := a.take()
		wantRequest(t, request, a.host(), "/mcp")
		if got := request.Header; got.Get("Authorization") != "Bearer k" || got.Get("X-Evil") != "" {
			t.Errorf("headers at the backend: %v", got)
		}
	})
	t.Run("an error of Bellhop's keeps its content type", func(t *testing.T) {
		for _, url := range []string{ingress + "/mcp", egress + "/a/mcp"} {
			bellhop.tell(&extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_ImmediateResponse{
				ImmediateResponse: &extprocv3.ImmediateResponse{
					Status: &typev3.HttpStatus{
						Code: typev3.StatusCode_BadRequest,
					}, Headers: mutation("content-type", "application/json"), Body: []byte(`{"jsonrpc":"2.0"}`),
				},
			}})
			got := get(t, url)
			if got.status != http.StatusBadRequest || got.header.Get("Content-Type") != "application/json" ||
				got.body != `{"jsonrpc":"2.0"}` {
				t.Errorf("%s: %d %v %q", url, got.status, got.header, got.body)
			}
		}
	})
}

func wantMetadata(t *testing.T, got metadata.MD, want map[string]string) {
	t.Helper()
	ours := map[string]string{}
	for key, values := range got {
		if strings.HasPrefix(key, "bellhop-") {
			ours[key] = strings.Join(values, ", ")
		}
	}
	if diff := cmp.Diff(want, ours); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
}

func wantRequest(t *testing.T, got *http.Request, host, target string) {
	t.Helper()
	if got == nil {
		t.Fatalf("no request arrived, want %s", target)
	}
	if got.Host != host || got.RequestURI != target {
		t.Errorf("got %s with Host %s, want %s with Host %s", got.RequestURI, got.Host, target, host)
	}
}

func withoutConnection(header http.Header) http.Header {
	header = header.Clone()
	header.Del("Connection")
	return header
}

func names(header http.Header) []string { return slices.Sorted(maps.Keys(withoutConnection(header))) }

func TestEnvoyWithoutBellhop(t *testing.T) {
	for name, test := range map[string]struct {
		failOpen bool
		want     int
	}{
		"fails closed": {false, http.StatusServiceUnavailable},
		"fail-open":    {true, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			server := newUpstream(t, nil)
			options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
				Fanout: server.URL, Backends: []string{"a=" + server.URL},
				FilterOptions: envoy.FilterOptions{Bellhop: []string{"unix:///nonexistent/bellhop.sock"}, FailOpen: test.failOpen},
			})
			for _, url := range []string{"http://" + options.Ingress + "/mcp", "http://" + options.Egress + "/a/mcp"} {
				if got := get(t, url); got.status != test.want {
					t.Errorf("%s: status %d, want %d", url, got.status, test.want)
				}
				if reached := server.take() != nil; reached != test.failOpen {
					t.Errorf("%s: server reached: %v", url, reached)
				}
			}
		})
	}
}

func TestEnvoyVerifiesServers(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	_, address := serve(t, "unix")
	var asked atomic.Value // the server name in the last hello
	server := func(certificate tls.Certificate, most uint16, protocols ...string) *upstream {
		return newUpstream(t, &tls.Config{
			MinVersion: tls.VersionTLS12, MaxVersion: most, NextProtos: protocols, Certificates: []tls.Certificate{certificate},
			GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				asked.Store(hello.ServerName)
				return nil, nil
			},
		})
	}
	servers := map[string]struct {
		*upstream
		host     string
		ok       bool
		protocol string
		sni      string
	}{
		"ip":    {server(ca.issue(t, "127.0.0.1"), 0, "h2", "http/1.1"), "127.0.0.1", true, "HTTP/2.0", ""},
		"name":  {server(ca.issue(t, "localhost"), 0, "h2", "http/1.1"), "localhost", true, "HTTP/2.0", "localhost"},
		"http1": {server(ca.issue(t, "localhost"), 0, "http/1.1"), "localhost", true, "HTTP/1.1", "localhost"},
		"tls12": {
			server(ca.issue(t, "localhost"), tls.VersionTLS12, "http/1.1"),
			"localhost",
			true,
			"HTTP/1.1",
			"localhost",
		},
		"wildcard": {
			server(ca.issue(t, "*.test.localhost"), 0, "h2"),
			"a.test.localhost",
			true,
			"HTTP/2.0",
			"a.test.localhost",
		},
		"wrong-name": {server(ca.issue(t, "other.example", "127.0.0.1"), 0, "h2"), "localhost", false, "", "localhost"},
		"wrong-ip":   {server(ca.issue(t, "127.0.0.2", "localhost"), 0, "h2"), "127.0.0.1", false, "", ""},
		"ip-as-name": {server(ca.sign(t, []string{"127.0.0.1"}, nil), 0, "h2"), "127.0.0.1", false, "", ""},
		"wrong-ca":   {server(other.issue(t, "localhost"), 0, "h2"), "localhost", false, "", "localhost"},
	}
	var backends []string
	for name, s := range servers {
		backends = append(backends, name+"=https://"+s.host+":"+s.port()+"/mcp")
	}
	options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
		Fanout: "https://localhost:" + servers["name"].port(), Backends: backends,
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}}, TrustedCA: ca.file,
	})
	for name, s := range servers {
		t.Run(name, func(t *testing.T) {
			asked.Store("none")
			got := get(t, "http://"+options.Egress+"/"+name+"/mcp?x=1")
			if got := asked.Load(); got != s.sni {
				t.Errorf("the server was asked for %q, want %q", got, s.sni)
			}
			request := s.take()
			if !s.ok {
				if got.status != http.StatusServiceUnavailable || request != nil {
					t.Errorf("status %d, request %v; want 503 and no request", got.status, request)
				}
				return
			}
			wantRequest(t, request, s.host+":"+s.port(), "/mcp?x=1")
			if got.status != http.StatusOK || request.Proto != s.protocol {
				t.Errorf("status %d over %s, want 200 over %s", got.status, request.Proto, s.protocol)
			}
		})
	}
	t.Run("fan-out", func(t *testing.T) {
		get(t, "http://"+options.Ingress+"/mcp")
		wantRequest(t, servers["name"].take(), "localhost:"+servers["name"].port(), "/mcp")
	})
}

// A server reads :scheme as the scheme of its own URLs. Go does not show it to a handler, so this one reads frames.
func TestEnvoySendsTheScheme(t *testing.T) {
	ca := newAuthority(t)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{ca.issue(t, "127.0.0.1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	scheme := make(chan string, 1)
	go func() {
		defer close(scheme)
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = connection.Close() }()
		got, err := firstScheme(connection)
		if err != nil {
			t.Error(err)
		}
		scheme <- got
	}()
	_, address := serve(t, "unix")
	options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
		Fanout: "http://localhost:1", Backends: []string{"a=https://" + listener.Addr().String()},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{address}}, TrustedCA: ca.file,
	})
	get(t, "http://"+options.Egress+"/a/mcp")
	if got := <-scheme; got != "https" {
		t.Errorf(":scheme = %q, want https", got)
	}
}

// firstScheme reads the first request of an HTTP/2 connection and answers nothing.
func firstScheme(connection io.ReadWriter) (string, error) {
	if _, err := io.ReadFull(connection, make([]byte, len(http2.ClientPreface))); err != nil {
		return "", err
	}
	framer := http2.NewFramer(connection, connection)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		return "", err
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "", err
		}
		if headers, ok := frame.(*http2.MetaHeadersFrame); ok {
			return headers.PseudoValue("scheme"), nil
		}
	}
}

func TestEnvoyAndBellhopKnowEachOther(t *testing.T) {
	ca := newAuthority(t)
	for name, test := range map[string]struct {
		host string
		want int
	}{
		"right name": {"127.0.0.1", http.StatusOK},
		"wrong name": {"bellhop.example", http.StatusServiceUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := serve(t, "tcp", mutualTLS(ca, ca.issue(t, test.host)))
			cert, key := files(t, ca.issue(t, "envoy"))
			server := newUpstream(t, nil)
			options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
				Fanout: server.URL, Backends: []string{"a=" + server.URL},
				FilterOptions: envoy.FilterOptions{
					Bellhop:     []string{address},
					BellhopCA:   ca.file,
					BellhopCert: cert,
					BellhopKey:  key,
				},
			})
			if got := get(t, "http://"+options.Ingress+"/mcp"); got.status != test.want {
				t.Errorf("status %d, want %d", got.status, test.want)
			}
		})
	}
}

// One of two Bellhops never runs: no request fails.
func TestEnvoyUsesTheOtherBellhop(t *testing.T) {
	_, address := serve(t, "unix")
	server := newUpstream(t, nil)
	options := start(t, load(t, openPolicy), envoy.BootstrapOptions{
		Fanout: server.URL, Backends: []string{"a=" + server.URL},
		FilterOptions: envoy.FilterOptions{Bellhop: []string{"unix:///nonexistent/bellhop.sock", address}},
	})
	for range 50 {
		if got := get(t, "http://"+options.Ingress+"/mcp"); got.status != http.StatusOK {
			t.Fatalf("status %d", got.status)
		}
	}
}
