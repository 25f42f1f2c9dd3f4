package server_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	withIdentity = "version: 1\nforward: [x-old]\nbackends: {a: {discovery: [{name: x-id, file: secret}]}}\n"
	first        = "canary-1"
	second       = "canary-2"
)

func (s *site) identity(t *testing.T) string {
	t.Helper()
	_, set := s.ask(t, "egress", "")
	return set["x-id"]
}

// A credential is rotated without the policy being touched, and also while that has errors. One that cannot be read
// leaves the last good one in force.
func TestADiscoveryFileIsReloaded(t *testing.T) {
	s := serve(t, withIdentity, func(folder string) { write(t, folder, "secret", first) })
	if got := s.identity(t); got != first {
		t.Fatalf("the identity is %q", got)
	}
	secret := filepath.Join(s.folder(), "secret")
	replace(t, secret, second)
	wait(t, func() bool { return s.identity(t) == second })
	s.wantMetric(t, reloads("applied"), "1")

	must(t, os.Remove(secret))
	s.wantMetric(t, reloads("discovery_failed"), "1")
	s.wantMetric(t, "bellhop_policy_reload_success", "0")
	if got := s.identity(t); got != second {
		t.Errorf("without the file the identity is %q, want the last good one", got)
	}
	replace(t, secret, second)
	s.wantMetric(t, "bellhop_policy_reload_success", "1")

	s.write(t, faulty)
	s.wantMetric(t, reloads("invalid"), "1")
	replace(t, secret, first)
	wait(t, func() bool { return s.identity(t) == first })
	s.wantMetric(t, "bellhop_policy_reload_success", "0")
	if strings.Contains(s.log.String(), "canary") {
		t.Errorf("the log shows a credential: %s", s.log)
	}
}

// A policy whose discovery file comes later is applied when it has come.
func TestAPolicyLoadsOnceItsDiscoveryFileExists(t *testing.T) {
	s := serve(t, older, nil)
	elsewhere := t.TempDir()
	text := strings.Replace(withIdentity, "secret", elsewhere+"/secret", 1)
	s.write(t, text)
	s.wantMetric(t, reloads("discovery_failed"), "1")
	s.wantPolicy(t, older)
	write(t, elsewhere, "secret", first)
	s.wantPolicy(t, text)
	if got := s.identity(t); got != first {
		t.Errorf("the identity is %q", got)
	}
}

// A credential that cannot be read at the start delays only requests that need it, and is used once it can be read.
func TestADiscoveryFileThatIsMissingAtTheStart(t *testing.T) {
	s := serve(t, strings.Replace(withIdentity, "backends: {", "backends: {b: {}, ", 1), nil)
	s.wantMetric(t, "bellhop_policy_reload_success", "0")
	const refused = `bellhop_requests_total{fanout="",outcome="no_identity",role="egress"}`
	if _, _, err := s.try("egress", ""); err == nil || !strings.Contains(err.Error(), "identity_unavailable") {
		t.Errorf("a request that needs the identity: %v", err)
	}
	s.wantMetric(t, refused, "1")
	for name, request := range map[string][]string{"a tool call": {"", "mcp-method: tools/call"},
		"a client's": {s.ticket(t)}} {
		if _, _, err := s.try("egress", request[0], request[1:]...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.wantMetric(t, refused, "1")
	if strings.Count(s.log.String(), "discovery header x-id of backend a") != 1 {
		t.Errorf("the log should say it once:\n%s", s.log)
	}
	// It keeps no change of the policy waiting, for nothing that was good gets lost.
	s.write(t, strings.Replace(strings.Replace(withIdentity, "backends: {", "backends: {b: {}, ", 1), "x-old", "x-new", 1))
	wait(t, func() bool {
		removed, _, err := s.try("ingress", "", "x-new")
		return err == nil && slices.Contains(removed, "x-new")
	})
	write(t, s.folder(), "secret", first)
	wait(t, func() bool { _, set, err := s.try("egress", ""); return err == nil && set["x-id"] == first })
	s.wantMetric(t, "bellhop_policy_reload_success", "1")
}
