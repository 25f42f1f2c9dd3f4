package main

import (
	"context"
	"debug/buildinfo"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// startTime is how long all programs together may take to start.
const startTime = time.Minute

// show is the demo while it runs: both paths, and what came of them.
type show struct {
	with, without *path
	report        report
}

// perform starts both paths side by side, lets the players play on each, and
// checks what was recorded.
func perform(ctx context.Context, dir string, bins programs, say func(string)) (*show, error) {
	started := time.Now()
	s := &show{}
	if err := s.start(ctx, dir, bins, say); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	if err := s.play(ctx, say); err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	s.report.errs = verify(s.report.with)
	s.report.elapsed = time.Since(started)
	return s, nil
}

func (s *show) start(ctx context.Context, dir string, bins programs, say func(string)) error {
	withDir, err := folder(dir, "with")
	if err != nil {
		return err
	}
	withoutDir, err := folder(dir, "without")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		s.with, err = startWith(ctx, withDir, bins, say)
		return err
	})
	group.Go(func() (err error) {
		s.without, err = startWithout(ctx, withoutDir, bins)
		return err
	})
	group.Go(func() (err error) {
		s.report.envoy, err = envoyVersion(ctx, bins.envoy)
		return err
	})
	group.Go(func() error {
		s.report.vmcp = vmcpVersion(bins.vmcp)
		return nil
	})
	return group.Wait()
}

// play plays on one path after the other: they share the machine.
func (s *show) play(ctx context.Context, say func(string)) error {
	var err error
	say("alice and bob call tools, with Bellhop")
	if s.report.with, err = play(ctx, s.with); err != nil {
		return fmt.Errorf("with Bellhop: %w", err)
	}
	say("alice and bob call tools, without Bellhop")
	if s.report.without, err = play(ctx, s.without); err != nil {
		return fmt.Errorf("without Bellhop: %w", err)
	}
	return nil
}

// close stops both paths.
func (s *show) close(ctx context.Context) error {
	var errs []error
	for _, p := range []*path{s.with, s.without} {
		if p != nil {
			errs = append(errs, p.close(ctx))
		}
	}
	return errors.Join(errs...)
}

// envoyVersion asks Envoy: "envoy  version: 9e55809/1.40.0/Clean/RELEASE/BoringSSL".
func envoyVersion(ctx context.Context, bin string) (string, error) {
	output, err := exec.CommandContext(ctx, bin, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", bin, err)
	}
	parts := strings.Split(string(output), "/")
	if len(parts) < 4 {
		return "(unknown)", nil
	}
	return parts[len(parts)-4], nil
}

// vmcpVersion is read from the binary: one that was built with "go install" says "dev" itself.
func vmcpVersion(bin string) string {
	info, err := buildinfo.ReadFile(bin)
	if err != nil || info.Main.Version == "" {
		return "(unknown)"
	}
	return info.Main.Version
}
