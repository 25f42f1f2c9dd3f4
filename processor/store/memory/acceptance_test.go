package memory_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"bellhop/policy"
	"bellhop/processor/session"
	"bellhop/processor/store/memory"
	"bellhop/processor/ticket"
)

// A flood of requests that the fan-out refuses, each with a made-up session and headers of its own, evicts nothing that
// is in use: neither what a session keeps, nor the record by which an old ticket is refused, nor a capture.
func TestWhatIsNotAcceptedIsEvictedFirst(t *testing.T) {
	ctx := context.Background()
	s := memory.New(1 << 20)
	t.Cleanup(s.Close)
	save := func(name, content string) {
		kept := policy.Capture{{Name: "x-kept", Value: policy.NewValue(name)}}
		err := s.Update(ctx, name, time.Hour, func(session.Record) (session.Record, bool) {
			return session.Record{Principal: "P" + name, Kept: kept, Content: content, Lifetime: time.Hour}, true
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Put(ctx, "T"+content, kept, ticket.Life{Idle: time.Hour})
	}
	redeem := func(content string) bool {
		_, found, _ := s.Get(ctx, "T"+content)
		superseded, _ := s.Superseded(ctx, content, 0)
		return found && !superseded
	}
	save("user", "old")
	redeem("old")
	save("user", "new")
	redeem("new")
	_, _, _ = s.Lookup(ctx, "user", "Puser")
	for i := range 20000 {
		name := fmt.Sprintf("made-up-%d", i)
		save(name, "content-"+name)
		_, _, _ = s.Lookup(ctx, name, "P"+name) // twice each, as a client would
		s.Issued(ctx, "content-"+name)
	}
	if record, found, _ := s.Lookup(ctx, "user", "Puser"); !found || len(record.Kept) != 1 {
		t.Error("what the user's session keeps is gone")
	}
	if !redeem("new") {
		t.Error("the user's capture is gone")
	}
	if redeem("old") {
		t.Error("the old ticket is redeemed again: the record of its end is gone")
	}
}
