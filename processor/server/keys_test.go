package server_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bellhop/policy"
	"bellhop/processor/server"
	"bellhop/processor/ticket"
)

// A key file that changes is taken without a restart; with an error the last good keys stay.
func TestKeysAreReloaded(t *testing.T) {
	var keyFile string
	s := serve(t, older, func(folder string) {
		first, err := ticket.AddKey(nil, 2)
		must(t, err)
		keyFile = write(t, folder, "keys", string(first))
	}, func(c *server.Config) { c.KeyFile = keyFile })
	_, set := s.ask(t, "ingress", "", "x-old")
	before := set[policy.TicketHeader]
	content, err := os.ReadFile(keyFile)
	must(t, err)
	next, err := ticket.AddKey(content, 2)
	must(t, err)
	replace(t, keyFile, "too short\n")
	s.wantMetric(t, reloads("keys_failed"), "1")
	if _, set := s.ask(t, "ingress", "", "x-old"); set[policy.TicketHeader] != before {
		t.Error("the last good keys stay")
	}
	replace(t, keyFile, string(next))
	s.wantMetric(t, "bellhop_policy_reload_success", "1")
	if _, set := s.ask(t, "ingress", "", "x-old"); set[policy.TicketHeader] == before {
		t.Error("the newest key makes tickets")
	}
	if _, set := s.ask(t, "egress", before); set["x-old"] != "v" {
		t.Error("an old ticket is redeemed")
	}
	if log := s.log.String(); !strings.Contains(log, "keys reloaded") || strings.Contains(log, "too short") {
		t.Error("the log has to tell of the keys, and nothing of their content")
	}
}

// A error in one document does not keep a key, which may be known to others, in force; the policy stays as it was.
func TestKeysAreReloadedDespiteOtherErrors(t *testing.T) {
	tests := []struct {
		name    string
		spoil   func(t *testing.T, s *site)
		outcome string
	}{
		{"invalid", func(t *testing.T, s *site) { s.write(t, faulty) }, "invalid"},
		{"deleted", func(t *testing.T, s *site) { must(t, os.Remove(s.config.Policies[0])) }, "unreadable"},
		{"another fan-out", func(t *testing.T, s *site) { s.write(t, "fanout: other\n"+withIdentity) }, "fanout_changed"},
		{
			"no discovery file",
			func(t *testing.T, s *site) { must(t, os.Remove(filepath.Join(s.folder(), "secret"))) },
			"discovery_failed",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			keys, err := ticket.AddKey(nil, 2)
			must(t, err)
			var keyFile string
			s := serve(t, withIdentity, func(folder string) {
				write(t, folder, "secret", first)
				keyFile = write(t, folder, "keys", string(keys))
			}, func(c *server.Config) { c.KeyFile = keyFile })
			before := s.ticket(t)
			test.spoil(t, s)
			s.wantMetric(t, "bellhop_policy_reload_success", "0")
			keys, err = ticket.AddKey(keys, 2)
			must(t, err)
			replace(t, keyFile, string(keys))
			wait(t, func() bool { return s.ticket(t) != before })
			after := s.ticket(t)
			if _, set := s.ask(t, "egress", before); set["x-old"] != "v" {
				t.Error("a ticket of the key before is redeemed")
			}
			s.wantPolicy(t, withIdentity)
			if err := s.Reload(); err == nil {
				t.Error("a reload still tells of the fault")
			}
			s.wantMetric(t, "bellhop_policy_reload_success", "0")
			if n := s.metric(t, reloads(test.outcome)); n == "0" || n == "" {
				t.Errorf("%s reloads were counted as %s", n, test.outcome)
			}
			if got := s.identity(t); got != first {
				t.Errorf("the identity is %q, want the last good one", got)
			}

			replace(t, keyFile, "too short\n")
			wait(t, func() bool { return strings.Contains(s.log.String(), "line 1 is not 32 bytes") })
			if err := s.Reload(); err == nil || !strings.Contains(err.Error(), "--key-file") {
				t.Errorf("a reload tells of the key file too: %v", err)
			}
			if got := s.ticket(t); got != after {
				t.Error("with a fault in the key file the last good keys stay")
			}
		})
	}
}

// ticket is the one that a client's request gets now.
func (s *site) ticket(t *testing.T) string {
	t.Helper()
	_, set := s.ask(t, "ingress", "", "x-old")
	return set[policy.TicketHeader]
}

func TestAKeyFileThatOthersCanReadIsReported(t *testing.T) {
	var keyFile string
	s := serve(t, older, func(folder string) {
		first, err := ticket.AddKey(nil, 2)
		must(t, err)
		keyFile = write(t, folder, "keys", string(first))
		must(t, os.Chmod(keyFile, 0o644))
	}, func(c *server.Config) { c.KeyFile = keyFile })
	if log := s.log.String(); !strings.Contains(log, "every user of this machine can read or write the key file") {
		t.Errorf("no warning: %s", log)
	}
	second, err := ticket.AddKey(nil, 2)
	must(t, err)
	must(t, os.WriteFile(keyFile, second, 0o644))
	wait(t, func() bool {
		return strings.Count(s.log.String(), "every user of this machine can read or write the key file") == 2
	})
	quiet := serve(t, older+"ticket: {mode: sealed}\n", nil)
	if log := quiet.log.String(); !strings.Contains(log, "sealed tickets without --key-file") {
		t.Errorf("no warning: %s", log)
	}
}
