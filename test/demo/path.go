package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"bellhop/test/mcptest"
	"bellhop/test/process"
	"bellhop/test/stack"
	"bellhop/test/vmcp"
)

// path is one running way from the clients to backends of its own.
type path struct {
	dir      string       // for configuration and logs
	endpoint string       // the MCP URL for clients
	tap      *mcptest.Tap // what vMCP gets
	backends []*mcptest.Backend
	stack    *stack.Stack // with Bellhop; else nil
	vmcp     *vmcp.VMCP
	stop     []func(context.Context) error // in this order
}

// programs are the paths of what the demo runs.
type programs struct{ bellhop, envoy, vmcp string }

// startWith starts the way with Envoy and Bellhop, and waits until vMCP has
// found both backends.
func startWith(ctx context.Context, dir string, bins programs, progress func(string)) (*path, error) {
	p := &path{dir: dir}
	if err := p.startBackends(); err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	options := stack.Options{
		Dir: dir, Bellhop: bins.bellhop, Envoy: bins.envoy, VMCP: bins.vmcp,
		Policy: policyText, Files: map[string]string{discoveryFile: discoveryKey + "\n"},
		Progress: progress,
	}
	for i, s := range servers() {
		options.Backends = append(options.Backends, stack.Backend{Name: s.name, URL: p.backends[i].URL()})
	}
	var err error
	if p.stack, err = stack.Start(ctx, options); err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	p.stop = append([]func(context.Context) error{p.stack.Stop}, p.stop...)
	p.endpoint, p.tap, p.vmcp = p.stack.Endpoint(), p.stack.FanoutTap(), p.stack.VMCP()
	progress("waiting until vMCP has found both backends")
	if err := p.stack.WaitHealthy(ctx); err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	return p, nil
}

// startWithout starts the way without Envoy and Bellhop: vMCP passes the key
// on with its own passthroughHeaders.
func startWithout(ctx context.Context, dir string, bins programs) (*path, error) {
	p := &path{dir: dir}
	err := p.startBackends()
	if err == nil {
		err = p.startVMCP(ctx, bins.vmcp)
	}
	if err == nil {
		err = p.waitChecked(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.close(ctx))
	}
	return p, nil
}

// startVMCP starts vMCP and puts a tap in front of it.
func (p *path) startVMCP(ctx context.Context, bin string) error {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return err
	}
	ports, err := process.FreePorts(1)
	if err != nil {
		return err
	}
	options := vmcp.Options{Bin: bin, Dir: p.dir, Port: ports[0], PassthroughHeaders: []string{keyHeader}}
	for i, s := range servers() {
		options.Backends = append(options.Backends, vmcp.Backend{Name: s.name, URL: p.backends[i].URL()})
	}
	if p.vmcp, err = vmcp.Start(ctx, options); err != nil {
		return err
	}
	p.stop = append([]func(context.Context) error{p.vmcp.Stop}, p.stop...)
	if p.tap, err = mcptest.StartTap(p.vmcp.URL()); err != nil {
		return err
	}
	// Before vMCP, which would wait for the end of the streams that come through the tap.
	p.stop = append([]func(context.Context) error{func(context.Context) error { return p.tap.Close() }}, p.stop...)
	p.endpoint = p.tap.URL() + "/mcp"
	return nil
}

// waitChecked waits until vMCP has checked every backend.
func (p *path) waitChecked(ctx context.Context) error {
	for ; ; time.Sleep(50 * time.Millisecond) {
		health, err := p.vmcp.BackendHealth(ctx)
		if err != nil {
			return err
		}
		checked := 0
		for _, s := range servers() {
			if !health[s.name].LastCheckTime.IsZero() {
				checked++
			}
		}
		if checked == len(servers()) {
			return nil
		}
	}
}

// startBackends starts backends that only this path uses.
func (p *path) startBackends() error {
	for _, s := range servers() {
		options := mcptest.BackendOptions{Name: s.name, Era: s.era}
		if s.strict {
			options.RequireHeader = keyHeader
		}
		backend, err := mcptest.StartBackend(options)
		if err != nil {
			return err
		}
		p.backends = append(p.backends, backend)
		p.stop = append(p.stop, func(context.Context) error { return backend.Close() })
	}
	return nil
}

// forget drops all records, so that a demo that is kept does not grow.
func (p *path) forget() {
	p.tap.Reset()
	for _, backend := range p.backends {
		backend.Reset()
	}
}

// writeLogs writes what the programs have said so far into the path's folder.
func (p *path) writeLogs() error {
	if p.stack != nil {
		return p.stack.WriteLogs()
	}
	return os.WriteFile(filepath.Join(p.dir, "vmcp.log"), []byte(p.vmcp.Output()), 0o600)
}

// close stops the path, even when the context has ended.
func (p *path) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	for _, stop := range p.stop {
		errs = append(errs, stop(ctx))
	}
	p.stop = nil
	return errors.Join(errs...)
}

// folder makes a folder of its own for one path.
func folder(parent, name string) (string, error) {
	dir := filepath.Join(parent, name)
	return dir, os.Mkdir(dir, 0o700)
}
