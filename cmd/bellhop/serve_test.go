package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A program that is stopped while it starts finishes starting, so that it can stop in order. One that hangs does not
// wait for ever.
func TestAStopWhileStarting(t *testing.T) {
	for _, test := range []struct {
		name string
		load time.Duration
		want string // "" is an error
	}{
		{"it starts in time", startGrace / 2, "started"},
		{"a file hangs", time.Hour, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				begun := time.Now()
				got, err := unlessStopped(ctx, func() (string, error) {
					time.Sleep(test.load)
					return "started", nil
				})
				if got != test.want || (err == nil) != (test.want != "") {
					t.Errorf("got %q, %v", got, err)
				}
				if took := time.Since(begun); took > startGrace {
					t.Errorf("waited %s", took)
				}
				time.Sleep(test.load) // load ends before the test
			})
		})
	}
}
