package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"bellhop/processor/store"
	"bellhop/processor/store/redis"
)

// usageCollectors report how full a store is, by kind of entry, at each scrape.
func usageCollectors(usage func() []store.Usage) []prometheus.Collector {
	desc := func(name, help string) *prometheus.Desc { return prometheus.NewDesc(name, help, []string{"kind"}, nil) }
	return []prometheus.Collector{&usageCollector{
		usage: usage,
		entries: desc(
			"bellhop_store_entries",
			"Entries in the store: captures by ticket, sessions, and which captures are superseded.",
		),
		bytes:     desc("bellhop_store_bytes", "Estimated size of the entries in the store, in bytes."),
		limit:     desc("bellhop_store_limit_bytes", "The most that the store holds, in bytes. The sum is --store-bytes."),
		evictions: desc("bellhop_store_evictions_total", "Entries that left before their time because the store was full."),
	}}
}

type usageCollector struct {
	usage                            func() []store.Usage
	entries, bytes, limit, evictions *prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (c *usageCollector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{c.entries, c.bytes, c.limit, c.evictions} {
		to <- desc
	}
}

// Collect implements [prometheus.Collector].
func (c *usageCollector) Collect(to chan<- prometheus.Metric) {
	for _, usage := range c.usage() {
		kind := string(usage.Kind)
		to <- prometheus.MustNewConstMetric(c.entries, prometheus.GaugeValue, float64(usage.Entries), kind)
		to <- prometheus.MustNewConstMetric(c.bytes, prometheus.GaugeValue, float64(usage.Bytes), kind)
		to <- prometheus.MustNewConstMetric(c.limit, prometheus.GaugeValue, float64(usage.Limit), kind)
		to <- prometheus.MustNewConstMetric(c.evictions, prometheus.CounterValue, float64(usage.Evictions), kind)
	}
}

// redisCollectors report whether the server can be reached, and the commands that it was sent.
func redisCollectors(s *redis.Store) []prometheus.Collector {
	up := prometheus.GaugeOpts{Name: "bellhop_store_up", Help: "Whether the shared store can be reached and written."}
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(up, func() float64 {
			if s.Ready() != nil {
				return 0
			}
			return 1
		}),
		&commandCollector{store: s, desc: prometheus.NewDesc("bellhop_store_commands_total",
			"Commands to the shared store, by outcome; refused ones were not sent, because it could not be reached.",
			[]string{"outcome"}, nil)},
	}
}

type commandCollector struct {
	store *redis.Store
	desc  *prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (c *commandCollector) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

// Collect implements [prometheus.Collector].
func (c *commandCollector) Collect(to chan<- prometheus.Metric) {
	good, failed, refused := c.store.Commands()
	for outcome, count := range map[string]uint64{"ok": good, "failed": failed, "refused": refused} {
		to <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(count), outcome)
	}
}
