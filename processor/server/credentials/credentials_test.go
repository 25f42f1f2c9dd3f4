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
	}, credentials.Place{Folder: folder})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Value.Reveal() != "Bearer secret" || got[1].Value.Reveal() != "other" {
		t.Errorf("got %d headers", len(got))
	}
	if none, err := credentials.Read(files.NewReader(files.DefaultTimeout), policy.Backend{Name: "none"},
		credentials.Place{Folder: folder}); err != nil ||
		len(none) > 0 {
		t.Errorf("a backend without an identity: %d headers, %v", len(none), err)
	}
}

func TestFilesListsWhatReadReads(t *testing.T) {
	got := credentials.Files([]policy.Backend{
		{Name: "a", Discovery: []policy.Identity{{Name: "x-a", File: "relative"}, {Name: "x-b", File: "/absolute"}}},
		{Name: "none"},
	}, credentials.Place{Folder: "/folder"})
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
		policy.Backend{Name: "a", Discovery: append(identities, policy.Identity{Name: "x-good", File: "good"})},
		credentials.Place{Folder: folder},
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

// Team 1 sent team 2's secret, and the key file, to its own backend, by links in a folder that it may write.
// Kubernetes' own links stay inside.
func TestNoLinkLeadsOutOfTheFolder(t *testing.T) {
	parent := t.TempDir()
	for _, folder := range []string{"team1", "team2", "team1/..2026_11", "team1/inner"} {
		if err := os.Mkdir(filepath.Join(parent, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, parent, "keys", "canary")
	write(t, parent, "team2/secret", "canary")
	write(t, parent, "team1/..2026_11/token", "mine")
	for link, target := range map[string]string{
		"team1/..data": "..2026_11", "team1/token": "..data/token",
		"team1/absolute": filepath.Join(parent, "team2/secret"), "team1/relative": "../team2/secret",
		"team1/keys": "../keys", "team1/inner/out": "../../keys", "team1/folder": "../team2",
	} {
		if err := os.Symlink(target, filepath.Join(parent, link)); err != nil {
			t.Fatal(err)
		}
	}
	team := filepath.Join(parent, "team1")
	beneath, below := credentials.Place{Folder: team}, credentials.Place{Folder: parent, Allowed: []string{team}}
	tests := []struct {
		file  string
		place credentials.Place
		want  bool
	}{
		{"token", beneath, true},
		{filepath.Join(team, "token"), below, true},
		{filepath.Join(team, "inner/../token"), below, true},
		{filepath.Join(parent, "team2/secret"), credentials.Place{Folder: team}, true}, // no ceiling: the operator's own
		{"absolute", beneath, false},
		{"relative", beneath, false},
		{"keys", beneath, false},
		{"inner/out", beneath, false},
		{"folder/secret", beneath, false},
		{"../keys", beneath, false},
		{"..", beneath, false},
		{filepath.Join(team, "absolute"), below, false},
		{filepath.Join(team, "relative"), below, false},
		{filepath.Join(team, "folder/secret"), below, false},
		{filepath.Join(parent, "team2/secret"), below, false},
		{team + "/../keys", below, false},
		{filepath.Join(team, "token"), credentials.Place{Folder: parent, Allowed: []string{}}, false},
	}
	for _, test := range tests {
		got, err := credentials.Read(files.NewReader(files.DefaultTimeout), policy.Backend{
			Name: "a", Discovery: []policy.Identity{{Name: "x-a", File: test.file}},
		}, test.place)
		if (err == nil) != test.want || len(got) > 0 != test.want {
			t.Errorf("%s below %v: %d headers, %v", test.file, test.place, len(got), err)
		}
	}
}

// A team's document names files, and a key of tickets, sent to the team's own backend, would open every other team's.
func TestNoBackendGetsBellhopsOwnSecrets(t *testing.T) {
	keys := write(t, t.TempDir(), "keys", "key-of-tickets\n")
	folder := t.TempDir()
	write(t, folder, "copy", "key-of-tickets")
	if err := os.Link(keys, filepath.Join(folder, "link")); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{keys, "copy", "link"} {
		got, err := credentials.Read(
			files.NewReader(files.DefaultTimeout),
			policy.Backend{Name: "a", Discovery: []policy.Identity{{Name: "x-a", File: file}}},
			credentials.Place{Folder: folder, Own: []string{keys}},
		)
		if err == nil || len(got) > 0 || !strings.Contains(err.Error(), "a key of Bellhop's own") ||
			strings.Contains(err.Error(), "key-of") {
			t.Errorf("%s: %d headers, %v", file, len(got), err)
		}
	}
}
