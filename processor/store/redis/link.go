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

// All that a caller learns of a server that does not do what it is asked.
var (
	errAway    = errors.New("the store cannot be reached")
	errRefuses = errors.New("the store refuses what it is told")
)

// link is the connection to the server. It is made, and made again, in the background, and knows whether it stands.
type link struct {
	options valkey.ClientOption
	timeout time.Duration // of one call of the store, whatever it takes
	tell    func(error)   // of the state, first and whenever it changes; nil: it stands

	client     atomic.Pointer[valkey.Client]
	generation atomic.Uint64 // of the connection: what was written in an earlier one may be lost
	commands   counters

	changing sync.Mutex // guards changes of the state
	state    atomic.Pointer[state]
	missed   bool // the last probe was not answered in time; only watch uses it

	stop context.CancelFunc
	done sync.WaitGroup
}

// counters count calls of the server by what became of them.
type counters struct{ good, failed, refused atomic.Uint64 }

// state is why the server cannot be asked, or why it can be asked but not told, or nothing.
type state struct{ away, refuses error }

func (s *state) err() error {
	if s.away != nil {
		return s.away
	}
	return s.refuses
}

const (
	// probeTime is how often the server is asked whether it is there.
	probeTime = 500 * time.Millisecond
	// firstTime is how long the first connection is waited for.
	firstTime = time.Second
	// patience times the time of a call is the time of what nobody waits for.
	patience = 10
)

func newLink(options valkey.ClientOption, timeout time.Duration, tell func(error)) *link {
	l := &link{options: options, timeout: timeout, tell: tell}
	l.options.ConnWriteTimeout = 4 * timeout
	l.state.Store(&state{away: errAway})
	return l
}

// open begins to connect. Most often the server is there at once, so that is waited for a moment. Changed is told of keys
// that were asked for and have changed.
func (l *link) open(changed func(keys []valkey.ValkeyMessage)) {
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

// watch keeps the connection, until ctx is done. It tells when it has tried for the first time.
func (l *link) watch(ctx context.Context, tried func()) {
	l.change(ctx, &state{away: l.probe(ctx)}, true)
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
			l.drop() // another may be the one that is told now, under the same name
		}
		now := &state{away: l.probe(ctx)}
		if l.missed = errors.Is(now.away, context.DeadlineExceeded) && !l.missed && before.away == nil; l.missed {
			continue // once is nothing
		}
		if now.away == nil && before.err() != nil {
			now = l.try(ctx)
		}
		l.change(ctx, now, false)
	}
}

// change takes another state, and tells of it.
func (l *link) change(ctx context.Context, now *state, first bool) {
	l.changing.Lock()
	defer l.changing.Unlock()
	before := l.state.Load()
	if ctx.Err() != nil || !first && fmt.Sprint(now.err()) == fmt.Sprint(before.err()) {
		return
	}
	if before.away != nil && now.away == nil {
		l.generation.Add(1)
	}
	l.state.Store(now)
	l.tell(now.err())
}

// probe makes the client, if there is none yet, and asks whether the server is there. One that is too slow for a request
// is as good as away.
func (l *link) probe(ctx context.Context) error {
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

// try finds out whether a server that was away, or has refused to be told something, takes it now.
func (l *link) try(ctx context.Context) *state {
	client := *l.client.Load()
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	err := client.Do(ctx, client.B().Set().Key("bellhop:probe").Value("").PxMilliseconds(1000).Build()).Error()
	if now := refused(err); now != nil {
		return now
	}
	return &state{}
}

// drop ends the connection; the next probe makes another.
func (l *link) drop() {
	if client := l.client.Swap(nil); client != nil {
		(*client).Close()
	}
}

// readOnly is the first word of a server that has become the replica of another.
const readOnly = "READONLY"

// refused is the state of a server that answered with err, and nil if that says nothing of its state.
func refused(err error) *state {
	switch word := refusal(err); {
	case word == readOnly: // nor would it tell what the other one is told
		return &state{away: safe(err)}
	case slices.Contains([]string{"OOM", "MISCONF", "NOREPLICAS"}, word):
		return &state{refuses: safe(err)}
	default:
		return nil
	}
}

// refusal is the first word of a server's error, and empty for another error.
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

// answered is the first word of a server's error: NOAUTH, WRONGPASS, LOADING, READONLY and others.
type answered string

func (a answered) Error() string { return "it answers " + string(a) }

// safe is an error with nothing in it but what a network or a server says of itself.
func safe(err error) error {
	if err == nil || errors.Is(err, errSealed) {
		return err
	}
	if word := refusal(err); word != "" {
		if slices.Contains([]string{"NOAUTH", "WRONGPASS", "LOADING"}, word) {
			return fmt.Errorf("%w: %w", errAway, answered(word))
		}
		return fmt.Errorf("%w: %w", errRefuses, answered(word))
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%w: %s: %w", errAway, op.Op, op.Err) // without addresses: a port is another each time
	}
	return fmt.Errorf("%w: %w", errAway, err)
}

// ready tells why the server cannot be asked or told, or nothing.
func (l *link) ready() error { return l.state.Load().err() }

// away tells why the server cannot be asked, or nothing.
func (l *link) away() error { return l.state.Load().away }

// speech is what one call of the store says to the server.
type speech func(ctx context.Context, client valkey.Client) error

// ask lets one call of the store speak with the server, within its time. While the connection does not stand, it is not
// waited for.
func (l *link) ask(ctx context.Context, speak speech) error { return l.within(ctx, l.timeout, speak) }

// patiently is the same for what nobody waits for.
func (l *link) patiently(ctx context.Context, speak speech) error {
	return l.within(ctx, patience*l.timeout, speak)
}

func (l *link) within(ctx context.Context, limit time.Duration, speak speech) error {
	client := l.client.Load()
	if err := l.away(); err != nil || client == nil {
		l.commands.refused.Add(1)
		return errors.Join(err, errAway)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := speak(limited, *client)
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

// close ends the connection.
func (l *link) close() {
	l.stop()
	l.done.Wait() // a probe may still be making the client
	l.state.Store(&state{away: errAway})
	l.drop()
}
