package files

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestOnlyRegularFilesOfBoundedSizeAreRead(t *testing.T) {
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	if err := errors.Join(
		os.WriteFile(path("file"), []byte("12345"), 0o600), os.Symlink("file", path("link")),
		os.Mkdir(path("folder"), 0o700), syscall.Mkfifo(path("pipe"), 0o600), os.Symlink("/dev/zero", path("device")),
	); err != nil {
		t.Fatal(err)
	}
	reader := NewReader(DefaultTimeout)
	for _, test := range []struct {
		name  string
		limit int64
		want  string // of the error; empty: it is read
	}{
		{"file", 5, ""},
		{"link", 5, ""},
		{"file", 4, "larger than the 4 bytes allowed"},
		{"folder", 5, "is not a regular file"},
		{"pipe", 5, "is not a regular file"},
		{"device", 5, "is not a regular file"},
		{"missing", 5, "no such file"},
	} {
		content, err := reader.Read(path(test.name), test.limit)
		switch {
		case test.want == "" && (err != nil || string(content) != "12345"):
			t.Errorf("%s: %q, %v", test.name, content, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(),
			test.name)):
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// An access that hangs is waited for once, and holds one goroutine, however often the file is asked for.
func TestAFileThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := NewReader(time.Second)
		release := make(chan struct{})
		var begun atomic.Int32
		access := func() (int, error) {
			begun.Add(1)
			<-release
			return 1, nil
		}
		for range 3 {
			if _, err := within(reader, "mount/file", access); !errors.Is(err, errHangs) {
				t.Errorf("%v, want that it hangs", err)
			}
		}
		if got, err := within(reader, "other", func() (int, error) { return 2, nil }); got != 2 || err != nil {
			t.Errorf("another file: %d, %v", got, err)
		}
		if n := begun.Load(); n != 1 {
			t.Errorf("%d accesses were begun, want 1", n)
		}
		close(release)
		synctest.Wait()
		if got, err := within(reader, "mount/file", access); got != 1 || err != nil {
			t.Errorf("after it has answered: %d, %v", got, err)
		}
	})
}
