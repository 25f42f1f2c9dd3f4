// Package redistest runs real Redis and Valkey servers for tests.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"bellhop/test/process"
	"bellhop/test/tools"
)

// Server is a running server on a port of loopback, with nothing on disk.
type Server struct {
	Port int

	program string
	args    []string
	running *process.Process
}

// Programs are the servers that are tested, by name: a Redis, and a Valkey.
func Programs(ctx context.Context) (map[string]string, error) {
	all := map[string]string{}
	for _, name := range []string{"redis", "valkey"} {
		path, err := tools.Path(ctx, name)
		if err != nil {
			return nil, err
		}
		all[name] = path
	}
	return all, nil
}

// Start starts a server and waits until it answers. Args are further options.
func Start(ctx context.Context, program string, args ...string) (*Server, error) {
	ports, err := process.FreePorts(1)
	if err != nil {
		return nil, err
	}
	s := &Server{Port: ports[0], program: program, args: args}
	return s, s.Again(ctx)
}

// Address is where clients find it.
func (s *Server) Address() string { return "redis://" + s.HostPort() }

// HostPort is the same without a scheme.
func (s *Server) HostPort() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// Again starts it again on the same port, empty, after Kill.
func (s *Server) Again(ctx context.Context) error {
	started, err := process.Start(process.Options{
		Name: "Redis", Path: s.program,
		Args: append(
			[]string{"--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"},
			s.args...),
	})
	if err != nil {
		return err
	}
	s.running = started
	for {
		connection, err := net.DialTimeout("tcp", s.HostPort(), time.Second)
		if err == nil {
			return connection.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for Redis: %w; it says:\n%s", ctx.Err(), started.Output())
		case <-started.Done():
			return fmt.Errorf("the server has ended; it says:\n%s", started.Output())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Signal sends it a signal: SIGSTOP makes it silent, with its connections open.
func (s *Server) Signal(t interface{ Error(args ...any) }, signal os.Signal) {
	if err := s.running.Signal(signal); err != nil {
		t.Error(err)
	}
}

// Kill ends it with SIGKILL, as a crash would. All that it kept is lost.
func (s *Server) Kill() {
	s.running.Kill()
	<-s.running.Done()
}
