package redislimit

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/redis/go-redis/v9"
)

// Limiter is an [ovhauth.Limiter] that all machines with the same Redis and Key take their turns from. Redis hands these out, by
// its own clock; the machines' clocks do not matter. A caller learns the time of its turn at once and waits for that, first come,
// first served over the whole fleet, however far each machine is from Redis. It asks Redis a second time when its turn comes, as a
// 429 may have moved it. All callers that wait on one machine share these round trips.
//
// In any time of length Per, by Redis's clock, there are at most Requests + Burst - 1 turns. A Redis that has lost its data begins
// anew, with Burst turns at once; callers that are already waiting get new turns. While Redis does not respond, there are none.
//
// With Requests 0 nothing is limited until the API responds 429. [ovhauth.RetryTransport] then calls Throttled, and from then on
// all machines share one rate, which is learned from the 429s. First nothing is sent for the time that Retry-After says, or for a
// second, which doubles until a request is granted. Then all send at the rate that was granted before. Later they send a little
// faster, to find out whether the API grants more. Ten minutes after the last request the rate is forgotten. With Requests set, a
// 429 slows the fleet down in the same way, and the rate comes back to that of Requests.
//
// A Limiter is safe for concurrent use; its fields must not change after the first Wait. A copy shares the quota, and nothing else.
type Limiter struct {
	Redis redis.UniversalClient // required

	// Key names the quota: the account, say. Required. In Redis it is "ovhauth:limit:" and Key.
	Key string

	// Requests is how many may be sent in each Per, by all machines together. 0 means unknown: the rate is learned.
	Requests int

	// Per is the time that Requests counts for. 0 means a minute.
	Per time.Duration

	// Burst is how many requests may be sent at once after a pause. 0 means 1. Without Requests it has no meaning.
	Burst int

	// Timeout bounds one round trip to Redis. 0 means 2 s.
	Timeout time.Duration
}

//go:embed limit.lua
var limitSource string

// limitScript is sent by EVAL: a redis.Script would hash it with SHA-1, which FIPS 140 forbids.
var limitScript = regexp.MustCompile(`(?m)\s*(--.*)?$`).ReplaceAllString(limitSource, "")

// Wait returns nil when it is the caller's turn to send a request. It returns an error at once if the turn would come after the
// context's deadline, which then matches [context.DeadlineExceeded]. If ctx ends while it waits, it gives its turn back and
// returns ctx.Err().
//
// If Redis is in trouble, Wait waits for it to come back until ctx ends, or, if ctx has no deadline, for Timeout. Then the error
// matches [ErrUnavailable], and ctx.Err() too if ctx has ended. A lack of permission is an error at once.
func (l *Limiter) Wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := l.check(); err != nil {
		return err
	}
	return queues.of(l).wait(ctx, *l)
}

// Throttled reports a 429 and its Retry-After (0 for none) to all machines. It returns when Redis has stored that, at the latest
// after Timeout or when ctx ends. If Redis does not respond, nothing is learned.
func (l *Limiter) Throttled(ctx context.Context, retryAfter time.Duration) {
	if l.check() == nil {
		queues.of(l).throttled(ctx, *l, retryAfter)
	}
}

var queues states[Limiter, queue]

func (l *Limiter) check() error {
	switch {
	case l.Redis == nil || l.Key == "":
		return errors.New("redislimit: a Limiter needs Redis and Key")
	case l.Requests < 0 || l.Per < 0 || l.Burst < 0:
		return errors.New("redislimit: a Limiter's Requests, Per and Burst must not be negative")
	}
	return nil
}

// schedule says when turns are. Tickets are numbered, and ticket k has its turn at at + (k - from) · space.
type schedule struct {
	gen    int64     // the generation: tickets of another one are void; 0: nothing is limited
	lesson int64     // grows when a 429 moves turns to a later time
	now    int64     // by Redis's clock, in µs
	sent   time.Time // when Redis was asked
	at     time.Time
	from   int64
	space  time.Duration
	again  time.Duration // after which turns may be earlier than they seem now, so that Redis is asked again; 0 for never
}

func (s *schedule) turn(ticket int64) time.Time {
	return s.at.Add(time.Duration(ticket-s.from) * s.space)
}

// book gives tickets back to Redis and books one for each patience, which is the longest wait that a caller accepts, in µs. If its
// turn would come later, the result has -wait-1 in place of the ticket: wait is the time until that turn.
func (l *Limiter) book(ctx context.Context, gen int64, back []int64, patience []int64) (schedule, []int64, error) {
	args := []any{"book", gen, len(back)}
	for _, k := range append(back, patience...) {
		args = append(args, k)
	}
	return l.eval(ctx, args)
}

func (l *Limiter) teach(ctx context.Context, retryAfter time.Duration) (schedule, error) {
	s, _, err := l.eval(ctx, []any{"throttled", max(0, retryAfter).Microseconds(), 0})
	return s, err
}

func (l *Limiter) eval(ctx context.Context, args []any) (schedule, []int64, error) {
	per, burst := max(1, cmp.Or(l.Per, time.Minute).Microseconds()), max(1, l.Burst)
	if l.Requests == 0 {
		burst = 1
	}
	args = append([]any{l.Requests, per, burst}, args...)
	sent := time.Now()
	reply, err := ask(ctx, l.Timeout, func(ctx context.Context) ([]int64, error) {
		return l.Redis.Eval(ctx, limitScript, []string{"ovhauth:limit:" + l.Key}, args...).Int64Slice()
	})
	if err != nil {
		return schedule{}, nil, err
	}
	const head = 7
	if len(reply) < head {
		return schedule{}, nil, fmt.Errorf("%w: it responded with %d numbers to a script that returns more", ErrUnavailable, len(reply))
	}
	µs := func(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
	return schedule{
		gen: reply[0], lesson: reply[1], now: reply[2], sent: sent,
		at: time.Now().Add(µs(reply[3])), from: reply[4], space: µs(reply[5]), again: µs(reply[6]),
	}, reply[head:], nil
}

// tooLate is the error of a caller whose turn would come after its deadline.
type tooLate struct {
	key  string
	wait time.Duration
}

func (e *tooLate) Error() string {
	return fmt.Sprintf("redislimit: the next free turn of quota %q is in %s: %s",
		e.key, e.wait.Round(time.Millisecond), context.DeadlineExceeded)
}

func (e *tooLate) Unwrap() error { return context.DeadlineExceeded }
