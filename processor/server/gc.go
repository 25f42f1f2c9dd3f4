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

// containerShare is how much of its container's memory limit the process uses at most.
const containerShare = 0.9

// TuneGC sets the garbage collector for a process whose store holds at most storeBytes. Of the percentage and the soft
// limit it leaves what the environment sets: lookup finds GOGC and GOMEMLIMIT there. The soft limit is storeBytes and a
// quarter, and 128 MiB, and below the memory limit that container returns. Close to it Go collects more often; it never
// stops the process.
func TuneGC(
	storeBytes uint64,
	lookup func(string) (string, bool),
	container func() (uint64, error),
	log *slog.Logger,
) {
	if _, set := lookup("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	if _, set := lookup("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(softLimit(storeBytes, container))
	}
	soft := debug.SetMemoryLimit(-1)
	if most := uint64(max(soft, 0)); storeBytes > most-most/4 {
		log.Warn("the store does not fit into the memory of this process: lower --store-bytes, or raise the memory limit",
			"store_bytes", storeBytes, "memory_limit_bytes", soft)
	}
	log.Debug("garbage collector", "soft_limit_bytes", soft)
}

func softLimit(storeBytes uint64, container func() (uint64, error)) int64 {
	soft := memoryLimit(storeBytes)
	if limit, err := container(); err == nil { // an error is that there is no limit
		soft = min(soft, int64(float64(limit)*containerShare))
	}
	return soft
}

func memoryLimit(storeBytes uint64) int64 {
	if storeBytes > math.MaxInt64/2 {
		return math.MaxInt64
	}
	return int64(storeBytes + storeBytes/4 + baseMemory)
}
