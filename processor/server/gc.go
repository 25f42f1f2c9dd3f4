package server

import (
	"log/slog"
	"math"
	"runtime/debug"
)

const (
	// gcPercent lets the heap grow to five times what is live before a collection: at Go's default of 100 a fifth of the
	// CPU of a call goes into collections.
	gcPercent = 400
	// baseMemory is what the process may take beside its store before it collects more often, in bytes.
	baseMemory = 128 << 20
)

// TuneGC sets the garbage collector for a process whose store holds at most storeBytes, unless the environment does:
// lookup finds GOGC and GOMEMLIMIT there. The soft limit is storeBytes and a quarter, and 128 MiB: close to it Go
// collects more often, and never stops the process.
func TuneGC(storeBytes uint64, lookup func(string) (string, bool), log *slog.Logger) {
	_, percent := lookup("GOGC")
	_, limit := lookup("GOMEMLIMIT")
	if percent || limit {
		log.Debug("the environment sets the garbage collector", "GOGC", percent, "GOMEMLIMIT", limit)
		return
	}
	soft := memoryLimit(storeBytes)
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(soft)
	log.Debug("garbage collector", "percent", gcPercent, "soft_limit_bytes", soft)
}

func memoryLimit(storeBytes uint64) int64 {
	if storeBytes > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return int64(storeBytes + storeBytes/4 + baseMemory)
}
