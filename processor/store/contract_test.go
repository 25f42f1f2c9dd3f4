package store_test

import (
	"testing"

	"bellhop/processor/store"
	"bellhop/processor/store/storetest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		memory, err := store.NewMemory(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		sessions, err := store.NewSessions(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		return storetest.Subject{
			Store: memory, Sessions: sessions, Succession: sessions,
			Usage: func() []store.Usage { return []store.Usage{memory.Usage(), sessions.Usage()} },
			Close: func() { memory.Close(); sessions.Close() },
		}
	})
}
