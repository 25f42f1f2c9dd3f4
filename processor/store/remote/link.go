package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"
)

// errAway is all that a caller learns of a server that cannot be asked right now.
var errAway = errors.New("the store cannot be reached")

// link is the connection to the server. It is made, and made again, in the background, and knows whether it stands.
type link struct {
	options valkey.ClientOption
	timeout time.Duration // of one call of the store, whatever it takes
	tell    func(error)   // of the state, first and whenever it changes; nil: it stands

	client     atomic.Pointer[valkey.Client]
	state      atomic.Pointer[state]
	generation atomic.Uint64 // of the connection: what was written in an earlier one may be lost
	commands   counters

	stop context.CancelFunc
	done sync.WaitGroup
}

// counters count calls of the server by what became of them.
type counters struct{ good, failed, refused atomic.Uint64 }

// probeTime is how often the server is asked whether it is there.
const probeTime = 500 * time.Millisecond

func parse(address string) (valkey.ClientOption, error) {
	scheme, _, _ := strings.Cut(address, "://")
	switch scheme {
	case "redis", "rediss", "valkey", "valkeys", "unix":
	default:
		return valkey.ClientOption{}, errors.New("write redis://HOST:PORT, rediss://… for TLS, valkey://… or unix:///PATH, with USER:PASSWORD@ in front of the host")
	}
	options, err := valkey.ParseURL(address)
	if err != nil {
		// The text of the error may hold a part of the address, and the address a password.
		return valkey.ClientOption{}, errors.New("it is no address of a server: write redis://USER:PASSWORD@HOST:PORT/DATABASE, with addr=HOST:PORT for further nodes and master_set=NAME for Sentinel behind a ?")
	}
	options.ClientName = "bellhop"
	options.DisableRetry = true
	options.Dialer.Timeout = time.Second
	options.PipelineMultiplex = -1 // one connection: what it tells of a change comes before what is asked after it
	return options, nil
}

// state is why the server cannot be asked, or nothing.
type state struct{ err error }

func (s *state) String() string {
	if s.err == nil {
		return ""
	}
	return s.err.Error()
}

func dial(options valkey.ClientOption, timeout time.Duration, tell func(error), changed func(keys []valkey.ValkeyMessage)) *link {
	ctx, stop := context.WithCancel(context.Background())
	l := &link{options: options, timeout: timeout, tell: tell, stop: stop}
	l.options.ConnWriteTimeout = 4 * timeout
	l.options.OnInvalidations = func(keys []valkey.ValkeyMessage) {
		if keys == nil { // the connection has ended, or all keys were deleted
			l.generation.Add(1)
		}
		changed(keys)
	}
	l.probe(ctx) // most often it is there
	l.done.Go(func() { l.watch(ctx) })
	return l
}

// watch keeps the connection, until ctx is done.
func (l *link) watch(ctx context.Context) {
	ticker := time.NewTicker(probeTime)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.probe(ctx)
		}
	}
}

func (l *link) probe(ctx context.Context) {
	err := l.ping(ctx)
	if ctx.Err() != nil {
		return
	}
	now := &state{err}
	was := l.state.Swap(now)
	if was != nil && was.String() == now.String() {
		return
	}
	if err == nil {
		l.generation.Add(1)
	}
	l.tell(err)
}

// ping makes the client, if there is none yet, and asks whether the server is there. One that is too slow for a request
// is as good as away.
func (l *link) ping(ctx context.Context) error {
	client := l.client.Load()
	if client == nil {
		made, err := valkey.NewClient(l.options)
		if err != nil {
			return safe(err)
		}
		l.client.Store(&made)
		client = &made
	}
	ctx, cancel := context.WithTimeout(ctx, 2*l.timeout)
	defer cancel()
	return safe((*client).Do(ctx, (*client).B().Ping().Build()).Error())
}

// safe is an error with nothing in it but what a network or a server says of itself.
func safe(err error) error {
	if err == nil {
		return nil
	}
	if reply, ok := valkey.IsValkeyErr(err); ok {
		word, _, _ := strings.Cut(reply.Error(), " ")
		return fmt.Errorf("%w: it answers %s", errAway, word) // NOAUTH, WRONGPASS, LOADING, READONLY …
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%w: %s: %w", errAway, op.Op, op.Err) // without addresses: a port is another each time
	}
	return fmt.Errorf("%w: %w", errAway, err)
}

// ready tells why the server cannot be asked, or nothing.
func (l *link) ready() error {
	return l.state.Load().err
}

// ask lets one call of the store speak with the server, within its time. While the connection does not stand, it is not
// waited for.
func (l *link) ask(ctx context.Context, speak func(ctx context.Context, client valkey.Client) error) error {
	if err := l.ready(); err != nil {
		l.commands.refused.Add(1)
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	if err := speak(ctx, *l.client.Load()); err != nil {
		l.commands.failed.Add(1)
		return safe(err)
	}
	l.commands.good.Add(1)
	return nil
}

// close ends the connection.
func (l *link) close() {
	l.stop()
	l.done.Wait() // a probe may still be making the client
	l.state.Store(&state{errAway})
	if client := l.client.Load(); client != nil {
		(*client).Close()
	}
}
