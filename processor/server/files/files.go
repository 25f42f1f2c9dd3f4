// Package files reads the files that an operator names: regular files only, of bounded size, within a bounded time. A
// pipe in place of a file, or a network mount that hangs, blocks no caller for longer than that.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// The largest file of each kind, in bytes.
const (
	MaxDocument   = 1 << 20  // a policy or a ceiling
	MaxKeys       = 64 << 10 // a key file
	MaxCredential = 16 << 10 // a discovery identity: more than this no header can hold
	MaxPEM        = 1 << 20  // certificates
)

// DefaultTimeout bounds one access to a file.
const DefaultTimeout = 3 * time.Second

// Reader reads files. Safe for concurrent use.
type Reader struct {
	timeout time.Duration

	mu      sync.Mutex
	hanging map[string]bool // paths of which an access has not returned yet
}

// NewReader makes a reader whose accesses take at most timeout each.
func NewReader(timeout time.Duration) *Reader {
	return &Reader{timeout: timeout, hanging: make(map[string]bool)}
}

// errHangs is for a file that does not answer.
var errHangs = errors.New("the file does not answer; is it on a network mount that is down?")

// Read returns the content of a regular file of at most limit bytes. Links are followed. An error names the file.
func (r *Reader) Read(path string, limit int64) ([]byte, error) {
	return within(r, path, func() ([]byte, error) { return read(path, limit) })
}

// ReadBeneath is [Reader.Read] for a file beneath a folder, which the path is relative to: no link in it leads out of
// the folder.
func (r *Reader) ReadBeneath(folder, path string, limit int64) ([]byte, error) {
	return within(r, filepath.Join(folder, path), func() ([]byte, error) {
		root, err := os.OpenRoot(folder)
		if err != nil {
			return nil, err
		}
		defer func() { _ = root.Close() }()
		file, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, fmt.Errorf("%s, beneath %s: %w", path, folder, err)
		}
		return readAll(file, filepath.Join(folder, path), limit)
	})
}

// Stat describes a file. Links are followed.
func (r *Reader) Stat(path string) (fs.FileInfo, error) {
	return within(r, path, func() (fs.FileInfo, error) { return os.Stat(path) })
}

// List returns the entries of a folder by name.
func (r *Reader) List(path string) ([]fs.DirEntry, error) {
	return within(r, path, func() ([]fs.DirEntry, error) { return os.ReadDir(path) })
}

// IsFolder reports whether a path is that of a folder.
func (r *Reader) IsFolder(path string) bool {
	info, err := r.Stat(path)
	return err == nil && info.IsDir()
}

func read(path string, limit int64) ([]byte, error) {
	// Without O_NONBLOCK the opening of a named pipe waits until someone writes.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return readAll(file, path, limit)
}

// readAll reads a file, and closes it.
func readAll(file *os.File, path string, limit int64) ([]byte, error) {
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file; write its content into one", path)
	}
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s is larger than the %d bytes allowed; is it the right file?", path, limit)
	}
	return content, nil
}

// within waits for an access for as long as the reader's timeout. An access that hangs continues in the background, and
// no other one of that path begins until it returns: so at most one goroutine waits for each file.
func within[T any](r *Reader, path string, access func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	if !r.begin(path) {
		return none, fmt.Errorf("%s: %w", path, errHangs)
	}
	done := make(chan result, 1)
	go func() {
		value, err := access()
		done <- result{value, err}
		r.end(path)
	}()
	timer := time.NewTimer(r.timeout)
	defer timer.Stop()
	select {
	case got := <-done:
		return got.value, got.err
	case <-timer.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case got := <-done: // just in time
		return got.value, got.err
	default:
		r.hanging[path] = true
		return none, fmt.Errorf("%s: %w", path, errHangs)
	}
}

func (r *Reader) begin(path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.hanging[path]
}

func (r *Reader) end(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hanging, path)
}
