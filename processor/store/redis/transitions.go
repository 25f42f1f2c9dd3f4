package redis

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"

	"bellhop/processor/session"
)

// For each ticket the server keeps which sessions hold it, each until its idle time is over; and, once a session has
// replaced it, a mark: since when no session holds it, or that one still does. Times are those of the Bellhops, whose
// clocks are assumed to agree within a fraction of ticket.grace. All of it is kept under every key, because the
// Bellhops that read it may have another newest key.

// stillHeld is the mark of a ticket that one session has replaced and another still holds.
const stillHeld = "0"

// Scripts are atomic. Each touches the keys of one node.
//
// A transition may arrive late, or twice. So the holders of a ticket are a sorted set: a holder has the time at which
// its hold ends as its score, and a session that has left has, for a minute, the negative time at which it left. A
// transition from before, or of the same millisecond, cannot make it a holder again.
const (
	// ARGV: the version that the value must have, the value, its TTL.
	swapScript = `
if string.sub(redis.call('GET', KEYS[1]) or '', 1, 24) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`
	// KEYS: holders, mark. ARGV: session, time of the transition, until, TTL of the holders, TTL of the mark.
	acquireScript = `
local left = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
if left < 0 and -left >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], '0', 'XX', 'PX', ARGV[5])
return 1`
	// KEYS: holders. ARGV: session, until, TTL of the holders.
	holdScript = `
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0') <= 0 then return 0 end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`
	// KEYS: holders, mark. ARGV: session, time of the transition, now, whether it has another ticket, TTL of the mark.
	releaseScript = `
redis.call('ZADD', KEYS[1], '-' .. ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], 60000 - tonumber(ARGV[3]), ARGV[3])
if redis.call('PTTL', KEYS[1]) < 60000 then redis.call('PEXPIRE', KEYS[1], 60000) end
local mark = redis.call('GET', KEYS[2])
if ARGV[4] == '1' or mark then
  local since = '0'
  if redis.call('ZCOUNT', KEYS[1], '(0', '+inf') == 0 then
    since = ARGV[2]
    if mark and tonumber(mark) > tonumber(since) then since = mark end
  end
  redis.call('SET', KEYS[2], since, 'PX', ARGV[5])
end
return 1`
)

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func at(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// supersessionLife is how long the mark of a ticket is kept: longer than the ticket can be redeemed without being
// issued again.
func supersessionLife(r session.Record) time.Duration { return max(2*r.Lifetime, time.Second) }

// transition is a change of the ticket that a session holds.
type transition struct {
	id       string
	idle     time.Duration
	had, has session.Record // zero: the session began, or ended
	at       time.Time
}

const (
	maxTransitions = 4096
	retryTime      = 200 * time.Millisecond
	lastRetry      = 10 * time.Minute // older transitions are dropped
)

// enqueue records a transition. It is written in the background, because a superseded ticket can be used for the grace
// anyway; by one goroutine, so that the transitions of a session keep their order.
func (s *Store) enqueue(one transition) {
	if one.had.Content == one.has.Content {
		return
	}
	select {
	case s.transitions <- one:
	default: // the server has been down for too long
		s.conn.commands.refused.Add(1)
	}
}

// flushLoop writes transitions until ctx is done: all that wait at once, so that a distant server keeps up.
func (s *Store) flushLoop(ctx context.Context) {
	var batch []transition
	for {
		var more <-chan transition
		var retry <-chan time.Time
		if len(batch) < maxBatch {
			more = s.transitions
		}
		if len(batch) > 0 {
			retry = time.After(retryTime)
		}
		select {
		case <-ctx.Done():
			return
		case <-retry:
		case one := <-more:
			batch = append(batch, one)
		}
		for len(batch) < maxBatch && len(s.transitions) > 0 {
			batch = append(batch, <-s.transitions)
		}
		batch = s.flush(ctx, batch)
	}
}

// flush writes transitions, and returns those to retry: those that failed, and later ones of the same session.
func (s *Store) flush(ctx context.Context, batch []transition) (again []transition) {
	failed := slices.Repeat([]bool{true}, len(batch)) // until they are answered
	err := s.conn.doInBackground(ctx, func(ctx context.Context, client valkey.Client) error {
		var commands valkey.Commands
		var of []int // the transition of each command
		for i, one := range batch {
			for _, v := range *s.keyring.Load() {
				for _, command := range append(s.acquire(client, v, one), s.release(client, v, one)...) {
					commands, of = append(commands, command), append(of, i)
				}
			}
		}
		answers := client.DoMulti(ctx, commands...)
		clear(failed)
		for i, answer := range answers {
			failed[of[i]] = failed[of[i]] || answer.Error() != nil
		}
		return firstError(answers)
	})
	waits := map[string]bool{}
	for i, one := range batch {
		if err != nil && (failed[i] || waits[one.id]) && s.now().Sub(one.at) < lastRetry {
			waits[one.id] = true
			again = append(again, one)
		}
	}
	return again
}

// acquire makes a session a holder of a ticket.
func (s *Store) acquire(client valkey.Client, v ringKey, one transition) valkey.Commands {
	content, life := one.has.Content, sessionLife(one.idle)
	if content == "" {
		return nil
	}
	return valkey.Commands{
		client.B().Eval().Script(acquireScript).Numkeys(2).Key(v.key(holders, content), v.key(replaced, content)).
			Arg(v.key(sessions, one.id), at(one.at), at(one.at.Add(life)), milliseconds(life),
				milliseconds(supersessionLife(one.has))).
			Build(),
	}
}

// release ends a session's hold on a ticket: it has another now, or it has ended.
func (s *Store) release(client valkey.Client, v ringKey, one transition) valkey.Commands {
	content, hasAnother := one.had.Content, "0"
	if content == "" {
		return nil
	}
	if one.has.Content != "" {
		hasAnother = "1"
	}
	return valkey.Commands{
		client.B().Eval().Script(releaseScript).Numkeys(2).Key(v.key(holders, content), v.key(replaced, content)).
			Arg(v.key(sessions, one.id), at(one.at), at(s.now()), hasAnother, milliseconds(supersessionLife(one.had))).Build(),
	}
}
