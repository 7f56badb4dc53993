package ovhauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
)

func TestRetryWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bounds := []time.Duration{0, 1, 2, 4, 5, 5, 5}
		longest := make([]time.Duration, len(bounds))
		for range 300 {
			base := &scripted{outcomes: []any{reply(503)}}
			rt := &ovhauth.RetryTransport{Base: base, MaxRetries: 6, MinWait: time.Second, MaxWait: 5 * time.Second}
			if got := result(get(t, t.Context(), rt)); got != "503" {
				t.Fatalf("got %s, want the last attempt's 503", got)
			}
			if len(base.at) != 7 {
				t.Fatalf("%d attempts, want 7", len(base.at))
			}
			base.outcomes[0].(*http.Response).Body.(*text).check(t, 7)
			for i := 1; i < len(base.at); i++ {
				wait := base.at[i] - base.at[i-1]
				if wait > bounds[i]*time.Second {
					t.Fatalf("wait %d is %s, want at most %d s", i, wait, bounds[i])
				}
				longest[i] = max(longest[i], wait)
			}
		}
		for i, l := range longest {
			if l < bounds[i]*time.Second*8/10 {
				t.Errorf("of 300, the longest wait %d is %s, want some close to the bound of %d s", i, l, bounds[i])
			}
		}
	})
}

func TestRetryDefaults(t *testing.T) {
	inBubble(t, "four retries from 500 ms", func(t *testing.T) {
		var first, fourth time.Duration
		for range 300 {
			base := &scripted{outcomes: []any{io.ErrUnexpectedEOF}}
			if _, err := get(t, t.Context(), &ovhauth.RetryTransport{Base: base}); err != io.ErrUnexpectedEOF {
				t.Fatalf("error %v, want Base's own", err)
			}
			if len(base.at) != 5 {
				t.Fatalf("%d attempts, want 5", len(base.at))
			}
			first = max(first, base.at[1])
			fourth = max(fourth, base.at[4]-base.at[3])
		}
		if first > 500*time.Millisecond || first < 400*time.Millisecond || fourth > 4*time.Second || fourth < 3*time.Second {
			t.Errorf("of 300, the longest first wait is %s, the longest fourth %s; want just under 500 ms and 4 s", first, fourth)
		}
	})
	inBubble(t, "negative MaxRetries", func(t *testing.T) {
		base := &scripted{outcomes: []any{reply(503)}}
		get(t, t.Context(), &ovhauth.RetryTransport{Base: base, MaxRetries: -1})
		if len(base.at) != 1 {
			t.Errorf("%d attempts, want one", len(base.at))
		}
	})
	inBubble(t, "MaxWait of 30 s", func(t *testing.T) {
		for after, want := range map[string]int{"30": 2, "31": 1} {
			base := &scripted{outcomes: []any{reply(503, "Retry-After", after), reply(200)}}
			get(t, t.Context(), &ovhauth.RetryTransport{Base: base})
			if len(base.at) != want {
				t.Errorf("Retry-After %s: %d attempts, want %d", after, len(base.at), want)
			}
		}
	})
}

// wordings of Retry-After, when it is Sat, 01 Jan 2000 00:00:00 GMT
var wordings = []struct {
	name        string
	after, date string
	want        time.Duration // 0: an ordinary wait
}{
	{"seconds", "7", "", 7 * time.Second},
	{"more nanoseconds than an int64 has", "9223372037", "", 1 << 62},
	{"as many seconds as an int64 has", "9223372036854775807", "", 1 << 62},
	{"more seconds than an int64 has", "99999999999999999999", "", 1 << 62},
	{"date", "Sat, 01 Jan 2000 00:00:09 GMT", "", 9 * time.Second},
	{"date of RFC 850", "Saturday, 01-Jan-00 00:00:09 GMT", "", 9 * time.Second},
	{"date of asctime", "Sat Jan  1 00:00:09 2000", "", 9 * time.Second},
	{"date by a server whose clock differs", "Sat, 01 Jan 2000 09:00:09 GMT", "Sat, 01 Jan 2000 09:00:03 GMT", 6 * time.Second},
	{"date far from the server's", "Sat, 01 Jan 2000 00:00:09 GMT", "Fri, 31 Dec 1999 23:00:00 GMT", time.Hour + 9*time.Second},
	{"date, and a Date that is none", "Sat, 01 Jan 2000 00:00:09 GMT", "garbage", 9 * time.Second},
	{"date in an hour", "Sat, 01 Jan 2000 01:00:00 GMT", "", time.Hour},
	{"last date", "Fri, 31 Dec 9999 23:59:59 GMT", "", 1 << 62},
	{"date in the past", "Fri, 31 Dec 1999 23:59:59 GMT", "", 0},
	{"zero", "0", "", 0},
	{"negative", "-5", "", 0},
	{"very negative", "-9223372037", "", 0},
	{"too negative", "-99999999999999999999", "", 0},
	{"fraction", "1.5", "", 0},
	{"word", "soon", "", 0},
	{"none", "", "", 0},
}

