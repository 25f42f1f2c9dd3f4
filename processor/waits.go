package processor

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// waitKind is what a stream waits for. Each kind has streams of its own: whoever opens many of one kind, for which a
// client needs no credential, takes none of another.
type waitKind int

const (
	forResponse waitKind = iota // to a client's request: it begins a session, or changes one
	forRefused                  // the body of a client's request that is refused, for the ID in the error
	forBody                     // of a request to a backend
	waitKinds
)

// most bounds the streams of one fan-out that wait for the same. Each holds the headers of its request and a stream of
// gRPC, about 85 KB, which no store counts.
func (k waitKind) most() int64 {
	return [waitKinds]int64{forResponse: 512, forRefused: 128, forBody: 512}[k]
}

// waits counts the streams of one fan-out that wait. It outlives a policy.
type waits struct {
	now     [waitKinds]atomic.Int64
	gauge   prometheus.Gauge
	refused prometheus.Counter
}

// wait is one stream that waits.
type wait struct {
	of   *waits
	kind waitKind
	done atomic.Bool
}

// begin returns nil if too many streams wait already.
func (w *waits) begin(kind waitKind) *wait {
	if w.now[kind].Add(1) > kind.most() {
		w.now[kind].Add(-1)
		w.refused.Inc()
		return nil
	}
	w.gauge.Inc()
	return &wait{of: w, kind: kind}
}

// end is called once the stream no longer waits. Calls after the first, and of nil, do nothing.
func (w *wait) end() {
	if w != nil && w.done.CompareAndSwap(false, true) {
		w.of.now[w.kind].Add(-1)
		w.of.gauge.Dec()
	}
}

// waitsFor says what a stream waits for whose answer has a Pending or a Reading.
func (a *Answer) waitsFor() waitKind {
	switch {
	case a.Reading == nil:
		return forResponse
	case a.Reading.refused != nil:
		return forRefused
	default:
		return forBody
	}
}

// Done says that the stream waits no longer, whatever has come. The transport calls it for each answer with a Pending.
func (p *Pending) Done() { p.wait.end() }

// Done says that the stream waits no longer, whatever has come. The transport calls it for each answer with a Reading.
func (r *Reading) Done() { r.wait.end() }

// waits returns those of the fan-out that served under an earlier policy.
func (all *fanouts) waits(name string, families *metricFamilies) *waits {
	if was, ok := all.get(name); ok {
		return was.waits
	}
	return &waits{gauge: families.waiting.WithLabelValues(name), refused: families.notWaited.WithLabelValues(name)}
}

// bounded makes an answer that waits one that does not if too many streams wait. Nobody waits for a response: the
// session that it may begin keeps nothing, and an ended one ends when it is idle. A request whose body is needed is
// refused.
func (f *fanout) bounded(answer Answer) (Answer, *Error) {
	if answer.Pending == nil && answer.Reading == nil {
		return answer, nil
	}
	kind := answer.waitsFor()
	begun := f.waits.begin(kind)
	switch {
	case begun == nil && kind == forResponse:
		f.warnings.warn(
			"too many streams wait for a response; this one is not waited for, so that its session may keep nothing",
			"most", kind.most(),
		)
		answer.Pending = nil
		return answer, nil
	case begun == nil && kind == forRefused:
		return Answer{}, answer.Reading.refused
	case begun == nil:
		f.warnings.warn("too many streams wait for a body; the request is refused", "most", kind.most())
		f.metrics.request(Egress, outcomeBusy)
		return Answer{}, tooManyBodies()
	case answer.Pending != nil:
		answer.Pending.wait = begun
	default:
		answer.Reading.wait = begun
	}
	return answer, nil
}
