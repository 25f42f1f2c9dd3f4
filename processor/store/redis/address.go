package redis

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"
)

// values may stand behind the ? of an address. The client library knows others, some of which would disable what this
// package relies on.
var values = []string{"addr", "db", "master_set", "sentinel_username", "sentinel_password"}

// No error about an address shows a part of it, because any part may be a password.
var (
	errScheme = errors.New(
		"write redis://HOST:PORT, rediss://… for TLS, valkey://… or unix:///PATH, with USER:PASSWORD@ in front of the host",
	)
	errAddress = errors.New(
		"it is no address of a server: write redis://USER:PASSWORD@HOST:PORT/DATABASE, with addr=HOST:PORT for further " +
			"nodes and master_set=NAME for Sentinel behind a ?",
	)
	errWord = errors.New(
		"behind the ? of an address like redis://HOST:PORT only these are known: " + strings.Join(values, ", "),
	)
)

func parse(address string) (valkey.ClientOption, error) {
	scheme, _, _ := strings.Cut(address, "://")
	if !slices.Contains([]string{"redis", "rediss", "valkey", "valkeys", "unix"}, scheme) {
		return valkey.ClientOption{}, errScheme
	}
	read, err := url.Parse(address)
	if err != nil {
		return valkey.ClientOption{}, errAddress
	}
	query := read.Query()
	for word := range query {
		if !slices.Contains(values, word) {
			return valkey.ClientOption{}, errWord
		}
	}
	options, err := valkey.ParseURL(address)
	if err != nil {
		return valkey.ClientOption{}, errAddress
	}
	options.ClientName = "bellhop"
	options.DisableRetry = true
	options.Dialer.Timeout = time.Second
	options.PipelineMultiplex = -1 // one connection: notice of a change arrives before the replies to later commands
	options.NewCacheStoreFn = func(valkey.CacheStoreOption) valkey.CacheStore { return nothing{} }
	if options.TLSConfig != nil {
		options.TLSConfig.ServerName = "" // each node is known by its own name, not by the first of the address
	}
	askSentinels(&options, query)
	return options, nil
}

// askSentinels gives Sentinels the server's own credentials, unless the address has separate ones for them.
func askSentinels(options *valkey.ClientOption, query url.Values) {
	options.Sentinel.TLSConfig = options.TLSConfig
	options.Sentinel.Dialer = options.Dialer
	options.Sentinel.Username, options.Sentinel.Password = options.Username, options.Password
	if query.Has("sentinel_username") || query.Has("sentinel_password") {
		options.Sentinel.Username, options.Sentinel.Password = query.Get("sentinel_username"), query.Get("sentinel_password")
	}
}

// nothing is the client library's own cache, which is not used: values are cached once, by [tracked].
type nothing struct{}

func (nothing) Flight(string, string, time.Duration, time.Time) (none valkey.ValkeyMessage, wait valkey.CacheEntry) {
	return none, nil
}
func (nothing) Update(_, _ string, answer valkey.ValkeyMessage) int64 { return answer.CachePXAT() }
func (nothing) Cancel(string, string, error)                          {}
func (nothing) Delete([]valkey.ValkeyMessage)                         {}
func (nothing) Close(error)                                           {}
