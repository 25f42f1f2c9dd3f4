package server

import (
	"github.com/prometheus/client_golang/prometheus"

	"bellhop/processor/store"
)

// usageCollectors report how full a store is, at each scrape.
func usageCollectors(memory *store.Memory) []prometheus.Collector {
	gauge := func(name, help string, value func(store.Usage) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(memory.Usage()) })
	}
	return []prometheus.Collector{
		gauge("bellhop_tickets_live", "Tickets that can be redeemed.", func(u store.Usage) float64 { return float64(u.Tickets) }),
		gauge("bellhop_store_bytes", "Estimated size of all captures in the store, in bytes.", func(u store.Usage) float64 { return float64(u.Bytes) }),
		gauge("bellhop_store_limit_bytes", "The most that the store holds, in bytes.", func(u store.Usage) float64 { return float64(u.Limit) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "bellhop_store_evictions_total", Help: "Captures that gave way to others because the store was full.",
		}, func() float64 { return float64(memory.Usage().Evictions) }),
	}
}
