package remote

import (
	"context"
	"errors"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/processor/session"
)

// seen is a session as it was when the server was last asked.
type seen struct {
	record    session.Record
	idle      time.Duration
	known     bool
	prolonged time.Time // when this process last told the server that it is in use
}

const (
	// unasked is for how long the client answers by itself at most. The server tells of each change before that.
	unasked = time.Hour
	// maxTries bounds how often a change of a session is tried while others change it too.
	maxTries = 8
)

// Find returns what is remembered of a session, and false where nothing is. Only its own principal keeps it alive by that.
// While the server cannot be asked, what this process knows goes on.
func (s *Store) Find(ctx context.Context, id, principal string) (session.Record, bool, error) {
	if s.closed.Load() {
		return session.Record{}, false, errClosed
	}
	found, key, err := s.look(ctx, id)
	before, have := s.known.Get(id)
	switch {
	case err != nil && have:
		return before.record, before.known, nil
	case err != nil:
		return session.Record{}, false, err
	}
	found.prolonged = before.prolonged
	if found.known && found.record.Principal == principal && s.due(found.prolonged, found.idle) {
		found.prolonged = s.now()
		s.background.Go(func() { s.prolongSession(key, id, found) })
	}
	if !have || found.prolonged != before.prolonged || !same(found, before) {
		s.known.Set(id, found, unasked)
	}
	return found.record, found.known, nil
}

// same reports whether two looks at a session saw the same, by what its record has of its own.
func same(a, b seen) bool {
	return a.known == b.known && a.record.Ticket == b.record.Ticket && a.record.Content == b.record.Content && len(a.record.Kept) == len(b.record.Kept)
}

// look asks the server, unless nothing has changed since the last time: then the client answers by itself. It returns
// the server's name of the session too.
func (s *Store) look(ctx context.Context, id string) (found seen, key string, err error) {
	err = s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		for _, v := range *s.vaults.Load() {
			key = v.key(sessions, id)
			if found, _, err = read(v, key, client.DoCache(ctx, client.B().Get().Key(key).Cache(), unasked)); found.known || err != nil {
				return err
			}
		}
		return nil
	})
	return found, key, err
}

// read takes a session from an answer of the server; sealed is what stands there, empty for nothing.
func read(v vault, key string, answer valkey.ValkeyResult) (found seen, sealed string, err error) {
	sealed, err = answer.ToString()
	if valkey.IsValkeyNil(err) {
		return seen{}, "", nil
	}
	if err != nil {
		return seen{}, "", err
	}
	text, err := v.open(key, []byte(sealed))
	if err != nil {
		return seen{}, "", err
	}
	found.record, found.idle, err = decodeRecord(text)
	found.known = err == nil
	return found, sealed, err
}

func (s *Store) prolongSession(key, id string, found seen) {
	_ = s.link.ask(context.Background(), func(ctx context.Context, client valkey.Client) error {
		if err := client.Do(ctx, client.B().Pexpire().Key(key).Milliseconds(ttl(found.idle).Milliseconds()).Build()).Error(); err != nil {
			return err
		}
		return s.acquire(ctx, client, found.record.Ticket, id, found.idle)
	})
}

var errBusy = errors.New("others change the session all the time")

// Update remembers what change makes of a session's record until the session has not been used for idle, at any Bellhop.
// No other update comes in between, but change may be asked several times.
func (s *Store) Update(ctx context.Context, id string, idle time.Duration, change func(session.Record) (session.Record, bool)) error {
	if s.closed.Load() {
		return errClosed
	}
	return s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		for range maxTries {
			v, key, before, sealed, err := s.current(ctx, client, id)
			if err != nil {
				return err
			}
			next, changed := change(before.record)
			if !changed {
				return nil
			}
			swapped, err := s.swap(ctx, client, v, key, sealed, next, idle)
			if err != nil {
				return err
			}
			if swapped {
				s.known.Set(id, seen{record: next, idle: idle, known: true, prolonged: s.now()}, unasked)
				return s.succeed(ctx, client, id, idle, before, next)
			}
		}
		return errBusy
	})
}

// current is a session as it stands at the server now, with the place where it does; that of the newest key if it does
// not.
func (s *Store) current(ctx context.Context, client valkey.Client, id string) (v vault, key string, found seen, sealed string, err error) {
	for _, v = range *s.vaults.Load() {
		key = v.key(sessions, id)
		found, sealed, err = read(v, key, client.Do(ctx, client.B().Get().Key(key).Build()))
		if found.known || err != nil {
			return v, key, found, sealed, err
		}
	}
	v = s.newest()
	return v, v.key(sessions, id), seen{}, "", nil
}

// swap writes a session if it is still what it was.
func (s *Store) swap(ctx context.Context, client valkey.Client, v vault, key, was string, next session.Record, idle time.Duration) (bool, error) {
	text, err := encodeRecord(next, idle)
	if err != nil {
		return false, err
	}
	swapped, err := s.run.swap.Exec(ctx, client, []string{key}, []string{was, valkey.BinaryString(v.seal(key, text)), milliseconds(ttl(idle))}).AsBool()
	if err != nil || !swapped {
		return false, err
	}
	return true, settle(ctx, client, key)
}

// settle waits until this process has been told of its own change: the server answers first and tells then, and what
// the client answers by itself in between would be the old. The answer to one more command comes after both.
func settle(ctx context.Context, client valkey.Client, key string) error {
	return client.Do(ctx, client.B().Exists().Key(key).Build()).Error()
}

// End forgets a session.
func (s *Store) End(ctx context.Context, id string) error {
	if s.closed.Load() {
		return errClosed
	}
	s.known.Delete(id)
	return s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		for _, v := range *s.vaults.Load() {
			key := v.key(sessions, id)
			found, _, err := read(v, key, client.Do(ctx, client.B().Getdel().Key(key).Build()))
			if err != nil {
				return err
			}
			if found.known {
				if err := settle(ctx, client, key); err != nil {
					return err
				}
				if err := s.release(ctx, client, found.record.Ticket, id, false); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
