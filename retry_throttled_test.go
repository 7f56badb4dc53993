package ovhauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
)

const aMinute = time.Minute

// quota is an API that grants so many requests in each window. It does not need bodies read.
type quota struct {
	grants int
	per    time.Duration

	mu                sync.Mutex
	began             time.Time
	given             int
	arrived, rejected int
}

func (q *quota) RoundTrip(req *http.Request) (*http.Response, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := time.Now(); q.began.IsZero() || now.Sub(q.began) >= q.per {
		q.began, q.given = now, 0
	}
	q.arrived++
	if q.given >= q.grants {
		q.rejected++
		return respond(429), nil
	}
	q.given++
	return respond(200), nil
}

// The row of 429 in RetryTransport's table: it is sent again whatever the method.
func TestThrottledTable(t *testing.T) {
	for _, method := range slices.Concat(idempotent, otherwise) {
		inBubble(t, method, func(t *testing.T) {
			base := &scripted{outcomes: []any{reply(429), reply(200)}}
			rt := &ovhauth.RetryTransport{Base: base}
			if got := result(finished(t, rt, tableRequest(t, t.Context(), method))); got != "200" || len(base.at) != 2 {
				t.Errorf("%s after %d attempts, want 200 after 2", got, len(base.at))
			}
			if want := []string{payload, payload}; !slices.Equal(base.sent, want) {
				t.Errorf("sent %q, want %q", base.sent, want)
			}
		})
	}
}

// A 429 is not one of MaxRetries.
func TestThrottledCostsNoRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &scripted{outcomes: []any{reply(503), reply(429), reply(429), reply(429), reply(503), reply(429), reply(429), reply(200)}}
		rt := &ovhauth.RetryTransport{Base: base, MaxRetries: 2}
		if got := result(get(t, t.Context(), rt)); got != "200" || len(base.at) != 8 {
			t.Errorf("%s after %d attempts, want 200 after two 503s and five 429s", got, len(base.at))
		}
	})
}

// With negative MaxRetries a 429 is returned as it comes.
func TestThrottledWithoutRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := &ovhauth.RetryTransport{Base: &scripted{outcomes: []any{reply(429)}}, MaxRetries: -1}
		start := time.Now()
		if got := result(get(t, t.Context(), rt)); got != "429" || time.Since(start) != 0 {
			t.Errorf("%s after %s, want the 429 at once", got, time.Since(start))
		}
	})
}

func TestThrottledRetryAfter(t *testing.T) {
	for _, test := range wordings {
		if test.want > 10*time.Minute {
			continue
		}
		inBubble(t, test.name, func(t *testing.T) {
			base := &scripted{outcomes: []any{reply(429, "Retry-After", test.after, "Date", test.date), reply(200)}}
			got := result(get(t, t.Context(), &ovhauth.RetryTransport{Base: base}))
			least, most := test.want, test.want+test.want/10+time.Second
			if test.want == 0 {
				least, most = time.Millisecond, 30*time.Second
			}
			if got != "200" || len(base.at) != 2 || base.at[1] < least || base.at[1] > most {
				t.Errorf("%s, sent at %v; want 200, sent again after %s to %s", got, base.at, least, most)
			}
		})
	}
}

