package redis

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/processor/session"
	"bellhop/processor/store"
)

// cachedSession is a session as the server has it.
type cachedSession struct {
	record  session.Record
	idle    time.Duration
	version string         // of the value on the server; empty: there is none
	lost    session.Record // the ticket that the session had, where the server has lost it
}

// unknownLife is how long the absence of a session is cached.
const unknownLife = time.Minute

// sessionLife is the TTL of a session after a use. It is extended when a tenth of the idle time has passed.
func sessionLife(idle time.Duration) time.Duration { return idle + idle/10 + 100*time.Millisecond }

func (s *Store) newTrackedSessions(bytes uint64) *tracked[cachedSession] {
	t := newTracked(
		s.conn, s.now, bytes, func(key string, k cachedSession) uint32 { return store.Weigh(key, k.record.Kept) },
	)
	t.read = s.readSession
	t.last = func(w cached[cachedSession]) bool { return w.exists }
	t.life = func(w cached[cachedSession]) time.Duration {
		if !w.exists {
			return unknownLife
		}
		return w.value.idle
	}
	t.lost = func(_ string, before, answer cached[cachedSession]) cached[cachedSession] {
		answer.value.lost = before.value.lost
		if had := before.value.record; before.exists && before.generation != answer.generation &&
			before.staleSince.IsZero() &&
			s.now().Before(before.until) {
			answer.value.lost = session.Record{Content: had.Content, Lifetime: had.Lifetime}
		}
		return answer
	}
	return t
}

func (s *Store) readSession(key, sealed string) (found cachedSession, err error) {
	text, err := s.keyring.Load().open(key, sealed)
	if err != nil {
		return cachedSession{}, err
	}
	found.version = version(sealed)
	found.record, found.idle, err = decodeRecord(text)
	return found, err
}

// Lookup returns the record of a session, and false where there is none. Only its own principal extends its life. While
// the server is down, cached records are used, except those that were invalidated.
func (s *Store) Lookup(ctx context.Context, id, principal string) (session.Record, bool, error) {
	if s.closed.Load() {
		return session.Record{}, false, errClosed
	}
	keys := s.keys(sessions, id)
	found, i, err := s.sessions.first(ctx, keys)
	if err != nil || i < 0 {
		return session.Record{}, false, err
	}
	if found.value.record.Principal == principal && found.until.Sub(s.now()) < found.value.idle {
		s.extendSession(keys[i], id, found.value)
	}
	return found.value.record, true, nil
}

// extendSession extends the TTL of a session in use, and that of its hold on its ticket, in the background. It changes
// nothing where the session has another ticket by then.
func (s *Store) extendSession(key, id string, found cachedSession) {
	life := sessionLife(found.idle)
	all := *s.keyring.Load()
	begun := s.later(func(ctx context.Context, client valkey.Client) error {
		commands := valkey.Commands{client.B().Pexpire().Key(key).Milliseconds(life.Milliseconds()).Build()}
		for _, v := range all {
			if found.record.Content != "" {
				commands = append(
					commands,
					client.B().Eval().Script(holdScript).Numkeys(1).Key(v.key(holders, found.record.Content)).
						Arg(v.key(sessions, id), at(s.now().Add(life)), milliseconds(life)).Build(),
				)
			}
		}
		return firstError(client.DoMulti(ctx, commands...))
	})
	if begun { // the next requests need not do it too; the server notifies us of the new TTL soon
		s.sessions.amend(key, func(w *cached[cachedSession]) { w.until = s.now().Add(life) })
	}
}

func firstError(answers []valkey.ValkeyResult) error {
	for _, answer := range answers {
		if err := answer.Error(); err != nil && !valkey.IsValkeyNil(err) {
			return err
		}
	}
	return nil
}

// maxTries bounds how often an update is retried while others update the session too.
const maxTries = 8

var errBusy = errors.New("others change the session all the time")

