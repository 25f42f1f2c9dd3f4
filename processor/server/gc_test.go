package server_test

import (
	"log/slog"
	"math"
	"runtime/debug"
	"testing"

	"bellhop/processor/server"
)

func TestTuneGC(t *testing.T) {
	for _, test := range []struct {
		name        string
		storeBytes  uint64
		environment map[string]string
		percent     int
		limit       int64
	}{
		{"the default store", 64 << 20, nil, 400, 208 << 20},
		{"a store without end", math.MaxUint64, nil, 400, math.MaxInt64},
		{"GOGC is set", 64 << 20, map[string]string{"GOGC": "50"}, 77, 1 << 40},
		{"GOMEMLIMIT is set", 64 << 20, map[string]string{"GOMEMLIMIT": "1GiB"}, 77, 1 << 40},
	} {
		t.Run(test.name, func(t *testing.T) {
			percent, limit := debug.SetGCPercent(77), debug.SetMemoryLimit(1<<40) // what the environment has set
			defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
			server.TuneGC(test.storeBytes, func(name string) (string, bool) {
				value, ok := test.environment[name]
				return value, ok
			}, slog.New(slog.DiscardHandler))
			if got := debug.SetGCPercent(77); got != test.percent {
				t.Errorf("GC percent %d, want %d", got, test.percent)
			}
			if got := debug.SetMemoryLimit(-1); got != test.limit {
				t.Errorf("limit %d, want %d", got, test.limit)
			}
		})
	}
}