// Whatever becomes of the call that got it, a 429 holds the next one.
func TestThrottledCountsForEverybody(t *testing.T) {
	long := strings.Repeat("x", 1<<20+1)
	for _, test := range []struct {
		name  string
		first func(t *testing.T, rt http.RoundTripper) string
		want  string
	}{
		{"its body cannot be sent again", func(t *testing.T, rt http.RoundTripper) string {
			sent := &text{s: long}
			req := bodyRequest(t, "POST", sent)
			req.GetBody = nil
			return result(finished(t, rt, req))
		}, "429"},
		{"its deadline comes first", func(t *testing.T, rt http.RoundTripper) string {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			return result(finished(t, rt, newRequest(t, "GET", "https://api/x", nil).WithContext(ctx)))
		}, "429"},
		{"it is canceled at once", func(t *testing.T, rt http.RoundTripper) string {
			ctx, cancel := context.WithCancel(t.Context())
			go func() { synctest.Wait(); cancel() }()
			return result(finished(t, rt, newRequest(t, "GET", "https://api/x", nil).WithContext(ctx)))
		}, "ovhauth: context canceled while waiting to send the request again after a 429 Too Many Requests"},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			base := &scripted{outcomes: []any{reply(429, "Retry-After", "10"), reply(200)}}
			rt := &ovhauth.RetryTransport{Base: base}
			if got := test.first(t, rt); got != test.want {
				t.Errorf("the first call got %s, want %s", got, test.want)
			}
			if got := result(getURL(t, rt, "https://api/y")); got != "200" || len(base.at) != 2 || base.at[1] < 10*time.Second {
				t.Errorf("the next call got %s, sent at %v; want 200, not before 10 s", got, base.at)
			}
		})
	}
	inBubble(t, "negative MaxRetries", func(t *testing.T) {
		base := &scripted{outcomes: []any{reply(429, "Retry-After", "10"), reply(200)}}
		rt := &ovhauth.RetryTransport{Base: base, MaxRetries: -1}
		getURL(t, rt, "https://api/x")
		if got := result(getURL(t, rt, "https://api/y")); got != "200" || base.at[1] < 10*time.Second {
			t.Errorf("the next call got %s, sent at %v; want 200, not before 10 s", got, base.at)
		}
	})
}

// The pace is the host's, however it is spelled: alias hosts are one API, and a URL without a host is the endpoint's.
func TestThrottledHost(t *testing.T) {
	for _, test := range []struct {
		name        string
		first, next string
		foreign     bool // Base is no Transport
		held        bool
	}{
		{"the same host", "https://eu.api.ovh.com/1.0/me", "https://eu.api.ovh.com/1.0/ip", false, true},
		{"another spelling", "https://eu.api.ovh.com/1.0/me", "https://EU.API.ovh.com:443/1.0/me", false, true},
		{"an alias", "https://eu.api.ovh.com/1.0/me", "https://api.eu.ovhcloud.com/1.0/me", false, true},
		{"another alias", "https://api.ovh.com/1.0/me", "https://api.eu.ovhcloud.com/1.0/me", false, true},
		{"another region", "https://eu.api.ovh.com/1.0/me", "https://ca.api.ovh.com/1.0/me", false, false},
		{"another host", "https://eu.api.ovh.com/1.0/me", "https://elsewhere.example/", false, false},
		{"two relative URLs", "/me", "/ip", false, true},
		{"relative, then the endpoint's", "/me", "https://eu.api.ovh.com/1.0/me", false, true},
		{"an alias, then relative", "https://api.eu.ovhcloud.com/1.0/me", "/me", false, true},
		{"relative, then another host", "/me", "https://elsewhere.example/", false, false},
		{"relative over another Base", "/me", "/ip", true, true},
		{"relative over another Base is a host of its own", "/me", "https://eu.api.ovh.com/1.0/me", true, false},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			base := &scripted{outcomes: []any{reply(429, "Retry-After", "10"), reply(200)}}
			rt := &ovhauth.RetryTransport{Base: base, MaxRetries: -1}
			if !test.foreign {
				rt.Base = &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}
			}
			getURL(t, rt, test.first)
			got := result(getURL(t, rt, test.next))
			if held := len(base.at) == 2 && base.at[1] >= 10*time.Second; got != "200" || held != test.held || !held && base.at[1] != 0 {
				t.Errorf("%s got %s, sent at %v; want it held: %t", test.next, got, base.at, test.held)
			}
		})
	}
}