// aboutAfter reports whether a wait is what Retry-After asks for, and at most a tenth more.
func aboutAfter(wait, want time.Duration) bool { return wait >= want && wait <= want+want/10 }

func TestRetryAfter(t *testing.T) {
	for _, test := range wordings {
		inBubble(t, test.name, func(t *testing.T) {
			base := &scripted{outcomes: []any{reply(503, "Retry-After", test.after, "Date", test.date), reply(200)}}
			rt := &ovhauth.RetryTransport{Base: base, MinWait: time.Millisecond, MaxWait: 20 * time.Second}
			start := time.Now()
			got := result(get(t, t.Context(), rt))
			switch {
			case test.want > rt.MaxWait:
				if got != "503" || len(base.at) != 1 || time.Since(start) != 0 {
					t.Errorf("%s after %d attempts and %s; want the 503 at once", got, len(base.at), time.Since(start))
				}
			case got != "200" || len(base.at) != 2:
				t.Errorf("%s after %d attempts, want 200 after 2", got, len(base.at))
			case test.want == 0 && base.at[1] > rt.MinWait || test.want > 0 && !aboutAfter(base.at[1], test.want):
				t.Errorf("sent again after %s, want %s and up to a tenth more (0: at most MinWait)", base.at[1], test.want)
			}
		})
	}
	inBubble(t, "as long as MaxWait", func(t *testing.T) {
		base := &scripted{outcomes: []any{reply(503, "Retry-After", "20"), reply(200)}}
		get(t, t.Context(), &ovhauth.RetryTransport{Base: base, MaxWait: 20 * time.Second})
		if len(base.at) != 2 || !aboutAfter(base.at[1], 20*time.Second) {
			t.Errorf("sent at %v, want again after 20 s and up to a tenth more", base.at)
		}
	})
	inBubble(t, "of every status that is retried", func(t *testing.T) {
		for _, code := range []int{403, 408, 500, 502, 503, 504} {
			resp := reply(code, "Retry-After", "5")
			if code == 403 {
				resp.Body = &text{s: busy}
			}
			base := &scripted{outcomes: []any{resp, reply(200)}}
			if get(t, t.Context(), &ovhauth.RetryTransport{Base: base}); len(base.at) != 2 || !aboutAfter(base.at[1], 5*time.Second) {
				t.Errorf("%d: sent at %v, want again after 5 s and up to a tenth more", code, base.at)
			}
		}
	})
}

// A wait that would outlast the deadline is not begun.
func TestRetryDeadline(t *testing.T) {
	for _, test := range []struct {
		name     string
		given    any
		want     string
		attempts int
	}{
		{"503 that asks for as long", reply(503, "Retry-After", "10"), "503", 1},
		{"503 that asks for less", reply(503, "Retry-After", "9"), "200", 2},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			base := &scripted{outcomes: []any{test.given, reply(200)}}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			start := time.Now()
			got := result(get(t, ctx, &ovhauth.RetryTransport{Base: base}))
			if got != test.want || len(base.at) != test.attempts || test.attempts == 1 && time.Since(start) != 0 {
				t.Errorf("%s after %d attempts and %s; want %s after %d, at once if it is one", got, len(base.at), time.Since(start), test.want, test.attempts)
			}
		})
	}
	inBubble(t, "an error, by ordinary waits", func(t *testing.T) {
		base := &scripted{outcomes: []any{io.ErrUnexpectedEOF}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := get(t, ctx, &ovhauth.RetryTransport{Base: base, MaxRetries: 99}); err != io.ErrUnexpectedEOF || ctx.Err() != nil {
			t.Errorf("%v, context %v; want the last attempt's own error before the deadline", err, ctx.Err())
		}
	})
}

