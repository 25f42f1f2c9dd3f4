package redis_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/valkey-io/valkey-go"

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
		return subject(s)
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

// TLS ends in front of the server here, for the pinned one is built without it. The machine's roots are those of SSL_CERT_FILE.
func TestAServerBehindTLS(t *testing.T) {
	server := serve(t, programs["redis"])
	address := endTLS(t, server.HostPort(), machine)
	s := open(t, remote.Options{Address: "rediss://" + address + "", Keys: ticket.RandomKeys()})
	put(t, s, "T", "v")
	strict, err := remote.Open(remote.Options{Address: "rediss://" + endTLS(t, server.HostPort(), unsigned(t)), Keys: ticket.RandomKeys(), Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(strict.Close)
	if strict.Ready() == nil {
		t.Error("a certificate that nobody has signed is believed")
	}
}

func unsigned(t *testing.T) tls.Certificate {
	t.Helper()
	certificate, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// endTLS listens with TLS and passes on without.
func endTLS(t *testing.T, server string, certificate tls.Certificate) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
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
