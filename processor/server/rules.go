package server

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"bellhop/policy"
	"bellhop/processor/discovery"
)

// rules are a policy with all that it names. They never change.
type rules struct {
	path       string // of the policy
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
	r, err := parse(path, text)
	if err != nil {
		return nil, err
	}
	return r.identified()
}

// parse makes rules that lack their discovery identities.
func parse(path string, text []byte) (*rules, error) {
	loaded, findings := policy.Load(path, text)
	if loaded == nil {
		return nil, findings
	}
	return &rules{path: path, policy: loaded, findings: findings}, nil
}

// identified returns the same rules with the discovery identities as the files have them now: all or none.
func (r *rules) identified() (*rules, error) {
	identities, err := discovery.Read(r.policy.Backends(), filepath.Dir(r.path))
	if err != nil {
		return nil, err
	}
	with := *r
	with.identities = identities
	return &with, nil
}

// files are all that the rules are read from.
func (r *rules) files() []string {
	return append([]string{r.path}, discovery.Files(r.policy.Backends(), filepath.Dir(r.path))...)
}

// samePolicy reports whether other has the same policy, letter for letter.
func (r *rules) samePolicy(other *rules) bool { return r.policy.Digest() == other.policy.Digest() }

// sameIdentities reports whether other has the same discovery identities.
func (r *rules) sameIdentities(other *rules) bool {
	return maps.EqualFunc(r.identities, other.identities, func(a, b []policy.Header) bool {
		return slices.EqualFunc(a, b, func(a, b policy.Header) bool { return a.Name == b.Name && a.Value.Equal(b.Value) })
	})
}

// beyond lists the names that a proxy has to show, or to let Bellhop change, for these rules and not for the other.
func (r *rules) beyond(other *rules) []string {
	names := slices.Concat(
		missing(r.policy.IngressFootprint(), other.policy.IngressFootprint()),
		missing(r.policy.EgressFootprint(), other.policy.EgressFootprint()),
	)
	slices.Sort(names)
	return slices.Compact(names)
}

func missing(wanted, given policy.Footprint) []string {
	var names []string
	for _, name := range wanted.Reads {
		if !slices.Contains(given.Reads, name) {
			names = append(names, name)
		}
	}
	for _, name := range wanted.Writes {
		if !slices.Contains(given.Writes, name) {
			names = append(names, name)
		}
	}
	return names
}

// warn logs what is legal but unwise.
func (r *rules) warn(log *slog.Logger) {
	for _, finding := range r.findings {
		log.Warn(finding.Message, "file", finding.File, "line", finding.Line, "mend", finding.Mend)
	}
}
