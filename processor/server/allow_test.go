package server_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"bellhop/processor/server"
	"bellhop/test/envoytest"
)

// The certificate of one team's proxy gets nothing of another team's fan-out.
func TestACertificateNamesItsOwnFanoutsOnly(t *testing.T) {
	folder := t.TempDir()
	ca := newAuthority(t)
	c := config(t)
	c.Policies = []string{write(t, folder, "search.yaml", searchPolicy), write(t, folder, "billing.yaml", billingPolicy)}
	c.Listen = "tcp://" + freePort(t)
	c.TLS = server.TLS{ClientCA: write(t, folder, "ca.pem", ca.pem)}
	c.TLS.Cert, c.TLS.Key = ca.issue(t, folder, "server")
	c.TLSAllow = []string{"spiffe://mesh/ns/search/sa/*=search"}
	c.TLSAllowFile = write(
		t,
		folder,
		"allow",
		"# who may be whom\n\n*.billing.example=billing\nspiffe://mesh/ns/both/sa/x=billing\n"+
			"spiffe://mesh/ns/both/sa/x=search\n",
	)
	run(t, c)
	for name, test := range map[string]struct {
		uri  string
		want string
	}{
		"one team":          {"spiffe://mesh/ns/search/sa/vmcp", "search"},
		"both":              {"spiffe://mesh/ns/both/sa/x", "billing search"},
		"a longer path":     {"spiffe://mesh/ns/search/sa/vmcp/more", ""},
		"another mesh":      {"spiffe://evil/ns/search/sa/vmcp", ""},
		"no name of a rule": {"spiffe://mesh/ns/other/sa/vmcp", ""},
	} {
		t.Run(name, func(t *testing.T) {
			certFile, keyFile := ca.issue(t, t.TempDir(), "search", test.uri)
			own, err := tls.LoadX509KeyPair(certFile, keyFile)
			if err != nil {
				t.Fatal(err)
			}
			client := extprocv3.NewExternalProcessorClient(dial(t, c.Listen, credentials.NewTLS(&tls.Config{
				RootCAs: ca.pool, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12,
			})))
			var served []string
			for _, fanout := range []string{"billing", "search", ""} {
				ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(
					t.Context(), "bellhop-role", "ingress", "bellhop-fanout", fanout), 10*time.Second)
				_, err := envoytest.Do(ctx, client, envoytest.Exchange{Request: envoytest.RequestHeaders("x-old: 1")})
				cancel()
				switch {
				case err == nil:
					served = append(served, fanout)
				case fanout != "" && !strings.Contains(err.Error(), "may not name fan-out"):
					t.Errorf("%s: %v", fanout, err)
				}
			}
			if got := strings.Join(served, " "); got != test.want {
				t.Errorf("may name %q, want %q", got, test.want)
			}
		})
	}
}

func TestCertificatesAreBoundWhereThereAreSeveralFanouts(t *testing.T) {
	folder := t.TempDir()
	ca := newAuthority(t)
	for name, test := range map[string]struct {
		change func(c *server.Config)
		want   string
	}{
		"none is bound": {func(*server.Config) {}, "add --tls-allow PATTERN=FANOUT"},
		"no pattern": {
			func(c *server.Config) { c.TLSAllow = []string{"search"} }, "--tls-allow search: write PATTERN=FANOUT",
		},
		"a bad pattern": {func(c *server.Config) { c.TLSAllow = []string{"spiffe://[=search"} }, "the pattern is not one"},
		"a bad fan-out": {
			func(c *server.Config) { c.TLSAllow = []string{"a.example=a b"} }, "cannot be the name of a fan-out",
		},
		"a missing file": {func(c *server.Config) { c.TLSAllowFile = folder + "/none" }, "--tls-allow-file: open"},
		"without TLS": {func(c *server.Config) {
			c.TLS, c.Listen, c.TLSAllow = server.TLS{}, "tcp://"+freePort(t), []string{"a.example=search"}
		}, "needs mutual TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Policies = []string{write(t, folder, "search.yaml", searchPolicy), write(t, folder, "billing.yaml", billingPolicy)}
			c.Listen, c.TLS = "0.0.0.0:0", server.TLS{ClientCA: write(t, folder, "ca.pem", ca.pem)}
			c.TLS.Cert, c.TLS.Key = ca.issue(t, folder, "server")
			test.change(&c)
			if _, err := server.New(c, quiet()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// Whoever can replace the socket gets the clients' headers.
func TestAFolderThatEveryUserCanWriteIsWarnedOf(t *testing.T) {
	for mode, want := range map[os.FileMode]bool{0o750: false, 0o755: false, 0o777: true, 0o1777: true} {
		c := config(t)
		folder := filepath.Join(t.TempDir(), "s")
		must(t, os.Mkdir(folder, 0o700))
		must(t, os.Chmod(folder, mode))
		c.Listen = "unix://" + folder + "/b.sock"
		log := &safeBuffer{}
		begin(t, c, slog.New(slog.NewTextHandler(log, nil)))
		if got := strings.Contains(log.String(), "can write into the socket's folder"); got != want {
			t.Errorf("%o: warned is %v", mode, got)
		}
	}
}
