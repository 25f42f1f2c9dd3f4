package redis_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/processor/session"
	"bellhop/processor/store/remote"
	"bellhop/processor/store/storetest"
	"bellhop/processor/ticket"
	"bellhop/test/process"
)

// A cluster refuses commands whose keys are in several places, also one of a single node.
func TestAClusterKeepsTheContract(t *testing.T) {
	server := serve(t, programs["redis"], "--cluster-enabled", "yes", "--dir", t.TempDir())
	options := valkey.ClientOption{InitAddress: []string{server.HostPort()}, ForceSingleClient: true}
	client, err := valkey.NewClient(options)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	slots := make([]int64, 16384)
	for i := range slots {
		slots[i] = int64(i)
	}
	if err := client.Do(limit(t), client.B().ClusterAddslots().Slot(slots...).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	wait(t, func() bool { // it looks at itself first
		_, err := client.Do(limit(t), client.B().Get().Key("k").Build()).ToString()
		return valkey.IsValkeyNil(err)
	})
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		s := open(t, remote.Options{Address: server.Address(), Keys: ticket.RandomKeys()})
		return storetest.Subject{Store: s, Sessions: s, Succession: s, Close: s.Close}
	})
}

// Behind Sentinel the address is that of the Sentinels, and the server is where they say.
func TestSentinelsSayWhereTheServerIs(t *testing.T) {
	server := serve(t, programs["redis"])
	ports, err := process.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 %d 1\n", ports[0], server.Port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel, err := process.Start(process.Options{Name: "Sentinel", Path: programs["redis"], Args: []string{config, "--sentinel"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sentinel.Kill(); <-sentinel.Done() })
	s := open(t, remote.Options{Address: fmt.Sprintf("redis://127.0.0.1:%d?master_set=main", ports[0]), Keys: ticket.RandomKeys()})
	put(t, s, "T", "v")
	if found := calls(t, server.Address()); found["set"] == "" {
		t.Errorf("the server was told nothing: %v", found)
	}
}

// TLS ends in front of the server here, for the pinned one is built without it.
func TestAServerBehindTLS(t *testing.T) {
	server := serve(t, programs["redis"])
	address := endTLS(t, server.HostPort())
	s := open(t, remote.Options{Address: "rediss://" + address + "?skip_verify=true", Keys: ticket.RandomKeys()})
	put(t, s, "T", "v")
	strict, err := remote.Open(remote.Options{Address: "rediss://" + address, Keys: ticket.RandomKeys(), Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(strict.Close)
	if strict.Ready() == nil {
		t.Error("a certificate that nobody has signed is believed")
	}
}

// endTLS listens with TLS and passes on without.
func endTLS(t *testing.T, server string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			plain, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{client, plain}, {plain, client}} {
				group.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_ = client.Close()
					_ = plain.Close()
				})
			}
		}
	})
	t.Cleanup(func() { _ = listener.Close(); group.Wait() })
	return listener.Addr().String()
}

// Invariant 8: what is near stays within its bound, however many captures there are.
func TestWhatIsNearIsBounded(t *testing.T) {
	server := serve(t, programs["redis"])
	const limit = 1 << 20
	s := open(t, remote.Options{Address: server.Address(), Keys: ticket.RandomKeys(), Bytes: limit})
	for i := range 20_000 {
		name := fmt.Sprintf("T-%d", i)
		put(t, s, name, name)
		if i%2 == 0 {
			_ = value(s, name)
		}
	}
	if usage := s.Usage(); usage.Bytes > limit || usage.Evictions == 0 {
		t.Errorf("%d bytes with a limit of %d, %d evictions", usage.Bytes, limit, usage.Evictions)
	}
	if got := value(s, "T-0"); got != "T-0" {
		t.Errorf("what is no longer near is at the server: %s", got)
	}
}

// far is a server's address behind a network that holds each piece of data for a while.
func far(t *testing.T, address string, delay time.Duration) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	hold := func(from, to net.Conn) {
		defer func() { _ = to.Close() }()
		buffer := make([]byte, 64<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			time.Sleep(delay)
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := new(net.Dialer).DialContext(context.Background(), "tcp", address)
			if err != nil {
				_ = near.Close()
				return
			}
			go hold(near, server)
			go hold(server, near)
		}
	}()
	return "redis://" + listener.Addr().String()
}

// Sessions change and tickets are superseded also where each answer takes 30 ms.
func TestAServerThatIsFar(t *testing.T) {
	server := serve(t, programs["redis"])
	s := open(t, remote.Options{Address: far(t, server.HostPort(), 15*time.Millisecond), Keys: ticket.RandomKeys()})
	for _, name := range []string{"A", "B", "C"} {
		if err := s.Update(limit(t), "S", time.Hour, func(session.Record) (session.Record, bool) {
			return session.Record{Principal: "P", Kept: storetest.Capture(name), Ticket: name, Content: name, Lifetime: time.Hour}, true
		}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"A", "B"} {
		wait(t, func() bool { return s.Superseded(limit(t), name, 0) })
	}
	if s.Superseded(limit(t), "C", 0) {
		t.Error("the session has it")
	}
}
