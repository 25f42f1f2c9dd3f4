//go:build race

package processor_test

// raced says that the race detector is on. sync.Pool then drops some of what it is given, so there are more
// allocations.
const raced = true
