package discovery_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/policy"
	"bellhop/processor/discovery"
)

func TestReadTrimsTheTrailingNewlineAndPutsThePrefix(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "relative", "secret\r\n\n")
	absolute := write(t, t.TempDir(), "absolute", "other")
	got, err := discovery.Read([]policy.Backend{
		{Name: "a", Discovery: []policy.Identity{{Name: "authorization", Prefix: "Bearer ", File: "relative"}, {Name: "x-b", File: absolute}}},
		{Name: "none"},
	}, folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || len(got["a"]) != 2 || got["a"][0].Value.Reveal() != "Bearer secret" || got["a"][1].Value.Reveal() != "other" {
		t.Errorf("got %d backends and %d headers", len(got), len(got["a"]))
	}
}

func TestFilesListsWhatReadReads(t *testing.T) {
	got := discovery.Files([]policy.Backend{
		{Name: "a", Discovery: []policy.Identity{{Name: "x-a", File: "relative"}, {Name: "x-b", File: "/absolute"}}},
		{Name: "none"},
	}, "/folder")
	if want := []string{"/folder/relative", "/absolute"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestReadReportsEveryFaultAndNoContent(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "empty", "\n")
	write(t, folder, "control", "canary\x01\n")
	write(t, folder, "lines", "canary\ncanary\n")
	write(t, folder, "long", strings.Repeat("canary", 4000))
	var identities []policy.Identity
	for _, name := range []string{"empty", "control", "lines", "long", "missing"} {
		identities = append(identities, policy.Identity{Name: "x-" + name, File: name})
	}
	_, err := discovery.Read([]policy.Backend{{Name: "a", Discovery: identities}}, folder)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"x-empty of backend a", "is empty", "x-control", "x-lines", "control character", "x-long", "more than", "x-missing", "no such file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("the error shows the credential: %v", err)
	}
}

func write(t *testing.T, folder, name, content string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
