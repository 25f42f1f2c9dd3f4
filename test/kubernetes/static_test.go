package kubernetes_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/loader"
	composetypes "github.com/compose-spec/compose-go/v2/types"
	"github.com/coreos/go-systemd/v22/unit"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// compose reads deploy/compose as docker compose does.
func compose(t *testing.T) *composetypes.Project {
	t.Helper()
	folder, err := filepath.Abs(filepath.Join(root, "deploy/compose"))
	if err != nil {
		t.Fatal(err)
	}
	made, err := loader.LoadWithContext(context.Background(), composetypes.ConfigDetails{
		WorkingDir: folder, ConfigFiles: []composetypes.ConfigFile{{Filename: filepath.Join(folder, "compose.yaml")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestComposeIsValid(t *testing.T) {
	project := compose(t)
	for name, service := range project.Services {
		if !service.ReadOnly || !slices.Equal(service.CapDrop, []string{"ALL"}) || len(service.CapAdd) > 0 ||
			service.Privileged ||
			!slices.Contains(service.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may do more than it needs", name)
		}
		if user, _, _ := strings.Cut(service.User, ":"); user == "" || user == "0" || user == "root" {
			t.Errorf("%s runs as %q", name, service.User)
		}
		for _, volume := range service.Volumes {
			if volume.Type != composetypes.VolumeTypeBind {
				continue
			}
			if _, err := os.Stat(volume.Source); err != nil || !volume.ReadOnly {
				t.Errorf("%s mounts %s: %v, read only: %v", name, volume.Source, err, volume.ReadOnly)
			}
		}
	}
	ours, envoy, vmcp := project.Services["bellhop"], project.Services["envoy"], project.Services["vmcp"]
	if ours.User != envoy.User {
		t.Errorf("Envoy runs as %s, and so cannot use the socket of %s", envoy.User, ours.User)
	}
	if memory := resource.MustParse(strings.TrimSuffix(*ours.Environment["GOMEMLIMIT"], "B")); memory.Value() >= int64(
		ours.MemLimit,
	) {
		t.Errorf("GOMEMLIMIT is not below the limit of %d", ours.MemLimit)
	}
	if want := drainDelay(t, ours.Command) + stopBudget; ours.StopGracePeriod == nil ||
		time.Duration(*ours.StopGracePeriod) < want {
		t.Errorf("a stop takes up to %s, and %v is given", want, ours.StopGracePeriod)
	}
	if ours.Image != "bellhop:dev" {
		t.Errorf("the image is %s", ours.Image)
	}
	inside := project.Networks["inside"]
	if networks := vmcp.NetworksByPriority(); !inside.Internal || !slices.Equal(networks, []string{"inside"}) {
		t.Errorf("the fan-out is on %v", networks)
	}
	address := envoy.Networks["inside"].Ipv4Address
	for file, want := range map[string]string{"envoy.yaml": "address: " + address,
		"vmcp.yaml": "http://" + address + ":8081/billing/mcp"} {
		if text := read(t, "deploy/compose/"+file); !strings.Contains(text, want) {
			t.Errorf("%s has no %s", file, want)
		}
	}
	for name, service := range project.Services {
		if _, there := service.Networks["inside"]; there && name != "envoy" && name != "vmcp" {
			t.Errorf("%s reaches Envoy's side to the backends", name)
		}
		for _, port := range service.Ports {
			if port.Target == 8081 {
				t.Errorf("%s publishes Envoy's side to the backends", name)
			}
		}
	}
	if !strings.Contains(read(t, "deploy/compose/vmcp.yaml"), "passthroughHeaders: [x-bellhop-ticket]") {
		t.Error("the fan-out does not pass on the ticket")
	}
	starts(t, ours.Command, map[string]string{"/etc/bellhop": "deploy/compose"})
}

// starts sees that bellhop serve knows the arguments and takes the policies that they name, of which the machine's
// folders stand for ours.
func starts(t *testing.T, args []string, folders map[string]string) {
	t.Helper()
	inForce, unknown := newFlags(t).of(&corev1.Container{Args: args})
	for _, what := range unknown {
		t.Errorf("bellhop serve has no %s", what)
	}
	if got := inForce["listen"][0]; got != "unix:///run/bellhop/bellhop.sock" {
		t.Errorf("it listens on %s", got)
	}
	for _, file := range inForce["policy"] {
		for theirs, ours := range folders {
			if rest, ok := strings.CutPrefix(file, theirs+"/"); ok {
				file = filepath.Join(root, ours, rest)
			}
		}
		if output, err := exec.CommandContext(t.Context(), bellhop, "check", file).CombinedOutput(); err != nil {
			t.Errorf("bellhop check: %v\n%s", err, output)
		}
	}
}

func drainDelay(t *testing.T, args []string) time.Duration {
	t.Helper()
	inForce, _ := newFlags(t).of(&corev1.Container{Args: args})
	delay, err := time.ParseDuration(inForce["drain-delay"][0])
	if err != nil {
		t.Fatal(err)
	}
	return delay
}

// units are those of deploy/systemd: by file, the values of each option.
func units(t *testing.T) map[string]map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "deploy/systemd/*.service"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%q, %v", files, err)
	}
	all := map[string]map[string][]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		options, err := unit.DeserializeOptions(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		values := map[string][]string{}
		for _, option := range options {
			values[option.Name] = append(values[option.Name], option.Value)
		}
		all[filepath.Base(file)] = values
	}
	return all
}

func TestSystemdUnitsAreValid(t *testing.T) {
	all := units(t)
	ours, envoy := all["bellhop.service"], all["bellhop-envoy.service"]
	command := strings.Fields(ours["ExecStart"][0])
	starts(t, command[1:], map[string]string{"/etc/bellhop": "deploy/systemd"})
	if stop, err := time.ParseDuration(ours["TimeoutStopSec"][0]); err != nil ||
		stop < drainDelay(t, command[1:])+stopBudget {
		t.Errorf("TimeoutStopSec=%s is shorter than a stop, %v", stop, err)
	}
	if !slices.Equal(envoy["SupplementaryGroups"], ours["Group"]) {
		t.Errorf("Envoy is not in the group %s, and so cannot use the socket", ours["Group"])
	}
	for name, values := range all {
		for _, option := range []string{"User", "Group"} {
			if user := strings.Join(values[option], ""); !strings.Contains(
				read(t, "deploy/systemd/bellhop.sysusers"),
				"\nu "+user+" ",
			) {
				t.Errorf("%s: nothing makes %s %q", name, option, user)
			}
		}
		if !slices.Equal(values["NoNewPrivileges"], []string{"yes"}) ||
			!slices.Equal(values["CapabilityBoundingSet"], []string{""}) {
			t.Errorf("%s may do more than it needs", name)
		}
	}
	verify(t)
}

// verify lets systemd itself read the units, where the machine has it.
func verify(t *testing.T) {
	t.Helper()
	analyze, err := exec.LookPath("systemd-analyze")
	if errors.Is(err, exec.ErrNotFound) {
		t.Log("NOT RUN: systemd-analyze verify, for this machine has no systemd. The units were parsed only.")
		return
	}
	machine := t.TempDir()
	put := func(path, text string, mode os.FileMode) {
		file := filepath.Join(machine, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"sysinit", "basic", "shutdown", "network-online", "multi-user"} {
		put("etc/systemd/system/"+name+".target", "[Unit]\nDescription="+name+"\nDefaultDependencies=no\n", 0o644)
	}
	for _, program := range []string{"usr/local/bin/bellhop", "usr/local/bin/envoy", "bin/kill"} {
		put(program, "#!/bin/sh\n", 0o755)
	}
	args := []string{"verify", "--root=" + machine, "--man=no"}
	for name := range units(t) {
		put("etc/systemd/system/"+name, read(t, "deploy/systemd/"+name), 0o644)
		args = append(args, name)
	}
	if output, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput(); err != nil || len(output) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, output)
	}
}
