package remote

import (
	"context"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/processor/session"
)

// Of each ticket the server keeps which sessions have it now, each until its idle time is over, and since when none has
// it any more. Times are those of the Bellhops, whose clocks are taken to agree within a fraction of ticket.grace.

// heldTime is how long a ticket that nobody mints or redeems is known to be superseded.
const heldTime = time.Hour

// scripts run whole, so that several Bellhops cannot get in each other's way. Each touches the keys of one place.
type scripts struct{ swap, acquire, release *valkey.Lua }

func newScripts() scripts {
	return scripts{
		swap: valkey.NewLuaScript(`
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`),
		acquire: valkey.NewLuaScript(`
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[2])
return 1`),
		release: valkey.NewLuaScript(`
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
if ARGV[3] == '1' and redis.call('ZCARD', KEYS[1]) == 0 then
  redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[4])
end
return 1`),
	}
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func (s *Store) clock() string { return strconv.FormatInt(s.now().UnixMilli(), 10) }

// succeed tells of the ticket that a session has now, and of the one that it had.
func (s *Store) succeed(ctx context.Context, client valkey.Client, id string, idle time.Duration, before seen, next session.Record) error {
	if before.known && before.record.Ticket == next.Ticket {
		return nil
	}
	if err := s.acquire(ctx, client, next.Ticket, id, idle); err != nil {
		return err
	}
	if !before.known {
		return nil
	}
	// A ticket that only rotates is not replaced: what it stands for is still what the session sends.
	return s.release(ctx, client, before.record.Ticket, id, before.record.Content != next.Content)
}

// acquire says that a session has a ticket.
func (s *Store) acquire(ctx context.Context, client valkey.Client, ticket, id string, idle time.Duration) error {
	if ticket == "" {
		return nil
	}
	v := s.newest()
	until := strconv.FormatInt(s.now().Add(ttl(idle)).UnixMilli(), 10)
	return s.run.acquire.Exec(ctx, client, []string{v.key(holders, ticket), v.key(replaced, ticket)},
		[]string{v.key(sessions, id), until, milliseconds(ttl(idle))}).Error()
}

// release says that a session has a ticket no more: because it has another now, or because it has ended.
func (s *Store) release(ctx context.Context, client valkey.Client, ticket, id string, hasAnother bool) error {
	if ticket == "" {
		return nil
	}
	why := "0"
	if hasAnother {
		why = "1"
	}
	v := s.newest()
	return s.run.release.Exec(ctx, client, []string{v.key(holders, ticket), v.key(replaced, ticket)},
		[]string{v.key(sessions, id), s.clock(), why, milliseconds(heldTime)}).Error()
}

// since tells when the last session has replaced a ticket; zero where one has it, or nobody knows.
func (s *Store) since(ticket string) (when time.Time) {
	key := s.newest().key(replaced, ticket)
	_ = s.link.ask(context.Background(), func(ctx context.Context, client valkey.Client) error {
		text, err := client.DoCache(ctx, client.B().Get().Key(key).Cache(), unasked).AsInt64()
		if valkey.IsValkeyNil(err) {
			return nil
		}
		if err == nil {
			when = time.UnixMilli(text)
		}
		return err
	})
	return when
}

// Minted tells that a client got the ticket: it is of use for a while, whoever has replaced it. The server is told if it
// takes it for replaced.
func (s *Store) Minted(ticket string) {
	if s.closed.Load() {
		return
	}
	since := s.since(ticket)
	if since.IsZero() {
		return
	}
	s.minted.Set(ticket, s.now(), heldTime)
	if s.now().Sub(since) < time.Second {
		return
	}
	key := s.newest().key(replaced, ticket)
	_ = s.link.ask(context.Background(), func(ctx context.Context, client valkey.Client) error {
		err := client.Do(ctx, client.B().Set().Key(key).Value(s.clock()).Xx().Px(heldTime).Build()).Error()
		if valkey.IsValkeyNil(err) {
			return nil // a session has it by now
		}
		return err
	})
}

// Superseded reports whether every session that had the ticket, at any Bellhop, has had another for longer than grace.
// While the server cannot be asked, none is taken for superseded.
func (s *Store) Superseded(ticket string, grace time.Duration) bool {
	if s.closed.Load() {
		return false
	}
	since := s.since(ticket)
	if since.IsZero() {
		return false
	}
	if minted, ok := s.minted.Get(ticket); ok && minted.After(since) {
		since = minted
	}
	return s.now().Sub(since) > grace
}
