package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"bellhop/test/process"
)

// StartBellhop starts Bellhop and waits until it is ready. [Start] has done that
// already: it is needed after KillBellhop.
func (s *Stack) StartBellhop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bellhop != nil {
		return errors.New("start Bellhop: it is running")
	}
	started, err := process.Start(process.Options{
		Name: "Bellhop",
		Path: s.options.Bellhop,
		Args: append([]string{
			"serve", "--policy", s.layout.policy, "--listen", s.socketURL(),
			"--admin", s.layout.bellhopAdmin, "--drain-delay", "0s",
		}, s.options.ServeArgs...),
		Env: s.environment(),
		Dir: s.options.Dir,
	})
	if err != nil {
		return err
	}
	if err := process.WaitHTTP(ctx, started, "http://"+s.layout.bellhopAdmin+"/readyz"); err != nil {
		started.Kill()
		<-started.Done()
		return err
	}
	s.bellhop = started
	return nil
}

// KillBellhop kills Bellhop with SIGKILL, as a crash would, and returns when it
// has ended.
func (s *Stack) KillBellhop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bellhop == nil {
		return
	}
	s.bellhop.Kill()
	<-s.bellhop.Done()
	s.bellhopEnded.WriteString(s.bellhop.Output())
	s.bellhop = nil
}

// runningBellhop is nil between KillBellhop and StartBellhop.
func (s *Stack) runningBellhop() *process.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bellhop
}

// writeEnvoyConfig lets Bellhop write the configuration that Envoy will run on, or whatever the options name.
func (s *Stack) writeEnvoyConfig(ctx context.Context) error {
	by := s.options.Configure
	if by == nil {
		by = []string{s.options.Bellhop, "envoy", "bootstrap"}
	}
	args := append(slices.Clone(by[1:]),
		"--policy", s.layout.policy,
		"--ingress", s.layout.ingress, "--fanout", s.tap.URL(), "--egress", s.layout.egress,
		"--bellhop", s.socketURL(), "--envoy-admin", s.layout.envoyAdmin,
	)
	for _, backend := range s.options.Backends {
		args = append(args, "--backend", backend.Name+"="+backend.URL)
	}
	command := exec.CommandContext(ctx, by[0], append(args, s.options.BootstrapArgs...)...)
	command.Dir, command.Env = s.options.Dir, s.environment()
	var config, complaints bytes.Buffer
	command.Stdout, command.Stderr = &config, &complaints
	if err := command.Run(); err != nil {
		return fmt.Errorf(
			"write Envoy's configuration with %s: %w; it says:\n%s", strings.Join(by, " "), err, complaints.Bytes(),
		)
	}
	return os.WriteFile(s.layout.envoyConfig, config.Bytes(), 0o600)
}

func (s *Stack) socketURL() string { return "unix://" + s.layout.socket }

// environment is all that Bellhop and Envoy get to see: BELLHOP_ variables of the caller
// would change how Bellhop runs.
func (s *Stack) environment() []string {
	return []string{"HOME=" + s.options.Dir, "TMPDIR=" + s.options.Dir}
}
