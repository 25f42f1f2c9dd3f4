package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"bellhop/test/mcptest"
	"bellhop/test/process"
	"bellhop/test/vmcp"
)

// Dir is the folder with all configuration.
func (s *Stack) Dir() string { return s.options.Dir }

// PolicyFile is the policy document that Bellhop serves.
func (s *Stack) PolicyFile() string { return s.layout.policy }

// IngressURL is where Envoy takes requests of clients, without a path.
func (s *Stack) IngressURL() string { return "http://" + s.layout.ingress }

// Endpoint is the URL for MCP clients.
func (s *Stack) Endpoint() string { return s.IngressURL() + "/mcp" }

// EgressURL is where Envoy takes requests of the fan-out; a backend is below its name.
func (s *Stack) EgressURL() string { return "http://" + s.layout.egress }

// EnvoyAdminURL is Envoy's own admin page.
func (s *Stack) EnvoyAdminURL() string { return "http://" + s.layout.envoyAdmin }

// MetricsURL is where Bellhop shows its metrics.
func (s *Stack) MetricsURL() string { return "http://" + s.layout.bellhopAdmin + "/metrics" }

// FanoutTap has recorded every request that the fan-out got from Envoy.
func (s *Stack) FanoutTap() *mcptest.Tap { return s.tap }

// VMCP is the fan-out.
func (s *Stack) VMCP() *vmcp.VMCP { return s.vmcp }

// BellhopLog is what every Bellhop of this stack has written.
func (s *Stack) BellhopLog() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bellhopEnded.String() + output(s.bellhop)
}

// EnvoyLog is what Envoy has written.
func (s *Stack) EnvoyLog() string {
	if s.envoy == nil {
		return ""
	}
	return s.envoy.Output()
}

// VMCPLog is what vMCP has written.
func (s *Stack) VMCPLog() string { return s.vmcp.Output() }

func output(p *process.Process) string {
	if p == nil {
		return ""
	}
	return p.Output()
}

// WriteLogs writes what the programs have logged so far into files in Dir:
// bellhop.log, envoy.log and vmcp.log.
func (s *Stack) WriteLogs() error {
	var errs []error
	for name, text := range map[string]string{
		"bellhop.log": s.BellhopLog(), "envoy.log": s.EnvoyLog(), "vmcp.log": s.VMCPLog(),
	} {
		errs = append(errs, os.WriteFile(filepath.Join(s.options.Dir, name), []byte(text), 0o600))
	}
	return errors.Join(errs...)
}

// Metrics returns Bellhop's metrics in the Prometheus text format.
func (s *Stack) Metrics(ctx context.Context) (string, error) {
	text, err := s.get(ctx, s.MetricsURL())
	if err != nil {
		return "", fmt.Errorf("read Bellhop's metrics: %w", err)
	}
	return text, nil
}

func (s *Stack) get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s", url, response.Status)
	}
	return string(body), err
}

// Processes returns the programs that were started, by name.
func (s *Stack) Processes() map[string]*process.Process {
	all := map[string]*process.Process{}
	if s.envoy != nil {
		all["Envoy"] = s.envoy.Process
	}
	if s.vmcp != nil {
		all["vMCP"] = s.vmcp.Process()
	}
	if bellhop := s.runningBellhop(); bellhop != nil {
		all["Bellhop"] = bellhop
	}
	return all
}

// ended returns an error for each program that has ended, with its last words.
func (s *Stack) ended() error {
	var errs []error
	for name, p := range s.Processes() {
		select {
		case <-p.Done():
			errs = append(
				errs,
				fmt.Errorf("%s has ended with exit code %d; the end of its output:\n%s", name, p.ExitCode(), end(p.Output())),
			)
		default:
		}
	}
	return errors.Join(errs...)
}

// end returns the last lines of a text.
func end(text string) string {
	const count = 30
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
