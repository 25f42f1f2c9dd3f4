package main

import (
	"context"
	"time"
)

// scenario is what happens to a fleet under load.
type scenario struct {
	name  string
	modes []mode
	renew int // clients take another key every so many calls
	// spoil does it for about length. Each call of note begins another row, with its name.
	spoil func(ctx context.Context, f *fleet, length time.Duration, note func(string)) error
}

func scenarios() []scenario {
	return []scenario{
		{"either Bellhop killed (SIGKILL) in turn", []mode{stored, sealed}, 0, killInTurn},
		{"rolling restart of both Bellhops", []mode{stored, sealed}, 0, restartInTurn},
		{"Redis killed and started empty, clients keep their keys", []mode{stored}, 0, loseRedis},
		{"Redis killed and started empty, clients change them", []mode{stored, sealed}, 20, loseRedis},
		{"120 ms to Redis and back", []mode{stored}, 0, slowRedis(120 * time.Millisecond)},
		{"300 ms to Redis and back", []mode{stored}, 0, slowRedis(300 * time.Millisecond)}, // as good as away
	}
}

// The parts of a scenario.
const (
	before     = "before"
	whileAway  = "while it is away"        // stored tickets cannot be written then
	foundAgain = "until it is found again" // by each Bellhop
	sinceBack  = "since then"
	delayed    = "with the delay"
)

// rest is between two errors.
const rest = time.Second

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func inTurn(ctx context.Context, f *fleet, length time.Duration, end func(context.Context, *bellhop)) error {
	for begun, i := time.Now(), 0; time.Since(begun) < length && ctx.Err() == nil; i++ {
		b := f.bellhops[i%len(f.bellhops)]
		end(ctx, b)
		if err := b.start(ctx); err != nil {
			return err
		}
		sleep(ctx, rest)
	}
	return nil
}

func killInTurn(ctx context.Context, f *fleet, length time.Duration, _ func(string)) error {
	return inTurn(ctx, f, length, func(ctx context.Context, b *bellhop) {
		b.kill()
		sleep(ctx, rest)
	})
}

func restartInTurn(ctx context.Context, f *fleet, length time.Duration, _ func(string)) error {
	return inTurn(ctx, f, length, func(ctx context.Context, b *bellhop) { _ = b.running.Stop(ctx) })
}

func loseRedis(ctx context.Context, f *fleet, length time.Duration, note func(string)) error {
	note(before)
	sleep(ctx, length/4)
	f.redis.Kill()
	note(whileAway)
	sleep(ctx, length/2)
	if err := f.redis.Again(ctx); err != nil {
		return err
	}
	note(foundAgain)
	sleep(ctx, rest)
	note(sinceBack)
	sleep(ctx, length/4)
	return nil
}

func slowRedis(delay time.Duration) func(ctx context.Context, f *fleet, length time.Duration, note func(string)) error {
	return func(ctx context.Context, f *fleet, length time.Duration, note func(string)) error {
		note(before)
		sleep(ctx, length/2)
		f.slow.by(delay)
		note(delayed)
		sleep(ctx, length/2)
		f.slow.by(0)
		return nil
	}
}
