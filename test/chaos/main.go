// Command chaos kills, restarts and slows down the parts of a fleet under load, and counts what clients notice of it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, release := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, release) // a second signal ends it at once
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var p programs
	var length time.Duration
	var file string
	flags := flag.NewFlagSet("chaos", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&p.bellhop, "bellhop", "", "the bellhop program")
	flags.StringVar(&p.envoy, "envoy", "", "the Envoy program")
	flags.StringVar(&p.vmcp, "vmcp", "", "the vMCP program")
	flags.StringVar(&p.redis, "redis", "", "the Redis program")
	flags.DurationVar(&length, "length", time.Minute, "of each scenario")
	flags.StringVar(&file, "write", "", "the document into which to write the report")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if p.bellhop == "" || p.envoy == "" || p.vmcp == "" || p.redis == "" {
		return errors.New("--bellhop, --envoy, --vmcp and --redis are needed; make chaos finds them all")
	}
	rows, err := playAll(ctx, p, length, stderr)
	if err != nil {
		return err
	}
	text := report(rows)
	_, _ = fmt.Fprintln(stdout, text)
	for _, r := range rows {
		for message, count := range r.errors {
			_, _ = fmt.Fprintf(stderr, "%s, %s: %d × %s\n", r.scenario, r.part, count, message)
		}
	}
	if file != "" {
		return write(file, text)
	}
	return nil
}

// playAll runs every scenario in each of its modes, and says how far it is.
func playAll(ctx context.Context, p programs, length time.Duration, progress io.Writer) ([]row, error) {
	var rows []row
	begun := time.Now()
	for _, s := range scenarios() {
		for _, m := range s.modes {
			_, _ = fmt.Fprintf(progress, "%4.0f s  %s, %s …\n", time.Since(begun).Seconds(), s.name, m)
			more, err := play(ctx, p, s, m, length)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", s.name, m, err)
			}
			rows = append(rows, more...)
		}
	}
	return rows, nil
}
