package redistest_test

import (
	"context"
	"testing"
	"time"

	"bellhop/processor/store/memory"
	"bellhop/processor/store/redis"
	"bellhop/processor/store/storetest"
	"bellhop/processor/ticket"
)

// BenchmarkKnown measures a put and a get of a capture that is known, in memory and in front of a server: what is near
// costs about the same.
func BenchmarkKnown(b *testing.B) {
	memory := memory.New(1 << 20)
	defer memory.Close()
	server := serve(b, programs["redis"])
	for _, s := range []struct {
		name string
		ticket.Store
	}{{"memory", memory}, {"remote", open(b, redis.Options{Address: server.Address(), Keys: ticket.RandomKeys()})}} {
		b.Run(s.name, func(b *testing.B) {
			capture := storetest.Capture("v")
			b.ReportAllocs()
			for b.Loop() {
				_ = s.Put(context.Background(), "T", capture, ticket.Life{Idle: time.Hour})
				_, _, _ = s.Get(context.Background(), "T")
			}
		})
	}
}
