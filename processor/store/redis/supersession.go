package redis

import (
	"context"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/processor/session"
	"bellhop/processor/store"
)

func (s *Store) newTrackedSupersession(bytes uint64) *tracked[time.Time] {
	t := newTracked(s.conn, s.now, bytes, func(key string, _ time.Time) uint32 { return store.Weigh(key, nil) })
	t.read = func(_, text string) (time.Time, error) {
		if text == stillHeld {
			return time.Time{}, nil
		}
		number, err := strconv.ParseInt(text, 10, 64)
		return time.UnixMilli(number), err
	}
	t.last = func(w cached[time.Time]) bool { return !w.value.IsZero() }
	t.life = func(cached[time.Time]) time.Duration { return supersessionMemory }
	t.lost = s.lostSupersession
	return t
}

// supersessionMemory is how long supersession is cached after its last use, if there is room; and how long a mark
// without a known end is kept.
const supersessionMemory = 7 * 24 * time.Hour

// lostSupersession decides what to make of a mark that the server no longer has: it was restarted empty, or evicted it.
// A cached mark whose time is not over stays in force. So does one that was invalidated and could not be fetched before
// the server lost it: the ticket was superseded then, and if another session has it, that session sends it again. The
// mark is written again, because no other Bellhop may know it.
func (s *Store) lostSupersession(key string, before, answer cached[time.Time]) cached[time.Time] {
	held := before
	if !before.exists && !before.staleSince.IsZero() && before.generation != answer.generation {
		held = cached[time.Time]{value: before.staleSince, until: before.staleSince.Add(supersessionMemory)}
	}
	left := held.until.Sub(s.now())
	if held.value.IsZero() || left < time.Second {
		return answer
	}
	held.generation, held.staleSince = 0, time.Time{} // it is queried until the server has it
	s.later(func(ctx context.Context, client valkey.Client) error {
		err := client.Do(ctx, client.B().Set().Key(key).Value(at(held.value)).Nx().Px(left).Build()).Error()
		if valkey.IsValkeyNil(err) {
			return nil // another Bellhop was faster
		}
		return err
	})
	return held
}

// since returns when the last session replaced a ticket; zero where one still has it, or none has replaced it. An error
// means that the store cannot answer.
func (s *Store) since(ctx context.Context, content string) (time.Time, error) {
	mark, _, err := s.supersededAt.first(ctx, s.keys(replaced, content))
	return mark.value, err
}

// Issued records that a client was issued the ticket, so it is not superseded for a while. It writes only if the
// ticket is superseded.
func (s *Store) Issued(ctx context.Context, content string) {
	if s.closed.Load() {
		return
	}
	since, err := s.since(ctx, content)
	if err == nil && since.IsZero() {
		return
	}
	s.lastIssued.Set(content, s.now(), supersessionMemory)
	if err != nil || s.now().Sub(since) < time.Second {
		return
	}
	keys := s.keys(replaced, content)
	_ = s.conn.do(ctx, func(ctx context.Context, client valkey.Client) error {
		var commands valkey.Commands
		for _, key := range keys {
			// XX: no mark means not superseded. KEEPTTL: issuing does not extend the mark.
			commands = append(commands, client.B().Set().Key(key).Value(at(s.now())).Xx().Keepttl().Build())
		}
		return firstError(client.DoMulti(ctx, commands...))
	})
}

// aloneID is the holder of a ticket that stands for requests without a session.
const aloneID = "alone"

// Owned records that a request without a session was given a ticket of the content. It writes once in half a life.
func (s *Store) Owned(_ context.Context, content string, life time.Duration) {
	if s.closed.Load() {
		return
	}
	if last, ok := s.lastOwned.Get(content); ok && s.now().Sub(last) < life/2 {
		return
	}
	s.lastOwned.Set(content, s.now(), life)
	s.enqueue(transition{id: aloneID, idle: life, has: session.Record{Content: content, Lifetime: life}, at: s.now()})
}

// Superseded reports whether a session has replaced the ticket, and no session, at any Bellhop, has had it for longer
// than grace. While the server is down, cached values are used; an error means that nothing is cached, or that it was
// invalidated.
func (s *Store) Superseded(ctx context.Context, content string, grace time.Duration) (bool, error) {
	if s.closed.Load() {
		return false, errClosed
	}
	if lastIssued, ok := s.lastIssued.Get(content); ok && s.now().Sub(lastIssued) <= grace {
		return false, nil
	}
	since, err := s.since(ctx, content)
	return err == nil && !since.IsZero() && s.now().Sub(since) > grace, err
}
