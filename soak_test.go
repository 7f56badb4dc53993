package ovhauth_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

var soak = flag.Duration("soak", 0, "how long TestSoak goes on, for 100,000 requests at least; 0 means one round of 2,500")

// TestSoak sends random requests from many goroutines through random faults, and compares what the callers were told with what
// the server has recorded: over sockets without 429s, and in virtual time through storms of them.
func TestSoak(t *testing.T) {
	rates := []float64{0.15, 0.05, 0.6} // of faults; the last one empties the retry budget
	start, sent := time.Now(), 0
	var total tally
	for sent == 0 || time.Since(start) < *soak || *soak > 0 && sent < 100_000 {
		rate := rates[sent/soakRequests%len(rates)]
		total.add(soakSockets(t, rate))
		total.add(soakStorm(t, rate))
		if sent += 2 * soakRequests; t.Failed() {
			break
		}
	}
	t.Logf("%d requests, %d arrivals, %d executions in %s: %d succeeded, %d rejected, %d failed, %d given up by the caller; "+
		"%d not to be executed twice", sent, total.arrived, total.executed, time.Since(start).Round(time.Millisecond),
		total.succeeded, total.rejected, total.failed, total.givenUp, total.once)
}

// soakSockets runs a round over loopback, and looks for connections and goroutines that are left.
func soakSockets(t *testing.T, rate float64) tally {
	goroutines := runtime.NumGoroutine()
	srv := ovhtest.NewServer()
	var open atomic.Int32
	pool := &http.Transport{MaxIdleConnsPerHost: soakWorkers, ResponseHeaderTimeout: 500 * time.Millisecond, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if rand.Float64() < rate/4 {
			addr = "127.0.0.1:1" // where nobody listens
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		open.Add(1)
		return &countedConn{Conn: conn, open: &open}, nil
	}}
	calls := soakRound(srv, pool, rate, 20*time.Millisecond, http.StatusServiceUnavailable)
	eventually(t, "connections left", func() int { return int(open.Load()) })
	srv.Close() // waits for its handlers: the record is complete now
	eventually(t, "goroutines that were not there before", func() int { return runtime.NumGoroutine() - goroutines })
	return audit(t, srv, calls)
}

// soakStorm runs a round in virtual time, over a quota that the round exceeds, with further 429s at random. No call may end in one.
func soakStorm(t *testing.T, rate float64) (sum tally) {
	synctest.Test(t, func(t *testing.T) {
		srv := ovhtest.NewPipeServer()
		srv.LimitRate(120, time.Minute, "")
		srv.SetTolerance(time.Hour) // a delay of a minute takes a minute here
		calls := soakRound(srv, srv.Transport(), rate, 2*time.Minute, http.StatusTooManyRequests)
		srv.Close()
		storm := 0
		for _, x := range srv.Exchanges() {
			if x.Status == http.StatusTooManyRequests {
				storm++
			}
		}
		for id, c := range calls {
			if c.status == http.StatusTooManyRequests && !c.impatient {
				t.Errorf("%s %d ended in a 429, want it sent again", c.method, id)
			}
		}
		if storm == 0 {
			t.Error("there was no 429, want a storm of them")
		}
		sum = audit(t, srv, calls)
	})
	return sum
}

const soakRequests, soakWorkers = 2500, 64 // in a round

// A soakCall is a request, and what its caller was told.
type soakCall struct {
	method    string
	key       bool // an Idempotency-Key is set
	size      int
	impatient bool // its context ends before long

	status int
	err    error // of the call, or of reading the response
}

// once reports whether the call must not be executed twice.
func (c *soakCall) once() bool { return (c.method == "POST" || c.method == "PATCH") && !c.key }

func (c *soakCall) body(id int) string { return strings.Repeat(fmt.Sprintf("%d,", id), c.size) }

type tally struct{ arrived, executed, succeeded, rejected, failed, givenUp, once int }

func (a *tally) add(b tally) {
	a.arrived += b.arrived
	a.executed += b.executed
	a.succeeded += b.succeeded
	a.rejected += b.rejected
	a.failed += b.failed
	a.givenUp += b.givenUp
	a.once += b.once
}

// soakRound sends the requests. patience bounds the deadlines of impatient callers; throttle is one of the statuses of faults.
func soakRound(srv *ovhtest.Server, base http.RoundTripper, rate float64, patience time.Duration, throttle int) []soakCall {
	srv.InjectFunc(func(*http.Request) *ovhtest.Fault {
		if rand.Float64() > rate {
			return nil
		}
		return soakFault(throttle)
	})
	srv.Handle("/soak/{id}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("response ", 100))
	}))
	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Base:    &ovhauth.Transport{Endpoint: srv.Endpoint(), Credentials: srv.Credentials(), Base: base},
		MinWait: time.Millisecond, MaxWait: 2 * time.Second,
	}}

	calls := make([]soakCall, soakRequests)
	var next atomic.Int32
	var workers sync.WaitGroup
	for range soakWorkers {
		workers.Go(func() {
			for id := int(next.Add(1)) - 1; id < len(calls); id = int(next.Add(1)) - 1 {
				calls[id].run(client, id, patience)
			}
		})
	}
	workers.Wait()
	client.CloseIdleConnections()
	return calls
}

