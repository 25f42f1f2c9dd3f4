package processor

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// maxWaits bounds the streams of one fan-out that wait for a body or a response. Each holds the headers of its request
// and a stream of gRPC, about 85 KB, which no store counts.
const maxWaits = 1024

// waits counts the streams of one fan-out that wait. It outlives a policy.
type waits struct {
	now     atomic.Int64
	gauge   prometheus.Gauge
	refused prometheus.Counter
}

// wait is one stream that waits.
type wait struct {
	of   *waits
	done atomic.Bool
}

// begin returns nil if too many streams wait already.
func (w *waits) begin() *wait {
	if w.now.Add(1) > maxWaits {
		w.now.Add(-1)
		w.refused.Inc()
		return nil
	}
	w.gauge.Inc()
	return &wait{of: w}
}

// end is called once the stream no longer waits. Calls after the first, and of nil, do nothing.
func (w *wait) end() {
	if w != nil && w.done.CompareAndSwap(false, true) {
		w.of.now.Add(-1)
		w.of.gauge.Dec()
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
	begun := f.waits.begin()
	switch {
	case begun == nil && answer.Reading == nil:
		f.warnings.warn(
			"too many streams wait for a response; this one is not waited for, so that its session may keep nothing",
			"most",
			maxWaits,
		)
		answer.Pending = nil
		return answer, nil
	case begun == nil && answer.Reading.refused != nil:
		return Answer{}, answer.Reading.refused
	case begun == nil:
		f.warnings.warn("too many streams wait for a body; the request is refused", "most", maxWaits)
		f.metrics.request(Egress, outcomeBodyTimeout)
		return Answer{}, tooManyBodies()
	case answer.Pending != nil:
		answer.Pending.wait = begun
	default:
		answer.Reading.wait = begun
	}
	return answer, nil
}
