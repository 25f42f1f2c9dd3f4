package redistest_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// way is the way to a server. It may be long, and may be shut towards the server while what that tells comes through.
type way struct {
	listener net.Listener
	server   string
	delay    atomic.Int64 // in each direction, ns
	shut     atomic.Bool

	mu   sync.Mutex
	open []net.Conn
	done sync.WaitGroup
}

// lay makes a way to a server.
func lay(t *testing.T, server string, delay time.Duration) *way {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{listener: listener, server: server}
	w.delay.Store(int64(delay))
	w.done.Go(w.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		w.shut.Store(false)
		w.mu.Lock()
		for _, connection := range w.open {
			_ = connection.Close()
		}
		w.mu.Unlock()
		w.done.Wait()
	})
	return w
}

func (w *way) address() string { return "redis://" + w.listener.Addr().String() }

func (w *way) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.DialTimeout("tcp", w.server, time.Second)
		if err != nil {
			_ = near.Close()
			continue
		}
		w.mu.Lock()
		w.open = append(w.open, near, far)
		w.mu.Unlock()
		w.done.Go(func() { w.pass(near, far, w.shut.Load) })
		w.done.Go(func() { w.pass(far, near, func() bool { return false }) })
	}
}

// pass delays each piece by its own time, so that many are under way at once.
func (w *way) pass(from, to net.Conn, shut func() bool) {
	type piece struct {
		bytes []byte
		at    time.Time
	}
	pieces := make(chan piece, 1024)
	defer close(pieces)
	w.done.Go(func() {
		defer func() { _, _ = from.Close(), to.Close() }()
		for p := range pieces {
			for time.Sleep(time.Until(p.at)); shut(); {
				time.Sleep(time.Millisecond)
			}
			_, _ = to.Write(p.bytes)
		}
	})
	for {
		buffer := make([]byte, 32<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			pieces <- piece{buffer[:n], time.Now().Add(time.Duration(w.delay.Load()))}
		}
		if err != nil {
			return
		}
	}
}
