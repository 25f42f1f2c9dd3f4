package filewatch_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"bellhop/processor/server/filewatch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seen is what the latest look found in the files.
type seen struct {
	mu      sync.Mutex
	content string
	looks   int
}

func (s *seen) set(content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content = content
	s.looks++
}

func (s *seen) get() (content string, looks int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.content, s.looks
}

// start watches one file until the test ends.
func start(t *testing.T, file string, poll time.Duration) *seen {
	t.Helper()
	s := &seen{}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		settings := filewatch.Settings{Quiet: 5 * time.Millisecond, Poll: poll, Log: slog.New(slog.DiscardHandler)}
		filewatch.Files(ctx, settings, func() []string {
			content, _ := os.ReadFile(file)
			s.set(string(content))
			return []string{file}
		})
	}()
	t.Cleanup(func() { stop(); <-done })
	return s
}

func (s *seen) want(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got, looks := s.get()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %d looks the content is %q, want %q", looks, got, want)
		}
	}
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	do(t, os.WriteFile(path, []byte(content), 0o600))
}

func TestEveryWayOfChangingAFileIsSeen(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(t *testing.T, folder string)
		change  func(t *testing.T, folder string)
	}{
		{"written in place", nil, func(t *testing.T, folder string) { put(t, folder+"/file", "new") }},
		{"renamed over", nil, func(t *testing.T, folder string) {
			put(t, folder+"/file~", "new")
			do(t, os.Rename(folder+"/file~", folder+"/file"))
		}},
		{"moved away and written", nil, func(t *testing.T, folder string) {
			do(t, os.Rename(folder+"/file", folder+"/file.bak"))
			put(t, folder+"/file", "new")
		}},
		{"the target of a link", func(t *testing.T, folder string) {
			do(t, os.Mkdir(folder+"/elsewhere", 0o750))
			do(t, os.Rename(folder+"/file", folder+"/elsewhere/target"))
			do(t, os.Symlink("elsewhere/target", folder+"/file"))
		}, func(t *testing.T, folder string) { put(t, folder+"/elsewhere/target", "new") }},
		{"Kubernetes", func(t *testing.T, folder string) {
			do(t, os.Mkdir(folder+"/..1", 0o750))
			do(t, os.Rename(folder+"/file", folder+"/..1/file"))
			do(t, os.Symlink("..1", folder+"/..data"))
			do(t, os.Symlink("..data/file", folder+"/file"))
		}, func(t *testing.T, folder string) {
			do(t, os.Mkdir(folder+"/..2", 0o750))
			put(t, folder+"/..2/file", "new")
			do(t, os.Symlink("..2", folder+"/..data_tmp"))
			do(t, os.Rename(folder+"/..data_tmp", folder+"/..data"))
			do(t, os.RemoveAll(folder+"/..1"))
		}},
		{"the folder replaced", func(t *testing.T, folder string) {
			do(t, os.Mkdir(folder+"/1", 0o750))
			do(t, os.Rename(folder+"/file", folder+"/1/file"))
			do(t, os.Symlink("1/file", folder+"/file"))
		}, func(t *testing.T, folder string) {
			do(t, os.Mkdir(folder+"/2", 0o750))
			put(t, folder+"/2/file", "new")
			do(t, os.RemoveAll(folder+"/1"))
			do(t, os.Rename(folder+"/2", folder+"/1"))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			put(t, folder+"/file", "old")
			if test.prepare != nil {
				test.prepare(t, folder)
			}
			poll := time.Hour
			if test.name == "the folder replaced" {
				poll = 100 * time.Millisecond // its end may be reported after its beginning
			}
			s := start(t, folder+"/file", poll)
			s.want(t, "old")
			test.change(t, folder)
			s.want(t, "new")
			put(t, folder+"/file", "and once more") // the watch follows
			s.want(t, "and once more")
		})
	}
}

// Everything on the way to the file may be missing at first.
func TestAMissingFolderIsLoadedOnceItExists(t *testing.T) {
	folder := t.TempDir()
	s := start(t, filepath.Join(folder, "a", "b", "file"), time.Hour)
	s.want(t, "")
	do(t, os.MkdirAll(folder+"/a/b", 0o750))
	put(t, folder+"/a/b/file", "here")
	s.want(t, "here")
	do(t, os.RemoveAll(folder+"/a"))
	s.want(t, "")
}

// A folder in which somebody writes all the time is looked at all the same.
func TestABusyFolderDoesNotDelayTheCheck(t *testing.T) {
	folder := t.TempDir()
	put(t, folder+"/file", "old")
	s := start(t, folder+"/file", time.Hour)
	s.want(t, "old")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = os.WriteFile(folder+"/neighbour", []byte("x"), 0o600)
		}
	}()
	defer func() { stop(); <-done }()
	put(t, folder+"/file", "new")
	s.want(t, "new")
}

// Links that lead in a circle end.
func TestASymlinkLoop(t *testing.T) {
	folder := t.TempDir()
	do(t, os.Symlink("b", folder+"/a"))
	do(t, os.Symlink("a", folder+"/b"))
	s := start(t, folder+"/a", time.Hour)
	s.want(t, "")
	put(t, folder+"/c", "out of it")
	do(t, os.Rename(folder+"/c", folder+"/a"))
	s.want(t, "out of it")
}
