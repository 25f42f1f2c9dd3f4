package main

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// slowed passes connections on to a server, and what the server answers a while later.
type slowed struct {
	listener net.Listener
	server   string
	delay    atomic.Int64 // ns

	mu   sync.Mutex
	open map[net.Conn]bool
	done sync.WaitGroup
}

func slowDown(server string) (*slowed, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &slowed{listener: listener, server: server, open: map[net.Conn]bool{}}
	s.done.Go(s.accept)
	return s, nil
}

func (s *slowed) address() string { return s.listener.Addr().String() }

// by sets how long each answer takes.
func (s *slowed) by(delay time.Duration) { s.delay.Store(int64(delay)) }

func (s *slowed) accept() {
	for {
		client, err := s.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", s.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		s.keep(client, server)
		s.done.Go(func() { defer s.drop(client, server); _, _ = io.Copy(server, client) })
		s.done.Go(func() { defer s.drop(client, server); _ = s.copySlowly(client, server) })
	}
}

// copySlowly delays each piece by its own time, so that many wait at once, as on a long way.
func (s *slowed) copySlowly(to io.Writer, from io.Reader) error {
	type piece struct {
		bytes []byte
		at    time.Time
	}
	pieces := make(chan piece, 1024)
	defer close(pieces)
	s.done.Go(func() {
		for p := range pieces {
			time.Sleep(time.Until(p.at))
			_, _ = to.Write(p.bytes)
		}
	})
	for {
		buffer := make([]byte, 32<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			pieces <- piece{buffer[:n], time.Now().Add(time.Duration(s.delay.Load()))}
		}
		if err != nil {
			return err
		}
	}
}

func (s *slowed) keep(all ...net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range all {
		s.open[c] = true
	}
}

func (s *slowed) drop(all ...net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
		delete(s.open, c)
	}
}

func (s *slowed) close() {
	err := s.listener.Close()
	s.mu.Lock()
	for c := range s.open {
		err = errors.Join(err, c.Close())
	}
	s.mu.Unlock()
	s.done.Wait()
	_ = err // it ends, however it ends
}
