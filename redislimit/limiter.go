package redislimit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

// Limiter is an [ovhauth.Limiter] that all machines with the same Redis and Key take from. Redis counts, by its own clock, in
// the script of github.com/go-redis/redis_rate (GCRA); nothing depends on the machines' clocks.
//
// A Redis that has lost its data, by a restart or a failover, starts with a full quota: up to Limit.Burst requests more than
// the limit may be sent then, and no more. While it does not answer, none is.
//
// A Limiter is safe for concurrent use; its fields must not change after the first Wait.
type Limiter struct {
	Redis redis.UniversalClient // required

	// Key names the quota: the account, say. In Redis it is "rate:" and Key.
	Key string

	// Limit is Rate requests in each Period, and up to Burst at once: redis_rate.PerSecond(10). All three are required.
	Limit redis_rate.Limit

	// Timeout bounds one question to Redis. 0 means 2 s.
	Timeout time.Duration

	queue queue
}

// Wait takes one request from the quota, when there is one to be had. It returns an error at once if the context's deadline comes
// before that, which then matches [context.DeadlineExceeded]; ctx.Err() if ctx ends while it waits; and one that matches
// [ErrUnavailable] if Redis does not answer. Those who wait on one machine are served in turn, and ask Redis one at a time.
func (l *Limiter) Wait(ctx context.Context) error {
	if l.Redis == nil || l.Key == "" || l.Limit.Rate < 1 || l.Limit.Burst < 1 || l.Limit.Period <= 0 {
		return errors.New("redislimit: a Limiter needs Redis, Key, and a Limit with Rate, Burst and Period")
	}
	return l.queue.do(ctx, func() error {
		for {
			taken, err := ask(ctx, l.Timeout, func(ctx context.Context) (*redis_rate.Result, error) {
				return redis_rate.NewLimiter(l.Redis).Allow(ctx, l.Key, l.Limit)
			})
			if err != nil {
				return err
			}
			if taken.Allowed > 0 {
				return nil
			}
			if deadline, ok := ctx.Deadline(); ok && taken.RetryAfter >= time.Until(deadline) {
				return &tooLate{l.Key, taken.RetryAfter}
			}
			if err := sleep(ctx, taken.RetryAfter); err != nil {
				return err
			}
		}
	})
}

// tooLate says that there is nothing left for a caller before its deadline. Others may have more time.
type tooLate struct {
	key   string
	after time.Duration
}

func (e *tooLate) Error() string {
	return fmt.Sprintf("redislimit: quota %q is used up for another %s: %s", e.key, e.after, context.DeadlineExceeded)
}

func (e *tooLate) Unwrap() error { return context.DeadlineExceeded }
