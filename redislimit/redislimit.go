// Package redislimit lets a fleet of machines share one OVHcloud account through a Redis: its request quota, or what 429 responses
// teach about it ([Limiter]), and its OAuth2 access token ([TokenCache]).
//
//	rdb := redis.NewClient(&redis.Options{Addr: "redis.internal:6379"})
//	client := &http.Client{Transport: &ovhauth.RetryTransport{
//		Limiter: &redislimit.Limiter{Redis: rdb, Key: "prod", Requests: 60},
//		Base: &ovhauth.Transport{Credentials: &redislimit.TokenCache{
//			Redis: rdb, Name: "prod", Secret: clientSecret,
//			Provider: ovhauth.ServiceAccount(ovhauth.EU, clientID, clientSecret),
//		}},
//	}}
//
// It needs Redis 6 or newer, alone, behind sentinels or as a cluster. Every command is about one key, and the name of every key
// begins with "ovhauth:". A user of Redis with these permissions is enough:
//
//	ACL SETUSER ovhauth on >password resetkeys ~ovhauth:* -@all +eval +get +set +del +pttl +time
//
// For a cluster, add +cluster|slots +cluster|shards +readonly, or for Redis 6 +cluster +readonly.
//
// Neither type needs SHA-1: both work under GODEBUG=fips140=only.
package redislimit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrUnavailable is matched by every error about Redis itself: it was not reached, did not respond in time, or responded with an
// error. The text says which of these, and the cause is wrapped.
var ErrUnavailable = errors.New("redislimit: Redis is not available")

// defaultTimeout bounds one round trip to Redis, even if the client itself would wait longer.
const defaultTimeout = 2 * time.Second

func timeoutOf(d time.Duration) time.Duration {
	if d <= 0 {
		return defaultTimeout
	}
	return d
}

// ask lets fn talk to Redis for at most timeout. It returns in time even if fn does not: while a go-redis client reads, it ignores
// the context's deadline, unless its ContextTimeoutEnabled is set. fn then ends in the background, by the client's own timeouts.
func ask[T any](ctx context.Context, timeout time.Duration, fn func(context.Context) (T, error)) (T, error) {
	timeout = timeoutOf(timeout)
	bounded, cancel := context.WithTimeout(ctx, timeout)
	type response struct {
		value T
		err   error
	}
	responses := make(chan response, 1)
	go func() {
		defer cancel()
		value, err := fn(bounded)
		responses <- response{value, err}
	}()
	r := response{err: context.DeadlineExceeded}
	select {
	case r = <-responses:
	case <-bounded.Done():
		select { // a response also ends bounded, and must not be lost
		case r = <-responses:
		default:
		}
	}
	if r.err == nil {
		return r.value, nil
	}
	if ended := ctx.Err(); ended != nil {
		return r.value, ended
	}
	return r.value, trouble(r.err, timeout)
}

// troubles are Redis's error responses, and what each of them means.
var troubles = []struct{ text, means string }{
	{"LOADING", "it is loading its data"},
	{"OOM ", "it is out of memory; raise its maxmemory"},
	{"NOAUTH", "it wants a password; check the client's Username and Password"},
	{"unauthenticated", "it wants a password; check the client's Username and Password"}, // the response to a long command, such as a script
	{"WRONGPASS", "it rejects the password; check the client's Username and Password"},
	{"NOPERM", "it gives no permission; the package's documentation has the ACL that is needed"},
	{"can't run this command", "it gives no permission; the package's documentation has the ACL that is needed"},
	{"READONLY", "it is read-only, a replica; check that the client finds the master"},
	{"MISCONF", "it cannot write to its disk, and is read-only until it can"},
	{"NOREPLICAS", "it has too few replicas, and is read-only until it has enough"},
	{"MASTERDOWN", "its master is down"},
	{"CLUSTERDOWN", "its cluster is down"},
}

// trouble makes an error of what a client of Redis returned.
func trouble(err error, timeout time.Duration) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: it is unreachable: no response within %s", ErrUnavailable, timeout)
	}
	for _, t := range troubles {
		if strings.Contains(err.Error(), t.text) {
			return fmt.Errorf("%w: %s: %w", ErrUnavailable, t.means, err)
		}
	}
	if isResponse(err) {
		return fmt.Errorf("%w: it responded with an error: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: it is unreachable; check that it runs, and its address: %w", ErrUnavailable, err)
}

// isResponse reports whether Redis responded with err. If not, the connection failed.
func isResponse(err error) bool {
	_, ok := errors.AsType[interface {
		error
		RedisError()
	}](err)
	return ok
}

// isForbidden reports whether waiting is useless because somebody has to change a permission first.
func isForbidden(err error) bool {
	for _, text := range []string{"NOAUTH", "unauthenticated", "WRONGPASS", "NOPERM", "can't run this command"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}
