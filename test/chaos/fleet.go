package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"bellhop/policy"
	"bellhop/processor/ticket"
	"bellhop/test/envoytest"
	"bellhop/test/mcptest"
	"bellhop/test/process"
	"bellhop/test/redistest"
	"bellhop/test/vmcp"
)

// programs are the paths of what is run.
type programs struct{ bellhop, envoy, vmcp, redis string }

// fleet is two Bellhops and two Envoys around one vMCP, with a shared store.
//
//	clients ─▶ Envoy 0, 1 ─▶ vMCP ─▶ Envoy 0 ─▶ backend old
//	              │  │                └▶ Envoy 1 ─▶ backend new
//	          Bellhop 0, 1 ─▶ Redis
//
// Each Envoy may ask either Bellhop, so that the two sides of a call often meet different ones.
type fleet struct {
	dir      string
	programs programs
	mode     mode

	redis    *redistest.Server
	slow     *slowed // in front of Redis
	bellhops [2]*bellhop
	ingress  [2]string // URLs for MCP clients
	envoys   []*envoytest.Envoy
	vmcp     *vmcp.VMCP
	backends [2]*mcptest.Backend // by the Envoy in front of them
}

// mode says where the headers are while a ticket crosses the fan-out.
type mode string

const (
	stored mode = "stored in Redis"
	sealed mode = "sealed"
)

// policies are by mode. What is kept for a session is in the store, so a fleet without one keeps nothing.
var policies = map[mode]string{
	stored: "version: 1\nforward: [x-mcp-api-key, {name: x-kept, keep: session}]\nsession: {bind: [x-user]}\n",
	sealed: "version: 1\nforward: [x-mcp-api-key]\nticket: {mode: sealed}\n",
}

// bellhop is one of the two, which is killed and started again.
type bellhop struct {
	program string
	args    []string
	admin   string
	running *process.Process
}

func (b *bellhop) start(ctx context.Context) error {
	started, err := process.Start(process.Options{Name: "Bellhop", Path: b.program, Args: b.args, Env: []string{}})
	if err != nil {
		return err
	}
	b.running = started
	return process.WaitHTTP(ctx, started, "http://"+b.admin+"/readyz")
}

func (b *bellhop) kill() {
	b.running.Kill()
	<-b.running.Done()
}

func startFleet(ctx context.Context, dir string, programs programs, mode mode) (*fleet, error) {
	f := &fleet{dir: dir, programs: programs, mode: mode}
	for _, start := range []func(context.Context) error{f.startRedis, f.startBellhops, f.startBackends, f.startRest} {
		if err := start(ctx); err != nil {
			f.stop()
			return nil, err
		}
	}
	return f, nil
}

func (f *fleet) startRedis(ctx context.Context) error {
	var err error
	if f.redis, err = redistest.Start(ctx, f.programs.redis); err != nil {
		return err
	}
	f.slow, err = slowDown(f.redis.HostPort())
	return err
}

func (f *fleet) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fleet) startBellhops(ctx context.Context) error {
	keys, err := ticket.AddKey(nil, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(f.path("keys"), keys, 0o600), os.WriteFile(f.path("policy.yaml"),
		[]byte(policies[f.mode]), 0o600)); err != nil {
		return err
	}
	ports, err := process.FreePorts(len(f.bellhops))
	if err != nil {
		return err
	}
	for i := range f.bellhops {
		b := &bellhop{program: f.programs.bellhop, admin: fmt.Sprintf("127.0.0.1:%d", ports[i])}
		b.args = []string{
			"serve",
			"--policy",
			f.path("policy.yaml"),
			"--key-file",
			f.path("keys"),
			"--listen",
			f.socket(i),
			"--admin",
			b.admin,
		}
		if f.mode == stored {
			b.args = append(b.args, "--store", "redis://"+f.slow.address())
		}
		f.bellhops[i] = b
		if err := b.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) socket(i int) string { return "unix://" + f.path(fmt.Sprintf("%d.sock", i)) }

func (f *fleet) startBackends(context.Context) error {
	for i, era := range []mcptest.Era{mcptest.Legacy, mcptest.Modern} {
		b, err := mcptest.StartBackend(mcptest.BackendOptions{Name: backendName(i), Era: era})
		if err != nil {
			return err
		}
		f.backends[i] = b
	}
	return nil
}

// backendName is that of the backend behind an Envoy: one of each era of MCP.
func backendName(i int) string { return []string{"old", "new"}[i] }

// startRest starts the Envoys, and then vMCP, which looks for its backends at once.
func (f *fleet) startRest(ctx context.Context) error {
	ports, err := process.FreePorts(7)
	if err != nil {
		return err
	}
	at := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", ports[i]) }
	behind := []vmcp.Backend{}
	for i := range f.ingress {
		if err := f.startEnvoy(ctx, i, at(3*i), at(3*i+1), at(3*i+2), "http://"+at(6)); err != nil {
			return err
		}
		f.ingress[i] = "http://" + at(3*i) + "/mcp"
		name := backendName(i)
		behind = append(behind, vmcp.Backend{Name: name, URL: "http://" + at(3*i+1) + "/" + name + "/mcp"})
	}
	if f.vmcp, err = vmcp.Start(ctx, vmcp.Options{
		Bin: f.programs.vmcp, Dir: f.dir, Port: ports[6], Backends: behind, PassthroughHeaders: []string{policy.TicketHeader},
	}); err != nil {
		return err
	}
	return f.vmcp.WaitHealthy(ctx, "old", "new")
}

func (f *fleet) startEnvoy(ctx context.Context, i int, ingress, egress, admin, fanout string) error {
	args := []string{
		"envoy", "bootstrap", "--policy", f.path("policy.yaml"), "--bellhop", f.socket(0), "--bellhop", f.socket(1),
		"--ingress", ingress, "--egress", egress, "--envoy-admin", admin, "--fanout", fanout,
		"--backend", backendName(i) + "=" + f.backends[i].URL(),
	}
	config, err := exec.CommandContext(ctx, f.programs.bellhop, args...).Output()
	if err != nil {
		return fmt.Errorf("make Envoy's configuration: %w", err)
	}
	file := f.path(fmt.Sprintf("envoy-%d.yaml", i))
	if err := os.WriteFile(file, config, 0o600); err != nil {
		return err
	}
	started, err := envoytest.Start(ctx, envoytest.Options{
		Path: f.programs.envoy, Config: file, Admin: admin, Concurrency: 2, LogLevel: "error",
	})
	if err != nil {
		return err
	}
	f.envoys = append(f.envoys, started)
	return nil
}

// stop ends all that runs.
func (f *fleet) stop() {
	if f.vmcp != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = f.vmcp.Stop(ctx)
	}
	for _, envoy := range f.envoys {
		envoy.Kill()
		<-envoy.Done()
	}
	for _, b := range f.bellhops {
		if b != nil && b.running != nil {
			b.kill()
		}
	}
	for _, b := range f.backends {
		if b != nil {
			_ = b.Close()
		}
	}
	if f.slow != nil {
		f.slow.close()
	}
	if f.redis != nil {
		f.redis.Kill()
	}
}
