package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all that was measured.
type report struct {
	options  options
	samples  []sample
	emptyRSS int64 // of Bellhop before its first call, in bytes
}

// writers write a report, by the name of the form.
func writers() map[string]func(io.Writer, report) error {
	return map[string]func(io.Writer, report) error{"table": table, "json": document, "benchstat": benchstat}
}

// spread is what a figure was over the rounds.
type spread[T cmp.Ordered] struct{ min, median, max T }

func spreadOf[T cmp.Ordered](all []T) spread[T] {
	sorted := slices.Sorted(slices.Values(all))
	return spread[T]{sorted[0], sorted[len(sorted)/2], sorted[len(sorted)-1]}
}

// of are the samples of one server with one kind of request, by round.
func (r report) of(server, kind string) []sample {
	var all []sample
	for _, s := range r.samples {
		if s.Server == server && s.Kind == kind {
			all = append(all, s)
		}
	}
	return all
}

// ratios compare a server with the default one, round by round.
func (r report) ratios(server, kind string) []float64 {
	base := r.of("default", kind)
	var ratios []float64
	for i, s := range r.of(server, kind) {
		ratios = append(ratios, float64(s.CPU)/float64(base[i].CPU))
	}
	return ratios
}

// table writes a report for people.
func table(to io.Writer, r report) error {
	text := fmt.Sprintf("CPU of the server for one call: %d rounds of %d calls, %d streams at once over a Unix socket; "+
		"%s, %s/%s, GOMAXPROCS %d\n\n", r.options.rounds, r.options.calls, streams,
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0))
	if _, err := io.WriteString(to, text); err != nil {
		return err
	}
	var rows strings.Builder
	rows.WriteString("request\tserver\tCPU/call\tmin–max\tratio to default\tmin–max\tcalls/s\tRSS\t\n")
	for _, k := range kinds() {
		for _, name := range []string{"default", "tuned", "bellhop"} {
			rows.WriteString(r.row(name, k.name))
		}
	}
	w := tabwriter.NewWriter(to, 0, 0, 3, ' ', tabwriter.AlignRight)
	_, err := io.WriteString(w, rows.String())
	if err = errors.Join(err, w.Flush()); err != nil || r.options.captures == 0 {
		return err
	}
	_, err = fmt.Fprintf(
		to,
		"\n%d clients with a key of 40 bytes: %d bytes of RSS each, over the %d MiB of a Bellhop that "+
			"has served none\n",
		r.options.captures,
		r.perCapture(),
		r.emptyRSS>>20,
	)
	return err
}

// row is one server with one kind of request.
func (r report) row(server, kind string) string {
	var cpu []time.Duration
	var rate []float64
	var rss int64
	for _, s := range r.of(server, kind) {
		cpu, rate, rss = append(cpu, s.perCall()), append(rate, float64(s.Calls)/s.Took.Seconds()), max(rss, s.RSS)
	}
	c, ratio := spreadOf(cpu), spreadOf(r.ratios(server, kind))
	return fmt.Sprintf("%s\t%s\t%.1f µs\t%.1f–%.1f\t%.2f\t%.2f–%.2f\t%.0f\t%d MiB\t\n", kind, server,
		micro(c.median), micro(c.min), micro(c.max), ratio.median, ratio.min, ratio.max, spreadOf(rate).median, rss>>20)
}

// perCapture is how much RSS grew for each capture, by the server of the first kind.
func (r report) perCapture() int64 {
	var rss int64
	for _, s := range r.of("bellhop", kinds()[0].name) {
		rss = max(rss, s.RSS)
	}
	return (rss - r.emptyRSS) / int64(max(r.options.captures, 1))
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// document writes a report for machines: all samples.
func document(to io.Writer, r report) error {
	encoder := json.NewEncoder(to)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r.samples)
}

// benchstat writes a line for each sample in the form of Go's benchmarks.
func benchstat(to io.Writer, r report) error {
	for _, s := range r.samples {
		_, err := fmt.Fprintf(to, "BenchmarkServer/%s/%s %d %d cpu-ns/op %d ns/op\n",
			s.Server, s.Kind, s.Calls, s.perCall(), s.Took/time.Duration(s.Calls))
		if err != nil {
			return err
		}
	}
	return nil
}
