package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// sample is one turn of one server with one kind of request.
type sample struct {
	Server string        `json:"server"`
	Kind   string        `json:"kind"`
	Round  int           `json:"round"`
	Calls  int           `json:"calls"`
	CPU    time.Duration `json:"cpu_ns"` // of the server, in all
	Took   time.Duration `json:"took_ns"`
	RSS    int64         `json:"rss_bytes"` // of the server, afterwards
}

func (s sample) perCall() time.Duration { return s.CPU / time.Duration(s.Calls) }

// measure lets the servers take turns.
func measure(ctx context.Context, o options) (report, error) {
	all := report{options: o}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return all, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	servers, stop, err := startServers(ctx, o, dir)
	if err != nil {
		return all, err
	}
	defer stop()
	if all.emptyRSS, err = servers["bellhop-egress"].rss(); err != nil {
		return all, err
	}
	begun := time.Now()
	for round := range o.rounds {
		for _, k := range kinds() {
			turns := []*server{servers["default"], servers["tuned"], servers["bellhop-"+k.name]}
			for i := range turns { // another order in each round
				s := turns[(i+round)%len(turns)]
				progress(begun, fmt.Sprintf("round %d of %d: %s, %s", round+1, o.rounds, s.name, k.name))
				one, err := turn(ctx, s, k, round, o)
				if err != nil {
					return all, fmt.Errorf("%s, %s: %w", s.name, k.name, err)
				}
				all.samples = append(all.samples, one)
			}
		}
	}
	progress(begun, "")
	return all, nil
}

// turn is one process of the client against one server. The store is filled in the first round.
func turn(ctx context.Context, s *server, k kind, round int, o options) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	fill := 0
	if s.bellhop && round == 0 {
		fill = o.captures
	}
	client, err := command(ctx, s, k, o.calls, fill)
	if err != nil {
		return sample{}, err
	}
	var complaints bytes.Buffer
	client.Stderr = &complaints
	in, err := client.StdinPipe()
	if err != nil {
		return sample{}, err
	}
	out, err := client.StdoutPipe()
	if err != nil {
		return sample{}, err
	}
	if err := client.Start(); err != nil {
		return sample{}, err
	}
	one, err := timed(s, in, bufio.NewScanner(out))
	if ended := client.Wait(); err == nil {
		err = ended
	}
	if err != nil {
		return sample{}, fmt.Errorf("%w: %s", err, strings.TrimSpace(complaints.String()))
	}
	one.Server, one.Kind, one.Round, one.Calls = s.name, k.name, round, o.calls
	return one, nil
}

// timed measures a server between the client's words ready and done.
func timed(s *server, in io.WriteCloser, out *bufio.Scanner) (one sample, err error) {
	defer func() { _ = in.Close() }()
	if !out.Scan() || out.Text() != ready {
		return one, fmt.Errorf("the client failed before it was %s", ready)
	}
	before, err := s.cpu()
	if err != nil {
		return one, err
	}
	begun := time.Now()
	if _, err := io.WriteString(in, "go\n"); err != nil {
		return one, err
	}
	if !out.Scan() || out.Text() != done {
		return one, fmt.Errorf("the client failed before it was %s", done)
	}
	one.Took = time.Since(begun)
	after, err := s.cpu()
	if err != nil {
		return one, err
	}
	one.CPU = after - before
	one.RSS, err = s.rss()
	return one, err
}

// progress shows on a terminal what is being done, in one line.
func progress(begun time.Time, what string) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return
	}
	fmt.Fprint(os.Stderr, "\r\x1b[K")
	if what != "" {
		fmt.Fprintf(os.Stderr, "%s … %s", what, time.Since(begun).Round(time.Second))
	}
}
