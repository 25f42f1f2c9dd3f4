package vmcp

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/goccy/go-yaml"
)

// defaultInterval is rare enough to keep checks apart from what a test looks at.
const defaultInterval = 10 * time.Second

// writeConfig writes the configuration that the options ask for and returns its path.
func writeConfig(options Options) (string, error) {
	text, err := yaml.Marshal(document(options))
	if err != nil {
		return "", fmt.Errorf("write its configuration: %w", err)
	}
	file := filepath.Join(options.Dir, "vmcp.yaml")
	if err := os.WriteFile(file, slices.Concat(text, []byte(options.ExtraYAML)), 0o600); err != nil {
		return "", fmt.Errorf("write its configuration: %w", err)
	}
	return file, nil
}

// document is the smallest configuration with which vMCP is a plain fan-out.
func document(options Options) yaml.MapSlice {
	settings := yaml.MapSlice{
		{Key: "name", Value: "demo"},
		{Key: "groupRef", Value: "demo"},
		{Key: "incomingAuth", Value: yaml.MapSlice{{Key: "type", Value: "anonymous"}}},
		{Key: "outgoingAuth", Value: yaml.MapSlice{
			{Key: "source", Value: "inline"},
			{Key: "default", Value: yaml.MapSlice{{Key: "type", Value: "unauthenticated"}}},
		}},
		{Key: "aggregation", Value: yaml.MapSlice{
			{Key: "conflictResolution", Value: "prefix"},
			{Key: "conflictResolutionConfig", Value: yaml.MapSlice{{Key: "prefixFormat", Value: "{workload}_"}}},
		}},
		{Key: "backends", Value: backends(options.Backends)},
		{Key: "operational", Value: yaml.MapSlice{{Key: "failureHandling", Value: health(options.HealthCheckInterval)}}},
	}
	if len(options.PassthroughHeaders) > 0 {
		settings = append(settings, yaml.MapItem{Key: "passthroughHeaders", Value: options.PassthroughHeaders})
	}
	if options.Baggage {
		// A name is enough to make it pass on baggage. Without an endpoint it reports nothing.
		settings = append(settings, yaml.MapItem{Key: "telemetry", Value: yaml.MapSlice{{Key: "serviceName", Value: "demo"}}})
	}
	return settings
}

func backends(list []Backend) []yaml.MapSlice {
	entries := []yaml.MapSlice{}
	for _, backend := range list {
		entries = append(entries, yaml.MapSlice{
			{Key: "name", Value: backend.Name},
			{Key: "url", Value: backend.URL},
			{Key: "transport", Value: "streamable-http"},
		})
	}
	return entries
}

func health(interval time.Duration) yaml.MapSlice {
	if interval == 0 {
		interval = defaultInterval
	}
	// vMCP refuses a timeout that is not shorter than the interval.
	timeout := min(interval/2, 5*time.Second)
	return yaml.MapSlice{
		{Key: "healthCheckInterval", Value: interval.String()},
		{Key: "unhealthyThreshold", Value: 3},
		{Key: "healthCheckTimeout", Value: timeout.String()},
		{Key: "partialFailureMode", Value: "best_effort"},
	}
}
