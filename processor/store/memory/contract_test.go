package memory_test

import (
	"testing"

	"bellhop/processor/store"
	"bellhop/processor/store/memory"
	"bellhop/processor/store/storetest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		captures, err := memory.NewMemory(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		sessions, err := memory.NewSessions(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		return storetest.Subject{
			Captures: captures, Sessions: sessions, Supersession: sessions,
			Usage: func() []store.Usage { return []store.Usage{captures.Usage(), sessions.Usage()} },
			Close: func() { captures.Close(); sessions.Close() },
		}
	})
}
