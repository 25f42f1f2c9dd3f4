package memory_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"bellhop/processor/store/memory"
	"bellhop/processor/ticket"
)

// Invariant 12: a flood at one fan-out evicts nothing of another's, used before or not.
func TestAFanoutTakesNothingOfAnothersShare(t *testing.T) {
	ctx := context.Background()
	shares := memory.NewShares(2 << 20)
	t.Cleanup(shares.Close)
	quiet, flooded := shares.Of("quiet"), shares.Of("flooded")
	life := ticket.Life{Idle: time.Hour}
	_ = quiet.Put(ctx, "T", capture("v"), life)
	for i := range 50000 {
		_ = flooded.Put(ctx, strconv.Itoa(i), capture("v"), life)
	}
	if _, ok, _ := quiet.Get(ctx, "T"); !ok {
		t.Error("a capture of another fan-out was evicted")
	}
	var limit, bytes uint64
	for _, usage := range shares.Usage() {
		limit, bytes = limit+usage.Limit, bytes+usage.Bytes
	}
	if limit > 2<<20 || bytes > limit {
		t.Errorf("%d bytes of %d", bytes, limit)
	}
	if shares.Of("quiet") != quiet {
		t.Error("a fan-out's store is another after a while")
	}
	third := shares.Of("third") // a reload adds a fan-out: all shrink
	_ = third.Put(ctx, "T", capture("v"), life)
	limit = 0
	for _, usage := range shares.Usage() {
		limit += usage.Limit
	}
	if limit > 2<<20 {
		t.Errorf("with a third one, %d bytes in all", limit)
	}
	shares.Keep([]string{"quiet", "third"})
	if _, ok, _ := quiet.Get(ctx, "T"); !ok {
		t.Error("what is left lost its captures")
	}
	if err := flooded.Put(ctx, "T", nil, life); err == nil {
		t.Error("the store of a fan-out that is gone takes more")
	}
}
