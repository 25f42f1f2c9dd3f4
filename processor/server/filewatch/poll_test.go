package filewatch

import (
	"context"
	"testing"
	"time"
)

// Where the system reports nothing, the files are looked at now and then.
func TestPollOnly(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	looks := 0
	(&watcher{Settings: Settings{Quiet: time.Millisecond, Poll: time.Millisecond}}).run(ctx, func() []string {
		if looks++; looks == 3 {
			stop()
		}
		return []string{"file"}
	})
	if looks != 3 {
		t.Errorf("%d looks within 10 s", looks)
	}
}
