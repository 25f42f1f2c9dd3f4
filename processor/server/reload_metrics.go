package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"bellhop/policy"
)

// reloadMetrics report which policy is in force, and whether it is the one in the files.
type reloadMetrics struct {
	success prometheus.Gauge
	each    *prometheus.GaugeVec
	when    prometheus.Gauge
	total   *prometheus.CounterVec
}

// newReloadMetrics makes metrics before the first reading.
func newReloadMetrics(registerer prometheus.Registerer, inForce func() []*policy.Policy) *reloadMetrics {
	m := &reloadMetrics{
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bellhop_policy_reload_success", Help: "Whether what the files say is in force (1), or the last good policy " +
				"because they have errors (0).",
		}),
		each: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "bellhop_policy_document_success", Help: "Whether what one policy document says is in force, whole " +
				"(1), or not (0).",
		}, []string{"document"}),
		when: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "bellhop_policy_reload_timestamp_seconds", Help: "When the files were last loaded with success, in " +
				"seconds since 1970.",
		}),
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "bellhop_policy_reloads_total", Help: "Reloads, by what became of them.",
		}, []string{"outcome"}),
	}
	for _, o := range []outcome{outcomeApplied, outcomeUnchanged, outcomeUnreadable, outcomeInvalid, outcomeFanout,
		outcomeCeiling, outcomeKeys, outcomeDiscovery} {
		m.total.WithLabelValues(string(o)) // a rate needs the 0 before the first
	}
	registerer.MustRegister(m.success, m.each, m.when, m.total, newPolicyInfo(inForce))
	return m
}

func (m *reloadMetrics) count(a attempt) {
	m.total.WithLabelValues(string(a.outcome)).Inc()
	m.record(a.reading)
}

// record records what is in force after a reading.
func (m *reloadMetrics) record(r reading) {
	m.each.Reset()
	for _, path := range r.paths {
		m.each.WithLabelValues(path).Set(1)
	}
	for _, one := range r.loadErrors {
		if one.document != "" {
			m.each.WithLabelValues(one.document).Set(0)
		}
	}
	if len(r.loadErrors) > 0 {
		m.success.Set(0)
		return
	}
	m.succeeded()
}

func (m *reloadMetrics) succeeded() {
	m.success.Set(1)
	m.when.SetToCurrentTime()
}

// policyInfo shows the policies in force at each scrape, so that there is always exactly one of each fan-out.
type policyInfo struct {
	desc    *prometheus.Desc
	inForce func() []*policy.Policy
}

func newPolicyInfo(inForce func() []*policy.Policy) *policyInfo {
	return &policyInfo{inForce: inForce, desc: prometheus.NewDesc(
		"bellhop_policy_info", "The policies in force.", []string{"digest", "fanout"}, nil,
	)}
}

// Describe implements [prometheus.Collector].
func (i *policyInfo) Describe(out chan<- *prometheus.Desc) { out <- i.desc }

// Collect implements [prometheus.Collector].
func (i *policyInfo) Collect(out chan<- prometheus.Metric) {
	for _, p := range i.inForce() {
		out <- prometheus.MustNewConstMetric(i.desc, prometheus.GaugeValue, 1, p.Digest(), p.Fanout())
	}
}
