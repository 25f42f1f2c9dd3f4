package redis

import (
	"context"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/processor/store"
)

func (s *Store) toldOfMarks(bytes uint64) (*told[time.Time], error) {
	t, err := newTold(s.link, s.now, bytes, func(key string, _ time.Time) uint32 { return store.Weigh(key, nil) })
	if err != nil {
		return nil, err
	}
	t.read = func(_, text string) (time.Time, error) {
		if text == stillHeld {
			return time.Time{}, nil
		}
		number, err := strconv.ParseInt(text, 10, 64)
		return time.UnixMilli(number), err
	}
	t.last = func(w word[time.Time]) bool { return !w.value.IsZero() }
	t.life = func(word[time.Time]) time.Duration { return markLife }
	t.lost = s.lostMark
	return t, nil
}

// markLife is how long what is known of a ticket is kept after its last use, if there is room; and a mark of whose end
// nobody knows.
const markLife = 7 * 24 * time.Hour

// lostMark is what to make of a mark that the server has no more, which was started anew, or had no room. One that is known
// here, and whose time is not over, holds on. So does one that was told of and could not be asked for before the server
// lost it: the ticket was replaced then, and whether another session has it shows when that one sends it again. The
// server is told of it again, as nobody else may know.
func (s *Store) lostMark(key string, before, answer word[time.Time]) word[time.Time] {
	held := before
	if !before.there && !before.stale.IsZero() && before.heard != answer.heard {
		held = word[time.Time]{value: before.stale, until: before.stale.Add(markLife)}
	}
	left := held.until.Sub(s.now())
	if held.value.IsZero() || left < time.Second {
		return answer
	}
	held.heard, held.stale = 0, time.Time{} // it is asked for until the server has it
	s.later(func(ctx context.Context, client valkey.Client) error {
		err := client.Do(ctx, client.B().Set().Key(key).Value(at(held.value)).Nx().Px(left).Build()).Error()
		if valkey.IsValkeyNil(err) {
			return nil // another was faster
		}
		return err
	})
	return held
}

// since tells when the last session has replaced a ticket; zero where one has it, or none has replaced it. An error means
// that nobody can tell.
func (s *Store) since(ctx context.Context, content string) (time.Time, error) {
	mark, _, err := s.marks.first(ctx, s.keys(replaced, content))
	return mark.value, err
}

// Issued tells that a client got the ticket: it is of use for a while, whoever has replaced it. The server is told if it
// takes it for replaced.
func (s *Store) Issued(ctx context.Context, content string) {
	if s.closed.Load() {
		return
	}
	since, err := s.since(ctx, content)
	if err == nil && since.IsZero() {
		return
	}
	s.minted.Set(content, s.now(), markLife)
	if err != nil || s.now().Sub(since) < time.Second {
		return
	}
	keys := s.keys(replaced, content)
	_ = s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		var commands valkey.Commands
		for _, key := range keys {
			// XX: a mark that is not there says that the ticket is of use. KEEPTTL: minting does not prolong what is known.
			commands = append(commands, client.B().Set().Key(key).Value(at(s.now())).Xx().Keepttl().Build())
		}
		return firstError(client.DoMulti(ctx, commands...))
	})
}

// Superseded reports whether a session has replaced the ticket, and no session, at any Bellhop, has had it for longer than
// grace. While the server cannot be asked, that holds by what this process was told last; an error means that it was told
// nothing, or that it has changed since.
func (s *Store) Superseded(ctx context.Context, content string, grace time.Duration) (bool, error) {
	if s.closed.Load() {
		return false, errClosed
	}
	if minted, ok := s.minted.Get(content); ok && s.now().Sub(minted) <= grace {
		return false, nil
	}
	since, err := s.since(ctx, content)
	return err == nil && !since.IsZero() && s.now().Sub(since) > grace, err
}
