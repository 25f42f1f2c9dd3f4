package remote

import (
	"context"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/processor/session"
)

// Of each ticket the server keeps which sessions have it now, each until its idle time is over, and a mark once a session
// has replaced it: since when none has it any more, or that one still does. Times are those of the Bellhops, whose clocks
// are taken to agree within a fraction of ticket.grace. All of it is kept under each key there is, since the Bellhops that
// read it need not have the same key for the newest.

// stillHeld is the mark of a ticket that a session has replaced and another has.
const stillHeld = "0"

// scripts run whole, so that several Bellhops cannot get in each other's way. Each touches the keys of one place.
const (
	swapScript = `
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`
	// KEYS: holders, mark. ARGV: session, until, life of the holders, life of the mark.
	acquireScript = `
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[2], '0', 'XX', 'PX', ARGV[4])
return 1`
	// KEYS: holders, mark. ARGV: session, now, whether it has another ticket, life of the mark.
	releaseScript = `
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
if ARGV[3] == '1' or redis.call('EXISTS', KEYS[2]) == 1 then
  local since = '0'
  if redis.call('ZCARD', KEYS[1]) == 0 then since = ARGV[2] end
  redis.call('SET', KEYS[2], since, 'PX', ARGV[4])
end
return 1`
)

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func at(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// marked is how long the mark of a ticket is kept: longer than the ticket can be redeemed without being minted again.
func marked(r session.Record) time.Duration { return max(2*r.Lifetime, time.Second) }

// step is a change of the ticket that a session has.
type step struct {
	id       string
	idle     time.Duration
	had, has session.Record // zero: it has begun, or ended
}

// advance tells the server of a step, sooner or later: nobody waits for it, for a ticket that is replaced is of use for the
// grace anyway. One goroutine does, so that the steps of a session keep their order.
func (s *Store) advance(one step) {
	if one.had.Ticket == one.has.Ticket {
		return
	}
	select {
	case s.steps <- one:
	default: // the server has been away for too long
		s.link.commands.refused.Add(1)
	}
}

const (
	maxSteps  = 4096
	retryTime = 200 * time.Millisecond
	lastRetry = 30 * time.Second // that a ticket was replaced longer ago is told no more
)

// walk takes the steps, one after the other, until the store is closed.
func (s *Store) walk(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case one := <-s.steps:
			for end := s.now().Add(lastRetry); s.take(ctx, one) != nil && s.now().Before(end); {
				select {
				case <-ctx.Done():
					return
				case <-time.After(retryTime):
				}
			}
		}
	}
}

// take tells the server of a step. Told twice it is the same.
func (s *Store) take(ctx context.Context, one step) error {
	return s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		for _, v := range *s.vaults.Load() {
			for _, change := range []func() error{
				func() error { return s.acquire(ctx, client, v, one) },
				func() error { return s.release(ctx, client, v, one) },
			} {
				if err := change(); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// acquire says that a session has a ticket.
func (s *Store) acquire(ctx context.Context, client valkey.Client, v vault, one step) error {
	ticket, life := one.has.Ticket, sessionLife(one.idle)
	if ticket == "" {
		return nil
	}
	return client.Do(ctx, client.B().Eval().Script(acquireScript).Numkeys(2).Key(v.key(holders, ticket), v.key(replaced, ticket)).
		Arg(v.key(sessions, one.id), at(s.now().Add(life)), milliseconds(life), milliseconds(marked(one.has))).Build()).Error()
}

// release says that a session has a ticket no more: because it has another now, or because it has ended. A ticket that only
// rotates is not replaced: what it stands for is still what the session sends.
func (s *Store) release(ctx context.Context, client valkey.Client, v vault, one step) error {
	ticket, hasAnother := one.had.Ticket, "0"
	if ticket == "" {
		return nil
	}
	if one.has.Ticket != "" && one.has.Content != one.had.Content {
		hasAnother = "1"
	}
	return client.Do(ctx, client.B().Eval().Script(releaseScript).Numkeys(2).Key(v.key(holders, ticket), v.key(replaced, ticket)).
		Arg(v.key(sessions, one.id), at(s.now()), hasAnother, milliseconds(marked(one.had))).Build()).Error()
}

// since tells when the last session has replaced a ticket; zero where one has it, none has replaced it, or nobody knows.
// While the server cannot be asked, what this process was told last goes on.
func (s *Store) since(ctx context.Context, ticket string) time.Time {
	for _, v := range *s.vaults.Load() {
		key := v.key(replaced, ticket)
		if mark := s.mark(ctx, key); !mark.IsZero() {
			return mark
		}
	}
	return time.Time{}
}

func (s *Store) mark(ctx context.Context, key string) (since time.Time) {
	version := s.told.now()
	err := s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		text, err := client.DoCache(ctx, client.B().Get().Key(key).Cache(), unasked).ToString()
		if valkey.IsValkeyNil(err) || (err == nil && text == stillHeld) {
			return nil
		}
		if err != nil {
			return err
		}
		number, err := strconv.ParseInt(text, 10, 64)
		since = time.UnixMilli(number)
		return err
	})
	if err != nil {
		since, _ = s.marks.Get(key)
		return since
	}
	if before, have := s.marks.Peek(key); !since.IsZero() && (!have || !before.Equal(since)) {
		s.told.since(version, func() { s.marks.Set(key, since, unasked) })
	}
	return since
}

// Minted tells that a client got the ticket: it is of use for a while, whoever has replaced it. The server is told if it
// takes it for replaced.
func (s *Store) Minted(ctx context.Context, ticket string) {
	if s.closed.Load() {
		return
	}
	since := s.since(ctx, ticket)
	if since.IsZero() {
		return
	}
	s.minted.Set(ticket, s.now(), unasked)
	if s.now().Sub(since) < time.Second {
		return
	}
	_ = s.link.ask(ctx, func(ctx context.Context, client valkey.Client) error {
		for _, v := range *s.vaults.Load() {
			// XX: a mark that is not there says that the ticket is of use. KEEPTTL: minting does not prolong what is known.
			err := client.Do(ctx, client.B().Set().Key(v.key(replaced, ticket)).Value(at(s.now())).Xx().Keepttl().Build()).Error()
			if err != nil && !valkey.IsValkeyNil(err) {
				return err
			}
		}
		return nil
	})
}

// Superseded reports whether a session has replaced the ticket, and no session, at any Bellhop, has had it for longer than
// grace. While the server cannot be asked, that holds for the tickets of which this process was told before.
func (s *Store) Superseded(ctx context.Context, ticket string, grace time.Duration) bool {
	if s.closed.Load() {
		return false
	}
	since := s.since(ctx, ticket)
	if since.IsZero() {
		return false
	}
	if minted, ok := s.minted.Get(ticket); ok && minted.After(since) {
		since = minted
	}
	return s.now().Sub(since) > grace
}
