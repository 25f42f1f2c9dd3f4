package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bellhop/test/mcptest"
	"bellhop/test/tools"

	"go.uber.org/goleak"
)

// found are flags with the real programs: TestMain finds them, and no test changes them.
var found []string

func TestMain(m *testing.M) {
	flag.Parse()
	folder, err := os.MkdirTemp("", "bellhop-demotest")
	if err == nil && !testing.Short() {
		found, err = findPrograms(folder)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(exitCode int) {
		_ = os.RemoveAll(folder)
		os.Exit(exitCode)
	}))
}

func findPrograms(folder string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	bellhop, err := tools.BuildBellhop(ctx, folder, false)
	if err != nil {
		return nil, err
	}
	envoy, err := tools.Path(ctx, "envoy")
	if err != nil {
		return nil, err
	}
	vmcp, err := tools.Path(ctx, "vmcp")
	return []string{"--bellhop", bellhop, "--envoy", envoy, "--vmcp", vmcp}, err
}

// flags are those of a demo with the real programs, and more.
func flags(t *testing.T, more ...string) []string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs Envoy and vMCP")
	}
	return slices.Concat(found, more)
}

// inFolder makes the demo work in a folder of the test's own and returns that.
func inFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	return dir
}

// empty fails the test when something was left behind.
func empty(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left in the folder: %v, error %v", left, err)
	}
}

func TestDemo(t *testing.T) {
	dir, saved := inFolder(t), t.TempDir()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), flags(t, "--save", saved), &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d, stderr %s, screen:\n%s", code, stderr.String(), stdout.String())
	}
	t.Log("\n" + stdout.String())
	fits(t, stdout.String())
	empty(t, dir)
	for _, name := range savedFiles() {
		if _, err := os.Stat(filepath.Join(saved, name)); err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"3 notes, 3 billing", "3 notes, 0 billing", "authentication_failed", "Checked"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("the screen lacks %q", want)
		}
	}
}

// lines is a writer that hands on what matches, once.
type lines struct {
	want  *regexp.Regexp
	found chan string

	mu   sync.Mutex
	text bytes.Buffer
	done bool
}

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(text)
	if match := l.want.FindStringSubmatch(l.text.String()); match != nil && !l.done {
		l.done = true
		l.found <- match[1]
	}
	return len(text), nil
}

func endpointOf() *lines {
	return &lines{want: regexp.MustCompile(`MCP endpoint\s+(\S+)\s`), found: make(chan string, 1)}
}

func wait(t *testing.T, l *lines) string {
	t.Helper()
	select {
	case found := <-l.found:
		return found
	case <-time.After(30 * time.Second):
		t.Fatalf("not within 30 s: %s; the screen:\n%s", l.want, l.text.String())
		return ""
	}
}

// A client with a stream open to the very end must not hold up Ctrl-C.
func TestKeepRunsUntilItIsInterrupted(t *testing.T) {
	dir := inFolder(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	args, screen, ended := flags(t, "--keep"), endpointOf(), make(chan int)
	go func() { ended <- run(ctx, args, screen, io.Discard) }()

	client, err := mcptest.Connect(t.Context(), mcptest.ClientOptions{URL: wait(t, screen)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if _, err := client.Call(t.Context(), "notes_echo", map[string]any{"text": "hi"}); err != nil {
		t.Error(err)
	}
	interrupted := time.Now()
	interrupt()
	if code := <-ended; code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	if took := time.Since(interrupted); took > 5*time.Second {
		t.Errorf("it took %s to stop", took)
	}
	empty(t, dir)
}

// Even a demo that is killed takes all that it has started with it.
func TestKilledDemoLeavesNoProcess(t *testing.T) {
	dir := inFolder(t)
	demo := filepath.Join(t.TempDir(), "demo")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", demo, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	command := exec.CommandContext(t.Context(), demo, flags(t, "--keep")...)
	screen := endpointOf()
	command.Stdout = screen
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	wait(t, screen)
	if count := len(using(t, dir)); count != 4 {
		t.Errorf("%d programs run, want Bellhop, Envoy and two vMCPs", count)
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	for range 100 {
		if len(using(t, dir)) == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("still there: %q", using(t, dir))
}

// using lists the command lines of all programs that work in a folder. A dead
// one that was never waited for has none.
func using(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && bytes.Contains(line, []byte(dir)) {
			all = append(all, string(line))
		}
	}
	return all
}

func TestMistakesAreReported(t *testing.T) {
	cases := map[string]struct {
		args []string
		want string
	}{
		"nothing given": {nil, "make demo finds them all"},
		"no program":    {flags(t, "--envoy", "/no/such/envoy"), "/no/such/envoy"},
		"no vMCP":       {flags(t, "--vmcp", "/bin/false"), "vMCP"},
		"nowhere to":    {flags(t, "--save", "/dev/null/x"), "--save"},
		"unknown flag":  {[]string{"--loud"}, "-loud"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			dir := inFolder(t)
			var stderr bytes.Buffer
			if code := run(t.Context(), c.args, io.Discard, &stderr); code != exitUsage ||
				!strings.Contains(stderr.String(), c.want) {
				t.Errorf("exit code %d, stderr %q; want 2 and %q", code, stderr.String(), c.want)
			}
			empty(t, dir)
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		dir := inFolder(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var stderr bytes.Buffer
		if code := run(ctx, flags(t), io.Discard, &stderr); code != exitBreak || stderr.String() != "demo: interrupted\n" {
			t.Errorf("exit code %d, stderr %q; want 130 and one word", code, stderr.String())
		}
		empty(t, dir)
	})
}

func TestProgressShowsOnlyWhatTakesLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := startProgress(&out, false)
		p.say("fast")
		time.Sleep(time.Second)
		p.say("slow")
		time.Sleep(3500 * time.Millisecond)
		p.stop()
		if got, want := out.String(), "  2 s  slow\n  4 s  slow\n"; got != want {
			t.Errorf("progress %q, want %q", got, want)
		}
	})
}