// A call whose turn lies beyond its deadline is told at once, with the 429 in hand or how long the wait would be.
func TestThrottledBeyondTheDeadline(t *testing.T) {
	within := func(t *testing.T, rt http.RoundTripper, d time.Duration) (*http.Response, error) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		start := time.Now()
		sent := &text{s: payload}
		req := bodyRequest(t, "POST", sent).WithContext(ctx)
		resp, err := finished(t, rt, req)
		if ctx.Err() != nil || time.Since(start) != 0 {
			t.Errorf("told after %s, want at once", time.Since(start))
		}
		sent.check(t, 1)
		return resp, err
	}
	inBubble(t, "the 429 in hand", func(t *testing.T) {
		rt := &ovhauth.RetryTransport{Base: &scripted{outcomes: []any{reply(429, "Retry-After", "60"), reply(200)}}}
		if got := result(within(t, rt, aMinute)); got != "429" {
			t.Errorf("got %s, want the 429", got)
		}
	})
	inBubble(t, "behind another call's 429", func(t *testing.T) {
		base := &scripted{outcomes: []any{reply(429, "Retry-After", "300"), reply(200)}}
		rt := &ovhauth.RetryTransport{Base: base, MaxRetries: -1}
		getURL(t, rt, "https://api/x")
		_, err := within(t, rt, aMinute)
		var timeout net.Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() || len(base.at) != 1 {
			t.Errorf("%v after %d attempts, want a timeout that matches context.DeadlineExceeded after one", err, len(base.at))
		}
		if want := "ovhauth: after a 429 of api, this request's turn would come in about 5m"; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want one that begins with %q", err, want)
		}
		_, err = (&http.Client{Transport: rt, Timeout: time.Second}).Get("https://api/x")
		if !os.IsTimeout(err) {
			t.Errorf("by http.Client.Timeout: %v, want a timeout", err)
		}
	})
	inBubble(t, "behind a queue of minutes", func(t *testing.T) {
		rt := &ovhauth.RetryTransport{Base: &quota{grants: 60, per: aMinute}}
		var wg sync.WaitGroup
		for range 600 {
			wg.Go(func() {
				if got := result(getURL(t, rt, "https://api/x")); got != "200" {
					t.Errorf("a call without a deadline got %s, want 200", got)
				}
			})
		}
		time.Sleep(3*aMinute + 30*time.Second)
		_, err := within(t, rt, 2*aMinute)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want one that matches context.DeadlineExceeded", err)
		}
		if err != nil {
			_, said, _ := strings.Cut(err.Error(), "in about ")
			said, _, _ = strings.Cut(said, ",")
			if wait, e := time.ParseDuration(said); e != nil || wait < 2*aMinute || wait > 15*aMinute {
				t.Errorf("the wait is said to be %q, want that of about 400 calls at 60 a minute", said)
			}
		}
		wg.Wait()
	})
	inBubble(t, "a deadline that leaves time", func(t *testing.T) {
		base := &scripted{outcomes: []any{reply(429, "Retry-After", "60"), reply(200)}}
		ctx, cancel := context.WithTimeout(t.Context(), 2*aMinute)
		defer cancel()
		if got := result(get(t, ctx, &ovhauth.RetryTransport{Base: base})); got != "200" {
			t.Errorf("got %s, want 200 after a minute", got)
		}
	})
}

// Without a deadline, a Retry-After of more than ten minutes hands out the 429, to later callers as an error.
func TestThrottledForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := &scripted{outcomes: []any{reply(429, "Retry-After", "3600"), reply(200)}}
		rt := &ovhauth.RetryTransport{Base: base}
		start := time.Now()
		if got := result(getURL(t, rt, "https://api/x?secret=1")); got != "429" || time.Since(start) != 0 {
			t.Errorf("the first call got %s after %s, want the 429 at once", got, time.Since(start))
		}
		sent := &text{s: payload}
		req := bodyRequest(t, "POST", sent)
		_, err := finished(t, rt, req)
		api, ok := errors.AsType[*ovhauth.APIError](err)
		if !ok || api.StatusCode != 429 || api.RetryAfter < time.Hour || api.RetryAfter > 70*aMinute || api.Method != "POST" || api.Path != "/x" {
			t.Errorf("a later call got %v (%+v), want an APIError of 429 for POST /x with RetryAfter of an hour or little more", err, api)
		}
		if time.Since(start) != 0 || len(base.at) != 1 {
			t.Errorf("%d attempts after %s, want one, at once", len(base.at), time.Since(start))
		}
		sent.check(t, 1)
		time.Sleep(70 * aMinute)
		if got := result(getURL(t, rt, "https://api/x")); got != "200" {
			t.Errorf("when the hour is over: %s, want 200", got)
		}
	})
}

