package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"
)

// The only errors that callers see when the server fails.
var (
	errDown    = errors.New("the store cannot be reached")
	errRefuses = errors.New("the store refuses writes")
)

// connection is the connection to the server. It is opened and reopened in the background, and knows whether it is up.
type connection struct {
	options valkey.ClientOption
	timeout time.Duration // of one call of the store
	onState func(error)   // called with the first state and each change; nil: it is up

	client     atomic.Pointer[valkey.Client]
	generation atomic.Uint64 // of the connection: what was written in an earlier one may be lost
	commands   counters

	changing sync.Mutex // guards changes of the state
	state    atomic.Pointer[state]
	missed   bool // the last probe timed out; only watch uses it

	stop context.CancelFunc
	done sync.WaitGroup
}

// counters count commands by outcome.
type counters struct{ good, failed, refused atomic.Uint64 }

// state is why the server cannot be reached, or why it refuses writes, or neither.
type state struct{ down, refuses error }

func (s *state) err() error {
	if s.down != nil {
		return s.down
	}
	return s.refuses
}

const (
	// probeTime is how often the server is probed.
	probeTime = 500 * time.Millisecond
	// firstTime is how long Open waits for the first connection.
	firstTime = time.Second
	// backgroundFactor times the timeout of a command is that of one in the background.
	backgroundFactor = 10
)

func newConnection(options valkey.ClientOption, timeout time.Duration, onState func(error)) *connection {
	l := &connection{options: options, timeout: timeout, onState: onState}
	l.options.ConnWriteTimeout = 4 * timeout
	l.state.Store(&state{down: errDown})
	return l
}

// open begins to connect, and waits a moment, because most often the server is up. Changed is called with tracked keys
// that have changed.
func (l *connection) open(changed func(keys []valkey.ValkeyMessage)) {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	l.options.OnInvalidations = func(keys []valkey.ValkeyMessage) {
		if keys == nil { // the connection has ended, or all keys were deleted
			l.generation.Add(1)
			return
		}
		changed(keys)
	}
	first := make(chan struct{})
	l.done.Go(func() { l.watch(ctx, func() { close(first) }) })
	select {
	case <-first:
	case <-time.After(firstTime):
	}
}

// watch keeps the connection up until ctx is done. It calls tried after the first attempt.
func (l *connection) watch(ctx context.Context, tried func()) {
	l.change(ctx, &state{down: l.probe(ctx)}, true)
	tried()
	ticker := time.NewTicker(probeTime)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		before := l.state.Load()
		if refusal(before.err()) == readOnly {
			l.drop() // another server may be the primary now, under the same name
		}
		now := &state{down: l.probe(ctx)}
		if l.missed = errors.Is(now.down, context.DeadlineExceeded) && !l.missed && before.down == nil; l.missed {
			continue // one missed probe is no outage
		}
		if now.down == nil && before.err() != nil {
			now = l.try(ctx)
		}
		l.change(ctx, now, false)
	}
}

// change takes another state and reports it.
func (l *connection) change(ctx context.Context, now *state, first bool) {
	l.changing.Lock()
	defer l.changing.Unlock()
	before := l.state.Load()
	if ctx.Err() != nil || !first && fmt.Sprint(now.err()) == fmt.Sprint(before.err()) {
		return
	}
	if before.down != nil && now.down == nil {
		l.generation.Add(1)
	}
	l.state.Store(now)
	l.onState(now.err())
}

// probe makes the client, if there is none yet, and pings the server. A server too slow for a request counts as down.
func (l *connection) probe(ctx context.Context) error {
	if l.client.Load() == nil {
		made, err := valkey.NewClient(l.options)
		if err != nil {
			return safe(err)
		}
		l.client.Store(&made)
	}
	client := *l.client.Load()
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return safe(client.Do(ctx, client.B().Ping().Build()).Error())
}

// try finds out whether a server that was down, or refused writes, accepts them now.
func (l *connection) try(ctx context.Context) *state {
	client := *l.client.Load()
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	err := client.Do(ctx, client.B().Set().Key("bellhop:probe").Value("").PxMilliseconds(1000).Build()).Error()
	if now := refused(err); now != nil {
		return now
	}
	return &state{}
}

// drop closes the connection; the next probe opens another.
func (l *connection) drop() {
	if client := l.client.Swap(nil); client != nil {
		(*client).Close()
	}
}

// readOnly is the error prefix of a server that has become a replica.
const readOnly = "READONLY"

// refused is the state of a server that answered with err, or nil if that says nothing of its state.
func refused(err error) *state {
	switch word := refusal(err); {
	case word == readOnly: // a replica would not notify us of writes to the primary either
		return &state{down: safe(err)}
	case slices.Contains([]string{"OOM", "MISCONF", "NOREPLICAS"}, word):
		return &state{refuses: safe(err)}
	default:
		return nil
	}
}

// refusal is the prefix of a server's error, and empty for another error.
func refusal(err error) string {
	if said, ok := errors.AsType[answered](err); ok {
		return string(said)
	}
	if reply, ok := valkey.IsValkeyErr(err); ok && !reply.IsNil() {
		word, _, _ := strings.Cut(reply.Error(), " ")
		return word
	}
	return ""
}

// answered is the prefix of a server's error: NOAUTH, WRONGPASS, LOADING, READONLY and others.
type answered string

func (a answered) Error() string { return "it answers " + string(a) }

// safe is an error without anything but what a network or a server reports of itself.
func safe(err error) error {
	if err == nil || errors.Is(err, errSealed) {
		return err
	}
	if word := refusal(err); word != "" {
		if slices.Contains([]string{"NOAUTH", "WRONGPASS", "LOADING"}, word) {
			return fmt.Errorf("%w: %w", errDown, answered(word))
		}
		return fmt.Errorf("%w: %w", errRefuses, answered(word))
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%w: %s: %w", errDown, op.Op, op.Err) // without addresses: a port is another each time
	}
	return fmt.Errorf("%w: %w", errDown, err)
}

// ready returns why the server cannot be reached or refuses writes, or nil.
func (l *connection) ready() error { return l.state.Load().err() }

// down returns why the server cannot be reached, or nil.
func (l *connection) down() error { return l.state.Load().down }

// command is what one call of the store sends to the server.
type command func(ctx context.Context, client valkey.Client) error

// do runs a command within the timeout. While the connection is down it fails at once.
func (l *connection) do(ctx context.Context, do command) error { return l.within(ctx, l.timeout, do) }

// doInBackground is do with a longer timeout, for what no request waits for.
func (l *connection) doInBackground(ctx context.Context, do command) error {
	return l.within(ctx, backgroundFactor*l.timeout, do)
}

func (l *connection) within(ctx context.Context, limit time.Duration, do command) error {
	client := l.client.Load()
	if err := l.down(); err != nil || client == nil {
		l.commands.refused.Add(1)
		return errors.Join(err, errDown)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := do(limited, *client)
	if err == nil {
		l.commands.good.Add(1)
		return nil
	}
	l.commands.failed.Add(1)
	if now := refused(err); now != nil {
		l.change(context.Background(), now, false)
	}
	return safe(err)
}

// close closes the connection.
func (l *connection) close() {
	l.stop()
	l.done.Wait() // a probe may still be making the client
	l.state.Store(&state{down: errDown})
	l.drop()
}
