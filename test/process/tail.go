package process

import (
	"bytes"
	"strings"
	"sync"
)

// tail is a writer that keeps the end of what is written to it.
type tail struct {
	limit int

	mu   sync.Mutex
	kept []byte
}

// Write keeps text and never fails. What is dropped at the limit is the
// oldest half, so that copying stays rare.
func (t *tail) Write(text []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, text...)
	if len(t.kept) > t.limit {
		t.kept = bytes.Clone(t.kept[len(t.kept)-t.limit/2:])
	}
	return len(text), nil
}

// String returns what is kept.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}

// lastLines returns the end of a text, for an error message.
func lastLines(text string, count int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-count):], "\n")
}