// A host that grants nothing for thirty minutes hands out the 429.
func TestNothingGrantedForTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &observed{}
		rt := &ovhauth.RetryTransport{Base: &scripted{outcomes: []any{reply(429)}}, OnEvent: seen.add}
		start := time.Now()
		got := result(get(t, t.Context(), rt))
		if took := time.Since(start); got != "429" || took < 29*aMinute || took > 32*aMinute {
			t.Errorf("%s after %s, want the 429 after thirty minutes", got, took)
		}
		if words := seen.words(); words[len(words)-1] != "gave up: "+ovhauth.ReasonNothingGranted {
			t.Errorf("the last event is %q, want that nothing was granted", words[len(words)-1])
		}
	})
}

// Time in which nobody asks, or in which no response comes, is not time in which the host grants nothing.
func TestNothingGrantedIsCountedFromA429(t *testing.T) {
	for _, test := range []struct {
		name  string
		after string        // Retry-After of the first 429
		first string        // what the first call gets, which has 10 s
		every time.Duration // a call is made
	}{
		{"nobody asks", "", "200", 29*aMinute + 30*time.Second},
		{"nobody asks during a hold", "60", "429", 29*aMinute + 30*time.Second},
		{"connections are lost", "", "200", aMinute},
		{"connections are lost during a hold", "60", "429", aMinute},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			start, attempts := time.Now(), 0
			rt := &ovhauth.RetryTransport{Base: roundTrip(func(*http.Request) (*http.Response, error) {
				attempts++
				switch past := time.Since(start); {
				case attempts == 1, past > 29*aMinute && past < 31*aMinute:
					return respond(429, "Retry-After", test.after), nil
				case past > aMinute && past < 29*aMinute:
					return nil, io.ErrUnexpectedEOF
				}
				return respond(200), nil
			})}
			post := func(ctx context.Context) string {
				return result(finished(t, rt, newRequest(t, "POST", "https://api/x", nil).WithContext(ctx)))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if got := post(ctx); got != test.first {
				t.Errorf("the first call got %s, want %s", got, test.first)
			}
			for time.Since(start) < 40*aMinute {
				time.Sleep(test.every)
				if got := post(t.Context()); got != "200" && got != "unexpected EOF" {
					t.Errorf("a call got %s after %s, want none to get a 429: they last two minutes", got, time.Since(start))
				}
			}
		})
	}
}

// A response in hand is what the caller gets if another call's 429 keeps its retry from coming in time.
func TestResponseInHandBehindA429(t *testing.T) {
	long := strings.Repeat("x", 16<<10+1)
	for _, test := range []struct {
		name  string
		given any
		want  string
	}{
		{"a 503", reply(503), "503"},
		{"a lost connection", io.ErrUnexpectedEOF, "unexpected EOF"},
		{"a 503 too long to be kept", replyText(503, long),
			"ovhauth: the body of the last response was too long, or came too slowly, to be kept while the request waited: GET /slow: 503 Service Unavailable"},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			slow := &scripted{outcomes: []any{test.given, reply(200)}}
			begun, fail := make(chan struct{}), make(chan struct{})
			rt := &ovhauth.RetryTransport{MinWait: noWait, Base: roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/other" {
					return respond(429, "Retry-After", "60"), nil
				}
				if slow.attempts() == 0 {
					close(begun)
					<-fail
				}
				return slow.RoundTrip(req)
			})}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			done := make(chan string)
			go func() {
				done <- result(finished(t, rt, newRequest(t, "GET", "https://api/slow", nil).WithContext(ctx)))
			}()
			<-begun
			getWithin := func(d time.Duration) {
				ctx, cancel := context.WithTimeout(t.Context(), d)
				defer cancel()
				finished(t, rt, newRequest(t, "GET", "https://api/other", nil).WithContext(ctx))
			}
			getWithin(time.Second) // gets its 429
			close(fail)
			if got := <-done; got != test.want || ctx.Err() != nil || slow.attempts() != 1 {
				t.Errorf("%s after %d attempts, want %s before the deadline, after one", got, slow.attempts(), test.want)
			}
		})
	}
}

