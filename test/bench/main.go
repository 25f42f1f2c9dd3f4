// Command bench measures what one call costs the server: its CPU time, as a ratio to a do-nothing ext_proc server on
// grpc-go with default options, in one run. It is the yardstick for every change on the path of a request.
//
//	bench --bellhop bin/bellhop                  the table
//	bench --bellhop bin/bellhop --output benchstat   for benchstat
//
// It starts the servers, and a client in a process of its own that plays Envoy: one HTTP/2 connection over a Unix
// socket and 16 streams at once, each one request. The servers take turns, so that a change of the machine's speed hits
// all.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run is the command, or one of the two that it starts itself.
func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == doNothing {
		return serveNothing(ctx, args[1:])
	}
	if len(args) > 0 && args[0] == load {
		return runLoad(ctx, args[1:])
	}
	options, err := parse(args)
	if err != nil {
		return err
	}
	measured, err := measure(ctx, options)
	if err != nil {
		return err
	}
	return writers()[options.output](os.Stdout, measured)
}

// options are those of a measurement.
type options struct {
	bellhop  string // the program
	rounds   int    // of all servers and cases
	calls    int    // of one case in one round
	captures int    // that the store holds before; 0: one
	output   string // table, json or benchstat
}

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.bellhop, "bellhop", "bin/bellhop", "the program to measure")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each server takes its turn")
	flags.IntVar(&o.calls, "calls", 40_000, "calls of one turn")
	flags.IntVar(
		&o.captures, "captures", 0, "clients with a key of 40 bytes that Bellhop's store holds before it is measured",
	)
	flags.StringVar(&o.output, "output", "table", "table, json or benchstat")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || o.calls < streams || o.captures < 0 || flags.NArg() > 0 {
		return o, fmt.Errorf("--rounds has to be 1 or more, --calls %d or more, and there are no other arguments", streams)
	}
	if _, known := writers()[o.output]; !known {
		return o, fmt.Errorf("--output %s: write table, json or benchstat", o.output)
	}
	var err error
	o.bellhop, err = filepath.Abs(o.bellhop) // it runs in a folder of its own
	return o, err
}

// turnTime bounds one turn: one that takes longer has hung.
const turnTime = 10 * time.Minute
