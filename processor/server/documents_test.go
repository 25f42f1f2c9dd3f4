package server_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extprocv3 "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc/metadata"

	"bellhop/processor/server"
)

const (
	searchPolicy  = "version: 1\nfanout: search\nforward: [x-old]\n"
	billingPolicy = "version: 1\nfanout: billing\nforward: [x-old]\n"
	mesh          = "version: 1\nceiling: {deny: [x-new], limits: {value_bytes: 100}}\n"
)

// team starts a Bellhop on a folder of policies below a ceiling.
func team(t *testing.T) (s *site, folder, ceiling string) {
	t.Helper()
	s = serve(t, searchPolicy, func(parent string) {
		must(t, os.Mkdir(parent+"/teams", 0o750))
		must(t, os.Rename(parent+"/policy.yaml", parent+"/teams/search.yaml"))
		write(t, parent+"/teams", ".hidden.yaml", faulty)
		write(t, parent+"/teams", "notes.txt", faulty)
		write(t, parent, "mesh.yaml", mesh)
	}, func(c *server.Config) {
		parent := filepath.Dir(c.Policies[0])
		c.Policies, c.Ceiling = []string{parent + "/teams"}, parent+"/mesh.yaml"
	})
	return s, s.config.Policies[0], s.config.Ceiling
}

// fanouts are those that are served.
func (s *site) fanouts(t *testing.T) string {
	t.Helper()
	var served []string
	for _, name := range []string{"billing", "search"} {
		if err := s.at(t, name); err == nil {
			served = append(served, name)
		}
	}
	return strings.Join(served, " ")
}

func (s *site) at(t *testing.T, fanout string) error {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(context.Background(), "bellhop-role", "ingress", "bellhop-fanout", fanout)
	stream, err := s.client.Process(ctx)
	must(t, err)
	_ = stream.Send(&extprocv3.ProcessingRequest{Request: &extprocv3.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extprocv3.HttpHeaders{Headers: &corev3.HeaderMap{}},
	}}) // a stream that is refused may have ended by now
	defer func() { _ = stream.CloseSend() }()
	answer, err := stream.Recv()
	if refused := answer.GetImmediateResponse(); refused != nil && err == nil {
		return errors.New(string(refused.GetBody()))
	}
	return err
}

func TestAFolderOfPoliciesIsFollowed(t *testing.T) {
	s, folder, _ := team(t)
	write(t, folder, "billing.yaml", billingPolicy)
	wait(t, func() bool { return s.fanouts(t) == "billing search" })
	if log := s.log.String(); !strings.Contains(log, "fan-out added") {
		t.Errorf("it is not logged: %s", log)
	}
	must(t, os.Remove(folder+"/search.yaml"))
	wait(t, func() bool { return s.fanouts(t) == "billing" })
	if log := s.log.String(); !strings.Contains(log, "fan-out removed") {
		t.Errorf("it is not logged: %s", log)
	}
	must(t, os.Remove(folder+"/billing.yaml")) // a folder without any policy is no policy
	s.wantMetric(t, "bellhop_policy_reload_success", "0")
	if got := s.fanouts(t); got != "billing" {
		t.Errorf("the last good ones stay: %q", got)
	}
}

// While a team's document is away, no other file takes its fan-out.
func TestAFileWithADotDoesNotTakeAFanout(t *testing.T) {
	s, folder, _ := team(t)
	write(t, folder, "billing.yaml", billingPolicy)
	wait(t, func() bool { return s.fanouts(t) == "billing search" })
	must(t, os.Remove(folder+"/search.yaml"))
	write(t, folder, "search.evil.yaml", searchPolicy)
	wait(t, func() bool { return strings.Contains(s.log.String(), "without a dot") })
	if got := s.fanouts(t); got != "billing" {
		t.Errorf("served: %q", got)
	}
}

// Invariant 9: a document with errors stays as it was, whole, and keeps none of the others from being taken.
func TestAnInvalidDocumentAffectsNoOther(t *testing.T) {
	tests := []struct {
		name   string
		change func(t *testing.T, folder, ceiling string)
		log    string
		served string
		taken  bool // others are
	}{
		{
			"a faulty policy",
			func(t *testing.T, folder, _ string) { write(t, folder, "bad.yaml", faulty) },
			"bad.yaml:3:5",
			"billing search",
			true,
		},
		{
			"another's fan-out",
			func(t *testing.T, folder, _ string) { write(t, folder, "bad.yaml", searchPolicy) },
			"bad.yaml is for the fan-out",
			"billing search",
			true,
		},
		{
			"another's fan-out, by a dot in the file's name",
			func(t *testing.T, folder, _ string) { write(t, folder, "search.bad.yaml", searchPolicy) },
			"without a dot",
			"billing search",
			true,
		},
		{"a policy above the ceiling", func(t *testing.T, folder, _ string) {
			write(t, folder, "bad.yaml", "version: 1\nfanout: bad\nforward: [x-new]\n")
		}, "is denied by the ceiling", "billing search", true},
		{
			"one that turns faulty",
			func(t *testing.T, folder, _ string) { replace(t, folder+"/search.yaml", faulty) },
			"search.yaml:3:5",
			"billing search",
			true,
		},
		{"a lower ceiling", func(t *testing.T, _, ceiling string) {
			replace(t, ceiling, "version: 1\nceiling: {deny: [x-old]}\n")
		}, "policy withdrawn", "", false},
		{
			"a faulty ceiling",
			func(t *testing.T, _, ceiling string) { replace(t, ceiling, "version: 1\n") },
			"has no ceiling",
			"search",
			false,
		},
		{
			"no ceiling",
			func(t *testing.T, _, ceiling string) { must(t, os.Remove(ceiling)) },
			"--ceiling: open",
			"search",
			false,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, folder, ceiling := team(t)
			test.change(t, folder, ceiling)
			wait(t, func() bool { return strings.Contains(s.log.String(), test.log) })
			write(t, folder, "billing.yaml", billingPolicy)
			if test.taken {
				wait(t, func() bool { return s.fanouts(t) == test.served })
			}
			_ = s.Reload()
			if got := s.fanouts(t); got != test.served {
				t.Errorf("served are %q", got)
			}
			s.wantMetric(t, "bellhop_policy_reload_success", "0")
		})
	}
}