// A waiter that leaves, a probe that panics, is lost or fails: the queue moves on.
func TestThrottledQueueMovesOn(t *testing.T) {
	for _, test := range []struct {
		name  string
		probe func(ctx context.Context) (*http.Response, error)
	}{
		{"a panic in Base", func(context.Context) (*http.Response, error) { panic("Base") }},
		{"a lost connection", func(context.Context) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }},
		{"an unreadable body", func(context.Context) (*http.Response, error) { return nil, errors.New("mine") }},
		{"a 503", func(context.Context) (*http.Response, error) { return respond(503), nil }},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			start := time.Now()
			var mu sync.Mutex
			attempts, probed, next := 0, time.Duration(0), time.Duration(0)
			rt := &ovhauth.RetryTransport{MaxRetries: -1, Base: roundTrip(func(req *http.Request) (*http.Response, error) {
				mu.Lock()
				defer mu.Unlock()
				switch attempts++; attempts {
				case 1:
					return respond(429, "Retry-After", "10"), nil
				case 2:
					probed = time.Since(start)
					return test.probe(req.Context())
				case 3:
					next = time.Since(start)
				}
				return respond(200), nil
			})}
			getURL(t, rt, "https://api/x")
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() {
					defer func() { recover() }()
					rt.RoundTrip(newRequest(t, "POST", "https://api/x", nil))
				})
			}
			wg.Wait()
			if probed < 10*time.Second || next < probed || next > probed+5*time.Second {
				t.Errorf("probed after %s, the next one sent after %s; want it soon after the probe, after 10 s", probed, next)
			}
		})
	}
	inBubble(t, "a panic of the first request", func(t *testing.T) {
		attempts := 0
		rt := &ovhauth.RetryTransport{Base: roundTrip(func(req *http.Request) (*http.Response, error) {
			if attempts++; attempts == 1 {
				panic("Base")
			}
			return respond(200), nil
		})}
		sent := &text{s: payload}
		req := bodyRequest(t, "PUT", sent)
		req.GetBody = nil
		func() {
			defer func() {
				if got := recover(); got != "Base" {
					t.Errorf("recovered %v, want Base's own panic", got)
				}
			}()
			rt.RoundTrip(req)
		}()
		if got := result(getURL(t, rt, "https://api/x")); got != "200" {
			t.Errorf("the next call got %s, want 200", got)
		}
	})
	inBubble(t, "a waiter that is canceled", func(t *testing.T) {
		base := &scripted{outcomes: []any{reply(429, "Retry-After", "10"), reply(200)}}
		rt := &ovhauth.RetryTransport{Base: base, MaxRetries: -1}
		getURL(t, rt, "https://api/x")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		sent := &text{s: payload}
		_, err := finished(t, rt, bodyRequest(t, "POST", sent).WithContext(ctx))
		if err != context.Canceled || time.Since(base.start) != 3*time.Second || len(base.at) != 1 {
			t.Errorf("%v after %s and %d attempts, want the context's own error after 3 s and one", err, time.Since(base.start), len(base.at))
		}
		sent.check(t, 1)
		if got := result(getURL(t, rt, "https://api/x")); got != "200" || base.at[1] > 15*time.Second {
			t.Errorf("the next call got %s, sent at %v; want 200, sent soon after 10 s", got, base.at)
		}
	})
}