// Two transports that look at a response together wait for its body no longer than one.
func TestStalledRejectionBelowTwoTransports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := roundTrip(func(*http.Request) (*http.Response, error) {
			r, w := io.Pipe()
			go io.WriteString(w, "{")
			resp := respond(403)
			resp.Body = r
			return resp, nil
		})
		began := time.Now()
		rt := &ovhauth.RetryTransport{Base: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: testKeys, Base: base}}
		resp, err := rt.RoundTrip(newRequest(t, "GET", "/me", nil))
		if took := time.Since(began); result(resp, err) != "403" || took > time.Second {
			t.Fatalf("got %s after %s, want the 403 after a second", result(resp, err), took)
		}
		resp.Body.Close()
	})
}

// A response that stalls does not hold up its own retry, and loses its connection.
func TestRetryAfterAStalledResponse(t *testing.T) {
	for _, test := range []struct {
		name        string
		after       string
		least, most time.Duration
	}{
		{"no wait", "", 0, 100 * time.Millisecond},
		{"a short wait", "2", 2 * time.Second, 2200 * time.Millisecond},
		{"a longer wait", "20", 20 * time.Second, 22 * time.Second},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			r, w := io.Pipe()
			stalled := reply(503, "Retry-After", test.after)
			start, closed := time.Now(), time.Duration(-1)
			stalled.Body = struct {
				io.Reader
				io.Closer
			}{r, closer(func() { closed = time.Since(start); r.Close() })}
			base := &scripted{outcomes: []any{stalled, reply(200)}}
			ctx, cancel := context.WithTimeout(t.Context(), test.most+time.Millisecond) // it costs nothing of the wait
			defer cancel()
			got := result(get(t, ctx, &ovhauth.RetryTransport{Base: base, MinWait: noWait}))
			if got != "200" || base.at[1] < test.least || base.at[1] > test.most {
				t.Errorf("%s, sent at %v; want 200, sent again after %s to %s", got, base.at, test.least, test.most)
			}
			if closed < 0 || closed > time.Second {
				t.Errorf("the stalled body was closed after %s, want within a second", closed)
			}
			if _, err := w.Write([]byte("late")); err != io.ErrClosedPipe {
				t.Errorf("writing to the stalled body: %v, want it closed", err)
			}
		})
	}
	inBubble(t, "a context that ends meanwhile", func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		stalled := reply(503, "Retry-After", "20")
		stalled.Body = r
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		start := time.Now()
		_, err := get(t, ctx, &ovhauth.RetryTransport{Base: &scripted{outcomes: []any{stalled}}})
		if !errors.Is(err, context.Canceled) || time.Since(start) != 300*time.Millisecond {
			t.Errorf("%v after %s, want the context's error after 300 ms", err, time.Since(start))
		}
	})
}

// net/http's gzip reader does not let itself be closed before its first bytes have come. That holds up neither a retry nor a Close.
func TestRetryAfterACompressedResponseThatStalls(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		attempts := 0
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch attempts++; attempts {
			case 1, 3:
				w.Header().Set("Content-Encoding", "gzip")
				w.WriteHeader(503)
				w.(http.Flusher).Flush()
				<-r.Context().Done()
			}
		}))
		if server.EnableHTTP2 = h2; h2 {
			server.StartTLS()
		} else {
			server.Start()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		req := newRequest(t, "GET", "/me", nil).WithContext(ctx)
		transport := &ovhauth.Transport{Endpoint: ovhauth.Endpoint(server.URL), Credentials: testKeys, Base: server.Client().Transport}
		resp, err := (&ovhauth.RetryTransport{Base: transport, MinWait: noWait}).RoundTrip(req)
		if got := result(resp, err); got != "200" || attempts != 2 {
			t.Errorf("HTTP/2 %t: %s after %d attempts, want 200 after 2", h2, got, attempts)
		}
		if resp, err = transport.RoundTrip(req); result(resp, err) != "503" {
			t.Fatalf("HTTP/2 %t: %s, want the 503", h2, result(resp, err))
		}
		resp.Body.Close()
		if ctx.Err() != nil {
			t.Errorf("HTTP/2 %t: Close waited for the context's end, want a moment", h2)
		}
		cancel()
		server.Close()
	}
}

