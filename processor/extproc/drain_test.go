package extproc

import (
	"strings"
	"testing"
)

// While a stream waits for its response it receives in another goroutine. A panic there must reach the handler, where
// it is recovered, or it would end the process.
func TestAPanicWhileReceivingReachesTheHandler(t *testing.T) {
	defer func() {
		got, ok := recover().(*Panic)
		if !ok || got.Value != "decoder" || !strings.Contains(string(got.Stack), "panickingReceive") {
			t.Errorf("got %+v", got)
		}
	}()
	_, _ = untilDrained(make(chan struct{}), panickingReceive)
	t.Error("no panic")
}

func panickingReceive() (message, error) { panic("decoder") }
