package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bellhop/test/tools"
)

// find builds Bellhop and finds what it is run with.
func find(t *testing.T) programs {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	var p programs
	for name, into := range map[string]*string{"envoy": &p.envoy, "vmcp": &p.vmcp, "redis": &p.redis} {
		path, err := tools.Path(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		*into = path
	}
	var err error
	if p.bellhop, err = tools.BuildBellhop(ctx, t.TempDir(), false); err != nil {
		t.Fatal(err)
	}
	return p
}

// Whichever Bellhop dies, no call fails and none has a wrong key; whatever happens to Redis, none has a wrong key, and with
// sealed tickets none notices.
func TestAFleetSurvives(t *testing.T) {
	programs := find(t)
	for _, s := range scenarios() {
		for _, m := range s.modes {
			t.Run(fmt.Sprintf("%s, %s", s.name, m), func(t *testing.T) {
				ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
				defer cancel()
				rows, err := play(ctx, programs, s, m, 5*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range rows {
					t.Logf("%s: %d calls, %d failed", r.part, r.calls(), r.failed)
					if r.wrong > 0 || r.missing > 0 || r.good == 0 {
						t.Errorf("%s: %d calls with a wrong key, %d with none, %d good", r.part, r.wrong, r.missing, r.good)
					}
					if r.failed > tolerated(s, m, r) {
						t.Errorf("%s: %d of %d calls failed: %v", r.part, r.failed, r.calls(), r.errors)
					}
				}
			})
		}
	}
}

// tolerated is how many calls may fail: none, unless headers are stored and the store goes. Then some that began before are
// still under way, and a session that vMCP began meanwhile lacks the tools of a backend until its client begins another.
func tolerated(s scenario, m mode, r row) int {
	switch {
	case m == sealed || s.renew == 0:
		return 0
	case r.part == whileAway:
		return r.calls()
	default:
		return r.good / 4
	}
}

func TestTheReportIsWrittenBetweenItsMarks(t *testing.T) {
	counts := newTally()
	counts.count("k", map[string][]string{key: {"k"}}, 2*time.Millisecond, nil)
	counts.count("k", map[string][]string{key: {"other"}}, time.Millisecond, nil)
	counts.count("k", nil, time.Millisecond, nil)
	text := report([]row{{scenario: "something", part: "dies", mode: sealed, tally: counts}})
	if want := "| something: dies | sealed  |     3 |      0 |      1 |         1 | 2.0 ms | 2.0 ms |"; !strings.Contains(text, want) {
		t.Errorf("got\n%s\nwant %s", text, want)
	}
	file := filepath.Join(t.TempDir(), "README.md")
	for content, good := range map[string]bool{"before\n" + begin + "\nold\n" + end + "\nafter\n": true, "nothing\n": false} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := write(file, text); (err == nil) != good {
			t.Errorf("%q: %v", content, err)
		}
	}
}