// A short response is read to its end before the next attempt, which then has its connection.
func TestRetryKeepsTheConnection(t *testing.T) {
	attempts := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if attempts++; attempts == 1 {
			http.Error(w, strings.Repeat("sorry ", 1000), http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	reused := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
	resp, err := (&ovhauth.RetryTransport{Base: server.Client().Transport, MinWait: noWait}).RoundTrip(newRequest(t, "GET", server.URL, nil).WithContext(ctx))
	if got := result(resp, err); got != "200" || !reused {
		t.Errorf("%s, connection used again: %t; want 200 over the same connection", got, reused)
	}
}

// A budget bounds how many of the latest requests to a host are retried.
func TestRetryBudget(t *testing.T) {
	const api, elsewhere = "https://eu.api.ovh.com/1.0/me", "https://elsewhere.example/"
	code, attempts := 503, 0
	base := baseFunc(func(req *http.Request) (*http.Response, error) {
		attempts++
		return &http.Response{StatusCode: code, Body: http.NoBody}, nil
	})
	var rt *ovhauth.RetryTransport
	run := func(t *testing.T, status, n int, url string) int {
		code, attempts = status, 0
		for range n {
			rt.RoundTrip(newRequest(t, "GET", url, nil))
		}
		return attempts
	}
	fresh := func() { rt = &ovhauth.RetryTransport{Base: base, MinWait: noWait, MaxRetries: 1} }

	t.Run("100 retries", func(t *testing.T) {
		fresh()
		run(t, 200, 10, api) // nothing is given back to a full budget
		if got := run(t, 503, 150, api); got != 150+100 {
			t.Errorf("%d attempts of 150 requests, want 150 and 100 retries", got)
		}
		if got := run(t, 503, 1, api); got != 1 {
			t.Errorf("%d attempts on an empty budget, want one", got)
		}
		run(t, 404, 4, api)
		if got := run(t, 503, 1, api); got != 1 {
			t.Errorf("%d attempts after 4 successes, want one: a retry costs 5", got)
		}
		run(t, 404, 1, api)
		if got := run(t, 503, 2, api); got != 3 {
			t.Errorf("%d attempts, want 2 and the one retry that 5 successes paid for", got)
		}
		run(t, 200, 2000, api)
		if got := run(t, 503, 150, api); got != 150+100 {
			t.Errorf("%d attempts after 2000 successes, want 150 and 100 retries", got)
		}
	})
	t.Run("one for each host", func(t *testing.T) {
		fresh()
		rt.MaxRetries = 0
		if got := run(t, 503, 30, elsewhere); got != 30+100 {
			t.Errorf("%d attempts elsewhere, want 30 and 100 retries", got)
		}
		if got := run(t, 503, 1, api); got != 5 {
			t.Errorf("%d attempts at the API, want all 5: its budget is its own", got)
		}
	})
	t.Run("alias hosts share one", func(t *testing.T) {
		fresh()
		run(t, 503, 100, api)
		if got := run(t, 503, 1, "https://api.eu.ovhcloud.com/1.0/me"); got != 1 {
			t.Errorf("%d attempts at the alias, want one: the budget of its API is used up", got)
		}
	})
	t.Run("a retried success gives back all", func(t *testing.T) {
		fresh()
		rt.MaxRetries = 3
		attempt := 0
		rt.Base = roundTrip(func(*http.Request) (*http.Response, error) {
			if attempt++; attempt%4 != 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return respond(200), nil
		})
		for i := range 1000 {
			if got := result(getURL(t, rt, api)); got != "200" {
				t.Fatalf("request %d: %s, want 200 after three retries", i, got)
			}
		}
	})
	inBubble(t, "429 costs nothing", func(t *testing.T) {
		fresh()
		attempt := 0
		rt.Base = roundTrip(func(req *http.Request) (*http.Response, error) {
			if attempt++; attempt <= 20 {
				return respond(429), nil
			}
			return base(req)
		})
		run(t, 200, 1, api)
		if got := run(t, 503, 150, api); got != 150+100 {
			t.Errorf("%d attempts after 20 429s, want 150 and 100 retries", got)
		}
	})
	t.Run("busy costs nothing, and gives nothing back", func(t *testing.T) {
		fresh()
		run(t, 503, 100, api)
		attempt := 0
		rt.Base = roundTrip(func(req *http.Request) (*http.Response, error) {
			if attempt++; attempt <= 400 || attempt%2 == 1 {
				return response(403, busy), nil
			}
			return base(req)
		})
		run(t, 200, 200, api)
		if attempt != 400 {
			t.Errorf("%d attempts of 200 requests that found it busy, want a retry of each", attempt)
		}
		run(t, 200, 4, api)
		if rt.Base = base; run(t, 503, 1, api) != 1 {
			t.Errorf("%d attempts after 4 successes, want one: a retry for busy was free", attempts)
		}
	})
}

// An API of which three attempts of ten fail fails about as many calls as chance does, 0.3⁵ of them.
func TestRetryThroughAnUnreliableAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		rt := &ovhauth.RetryTransport{Base: roundTrip(func(*http.Request) (*http.Response, error) {
			if random.Float64() < 0.3 {
				return respond(503), nil
			}
			return respond(200), nil
		})}
		failed := 0
		for range 5000 {
			if result(get(t, t.Context(), rt)) != "200" {
				failed++
			}
		}
		if failed < 1 || failed > 30 {
			t.Errorf("%d of 5000 failed, want about 12", failed)
		}
	})
}

