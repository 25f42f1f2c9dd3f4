// Package tools finds the pinned programs that the tests run, and builds Bellhop itself.
package tools

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Path returns the path of a pinned tool: envoy, vmcp, redis, valkey or golangci-lint. One that is not in the cache is
// fetched, which may take minutes; make does that before any test. Its progress goes to stderr.
func Path(ctx context.Context, tool string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, "sh", filepath.Join(root, "test", "tools", "fetch"), tool)
	command.Stderr = os.Stderr
	path, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("find %s: %w; run make tools, which says more", tool, err)
	}
	return strings.TrimSpace(string(path)), nil
}

// BuildBellhop builds the program into a folder and returns its path. With race it finds data races in itself.
func BuildBellhop(ctx context.Context, folder string, race bool) (string, error) {
	path := filepath.Join(folder, "bellhop")
	args := []string{"build", "-o", path}
	if race {
		args = append(args, "-race")
	}
	output, err := exec.CommandContext(ctx, "go", append(args, "bellhop/cmd/bellhop")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build Bellhop: %w\n%s", err, output)
	}
	return path, nil
}

// moduleRoot is the folder of go.mod, from any folder below it.
func moduleRoot() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder, nil
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return "", errors.New("no go.mod above this folder; run from inside the project")
		}
		folder = parent
	}
}
