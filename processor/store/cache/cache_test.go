package cache_test

import (
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"bellhop/processor/store/cache"
)

// left is an entry that left a cache.
type left struct {
	value  int
	reason cache.Reason
}

func open(t testing.TB, limit uint64) (*cache.Cache[int], *[]left) {
	t.Helper()
	gone := &[]left{}
	c := cache.New(limit, func(string, int) uint32 { return 1 }, func(value int, reason cache.Reason) {
		*gone = append(*gone, left{value, reason})
	})
	return c, gone
}

func TestNewcomersEvictOnlyWhatIsOnProbation(t *testing.T) {
	c, gone := open(t, 8)
	for i := range 6 { // 6 of 8 are protected
		c.Set(strconv.Itoa(i), i, time.Hour)
		_, _ = c.Get(strconv.Itoa(i))
	}
	for i := 10; i < 100; i++ {
		c.Set(strconv.Itoa(i), i, time.Hour)
	}
	for i := range 6 {
		if _, ok := c.Peek(strconv.Itoa(i)); !ok {
			t.Errorf("%d was in use, and is gone", i)
		}
	}
	if u := c.Usage(); u.Entries != 8 || u.Bytes != 8 || u.Evictions != 88 || len(*gone) != 88 {
		t.Errorf("%+v, %d left", u, len(*gone))
	}
}

func TestAFullProtectedSegmentDemotesItsOldest(t *testing.T) {
	c, gone := open(t, 4)
	for i := range 4 {
		c.Set(strconv.Itoa(i), i, time.Hour)
		_, _ = c.Get(strconv.Itoa(i))
	}
	// 0 was demoted, not evicted: it is the first to go now.
	if _, ok := c.Peek("0"); !ok || len(*gone) != 0 {
		t.Fatalf("demoted out of the cache: %v", *gone)
	}
	c.Set("new", 9, time.Hour)
	if !slices.Equal(*gone, []left{{0, cache.Evicted}}) {
		t.Errorf("%v left, want 0", *gone)
	}
}

func TestIdleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, gone := open(t, 100)
		c.Set("idle", 1, time.Minute)
		c.Set("used", 2, time.Minute)
		c.Set("touched", 3, time.Minute)
		for range 3 {
			time.Sleep(40 * time.Second)
			if _, ok := c.Get("used"); !ok {
				t.Error("an entry in use has expired")
			}
			if !c.Touch("touched", time.Minute) {
				t.Error("an entry that is touched has expired")
			}
		}
		if c.Touch("touched", time.Hour) {
			t.Error("touched with another idle time")
		}
		if _, ok := c.Peek("idle"); ok {
			t.Error("an idle entry is still there")
		}
		time.Sleep(2 * time.Minute)
		if u := c.Usage(); u.Entries != 0 || u.Bytes != 0 || u.Evictions != 0 {
			t.Errorf("what has expired at the cold end is still there: %+v", u)
		}
		for _, one := range *gone {
			if one.reason != cache.Expired {
				t.Errorf("%+v, want expired", one)
			}
		}
	})
}

// model is the same cache, written for clarity: two lists, the most recent first.
type model struct {
	limit                int
	probation, protected []string
}

func (m *model) without(key string) {
	same := func(k string) bool { return k == key }
	m.probation, m.protected = slices.DeleteFunc(m.probation, same), slices.DeleteFunc(m.protected, same)
}

func (m *model) set(key string) {
	if slices.Contains(m.protected, key) {
		m.without(key)
		m.protected = slices.Insert(m.protected, 0, key)
	} else {
		m.without(key)
		m.probation = slices.Insert(m.probation, 0, key)
	}
	for len(m.probation)+len(m.protected) > m.limit && len(m.probation) > 0 {
		m.probation = m.probation[:len(m.probation)-1]
	}
}

func (m *model) get(key string) bool {
	if !slices.Contains(m.probation, key) && !slices.Contains(m.protected, key) {
		return false
	}
	m.without(key)
	m.protected = slices.Insert(m.protected, 0, key)
	for len(m.protected) > m.limit-m.limit/4 {
		last := len(m.protected) - 1
		m.probation = slices.Insert(m.probation, 0, m.protected[last])
		m.protected = m.protected[:last]
	}
	return true
}

func TestCacheAgreesWithTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		limit := rapid.IntRange(4, 12).Draw(rt, "limit")
		c, _ := open(t, uint64(limit))
		m := &model{limit: limit}
		for range rapid.IntRange(1, 80).Draw(rt, "steps") {
			key := strconv.Itoa(rapid.IntRange(0, 20).Draw(rt, "key"))
			switch rapid.IntRange(0, 3).Draw(rt, "step") {
			case 0:
				c.Delete(key)
				m.without(key)
			case 1:
				c.Set(key, 1, time.Hour)
				m.set(key)
			default:
				if _, got := c.Get(key); got != m.get(key) {
					rt.Fatalf("Get(%s) is %v in the cache", key, got)
				}
			}
			if u := c.Usage(); u.Entries != len(m.probation)+len(m.protected) || u.Bytes != uint64(u.Entries) {
				rt.Fatalf("%+v, want %d entries", u, len(m.probation)+len(m.protected))
			}
		}
	})
}
