// Package vmcp runs a real ToolHive Virtual MCP server, the fan-out of most
// tests and of the demo.
package vmcp

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"bellhop/test/process"
)

// stopTime is how long vMCP has to end politely.
const stopTime = 5 * time.Second

// Backend is one MCP server behind vMCP. Its tools get the name and an
// underscore in front.
type Backend struct {
	Name string
	URL  string // the MCP endpoint
}

// Options say how to run vMCP. Only Bin, Dir and Backends are needed.
type Options struct {
	Bin      string // the program; test/tools/fetch finds it
	Dir      string // for the configuration, and all else that vMCP may want to write
	Port     int    // 0: a free one
	Backends []Backend

	PassthroughHeaders []string // the client headers that it passes on to every backend
	Baggage            bool     // passes on W3C baggage; nothing is reported to anybody

	HealthCheckInterval time.Duration // 0: 10 s. There is no way to switch the checks off
	ExtraYAML           string        // more top-level settings, put at the end
}

// VMCP is a running vMCP.
type VMCP struct {
	url     string
	process *process.Process
	client  *http.Client
}

// Start starts vMCP and waits until it serves. Its backends have not been looked
// at by then: see WaitHealthy.
func Start(ctx context.Context, options Options) (*VMCP, error) {
	port, err := choosePort(options.Port)
	if err != nil {
		return nil, fmt.Errorf("start vMCP: %w", err)
	}
	file, err := writeConfig(options)
	if err != nil {
		return nil, fmt.Errorf("start vMCP: %w", err)
	}
	child, err := process.Start(process.Options{
		Name: "vMCP",
		Path: options.Bin,
		Args: []string{"serve", "--config", file, "--host", "127.0.0.1", "--port", strconv.Itoa(port)},
		Env:  environment(options.Dir),
		Dir:  options.Dir,
	})
	if err != nil {
		return nil, err
	}

	v := &VMCP{
		url:     fmt.Sprintf("http://127.0.0.1:%d", port),
		process: child,
		client:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	}
	if err := process.WaitHTTP(ctx, child, v.url+"/readyz"); err != nil {
		child.Kill()
		<-child.Done()
		return nil, err
	}
	return v, nil
}

// URL is the server's address, without a path.
func (v *VMCP) URL() string { return v.url }

// Endpoint is the URL for MCP clients.
func (v *VMCP) Endpoint() string { return v.url + "/mcp" }

// Output is what vMCP has logged.
func (v *VMCP) Output() string { return v.process.Output() }

// Process is the running program, for tests that pause or kill it.
func (v *VMCP) Process() *process.Process { return v.process }

// Stop ends vMCP, politely if it lets itself be asked.
func (v *VMCP) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	return v.process.Stop(ctx)
}

// Health is what vMCP thinks of one backend.
type Health struct {
	Status              string // healthy, degraded, unhealthy, unauthenticated, unknown
	ConsecutiveFailures int
	LastErrorCategory   string // why the last check failed
	MCPRevision         string // the MCP version that vMCP speaks to it
	LastCheckTime       time.Time
}

// BackendHealth returns what vMCP thinks of its backends, by name. A backend
// that was not checked yet is missing.
func (v *VMCP) BackendHealth(ctx context.Context) (map[string]Health, error) {
	url := v.url + "/api/backends/health"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask vMCP for its backends: %w", err)
	}
	response, err := v.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask vMCP for its backends: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct {
		Backends map[string]Health `json:"backends"`
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask vMCP for its backends: %s answers %s", url, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("ask vMCP for its backends: read the answer of %s: %w", url, err)
	}
	return answer.Backends, nil
}

// WaitHealthy waits until vMCP has found all these backends healthy. A
// session that begins earlier may lack their tools.
func (v *VMCP) WaitHealthy(ctx context.Context, backends ...string) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		health, err := v.BackendHealth(ctx)
		if err == nil && allHealthy(health, backends) {
			return nil
		}
		select {
		case <-v.process.Done():
			return fmt.Errorf("wait for healthy backends %v: vMCP has ended; its output:\n%s", backends, v.Output())
		case <-ctx.Done():
			return fmt.Errorf("wait for healthy backends %v: %w; vMCP says %+v", backends, context.Cause(ctx), health)
		case <-ticker.C:
		}
	}
}

func allHealthy(health map[string]Health, backends []string) bool {
	for _, name := range backends {
		if health[name].Status != "healthy" {
			return false
		}
	}
	return true
}

func choosePort(wanted int) (int, error) {
	if wanted != 0 {
		return wanted, nil
	}
	ports, err := process.FreePorts(1)
	if err != nil {
		return 0, err
	}
	return ports[0], nil
}

// environment is the whole environment of vMCP. Nothing is inherited, so
// neither a proxy nor a telemetry address of the caller's can send it out, and
// all folders in which it might write are inside its own.
func environment(dir string) []string {
	return []string{
		"HOME=" + dir,
		"TMPDIR=" + dir,
		"XDG_CONFIG_HOME=" + filepath.Join(dir, "config"),
		"XDG_DATA_HOME=" + filepath.Join(dir, "data"),
		"XDG_STATE_HOME=" + filepath.Join(dir, "state"),
		"XDG_CACHE_HOME=" + filepath.Join(dir, "cache"),
		"PATH=" + os.Getenv("PATH"),
		"TOOLHIVE_SKIP_UPDATE_CHECK=true", // this also stops usage metrics
	}
}
