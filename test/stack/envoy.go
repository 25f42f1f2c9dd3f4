package stack

import (
	"context"

	"bellhop/test/envoytest"
)

func (s *Stack) startEnvoy(ctx context.Context) error {
	started, err := envoytest.Start(ctx, envoytest.Options{
		Path: s.options.Envoy, Config: s.layout.envoyConfig, Admin: s.layout.envoyAdmin, Args: s.options.EnvoyArgs,
		Concurrency: s.options.EnvoyConcurrency, LogLevel: s.options.EnvoyLogLevel,
		Env: s.environment(), Dir: s.options.Dir,
	})
	if err != nil {
		return err
	}
	s.envoy = started
	return nil
}

// EnvoyStats returns Envoy's counters and gauges by name.
func (s *Stack) EnvoyStats(ctx context.Context) (map[string]uint64, error) { return s.envoy.Stats(ctx) }
