package redislimit_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
	"example.com/ovhauth/redislimit"
)

var _ ovhauth.Limiter = &redislimit.Limiter{}

// hurry is a context with a deadline, before which nothing comes back to a quota that never refills.
func hurry(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// burst takes from a quota until it is used up, and returns how often that went well.
func burst(t *testing.T, l *redislimit.Limiter) (n int) {
	t.Helper()
	for ; ; n++ {
		if err := l.Wait(hurry(t)); errors.Is(err, context.DeadlineExceeded) {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLimitersShareAQuota(t *testing.T) {
	rdb := startRedis(t).client()
	limit := redis_rate.Limit{Rate: 1, Period: never, Burst: 5}
	one := &redislimit.Limiter{Redis: rdb, Key: "quota", Limit: limit}
	two := &redislimit.Limiter{Redis: rdb, Key: "quota", Limit: limit}
	other := &redislimit.Limiter{Redis: rdb, Key: "other", Limit: limit}
	for range 3 {
		if err := one.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n, m := burst(t, two), burst(t, other); n != 2 || m != 5 {
		t.Errorf("after 3 of 5 there are %d left, and %d of another quota", n, m)
	}
	err := one.Wait(hurry(t))
	if !strings.HasPrefix(err.Error(), `redislimit: quota "quota" is used up for another `) || errors.Is(err, redislimit.ErrUnavailable) {
		t.Error(err)
	}
}

// What is used up comes back: all get their turn, and none before there is something for it.
func TestWaitsForItsTurn(t *testing.T) {
	l := &redislimit.Limiter{Redis: startRedis(t).client(), Key: "k", Limit: redis_rate.Limit{Rate: 100, Period: time.Second, Burst: 1}}
	start := time.Now()
	var wg sync.WaitGroup
	for range 11 {
		wg.Go(func() {
			if err := l.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took < 95*time.Millisecond {
		t.Errorf("11 at 100 a second took %s", took)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	l := &redislimit.Limiter{Redis: startRedis(t).client(), Key: "k", Limit: redis_rate.Limit{Rate: 1, Period: never, Burst: 1}}
	burst(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for range 3 { // one waits for the quota, the others behind it
		go func() { errs <- l.Wait(ctx) }()
	}
	cancel()
	for range 3 {
		if err := <-errs; err != context.Canceled {
			t.Error(err)
		}
	}
}

// While Redis is away nothing is sent; when it is back, without its data, the burst may be sent once more and that is all.
func TestRedisStopsAndStarts(t *testing.T) {
	s := startRedis(t)
	api := ovhtest.NewServer()
	defer api.Close()
	limiter := &redislimit.Limiter{Redis: s.client(), Key: "k", Limit: redis_rate.Limit{Rate: 1, Period: never, Burst: 4}}
	client := &http.Client{Transport: &ovhauth.RetryTransport{Limiter: limiter, Base: api.Client().Transport}}
	get := func() error {
		req, err := http.NewRequestWithContext(hurry(t), "GET", "/me", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	for range 2 {
		if err := get(); err != nil {
			t.Fatal(err)
		}
	}
	s.kill()
	for range 3 {
		if err := get(); !errors.Is(err, redislimit.ErrUnavailable) || !strings.Contains(err.Error(), "ovhauth: limiter: redislimit: Redis is not available") {
			t.Errorf("Redis is stopped: %v", err)
		}
	}
	if n := len(api.Exchanges()); n != 2 {
		t.Errorf("%d requests sent, want 2", n)
	}
	s.start()
	for get() == nil {
	}
	if n := len(api.Exchanges()); n != 2+4 {
		t.Errorf("%d requests sent, want 2 and a burst of 4", n)
	}
}

// A Redis that takes connections and does not answer costs all who wait one Timeout, not one after the other each.
func TestRedisHangs(t *testing.T) {
	s := startRedis(t)
	var asked atomic.Int64
	slow := redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, ReadTimeout: time.Minute}) // and heeds no deadline
	defer slow.Close()
	slow.AddHook(countCommands{&asked})
	l := &redislimit.Limiter{Redis: slow, Key: "k", Limit: redis_rate.PerHour(1000), Timeout: time.Second}
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked.Store(0)
	s.hang()
	defer s.resume()
	errs := make(chan error)
	for range 20 {
		go func() { errs <- l.Wait(t.Context()) }()
	}
	for range 20 {
		if err := <-errs; !errors.Is(err, redislimit.ErrUnavailable) || !strings.Contains(err.Error(), "no answer within 1s") {
			t.Error(err)
		}
	}
	if n := asked.Load(); n > 10 { // one, unless some came after the second was over
		t.Errorf("Redis was asked %d times", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { errs <- l.Wait(ctx) }()
	cancel()
	if err := <-errs; err != context.Canceled {
		t.Errorf("canceled meanwhile: %v", err)
	}
}

// countCommands counts those that are sent.
type countCommands struct{ n *atomic.Int64 }

func (countCommands) DialHook(next redis.DialHook) redis.DialHook { return next }
func (c countCommands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}
func (countCommands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestLimiterSaysWhatItNeeds(t *testing.T) {
	rdb := connect("nowhere")
	defer rdb.Close()
	for _, l := range []*redislimit.Limiter{
		{},
		{Key: "k", Limit: redis_rate.PerSecond(1)},
		{Redis: rdb, Limit: redis_rate.PerSecond(1)},
		{Redis: rdb, Key: "k"},
		{Redis: rdb, Key: "k", Limit: redis_rate.Limit{Rate: 1, Burst: 1}},
		{Redis: rdb, Key: "k", Limit: redis_rate.Limit{Rate: 1, Period: 1}},
		{Redis: rdb, Key: "k", Limit: redis_rate.Limit{Burst: 1, Period: 1}},
	} {
		if err := l.Wait(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "redislimit: a Limiter needs") {
			t.Error(err)
		}
	}
}
