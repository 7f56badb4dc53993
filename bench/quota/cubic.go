package main

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// cubic is a client as AWS's SDKs have it in the retry mode "adaptive", written after their common specification: four retries, a
// budget of 500 tokens, and a token bucket whose rate a throttling response multiplies by 0.7, and which grows then as CUBIC does.
// Their backoff ignores Retry-After.
type cubic struct {
	base http.RoundTripper

	mu      sync.Mutex
	budget  int
	enabled bool // by the first 429

	// the bucket
	fill, most, tokens float64
	filled             time.Time

	// the rate that is measured, in steps of half a second
	start    time.Time
	bucket   float64
	requests float64
	measured float64

	// CUBIC
	lastMax, window float64
	lastThrottle    float64
}

func newCubic(base http.RoundTripper) *cubic {
	return &cubic{base: base, budget: 500, start: time.Now()}
}

func (c *cubic) RoundTrip(req *http.Request) (*http.Response, error) {
	for n := 0; ; n++ {
		if err := c.acquire(req.Context()); err != nil {
			return nil, err
		}
		resp, err := send(c.base, req, n)
		if err != nil {
			return nil, err
		}
		throttled := resp.StatusCode == http.StatusTooManyRequests
		again := throttled || resp.StatusCode == http.StatusServiceUnavailable && req.Method == http.MethodGet
		c.update(throttled)
		if !again || n == 4 || !c.spend() {
			c.refund(again, n)
			return resp, nil
		}
		resp.Body.Close()
		wait := rand.Float64() * min(20, math.Exp2(float64(n)))
		if err := pause(req.Context(), time.Duration(wait*float64(time.Second))); err != nil {
			return nil, err
		}
	}
}

func (c *cubic) spend() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.budget < 5 {
		return false
	}
	c.budget -= 5
	return true
}

func (c *cubic) refund(failed bool, retries int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !failed {
		c.budget = min(500, c.budget+max(1, 5*min(retries, 1))) // the specification gives back the last retry's
	}
}

// acquire takes a token, in advance if there is none, and waits for as long as it takes to fill.
func (c *cubic) acquire(ctx context.Context) error {
	c.mu.Lock()
	if !c.enabled {
		c.mu.Unlock()
		return nil
	}
	c.refill()
	c.tokens--
	wait := max(0, -c.tokens/c.fill)
	c.mu.Unlock()
	return pause(ctx, time.Duration(wait*float64(time.Second)))
}

func (c *cubic) refill() {
	now := time.Now()
	if !c.filled.IsZero() {
		c.tokens = min(c.most, c.tokens+now.Sub(c.filled).Seconds()*c.fill)
	}
	c.filled = now
}

func (c *cubic) update(throttled bool) {
	const beta, scale = 0.7, 0.4
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Since(c.start).Seconds()
	c.requests++
	if bucket := math.Floor(now*2) / 2; bucket > c.bucket {
		c.measured = 0.8*c.requests/(bucket-c.bucket) + 0.2*c.measured
		c.requests, c.bucket = 0, bucket
	}
	var calculated float64
	if throttled {
		used := c.measured
		if c.enabled {
			used = min(used, c.fill)
		}
		c.lastMax, c.lastThrottle, c.enabled = used, now, true
		c.window = math.Cbrt(c.lastMax * (1 - beta) / scale)
		calculated = used * beta
	} else {
		x := now - c.lastThrottle - c.window
		calculated = scale*x*x*x + c.lastMax
	}
	c.refill()
	c.fill = max(0.5, min(calculated, 2*c.measured))
	c.most = max(1, c.fill)
	c.tokens = min(c.tokens, c.most)
}
