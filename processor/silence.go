package processor

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
)

// sightings remember when each header of a policy was last sent by a client, and each declared backend last reached. What
// is never seen is the sign of a misspelt name.
type sightings struct {
	headers  map[string]*atomic.Int64 // by the name or family that the policy lists; Unix time in ns, 0: never
	backends map[string]*atomic.Int64
	since    time.Time // when the policy came into force
}

// sightingGrain is how exactly a sighting is remembered.
const sightingGrain = 100 * time.Millisecond

func newSightings(p *policy.Policy, now time.Time) *sightings {
	s := &sightings{headers: make(map[string]*atomic.Int64), backends: make(map[string]*atomic.Int64), since: now}
	for _, pattern := range p.Patterns() {
		s.headers[pattern] = new(atomic.Int64)
	}
	for _, backend := range p.Backends() {
		s.backends[backend.Name] = new(atomic.Int64)
	}
	return s
}

// sightings go on where the policy of a fan-out is the one that it was.
func (all *engines) sightings(p *policy.Policy, now time.Time) *sightings {
	if all != nil {
		if before, ok := (*all)[p.Fanout()]; ok && before.policy.Digest() == p.Digest() {
			return before.seen
		}
	}
	return newSightings(p, now)
}

func (s *sightings) header(pattern string, now time.Time) { see(s.headers, pattern, now) }
func (s *sightings) backend(name string, now time.Time)   { see(s.backends, name, now) }

func see(all map[string]*atomic.Int64, name string, now time.Time) {
	// Not at each request: that would be a write that all processors share.
	if last, ok := all[name]; ok && now.UnixNano()-last.Load() > int64(sightingGrain) {
		last.Store(now.UnixNano())
	}
}

// silentFor lists the names that were not seen for a time, in no order.
func silentFor(all map[string]*atomic.Int64, since, now time.Time, patience time.Duration) []string {
	var silent []string
	for name, last := range all {
		seen := time.Unix(0, last.Load())
		if seen.Before(since) {
			seen = since
		}
		if now.Sub(seen) >= patience {
			silent = append(silent, name)
		}
	}
	return silent
}

// Watch warns, each time that patience has passed, of every header that no client has sent and every backend that no
// request has reached for that long. It returns when ctx is done.
func (p *Processor) Watch(ctx context.Context, patience time.Duration) {
	ticker := time.NewTicker(patience)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			p.warnOfSilence(patience)
		}
	}
}

func (p *Processor) warnOfSilence(patience time.Duration) {
	for _, engine := range p.current.Load().sorted() {
		engine.warnOfSilence(patience)
	}
}

func (e *engine) warnOfSilence(patience time.Duration) {
	seen, now, fanout := e.seen, e.now(), e.policy.Fanout()
	for _, name := range silentFor(seen.headers, seen.since, now, patience) {
		e.log.Warn("no client has sent a header that the policy lists; is its name the one that clients send?", "header", name, "fanout", fanout, "for", patience)
	}
	for _, name := range silentFor(seen.backends, seen.since, now, patience) {
		e.log.Warn("no request has reached a backend that the policy declares; are its clusters, or bellhop-backend, right?", "backend", name, "fanout", fanout, "for", patience)
	}
}

// sightingCollector reports the sightings of the policies in force.
type sightingCollector struct {
	current           *atomic.Pointer[engines]
	headers, backends *prometheus.Desc
}

func newSightingCollector(current *atomic.Pointer[engines]) *sightingCollector {
	return &sightingCollector{
		current: current,
		headers: prometheus.NewDesc("bellhop_header_last_seen_timestamp_seconds",
			"When a client last sent a header that the policy lists; 0 for never.", []string{"fanout", "header"}, nil),
		backends: prometheus.NewDesc("bellhop_backend_last_seen_timestamp_seconds",
			"When a request last reached a backend that the policy declares; 0 for never.", []string{"fanout", "backend"}, nil),
	}
}

// Describe implements [prometheus.Collector].
func (c *sightingCollector) Describe(to chan<- *prometheus.Desc) {
	to <- c.headers
	to <- c.backends
}

// Collect implements [prometheus.Collector].
func (c *sightingCollector) Collect(to chan<- prometheus.Metric) {
	for fanout, engine := range *c.current.Load() {
		for name, last := range engine.seen.headers {
			to <- prometheus.MustNewConstMetric(c.headers, prometheus.GaugeValue, seconds(last), fanout, name)
		}
		for name, last := range engine.seen.backends {
			to <- prometheus.MustNewConstMetric(c.backends, prometheus.GaugeValue, seconds(last), fanout, name)
		}
	}
}

func seconds(last *atomic.Int64) float64 { return float64(last.Load()) / float64(time.Second) }
