package stack

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"bellhop/test/process"
)

func (s *Stack) startEnvoy(ctx context.Context) error {
	var err error
	s.envoy, err = process.Start(process.Options{
		Name: "Envoy",
		Path: s.options.Envoy,
		Args: append([]string{
			"--config-path", s.layout.envoyConfig,
			// Without hot restart, Envoys on one machine share nothing.
			"--disable-hot-restart",
			"--concurrency", strconv.Itoa(s.options.EnvoyConcurrency),
			"--log-level", s.options.EnvoyLogLevel,
		}, s.options.EnvoyArgs...),
		Env: s.environment(),
		Dir: s.options.Dir,
	})
	if err != nil {
		return err
	}
	return process.WaitHTTP(ctx, s.envoy, s.EnvoyAdminURL()+"/ready")
}

// EnvoyStats returns Envoy's counters and gauges by name.
func (s *Stack) EnvoyStats(ctx context.Context) (map[string]uint64, error) {
	text, err := s.get(ctx, s.EnvoyAdminURL()+"/stats")
	if err != nil {
		return nil, fmt.Errorf("read Envoy's statistics: %w", err)
	}
	stats := map[string]uint64{}
	for line := range strings.Lines(text) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), ": ")
		// Texts and histograms are no numbers, and nothing to count with.
		if value, err := strconv.ParseUint(number, 10, 64); err == nil {
			stats[name] = value
		}
	}
	return stats, nil
}
