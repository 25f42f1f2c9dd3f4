package server

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/processor"
	"bellhop/processor/store"
	"bellhop/processor/store/memory"
	"bellhop/processor/store/redis"
	"bellhop/processor/ticket"
)

// storage is the store that a configuration asks for, with what the process does with it.
type storage struct {
	of         func(fanout string) store.Backend // the store of a fan-out
	keep       func(fanouts []string)            // forgets those of all others
	close      func()
	timeout    time.Duration     // what one message may wait for the store; 0: it never waits
	ready      func() error      // why the store cannot be used now, or nil
	rekey      func(ticket.Keys) // replaces the keys of a store that encrypts
	collectors []prometheus.Collector
}

// share are the stores of a fan-out.
func (s *storage) share(fanout string) processor.Stores {
	own := s.of(fanout)
	return processor.Stores{Store: own, Sessions: own, Supersession: own}
}

// inMemory is the --store that keeps everything in this process.
const inMemory = "memory"

// storeTimeout is at most half of the message_timeout that "bellhop envoy" writes, so that a slow store gives an error
// that says so.
const storeTimeout = 250 * time.Millisecond

func openStorage(config Config, keys ticket.Keys, log *slog.Logger) (*storage, error) {
	if config.Store == inMemory {
		return openMemory(config.StoreBytes), nil
	}
	return openRedis(config, keys, log)
}

func openMemory(bytes uint64) *storage {
	s := memory.NewShares(bytes)
	return &storage{
		of: func(fanout string) store.Backend { return s.Of(fanout) }, keep: s.Keep, close: s.Close,
		ready: func() error { return nil }, rekey: func(ticket.Keys) {}, collectors: usageCollectors(s.Usage),
	}
}

func openRedis(config Config, keys ticket.Keys, log *slog.Logger) (*storage, error) {
	s, err := redis.Open(redis.Options{
		Address: config.Store, Keys: keys, Bytes: config.StoreBytes,
		OnState: func(err error) {
			if err != nil {
				log.Error("the store cannot be reached or refuses writes; cached headers stay in use, and Bellhop keeps retrying",
					"error", err)
				return
			}
			log.Info("the store is reachable")
		},
	})
	if err != nil {
		return nil, fmt.Errorf("--store: %w", err)
	}
	return &storage{
		of: func(string) store.Backend { return s }, keep: func([]string) {}, close: s.Close,
		timeout: storeTimeout, ready: s.Ready, rekey: s.Rekey,
		collectors: append(usageCollectors(s.Usage), redisCollectors(s)...),
	}, nil
}

// storeName is the store of a configuration as it may be shown: an address may hold a password.
func storeName(address string) string {
	scheme, rest, isAddress := strings.Cut(address, "://")
	if !isAddress {
		return address
	}
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		rest = rest[i+1:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	return scheme + "://" + rest
}
