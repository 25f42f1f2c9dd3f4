package server

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"bellhop/policy"
	"bellhop/processor/discovery"
)

// rules are a policy with all that it names.
type rules struct {
	policy     *policy.Policy
	findings   policy.Findings // warnings
	identities map[string][]policy.Header
}

// load reads a policy and its discovery identities, or neither. Faults of the policy are returned as
// [policy.Findings].
func load(path string) (*rules, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--policy: %w; write one, or correct the path", err)
	}
	loaded, findings := policy.Load(path, text)
	if loaded == nil {
		return nil, findings
	}
	identities, err := discovery.Read(loaded.Backends(), filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	return &rules{policy: loaded, findings: findings, identities: identities}, nil
}

// warn logs what is legal but unwise.
func (r *rules) warn(log *slog.Logger) {
	for _, finding := range r.findings {
		log.Warn(finding.Message, "file", finding.File, "line", finding.Line, "mend", finding.Mend)
	}
}
