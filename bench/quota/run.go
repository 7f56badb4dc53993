package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
)

// Scenario is one row of the table: an API, and those who call it.
type Scenario struct {
	Name       string
	Quota      Q
	RetryAfter RetryAfter
	Latency    time.Duration // 0 means 80 ms
	Jitter     float64       // 0.5: from half to one and a half of it

	Procs, Workers int // 0 means 1 and 64; every process has a stack of its own
	Calls          int // of all together; 0 means 1000
	Posts          float64
	Burst          int           // calls of one burst, with a pause of Idle behind each; 0: all at once
	Idle           time.Duration //
	Deadline       time.Duration // of each call's context

	Other       bool // another client takes half of the quota, evenly
	ChangeAt    time.Duration
	ChangeBy    float64 // the quota, from ChangeAt on, times this
	Unavailable float64 // share of GETs that get a 503
	SpuriousAt  int     // this request, counted from 1, gets a 429 for no reason
	Hopeless    bool    // nothing is granted for so long that the 429 is handed to the caller
	Routes      int     // the calls go to so many routes in turn, under one quota
	RouteQuota  Q       // of the paths /1.0/limited/…, which are half of all calls
}

func (s Scenario) fill() Scenario {
	or := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	or(&s.Procs, 1)
	or(&s.Workers, 64)
	or(&s.Calls, 1000)
	if s.Latency == 0 {
		s.Latency = 80 * time.Millisecond
	}
	if s.RetryAfter == "" {
		s.RetryAfter = Ceil
	}
	if s.Burst == 0 {
		s.Burst = s.Calls
	}
	return s
}

// Result is what came of it.
type Result struct {
	OK, Failed   int
	Unexcused    int           // failures that no deadline of the call's own and no hopeless quota explains
	Rejected     int           // 429s
	Late         int           // those of requests sent when their process had been told already: the avoidable ones
	Busy         time.Duration // until the last call was done, without the pauses
	Slowest      time.Duration // call that succeeded
	Innocent     time.Duration // mean of the calls to a route without a quota, if there is one
	Wasted       time.Duration // mean of what the failed calls took: a hopeless one should fail at once
	FirstFailure string
	Done         []time.Duration // when each call succeeded
}

func (r Result) late() float64 { return float64(r.Late) / float64(max(1, r.OK)) }

// limited reports whether there is a quota.
func (s Scenario) limited() bool { return s.Quota.Kind != "" || s.RouteQuota.Kind != "" }

// share is what one process may send per second: its part of the quota. Without one it is infinite.
func (s Scenario) share() float64 {
	q := s.Quota
	if q.Kind == "" {
		q = s.RouteQuota
	}
	switch {
	case q.Kind == "":
		return math.Inf(1)
	case s.Other:
		q.N /= 2
	}
	return q.N / q.Per.Seconds() / float64(max(1, s.Procs))
}

// excuses reports whether a call may fail in this way.
func (s Scenario) excuses(resp *http.Response, err error) bool {
	api, ok := errors.AsType[*ovhauth.APIError](err)
	rejected := resp != nil && resp.StatusCode == http.StatusTooManyRequests || ok && api.StatusCode == http.StatusTooManyRequests
	return s.Deadline > 0 && (rejected || errors.Is(err, context.DeadlineExceeded)) || s.Hopeless && rejected
}

