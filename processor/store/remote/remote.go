// Package remote keeps captures and sessions in a Redis or Valkey server, for several Bellhops.
//
// The server learns nothing: what it keeps is encrypted, and the names under which it keeps it are digests, both under
// keys of Bellhop's own. It is asked for what is new only. A capture never changes, since its ticket names its content, so
// each Bellhop has those that it has met beside it and asks for them no more. A session changes, and the server tells
// everybody who has asked for it (client-side caching).
package remote

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/policy"
	"bellhop/processor/store"
	"bellhop/processor/ticket"
)

// Options say where the server is. Address, Keys and Bytes are needed.
type Options struct {
	Address string        // redis://, rediss://, valkey://, valkeys:// or unix://; it may hold a password
	Keys    ticket.Keys   // see [Store.Rekey]
	Bytes   uint64        // the most that is kept beside the process
	Timeout time.Duration // of one call, whatever it takes; 0: 100 ms, well below Envoy's message timeout
	Tell    func(error)   // told at first, and when it changes, whether the server is there: nil, or why it cannot be asked; may be nil
}

// Store keeps captures and sessions. Safe for concurrent use.
type Store struct {
	link   *link
	vaults atomic.Pointer[vaults]
	near   *store.Cache[nearby]    // captures
	known  *store.Cache[seen]      // sessions, by the server's names of them
	marks  *store.Cache[time.Time] // since when tickets are replaced, by the server's names of the marks
	minted *store.Cache[time.Time]
	told   told
	steps  chan step
	now    func() time.Time

	closing    sync.Mutex // guards the beginning of work in the background against its end
	background sync.WaitGroup
	stop       context.CancelFunc
	closed     atomic.Bool
}

// nearby is a capture beside the process.
type nearby struct {
	capture    policy.Capture
	lifetime   time.Duration
	written    time.Time // when the server was last told of it, by this process
	generation uint64    // of the connection then; 0: it was not
}

const defaultTimeout = 100 * time.Millisecond

// Open makes a store. It returns before the server is reached, which may come later: see [Store.Ready].
func Open(options Options) (*Store, error) {
	parsed, err := parse(options.Address)
	if err != nil {
		return nil, err
	}
	if options.Timeout == 0 {
		options.Timeout = defaultTimeout
	}
	if options.Tell == nil {
		options.Tell = func(error) {}
	}
	s := &Store{now: time.Now, steps: make(chan step, maxSteps)}
	s.Rekey(options.Keys)
	if s.near, err = store.NewCache(options.Bytes/2, func(_ string, n nearby) uint32 { return store.Weigh(n.capture) }, nil); err != nil {
		return nil, err
	}
	if s.known, err = store.NewCache(options.Bytes/8, func(_ string, k seen) uint32 { return store.Weigh(k.record.Kept) }, nil); err != nil {
		return nil, err
	}
	for _, times := range []**store.Cache[time.Time]{&s.marks, &s.minted} {
		if *times, err = store.NewCache(options.Bytes/16, func(string, time.Time) uint32 { return store.Weigh(nil) }, nil); err != nil {
			return nil, err
		}
	}
	parsed.CacheSizeEachConn = int(options.Bytes / 4) //nolint:gosec // a size of memory
	s.link = dial(parsed, options.Timeout, options.Tell, s.changed)
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.background.Go(func() { s.walk(ctx) })
	return s, nil
}

// Rekey takes other keys, the newest first: that one encrypts and names, and all of them read.
func (s *Store) Rekey(keys ticket.Keys) {
	all := newVaults(keys)
	s.vaults.Store(&all)
}

func (s *Store) newest() vault { return (*s.vaults.Load())[0] }

// Ready tells why the server cannot be asked, or nothing.
func (s *Store) Ready() error { return s.link.ready() }

// Usage tells how full the part beside the process is; Tickets counts captures. What the client itself keeps of its
// answers, at most a quarter of Options.Bytes for each node, is not counted.
func (s *Store) Usage() store.Usage {
	usage := s.near.Usage()
	for _, other := range []store.Usage{s.known.Usage(), s.marks.Usage(), s.minted.Usage()} {
		usage.Bytes += other.Bytes
		usage.Limit += other.Limit
	}
	return usage
}

// Commands counts the calls of the server: those that went well, those that failed, and those that were not made because
// it could not be reached.
func (s *Store) Commands() (good, failed, refused uint64) {
	c := &s.link.commands
	return c.good.Load(), c.failed.Load(), c.refused.Load()
}

