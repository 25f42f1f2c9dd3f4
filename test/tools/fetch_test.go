// Package tools_test tests the script that finds the pinned tools, with
// stand-ins for the tools and without any network.
package tools_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// These print what the real ones print.
const (
	pinnedEnvoy = "#!/bin/sh\necho; echo 'envoy  version: 9e55809/1.40.0/Clean/RELEASE/BoringSSL'\n"
	otherEnvoy  = "#!/bin/sh\necho; echo 'envoy  version: 9e55809/1.31.4/Clean/RELEASE/BoringSSL'\n"
	pinnedVMCP  = "#!/bin/sh\necho '{\"level\":\"INFO\",\"msg\":\"vmcp version: v0.44.0\"}' >&2\n"
	devVMCP     = "#!/bin/sh\necho '{\"level\":\"INFO\",\"msg\":\"vmcp version: dev\"}' >&2\n"
)

// program writes an executable file and returns its path.
func program(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// bare is a folder for PATH with what the script itself needs, and nothing else.
func bare(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"basename", "dirname", "env", "grep", "mkdir", "mktemp", "mv", "rm", "sed", "sh",
		"sleep", "tail", "chmod"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// fetch runs the script with only this environment.
func fetch(t *testing.T, environment []string, arguments ...string) (stdout, stderr string, exitCode int) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"fetch"}, arguments...)...)
	var out, errs bytes.Buffer
	command.Env, command.Stdout, command.Stderr = environment, &out, &errs
	if err := command.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), command.ProcessState.ExitCode()
}

func TestFound(t *testing.T) {
	cases := map[string]struct {
		tool, inPath, inCache, variable string
		want                            string // which of the three is answered
	}{
		"variable wins":         {"envoy", pinnedEnvoy, pinnedEnvoy, otherEnvoy, "variable"},
		"pinned Envoy in PATH":  {"envoy", pinnedEnvoy, pinnedEnvoy, "", "path"},
		"another Envoy in PATH": {"envoy", otherEnvoy, pinnedEnvoy, "", "cache"},
		"no Envoy in PATH":      {"envoy", "", pinnedEnvoy, "", "cache"},
		"pinned vMCP in PATH":   {"vmcp", pinnedVMCP, pinnedVMCP, "", "path"},
		"unknown vMCP in PATH":  {"vmcp", devVMCP, pinnedVMCP, "", "cache"},
	}
	folders := map[string]string{"envoy": "envoy-1.40.0", "vmcp": "vmcp-v0.44.0"}
	variables := map[string]string{"envoy": "ENVOY_BIN", "vmcp": "VMCP_BIN"}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			path, cache := bare(t), t.TempDir()
			environment := []string{"PATH=" + path, "BELLHOP_CACHE=" + cache}
			places := map[string]string{"cache": program(t, filepath.Join(cache, folders[c.tool]), c.tool, c.inCache)}
			if c.inPath != "" {
				places["path"] = program(t, path, c.tool, c.inPath)
			}
			if c.variable != "" {
				places["variable"] = program(t, t.TempDir(), "mine", c.variable)
				environment = append(environment, variables[c.tool]+"="+places["variable"])
			}
			stdout, stderr, exitCode := fetch(t, environment, c.tool)
			if exitCode != 0 || stdout != places[c.want]+"\n" {
				t.Errorf("exit code %d, answer %q, want %q; stderr: %s", exitCode, stdout, places[c.want], stderr)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	cases := map[string]struct {
		arguments   []string
		environment string
		want        string // on stderr
	}{
		"no tool":           {nil, "", "usage: fetch envoy|vmcp|redis|valkey|golangci-lint"},
		"unknown tool":      {[]string{"docker"}, "", "usage: "},
		"variable is wrong": {[]string{"envoy"}, "ENVOY_BIN=/no/such/envoy", "unset it"},
		"python is missing": {[]string{"envoy"}, "", "sudo apt-get install python3"},
		"Go is missing":     {[]string{"vmcp"}, "", "https://go.dev/dl/"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, exitCode := fetch(
				t,
				[]string{"PATH=" + bare(t), "BELLHOP_CACHE=" + t.TempDir(), c.environment},
				c.arguments...)
			if exitCode != 2 || stdout != "" || !strings.Contains(stderr, c.want) {
				t.Errorf("exit code %d, stdout %q, stderr %q; want 2, nothing, and %q", exitCode, stdout, stderr, c.want)
			}
		})
	}
}

// A fetch that fails shows the reason and leaves nothing in the cache.
func TestFailedFetchLeavesNothing(t *testing.T) {
	path, cache := bare(t), t.TempDir()
	program(t, path, "go", "#!/bin/sh\necho half >\"$GOBIN/vmcp\"; echo no route to the proxy >&2; exit 1\n")
	stdout, stderr, exitCode := fetch(t, []string{"PATH=" + path, "BELLHOP_CACHE=" + cache}, "vmcp")
	if exitCode != 2 || stdout != "" || !strings.Contains(stderr, "no route to the proxy") {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 2, nothing, and the reason", exitCode, stdout, stderr)
	}
	left, err := filepath.Glob(filepath.Join(cache, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Join(cache, ".*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(left)+len(hidden) != 0 {
		t.Errorf("left in the cache: %v %v", left, hidden)
	}
}