// A ceiling that is tightened is a revocation: what is above it is not served for one more request, whatever else is
// wrong.
func TestATightenedCeilingWithdrawsWhatIsAboveIt(t *testing.T) {
	const tight = "version: 1\nceiling: {deny: [x-old]}\n"
	below := strings.Replace(searchPolicy, "x-old", "x-fine", 1)
	for name, change := range map[string]func(t *testing.T, folder string){
		"the document is the same":  func(*testing.T, string) {},
		"the document turns faulty": func(t *testing.T, folder string) { replace(t, folder+"/search.yaml", faulty) },
		"the document is still above": func(t *testing.T, folder string) {
			replace(t, folder+"/search.yaml", searchPolicy+"mode: observe\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, folder, ceiling := team(t)
			replace(t, ceiling, tight)
			change(t, folder)
			wait(t, func() bool {
				err := s.at(t, "search")
				return err != nil && strings.Contains(err.Error(), "above_ceiling")
			})
			wait(t, func() bool { // it is withdrawn first, and then logged
				return strings.Contains(s.log.String(), "policy withdrawn: it is above the ceiling")
			})
			s.wantMetric(t, "bellhop_policy_reload_success", "0")
			replace(t, folder+"/search.yaml", below)
			wait(t, func() bool { return s.at(t, "search") == nil })
			s.wantMetric(t, "bellhop_policy_reload_success", "1")
			replace(t, folder+"/search.yaml", searchPolicy) // now the last good one stays, which is below
			wait(t, func() bool { return strings.Contains(s.log.String(), "the last good one stays in force") })
			if err := s.at(t, "search"); err != nil {
				t.Errorf("the last good policy: %v", err)
			}
		})
	}
}

// At the start a fan-out whose policy is above the ceiling is refused with that reason, as later.
func TestAStartWithAPolicyAboveTheCeiling(t *testing.T) {
	s := serve(t, searchPolicy, func(parent string) {
		must(t, os.Mkdir(parent+"/teams", 0o750))
		must(t, os.Rename(parent+"/policy.yaml", parent+"/teams/search.yaml"))
		write(t, parent+"/teams", "billing.yaml", strings.Replace(billingPolicy, "x-old", "x-fine", 1))
		write(t, parent, "mesh.yaml", "version: 1\nceiling: {deny: [x-old]}\n")
	}, func(c *server.Config) {
		parent := filepath.Dir(c.Policies[0])
		c.Policies, c.Ceiling = []string{parent + "/teams"}, parent+"/mesh.yaml"
	})
	if err := s.at(t, "search"); err == nil || !strings.Contains(err.Error(), "above_ceiling") {
		t.Errorf("got %v", err)
	}
	if err := s.at(t, "billing"); err != nil {
		t.Errorf("the other: %v", err)
	}
}

// A start is no other: what is good is served.
func TestAStartWithOneInvalidDocument(t *testing.T) {
	s := serve(t, searchPolicy, func(parent string) {
		must(t, os.Mkdir(parent+"/teams", 0o750))
		must(t, os.Rename(parent+"/policy.yaml", parent+"/teams/search.yaml"))
		write(t, parent+"/teams", "billing.yaml", faulty)
	}, func(c *server.Config) { c.Policies = []string{filepath.Dir(c.Policies[0]) + "/teams"} })
	s.wantMetric(t, "bellhop_policy_reload_success", "0")
	if got := s.fanouts(t); got != "search" {
		t.Errorf("served are %q", got)
	}
	replace(t, s.config.Policies[0]+"/billing.yaml", billingPolicy)
	wait(t, func() bool { return s.fanouts(t) == "billing search" })
	s.wantMetric(t, "bellhop_policy_reload_success", "1")
}

// A filter that names no fan-out is not the one's that happens to be left.
func TestAnUnnamedFilterIsNotServedByTheRemainingFanout(t *testing.T) {
	s := serve(t, searchPolicy, func(folder string) { write(t, folder, "bad.yaml", faulty) }, func(c *server.Config) {
		folder := filepath.Dir(c.Policies[0])
		c.Policies, c.Ceiling = []string{folder + "/bad.yaml", c.Policies[0]}, write(t, folder, "mesh.yaml", mesh)
	})
	if got := s.fanouts(t); got != "search" {
		t.Errorf("served are %q", got)
	}
	if err := s.at(t, ""); err == nil {
		t.Error("a filter without a name is served")
	}
}

func TestACeilingThatChangesIsApplied(t *testing.T) {
	s, _, ceiling := team(t)
	replace(t, ceiling, "version: 1\nceiling: {limits: {headers: 1}}\n")
	s.wantMetric(t, reloads("applied"), "1")
}

func TestPoliciesThatConflict(t *testing.T) {
	c := config(t)
	folder := filepath.Dir(c.Policies[0])
	empty := filepath.Join(folder, "empty")
	must(t, os.Mkdir(empty, 0o750))
	for want, policies := range map[string][]string{
		"are both for the fan-out \"\"": {c.Policies[0], write(t, folder, "again.yaml", older)},
		"the folder holds no policy":    {empty},
	} {
		c.Policies = policies
		if _, err := server.New(c, quiet()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