// Close ends the connection. The store must not be used afterwards; whoever does gets an error.
func (s *Store) Close() {
	s.closing.Lock()
	before := s.closed.Swap(true)
	s.closing.Unlock()
	if before {
		return
	}
	s.stop()
	s.background.Wait()
	s.link.close()
	s.near.Close()
	s.known.Close()
	s.marks.Close()
	s.minted.Close()
}

// later does what nobody waits for. Its end is waited for when the store is closed.
func (s *Store) later(do func(ctx context.Context)) {
	s.closing.Lock()
	defer s.closing.Unlock()
	if !s.closed.Load() {
		s.background.Go(func() { do(context.Background()) })
	}
}

var errClosed = fmt.Errorf("%w: it is closed", errAway)

// ttl is how long the server keeps what has to be found for a lifetime after its last use. A process tells it of a use
// when half a lifetime has passed since the last time.
func ttl(lifetime time.Duration) time.Duration { return lifetime + lifetime/2 + 100*time.Millisecond }

func (s *Store) due(written time.Time, lifetime time.Duration) bool {
	return s.now().Sub(written) > lifetime/2
}

// Put remembers the capture of a ticket until it has not been used for lifetime, at any Bellhop. The server is told of
// one that is new to this process, or that was last told of half a lifetime or a connection ago. An error means that
// this process alone knows the capture.
func (s *Store) Put(ctx context.Context, name string, capture policy.Capture, lifetime time.Duration) error {
	if s.closed.Load() {
		return errClosed
	}
	generation := s.link.generation.Load()
	before, ok := s.near.Peek(name) // being put is not being used
	s.near.Touch(name, lifetime)
	if ok && before.lifetime == lifetime && before.generation == generation && !s.due(before.written, lifetime) {
		return nil
	}
	if !ok || before.lifetime != lifetime {
		s.near.Set(name, nearby{capture: capture, lifetime: lifetime}, lifetime)
	}
	err := s.write(ctx, name, capture, lifetime)
	if err != nil && ok && before.generation > 0 {
		return nil // it was told once, and goes on here
	}
	if err == nil {
		s.near.Set(name, nearby{capture: capture, lifetime: lifetime, written: s.now(), generation: generation}, lifetime)
	}
	return err
}

func (s *Store) write(ctx context.Context, name string, capture policy.Capture, lifetime time.Duration) error {
	text, err := encodeCapture(capture, lifetime)
	if err != nil {
		return err
	}
	v := s.newest()
	key := v.key(captures, name)
	return s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		return client.Do(ctx, client.B().Set().Key(key).Value(valkey.BinaryString(v.seal(key, text))).Px(ttl(lifetime)).Build()).Error()
	})
}

// Get returns the capture of a ticket, and false where there is none. An error means that nobody can tell.
func (s *Store) Get(ctx context.Context, name string) (policy.Capture, bool, error) {
	if s.closed.Load() {
		return nil, false, errClosed
	}
	if found, ok := s.near.Get(name); ok {
		s.prolong(name, found)
		return found.capture, true, nil
	}
	for _, v := range *s.vaults.Load() {
		found, ok, err := s.fetch(ctx, v, name)
		if err != nil {
			return nil, false, err
		}
		if ok {
			s.near.Set(name, found, found.lifetime)
			_, _ = s.near.Get(name) // it is in use
			return found.capture, true, nil
		}
	}
	return nil, false, nil
}

// fetch asks the server for a capture.
func (s *Store) fetch(ctx context.Context, v vault, name string) (found nearby, ok bool, err error) {
	key := v.key(captures, name)
	generation := s.link.generation.Load()
	err = s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		sealed, err := client.Do(ctx, client.B().Get().Key(key).Build()).AsBytes()
		if valkey.IsValkeyNil(err) {
			return nil
		}
		if err != nil {
			return err
		}
		text, err := v.open(key, sealed)
		if err != nil {
			return err
		}
		found.capture, found.lifetime, err = decodeCapture(text)
		ok = err == nil
		return err
	})
	// How long ago it was written nobody knows: half of its time may be over.
	found.written, found.generation = s.now().Add(-found.lifetime/2), generation
	return found, ok, err
}

// prolong tells the server that a capture is in use, when it is time. Nobody waits for that.
func (s *Store) prolong(name string, found nearby) {
	if !s.due(found.written, found.lifetime) || s.link.ready() != nil {
		return
	}
	generation := s.link.generation.Load()
	s.near.Set(name, nearby{capture: found.capture, lifetime: found.lifetime, written: s.now(), generation: generation}, found.lifetime)
	s.later(func(ctx context.Context) { _ = s.write(ctx, name, found.capture, found.lifetime) })
}