// Bulk work over a quota that nobody told: every call succeeds.
func TestThrottledBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &quota{grants: 60, per: aMinute}
		rt := &ovhauth.RetryTransport{Base: api}
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 10 {
					if got := result(getURL(t, rt, "https://api/x")); got != "200" {
						t.Errorf("got %s, want 200", got)
					}
				}
			})
		}
		wg.Wait()
		if api.arrived-api.rejected != 640 {
			t.Errorf("%d granted, want all 640", api.arrived-api.rejected)
		}
	})
}

// learningLimiter is told of 429s.
type learningLimiter struct {
	waits int
	told  []time.Duration
}

func (l *learningLimiter) Wait(context.Context) error { l.waits++; return nil }

func (l *learningLimiter) Throttled(_ context.Context, after time.Duration) {
	l.told = append(l.told, after)
}

func TestLimiterThatLearns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &learningLimiter{}
		base := &scripted{outcomes: []any{reply(429, "Retry-After", "7"), reply(429), reply(429, "Retry-After", "-1"), reply(503), reply(200)}}
		rt := &ovhauth.RetryTransport{Base: base, Limiter: l, MinWait: noWait}
		if got := result(get(t, t.Context(), rt)); got != "200" || time.Since(base.start) > time.Microsecond {
			t.Errorf("%s after %s, want 200 at once: the Limiter takes the pace's place", got, time.Since(base.start))
		}
		if want := []time.Duration{7 * time.Second, 0, 0}; !slices.Equal(l.told, want) || l.waits != 5 {
			t.Errorf("told of %v, asked %d times; want %v, asked before each of 5 attempts", l.told, l.waits, want)
		}
	})
}

// A Limiter that cannot learn holds together with the pace: whichever is slower.
func TestLimiterAndPaceHoldTogether(t *testing.T) {
	for _, test := range []struct {
		name  string
		every time.Duration
		least time.Duration
	}{
		{"a slower Limiter", 30 * time.Second, 60 * time.Second},
		{"a faster Limiter", time.Second, 10 * time.Second},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			base := &scripted{outcomes: []any{reply(429, "Retry-After", "10"), reply(200)}}
			rt := &ovhauth.RetryTransport{Base: base, Limiter: limiter(func(context.Context) error { time.Sleep(test.every); return nil })}
			start := time.Now()
			if got := result(get(t, t.Context(), rt)); got != "200" || time.Since(start) < test.least || base.at[1] < 10*time.Second {
				t.Errorf("%s after %s, sent at %v; want 200 after %s at least, sent not before 10 s", got, time.Since(start), base.at, test.least)
			}
		})
	}
	inBubble(t, "a 429 while the Limiter lets it wait", func(t *testing.T) {
		base := &scripted{outcomes: []any{reply(429, "Retry-After", "10"), reply(200)}}
		permits := make(chan bool, 2)
		rt := &ovhauth.RetryTransport{Base: base, MaxRetries: -1, Limiter: limiter(func(context.Context) error { <-permits; return nil })}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { getURL(t, rt, "https://api/x") })
		}
		synctest.Wait()
		permits <- true
		synctest.Wait() // one has its 429
		permits <- true
		permits <- true // it is asked again when the hold is over
		wg.Wait()
		if len(base.at) != 2 || base.at[1] < 10*time.Second {
			t.Errorf("sent at %v, want the second not before 10 s", base.at)
		}
	})
}

// What is known of hosts that nobody asks any more is forgotten.
func TestHostsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hosts, most = 3_000, 512 << 10
		rt := &ovhauth.RetryTransport{MaxRetries: -1, Base: baseFunc(func(*http.Request) (*http.Response, error) {
			return respond(429, "Retry-After", "1"), nil
		})}
		used := heap()
		for i := range hosts {
			getURL(t, rt, fmt.Sprintf("https://host-%d.example/", i))
			time.Sleep(10 * time.Second)
		}
		if got := int64(heap() - used); got > most {
			t.Errorf("%d hosts take %d KiB, want at most %d", hosts, got>>10, most>>10)
		}
		runtime.KeepAlive(rt)
	})
}