// errRateLimiter reads as that of a rate.Limiter of golang.org/x/time.
var errRateLimiter = errors.New("rate: Wait(n=1) would exceed context deadline")

func TestLimiterIsAskedBeforeEachAttempt(t *testing.T) {
	type key struct{}
	base := &scripted{outcomes: []any{reply(503), io.ErrUnexpectedEOF, reply(200)}}
	waits := 0
	rt := &ovhauth.RetryTransport{Base: base, MinWait: noWait, Limiter: limiter(func(ctx context.Context) error {
		if ctx.Value(key{}) == nil {
			t.Error("the Limiter got another context, want the caller's")
		}
		if waits++; waits != len(base.at)+1 {
			t.Errorf("%d waits before attempt %d, want as many", waits, len(base.at)+1)
		}
		return nil
	})}
	if got := result(get(t, context.WithValue(t.Context(), key{}, 1), rt)); got != "200" || waits != 3 {
		t.Errorf("%s after %d waits, want 200 after 3", got, waits)
	}
}

// What a Limiter's error leaves to the caller: the response or error in hand; without one, the Limiter's.
func TestLimiterFails(t *testing.T) {
	full := errors.New("no permit for you")
	long := replyText(503, strings.Repeat("x", 16<<10+1))
	for _, test := range []struct {
		name     string
		outcomes []any // before the Limiter fails
		fails    error
		deadline bool
		want     string // result, or its end
		matches  []error
		exactly  bool
	}{
		{"at first", nil, full, false, "ovhauth: limiter: no permit for you", []error{full}, true},
		{"at first, by the deadline", nil, errRateLimiter, true, "ovhauth: limiter: " + errRateLimiter.Error() + ": context deadline exceeded",
			[]error{errRateLimiter, context.DeadlineExceeded}, true},
		{"at first, by a deadline that there is not", nil, errRateLimiter, false, "ovhauth: limiter: " + errRateLimiter.Error(), []error{errRateLimiter}, true},
		{"after a 503", []any{reply(503)}, full, false, "503", nil, true},
		{"after a 503, by the deadline", []any{reply(503)}, errRateLimiter, true, "503", nil, true},
		{"after two", []any{io.ErrUnexpectedEOF, reply(500)}, full, false, "500", nil, true},
		{"after a lost connection", []any{reply(503), io.ErrUnexpectedEOF}, full, false, "unexpected EOF", []error{io.ErrUnexpectedEOF}, true},
		{"after a 429", []any{reply(429)}, full, false, "429", nil, true},
		{"after a response too long to be kept", []any{long}, full, false, "PUT /me: 503 Service Unavailable", nil, false},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			ctx := t.Context()
			if test.deadline {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, time.Hour)
				defer cancel()
			}
			base := &scripted{outcomes: append(test.outcomes, reply(200))}
			sent := &text{s: payload}
			req := newRequest(t, "PUT", "/me", sent.open()).WithContext(ctx)
			req.GetBody = func() (io.ReadCloser, error) { return sent.open(), nil }
			rt := &ovhauth.RetryTransport{Base: base, MinWait: noWait, Limiter: limiter(func(context.Context) error {
				if base.attempts() == len(test.outcomes) {
					return test.fails
				}
				return nil
			})}
			resp, err := finished(t, rt, req)
			got := result(resp, err)
			if test.exactly && got != test.want || !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			for _, want := range test.matches {
				if !errors.Is(err, want) {
					t.Errorf("error %v, want one that matches %v", err, want)
				}
			}
			if errors.Is(err, context.DeadlineExceeded) != (test.deadline && len(test.outcomes) == 0) {
				t.Errorf("error %v, want context.DeadlineExceeded only if the deadline is the reason", err)
			}
			sent.check(t, int32(max(1, len(test.outcomes))))
			if len(base.at) != len(test.outcomes) {
				t.Errorf("%d attempts, want %d", len(base.at), len(test.outcomes))
			}
		})
	}
}