// Run runs the scenario once. A nil stack is an oracle that knows the quota: the ideal.
func Run(t *testing.T, s Scenario, stack *Stack) (r Result) {
	s = s.fill()
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(s, stack == nil)
		done := make(chan struct{})
		if s.Other && stack != nil {
			go a.other(done)
		}
		var mu sync.Mutex
		var innocent []time.Duration
		var clients []*http.Client
		for range s.Procs {
			var rt http.RoundTripper = &process{api: a}
			if stack != nil {
				rt = stack.New(s, rt)
			}
			clients = append(clients, &http.Client{Transport: rt})
		}
		call := func(c *http.Client, i int) {
			ctx, cancel := context.Background(), context.CancelFunc(func() {})
			if s.Deadline > 0 {
				ctx, cancel = context.WithTimeout(ctx, s.Deadline)
			}
			defer cancel()
			path := "me"
			if s.RouteQuota.N > 0 {
				path = []string{"limited/x", "me"}[i%2]
			}
			if s.Routes > 0 {
				path = fmt.Sprintf("route%d/x", i%s.Routes)
			}
			method, body := "GET", ""
			if s.Posts > 0 && float64(i%100) < 100*s.Posts {
				method, body = "POST", "{}"
			}
			var req *http.Request
			if body == "" {
				req, _ = http.NewRequestWithContext(ctx, method, "https://eu.api.ovh.com/1.0/"+path, nil)
			} else {
				req, _ = http.NewRequestWithContext(ctx, method, "https://eu.api.ovh.com/1.0/"+path, strings.NewReader(body))
			}
			began := time.Now()
			resp, err := c.Do(req)
			took := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && resp.StatusCode == 200 {
				r.OK++
				r.Slowest = max(r.Slowest, took)
				r.Done = append(r.Done, time.Since(a.start))
			} else {
				r.Wasted += took
				if !s.excuses(resp, err) {
					r.Unexcused++
				}
				if r.Failed++; r.Failed == 1 {
					r.FirstFailure = fmt.Sprint(err)
					if err == nil {
						r.FirstFailure = fmt.Sprint(resp.StatusCode)
					}
				}
			}
			if path == "me" {
				innocent = append(innocent, took)
			}
			if err == nil {
				resp.Body.Close()
			}
		}
		for first := 0; first < s.Calls; first += s.Burst {
			began := time.Now()
			jobs := make(chan int, s.Burst)
			for i := first; i < min(s.Calls, first+s.Burst); i++ {
				jobs <- i
			}
			close(jobs)
			var wg sync.WaitGroup
			for _, c := range clients {
				for range s.Workers {
					wg.Go(func() {
						for i := range jobs {
							call(c, i)
						}
					})
				}
			}
			wg.Wait()
			r.Busy += time.Since(began)
			if first+s.Burst < s.Calls {
				time.Sleep(s.Idle)
			}
		}
		r.Rejected, r.Late = a.rejected, a.late
		r.Wasted /= time.Duration(max(1, r.Failed))
		if s.RouteQuota.N > 0 {
			slices.Sort(innocent)
			for _, d := range innocent {
				r.Innocent += d / time.Duration(len(innocent))
			}
		}
		close(done)
		for _, c := range clients {
			c.CloseIdleConnections()
		}
		time.Sleep(time.Hour) // for what is still to time out
	})
	return r
}

// header is the table's.
func header(stacks []Stack) string {
	names, line := "| scenario (each cell: time ÷ ideal, avoidable 429s per success) |", "|---|"
	for _, s := range stacks {
		names, line = names+" "+s.Name+" |", line+"---|"
	}
	return names + " notes on the first |\n" + line + "---|"
}

// cell is one stack's in a row of the table. Where many calls fail the time says nothing: it is fast to fail.
func cell(r, ideal Result) string {
	time := fmt.Sprintf("%.2f ×, ", ratio(r, ideal))
	if r.Failed > r.OK/10 {
		time = ""
	}
	failed := ""
	if r.Failed > 0 {
		failed = fmt.Sprintf("**%d failed**, ", r.Failed)
	}
	return fmt.Sprintf(" %s%s%.3f |", failed, time, r.late())
}

// notes are what else is worth knowing of a row.
func notes(r Result) string {
	text := fmt.Sprintf(" slowest call %s", r.Slowest.Round(10*time.Millisecond))
	if r.Innocent > 0 {
		text += fmt.Sprintf(", on the route without a quota %s on average", r.Innocent.Round(time.Millisecond))
	}
	if r.Failed > 0 {
		text += fmt.Sprintf(", a failed call took %s on average: %.60s", r.Wasted.Round(10*time.Millisecond), r.FirstFailure)
	}
	return text + " |"
}
