package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// row is what was counted in one part of one scenario.
type row struct {
	scenario, part string
	mode           mode
	length         time.Duration
	*tally
}

// play runs one scenario on a fleet of its own.
func play(ctx context.Context, programs programs, s scenario, m mode, length time.Duration) (rows []row, err error) {
	dir, err := os.MkdirTemp("", "bellhop-chaos")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	f, err := startFleet(ctx, dir, programs, m)
	if err != nil {
		return nil, fmt.Errorf("start the fleet: %w", err)
	}
	defer f.stop()
	l, err := startLoad(ctx, f, s.renew)
	if err != nil {
		return nil, fmt.Errorf("start the load: %w", err)
	}
	sleep(ctx, rest)
	_ = l.turn() // what was before is no part of it
	part, begun := "", time.Now()
	end := func(t *tally) {
		if part != "" || s.name != "" && t.calls() > 0 {
			rows = append(rows, row{scenario: s.name, part: part, mode: m, length: time.Since(begun), tally: t})
		}
	}
	err = s.spoil(ctx, f, length, func(next string) {
		if t := l.turn(); part != "" {
			end(t)
		}
		part, begun = next, time.Now()
	})
	end(l.stop())
	return rows, err
}
