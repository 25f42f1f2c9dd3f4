package cache

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Two keys with one hash never get each other's value, whatever is done with them, and what is counted stays right.
func TestKeysWithOneHashStayApart(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		left := 0
		c := New(8, func(string, string) uint32 { return 1 }, func(string, Reason) { left++ })
		c.index.hash = func(key string) uint64 { return uint64(key[0] % 3) }
		set := 0
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			key := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"}).Draw(rt, "key")
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				c.Delete(key)
			case 1:
				if _, known := c.Peek(key); !known {
					set++
				}
				c.Set(key, key, time.Hour)
				if got, ok := c.Peek(key); !ok || got != key {
					rt.Fatalf("%s was set and is %q, %t", key, got, ok)
				}
			default:
				if got, ok := c.Get(key); ok && got != key {
					rt.Fatalf("%s got the value of %s", key, got)
				}
			}
			u := c.Usage()
			if u.Entries != set-left || u.Bytes != uint64(u.Entries) || u.Entries != len(c.index.positions) || u.Entries > 3 {
				rt.Fatalf("%+v after %d set and %d left; %d in the index", u, set, left, len(c.index.positions))
			}
		}
	})
}

// The memory of an entry that has left is used again.
func TestFreedEntriesAreUsedAgain(t *testing.T) {
	c := New(16, func(string, int) uint32 { return 1 }, nil)
	for i := range 100 * chunkSize {
		c.Set(string(rune('a'+i%1000)), i, time.Hour)
	}
	if len(c.entries.chunks) != 1 || c.entries.used > 17 {
		t.Errorf("%d chunks and %d entries for 16", len(c.entries.chunks), c.entries.used)
	}
}
