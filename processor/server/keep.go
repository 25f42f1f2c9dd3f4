package server

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"bellhop/processor/session"
	"bellhop/processor/store"
	"bellhop/processor/store/memory"
	"bellhop/processor/store/redis"
	"bellhop/processor/ticket"
)

// keep is what remembers captures and sessions, in this process or in a server that several share.
type keep struct {
	store      ticket.Store
	sessions   session.Store
	succession ticket.Supersession

	usage      func() store.Usage
	timeout    time.Duration // what one message may wait for the store; 0: it never waits
	ready      func() error  // why it cannot be asked now, or nothing
	rekey      func(ticket.Keys)
	close      func()
	collectors []prometheus.Collector
}

const inMemory = "memory"

// storeTimeout is half of the message_timeout that "bellhop envoy" writes, so that a store that is slow gives an error that
// says so.
const storeTimeout = 250 * time.Millisecond

// openKeep makes what a configuration asks for.
func openKeep(config Config, keys ticket.Keys, log *slog.Logger) (*keep, error) {
	if config.Store == inMemory {
		return keepInMemory(config.StoreBytes)
	}
	return keepRemote(config, keys, log)
}

func keepInMemory(bytes uint64) (*keep, error) {
	captures, err := memory.NewMemory(bytes)
	if err != nil {
		return nil, fmt.Errorf("--store-bytes %d: %w", bytes, err)
	}
	sessions, err := memory.NewSessions(bytes / 4)
	if err != nil {
		return nil, fmt.Errorf("--store-bytes %d: %w", bytes, err)
	}
	return &keep{
		store: captures, sessions: sessions, succession: sessions, usage: func() store.Usage { return captures.Usage().With(sessions.Usage()) },
		ready: func() error { return nil }, rekey: func(ticket.Keys) {}, close: func() { sessions.Close(); captures.Close() },
	}, nil
}

func keepRemote(config Config, keys ticket.Keys, log *slog.Logger) (*keep, error) {
	s, err := redis.Open(redis.Options{
		Address: config.Store, Keys: keys, Bytes: config.StoreBytes,
		Tell: func(err error) {
			if err != nil {
				log.Error("the store cannot be asked, or takes nothing; what is known here goes on, and it is tried again all the time", "error", err)
				return
			}
			log.Info("the store is there")
		},
	})
	if err != nil {
		return nil, fmt.Errorf("--store: %w", err)
	}
	return &keep{
		store: s, sessions: s, succession: s, timeout: storeTimeout, usage: s.Usage, ready: s.Ready, rekey: s.Rekey, close: s.Close,
		collectors: remoteCollectors(s),
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
