// Package redislimit lets a fleet of machines share one OVHcloud account through a Redis: its request quota ([Limiter]) and its
// OAuth2 access token ([TokenCache]).
//
//	rdb := redis.NewClient(&redis.Options{Addr: "redis.internal:6379"})
//	client := &http.Client{Transport: &ovhauth.RetryTransport{
//		Limiter: &redislimit.Limiter{Redis: rdb, Key: "prod", Limit: redis_rate.PerSecond(10)},
//		Base: &ovhauth.Transport{Credentials: &redislimit.TokenCache{
//			Redis: rdb, Name: "prod", Secret: clientSecret,
//			Provider: ovhauth.ServiceAccount(ovhauth.EU, clientID, clientSecret),
//		}},
//	}}
//
// While Redis does not answer, a Limiter lets nothing through, and a TokenCache has the token that this machine knows already, as
// long as that lives. The error is [ErrUnavailable], after at most the Timeout; a request that fails by it has not been sent. Once
// Redis is back, go-redis may take a second to see it. A program that would rather go on at a rate of its own can wrap the
// Limiter and look for that error.
package redislimit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrUnavailable is what errors match that are about Redis: it was not reached, did not answer in time, or answered an error,
// which they wrap.
var ErrUnavailable = errors.New("redislimit: Redis is not available; check that it runs, its address and its password")

// defaultTimeout bounds one question to Redis, whatever the client would wait.
const defaultTimeout = 2 * time.Second

// ask has fn talk to Redis for at most timeout. It returns when ctx ends, even though a go-redis client heeds no deadline of a
// context while it reads, unless its ContextTimeoutEnabled says so: what is left then ends by the client's own timeouts.
func ask[T any](ctx context.Context, timeout time.Duration, fn func(context.Context) (T, error)) (T, error) {
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := fn(bounded)
		answers <- answer{value, err}
	}()
	var a answer
	select {
	case a = <-answers:
		if a.err == nil {
			return a.value, nil
		}
	case <-bounded.Done():
		a.err = fmt.Errorf("no answer within %s", timeout)
	}
	if ended := ctx.Err(); ended != nil {
		return a.value, ended
	}
	return a.value, fmt.Errorf("%w: %w", ErrUnavailable, a.err)
}

// queue lets one goroutine of this machine at a time talk to Redis. The zero value is ready.
type queue struct {
	once   sync.Once
	turn   chan struct{}
	err    error // of the last that failed, for those who were waiting behind it
	failed time.Time
}

// do calls fn when it is this caller's turn. If it fails, so do those who were waiting meanwhile: each would otherwise wait for
// as long again, one after the other.
func (q *queue) do(ctx context.Context, fn func() error) error {
	arrived := time.Now()
	q.once.Do(func() { q.turn = make(chan struct{}, 1) })
	select {
	case q.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-q.turn }()
	if q.failed.After(arrived) {
		return q.err
	}
	err := fn()
	if _, own := errors.AsType[*tooLate](err); err != nil && !own && ctx.Err() == nil {
		q.err, q.failed = err, time.Now()
	}
	return err
}

// sleep waits for d, and returns ctx.Err() if ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
