package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"bellhop": main})
}

// The scripts run the program as a person would. UPDATE_SCRIPTS=1 writes what it prints into them.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Cmds:          map[string]func(*testscript.TestScript, bool, []string){"waitfor": waitFor},
	})
}

// waitFor waits until a program in the background has made a file.
func waitFor(script *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(script.MkAbs(args[0])); err == nil {
			return
		}
	}
	script.Fatalf("%s was not made within 30 s", args[0])
}

// Bellhop often runs as another user than the one who rotates its keys, who is then root.
func TestAKeyFileKeepsItsOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("NOT RUN: only root can give a file to somebody else")
	}
	const user, group = 65532, 65533
	file := filepath.Join(t.TempDir(), "keys")
	for _, step := range []string{"--add", "--stage", "--promote"} {
		if got := run([]string{"keygen", step, file}, strings.NewReader(""), io.Discard, os.Stderr); got != exitOK {
			t.Fatalf("%s: exit code %d", step, got)
		}
		if step == "--add" {
			if err := os.Chown(file, user, group); err != nil {
				t.Fatal(err)
			}
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); !ok || owner.Uid != user || owner.Gid != group {
		t.Errorf("the file belongs to %+v, want %d:%d", owner, user, group)
	}
}

func TestExitCodes(t *testing.T) {
	folder := t.TempDir()
	good, bad := filepath.Join(folder, "good.yaml"), filepath.Join(folder, "bad.yaml")
	for path, text := range map[string]string{good: "version: 1\nforward: [x-a]\n", bad: "version: 1\nforward: [host]\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		want int
		args []string
	}{
		{exitOK, []string{"check", good}},
		{exitOK, []string{"version"}},
		{exitInvalid, []string{"check", bad}},
		{exitInvalid, []string{"serve", "--policy", bad}},
		{
			exitInvalid,
			[]string{
				"envoy",
				"bootstrap",
				"--policy",
				bad,
				"--fanout",
				"http://127.0.0.1:1",
				"--backend",
				"a=http://127.0.0.1:2",
			},
		},
		{exitUsage, []string{"check", filepath.Join(folder, "none")}},
		{exitUsage, []string{"check", "--nonsense"}},
		{exitUsage, []string{"serve", "--policy", good, "--listen", "nowhere"}},
		{exitUsage, []string{"envoy", "bootstrap", "--policy", good}},
	}
	for _, test := range tests {
		if got := run(test.args, strings.NewReader(""), io.Discard, io.Discard); got != test.want {
			t.Errorf("%q: exit code %d, want %d", test.args, got, test.want)
		}
	}
}
