package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"bellhop/policy"
	"bellhop/processor/server"
	"bellhop/processor/ticket"
)

func TestMain(m *testing.M) {
	// Certificates are read again for as long as the process lives.
	goleak.VerifyTestMain(
		m,
		goleak.IgnoreTopFunction("google.golang.org/grpc/credentials/tls/certprovider/pemfile.(*watcher).run"),
	)
}

// config is a working configuration in a folder of its own.
func config(t *testing.T) server.Config {
	t.Helper()
	folder := t.TempDir()
	return server.Config{
		Policies: []string{write(t, folder, "policy.yaml", "version: 1\nforward: [x-mcp-api-key]\n")},
		Listen:   "unix://" + filepath.Join(folder, "b.sock"), Store: "memory", StoreBytes: 1 << 20,
	}
}

func write(t *testing.T, folder, name, content string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// run serves until stop is called; the channel is closed when the server has ended.
func run(t *testing.T, c server.Config) (stop, force context.CancelFunc, done chan struct{}) {
	t.Helper()
	_, stop, force, done = begin(t, c, quiet())
	return stop, force, done
}

func begin(
	t *testing.T,
	c server.Config,
	log *slog.Logger,
) (s *server.Server, stop, force context.CancelFunc, done chan struct{}) {
	t.Helper()
	s, err := server.New(c, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	forced, force := context.WithCancel(context.Background())
	done = make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx, forced); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { stop(); force(); <-done })
	return s, stop, force, done
}

func dial(t *testing.T, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient(strings.TrimPrefix(address, "tcp://"), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

func health(t *testing.T, connection *grpc.ClientConn) healthv1.HealthCheckResponse_ServingStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	answer, err := healthv1.NewHealthClient(connection).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetStatus()
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func TestItServesAndDrains(t *testing.T) {
	c := config(t)
	c.Admin, c.DrainDelay = freePort(t), 500*time.Millisecond
	stop, _, done := run(t, c)
	connection := dial(t, c.Listen, insecure.NewCredentials())
	if got := health(t, connection); got != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("health is %s", got)
	}
	if status, body := get(t, c.Admin, "/readyz"); status != 200 {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if _, body := get(t, c.Admin, "/metrics"); !strings.Contains(body, `bellhop_store_entries{kind="captures"} 0`) ||
		!strings.Contains(body, `bellhop_store_limit_bytes{kind="captures"} 786432`) {
		t.Errorf("/metrics: %s", body)
	}
	mode, err := os.Stat(strings.TrimPrefix(c.Listen, "unix://"))
	if err != nil || mode.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v, %v", mode.Mode(), err)
	}
	stop()
	wait(t, func() bool { status, _ := get(t, c.Admin, "/readyz"); return status == 503 })
	if got := health(t, connection); got != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("while draining health is %s", got)
	}
	<-done
	if _, err := os.Stat(strings.TrimPrefix(c.Listen, "unix://")); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestASecondSignalEndsTheDrainAtOnce(t *testing.T) {
	c := config(t)
	c.DrainDelay = time.Hour
	stop, force, done := run(t, c)
	health(t, dial(t, c.Listen, insecure.NewCredentials()))
	stop()
	force()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("it still drains")
	}
}

// A stream that Envoy holds open must not keep a stopped Bellhop alive beyond its budget.
func TestAnOpenStreamDoesNotOutliveTheBudget(t *testing.T) {
	c := config(t)
	stop, _, done := run(t, c)
	ctx := metadata.AppendToOutgoingContext(context.Background(), "bellhop-role", "ingress")
	stream, err := extprocv3.NewExternalProcessorClient(dial(t, c.Listen, insecure.NewCredentials())).
		Process(ctx, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestTrailers{}})
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	stop()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it is still running")
	}
	if _, err := stream.Recv(); err == nil {
		t.Error("the stream goes on")
	}
}

