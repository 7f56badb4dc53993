package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
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
	Idle           time.Duration // the pause
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

// hasQuota reports whether there is a quota.
func (s Scenario) hasQuota() bool { return s.Quota.Kind != "" || s.RouteQuota.Kind != "" }

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
		var clients []*http.Client
		for range s.Procs {
			var rt http.RoundTripper = &process{api: a}
			if stack != nil {
				rt = stack.New(s, rt)
			}
			clients = append(clients, &http.Client{Transport: rt})
		}
		all := &tally{s: s, start: time.Now(), Result: &r}
		for first := 0; first < s.Calls; first += s.Burst {
			r.Busy += all.burst(clients, first, min(s.Calls, first+s.Burst))
			if first+s.Burst < s.Calls {
				time.Sleep(s.Idle)
			}
		}
		r.Rejected, r.Late = a.rejected, a.late
		r.Wasted /= time.Duration(max(1, r.Failed))
		r.Innocent /= time.Duration(max(1, all.innocent))
		close(done)
		for _, c := range clients {
			c.CloseIdleConnections()
		}
		time.Sleep(time.Hour) // for what is still to time out
	})
	return r
}

// tally counts what comes of the calls of a run.
type tally struct {
	s     Scenario
	start time.Time
	mu    sync.Mutex
	*Result
	innocent int // calls to the route without a quota, beside one with
}

// burst makes the calls from first on, by all goroutines of all clients, and returns the time until the last is done.
func (a *tally) burst(clients []*http.Client, first, end int) time.Duration {
	began := time.Now()
	jobs := make(chan int, end-first)
	for i := first; i < end; i++ {
		jobs <- i
	}
	close(jobs)
	var wg sync.WaitGroup
	for _, c := range clients {
		for range a.s.Workers {
			wg.Go(func() {
				for i := range jobs {
					a.call(c, i)
				}
			})
		}
	}
	wg.Wait()
	return time.Since(began)
}

// call makes the call number i.
func (a *tally) call(c *http.Client, i int) {
	ctx := context.Background()
	if a.s.Deadline > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, a.s.Deadline)
		defer cancel()
	}
	path := "me"
	if a.s.RouteQuota.N > 0 && i%2 == 0 {
		path = "limited/x"
	}
	if a.s.Routes > 0 {
		path = fmt.Sprintf("route%d/x", i%a.s.Routes)
	}
	method, body := http.MethodGet, io.Reader(nil)
	if float64(i%100) < 100*a.s.Posts {
		method, body = http.MethodPost, strings.NewReader("{}")
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://eu.api.ovh.com/1.0/"+path, body)
	if err != nil {
		panic(err)
	}
	began := time.Now()
	resp, err := c.Do(req)
	if err == nil {
		defer resp.Body.Close()
	}
	a.count(path, resp, err, time.Since(began))
}

// count counts what came of a call that took so long.
func (a *tally) count(path string, resp *http.Response, err error, took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.s.RouteQuota.N > 0 && path == "me" {
		a.Innocent += took
		a.innocent++
	}
	if err == nil && resp.StatusCode == http.StatusOK {
		a.OK++
		a.Slowest = max(a.Slowest, took)
		a.Done = append(a.Done, time.Since(a.start))
		return
	}
	if a.Failed++; a.Failed == 1 {
		a.FirstFailure = fmt.Sprint(err)
		if err == nil {
			a.FirstFailure = resp.Status
		}
	}
	a.Wasted += took
	if !a.s.excuses(resp, err) {
		a.Unexcused++
	}
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
