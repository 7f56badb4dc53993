package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// api is the server of one scenario, as one or more client processes see it.
type api struct {
	s       Scenario
	patient bool // an oracle: it lets a request wait instead of rejecting it. What that takes is the ideal.

	mu        sync.Mutex
	rng       *rand.Rand
	q         quota
	route     quota // of s.RouteQuota's route only
	start     time.Time
	seen      int
	turn      chan struct{} // of the oracle: first come, first served (no mutex: virtual time stands still while one is waited for)
	routeTurn chan struct{}

	rejected, late int // 429s in all; those of requests that left when their process knew of one
}

func newAPI(s Scenario, patient bool) *api {
	a := &api{s: s, patient: patient, rng: rand.New(rand.NewPCG(1, uint64(s.Calls))), start: time.Now(),
		q: s.Quota.make(), route: s.RouteQuota.make(), turn: make(chan struct{}, 1), routeTurn: make(chan struct{}, 1)}
	if patient { // the ideal
		if s.Quota.Kind == "punish" {
			s.Quota.Kind = "sliding"
		}
		if s.Other {
			s.Quota.N, s.Quota.Burst = s.Quota.N/2, s.Quota.Burst/2
		}
		a.q = s.Quota.make()
	}
	if s.ChangeAt > 0 {
		time.AfterFunc(s.ChangeAt, func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.q.scale(s.ChangeBy)
		})
	}
	return a
}

// other takes half of the quota, evenly, until the end.
func (a *api) other(done <-chan struct{}) {
	every := time.Duration(2 * float64(a.s.Quota.Per) / a.s.Quota.N)
	for {
		select {
		case <-done:
			return
		case <-time.After(every):
			a.mu.Lock()
			a.q.take(time.Now())
			a.mu.Unlock()
		}
	}
}

// horizon ends a scenario in which somebody never gives up.
const horizon = 72 * time.Hour

// process is what one client process sees of the API.
type process struct {
	api       *api
	mu        sync.Mutex
	throttled bool // it has been told
}

func (p *process) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if req.Body != nil {
		if b, _ := io.ReadAll(req.Body); len(b) == 0 {
			return nil, fmt.Errorf("a body that is empty: not opened again")
		}
		req.Body.Close()
	}
	if time.Since(p.api.start) > horizon {
		return nil, errors.New("the scenario is over: somebody never gives up")
	}
	p.mu.Lock()
	late := p.throttled
	p.mu.Unlock()
	a := p.api
	there, back := a.latency()
	if err := pause(req.Context(), there); err != nil {
		return nil, err
	}
	status, after := a.decide(req)
	if err := pause(req.Context(), back); err != nil {
		return nil, err
	}
	resp := &http.Response{StatusCode: status, Status: strconv.Itoa(status) + " " + http.StatusText(status), Header: http.Header{},
		Body: io.NopCloser(strings.NewReader("{}")), Request: req, ProtoMajor: 1, ProtoMinor: 1}
	if status == http.StatusTooManyRequests {
		a.mu.Lock()
		a.rejected++
		if late {
			a.late++
		}
		a.mu.Unlock()
		p.mu.Lock()
		p.throttled = true
		p.mu.Unlock()
		if v := a.s.RetryAfter.value(after); v != "" {
			resp.Header.Set("Retry-After", v)
		}
	}
	return resp, nil
}

func (a *api) latency() (there, back time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	j := 1 + a.s.Jitter*(2*a.rng.Float64()-1)
	d := time.Duration(float64(a.s.Latency) * j)
	return d / 2, d - d/2
}

func (a *api) decide(req *http.Request) (int, time.Duration) {
	if a.patient && a.s.Quota.Kind != "" && a.s.Quota.N == 0 {
		return http.StatusTooManyRequests, 0
	}
	if a.patient {
		turn := a.turn
		if a.limited(req) {
			turn = a.routeTurn
		}
		turn <- struct{}{}
		defer func() { <-turn }()
	}
	for {
		a.mu.Lock()
		a.seen++
		if a.seen == a.s.SpuriousAt && !a.patient {
			a.mu.Unlock()
			return http.StatusTooManyRequests, 0
		}
		ok, after := a.q.take(time.Now())
		if ok && a.limited(req) {
			ok, after = a.route.take(time.Now())
		}
		status := http.StatusOK
		if req.Method == "GET" && a.s.Unavailable > 0 && a.rng.Float64() < a.s.Unavailable && ok && !a.patient {
			status = http.StatusServiceUnavailable
		}
		a.mu.Unlock()
		if ok {
			return status, 0
		}
		if !a.patient {
			return http.StatusTooManyRequests, after
		}
		time.Sleep(min(after, time.Second)) // the quota may change
	}
}

func (a *api) limited(req *http.Request) bool {
	return a.s.RouteQuota.N > 0 && strings.HasPrefix(req.URL.Path, "/1.0/limited/")
}

// RetryAfter is how the API words the wait.
type RetryAfter string

const (
	Absent  RetryAfter = "absent"
	Ceil    RetryAfter = "up"      // whole seconds, rounded up: the best that the header can do
	Nearest RetryAfter = "nearest" // may be half a second too small, or 0
	Short   RetryAfter = "half"    // half of what it takes
	One     RetryAfter = "1"       // always 1
)

func (r RetryAfter) value(after time.Duration) string {
	s := after.Seconds()
	switch r {
	case Ceil:
		return strconv.Itoa(int(math.Ceil(s)))
	case Nearest:
		return strconv.Itoa(int(math.Round(s)))
	case Short:
		return strconv.Itoa(int(s / 2))
	case One:
		return "1"
	}
	return ""
}