// A connection that says nothing must not keep a stopped Bellhop alive either.
func TestASilentConnectionDoesNotOutliveTheBudget(t *testing.T) {
	c := config(t)
	stop, _, done := run(t, c)
	health(t, dial(t, c.Listen, insecure.NewCredentials()))
	silent, err := net.Dial("unix", strings.TrimPrefix(c.Listen, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	stop()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("it is still running")
	}
}

// Anything that may not be stale is left alone.
func TestABusySocketIsNotReplaced(t *testing.T) {
	c := config(t)
	path := strings.TrimPrefix(c.Listen, "unix://")
	busy, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(busy) }()
	if err := errors.Join(unix.Bind(busy, &unix.SockaddrUnix{Name: path}), unix.Listen(busy, 0)); err != nil {
		t.Fatal(err)
	}
	var full []net.Conn // nothing accepts, so the backlog fills up
	for range 5 {
		connection, err := net.DialTimeout("unix", path, 100*time.Millisecond)
		if err != nil {
			break
		}
		full = append(full, connection)
	}
	defer func() {
		for _, connection := range full {
			_ = connection.Close()
		}
	}()
	if _, err := server.New(c, quiet()); err == nil || !strings.Contains(err.Error(), "choose another path") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket is gone: %v", err)
	}
}

func TestAStaleSocketIsReplacedAndALiveOneIsNot(t *testing.T) {
	c := config(t)
	path := strings.TrimPrefix(c.Listen, "unix://")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	run(t, c)
	health(t, dial(t, c.Listen, insecure.NewCredentials()))
	if _, err := server.New(c, quiet()); err == nil ||
		!strings.Contains(err.Error(), "another process is listening there") {
		t.Errorf("got %v", err)
	}
}

