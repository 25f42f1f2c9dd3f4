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

// Whichever Bellhop dies, no call fails and none has a wrong key; whatever happens to Redis, none has a wrong key, and
// with sealed tickets none notices.
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
					t.Logf(
						"%s: %d calls, %d failed, %d without what is kept, p50 %s, p99 %s", r.part, r.calls(), r.failed,
						r.forgotten, short(r.within(0.5)), short(r.within(0.99)),
					)
					if r.wrong > 0 || r.missing > 0 || r.good == 0 {
						t.Errorf("%s: %d calls with a wrong header, %d with no key, %d good", r.part, r.wrong, r.missing, r.good)
					}
					if r.failed > tolerated(s, m, r) {
						t.Errorf("%s: %d of %d calls failed: %v", r.part, r.failed, r.calls(), r.errors)
					}
					if r.forgotten > 0 && r.part != foundAgain && r.part != sinceBack {
						t.Errorf("%s: %d of %d calls lacked what is kept for their session", r.part, r.forgotten, r.calls())
					}
				}
				unaffected(t, rows)
			})
		}
	}
}

// tolerated is how many calls may fail. Sealed tickets tolerate none. With stored tickets, calls fail while the store
// is down if clients change their headers, and some fail while Bellhop reconnects to it. A session that vMCP
// initializes in that moment has no tools, so a few more calls of its client fail.
func tolerated(s scenario, m mode, r row) int {
	switch {
	case m == sealed:
		return 0
	case s.renew == 0 && r.part == foundAgain:
		return 4 * clients
	case s.renew == 0:
		return 0
	case r.part == whileAway, r.part == foundAgain:
		return r.calls()
	case r.part == sinceBack:
		return 4 * clients
	default:
		return 0
	}
}

// unaffected sees that no call waits for a slow store: one that did would wait for as long as Bellhop waits for it at
// most, with each of its requests.
func unaffected(t *testing.T, rows []row) {
	t.Helper()
	const patience = 100 * time.Millisecond
	if len(rows) != 2 || rows[1].part != delayed {
		return
	}
	if was, is := rows[0].within(0.5), rows[1].within(0.5); is > was+patience {
		t.Errorf("with the delay half of the calls took up to %s, and %s before", is, was)
	}
}

func TestTheReportIsWrittenBetweenItsMarks(t *testing.T) {
	counts := newTally()
	for _, got := range []map[string][]string{
		{key: {"k"}, kept: {"s"}}, {key: {"k"}}, {kept: {"s"}}, {}, {key: {"other"}, kept: {"s"}}, {key: {"k"},
			kept: {"other"}}, {key: {"k", "k"}, kept: {"s"}},
	} {
		counts.count(wanted{"k", "s"}, got, 2*time.Millisecond, nil)
	}
	counts.count(
		wanted{key: "k"}, map[string][]string{key: {"k"}, kept: {"s"}}, time.Millisecond, nil,
	) // where none is kept
	text := report([]row{{scenario: "something", part: "dies", mode: stored, tally: counts}})
	if want := "| something: dies | stored in Redis |     8 |      0 |      2 |         1 |     4 | 2.0 " +
		"ms | 2.0 ms |"; !strings.Contains(
		text,
		want,
	) {
		t.Errorf("got\n%s\nwant %s", text, want)
	}
	file := filepath.Join(t.TempDir(), "README.md")
	for content, good := range map[string]bool{"before\n" + begin + "\nold\n" + end + "\nafter\n": true,
		"nothing\n": false} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := write(file, text); (err == nil) != good {
			t.Errorf("%q: %v", content, err)
		}
	}
}
