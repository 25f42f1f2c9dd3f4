package redis

import (
	"context"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/policy"
	"bellhop/processor/store"
	"bellhop/processor/ticket"
)

// cachedCapture is a capture in the near cache.
type cachedCapture struct {
	capture    policy.Capture
	life       ticket.Life
	put        time.Time // when a client last sent it, at any Bellhop, to an eighth of the greatest age
	written    time.Time // when it was last written, by any Bellhop
	generation uint64    // of the connection over which this process wrote or read it; 0: none
	tried      time.Time // when this process last tried to write it
	triedBy    uint64    // over which generation of the connection
}

func weighCapture(key string, n cachedCapture) uint32 { return store.Weigh(key, n.capture) }

// ttl is how long the server keeps what must be found for a lifetime after its last use. A process extends it when half
// a lifetime has passed since the last time.
func ttl(lifetime time.Duration) time.Duration { return lifetime + lifetime/2 + 100*time.Millisecond }

func (s *Store) due(n cachedCapture) bool { return s.now().Sub(n.written) > n.life.Idle/2 }

// backOff is how long a capture that could not be written waits for the next attempt.
const backOff = time.Second

func (s *Store) inBackoff(n cachedCapture) bool {
	return n.triedBy == s.conn.generation.Load() && s.now().Sub(n.tried) < backOff
}

// Put keeps a capture for a life, at any Bellhop. It writes a capture that
// is new to this process, or that was written over an earlier connection; and, in the background, one that was last
// written half a lifetime ago. An error means that only this process has the capture.
func (s *Store) Put(ctx context.Context, name string, capture policy.Capture, life ticket.Life) error {
	if s.closed.Load() {
		return errClosed
	}
	n, ok := s.cached.Peek(name) // a Put is not a use
	s.cached.Touch(name, life.Idle)
	if !ok || n.life != life {
		n.capture, n.life, n.written, n.put = store.Clone(capture), life, time.Time{}, s.now()
		s.cached.Set(name, n, life.Idle)
	}
	known, renews := n.generation > 0, n.life.Renews(n.put, s.now())
	if renews {
		n.put = s.now()
	}
	if known && !renews && (n.generation == s.conn.generation.Load() || s.inBackoff(n)) {
		s.extendTTL(name, n)
		return nil
	}
	generation := s.conn.generation.Load()
	err := s.conn.do(ctx, s.writeCommand(name, n))
	switch {
	case err == nil:
		s.wrote(name, n, s.now(), generation)
	case known: // it was written once, and stays cached here
		n.tried, n.triedBy = s.now(), generation
		s.cached.Set(name, n, n.life.Idle)
		return nil
	}
	return err
}

func (s *Store) wrote(name string, n cachedCapture, written time.Time, generation uint64) {
	n.written, n.generation = written, generation
	s.cached.Set(name, n, n.life.Idle)
}

// writeCommand writes a capture.
func (s *Store) writeCommand(name string, n cachedCapture) command {
	return func(ctx context.Context, client valkey.Client) error {
		key, sealed, err := s.sealed(name, n)
		if err != nil {
			return err
		}
		return client.Do(ctx, client.B().Set().Key(key).Value(sealed).Px(ttl(n.life.Idle)).Build()).Error()
	}
}

func (s *Store) sealed(name string, n cachedCapture) (key, sealed string, err error) {
	v := s.newest()
	key = v.key(captures, name)
	text, err := encodeCapture(n)
	return key, valkey.BinaryString(v.seal(key, text)), err
}

// extendScript writes a capture unless its TTL is long enough, and returns the TTL.
// ARGV: value, TTL, what is long enough.
const extendScript = `
local left = redis.call('PTTL', KEYS[1])
if left > tonumber(ARGV[3]) then return left end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return tonumber(ARGV[2])`

// extendTTL extends the TTL of a capture in use, when it is due and no other Bellhop has done so. It runs in the
// background.
func (s *Store) extendTTL(name string, n cachedCapture) {
	generation := s.conn.generation.Load()
	if n.generation == 0 || s.inBackoff(n) || (n.generation == generation && !s.due(n)) {
		return
	}
	n.tried, n.triedBy = s.now(), generation
	begun := s.later(func(ctx context.Context, client valkey.Client) error {
		key, sealed, err := s.sealed(name, n)
		if err != nil {
			return err
		}
		left, err := client.Do(ctx, client.B().Eval().Script(extendScript).Numkeys(1).Key(key).
			Arg(sealed, milliseconds(ttl(n.life.Idle)), milliseconds(ttl(n.life.Idle)-n.life.Idle/2)).Build()).AsInt64()
		if err == nil {
			s.wrote(name, n, s.writtenAt(n, left).written, generation)
		}
		return err
	})
	if begun {
		s.cached.Set(name, n, n.life.Idle)
	}
}

// writtenAt computes when a capture was written, from its remaining TTL in milliseconds.
func (s *Store) writtenAt(n cachedCapture, left int64) cachedCapture {
	n.written = s.now().Add(time.Duration(left)*time.Millisecond - ttl(n.life.Idle))
	return n
}

// Get returns the capture of a ticket, and false where there is none. An error means that the store cannot answer.
func (s *Store) Get(ctx context.Context, name string) (policy.Capture, bool, error) {
	if s.closed.Load() {
		return nil, false, errClosed
	}
	if n, ok := s.cached.Get(name); ok && !n.life.Ended(n.put, s.now()) { // else another Bellhop may have renewed it
		s.extendTTL(name, n)
		return n.capture, true, nil
	}
	n, ok, err := s.fetch(ctx, name)
	if err != nil || !ok || n.life.Ended(n.put, s.now()) {
		return nil, false, err
	}
	s.cached.Set(name, n, n.life.Idle)
	_, _ = s.cached.Get(name) // it is in use
	return n.capture, true, nil
}

// fetch queries the server for a capture, under all keys at once.
func (s *Store) fetch(ctx context.Context, name string) (found cachedCapture, ok bool, err error) {
	keys := s.keys(captures, name)
	generation := s.conn.generation.Load()
	err = s.conn.do(ctx, func(ctx context.Context, client valkey.Client) error {
		var commands valkey.Commands
		for _, key := range keys {
			commands = append(commands, client.B().Get().Key(key).Build(), client.B().Pttl().Key(key).Build())
		}
		answers := client.DoMulti(ctx, commands...)
		for i, key := range keys {
			sealed, err := answers[2*i].ToString()
			if valkey.IsValkeyNil(err) {
				continue
			}
			if err != nil {
				return err
			}
			if found, err = s.read(key, sealed); err != nil {
				return err
			}
			left, err := answers[2*i+1].AsInt64()
			found, ok = s.writtenAt(found, left), err == nil
			return err
		}
		return nil
	})
	found.generation = generation
	return found, ok, err
}

func (s *Store) read(key, sealed string) (n cachedCapture, err error) {
	text, err := s.keyring.Load().open(key, sealed)
	if err != nil {
		return cachedCapture{}, err
	}
	return decodeCapture(text)
}
