package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"

	"example.com/ovhauth"
	"github.com/hashicorp/go-retryablehttp"
	"golang.org/x/time/rate"
)

// Stack makes what one process has above base, for the quota of a scenario. Only the limiters look at the scenario.
type Stack struct {
	Name string
	New  func(s Scenario, base http.RoundTripper) http.RoundTripper
}

// stacks are the columns of the table. The first is ours.
var stacks = []Stack{
	{"ovhauth", func(_ Scenario, base http.RoundTripper) http.RoundTripper { return &ovhauth.RetryTransport{Base: base} }},
	{"before", func(_ Scenario, base http.RoundTripper) http.RoundTripper { return &before{base: base} }},
	{"go-retryablehttp", hashicorp},
	{"AWS cubic", func(_ Scenario, base http.RoundTripper) http.RoundTripper { return newCubic(base) }},
	{"limiter set right", limiter(1)},
	{"limiter twice too high", limiter(2)},
}

// hashicorp is go-retryablehttp's own client with its defaults, except that it does not log.
func hashicorp(_ Scenario, base http.RoundTripper) http.RoundTripper {
	c := retryablehttp.NewClient()
	c.Logger = nil
	c.HTTPClient = &http.Client{Transport: base}
	return c.StandardClient().Transport
}

// limiter is our RetryTransport with a rate.Limiter of factor times this process's share of the quota, and a burst of 1.
func limiter(factor float64) func(Scenario, http.RoundTripper) http.RoundTripper {
	return func(s Scenario, base http.RoundTripper) http.RoundTripper {
		limit := min(rate.Limit(factor*s.share()), rate.Inf)
		return &ovhauth.RetryTransport{Base: base, Limiter: rate.NewLimiter(max(limit, 1.0/60), 1)}
	}
}

// before is a model of what our RetryTransport did before it learned rates: a 429 is a failure like a 503. It is charged to four
// retries and to a budget of 500 tokens. A Retry-After of up to 30 s is obeyed, and holds all requests to the host until the same
// instant. A longer one is returned. Without one, the wait is random between 0 and 500 ms·2ⁿ, and holds nobody else.
type before struct {
	base http.RoundTripper

	mu    sync.Mutex
	until time.Time
	spent int
}

func (b *before) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	for n := 0; ; n++ {
		if err := b.hold(ctx); err != nil {
			return nil, err
		}
		resp, err := send(b.base, req, n)
		if err != nil {
			return nil, err
		}
		throttled := resp.StatusCode == http.StatusTooManyRequests
		if !throttled && (resp.StatusCode != http.StatusServiceUnavailable || req.Method != http.MethodGet) {
			b.charge(-max(1, 5*n))
			return resp, nil
		}
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		after := time.Duration(seconds) * time.Second
		wait := rand.N(min(30*time.Second, 500*time.Millisecond<<n))
		if after > 0 {
			wait = after
		}
		deadline, bounded := ctx.Deadline()
		if throttled && after > 0 && after <= 30*time.Second {
			b.mu.Lock()
			b.until = time.Now().Add(after)
			b.mu.Unlock()
		}
		if n == 4 || after > 30*time.Second || bounded && !time.Now().Add(wait).Before(deadline) || !b.charge(5) {
			return resp, nil
		}
		resp.Body.Close()
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// hold waits until no request is held back.
func (b *before) hold(ctx context.Context) error {
	for {
		b.mu.Lock()
		wait := time.Until(b.until)
		b.mu.Unlock()
		if wait <= 0 {
			return nil
		}
		if deadline, ok := ctx.Deadline(); ok && time.Now().Add(wait).After(deadline) {
			return context.DeadlineExceeded
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// charge takes tokens of the budget, or gives them back, and reports false if there are not so many.
func (b *before) charge(tokens int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spent+tokens > 500 {
		return false
	}
	b.spent = max(0, b.spent+tokens)
	return true
}

// send sends req for the n-th time, counted from 0.
func send(base http.RoundTripper, req *http.Request, n int) (*http.Response, error) {
	if n > 0 && req.Body != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, errors.New("a body that cannot be sent again")
		}
		req = req.Clone(req.Context())
		req.Body = body
	}
	return base.RoundTrip(req)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
