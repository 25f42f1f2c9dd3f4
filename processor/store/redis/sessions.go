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

// seen is a session as the server has it.
type seen struct {
	record  session.Record
	idle    time.Duration
	version string         // of the text at the server; empty: there is none
	lost    session.Record // which ticket the session had, where the server has lost it
}

// unknownLife is for how long it is remembered that there is no session of some name.
const unknownLife = time.Minute

// sessionLife is how long the server keeps a session after it was told of a use: it is told of one when a tenth of the
// idle time has passed since.
func sessionLife(idle time.Duration) time.Duration { return idle + idle/10 + 100*time.Millisecond }

func (s *Store) toldOfSessions(bytes uint64) (*told[seen], error) {
	t, err := newTold(s.link, s.now, bytes, func(key string, k seen) uint32 { return store.Weigh(key, k.record.Kept) })
	if err != nil {
		return nil, err
	}
	t.read = s.readSession
	t.last = func(w word[seen]) bool { return w.there }
	t.life = func(w word[seen]) time.Duration {
		if !w.there {
			return unknownLife
		}
		return w.value.idle
	}
	t.lost = func(_ string, before, answer word[seen]) word[seen] {
		answer.value.lost = before.value.lost
		if had := before.value.record; before.there && before.heard != answer.heard && before.stale.IsZero() && s.now().Before(before.until) {
			answer.value.lost = session.Record{Content: had.Content, Lifetime: had.Lifetime}
		}
		return answer
	}
	return t, nil
}

func (s *Store) readSession(key, sealed string) (found seen, err error) {
	text, err := s.vaults.Load().open(key, sealed)
	if err != nil {
		return seen{}, err
	}
	found.version = version(sealed)
	found.record, found.idle, err = decodeRecord(text)
	return found, err
}

// Lookup returns what is remembered of a session, and false where nothing is. Only its own principal keeps it alive by that.
// While the server cannot be asked, what this process was told last goes on, but for what it was told has changed.
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
		s.prolongSession(keys[i], id, found.value)
	}
	return found.value.record, true, nil
}

// prolongSession tells the server that a session is in use, and with it the ticket that it has. Nobody waits for that. It
// says nothing of a ticket that the session may have replaced by then.
func (s *Store) prolongSession(key, id string, found seen) {
	life := sessionLife(found.idle)
	all := *s.vaults.Load()
	begun := s.later(func(ctx context.Context, client valkey.Client) error {
		commands := valkey.Commands{client.B().Pexpire().Key(key).Milliseconds(life.Milliseconds()).Build()}
		for _, v := range all {
			if found.record.Content != "" {
				commands = append(commands, client.B().Eval().Script(holdScript).Numkeys(1).Key(v.key(holders, found.record.Content)).
					Arg(v.key(sessions, id), at(s.now().Add(life)), milliseconds(life)).Build())
			}
		}
		return firstError(client.DoMulti(ctx, commands...))
	})
	if begun { // the next requests need not do it too; how long it is kept the server tells soon
		s.sessions.amend(key, func(w *word[seen]) { w.until = s.now().Add(life) })
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

// maxTries bounds how often a change of a session is tried while others change it too.
const maxTries = 8

var errBusy = errors.New("others change the session all the time")

// Update remembers what change makes of a session's record until the session has not been used for idle, at any Bellhop.
// No other update comes in between, but change may be asked several times.
func (s *Store) Update(ctx context.Context, id string, idle time.Duration, change func(session.Record) (session.Record, bool)) error {
	if s.closed.Load() {
		return errClosed
	}
	ctx, cancel := context.WithTimeout(ctx, 2*s.link.timeout) // to read, and to write
	defer cancel()
	all := *s.vaults.Load()
	keys := all.keys(sessions, id)
	// What is known will do at first: where it is old, the swap finds out.
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
		if !before.there && had.Content == next.Content {
			had = session.Record{} // the server, which has lost it, is to be told that the session has it
		}
		done, err := s.swap(ctx, all[i], keys[i], before.value.version, next, idle)
		if done == yes || done == maybe {
			s.advance(step{id: id, idle: idle, had: had, has: next, at: s.now()})
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

// had is the record by which a session had its ticket: the one that was there, or one that the server has lost.
func (s *Store) had(keys []string, before word[seen]) session.Record {
	if before.there {
		return before.value.record
	}
	for _, key := range keys {
		if w, ok := s.sessions.words.Peek(key); ok && w.value.lost.Content != "" {
			return w.value.lost
		}
	}
	return session.Record{}
}

// refetch asks the server for a session, whatever is known of it.
func (s *Store) refetch(ctx context.Context, keys []string) (word[seen], int, error) {
	all, err := s.sessions.fetch(ctx, s.link.ask, keys)
	if err != nil {
		return word[seen]{}, -1, err
	}
	if i := slices.IndexFunc(all, s.sessions.last); i >= 0 {
		return all[i], i, nil
	}
	return word[seen]{}, -1, nil
}

// outcome is what is known of a change at the server.
type outcome int

const (
	no outcome = iota
	yes
	maybe // it did not answer
)

// swap writes a session if it is still what it was. The command after it waits until this process has been told of its
// own change: the server answers first and tells then.
func (s *Store) swap(ctx context.Context, v vault, key, was string, next session.Record, idle time.Duration) (done outcome, err error) {
	text, err := encodeRecord(next, idle)
	if err != nil {
		return no, err
	}
	sealed := valkey.BinaryString(v.seal(key, text))
	life := sessionLife(idle)
	err = s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
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
		s.sessions.written(key, word[seen]{value: seen{record: next, idle: idle, version: version(sealed)}, there: true, until: s.now().Add(life)})
		return yes, nil
	}
	return done, err
}

// End forgets a session.
func (s *Store) End(ctx context.Context, id string) error {
	if s.closed.Load() {
		return errClosed
	}
	keys := s.keys(sessions, id)
	return s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		var commands valkey.Commands
		for _, key := range keys {
			commands = append(commands, client.B().Getdel().Key(key).Build(), client.B().Exists().Key(key).Build()) // as in swap
		}
		answers := client.DoMulti(ctx, commands...)
		if err := firstError(answers); err != nil {
			return err
		}
		for i, key := range keys {
			s.sessions.written(key, word[seen]{})
			sealed, err := answers[2*i].ToString()
			if valkey.IsValkeyNil(err) {
				continue
			}
			found, err := s.readSession(key, sealed)
			if err != nil {
				return err
			}
			s.advance(step{id: id, idle: found.idle, had: found.record, at: s.now()})
		}
		return nil
	})
}
