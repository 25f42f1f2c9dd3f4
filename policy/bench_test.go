package policy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bellhop/policy"
)

// workload is a policy of so many rules, and a client that sends so many headers of them.
type workload struct {
	policy  *policy.Policy
	request []policy.Header
}

func newWorkload(tb testing.TB, rules, sent int, rule, header string) workload {
	tb.Helper()
	var document strings.Builder
	document.WriteString("version: 1\nlimits: {headers: 80}\nforward:\n")
	for i := range rules {
		fmt.Fprintf(&document, "  - "+rule+"\n", i)
	}
	w := workload{policy: load(tb, document.String())}
	for i := range sent {
		name := fmt.Sprintf(header, i%rules, i)
		w.request = append(w.request, policy.Header{Name: name, Value: policy.NewValue("0123456789")})
	}
	return w
}

// workloads are the smallest, and the largest of each shape that is hard to look up. The most rules are 48.
func workloads(tb testing.TB) map[string]workload {
	return map[string]workload{
		"names=1/headers=1":      newWorkload(tb, 1, 1, `"x-name-%d"`, "x-name-%[1]d"),
		"families=1/headers=1":   newWorkload(tb, 1, 1, `"x-family-%d-*"`, "x-family-%[1]d-%[2]d"),
		"names=48/headers=48":    newWorkload(tb, 48, 48, `"x-name-%d"`, "x-name-%[1]d"),
		"families=48/headers=80": newWorkload(tb, 48, 80, `"x-family-%d-*"`, "x-family-%[1]d-%[2]d"),
		"unlisted=48/headers=80": newWorkload(tb, 48, 80, `"x-family-%d-*"`, "x-familiar-%[1]d-%[2]d"),
		"spelled=48/headers=80":  newWorkload(tb, 48, 80, `"x-family-%d-*"`, "x-family-%[1]d-_%[2]d"),
	}
}

func (w workload) capture(tb testing.TB) {
	if _, rejection := w.policy.Capture(w.request); rejection != nil {
		tb.Fatal(rejection)
	}
}

func (w workload) call(tb testing.TB) policy.Call {
	tb.Helper()
	captured, rejection := w.policy.Capture(w.request)
	if rejection != nil {
		tb.Fatal(rejection)
	}
	ticket := []policy.Header{{Name: policy.TicketHeader, Value: policy.NewValue("T")}}
	return policy.Call{Ticket: policy.StatusRedeemed, Capture: captured.Capture, Request: ticket}
}

func BenchmarkCapture(b *testing.B) {
	for name, w := range workloads(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.capture(b)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(w.request)), "ns/header")
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	for name, w := range workloads(b) {
		b.Run(name, func(b *testing.B) {
			call := w.call(b)
			b.ReportAllocs()
			for b.Loop() {
				_ = w.policy.Decide(call)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(w.request)), "ns/header")
		})
	}
}

// BenchmarkScale measures, in one run, how many times as much a header costs at the largest policy as at the smallest.
func BenchmarkScale(b *testing.B) {
	all := workloads(b)
	small, large := all["families=1/headers=1"], all["families=48/headers=80"]
	for name, step := range map[string]func(w workload) func(){
		"capture": func(w workload) func() { return func() { w.capture(b) } },
		"decide": func(w workload) func() {
			call := w.call(b)
			return func() { _ = w.policy.Decide(call) }
		},
	} {
		b.Run(name, func(b *testing.B) {
			one, many := step(small), step(large)
			ratio(b, one, many, 1.0/80)
		})
	}
}

// BenchmarkSession measures, in one run, how many times as much a request of 80 names costs whose session keeps 80
// others as one without a session.
func BenchmarkSession(b *testing.B) {
	w := newWorkload(b, 48, 80, `{name: "x-family-%d-*", keep: session}`, "x-family-%[1]d-%[2]d")
	kept := newWorkload(b, 48, 80, `{name: "x-family-%d-*", keep: session}`, "x-family-%[1]d-k%[2]d").call(b).Capture
	plain := func() { w.capture(b) }
	session := func() {
		captured, _ := w.policy.Capture(w.request)
		_, _ = w.policy.Complete(captured.Capture, kept)
	}
	ratio(b, plain, session, 1)
}

// ratio reports the cost of b to that of a, scaled, measured in turns.
func ratio(b *testing.B, one, other func(), scale float64) {
	b.Helper()
	const turns = 64
	var a, o int64
	for b.Loop() {
		a += timed(turns, one)
		o += timed(turns, other)
	}
	b.ReportMetric(float64(o)/float64(a)*scale, "ratio")
}

func timed(turns int, run func()) int64 {
	begun := time.Now()
	for range turns {
		run()
	}
	return time.Since(begun).Nanoseconds()
}
