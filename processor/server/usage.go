package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"bellhop/processor/store"
	"bellhop/processor/store/redis"
)

// usageCollectors report how full a store is, at each scrape.
func usageCollectors(usage func() store.Usage) []prometheus.Collector {
	gauge := func(name, help string, value func(store.Usage) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(usage()) })
	}
	return []prometheus.Collector{
		gauge("bellhop_tickets_live", "Tickets that can be redeemed.", func(u store.Usage) float64 { return float64(u.Tickets) }),
		gauge("bellhop_store_bytes", "Estimated size of all captures in the store, in bytes.", func(u store.Usage) float64 { return float64(u.Bytes) }),
		gauge("bellhop_store_limit_bytes", "The most that the store holds, in bytes.", func(u store.Usage) float64 { return float64(u.Limit) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "bellhop_store_evictions_total", Help: "Captures that gave way to others because the store was full.",
		}, func() float64 { return float64(usage().Evictions) }),
	}
}

// remoteCollectors report whether a server can be reached, and what was asked of it.
func remoteCollectors(s *redis.Store) []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "bellhop_store_up", Help: "Whether the shared store can be reached."}, func() float64 {
			if s.Ready() != nil {
				return 0
			}
			return 1
		}),
		&commandCollector{store: s, desc: prometheus.NewDesc("bellhop_store_commands_total",
			"Calls of the shared store, by what became of them; refused ones were not made, because it could not be reached.", []string{"outcome"}, nil)},
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
	for outcome, count := range map[string]uint64{"good": good, "failed": failed, "refused": refused} {
		to <- prometheus.MustNewConstMetric(c.desc, prometheus.CounterValue, float64(count), outcome)
	}
}
