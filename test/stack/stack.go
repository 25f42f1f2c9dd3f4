// Package stack runs the whole path of a request on real programs: Envoy with
// Bellhop on both sides of a real vMCP, for the demo and the end-to-end tests.
//
//	client ─▶ Envoy ─▶ tap ─▶ vMCP ─▶ Envoy ─▶ backends
//	            └───── Bellhop ─────────┘
//
// Envoy runs on the output of "bellhop envoy bootstrap". Everything listens on
// free loopback ports, so several stacks run side by side.
package stack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"bellhop/test/envoytest"
	"bellhop/test/mcptest"
	"bellhop/test/process"
	"bellhop/test/vmcp"
)

const (
	// attempts is how often a stack is started when somebody else has taken one of
	// the ports in between.
	attempts = 3
	// stopTime is what one program gets for a polite end.
	stopTime = 10 * time.Second
)

// Stack is a running path. All methods may be used at the same time.
type Stack struct {
	options Options
	layout  *layout
	client  *http.Client

	tap   *mcptest.Tap // the parts are nil until they are started
	envoy *envoytest.Envoy
	vmcp  *vmcp.VMCP

	mu           sync.Mutex // guards Bellhop, which a test may kill and start again
	bellhop      *process.Process
	bellhopEnded strings.Builder // what the Bellhops that were killed have written
}

// Start starts a stack and waits until all of it serves. vMCP may not have
// looked at the backends by then: see WaitHealthy.
func Start(ctx context.Context, options Options) (*Stack, error) {
	options, err := options.complete()
	if err != nil {
		return nil, fmt.Errorf("start the stack: %w", err)
	}
	for attempt := 1; ; attempt++ {
		s, err := startOnce(ctx, options)
		if err == nil {
			return s, nil
		}
		if attempt == attempts || !portTaken(err) {
			return nil, fmt.Errorf("start the stack: %w", err)
		}
	}
}

func startOnce(ctx context.Context, options Options) (*Stack, error) {
	places, err := newLayout(options)
	s := &Stack{
		options: options,
		layout:  places,
		client:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	if err == nil {
		err = s.startParts(ctx)
	}
	if err != nil {
		_ = s.Stop(context.WithoutCancel(ctx)) // would only repeat why it did not start
		return nil, err
	}
	return s, nil
}

// startParts starts from the inside out, so that vMCP finds its backends at
// the first look.
func (s *Stack) startParts(ctx context.Context) error {
	for _, part := range []struct {
		step  string
		start func(context.Context) error
	}{
		{"starting the tap in front of vMCP", s.startTap},
		{"starting Bellhop", s.StartBellhop},
		{"writing Envoy's configuration", s.writeEnvoyConfig},
		{"starting Envoy", s.startEnvoy},
		{"starting vMCP", s.startVMCP},
	} {
		s.options.Progress(part.step)
		if err := part.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// portTaken reports whether a program found its port in use. Envoy and the Go
// programs say so with the same words.
func portTaken(err error) bool {
	return strings.Contains(strings.ToLower(err.Error()), "address already in use")
}

func (s *Stack) startTap(context.Context) error {
	var err error
	s.tap, err = mcptest.StartTap(fmt.Sprintf("http://127.0.0.1:%d", s.layout.vmcpPort))
	return err
}

func (s *Stack) startVMCP(ctx context.Context) error {
	var backends []vmcp.Backend
	for _, backend := range s.options.Backends {
		url := s.EgressURL() + "/" + backend.Name + backend.path()
		backends = append(backends, vmcp.Backend{Name: backend.Name, URL: url})
	}
	var err error
	s.vmcp, err = vmcp.Start(ctx, vmcp.Options{
		Bin:                 s.options.VMCP,
		Dir:                 s.options.Dir,
		Port:                s.layout.vmcpPort,
		Backends:            backends,
		PassthroughHeaders:  s.options.PassthroughHeaders,
		Baggage:             s.options.Baggage,
		HealthCheckInterval: s.options.HealthCheckInterval,
		ExtraYAML:           s.options.VMCPYAML,
	})
	return err
}

// WaitHealthy waits until vMCP has found these backends healthy, all of them
// if none is named. A session that begins earlier may lack their tools.
func (s *Stack) WaitHealthy(ctx context.Context, backends ...string) error {
	if len(backends) == 0 {
		for _, backend := range s.options.Backends {
			backends = append(backends, backend.Name)
		}
	}
	err := s.vmcp.WaitHealthy(ctx, backends...)
	if err != nil {
		return errors.Join(err, s.ended()) // which may well be the reason
	}
	return nil
}

// Wait returns nil when the context ends, and an error as soon as a program
// ends of its own accord.
func (s *Stack) Wait(ctx context.Context) error {
	bellhop := s.runningBellhop()
	if bellhop == nil {
		return errors.New("wait for the end of a program: Bellhop is not running")
	}
	select {
	case <-ctx.Done():
		return nil
	case <-s.envoy.Done():
	case <-s.vmcp.Process().Done():
	case <-bellhop.Done():
	}
	return s.ended()
}

// Stop stops everything, from the client's side on, and leaves no process. The
// error tells of a program that had ended before, or did not end as asked.
func (s *Stack) Stop(ctx context.Context) error {
	errs := []error{s.ended()}
	if s.tap != nil {
		// Cuts the clients' streams: vMCP would wait for their end.
		errs = append(errs, s.tap.Close())
	}
	if s.vmcp != nil {
		errs = append(errs, s.vmcp.Stop(ctx))
	}
	if s.envoy != nil {
		errs = append(errs, stop(ctx, s.envoy.Process))
	}
	errs = append(errs, stop(ctx, s.runningBellhop()))
	if err := errors.Join(append(errs, s.layout.remove())...); err != nil {
		return fmt.Errorf("stop the stack: %w", err)
	}
	return nil
}

func stop(ctx context.Context, p *process.Process) error {
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	return p.Stop(ctx)
}