// eventually fails the test, and shows all goroutines, unless count comes down to nothing.
func eventually(t *testing.T, what string, count func() int) {
	t.Helper()
	for start := time.Now(); count() > 0; runtime.Gosched() {
		if time.Since(start) > 10*time.Second {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d %s:\n%s", count(), what, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

func soakFault(throttle int) *ovhtest.Fault {
	status := []int{throttle, 403, 408, 500, 502, 503, 504}[rand.IntN(7)]
	after := []string{"", "0", "-1", "3600", "9223372037", "soon",
		"Fri, 31 Dec 1999 23:59:59 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"}
	header := http.Header{"Retry-After": {after[rand.IntN(len(after))]}}
	if rand.IntN(2000) == 0 {
		header.Set("Retry-After", "1") // obeyed by all, so it costs a second
	}
	if status == http.StatusTooManyRequests && len(header.Get("Retry-After")) > 3 {
		header.Del("Retry-After") // an hour or more of it ends every call
	}
	switch rand.IntN(10) {
	case 0:
		return &ovhtest.Fault{Cut: ovhtest.CutBeforeRequest}
	case 1:
		return &ovhtest.Fault{Cut: ovhtest.CutAfterExecution}
	case 2:
		return &ovhtest.Fault{Cut: ovhtest.CutMidAnswer}
	case 3:
		return &ovhtest.Fault{Cut: ovhtest.CutMidAnswer, Status: status, Body: busy}
	case 4:
		if rand.IntN(10) == 0 {
			return &ovhtest.Fault{Delay: time.Minute} // longer than anybody waits
		}
		return &ovhtest.Fault{Delay: rand.N(10 * time.Millisecond)}
	default:
		return &ovhtest.Fault{Status: status, Header: header, Body: busy}
	}
}

type countedConn struct {
	net.Conn
	open *atomic.Int32
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

func (c *soakCall) run(client *http.Client, id int, patience time.Duration) {
	methods := []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "POST", "POST", "PATCH"}
	*c = soakCall{method: methods[rand.IntN(len(methods))], key: rand.IntN(10) == 0, impatient: rand.IntN(10) == 0}
	ctx := context.Background() // nothing that is left over is tidied up by its end
	if c.impatient {
		short, cancel := context.WithTimeout(ctx, rand.N(patience))
		defer cancel()
		ctx = short
	}

	var body io.Reader
	if c.method != "GET" && c.method != "HEAD" && c.method != "OPTIONS" {
		c.size = rand.IntN(500)
		body = strings.NewReader(c.body(id))
		if rand.IntN(10) == 0 {
			body = io.MultiReader(body) // which cannot be opened again
		}
	}
	req, err := http.NewRequestWithContext(ctx, c.method, fmt.Sprintf("/soak/%d", id), body)
	if err != nil {
		c.err = err
		return
	}
	if c.key {
		req.Header.Set("Idempotency-Key", strconv.Itoa(id))
	}
	resp, err := client.Do(req)
	if c.err = err; err == nil {
		c.status = resp.StatusCode
		_, c.err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// audit holds what the callers were told against the server's record.
func audit(t *testing.T, srv *ovhtest.Server, calls []soakCall) (sum tally) {
	executed := make([]int, len(calls))
	for _, x := range srv.Exchanges() {
		_, name, _ := strings.Cut(x.URL, "/soak/")
		id, err := strconv.Atoi(name)
		if err != nil {
			t.Errorf("not one of ours: %s", x)
			continue
		}
		sum.arrived++
		if x.Status != 0 && !x.Verified || x.ErrorCode != "" && x.ErrorCode != "TOO_MANY_REQUESTS" { // faults have no ErrorCode
			t.Errorf("rejected: %s; want it well signed", x)
		}
		if x.Body != nil && string(x.Body) != calls[id].body(id) {
			t.Errorf("%s: %d bytes arrived of %d", x, len(x.Body), len(calls[id].body(id)))
		}
		if x.Executed {
			sum.executed++
			executed[id]++
		}
	}
	for id := range calls {
		c := &calls[id]
		if c.once() {
			sum.once++
			if executed[id] > 1 || executed[id] == 1 && c.status > 200 {
				t.Errorf("%s %d: executed %d times, and the caller was told %d, %v", c.method, id, executed[id], c.status, c.err)
			}
		}
		switch {
		case c.status == 200 && executed[id] == 0:
			t.Errorf("%s %d: got 200 without being executed", c.method, id)
		case c.err != nil && !isTyped(c.err):
			t.Errorf("%s %d: an error that nobody can recognize: %v", c.method, id, c.err)
		case c.err != nil && c.impatient && errors.Is(c.err, context.DeadlineExceeded):
			sum.givenUp++
		case c.err != nil:
			sum.failed++
		case c.status == 200:
			sum.succeeded++
		default:
			sum.rejected++
		}
	}
	return sum
}

// isTyped reports whether a caller can recognize err. DeadlineExceeded are net/http's own timeouts, too; and it may fail a request
// by the context of another one, which ended when that one's connection had just been handed on.
func isTyped(err error) bool {
	for _, target := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.EPIPE,
		context.DeadlineExceeded} {
		if errors.Is(err, target) {
			return true
		}
	}
	if _, ok := errors.AsType[*ovhauth.APIError](err); ok { // a response that could not be kept
		return true
	}
	return strings.Contains(err.Error(), "http: server closed idle connection") // net/http has no type for it
}
