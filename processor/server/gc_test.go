package server_test

import (
	"errors"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"testing"

	"bellhop/processor/server"
)

func TestTuneGC(t *testing.T) {
	const environmentsPercent, environmentsLimit = 77, 1 << 30
	for _, test := range []struct {
		name        string
		storeBytes  uint64
		environment string
		container   uint64 // 0: no limit
		percent     int
		limit       int64
		warns       bool
	}{
		{"the default store", 64 << 20, "", 0, 400, 208 << 20, false},
		{"a store without end", math.MaxUint64, "", 0, 400, math.MaxInt64, true},
		{"a small container", 32 << 20, "", 100 << 20, 400, 90 << 20, false},
		{"a large container", 64 << 20, "", 1 << 40, 400, 208 << 20, false},
		{"a store that does not fit", 100 << 20, "", 100 << 20, 400, 90 << 20, true},
		{"GOGC is set", 64 << 20, "GOGC", 0, environmentsPercent, 208 << 20, false},
		{"GOMEMLIMIT is set", 64 << 20, "GOMEMLIMIT", 100 << 20, 400, environmentsLimit, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			percent, limit := debug.SetGCPercent(environmentsPercent), debug.SetMemoryLimit(environmentsLimit)
			defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
			var log strings.Builder
			server.TuneGC(test.storeBytes,
				func(name string) (string, bool) { return "", name == test.environment },
				func() (uint64, error) {
					if test.container == 0 {
						return 0, errors.New("no limit")
					}
					return test.container, nil
				},
				slog.New(slog.NewTextHandler(&log, nil)))
			if got := debug.SetGCPercent(environmentsPercent); got != test.percent {
				t.Errorf("GC percent %d, want %d", got, test.percent)
			}
			if got := debug.SetMemoryLimit(-1); got != test.limit {
				t.Errorf("limit %d, want %d", got, test.limit)
			}
			if warned := strings.Contains(log.String(), "lower --store-bytes"); warned != test.warns {
				t.Errorf("warned: %t, want %t: %s", warned, test.warns, &log)
			}
		})
	}
}
