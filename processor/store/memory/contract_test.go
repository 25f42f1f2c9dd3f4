package memory_test

import (
	"testing"

	"bellhop/processor/store"
	"bellhop/processor/store/memory"
	"bellhop/processor/store/storetest"
)

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Backend {
		s := memory.New(4 << 20)
		return s
	})
}
