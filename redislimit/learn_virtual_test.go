package redislimit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// quota is an API that grants so many requests in each window, and does not say so.
type quota struct {
	kind string // fixed or sliding windows, or a token bucket as large as a window's worth
	n    int
	per  time.Duration

	mu      sync.Mutex
	granted []time.Time
}

// take returns how long a rejected request would have to wait, 0 for one that is granted.
func (q *quota) take(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	var again time.Time
	switch q.kind {
	case "fixed":
		window := now.Truncate(q.per)
		q.granted = slices.DeleteFunc(q.granted, func(t time.Time) bool { return t.Before(window) })
		again = window.Add(q.per)
	case "sliding":
		q.granted = slices.DeleteFunc(q.granted, func(t time.Time) bool { return now.Sub(t) >= q.per })
		if len(q.granted) > 0 {
			again = q.granted[0].Add(q.per)
		}
	case "bucket": // granted are when the tokens come back
		q.granted = slices.DeleteFunc(q.granted, func(t time.Time) bool { return !t.After(now) })
		if len(q.granted) > 0 {
			again = q.granted[0]
		}
	}
	if len(q.granted) == q.n {
		return again.Sub(now)
	}
	at := now
	if q.kind == "bucket" {
		if at = now; len(q.granted) > 0 {
			at = q.granted[len(q.granted)-1]
		}
		at = at.Add(q.per / time.Duration(q.n))
	}
	q.granted = append(q.granted, at)
	return 0
}

// ideal is how long calls take if each is sent as soon as it will be granted.
func ideal(q *quota, calls int) time.Duration {
	began := time.Now()
	now := began
	for range calls {
		for {
			after := q.take(now)
			if after == 0 {
				break
			}
			now = now.Add(after)
		}
	}
	return now.Sub(began)
}

// A fleet that knows no quota loses no call to it, wastes few requests on finding out, and is nearly as fast as one that knows.
func TestAFleetLearnsOneRate(t *testing.T) {
	for _, kind := range []string{"fixed", "sliding", "bucket"} {
		for _, tells := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, Retry-After %t", kind, tells), func(t *testing.T) {
				missed := 0
				for range 3 { // latencies are random, and now and then a run takes a little longer: the median of three counts
					if share, slow := learn(t, kind, tells); share > 0.05 || slow > 1.15 {
						missed++
					}
					if missed == 0 {
						return
					}
				}
				if missed > 1 {
					t.Errorf("%d of 3 runs missed; want at most 0.05 avoidable 429s per success, and 1.15 × the ideal time", missed)
				}
			})
		}
	}
}

// learn has 20 machines share a quota of 60 a minute, and returns the avoidable 429s per success, and the time ÷ the ideal one.
func learn(t *testing.T, kind string, tells bool) (share, slow float64) {
	const pods, goroutines, calls = 20, 4, 1000
	bubble(t, func(t *testing.T) {
		server, api := newLuaServer(), &quota{kind: kind, n: 60, per: time.Minute}
		best := ideal(&quota{kind: kind, n: 60, per: time.Minute}, calls)
		jobs := make(chan int, calls)
		for i := range calls {
			jobs <- i
		}
		close(jobs)
		began := time.Now()
		var mu sync.Mutex
		avoidable := 0
		var wg sync.WaitGroup
		for range pods {
			l, told := &Limiter{Redis: server.client(time.Millisecond), Key: "k"}, false
			call := func() (done bool) {
				if err := l.Wait(context.Background()); err != nil {
					t.Error(err)
					return true
				}
				mu.Lock()
				knew := told
				mu.Unlock()
				time.Sleep(20*time.Millisecond + rand.N(40*time.Millisecond))
				after := api.take(time.Now())
				time.Sleep(20*time.Millisecond + rand.N(40*time.Millisecond))
				if after == 0 {
					return true
				}
				mu.Lock()
				told = true
				if knew { // the first burst costs what it costs
					avoidable++
				}
				mu.Unlock()
				if !tells {
					after = 0
				}
				l.Throttled(context.Background(), (after + time.Second - 1).Truncate(time.Second))
				return false
			}
			for range goroutines {
				wg.Go(func() {
					for range jobs {
						for !call() {
						}
					}
				})
			}
		}
		wg.Wait()
		took := time.Since(began)
		share, slow = float64(avoidable)/calls, float64(took)/float64(best)
		t.Logf("%.3f avoidable 429s per success, %.2f × the ideal time, %d round trips", share, slow, server.asked.Load())
	})
	return share, slow
}
