package redis

import (
	"context"
	"slices"
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
//
// A step may be told late, or twice. So the holders of a ticket are a sorted set in which a session that has it stands with
// the time at which that ends, and one that has left it, for a minute, with the time at which it did, as a negative number:
// by that it cannot come to have the ticket again by a step from before, or of the same millisecond.
const (
	// ARGV: the version it has to have, the text, its life.
	swapScript = `
if string.sub(redis.call('GET', KEYS[1]) or '', 1, 24) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1`
	// KEYS: holders, mark. ARGV: session, time of the step, until, life of the holders, life of the mark.
	acquireScript = `
local left = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0')
if left < 0 and -left >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[2], '0', 'XX', 'PX', ARGV[5])
return 1`
	// KEYS: holders. ARGV: session, until, life of the holders.
	holdScript = `
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '0') <= 0 then return 0 end
redis.call('ZADD', KEYS[1], ARGV[2], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`
	// KEYS: holders, mark. ARGV: session, time of the step, now, whether it has another ticket, life of the mark.
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

// marked is how long the mark of a ticket is kept: longer than the ticket can be redeemed without being minted again.
func marked(r session.Record) time.Duration { return max(2*r.Lifetime, time.Second) }

// step is a change of the ticket that a session has.
type step struct {
	id       string
	idle     time.Duration
	had, has session.Record // zero: it has begun, or ended
	at       time.Time
}

const (
	maxSteps  = 4096
	retryTime = 200 * time.Millisecond
	lastRetry = 10 * time.Minute // that a ticket was replaced longer ago is told no more
)

// advance tells the server of a step, sooner or later: nobody waits for it, for a ticket that is replaced is of use for the
// grace anyway. One goroutine does, so that the steps of a session keep their order.
func (s *Store) advance(one step) {
	if one.had.Content == one.has.Content {
		return
	}
	select {
	case s.steps <- one:
	default: // the server has been away for too long
		s.link.commands.refused.Add(1)
	}
}

// walk takes the steps, until ctx is done: all that wait at once, so that a server that is far takes many too.
func (s *Store) walk(ctx context.Context) {
	var batch []step
	for {
		var more <-chan step
		var retry <-chan time.Time
		if len(batch) < maxBatch {
			more = s.steps
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
		for len(batch) < maxBatch && len(s.steps) > 0 {
			batch = append(batch, <-s.steps)
		}
		batch = s.take(ctx, batch)
	}
}

// take tells the server of steps, and returns those to try again: that failed, or that come after one that did and is of
// the same session.
func (s *Store) take(ctx context.Context, batch []step) (again []step) {
	failed := slices.Repeat([]bool{true}, len(batch)) // until they are answered
	err := s.link.patiently(ctx, func(ctx context.Context, client valkey.Client) error {
		var commands valkey.Commands
		var of []int // the step of each command
		for i, one := range batch {
			for _, v := range *s.vaults.Load() {
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

// acquire says that a session has a ticket.
func (s *Store) acquire(client valkey.Client, v vault, one step) valkey.Commands {
	content, life := one.has.Content, sessionLife(one.idle)
	if content == "" {
		return nil
	}
	return valkey.Commands{client.B().Eval().Script(acquireScript).Numkeys(2).Key(v.key(holders, content), v.key(replaced, content)).
		Arg(v.key(sessions, one.id), at(one.at), at(one.at.Add(life)), milliseconds(life), milliseconds(marked(one.has))).Build()}
}

// release says that a session has a ticket no more: because it has another now, or because it has ended.
func (s *Store) release(client valkey.Client, v vault, one step) valkey.Commands {
	content, hasAnother := one.had.Content, "0"
	if content == "" {
		return nil
	}
	if one.has.Content != "" {
		hasAnother = "1"
	}
	return valkey.Commands{client.B().Eval().Script(releaseScript).Numkeys(2).Key(v.key(holders, content), v.key(replaced, content)).
		Arg(v.key(sessions, one.id), at(one.at), at(s.now()), hasAnother, milliseconds(marked(one.had))).Build()}
}