// Update writes what change makes of a session's record until the session has not been used for idle, at any Bellhop.
// No other update comes in between, but change may be called several times.
func (s *Store) Update(
	ctx context.Context,
	id string,
	idle time.Duration,
	change func(session.Record) (session.Record, bool),
) error {
	if s.closed.Load() {
		return errClosed
	}
	ctx, cancel := context.WithTimeout(ctx, 2*s.conn.timeout) // to read, and to write
	defer cancel()
	all := *s.keyring.Load()
	keys := all.keys(sessions, id)
	// The cached record will do at first: if it is old, the swap fails.
	before, i, err := s.sessions.first(ctx, keys)
	for range maxTries {
		if err != nil {
			return err
		}
		i = max(i, 0)
		next, changed := change(before.value.record)
		if !changed {
			return nil
		}
		had := s.had(keys, before)
		if !before.exists && had.Content == next.Content {
			had = session.Record{} // the server has lost the hold, so it is written again
		}
		done, err := s.swap(ctx, all[i], keys[i], before.value.version, next, idle)
		if done == yes || done == maybe {
			s.enqueue(transition{id: id, idle: idle, had: had, has: next, at: s.now()})
		}
		if done != no || err != nil {
			return err
		}
		if before, i, err = s.refetch(ctx, keys); err != nil {
			return err
		}
	}
	return errBusy
}

// had is the record of the ticket that a session had: the current one, or one that the server has lost.
func (s *Store) had(keys []string, before cached[cachedSession]) session.Record {
	if before.exists {
		return before.value.record
	}
	for _, key := range keys {
		if w, ok := s.sessions.values.Peek(key); ok && w.value.lost.Content != "" {
			return w.value.lost
		}
	}
	return session.Record{}
}

// refetch queries the server for a session, whatever is cached.
func (s *Store) refetch(ctx context.Context, keys []string) (cached[cachedSession], int, error) {
	all, err := s.sessions.fetch(ctx, s.conn.do, keys)
	if err != nil {
		return cached[cachedSession]{}, -1, err
	}
	if i := slices.IndexFunc(all, s.sessions.last); i >= 0 {
		return all[i], i, nil
	}
	return cached[cachedSession]{}, -1, nil
}

// outcome is what is known of a write.
type outcome int

const (
	no outcome = iota
	yes
	maybe // there was no answer
)

// swap writes a session if it has not changed. The command after it waits for the invalidation of our own write, which
// the server sends after its answer.
func (s *Store) swap(
	ctx context.Context,
	v ringKey,
	key, was string,
	next session.Record,
	idle time.Duration,
) (done outcome, err error) {
	text, err := encodeRecord(next, idle)
	if err != nil {
		return no, err
	}
	sealed := valkey.BinaryString(v.seal(key, text))
	life := sessionLife(idle)
	err = s.conn.do(ctx, func(ctx context.Context, client valkey.Client) error {
		answers := client.DoMulti(ctx,
			client.B().Eval().Script(swapScript).Numkeys(1).Key(key).Arg(was, sealed, milliseconds(life)).Build(),
			client.B().Exists().Key(key).Build())
		swapped, err := answers[0].AsBool()
		switch {
		case swapped:
			done = yes
		case err != nil && refusal(err) == "":
			done = maybe
		}
		return firstError(answers)
	})
	if done == yes {
		s.sessions.written(
			key,
			cached[cachedSession]{
				value:  cachedSession{record: next, idle: idle, version: version(sealed)},
				exists: true,
				until:  s.now().Add(life),
			},
		)
		return yes, nil
	}
	return done, err
}

// End deletes a session.
func (s *Store) End(ctx context.Context, id string) error {
	if s.closed.Load() {
		return errClosed
	}
	keys := s.keys(sessions, id)
	return s.conn.do(ctx, func(ctx context.Context, client valkey.Client) error {
		var commands valkey.Commands
		for _, key := range keys {
			commands = append(commands, client.B().Getdel().Key(key).Build(), client.B().Exists().Key(key).Build()) // as in swap
		}
		answers := client.DoMulti(ctx, commands...)
		if err := firstError(answers); err != nil {
			return err
		}
		for i, key := range keys {
			s.sessions.written(key, cached[cachedSession]{})
			sealed, err := answers[2*i].ToString()
			if valkey.IsValkeyNil(err) {
				continue
			}
			found, err := s.readSession(key, sealed)
			if err != nil {
				return err
			}
			s.enqueue(transition{id: id, idle: found.idle, had: found.record, at: s.now()})
		}
		return nil
	})
}
