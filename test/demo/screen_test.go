package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "regenerate the golden files")

func TestScreen(t *testing.T) {
	running := sampleReport()
	running.saved, running.kept = "", &kept{
		endpoint: "http://127.0.0.1:40001/mcp", without: "http://127.0.0.1:40002/mcp",
		metrics: "http://127.0.0.1:40003/metrics",
		envoy:   "http://127.0.0.1:40004", folder: "/tmp/bellhop-demo-1", script: "/tmp/bellhop-demo-1/call",
	}
	wrong := sampleReport()
	wrong.with.atBackend[notes][0].Header.Set(keyHeader, "who-is-this")
	wrong.errs = verify(wrong.with)
	for name, r := range map[string]report{"good": sampleReport(), "kept": running, "wrong": wrong} {
		t.Run(name, func(t *testing.T) {
			got := screen(r, palette{})
			golden(t, name+".txt", got)
			if painted := screen(r, palette{colours: true}); unpainted(painted) != got || painted == got {
				t.Error("colours change more than the colours, or nothing")
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got); go test ./test/demo -update regenerates it:\n%s", file, diff)
	}
}

func unpainted(text string) string {
	return regexp.MustCompile(`\x1b\[\d*m`).ReplaceAllString(text, "")
}

// fits fails the test for a screen that does not fit on a usual terminal.
func fits(t *testing.T, screen string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(screen, "\n"), "\n")
	if len(lines) > 45 {
		t.Errorf("the screen has %d lines, more than 45", len(lines))
	}
	for _, line := range lines {
		if width := utf8.RuneCountInString(line); width > 100 {
			t.Errorf("%d columns, more than 100: %s", width, line)
		}
		if strings.TrimRight(line, " ") != line {
			t.Errorf("spaces at the end of %q", line)
		}
	}
}
