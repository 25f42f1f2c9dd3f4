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
	stale     bool      // it has changed since then
	prolonged time.Time // when this process last told the server that it is in use
}

const (
	// unasked is for how long the client answers by itself at most. The server tells of each change before that.
	unasked = time.Hour
	// maxTries bounds how often a change of a session is tried while others change it too.
	maxTries = 8
)

// life is for how long what was seen is of use.
func (s seen) life() time.Duration {
	if !s.known {
		return time.Minute
	}
	return s.idle
}

// sessionLife is how long the server keeps a session after it was told of a use: a process tells it when a tenth of the
// idle time has passed since it did last.
func sessionLife(idle time.Duration) time.Duration { return idle + idle/10 + 100*time.Millisecond }

// Find returns what is remembered of a session, and false where nothing is. Only its own principal keeps it alive by that.
// While the server cannot be asked, what this process was told last goes on.
func (s *Store) Find(ctx context.Context, id, principal string) (session.Record, bool, error) {
	if s.closed.Load() {
		return session.Record{}, false, errClosed
	}
	version := s.told.now()
	found, key, _, err := s.look(ctx, id)
	if err != nil {
		last, ok := s.last(id)
		if !ok {
			return session.Record{}, false, err
		}
		return last.record, last.known, nil
	}
	before, have := s.known.Get(key)
	found.prolonged = before.prolonged
	if found.known && found.record.Principal == principal && s.now().Sub(found.prolonged) > found.idle/10 {
		found.prolonged = s.now()
		s.prolongSession(key, id, found)
	}
	if !have || before.stale || found.prolonged != before.prolonged {
		s.told.since(version, func() { s.known.Set(key, found, found.life()) })
	}
	return found.record, found.known, nil
}

// last is a session as this process was told of it last, if it has not been told of a change since.
func (s *Store) last(id string) (last seen, ok bool) {
	for _, v := range *s.vaults.Load() {
		found, have := s.known.Get(v.key(sessions, id))
		if have && !found.stale && (found.known || !ok) {
			last, ok = found, true
		}
		if last.known {
			break
		}
	}
	return last, ok
}

// look asks the server, unless nothing has changed since the last time: then the client answers by itself. It returns
// the server's name of the session too, by the newest key where there is none, and what stands there.
func (s *Store) look(ctx context.Context, id string) (found seen, key, sealed string, err error) {
	err = s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		_, key, found, sealed, err = s.stands(id, func(key string) valkey.ValkeyResult {
			return client.DoCache(ctx, client.B().Get().Key(key).Cache(), unasked)
		})
		return err
	})
	return found, key, sealed, err
}

// stands finds the place where a session stands; that of the newest key if it does not.
func (s *Store) stands(id string, get func(key string) valkey.ValkeyResult) (v vault, key string, found seen, sealed string, err error) {
	for _, v = range *s.vaults.Load() {
		key = v.key(sessions, id)
		found, sealed, err = read(v, key, get(key))
		if found.known || err != nil {
			return v, key, found, sealed, err
		}
	}
	v = s.newest()
	return v, v.key(sessions, id), seen{}, "", nil
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

// prolongSession tells the server that a session is in use, and with it the ticket that it has. Nobody waits for that. It
// says nothing of a ticket that the session may have replaced by then.
func (s *Store) prolongSession(key, id string, found seen) {
	life := sessionLife(found.idle)
	s.later(func(ctx context.Context) {
		_ = s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
			commands := []valkey.Completed{client.B().Pexpire().Key(key).Milliseconds(life.Milliseconds()).Build()}
			for _, v := range *s.vaults.Load() {
				if found.record.Ticket == "" {
					break
				}
				held := v.key(holders, found.record.Ticket)
				commands = append(commands,
					client.B().Zadd().Key(held).Xx().ScoreMember().ScoreMember(float64(s.now().Add(life).UnixMilli()), v.key(sessions, id)).Build(),
					client.B().Pexpire().Key(held).Milliseconds(life.Milliseconds()).Build())
			}
			return firstError(client.DoMulti(ctx, commands...))
		})
	})
}

func firstError(answers []valkey.ValkeyResult) error {
	for _, answer := range answers {
		if err := answer.Error(); err != nil && !valkey.IsValkeyNil(err) {
			return err
		}
	}
	return nil
}

var errBusy = errors.New("others change the session all the time")

// Update remembers what change makes of a session's record until the session has not been used for idle, at any Bellhop.
// No other update comes in between, but change may be asked several times.
func (s *Store) Update(ctx context.Context, id string, idle time.Duration, change func(session.Record) (session.Record, bool)) error {
	if s.closed.Load() {
		return errClosed
	}
	return s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		// What the client knows will do at first: where it is old, the swap finds out.
		get := func(key string) valkey.ValkeyResult {
			return client.DoCache(ctx, client.B().Get().Key(key).Cache(), unasked)
		}
		for range maxTries {
			v, key, before, sealed, err := s.stands(id, get)
			if err != nil {
				return err
			}
			next, changed := change(before.record)
			if !changed {
				return nil
			}
			swapped, err := swap(ctx, client, v, key, sealed, next, idle)
			if swapped || err != nil { // with an error it may have been swapped too
				s.advance(step{id: id, idle: idle, had: before.record, has: next})
			}
			if swapped {
				s.known.Set(key, seen{record: next, idle: idle, known: true, stale: true, prolonged: s.now()}, idle)
				s.later(func(ctx context.Context) { _, _, _ = s.Find(ctx, id, next.Principal) }) // to be told of the next change
			}
			if swapped || err != nil {
				return err
			}
			get = func(key string) valkey.ValkeyResult { return client.Do(ctx, client.B().Get().Key(key).Build()) }
		}
		return errBusy
	})
}

// swap writes a session if it is still what it was. The command after it waits until this process has been told of its
// own change: the server answers first and tells then, and what the client answers by itself in between would be the old.
func swap(ctx context.Context, client valkey.Client, v vault, key, was string, next session.Record, idle time.Duration) (bool, error) {
	text, err := encodeRecord(next, idle)
	if err != nil {
		return false, err
	}
	answers := client.DoMulti(ctx,
		client.B().Eval().Script(swapScript).Numkeys(1).Key(key).Arg(was, valkey.BinaryString(v.seal(key, text)), milliseconds(sessionLife(idle))).Build(),
		client.B().Exists().Key(key).Build())
	if err := firstError(answers); err != nil {
		return false, err
	}
	return answers[0].AsBool()
}

// End forgets a session.
func (s *Store) End(ctx context.Context, id string) error {
	if s.closed.Load() {
		return errClosed
	}
	return s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		for _, v := range *s.vaults.Load() {
			key := v.key(sessions, id)
			s.known.Delete(key)
			answers := client.DoMulti(ctx, client.B().Getdel().Key(key).Build(), client.B().Exists().Key(key).Build()) // as in swap
			found, _, err := read(v, key, answers[0])
			if err := errors.Join(err, firstError(answers)); err != nil {
				return err
			}
			if found.known {
				s.advance(step{id: id, idle: found.idle, had: found.record})
			}
		}
		return nil
	})
}
