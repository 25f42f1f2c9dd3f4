package envoy_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"bellhop/envoy"
	"bellhop/policy"
	"bellhop/test/envoytest"
	"bellhop/test/process"
	"bellhop/test/tools"
)

// envoyBinary is the path of the pinned Envoy. Without it the test fails and says how to install it.
func envoyBinary(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Envoy; run make test")
	}
	path, err := tools.Path(t.Context(), "envoy")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// freeAddresses are addresses without a listener: for the ingress, the egress and Envoy's admin page.
func freeAddresses(t *testing.T) []string {
	t.Helper()
	const count = 3
	ports, err := process.FreePorts(count)
	if err != nil {
		t.Fatal(err)
	}
	all := make([]string, count)
	for i, port := range ports {
		all[i] = "127.0.0.1:" + strconv.Itoa(port)
	}
	return all
}

// start runs Envoy on the configuration that the options give; ingress, egress and admin are filled in.
func start(t *testing.T, p *policy.Policy, options envoy.BootstrapOptions) envoy.BootstrapOptions {
	t.Helper()
	_, options = startEnvoy(t, p, options)
	return options
}

// startEnvoy is start for a test that looks at Envoy itself.
func startEnvoy(t *testing.T, p *policy.Policy, options envoy.BootstrapOptions) (
	*envoytest.Envoy, envoy.BootstrapOptions,
) {
	t.Helper()
	binary := envoyBinary(t)
	free := freeAddresses(t)
	options.Ingress, options.Egress, options.Admin = free[0], free[1], free[2]
	config, err := envoy.Bootstrap(p, options)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, binary, file, options.Admin), options
}

// run runs Envoy on a file until the test ends, and wants it to say nothing.
func run(t *testing.T, binary, file, admin string) *envoytest.Envoy {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	running, err := envoytest.Start(ctx, envoytest.Options{Path: binary, Config: file, Admin: admin})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		running.Kill()
		<-running.Done()
		if t.Failed() {
			t.Logf("Envoy logged:\n%s", running.Output())
		}
	})
	if warned := running.Output(); warned != "" {
		t.Errorf("Envoy warned at its start:\n%s", warned)
	}
	return running
}

// asked is one request as the processor sees it.
type asked struct {
	metadata metadata.MD
	headers  map[string]string
	cluster  string
}

// processor is an ext_proc server that records messages and gives the configured answers.
type processor struct {
	extprocv3.UnimplementedExternalProcessorServer
	mu     sync.Mutex
	seen   []asked
	answer *extprocv3.ProcessingResponse
}

// Process answers the one message of a stream.
func (p *processor) Process(
	stream grpc.BidiStreamingServer[extprocv3.ProcessingRequest, extprocv3.ProcessingResponse],
) error {
	request, err := stream.Recv()
	if err != nil {
		return err
	}
	one := asked{headers: map[string]string{}}
	one.metadata, _ = metadata.FromIncomingContext(stream.Context())
	for _, header := range request.GetRequestHeaders().GetHeaders().GetHeaders() {
		one.headers[header.GetKey()] = string(header.GetRawValue())
	}
	for _, attributes := range request.GetAttributes() {
		one.cluster = attributes.GetFields()["xds.cluster_name"].GetStringValue()
	}
	p.mu.Lock()
	p.seen = append(p.seen, one)
	answer := p.answer
	p.mu.Unlock()
	return stream.Send(answer)
}

// tell sets the answer to the next requests: a header mutation, or an end.
func (p *processor) tell(answer *extprocv3.ProcessingResponse) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer, p.seen = answer, nil
}

// last is the only request since the last tell.
func (p *processor) last(t *testing.T) asked {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.seen) != 1 {
		t.Fatalf("the processor was asked %d times, want once", len(p.seen))
	}
	return p.seen[0]
}

func (p *processor) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.seen)
}

// set is an answer that sets headers.
func set(pairs ...string) *extprocv3.ProcessingResponse {
	return &extprocv3.ProcessingResponse{Response: &extprocv3.ProcessingResponse_RequestHeaders{
		RequestHeaders: &extprocv3.HeadersResponse{Response: &extprocv3.CommonResponse{HeaderMutation: mutation(pairs...)}},
	}}
}

func mutation(pairs ...string) *extprocv3.HeaderMutation {
	m := &extprocv3.HeaderMutation{}
	for i := 0; i < len(pairs); i += 2 {
		m.SetHeaders = append(m.SetHeaders, &corev3.HeaderValueOption{
			Header: &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])},
		})
	}
	return m
}

// serve runs a processor and gives its address as a --bellhop.
func serve(t *testing.T, network string, options ...grpc.ServerOption) (*processor, string) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "bellhop") //nolint:usetesting // the path of t.TempDir may be too long for a socket
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		address = filepath.Join(dir, "s")
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	p := &processor{answer: set()}
	server := grpc.NewServer(options...)
	extprocv3.RegisterExternalProcessorServer(server, p)
	healthv1.RegisterHealthServer(server, health.NewServer())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	if network == "unix" {
		return p, "unix://" + address
	}
	return p, listener.Addr().String()
}

// upstream is an HTTP server that records the last request.
type upstream struct {
	*httptest.Server
	mu   sync.Mutex
	last *http.Request
}

func newUpstream(t *testing.T, config *tls.Config) *upstream {
	t.Helper()
	u := &upstream{}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.last = r
		u.mu.Unlock()
		w.Header().Set("Server", "upstream")
		_, _ = io.WriteString(w, "served")
	}))
	u.Config.ErrorLog = log.New(io.Discard, "", 0) // refused handshakes are what some tests want
	if config == nil {
		u.Start()
	} else {
		u.EnableHTTP2, u.TLS = true, config
		u.StartTLS()
	}
	t.Cleanup(u.Close)
	return u
}

// take returns the last request, or nil, and forgets it.
func (u *upstream) take() *http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	last := u.last
	u.last = nil
	return last
}

func (u *upstream) host() string { return u.Listener.Addr().String() }

func (u *upstream) port() string {
	_, port, _ := net.SplitHostPort(u.host())
	return port
}

type answer struct {
	status int
	body   string
	header http.Header
}

// get sends a request with the given header lines, and none that Go adds.
func get(t *testing.T, url string, pairs ...string) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User-Agent", "test")
	for i := 0; i < len(pairs); i += 2 {
		request.Header.Add(pairs[i], pairs[i+1])
	}
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		Timeout:   20 * time.Second,
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, string(body), response.Header}
}

// authority is a CA for one test.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour),
		IsCA:     true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = writePEM(t, "CERTIFICATE", der)
	return a
}

// issue makes a certificate for names and IP addresses.
func (a *authority) issue(t *testing.T, hosts ...string) tls.Certificate {
	t.Helper()
	var names []string
	var ips []net.IP
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			ips = append(ips, ip)
		} else {
			names = append(names, host)
		}
	}
	return a.sign(t, names, ips)
}

func (a *authority) sign(t *testing.T, names []string, ips []net.IP) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    names, IPAddresses: ips,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// files writes a certificate and its key.
func files(t *testing.T, certificate tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return writePEM(t, "CERTIFICATE", certificate.Certificate[0]), writePEM(t, "PRIVATE KEY", der)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// mutualTLS lets only clients of the same CA in.
func mutualTLS(a *authority, certificate tls.Certificate) grpc.ServerOption {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{certificate},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}))
}
