package processor

import (
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// warningInterval is how often one warning is logged at most, so that no client can fill the log. Metrics count them
// all.
const warningInterval = time.Minute

// warnings logs each message at most once per interval.
type warnings struct {
	log *slog.Logger

	mu    sync.Mutex
	known map[string]*rate.Sometimes // by message; the messages are this package's own, so there are few
}

func newWarnings(log *slog.Logger) *warnings {
	return &warnings{log: log, known: make(map[string]*rate.Sometimes)}
}

func (w *warnings) warn(message string, args ...any) {
	w.mu.Lock()
	sometimes, ok := w.known[message]
	if !ok {
		sometimes = &rate.Sometimes{First: 1, Interval: warningInterval}
		w.known[message] = sometimes
	}
	w.mu.Unlock()
	sometimes.Do(func() { w.log.Warn(message, args...) })
}
