package ticket_test

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bellhop/policy"
	"bellhop/processor/ticket"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func capture(lines ...string) policy.Capture {
	var all policy.Capture
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		all = append(all, policy.Header{Name: name, Value: policy.NewValue(value)})
	}
	return all
}

func TestATicketNamesContent(t *testing.T) {
	key := ticket.RandomKeys()[0]
	minter := ticket.NewMinter(key, "search", 24*time.Hour)
	base := minter.Mint(capture("x-a: 1", "x-a: 2"), noon)
	if !ticket.WellFormed(base) {
		t.Errorf("%q is not well-formed", base)
	}
	again := ticket.NewMinter(key, "search", 24*time.Hour).Mint(capture("x-a: 1", "x-a: 2"), noon.Add(time.Hour))
	if again != base {
		t.Error("the same headers must have the same ticket on every replica, within an epoch")
	}
	others := map[string]string{
		"other value":     minter.Mint(capture("x-a: 1", "x-a: 3"), noon),
		"other order":     minter.Mint(capture("x-a: 2", "x-a: 1"), noon),
		"other name":      minter.Mint(capture("x-a: 1", "x-b: 2"), noon),
		"one line":        minter.Mint(capture("x-a: 1"), noon),
		"joined":          minter.Mint(capture("x-a: 12"), noon),
		"nothing":         minter.Mint(nil, noon),
		"a later epoch":   minter.Mint(capture("x-a: 1", "x-a: 2"), noon.Add(24*time.Hour)),
		"another fan-out": ticket.NewMinter(key, "other", 24*time.Hour).Mint(capture("x-a: 1", "x-a: 2"), noon),
		"another key": ticket.NewMinter(ticket.RandomKeys()[0], "search", 24*time.Hour).
			Mint(capture("x-a: 1", "x-a: 2"), noon),
		"name in the data": minter.Mint(capture("x-a: 1", "x-: a2"), noon),
	}
	seen := map[string]string{base: "the first"}
	for name, other := range others {
		if twin, ok := seen[other]; ok {
			t.Errorf("%s has the ticket of %s", name, twin)
		}
		seen[other] = name
	}
}

func TestDifferentCapturesHaveDifferentTickets(t *testing.T) {
	minter := ticket.NewMinter(ticket.RandomKeys()[0], "", time.Hour)
	draw := rapid.SliceOfN(rapid.StringMatching(`x-[ab]{0,2}: [12]{0,3}`), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		one, other := draw.Draw(t, "one"), draw.Draw(t, "other")
		same := fmt.Sprintf("%q", one) == fmt.Sprintf("%q", other)
		if (minter.Mint(capture(one...), noon) == minter.Mint(capture(other...), noon)) != same {
			t.Fatalf("%q and %q", one, other)
		}
	})
}

func TestWellFormed(t *testing.T) {
	good := strings.Repeat("a", ticket.Length)
	for _, bad := range []string{
		"", good[1:], good + "a", good[1:] + "=", good[1:] + ",", good[1:] + "\x00", good[1:] + " ",
	} {
		if ticket.WellFormed(bad) {
			t.Errorf("%q passes", bad)
		}
	}
	if !ticket.WellFormed(good) {
		t.Error("a good one does not pass")
	}
}

func TestParseKeys(t *testing.T) {
	key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", ticket.KeyBytes)))
	short := base64.StdEncoding.EncodeToString([]byte("canary"))
	tests := []struct {
		name, file string
		keys       int
		err        string
	}{
		{"one", key + "\n", 1, ""},
		{"two with comments", "# newest\n" + key + "\n\n  " + key + "\r\n", 2, ""},
		{"empty", "\n# nothing\n", 0, "it holds no key"},
		{"too short", key + "\n" + short + "\n", 0, "line 2 is not 32 bytes in base64"},
		{"no base64", "canary!\n", 0, "line 1 is not 32 bytes in base64"},
		{"endless line", strings.Repeat("A", 1<<17), 0, "line 1 is not 32 bytes in base64"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			keys, err := ticket.ParseKeys([]byte(test.file))
			if len(keys) != test.keys || (err == nil) != (test.err == "") {
				t.Fatalf("got %d keys, %v", len(keys), err)
			}
			if err != nil &&
				(!strings.Contains(err.Error(), test.err) ||
					strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), short)) {
				t.Errorf("got %q, want %q and nothing of the key", err, test.err)
			}
		})
	}
}

func TestAKeyCannotPrintItself(t *testing.T) {
	key := ticket.RandomKeys()[0]
	minter := ticket.NewMinter(key, "", time.Hour)
	seen := regexp.MustCompile(`\[\d+ \d+ \d+`)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if got := fmt.Sprintf(verb, key); got != "[KEY]" {
			t.Errorf("%s prints %s", verb, got)
		}
		if got := fmt.Sprintf(verb, ticket.NewSealer(ticket.Keys{key}, "", time.Hour, time.Hour)); got != "[SEALER]" {
			t.Errorf("%s of a sealer prints %s", verb, got)
		}
		if got := fmt.Sprintf(verb, minter); seen.MatchString(got) || len(got) > 120 {
			t.Errorf("%s of what holds it prints %s", verb, got)
		}
	}
}

func BenchmarkMint(b *testing.B) {
	minter := ticket.NewMinter(ticket.RandomKeys()[0], "", time.Hour)
	headers := capture("x-mcp-api-key: 0123456789abcdef0123456789abcdef")
	b.ReportAllocs()
	for b.Loop() {
		_ = minter.Mint(headers, noon)
	}
}
