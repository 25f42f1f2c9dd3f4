package redis

import (
	"context"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/policy"
	"bellhop/processor/store"
)

// nearby is a capture beside the process.
type nearby struct {
	capture    policy.Capture
	lifetime   time.Duration
	written    time.Time // when the server was last told of it, by whom ever
	generation uint64    // of the connection when this process told it, or was told; 0: it has not
	tried      time.Time // when this process last began to tell it in the background, or could not
	triedBy    uint64    // by which generation of the connection
}

// ttl is how long the server keeps what has to be found for a lifetime after its last use. A process tells it of a use
// when half a lifetime has passed since the last time.
func ttl(lifetime time.Duration) time.Duration { return lifetime + lifetime/2 + 100*time.Millisecond }

func (s *Store) due(n nearby) bool { return s.now().Sub(n.written) > n.lifetime/2 }

// backOff is how long a capture that could not be written waits for the next attempt.
const backOff = time.Second

func (s *Store) tired(n nearby) bool {
	return n.triedBy == s.link.generation.Load() && s.now().Sub(n.tried) < backOff
}

// Put remembers the capture of a ticket until it has not been used for lifetime, at any Bellhop. The server is told of
// one that is new to this process or that was told by another connection, and in the background of one that was last told
// half a lifetime ago. An error means that this process alone knows the capture.
func (s *Store) Put(ctx context.Context, name string, capture policy.Capture, lifetime time.Duration) error {
	if s.closed.Load() {
		return errClosed
	}
	n, ok := s.near.Peek(name) // being put is not being used
	s.near.Touch(name, lifetime)
	if !ok || n.lifetime != lifetime {
		n.capture, n.lifetime, n.written = store.Clone(capture), lifetime, time.Time{}
		s.near.Set(name, n, lifetime)
	}
	known := n.generation > 0
	if known && (n.generation == s.link.generation.Load() || s.tired(n)) {
		s.prolong(name, n)
		return nil
	}
	generation := s.link.generation.Load()
	err := s.link.ask(ctx, s.telling(name, n))
	switch {
	case err == nil:
		s.wrote(name, n, s.now(), generation)
	case known: // it was told once, and goes on here
		n.tried, n.triedBy = s.now(), generation
		s.near.Set(name, n, n.lifetime)
		return nil
	}
	return err
}

func (s *Store) wrote(name string, n nearby, written time.Time, generation uint64) {
	n.written, n.generation = written, generation
	s.near.Set(name, n, n.lifetime)
}

// telling writes a capture.
func (s *Store) telling(name string, n nearby) speech {
	return func(ctx context.Context, client valkey.Client) error {
		key, sealed, err := s.sealed(name, n)
		if err != nil {
			return err
		}
		return client.Do(ctx, client.B().Set().Key(key).Value(sealed).Px(ttl(n.lifetime)).Build()).Error()
	}
}

func (s *Store) sealed(name string, n nearby) (key, sealed string, err error) {
	v := s.newest()
	key = v.key(captures, name)
	text, err := encodeCapture(n.capture, n.lifetime)
	return key, valkey.BinaryString(v.seal(key, text)), err
}

// prolongScript writes a capture unless it is kept for long enough, and returns how long it is kept.
// ARGV: text, its life, what is long enough.
const prolongScript = `
local left = redis.call('PTTL', KEYS[1])
if left > tonumber(ARGV[3]) then return left end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return tonumber(ARGV[2])`

// prolong tells the server that a capture of which it was told is in use, when it is time and no other Bellhop has done so.
// Nobody waits for that.
func (s *Store) prolong(name string, n nearby) {
	generation := s.link.generation.Load()
	if n.generation == 0 || s.tired(n) || (n.generation == generation && !s.due(n)) {
		return
	}
	n.tried, n.triedBy = s.now(), generation
	begun := s.later(func(ctx context.Context, client valkey.Client) error {
		key, sealed, err := s.sealed(name, n)
		if err != nil {
			return err
		}
		left, err := client.Do(ctx, client.B().Eval().Script(prolongScript).Numkeys(1).Key(key).
			Arg(sealed, milliseconds(ttl(n.lifetime)), milliseconds(ttl(n.lifetime)-n.lifetime/2)).Build()).AsInt64()
		if err == nil {
			s.wrote(name, n, s.told(n, left).written, generation)
		}
		return err
	})
	if begun {
		s.near.Set(name, n, n.lifetime)
	}
}

// told says when the server was told of a capture, by how many milliseconds it keeps it still.
func (s *Store) told(n nearby, left int64) nearby {
	n.written = s.now().Add(time.Duration(left)*time.Millisecond - ttl(n.lifetime))
	return n
}

// Get returns the capture of a ticket, and false where there is none. An error means that nobody can tell.
func (s *Store) Get(ctx context.Context, name string) (policy.Capture, bool, error) {
	if s.closed.Load() {
		return nil, false, errClosed
	}
	if n, ok := s.near.Get(name); ok {
		s.prolong(name, n)
		return n.capture, true, nil
	}
	n, ok, err := s.fetch(ctx, name)
	if err != nil || !ok {
		return nil, false, err
	}
	s.near.Set(name, n, n.lifetime)
	_, _ = s.near.Get(name) // it is in use
	return n.capture, true, nil
}

// fetch asks the server for a capture, under all keys at once.
func (s *Store) fetch(ctx context.Context, name string) (found nearby, ok bool, err error) {
	keys := s.keys(captures, name)
	generation := s.link.generation.Load()
	err = s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
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
			found, ok = s.told(found, left), err == nil
			return err
		}
		return nil
	})
	found.generation = generation
	return found, ok, err
}

func (s *Store) read(key, sealed string) (n nearby, err error) {
	text, err := s.vaults.Load().open(key, sealed)
	if err != nil {
		return nearby{}, err
	}
	n.capture, n.lifetime, err = decodeCapture(text)
	return n, err
}
