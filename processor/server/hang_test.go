package server

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// A reload that hangs, as on a network mount that is down, must not keep Bellhop from stopping.
func TestAReloadThatHangsDoesNotKeepTheServerFromStopping(t *testing.T) {
	for _, forced := range []bool{false, true} {
		folder := t.TempDir()
		policy := filepath.Join(folder, "policy.yaml")
		if err := os.WriteFile(policy, []byte("version: 1\nforward: [x-a]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{
			Policies: []string{policy}, Listen: "unix://" + filepath.Join(folder, "s"), Store: "memory", StoreBytes: 1 << 20,
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s.reloader.mu.Lock() // held as if a reload never returned
		ctx, cancel := context.WithCancel(context.Background())
		force, end := context.WithCancel(context.Background())
		cancel()
		if forced {
			end()
		}
		stopped := make(chan error, 1)
		go func() { stopped <- s.Run(ctx, force) }()
		select {
		case err := <-stopped:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it does not stop")
		}
		end()
		s.reloader.mu.Unlock()
	}
}

// A store whose server is away may take long to close: that is not waited for beyond the budget.
func TestAStoreThatHangsDoesNotKeepTheServerFromStopping(t *testing.T) {
	for _, forced := range []bool{false, true} {
		folder := t.TempDir()
		policy := filepath.Join(folder, "policy.yaml")
		if err := os.WriteFile(policy, []byte("version: 1\nforward: [x-a]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := New(Config{
			Policies: []string{policy}, Listen: "unix://" + filepath.Join(folder, "s"), Store: "memory", StoreBytes: 1 << 20,
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		s.storage.close = func() { <-release }
		ctx, cancel := context.WithCancel(context.Background())
		force, end := context.WithCancel(context.Background())
		cancel()
		if forced {
			end()
		}
		stopped := make(chan error, 1)
		go func() { stopped <- s.Run(ctx, force) }()
		select {
		case err := <-stopped:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(unwatchTimeout + stopTimeout + adminTimeout + 3*time.Second):
			t.Error("it does not stop")
		}
		end()
		close(release)
	}
}

// panicking is a service that fails in the worst way.
type panicking struct {
	healthv1.UnimplementedHealthServer
}

func (panicking) Watch(*healthv1.HealthCheckRequest, grpc.ServerStreamingServer[healthv1.HealthCheckResponse]) error {
	panic("canary: a part of a request")
}

func TestAPanicIsCountedAndLoggedWithoutValues(t *testing.T) {
	var log strings.Builder
	s := &Server{
		log:    slog.New(slog.NewTextHandler(&log, nil)),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "panics"}),
	}
	server := grpc.NewServer(s.recoverPanics())
	healthv1.RegisterHealthServer(server, panicking{})
	listener, err := listenUnix(filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	connection, err := grpc.NewClient(
		"unix:"+listener.Addr().String(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := healthv1.NewHealthClient(connection).Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	_ = connection.Close()
	server.Stop()
	if status.Code(err) != codes.Internal || strings.Contains(err.Error(), "canary") {
		t.Errorf("the client gets %v", err)
	}
	if got := testutil.ToFloat64(s.panics); got != 1 {
		t.Errorf("%v panics are counted, want 1", got)
	}
	if text := log.String(); !strings.Contains(text, "panicking.Watch") || strings.Contains(text, "canary") {
		t.Errorf("the log: %s", text)
	}
}