// A response is handed out whole after its retry turned out to be impossible, if it was short enough to be kept.
func TestResponseInHandIsWhole(t *testing.T) {
	for _, size := range []int{0, 1, 16<<10 - 1, 16 << 10, 16<<10 + 1} {
		body := &text{s: strings.Repeat("x", size)}
		first := reply(503, "X-Query", "id")
		first.Body = body
		base := &scripted{outcomes: []any{first, reply(200)}}
		rt := &ovhauth.RetryTransport{Base: base, MinWait: noWait, Limiter: limiter(func(context.Context) error {
			if base.attempts() == 1 {
				return errRateLimiter
			}
			return nil
		})}
		req := newRequest(t, "GET", "/me", nil)
		resp, err := rt.RoundTrip(req)
		body.check(t, 1)
		if size > 16<<10-1 {
			// A body of exactly the limit may be taken for a longer one: its end has not been seen.
			if err == nil && size > 16<<10 || err != nil && !strings.Contains(err.Error(), "503 Service Unavailable") {
				t.Errorf("%d bytes: %s, want an error with the status", size, result(resp, err))
			}
			if err != nil {
				continue
			}
		}
		if err != nil {
			t.Errorf("%d bytes: %v, want the 503", size, err)
			continue
		}
		got, err := io.ReadAll(resp.Body)
		if string(got) != body.s || err != nil || resp.StatusCode != 503 || resp.Header.Get("X-Query") != "id" || resp.Request != req {
			t.Errorf("%d bytes: %d with %d bytes, %v; want the 503 whole, of the caller's request", size, resp.StatusCode, len(got), err)
		}
	}
}

// A Limiter's error together with an ended context: both are found.
func TestLimiterAndContext(t *testing.T) {
	mine := errors.New("mine")
	for _, test := range []struct {
		name     string
		outcomes []any
		cause    error // of the end of the context
		fails    func(context.Context) error
		matches  []error
		want     string
	}{
		{"at first", nil, nil, func(context.Context) error { return mine }, []error{mine, context.Canceled}, "ovhauth: limiter: mine: context canceled"},
		{"at first, the context's own", nil, nil, func(ctx context.Context) error { return ctx.Err() }, []error{context.Canceled}, "context canceled"},
		{"at first, a wrapped one", nil, nil, func(ctx context.Context) error { return fmt.Errorf("mine: %w", ctx.Err()) }, []error{context.Canceled},
			"ovhauth: limiter: mine: context canceled"},
		{"after a 503", []any{reply(503)}, nil, func(context.Context) error { return mine }, []error{mine, context.Canceled},
			"ovhauth: limiter: mine: context canceled while waiting to send the request again after a 503 Service Unavailable"},
		{"after a lost connection", []any{io.ErrUnexpectedEOF}, nil, func(context.Context) error { return mine },
			[]error{mine, context.Canceled, io.ErrUnexpectedEOF},
			"ovhauth: limiter: mine: context canceled while waiting to send the request again after: unexpected EOF"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			base := &scripted{outcomes: append(test.outcomes, reply(200))}
			rt := &ovhauth.RetryTransport{Base: base, MinWait: noWait, Limiter: limiter(func(ctx context.Context) error {
				if base.attempts() < len(test.outcomes) {
					return nil
				}
				cancel()
				return test.fails(ctx)
			})}
			_, err := get(t, ctx, rt)
			for _, want := range test.matches {
				if !errors.Is(err, want) {
					t.Errorf("error %v, want one that matches %v", err, want)
				}
			}
			if err != nil && err.Error() != test.want {
				t.Errorf("error %q, want %q", err, test.want)
			}
		})
	}
}

// Above another one, an error of the Limiter below is not worth a retry.
func TestLimiterBelowAnotherRetryTransport(t *testing.T) {
	full, waits := errors.New("no permit for you"), 0
	below := &ovhauth.RetryTransport{Limiter: limiter(func(context.Context) error { waits++; return full })}
	if _, err := get(t, t.Context(), &ovhauth.RetryTransport{Base: below}); !errors.Is(err, full) || waits != 1 {
		t.Errorf("%v after %d waits, want the Limiter's error after one", err, waits)
	}
}
