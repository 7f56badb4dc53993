package main

import (
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
)

// waiters measures what calls cost that wait for their turn: bytes each, and time per permit with 1,000 and with 10,000 of them.
func waiters(t *testing.T) string {
	const n = 10_000
	text := fmt.Sprintf("   a call that waits for its turn takes %d bytes, with its goroutine; one that waits for its response %d\n",
		callBytes(t, n, true), callBytes(t, n, false))
	var few, many time.Duration
	for range 3 { // the best of several: other work on the machine only adds
		few, many = best(few, perPermit(t, 1000)), best(many, perPermit(t, n))
	}
	return text + fmt.Sprintf("   a permit: %s with 1,000 waiting, %s with 10,000 (%.2f ×)\n", few, many, float64(many)/float64(few))
}

func best(so, d time.Duration) time.Duration {
	if so == 0 {
		return d
	}
	return min(so, d)
}

// callBytes is the memory of one of n calls that wait in the queue, or else for their response.
func callBytes(t *testing.T, n int, queued bool) (bytes int) {
	synctest.Test(t, func(t *testing.T) {
		rejected, done := false, make(chan struct{})
		rt := &ovhauth.RetryTransport{Base: roundTripper(func(req *http.Request) (*http.Response, error) {
			if queued && !rejected {
				rejected = true
				return &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {"300"}}, Body: http.NoBody, Request: req}, nil
			}
			<-done
			return &http.Response{StatusCode: 200, Body: http.NoBody, Request: req}, nil
		})}
		var wg sync.WaitGroup
		get := func() { wg.Go(func() { call(rt) }) }
		get() // the first call is rejected, or grows what all calls share
		synctest.Wait()
		before := memory()
		for range n {
			get()
		}
		synctest.Wait()
		bytes = (memory() - before) / n
		close(done)
		wg.Wait()
	})
	return bytes
}

// memory is what the heap and the stacks take.
func memory() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// perPermit is the time that one permit takes while n calls wait, with the whole simulated call. Two runs that differ only in how
// many calls are made show it without what making n goroutines costs.
func perPermit(t *testing.T, n int) time.Duration {
	const more = 200_000
	run := func(calls int) time.Duration {
		began := time.Now()
		Run(t, Scenario{Quota: Q{Kind: "bucket", N: 100, Per: time.Second, Burst: 100}, Workers: n, Calls: calls}, &stacks[0])
		return time.Since(began)
	}
	short := run(n + 1000)
	return (run(n+1000+more) - short) / more
}

func call(rt http.RoundTripper) bool {
	req, err := http.NewRequest("GET", "https://eu.api.ovh.com/1.0/me", nil)
	if err != nil {
		return false
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
