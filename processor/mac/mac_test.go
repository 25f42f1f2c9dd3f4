package mac_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"sync"
	"testing"

	"bellhop/processor/mac"
)

func text(parts ...string) func([]byte) []byte {
	return func(to []byte) []byte {
		for _, part := range parts {
			to = mac.AppendText(to, part)
		}
		return to
	}
}

func TestANameIsTheMACOfItsText(t *testing.T) {
	const key = "0123456789012345"
	reference := hmac.New(sha256.New, []byte(key))
	reference.Write(text("a", "bc")(nil))
	want := base64.RawURLEncoding.EncodeToString(reference.Sum(nil))
	namer := mac.New([]byte(key))
	for range 3 { // also when its buffer is used again
		if got := namer.Name(text("a", "bc")); got != want || len(got) != mac.Length {
			t.Fatalf("got %q, want %q", got, want)
		}
		namer.Name(text(strings.Repeat("long ", 100)))
	}
}

func TestNamesDifferWhereTextsDo(t *testing.T) {
	namer := mac.New([]byte("key"))
	seen := make(map[string]string)
	for _, parts := range [][]string{{}, {""}, {"", ""}, {"a", "bc"}, {"ab", "c"}, {"abc"}, {"abc", ""}} {
		name := namer.Name(text(parts...))
		if other, ok := seen[name]; ok {
			t.Errorf("%q has the name of %s", parts, other)
		}
		seen[name] = strings.Join(parts, "|")
	}
	if mac.New([]byte("other")).Name(text("abc")) == namer.Name(text("abc")) {
		t.Error("another key gives the same name")
	}
}

func TestNamesAreSafeForConcurrentUse(t *testing.T) {
	namer := mac.New([]byte("key"))
	want := [2]string{namer.Name(text("a")), namer.Name(text("b"))}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 1000 {
				if got := [2]string{namer.Name(text("a")), namer.Name(text("b"))}; got != want {
					t.Errorf("got %q, want %q", got, want)
					return
				}
			}
		})
	}
	group.Wait()
}
