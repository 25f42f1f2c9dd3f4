package credentials_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"bellhop/policy"
	"bellhop/processor/server/credentials"
	"bellhop/processor/server/files"
)

func TestReadTrimsTheTrailingNewlineAndPutsThePrefix(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "relative", "secret\r\n\n")
	absolute := write(t, t.TempDir(), "absolute", "other")
	got, err := credentials.Read(files.NewReader(files.DefaultTimeout), policy.Backend{
		Name: "a", Discovery: []policy.Identity{{Name: "authorization", Prefix: "Bearer ", File: "relative"},
			{Name: "x-b", File: absolute}},
	}, folder)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Value.Reveal() != "Bearer secret" || got[1].Value.Reveal() != "other" {
		t.Errorf("got %d headers", len(got))
	}
	if none, err := credentials.Read(files.NewReader(files.DefaultTimeout), policy.Backend{Name: "none"},
		folder); err != nil ||
		len(none) > 0 {
		t.Errorf("a backend without an identity: %d headers, %v", len(none), err)
	}
}

func TestFilesListsWhatReadReads(t *testing.T) {
	got := credentials.Files([]policy.Backend{
		{Name: "a", Discovery: []policy.Identity{{Name: "x-a", File: "relative"}, {Name: "x-b", File: "/absolute"}}},
		{Name: "none"},
	}, "/folder")
	if want := []string{"/folder/relative", "/absolute"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestReadReportsEveryErrorAndNoContent(t *testing.T) {
	folder := t.TempDir()
	write(t, folder, "empty", "\n")
	write(t, folder, "control", "canary\x01\n")
	write(t, folder, "lines", "canary\ncanary\n")
	write(t, folder, "long", strings.Repeat("canary", 4000))
	var identities []policy.Identity
	for _, name := range []string{"empty", "control", "lines", "long", "missing"} {
		identities = append(identities, policy.Identity{Name: "x-" + name, File: name})
	}
	write(t, folder, "good", "canary")
	got, err := credentials.Read(
		files.NewReader(files.DefaultTimeout),
		policy.Backend{Name: "a", Discovery: append(identities, policy.Identity{Name: "x-good", File: "good"})}, folder,
	)
	if err == nil || len(got) > 0 {
		t.Fatalf("%d headers of an identity that is not whole, %v", len(got), err)
	}
	for _, want := range []string{"x-empty of backend a", "is empty", "x-control", "x-lines", "control character",
		"x-long", "larger than", "x-missing", "no such file"} {
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
