package main

import (
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
	"example.com/ovhauth/redislimit"
)

const learners, learnerGoroutines, quota = 20, 4, 60

// lesson is what it cost to learn a quota.
type lesson struct {
	window              time.Duration
	retryAfter          string
	calls, failed       int
	rejected, avoidable int // 429s; those that a pod got when it had got one before
	took, ideal         time.Duration
}

// network delays the requests of one pod, and counts its 429s.
type network struct {
	base http.RoundTripper
	told atomic.Bool
	note func(avoidable bool)
}

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	knew := n.told.Load()
	time.Sleep(20*time.Millisecond + rand.N(40*time.Millisecond))
	resp, err := n.base.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusTooManyRequests {
		n.told.Store(true)
		n.note(knew)
	}
	return resp, err
}

func learn(server *redisServer, window time.Duration, calls int, retryAfter string) lesson {
	api := ovhtest.NewServer()
	defer api.Close()
	api.LimitRate(quota, window, retryAfter)
	l := lesson{window: window, retryAfter: retryAfter, calls: calls, ideal: time.Duration((calls-1)/quota) * window}
	var mu sync.Mutex
	var trips atomic.Int64
	jobs := make(chan int, calls)
	for i := range calls {
		jobs <- i
	}
	close(jobs)
	began := time.Now()
	var wg sync.WaitGroup
	for range learners {
		rdb := server.pod(near, &trips)
		defer rdb.Close()
		note := func(avoidable bool) {
			mu.Lock()
			defer mu.Unlock()
			l.rejected++
			if avoidable {
				l.avoidable++
			}
		}
		client := &http.Client{Transport: &ovhauth.RetryTransport{
			Limiter: &redislimit.Limiter{Redis: rdb, Key: "unknown " + retryAfter},
			Base:    &network{base: &ovhauth.Transport{Endpoint: api.Endpoint(), Credentials: api.Credentials()}, note: note},
		}}
		for range learnerGoroutines {
			wg.Go(func() {
				for range jobs {
					resp, err := client.Get("/me")
					if err == nil {
						resp.Body.Close()
					}
					if err != nil || resp.StatusCode != http.StatusOK {
						mu.Lock()
						l.failed++
						mu.Unlock()
					}
				}
			})
		}
	}
	wg.Wait()
	l.took = time.Since(began)
	return l
}
