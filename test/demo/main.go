// Command demo shows on one screen what Bellhop does, on real programs: "make
// demo" runs it. With --keep everything stays up, for an MCP client of one's own.
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

	"golang.org/x/term"
)

// The exit codes.
const (
	exitOK    = 0
	exitWrong = 1   // the demo ran, and something in its records is wrong
	exitUsage = 2   // it could not run
	exitBreak = 130 // it was interrupted before it had anything to show
)

func main() {
	// A second signal ends the demo at once; the kernel then kills what it has started.
	ctx, release := signal.NotifyContext(
		context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE,
	)
	context.AfterFunc(ctx, release)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	bins programs
	keep bool
	save string
}

// run is the whole program, so that a test can call it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err == nil {
		err = demonstrate(ctx, o, stdout, stderr)
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errWrong):
		return exitWrong // the screen has said it
	}
	_, _ = fmt.Fprintf(stderr, "demo: %v\n", err)
	if errors.Is(err, errInterrupted) {
		return exitBreak
	}
	return exitUsage
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.bins.bellhop, "bellhop", "", "the bellhop program")
	flags.StringVar(&o.bins.envoy, "envoy", "", "the Envoy program; test/tools/fetch envoy finds it")
	flags.StringVar(&o.bins.vmcp, "vmcp", "", "the vMCP program; test/tools/fetch vmcp finds it")
	flags.BoolVar(&o.keep, "keep", false, "let everything run on until Ctrl-C")
	flags.StringVar(&o.save, "save", "", "a folder for the configuration of this run (default: demo in Bellhop's cache)")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if o.bins.bellhop == "" || o.bins.envoy == "" || o.bins.vmcp == "" {
		return o, errors.New("--bellhop, --envoy and --vmcp are needed; make demo finds them all")
	}
	return o, nil
}

// isTerminal reports whether a person looks at what is written there.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