func TestBadInputIsRefusedBeforeAnythingRuns(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	folder := t.TempDir()
	file := write(t, folder, "file", "x")
	first, err := ticket.AddKey(nil, 0)
	must(t, err)
	keyFile := write(t, folder, "keys", string(first))
	tests := []struct {
		name   string
		change func(*server.Config)
		want   string
	}{
		{"no policy", func(c *server.Config) { c.Policies[0] = filepath.Join(folder, "none") }, "--policy: open"},
		{"socket on a file", func(c *server.Config) { c.Listen = "unix://" + file }, "the file exists and is not a socket"},
		{
			"socket below a file",
			func(c *server.Config) { c.Listen = "unix://" + file + "/b.sock" },
			"make its folder writable",
		},
		{"relative socket", func(c *server.Config) { c.Listen = "unix://b.sock" }, "must be absolute"},
		{"long socket", func(c *server.Config) { c.Listen = "unix:///" + strings.Repeat("x", 120) }, "at most 107 bytes"},
		{"no address", func(c *server.Config) { c.Listen = "somewhere" }, "not an address"},
		{"beyond loopback", func(c *server.Config) { c.Listen = "0.0.0.0:0" }, "needs mutual TLS"},
		{"every interface", func(c *server.Config) { c.Listen = ":0" }, "needs mutual TLS"},
		{
			"port in use",
			func(c *server.Config) { c.Listen = taken.Addr().String() },
			"address already in use; choose another port",
		},
		{"admin port in use", func(c *server.Config) { c.Admin = taken.Addr().String() }, "--admin " + taken.Addr().String()},
		{"store", func(c *server.Config) { c.Store = "disk" }, "--store: write memory, or the address of a server"},
		{
			"an address without its scheme, with a password",
			func(c *server.Config) { c.Store = "u:canary@redis.example:6379" },
			"--store: write memory, or the address of a server",
		},
		{
			"store without a key",
			func(c *server.Config) { c.Store = "redis://u:canary@localhost" },
			"encrypted under a key that all of them have",
		},
		{
			"no address of a store",
			func(c *server.Config) { c.Store, c.KeyFile = "http://u:canary@localhost", keyFile },
			"--store: write redis://HOST:PORT",
		},
		{
			"store that fails",
			func(c *server.Config) { c.OnStoreError = "pray" },
			"--on-store-error pray: write reject or continue",
		},
		{"key file", func(c *server.Config) { c.KeyFile = file }, "line 1 is not 32 bytes"},
		{"no key file", func(c *server.Config) { c.KeyFile = filepath.Join(folder, "none") }, "bellhop keygen"},
		{"store too small", func(c *server.Config) { c.StoreBytes = 1 }, "--store-bytes 1: too little"},
		{"drain delay", func(c *server.Config) { c.DrainDelay = -time.Second }, "--drain-delay -1s"},
		{"half of TLS", func(c *server.Config) { c.TLS.Cert = file }, "go together"},
		{
			"no certificate",
			func(c *server.Config) { c.TLS = server.TLS{Cert: file, Key: file, ClientCA: file} },
			"--tls-cert",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := config(t)
			test.change(&c)
			if _, err := server.New(c, quiet()); err == nil || !strings.Contains(err.Error(), test.want) ||
				strings.Contains(err.Error(), "canary") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	t.Run("an invalid policy", func(t *testing.T) {
		c := config(t)
		c.Policies[0] = write(t, folder, "bad.yaml", "version: 1\nforward: [host]\n")
		_, err := server.New(c, quiet())
		if findings, ok := err.(policy.Findings); !ok || !findings.HasErrors() { //nolint:errorlint // it is returned as it is
			t.Errorf("got %v", err)
		}
	})
}

func TestMutualTLS(t *testing.T) {
	folder := t.TempDir()
	ca := newAuthority(t)
	c := config(t)
	c.Listen = "tcp://" + freePort(t)
	c.TLS = server.TLS{
		ClientCA: write(t, folder, "ca.pem", ca.pem),
	}
	c.TLS.Cert, c.TLS.Key = ca.issue(t, folder, "server")
	run(t, c)

	bad := c
	bad.Listen, bad.TLS.ClientCA = "tcp://"+freePort(t), write(t, folder, "none.pem", "no certificate")
	if _, err := server.New(bad, quiet()); err == nil || !strings.Contains(err.Error(), "holds no PEM certificate") {
		t.Errorf("roots without a certificate: %v", err)
	}
	certFile, keyFile := ca.issue(t, folder, "client")
	client, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	trusted := &tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{client}, MinVersion: tls.VersionTLS12}
	if got := health(t, dial(t, c.Listen, credentials.NewTLS(trusted))); got != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("health is %s", got)
	}
	strangerCert, strangerKey := newAuthority(t).issue(t, folder, "stranger")
	stranger, err := tls.LoadX509KeyPair(strangerCert, strangerKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, creds := range map[string]credentials.TransportCredentials{
		"no certificate": credentials.NewTLS(&tls.Config{RootCAs: ca.pool, MinVersion: tls.VersionTLS12}),
		"a stranger's": credentials.NewTLS(&tls.Config{RootCAs: ca.pool, Certificates: []tls.Certificate{stranger},
			MinVersion: tls.VersionTLS12}),
		"no TLS at all": insecure.NewCredentials(),
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		if _, err := healthv1.NewHealthClient(dial(t, c.Listen, creds)).Check(ctx,
			&healthv1.HealthCheckRequest{}); err == nil {
			t.Errorf("%s: was let in", name)
		}
		cancel()
	}
}

type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{
		cert: cert,
		key:  key,
		pem:  string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		pool: x509.NewCertPool(),
	}
	a.pool.AddCert(cert)
	return a
}

// issue makes a certificate, with the URIs given.
func (a *authority) issue(t *testing.T, folder, name string, uris ...string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{
			net.IPv4(127, 0, 0, 1),
		}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, uri := range uris {
		parsed, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, parsed)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile = write(t, folder, name+".pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	keyFile = write(t, folder, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return certFile, keyFile
}

func get(t *testing.T, address, path string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s%s", address, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

func wait(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 5 s")
		}
	}
}
