package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

var (
	// errWrong ends a demo whose screen already says what is wrong.
	errWrong = errors.New("something in the records is wrong")
	// errInterrupted ends a demo that had nothing to show yet.
	errInterrupted = errors.New("interrupted")
)

// demonstrate runs the demo in a folder that goes away with it.
func demonstrate(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "bellhop-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s, err := prepare(ctx, dir, o, stderr)
	if err != nil && ctx.Err() != nil {
		return errInterrupted // what was cut off says nothing of use
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()

	colours := palette{colours: isTerminal(stdout) && os.Getenv("NO_COLOR") == ""}
	if _, err := fmt.Fprint(stdout, screen(s.report, colours)); err != nil {
		return err
	}
	if o.keep {
		err = s.keep(ctx)
	}
	if len(s.report.errs) > 0 {
		err = errors.Join(err, errWrong)
	}
	return err
}

// prepare performs the demo, with its progress on stderr, and completes the report.
func prepare(ctx context.Context, dir string, o options, stderr io.Writer) (*show, error) {
	progress := startProgress(stderr, isTerminal(stderr))
	defer progress.stop()
	s, err := perform(ctx, dir, o.bins, progress.say)
	if err != nil {
		return nil, err
	}
	if o.keep {
		s.report.kept, err = s.offer(dir)
	} else {
		s.report.saved, err = save(s.with.stack, o.save)
	}
	if err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}
