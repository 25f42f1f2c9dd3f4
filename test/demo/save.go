package main

import (
	"fmt"
	"os"
	"path/filepath"

	"bellhop/test/stack"
)

// save copies the configuration of this run to where it can be read after the demo.
func save(s *stack.Stack, dir string) (string, error) {
	dir, err := savePlace(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the folder for the configuration: %w (choose another with --save)", err)
	}
	for _, name := range savedFiles() {
		text, err := os.ReadFile(filepath.Join(s.Dir(), name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			return "", fmt.Errorf("save the configuration: %w (choose another folder with --save)", err)
		}
	}
	return dir, nil
}

func savedFiles() []string {
	return []string{"policy.yaml", discoveryFile, "envoy.yaml", "vmcp.yaml"}
}

// savePlace is by default in the cache that the Makefile uses as well.
func savePlace(dir string) (string, error) {
	if dir != "" {
		return filepath.Abs(dir)
	}
	if cache := os.Getenv("BELLHOP_CACHE"); cache != "" {
		return filepath.Join(cache, "demo"), nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the configuration: %w (choose one with --save)", err)
	}
	return filepath.Join(cache, "bellhop", "demo"), nil
}
