package redis

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/valkey-io/valkey-go"
)

// words may stand behind the ? of an address. The client library knows others, some of which take away what this package
// relies on.
var words = []string{"addr", "db", "master_set", "sentinel_username", "sentinel_password"}

// No error of an address shows a part of it, for there may be a password in any.
var (
	errScheme  = errors.New("write redis://HOST:PORT, rediss://… for TLS, valkey://… or unix:///PATH, with USER:PASSWORD@ in front of the host")
	errAddress = errors.New("it is no address of a server: write redis://USER:PASSWORD@HOST:PORT/DATABASE, with addr=HOST:PORT for further nodes and master_set=NAME for Sentinel behind a ?")
	errWord    = errors.New("behind the ? of an address like redis://HOST:PORT only these are known: " + strings.Join(words, ", "))
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
		if !slices.Contains(words, word) {
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
	options.PipelineMultiplex = -1 // one connection: what it tells of a change comes before what is asked after it
	options.NewCacheStoreFn = func(valkey.CacheStoreOption) valkey.CacheStore { return nothing{} }
	if options.TLSConfig != nil {
		options.TLSConfig.ServerName = "" // each node is known by its own name, not by the first of the address
	}
	askSentinels(&options, query)
	return options, nil
}

// askSentinels lets the Sentinels be asked as the server is, unless the address has a name and password for them alone.
func askSentinels(options *valkey.ClientOption, query url.Values) {
	options.Sentinel.TLSConfig = options.TLSConfig
	options.Sentinel.Dialer = options.Dialer
	options.Sentinel.Username, options.Sentinel.Password = options.Username, options.Password
	if query.Has("sentinel_username") || query.Has("sentinel_password") {
		options.Sentinel.Username, options.Sentinel.Password = query.Get("sentinel_username"), query.Get("sentinel_password")
	}
}

// nothing is what the client library keeps of answers: what was told is kept once, and with more care.
type nothing struct{}

func (nothing) Flight(string, string, time.Duration, time.Time) (none valkey.ValkeyMessage, wait valkey.CacheEntry) {
	return none, nil
}
func (nothing) Update(_, _ string, answer valkey.ValkeyMessage) int64 { return answer.CachePXAT() }
func (nothing) Cancel(string, string, error)                          {}
func (nothing) Delete([]valkey.ValkeyMessage)                         {}
func (nothing) Close(error)                                           {}
