package redistest_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"bellhop/processor/store"
	"bellhop/processor/store/redis"
	"bellhop/processor/store/storetest"
	"bellhop/processor/ticket"
	"bellhop/test/process"
	"bellhop/test/redistest"
)

// cluster joins servers to one, each with its share of the places.
func cluster(t *testing.T, nodes int) (all []*redistest.Server) {
	t.Helper()
	for range nodes {
		all = append(all, serve(t, programs["redis"], "--cluster-enabled", "yes", "--dir", t.TempDir()))
	}
	for i, server := range all {
		places := []string{"CLUSTER", "ADDSLOTS"}
		for place := i * 16384 / nodes; place < (i+1)*16384/nodes; place++ {
			places = append(places, strconv.Itoa(place))
		}
		say(t, server, places...)
		say(t, server, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i > 0 {
			say(t, server, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(all[0].Port))
		}
	}
	for _, server := range all {
		client := alone(t, server)
		wait(t, func() bool {
			text, err := client.Do(limit(t), client.B().ClusterInfo().Build()).ToString()
			return err == nil && strings.Contains(text, "cluster_state:ok") &&
				strings.Contains(text, fmt.Sprintf("cluster_known_nodes:%d", nodes))
		})
	}
	return all
}

// A cluster refuses commands whose keys are in several places.
func TestAClusterKeepsTheContract(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		t.Run(strconv.Itoa(nodes), func(t *testing.T) {
			all := cluster(t, nodes)
			storetest.Run(t, func(t *testing.T) store.Backend {
				return open(t, redis.Options{Address: all[0].Address(), Keys: threeKeys()})
			})
		})
	}
}

// watched is a server with a replica and a Sentinel above them, all with a password.
func watched(t *testing.T) (server, replica *redistest.Server, sentinel int) {
	t.Helper()
	secret := []string{"--requirepass", "canary", "--masterauth", "canary"}
	server = serve(t, programs["redis"], append(secret, "--dir", t.TempDir())...)
	replica = serve(
		t,
		programs["redis"],
		append(secret, "--dir", t.TempDir(), "--replicaof", "127.0.0.1", strconv.Itoa(server.Port))...)
	ports, err := process.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf(`port %d
bind 127.0.0.1
requirepass canary
sentinel monitor main 127.0.0.1 %d 1
sentinel auth-pass main canary
sentinel down-after-milliseconds main 500
sentinel failover-timeout main 3000
`, ports[0], server.Port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	running, err := process.Start(
		process.Options{Name: "Sentinel", Path: programs["redis"], Args: []string{config, "--sentinel"}},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { running.Kill(); <-running.Done() })
	return server, replica, ports[0]
}

// Behind Sentinel the address is that of the Sentinels, and the server is where they say, also when that is another.
func TestSentinelsFindTheServer(t *testing.T) {
	server, replica, port := watched(t)
	client := connect(t, "redis://:canary@"+server.HostPort())
	wait(t, func() bool {
		text, err := client.Do(limit(t), client.B().Info().Section("replication").Build()).ToString()
		return err == nil && strings.Contains(text, "state=online")
	})
	keys := ticket.RandomKeys()
	address := fmt.Sprintf("redis://:canary@127.0.0.1:%d?master_set=main", port)
	here, there := open(
		t,
		redis.Options{Address: address, Keys: keys},
	), open(
		t,
		redis.Options{Address: address, Keys: keys},
	)
	put(t, here, "T", "v")
	replace(t, here, "S", record("A"))
	replace(t, here, "S", record("B"))
	wait(t, func() bool { return superseded(there, "A", 0) })
	time.Sleep(2 * time.Second) // Sentinel has seen the replica
	server.Kill()
	waitLong(t, func() bool {
		return here.Put(limit(t), "U", storetest.Capture("u"), ticket.Life{Idle: time.Hour}) == nil
	})
	waitLong(t, func() bool { return value(there, "U") == "u" })
	if got := value(there, "T"); got != "v" {
		t.Errorf("what the replica had: %s", got)
	}
	replace(t, there, "S", record("C"))
	wait(t, func() bool { return superseded(here, "B", 0) && superseded(here, "A", 0) && !superseded(here, "C", 0) })
	if found := calls(t, "redis://:canary@"+replica.HostPort()); found["set"] == "" {
		t.Errorf("nothing was written to the replica: %v", found)
	}
}

// waitLong waits for what may take longer than everything else: another server has to be chosen first.
func waitLong(t *testing.T, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen within 30 s")
		}
	}
}

// TLS ends in front of the server here, for the pinned one is built without it. The machine's roots are those of
// SSL_CERT_FILE.
func TestAServerBehindTLS(t *testing.T) {
	server := serve(t, programs["redis"])
	address := endTLS(t, server.HostPort(), machine)
	s := open(t, redis.Options{Address: "rediss://" + address + "", Keys: ticket.RandomKeys()})
	put(t, s, "T", "v")
	strict, err := redis.Open(
		redis.Options{
			Address: "rediss://" + endTLS(t, server.HostPort(), unsigned(t)),
			Keys:    ticket.RandomKeys(),
			Bytes:   1 << 20,
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(strict.Close)
	if strict.Ready() == nil {
		t.Error("an unsigned certificate is trusted")
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
func TestTheNearCacheIsBounded(t *testing.T) {
	server := serve(t, programs["redis"])
	const limit = 1 << 20
	s := open(t, redis.Options{Address: server.Address(), Keys: ticket.RandomKeys(), Bytes: limit})
	for i := range 20_000 {
		name := fmt.Sprintf("T-%d", i)
		put(t, s, name, name)
		if i%2 == 0 {
			_ = value(s, name)
		}
	}
	var bytes, evictions uint64
	for _, usage := range s.Usage() {
		bytes += usage.Bytes
		evictions += usage.Evictions
	}
	if bytes > limit || evictions == 0 {
		t.Errorf("%d bytes with a limit of %d, %d evictions", bytes, limit, evictions)
	}
	if got := value(s, "T-0"); got != "T-0" {
		t.Errorf("what is no longer near is at the server: %s", got)
	}
}
