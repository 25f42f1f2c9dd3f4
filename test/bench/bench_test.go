package main

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bellhop/test/process"
	"bellhop/test/tools"
)

// TestMain lets the test's own program be the two that a measurement starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == doNothing || os.Args[1] == load) {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err := run(ctx, os.Args[1:])
		stop()
		if err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func limit(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Every server takes its turn with every kind of request, and Bellhop answers each rightly.
func TestEveryServerIsMeasured(t *testing.T) {
	program, err := tools.BuildBellhop(limit(t), t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	measured, err := measure(limit(t), options{bellhop: program, rounds: 2, calls: 64, captures: 10})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds() {
		for _, server := range []string{"default", "tuned", "bellhop"} {
			all := measured.of(server, k.name)
			if len(all) != 2 || all[0].Calls != 64 || all[0].Took <= 0 || all[0].RSS <= 0 {
				t.Errorf("%s, %s: %+v", server, k.name, all)
			}
		}
	}
}

// A server that does nothing gives no right answer: a measurement of wrong answers must fail.
func TestAWrongAnswerFails(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{name: doNothing, socket: filepath.Join(t.TempDir(), "s.sock")}
	s.running, err = process.Start(process.Options{
		Name: doNothing, Path: self, Args: []string{doNothing, "--socket=" + s.socket}, Dir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.running.Kill(); <-s.running.Done() })
	if err := s.wait(limit(t)); err != nil {
		t.Fatal(err)
	}
	err = runLoad(limit(t), []string{"--socket", s.socket, "--kind", "ingress", "--calls", "64", "--check"})
	if err == nil || !strings.Contains(err.Error(), "x-bellhop-ticket") {
		t.Errorf("got %v", err)
	}
}

func TestReports(t *testing.T) {
	us := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
	r := report{options: options{rounds: 3, calls: 10, captures: 1000}, emptyRSS: 1 << 20}
	for _, k := range kinds() {
		for round := range 3 {
			speed := round + 1 // the machine becomes slower
			r.samples = append(r.samples,
				sample{"default", k.name, round, 10, us(200 * speed), time.Millisecond, 2 << 20},
				sample{"tuned", k.name, round, 10, us(150 * speed), time.Millisecond, 2 << 20},
				sample{"bellhop", k.name, round, 10, us(160 * speed), time.Millisecond, 3 << 20})
		}
	}
	for form, want := range map[string][]string{
		"table": {
			"egress   default    40.0 µs   20.0–60.0               1.00   1.00–1.00     10000   2 MiB",
			"session   bellhop    32.0 µs   16.0–48.0               0.80   0.80–0.80     10000   3 MiB",
			"1000 clients with a key of 40 bytes: 2097 bytes of RSS each, over the 1 MiB of a Bellhop that has served none",
		},
		"json":      {`"kind": "egress"`, `"cpu_ns": 160000`},
		"benchstat": {"BenchmarkServer/bellhop/egress 10 16000 cpu-ns/op 100000 ns/op\n"},
	} {
		var text bytes.Buffer
		if err := writers()[form](&text, r); err != nil {
			t.Fatal(err)
		}
		for _, part := range want {
			if !strings.Contains(text.String(), part) {
				t.Errorf("%s: no %q in\n%s", form, part, &text)
			}
		}
	}
}

func TestOptions(t *testing.T) {
	o, err := parse([]string{"--bellhop", "b", "--rounds", "2"})
	if err != nil || o.rounds != 2 || !filepath.IsAbs(o.bellhop) {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range [][]string{
		{"--rounds", "0"}, {"--calls", "1"}, {"--captures", "-1"}, {"--output", "xml"}, {"more"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
