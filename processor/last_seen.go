package processor

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
)

// lastSeen records when a client last sent each header of a policy, and when a request last reached each declared
// backend. A name that is never seen is probably misspelt.
type lastSeen struct {
	headers  map[string]*atomic.Int64 // by the name or family that the policy lists; Unix time in ns, 0: never
	backends map[string]*atomic.Int64
	since    time.Time // when the policy came into force
}

// lastSeenGrain is the resolution of a record: a write for each request would contend between processors.
const lastSeenGrain = 100 * time.Millisecond

func newLastSeen(p *policy.Policy, now time.Time) *lastSeen {
	s := &lastSeen{headers: make(map[string]*atomic.Int64), backends: make(map[string]*atomic.Int64), since: now}
	for _, pattern := range p.Patterns() {
		s.headers[pattern] = new(atomic.Int64)
	}
	for _, backend := range p.Backends() {
		s.backends[backend.Name] = new(atomic.Int64)
	}
	return s
}

func (s *lastSeen) captured(p *policy.Policy, capture policy.Capture, now time.Time) {
	for i := range capture {
		if i == 0 || capture[i-1].Name != capture[i].Name {
			record(s.headers, p.Pattern(capture[i].Name), now)
		}
	}
}

func (s *lastSeen) reached(backend string, now time.Time) { record(s.backends, backend, now) }

func record(all map[string]*atomic.Int64, name string, now time.Time) {
	if last, ok := all[name]; ok && now.UnixNano()-last.Load() > int64(lastSeenGrain) {
		last.Store(now.UnixNano())
	}
}

// unseen lists the names that were not seen for a time, in no order.
func unseen(all map[string]*atomic.Int64, since, now time.Time, interval time.Duration) []string {
	var names []string
	for name, last := range all {
		seen := time.Unix(0, last.Load())
		if seen.Before(since) {
			seen = since
		}
		if now.Sub(seen) >= interval {
			names = append(names, name)
		}
	}
	return names
}

// WarnOfUnseen logs, at each interval, every header that no client has sent and every backend that no request has
// reached for that long. It returns when ctx is done.
func (p *Processor) WarnOfUnseen(ctx context.Context, interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, f := range p.current.Load().sorted() {
				f.warnOfUnseen(interval)
			}
		}
	}
}

func (f *fanout) warnOfUnseen(interval time.Duration) {
	seen, now, name := f.lastSeen, f.now(), f.policy.Fanout()
	for _, header := range unseen(seen.headers, seen.since, now, interval) {
		f.Log.Warn("no client has sent a header that the policy lists; is its name the one that clients send?",
			"header", header, "fanout", name, "for", interval)
	}
	for _, backend := range unseen(seen.backends, seen.since, now, interval) {
		f.Log.Warn("no request has reached a backend that the policy declares; are its clusters, or bellhop-backend, right?",
			"backend", backend, "fanout", name, "for", interval)
	}
}

// lastSeenCollector reports the records of the policies in force.
type lastSeenCollector struct {
	current           *atomic.Pointer[fanouts]
	headers, backends *prometheus.Desc
}

func newLastSeenCollector(current *atomic.Pointer[fanouts]) *lastSeenCollector {
	return &lastSeenCollector{
		current: current,
		headers: prometheus.NewDesc("bellhop_header_last_seen_timestamp_seconds",
			"When a client last sent a header that the policy lists; 0 for never.", []string{"fanout", "header"}, nil),
		backends: prometheus.NewDesc("bellhop_backend_last_seen_timestamp_seconds",
			"When a request last reached a backend that the policy declares; 0 for never.", []string{"fanout", "backend"}, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c *lastSeenCollector) Describe(to chan<- *prometheus.Desc) {
	to <- c.headers
	to <- c.backends
}

// Collect implements [prometheus.Collector].
func (c *lastSeenCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, fanout string, all map[string]*atomic.Int64) {
		for name, last := range all {
			seconds := float64(last.Load()) / float64(time.Second)
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, seconds, fanout, name)
		}
	}
	for fanout, f := range *c.current.Load() {
		gauge(c.headers, fanout, f.lastSeen.headers)
		gauge(c.backends, fanout, f.lastSeen.backends)
	}
}
