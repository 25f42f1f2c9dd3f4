package stack

import (
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"time"

	"bellhop/policy"
)

// Backend is one real MCP server behind the stack. The fan-out's names for its
// tools get the name and an underscore in front.
type Backend struct {
	Name string // as the policy calls it
	URL  string // the MCP endpoint
}

// Options say what to run. Dir, the three programs, Policy and Backends are needed.
type Options struct {
	Dir string // an existing folder of its own for configuration and logs

	Bellhop string // the programs: paths, or names to be found in PATH
	Envoy   string
	VMCP    string

	Policy   string            // the text of the policy document
	Files    map[string]string // further files by their name beside it, such as discovery secrets
	Backends []Backend

	PassthroughHeaders  []string      // what vMCP passes on; nil: the ticket's header; empty: nothing
	Baggage             bool          // vMCP passes on W3C baggage, beside or instead of these headers
	HealthCheckInterval time.Duration // of vMCP; 0: 10 s
	VMCPYAML            string        // more top-level settings of vMCP

	ServeArgs        []string // more flags of "bellhop serve"; they win over ours
	Configure        []string // a command in place of "bellhop envoy bootstrap" that takes its flags; nil: that
	BootstrapArgs    []string // more flags of it
	EnvoyArgs        []string // more flags of Envoy, other than the ones that are set here
	EnvoyConcurrency int      // 0: 2
	EnvoyLogLevel    string   // empty: warning

	Progress func(step string) // called with each step; may be nil
}

// complete fills in what was left out.
func (o Options) complete() (Options, error) {
	if o.PassthroughHeaders == nil {
		o.PassthroughHeaders = []string{policy.TicketHeader}
	}
	if o.EnvoyConcurrency == 0 {
		o.EnvoyConcurrency = 2
	}
	if o.EnvoyLogLevel == "" {
		o.EnvoyLogLevel = "warning"
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	dir, err := filepath.Abs(o.Dir)
	o.Dir = dir
	return o, errors.Join(err, o.findPrograms(), o.checkBackends())
}

// findPrograms makes the paths absolute, as programs run in folders of their own.
func (o *Options) findPrograms() error {
	var errs []error
	for _, program := range []struct {
		name string
		path *string
	}{{"Bellhop", &o.Bellhop}, {"Envoy", &o.Envoy}, {"vMCP", &o.VMCP}} {
		found, err := exec.LookPath(*program.path)
		if err == nil {
			found, err = filepath.Abs(found)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("find %s: %w", program.name, err))
			continue
		}
		*program.path = found
	}
	return errors.Join(errs...)
}

func (o Options) checkBackends() error {
	var errs []error
	for _, backend := range o.Backends {
		if _, err := url.Parse(backend.URL); err != nil {
			errs = append(errs, fmt.Errorf("backend %s: %w", backend.Name, err))
		}
	}
	return errors.Join(errs...)
}

// path is the backend's own path, which the fan-out asks for below its name.
func (b Backend) path() string {
	parsed, err := url.Parse(b.URL)
	if err != nil {
		return "" // checkBackends has refused it
	}
	return parsed.EscapedPath()
}
