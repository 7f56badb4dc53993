package ovhauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// replies says what becomes of the n-th request, counted from 1.
type replies func(n int, req *http.Request) (*http.Response, error)

// quotaAPI is a Base that remembers what was sent and when.
type quotaAPI struct {
	reply replies

	mu    sync.Mutex
	start time.Time
	paths []string        // of the requests, in the order in which they were sent
	at    []time.Duration // when
}

func newQuotaAPI(reply replies) *quotaAPI {
	return &quotaAPI{reply: reply, start: time.Now()}
}

func (a *quotaAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	a.mu.Lock()
	a.paths = append(a.paths, strings.TrimPrefix(req.URL.Path, "/"))
	a.at = append(a.at, time.Since(a.start))
	n := len(a.paths)
	a.mu.Unlock()
	if req.Body != nil {
		io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
	return a.reply(n, req)
}

// sent returns when the nth request to path was sent, or fails.
func (a *quotaAPI) sent(t *testing.T, path string, nth int) time.Duration {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, p := range a.paths {
		if p == path {
			if nth--; nth == 0 {
				return a.at[i]
			}
		}
	}
	t.Fatalf("request %q was not sent often enough; those sent: %q", path, a.paths)
	return 0
}

// status responds with a status; header is names and values in turn.
func status(code int, header ...string) (*http.Response, error) {
	resp := &http.Response{StatusCode: code, Status: fmt.Sprint(code, " ", http.StatusText(code)), Header: http.Header{}, Body: http.NoBody}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp, nil
}

// then429 rejects the first request with a Retry-After, and gives the others to next.
func then429(retryAfter string, next replies) replies {
	return func(n int, req *http.Request) (*http.Response, error) {
		if n == 1 {
			return status(429, "Retry-After", retryAfter)
		}
		return next(n, req)
	}
}

func ok(int, *http.Request) (*http.Response, error) { return status(200) }

// asked is what came of a call.
type asked struct {
	path string
	code int // 0: an error
	err  error
	took time.Duration
}

// ask makes one call: a GET unless the path begins with "POST ".
func ask(ctx context.Context, rt http.RoundTripper, path string) asked {
	method := http.MethodGet
	name, post := strings.CutPrefix(path, "POST ")
	if post {
		method = http.MethodPost
	}
	if !strings.Contains(name, "://") {
		name = "https://eu.api.ovh.com/" + name
	}
	req, err := http.NewRequestWithContext(ctx, method, name, nil)
	if err != nil {
		return asked{path: path, err: err}
	}
	began := time.Now()
	resp, err := rt.RoundTrip(req)
	a := asked{path: path, err: err, took: time.Since(began)}
	if err == nil {
		a.code = resp.StatusCode
		resp.Body.Close()
	}
	return a
}

// asking makes calls that go on in the background, each of them begun when the one before waits or is under way.
type asking struct {
	rt  http.RoundTripper
	wg  sync.WaitGroup
	mu  sync.Mutex
	all map[string]asked
}

func (a *asking) begin(ctx context.Context, paths ...string) {
	for _, path := range paths {
		a.wg.Go(func() {
			got := ask(ctx, a.rt, path)
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.all == nil {
				a.all = map[string]asked{}
			}
			a.all[path] = got
		})
		synctest.Wait()
	}
}

// sofar is what came of a call, nothing if it is not done.
func (a *asking) sofar(path string) asked {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all[path]
}

// wait returns what came of all calls, by path.
func (a *asking) wait() map[string]asked {
	a.wg.Wait()
	return a.all
}

func wantBetween(t *testing.T, what string, got, low, high time.Duration) {
	t.Helper()
	if got < low || got > high {
		t.Errorf("%s: %s, want %s to %s", what, got, low, high)
	}
}

func wantCode(t *testing.T, got asked, want int) {
	t.Helper()
	if got.code != want {
		t.Errorf("%s: status %d, error %v; want status %d", got.path, got.code, got.err, want)
	}
}

func bubble(t *testing.T, name string, f func(*testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

func TestCanceledWaitersCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newQuotaAPI(then429("10", ok))
		calls := &asking{rt: &RetryTransport{Base: api}}
		calls.begin(t.Context(), "rejected")
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 500 {
			calls.begin(ctx, fmt.Sprint("canceled", i))
		}
		calls.begin(t.Context(), "last")
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		for i := range 500 {
			if got := calls.sofar(fmt.Sprint("canceled", i)); !errors.Is(got.err, context.Canceled) {
				t.Fatalf("a canceled call: status %d, error %v; want context.Canceled at once", got.code, got.err)
			}
		}
		calls.wait()
		if want := []string{"rejected", "rejected", "last"}; !reflect.DeepEqual(api.paths, want) {
			t.Errorf("sent: %q, want %q", api.paths, want)
		}
		wantBetween(t, "the call behind the canceled ones was sent after the probe", api.at[2]-api.at[1], 0, 2*time.Second)
	})
}

// Between joining the queue and waiting in it, the response is put aside and the event told.
func TestCallThatEndsBeforeItWaitsLeavesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		rt := &RetryTransport{Base: newQuotaAPI(then429("1", ok)), OnEvent: func(_ context.Context, e Event) {
			if e.Kind == EventThrottled {
				cancel()
			}
		}}
		if got := ask(ctx, rt, "rejected"); !errors.Is(got.err, context.Canceled) {
			t.Fatalf("got status %d, error %v; want %v", got.code, got.err, context.Canceled)
		}
		next := ask(t.Context(), rt, "next")
		wantCode(t, next, 200)
		wantBetween(t, "the next call waits", next.took, time.Second, 2*time.Second)
	})
}

// A call whose context has ended is not sent, also if its turn has come by then.
func TestTurnThatComesTooLateIsNotTaken(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := new(pace)
	for range 50 { // a select of two that are ready takes either
		w, _, _ := p.join(time.Time{}, false)
		if err := p.wait(ctx, w); err != context.Canceled {
			t.Fatalf("got %v, want %v", err, context.Canceled)
		}
	}
}

// One that is canceled after it was turned away had no turn to leave.
func TestCanceledAfterItWasTurnedAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(pace)
		p.report(0, limited, 60*time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		w, _, _ := p.join(time.Now().Add(2*time.Minute), false)
		p.report(p.lesson, limited, 300*time.Second)
		cancel()
		p.wait(ctx, w)
		if left := time.Until(p.until); left < 300*time.Second {
			t.Errorf("the hold has %s to go, want all its 5 minutes", left)
		}
	})
}

// One that is canceled at the instant of its turn leaves it to the next.
func TestTurnOfCanceledWaiterGoesToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 40 { // what wins, the turn or the context, is random
			var p pace
			p.report(0, limited, 0)
			ctx, cancel := context.WithCancel(t.Context())
			first, _, _ := p.join(time.Time{}, false)
			second, _, _ := p.join(time.Time{}, false)
			<-first.left
			cancel()
			if err := p.wait(ctx, first); err == nil {
				p.report(first.lesson, lost, 0)
			}
			before := time.Now()
			<-second.left
			if late := time.Since(before); late != 0 {
				t.Fatalf("the next probe left %s later, want at once", late)
			}
		}
	})
}

// Whatever becomes of a probe, the queue moves on.
func TestQueueMovesOnAfterProbe(t *testing.T) {
	never := func(req *http.Request) (*http.Response, error) {
		select {
		case <-time.After(time.Hour):
		case <-req.Context().Done():
		}
		return nil, io.ErrUnexpectedEOF
	}
	for _, c := range []struct {
		name      string
		probe     func(req *http.Request) (*http.Response, error)
		low, high time.Duration // from the probe to the next request
	}{
		{"lost", func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF }, 0, 0},
		{"canceled under way", func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done() // after 3 s
			return nil, req.Context().Err()
		}, 0, 3 * time.Second},
		{"response never comes", never, 10 * time.Second, 10 * time.Second},
		{"503", func(*http.Request) (*http.Response, error) { return status(503) }, 0, time.Second},
		{"400", func(*http.Request) (*http.Response, error) { return status(400) }, 0, time.Second},
		{"panic in Base", func(*http.Request) (*http.Response, error) { panic(http.ErrAbortHandler) }, 0, 0},
	} {
		bubble(t, c.name, func(t *testing.T) {
			api := newQuotaAPI(then429("5", func(n int, req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/probe" {
					return c.probe(req)
				}
				return status(200)
			}))
			rt := &RetryTransport{Base: api}
			calls := &asking{rt: &recovering{rt}}
			ctx, cancel := context.WithCancel(t.Context())
			rejected, stop := context.WithCancel(t.Context())
			calls.begin(rejected, "rejected")
			calls.begin(ctx, "POST probe")
			calls.begin(t.Context(), "next", "last")
			stop() // so that the probe is the first in the queue
			if c.name == "canceled under way" {
				time.AfterFunc(8*time.Second, cancel)
			}
			time.Sleep(time.Minute)
			cancel()
			got := calls.wait()
			wantBetween(t, "the next request, after the probe", api.sent(t, "next", 1)-api.sent(t, "probe", 1), c.low, c.high)
			wantCode(t, got["next"], 200)
			wantCode(t, got["last"], 200)
		})
	}
}

// A 503 is a response: the probe shows that there is room again, and what waits leaves one by one, not all at once.
func TestQueueStaysPacedOver503s(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newQuotaAPI(then429("5", func(int, *http.Request) (*http.Response, error) { return status(503) }))
		calls := &asking{rt: &RetryTransport{Base: api}}
		for i := range 50 {
			calls.begin(t.Context(), fmt.Sprint("POST ", i))
		}
		for _, got := range calls.wait() {
			wantCode(t, got, 503)
		}
		wantBetween(t, "50 requests, after the hold, left within", api.at[50]-api.at[1], time.Second, time.Minute)
	})
}

// recovering makes an error of a panic, as a server does.
type recovering struct{ base http.RoundTripper }

func (r *recovering) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			resp, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	return r.base.RoundTrip(req)
}

func TestFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newQuotaAPI(func(n int, req *http.Request) (*http.Response, error) {
			switch n {
			case 1:
				time.Sleep(2 * time.Second) // it is rejected when others wait
				return status(429, "Retry-After", "5")
			case 2:
				return status(429, "Retry-After", "5")
			}
			return status(200)
		})
		calls := &asking{rt: &RetryTransport{Base: api}}
		calls.begin(t.Context(), "slow", "fast", "a", "b", "c", "d", "e")
		calls.wait()
		want := []string{"slow", "fast", "fast", "slow", "a", "b", "c", "d", "e"}
		if !reflect.DeepEqual(api.paths, want) {
			t.Errorf("sent: %q, want those that were rejected first, and all in their order: %q", api.paths, want)
		}
	})
}

func TestHostsDoNotTouchEachOther(t *testing.T) {
	for _, c := range []struct {
		name, url string
		held      bool
	}{
		{"the same host", "https://eu.api.ovh.com/other", true},
		{"an alias of it", "https://api.ovh.com/other", true},
		{"another region", "https://ca.api.ovh.com/other", false},
		{"a host of nobody", "https://example.org/other", false},
	} {
		bubble(t, c.name, func(t *testing.T) {
			rt := &RetryTransport{Base: newQuotaAPI(then429("60", ok))}
			calls := &asking{rt: rt}
			calls.begin(t.Context(), "rejected", c.url)
			got := calls.wait()
			wantCode(t, got[c.url], 200)
			if held := got[c.url].took > 0; held != c.held {
				t.Errorf("held for %s, want held: %t", got[c.url].took, c.held)
			}
		})
	}
}

func TestHostsNotAskedAreSwept(t *testing.T) {
	known := func(rt *RetryTransport) (names []string) {
		for name := range *rt.hosts.all.Load() {
			names = append(names, name)
		}
		return names
	}
	reject := func(_ int, req *http.Request) (*http.Response, error) {
		if strings.HasPrefix(req.URL.Path, "/rejected") {
			return status(429, "Retry-After", fmt.Sprint(int(2*forgetAfter.Seconds())))
		}
		return status(200)
	}
	bubble(t, "asked no more", func(t *testing.T) {
		rt := &RetryTransport{Base: newQuotaAPI(reject)}
		for i := range 50 {
			wantCode(t, ask(t.Context(), rt, fmt.Sprintf("https://h%d.example.org/rejected", i)), 429)
			time.Sleep(forgetAfter / 10)
		}
		if got := len(known(rt)); got > 23 { // a hold and its jitter last 20 to 22 of these steps
			t.Errorf("%d hosts are known of 50, want those only that are still held", got)
		}
		time.Sleep(4 * forgetAfter)
		ask(t.Context(), rt, "https://last.example.org/rejected")
		if got := known(rt); !reflect.DeepEqual(got, []string{"last.example.org"}) {
			t.Errorf("known: %q, want the last host only", got)
		}
	})
	bubble(t, "somebody still waits", func(t *testing.T) {
		api := newQuotaAPI(func(n int, req *http.Request) (*http.Response, error) {
			if n > 1 && req.URL.Path == "/rejected" {
				return status(200)
			}
			return reject(n, req)
		})
		rt := &RetryTransport{Base: api}
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		calls := &asking{rt: rt}
		calls.begin(ctx, "rejected")
		time.Sleep(forgetAfter * 3 / 2)
		ask(t.Context(), rt, "https://example.org/rejected-as-well")
		calls.begin(ctx, "fresh")
		got := calls.wait()
		wantBetween(t, "a call to a host whose hold has a quarter to go", got["fresh"].took, forgetAfter/2, forgetAfter)
	})
}

func TestRetryAfterOf429(t *testing.T) {
	const s = time.Second
	skewed := time.Date(2031, 5, 4, 3, 2, 1, 0, time.UTC) // the API's clock has nothing to do with ours
	for _, c := range []struct {
		name      string
		header    []string
		deadline  time.Duration
		want      int
		low, high time.Duration
	}{
		{"seconds", []string{"Retry-After", "7"}, 0, 200, 7 * s, 8 * s},
		{"a date, counted from the response's Date", []string{"Retry-After", skewed.Add(7 * s).Format(http.TimeFormat),
			"Date", skewed.Format(http.TimeFormat)}, 0, 200, 7 * s, 8 * s},
		{"a date in the past", []string{"Retry-After", skewed.Add(-7 * s).Format(http.TimeFormat), "Date", skewed.Format(http.TimeFormat)},
			0, 200, s, 2 * s},
		{"0", []string{"Retry-After", "0"}, 0, 200, s, 2 * s},
		{"negative", []string{"Retry-After", "-5"}, 0, 200, s, 2 * s},
		{"absent", nil, 0, 200, s, 2 * s},
		{"garbage", []string{"Retry-After", "soon"}, 0, 200, s, 2 * s},
		{"more than MaxWait", []string{"Retry-After", "300"}, 0, 200, 300 * s, 330 * s},
		{"ten minutes", []string{"Retry-After", "600"}, 0, 200, 600 * s, 660 * s},
		{"more than ten minutes", []string{"Retry-After", "601"}, 0, 429, 0, 0},
		{"more than ten minutes, within the deadline", []string{"Retry-After", "1200"}, time.Hour, 200, 1200 * s, 1320 * s},
		{"beyond the deadline", []string{"Retry-After", "60"}, 30 * s, 429, 0, 0},
		{"centuries", []string{"Retry-After", "99999999999999999999"}, 0, 429, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			for range 5 { // the jitter is random
				synctest.Test(t, func(t *testing.T) {
					rt := &RetryTransport{Base: newQuotaAPI(func(n int, req *http.Request) (*http.Response, error) {
						if n == 1 {
							return status(429, c.header...)
						}
						return status(200)
					})}
					ctx, cancel := context.WithTimeout(t.Context(), max(c.deadline, 1))
					defer cancel()
					if c.deadline == 0 {
						ctx = t.Context()
					}
					got := ask(ctx, rt, "me")
					wantCode(t, got, c.want)
					wantBetween(t, "time until the end", got.took, c.low, c.high)
				})
			}
		})
	}
}

// A Retry-After that is too small does not lead to a storm. A host that has granted nothing for half an hour hands out its 429.
func TestNothingButRejections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newQuotaAPI(func(int, *http.Request) (*http.Response, error) { return status(429, "Retry-After", "1") })
		calls := &asking{rt: &RetryTransport{Base: api}}
		for i := range 20 {
			calls.begin(t.Context(), fmt.Sprint(i))
		}
		for path, got := range calls.wait() {
			if api, ok := errors.AsType[*APIError](got.err); got.code != 429 && (!ok || api.StatusCode != 429) {
				t.Errorf("%s: status %d, error %v; want its 429, or an APIError with one if it was never sent", path, got.code, got.err)
			}
			wantBetween(t, path+" was given its 429 after", got.took, 29*time.Minute, 32*time.Minute)
		}
		if n := len(api.paths); n > 220 { // one every 10 s or so, 30 minutes long
			t.Errorf("%d requests were sent, want at most 220", n)
		}
	})
}

// fixedWindow grants n requests in each minute.
func fixedWindow(quota func() int) replies {
	var mu sync.Mutex
	start, used := time.Now(), 0
	return func(int, *http.Request) (*http.Response, error) {
		time.Sleep(80 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		if past := time.Since(start); past >= time.Minute {
			start, used = time.Now().Add(-(past % time.Minute)), 0
		}
		if used++; used > quota() {
			return status(429, "Retry-After", fmt.Sprint(int((time.Minute-time.Since(start)).Seconds())+1))
		}
		return status(200)
	}
}

// stateOf is the state of the host that all tests ask.
func stateOf(rt *RetryTransport) paceState {
	p := rt.hosts.get(apiHost("eu.api.ovh.com"), false).paceOrNil()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func TestFreeAgain(t *testing.T) {
	bubble(t, "after minutes of slow start", func(t *testing.T) {
		rt := &RetryTransport{Base: newQuotaAPI(then429("1", ok))}
		for range 85 {
			ask(t.Context(), rt, "me")
			time.Sleep(time.Second)
		}
		if got := stateOf(rt); got != paced {
			t.Errorf("after 85 s the state is %d, want %d (paced)", got, paced)
		}
		for range 200 {
			ask(t.Context(), rt, "me")
			time.Sleep(time.Second)
		}
		if got := stateOf(rt); got != free {
			t.Errorf("after 285 s the state is %d, want %d (free)", got, free)
		}
	})
	bubble(t, "when the rate has grown 16-fold", func(t *testing.T) {
		quota := 60
		api := newQuotaAPI(fixedWindow(func() int { return quota }))
		rt := &RetryTransport{Base: api}
		calls := &asking{rt: rt}
		for i := range 300 { // it learns about one a second
			calls.begin(t.Context(), fmt.Sprint("first", i))
		}
		calls.wait()
		if got := stateOf(rt); got != paced {
			t.Errorf("after 300 calls at 60 a minute the state is %d, want %d (paced)", got, paced)
		}
		quota = 1e6
		for range 2 * 3600 {
			ask(t.Context(), rt, "light")
			time.Sleep(time.Second)
		}
		if got := stateOf(rt); got != free {
			t.Errorf("after two hours without a 429 the state is %d, want %d (free)", got, free)
		}
		began := time.Now()
		for i := range 500 {
			calls.begin(t.Context(), fmt.Sprint("burst", i))
		}
		calls.wait()
		wantBetween(t, "500 calls at once, after two hours without a 429", time.Since(began), 0, time.Second)
	})
}

func TestDeadlinesBehindAQueueOfMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newQuotaAPI(fixedWindow(func() int { return 60 }))
		rt := &RetryTransport{Base: api}
		calls := &asking{rt: rt}
		for i := range 900 {
			calls.begin(t.Context(), fmt.Sprint(i))
		}
		time.Sleep(4 * time.Minute) // the rate is known by now, and ten minutes of work are left
		within := func(d time.Duration) asked {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			return ask(ctx, rt, "within "+d.String())
		}
		got := within(3 * time.Minute)
		if !errors.Is(got.err, context.DeadlineExceeded) || got.took != 0 {
			t.Errorf("a call with 3 minutes: status %d, error %v after %s; want context.DeadlineExceeded at once", got.code, got.err, got.took)
		}
		if text := fmt.Sprint(got.err); !strings.Contains(text, "in about 1") && !strings.Contains(text, "in about 9") {
			t.Errorf("error %q, want one that says how long the queue is: about ten minutes", text)
		}
		got = within(time.Hour)
		wantCode(t, got, 200)
		wantBetween(t, "a call with an hour took", got.took, 8*time.Minute, 15*time.Minute)
		for path, got := range calls.wait() {
			if got.code != 200 {
				t.Fatalf("%s: status %d, error %v; want 200", path, got.code, got.err)
			}
		}
	})
}

// All calls begin before the quota is known. Once it is, those whose turn would come too late need not wait for their deadline.
func TestDeadlinesOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := &asking{rt: &RetryTransport{Base: newQuotaAPI(fixedWindow(func() int { return 60 }))}}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		for i := range 600 {
			calls.begin(ctx, fmt.Sprint(i))
		}
		granted, late := 0, 0 // told in the last half minute: a few whose time was just enough by then
		for path, got := range calls.wait() {
			switch {
			case got.code == 200:
				granted++
			case got.code != 429 && !errors.Is(got.err, context.DeadlineExceeded):
				t.Errorf("%s: status %d, error %v; want a 429 or context.DeadlineExceeded", path, got.code, got.err)
			case got.took > 150*time.Second:
				late++
			}
		}
		if granted < 150 || late > 10 {
			t.Errorf("%d calls were granted, and %d told so late; want at least 150 of the 180 that the quota has room for, and 10 at most", granted, late)
		}
	})
}

// pacedAt is a pace that has known for a while what rate is right. The first request may leave after one interval.
func pacedAt(rate float64) *pace {
	now := time.Now()
	return &pace{state: paced, lesson: 1, rate: rate, since: now, next: now.Add(duration(1 / rate)), flat: time.Hour, scale: time.Hour}
}

// A hold moves all turns. Who would come too late even at the rate that was too fast is told at once.
func TestDeadlinesBehindAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, now := pacedAt(1), time.Now()
		for i := range 50 {
			deadline := now.Add(time.Minute)
			if i < 20 { // those that were sent before go first
				deadline = now.Add(25 * time.Second)
			}
			if _, _, joined := p.join(deadline, i < 20); !joined {
				t.Fatalf("call %d was turned away, want all 50 to have time at 1 a second", i)
			}
		}
		p.report(1, limited, 40*time.Second)
		synctest.Wait()
		if got := p.waiting(); got < 16 || got > 20 {
			t.Errorf("%d wait on, want 16 to 20: 20 are told, and the next one leaves after 40 to 44 s", got)
		}
	})
}

// How long a turn is expected to take is told, and decides who has time for it.
func TestTurnsComeWhenTheyAreExpected(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(now time.Time) *pace
	}{
		{"paced", func(time.Time) *pace { return pacedAt(2) }},
		{"unknown rate", func(now time.Time) *pace {
			return &pace{state: paced, since: now, ramp: now, next: now.Add(250 * time.Millisecond)}
		}},
		{"unknown rate, 2 s later", func(now time.Time) *pace {
			return &pace{state: paced, since: now, ramp: now.Add(-2 * time.Second), next: now}
		}},
		{"hold", func(now time.Time) *pace {
			return &pace{state: held, rate: 2, cost: 1, heldAt: now, until: now.Add(10 * time.Second)}
		}},
		{"behind a probe", func(now time.Time) *pace {
			return &pace{state: held, rate: 0.5, cost: 1, heldAt: now, probed: now, until: now.Add(10 * time.Second)}
		}},
	} {
		bubble(t, c.name, func(t *testing.T) {
			p := c.make(time.Now())
			for i := range 30 {
				began := time.Now()
				w, wait, _ := p.join(time.Time{}, false)
				time.AfterFunc(0, func() {
					<-w.left
					wantBetween(t, fmt.Sprintf("turn %d, expected after %s", i, wait), time.Since(began), wait-time.Millisecond, wait+240*time.Millisecond)
					p.report(w.lesson, granted, 0)
				})
			}
			if c.name == "behind a probe" {
				p.report(0, granted, 0)
			}
			time.Sleep(time.Hour)
		})
	}
}

// What a late timer has missed is made up for.
func TestLateTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pacedAt(100)
		for range 5 {
			p.join(time.Time{}, false)
		}
		p.mu.Lock()
		p.run(time.Now().Add(25 * time.Millisecond)) // two turns have come, and the second is not late by more than timerError
		got := p.waiting()
		p.mu.Unlock()
		if got != 3 {
			t.Errorf("%d of 5 wait after 25 ms at 100 a second, want 3", got)
		}
	})
}

func TestWhoIsTurnedAway(t *testing.T) {
	for _, c := range []struct {
		name  string
		given func(now time.Time) *pace
		in    time.Duration // the deadline, 0 for none
		want  string
	}{
		{"free", func(time.Time) *pace { return new(pace) }, 1, ""},
		{"in a hold", func(now time.Time) *pace {
			return &pace{state: held, heldAt: now, until: now.Add(time.Minute), unsure: now.Add(time.Minute)}
		}, 0, ""},
		{"in a hold beyond the deadline", func(now time.Time) *pace {
			return &pace{state: held, heldAt: now, until: now.Add(time.Minute)}
		}, time.Minute, ReasonDeadline},
		{"in a long hold", func(now time.Time) *pace {
			return &pace{state: held, heldAt: now, until: now.Add(11 * time.Minute), unsure: now.Add(11 * time.Minute)}
		}, 0, ReasonRetryAfter},
		{"in a long hold, with time", func(now time.Time) *pace {
			return &pace{state: held, heldAt: now, until: now.Add(11 * time.Minute), unsure: now.Add(11 * time.Minute)}
		}, time.Hour, ""},
		{"nothing granted", func(now time.Time) *pace {
			return &pace{state: held, heldAt: now.Add(-31 * time.Minute), until: now.Add(time.Second)}
		}, 0, ReasonNothingGranted},
		{"nothing granted, but it is the next probe", func(now time.Time) *pace {
			return &pace{state: held, heldAt: now.Add(-31 * time.Minute), until: now}
		}, 0, ""},
		{"behind a probe, with little time", func(now time.Time) *pace {
			return &pace{state: held, heldAt: now, probed: now, until: now.Add(probeWait)}
		}, time.Second, ""},
		{"the hold is over", func(now time.Time) *pace {
			return &pace{state: paced, rate: 1, since: now, scale: 1, next: now.Add(time.Second), heldAt: now.Add(-24 * time.Hour), unsure: now.Add(time.Hour)}
		}, 0, ""},
		{"after a rejected probe", func(now time.Time) *pace {
			p := &pace{state: held, heldAt: now, probed: now}
			p.report(0, limited, time.Minute)
			return p
		}, 30 * time.Second, ReasonDeadline},
		{"after a lost probe", func(now time.Time) *pace {
			p := &pace{state: held, heldAt: now, probed: now, until: now.Add(probeWait)}
			p.report(0, lost, 0)
			return p
		}, time.Millisecond, ""},
	} {
		bubble(t, c.name, func(t *testing.T) {
			var deadline time.Time
			if c.in > 0 {
				deadline = time.Now().Add(c.in)
			}
			if w, _, _ := c.given(time.Now()).join(deadline, false); w.away != c.want {
				t.Errorf("turned away for %q, want %q", w.away, c.want)
			}
		})
	}
}

func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := pacedAt(1e-4)
		slow.join(time.Time{}, false)
		now := time.Now()
		for _, c := range []struct {
			name  string
			given *pace
			want  bool
		}{
			{"nothing", new(pace), true},
			{"nobody waits", pacedAt(1), true},
			{"somebody waits", slow, false},
			{"a hold", &pace{state: held, until: now.Add(1)}, false},
			{"a hold that is over", &pace{state: held, until: now}, true},
		} {
			if got := c.given.isQuiet(now); got != c.want {
				t.Errorf("%s: quiet is %t, want %t", c.name, got, c.want)
			}
		}
	})
}

// Processes that were rejected together come back apart.
func TestHoldsDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := map[time.Duration]bool{}
		for range 20 {
			p := new(pace)
			p.report(0, limited, 20*time.Second)
			hold := time.Until(p.until)
			wantBetween(t, "the hold", hold, 20*time.Second, 22*time.Second)
			seen[hold] = true
		}
		if len(seen) < 10 {
			t.Errorf("20 holds had %d lengths, want most to differ", len(seen))
		}
	})
}

// What was sent before a hold does not end it, whatever comes of it.
func TestOlderRequestsDoNotEndAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, came := range []outcome{lost, granted, limited} {
			p := pacedAt(1)
			p.report(1, limited, 20*time.Second)
			until := p.until
			p.report(1, came, time.Minute)
			if p.state != held || p.until != until || p.lesson != 2 {
				t.Errorf("after outcome %d, state %d until %s, lesson %d; want %d until %s, and lesson 2", came, p.state, p.until, p.lesson, held, until)
			}
		}
	})
}

// What a cycle teaches: its grants, the time it took, and where the rate that was rejected lay.
func TestLearning(t *testing.T) {
	for _, c := range []struct {
		name      string
		given     *pace
		took      time.Duration
		hold, gap float64 // at its end, in seconds
		want      float64
	}{
		{"unknown, the window was used up", &pace{grants: 60, tooFast: 30}, time.Minute, 57, 1, 60 / 59.5},
		{"unknown, a short window", &pace{grants: 30, tooFast: 20}, 3 * time.Second, 1, 0, 0.7 * 20},
		{"unknown, a long gap", &pace{grants: 30, tooFast: 20}, 3 * time.Second, 2, 60, 30 / 0.3},
		{"unknown, without idle time", &pace{grants: 60, idle: 4 * time.Minute}, 5 * time.Minute, 57, 0, 1},
		{"known and too much, by what was not granted", &pace{rate: 2, grants: 50, tooFast: 2}, 30 * time.Second, 1, 1, 51.0 / 29},
		{"known and too much", &pace{rate: 2, grants: 56, tooFast: 2}, 30 * time.Second, 1, 1, 1.9},
		{"known and far too much", &pace{rate: 2, grants: 3, tooFast: 2}, 3 * time.Second, 1, 2.9, 2.0 * 6 / 7},
		{"known and too much, by what was granted", &pace{rate: 2, grants: 59, tooFast: 2}, 30 * time.Second, 1, 1, 59.0 / 30},
		{"grown, the window was used up", &pace{rate: 1, grants: 60, tooFast: 2, grew: true}, time.Minute, 30, 1, (60.0/60 + 61.0/59) / 2},
		{"grown, a short window", &pace{rate: 10, grants: 600, tooFast: 14, grew: true}, time.Minute, 1, 1, 11},
		{"grown, a short window, by what was granted", &pace{rate: 10, grants: 720, tooFast: 14, grew: true}, time.Minute, 1, 1, 12},
	} {
		bubble(t, c.name, func(t *testing.T) {
			now := time.Now()
			c.given.since = now.Add(-c.took)
			c.given.learn(now, c.hold, c.gap)
			if got := c.given.rate; math.Abs(got-c.want) > 1e-9 {
				t.Errorf("learned %.4f a second, want %.4f", got, c.want)
			}
		})
	}
}

// probe has the hold of p end after idle time, and its probe granted: the first request in the queue.
func probe(p *pace, idle, latency time.Duration) {
	p.mu.Lock()
	hold := time.Until(p.until)
	p.mu.Unlock()
	time.Sleep(hold + idle)
	p.join(time.Time{}, false)
	time.Sleep(latency)
	p.mu.Lock()
	lesson := p.lesson
	p.mu.Unlock()
	p.report(lesson, granted, 0)
}

// seen returns the state, how many wait, and the rate. The timer may run the queue at the same time.
func seen(p *pace) (state paceState, waiting int, rate float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.waiting(), p.rate
}

// Whether a rate was rejected while it was kept or when it had grown, how long it is kept then, and how slowly it grows.
func TestPlateau(t *testing.T) {
	const s, minute = time.Second, time.Minute
	for _, c := range []struct {
		name      string
		rate      float64
		flat      time.Duration // of the rate that is rejected after a minute
		also      int           // 429s of requests that were under way
		after     time.Duration // Retry-After
		longest   time.Duration // hold before
		grew      bool
		wantFlat  time.Duration
		wantScale time.Duration
	}{
		{"kept", 1, 2 * minute, 0, s, 0, false, 40 * s, 20 * s},
		{"grown", 1, 30 * s, 0, s, 0, true, 40 * s, 20 * s},
		{"three 429s", 1, 2 * minute, 2, s, 0, false, 2 * minute, minute},
		{"at most", 1, 2 * minute, 9, s, 0, false, 4 * minute, minute},
		{"after a long hold", 10, 2 * minute, 0, 50 * s, 0, false, 50 * s, 50 * s},
		{"a hold was long", 1, 2 * minute, 0, s, 2 * minute, false, 40 * s, 30 * s},
		{"a second lost to rounding", 100, 2 * minute, 0, s, 0, false, 20 * s, 10 * s},
		{"at least", 100, 2 * minute, 0, 0, 0, false, 5 * s, 2500 * time.Millisecond},
	} {
		bubble(t, c.name, func(t *testing.T) {
			p := pacedAt(c.rate)
			p.since, p.flat, p.grants, p.longest = time.Now().Add(-minute), c.flat, int(59*c.rate), c.longest
			p.report(1, limited, c.after)
			for range c.also {
				p.report(1, limited, c.after)
			}
			if p.grew != c.grew {
				t.Errorf("grew is %t, want %t", p.grew, c.grew)
			}
			hold := time.Until(p.until)
			probe(p, 0, 0)
			wantBetween(t, "plateau", p.flat, c.wantFlat*98/100, c.wantFlat*11/10)
			wantBetween(t, "scale", p.scale, c.wantScale*98/100, c.wantScale*11/10)
			if wait := time.Until(p.next).Seconds(); p.state != paced || p.cost != 0 || p.grants != 1 || math.Abs(wait*p.rate-1) > 1e-6 {
				t.Errorf("state %d, cost %d, %d grants, the next in %.3f s; want %d, 0, 1, and one interval at %.3f a second",
					p.state, p.cost, p.grants, wait, paced, p.rate)
			}
			if p.longest != max(c.longest, hold) {
				t.Errorf("the longest hold is %s, want %s", p.longest, max(c.longest, hold))
			}
		})
	}
}

// Time in which nobody asks says nothing of the rate; nor does that for which a response is waited.
func TestIdleTimeIsNotUsedTime(t *testing.T) {
	unknown := func() *pace {
		p := &pace{state: paced, lesson: 1, since: time.Now().Add(-20 * time.Second), ramp: time.Now(), next: time.Now(), grants: 60}
		p.report(1, limited, 40*time.Second) // the window was used up
		return p
	}
	bubble(t, "in a hold", func(t *testing.T) {
		p := unknown()
		if probe(p, 20*time.Minute, 0); p.rate < 0.9 || p.idle != 0 {
			t.Errorf("learned %.4f a second, idle %s; want 0.9 at least: 60 were granted in a minute; and the next cycle without idle time", p.rate, p.idle)
		}
	})
	bubble(t, "between turns", func(t *testing.T) {
		p := pacedAt(1)
		time.Sleep(20 * time.Minute)
		for range 10 {
			p.join(time.Time{}, false)
		}
		if _, waiting, _ := seen(p); waiting != 9 {
			t.Errorf("%d of 10 wait after idle time, want 9: what was not used is not made up for", waiting)
		}
		p.mu.Lock()
		p.grants = 10
		p.mu.Unlock()
		p.report(1, limited, time.Second)
		probe(p, 0, 0)
		if _, _, rate := seen(p); rate < 0.95*0.5 {
			t.Errorf("learned %.4f a second, want about 1: 20 minutes were idle", rate)
		}
	})
	bubble(t, "of the doubling", func(t *testing.T) {
		now := time.Now()
		p := &pace{state: paced, since: now, ramp: now.Add(-time.Minute), next: now.Add(-time.Minute)}
		for range 10 {
			p.join(time.Time{}, false)
		}
		if _, waiting, _ := seen(p); waiting != 9 {
			t.Errorf("%d of 10 wait after a minute of idle time, want 9: the doubling begins anew", waiting)
		}
	})
	bubble(t, "under way", func(t *testing.T) {
		p := unknown()
		took, gap := time.Until(p.until)+25*time.Second, p.until.Sub(p.unsure)
		probe(p, 0, 5*time.Second)
		if want := 60 / (took - gap/2).Seconds(); math.Abs(p.rate-want) > 0.01 {
			t.Errorf("learned %.4f a second, want %.4f: the hold was over when the probe left", p.rate, want)
		}
	})
	bubble(t, "of a probe that was taken for lost", func(t *testing.T) {
		p := unknown()
		time.Sleep(time.Until(p.until))
		w, _, _ := p.join(time.Time{}, false)
		p.report(w.lesson, lost, 0)
		p.report(w.lesson, granted, 0)
		synctest.Wait()
		if p.rate < 0.9 || p.rate > 1.05 {
			t.Errorf("learned %.4f a second, want about 1", p.rate)
		}
	})
}

// Holds without Retry-After.
func TestHoldsGrow(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name string
		rate float64 // known, 0 for none
		want []time.Duration
	}{
		{"unknown rate", 0, []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s}},
		{"small rate", 0.5, []time.Duration{2 * s, 4 * s, 8 * s, 16 * s, 30 * s, 30 * s}},
		{"tiny rate", 0.01, []time.Duration{15 * s, 30 * s, 30 * s}},
		{"high rate", 1000, []time.Duration{s / 10, s / 5, 2 * s / 5}},
		{"nothing granted for five minutes", 0.1, append(slices.Repeat([]time.Duration{0}, 12), 10*s, 10*s)},
	} {
		bubble(t, c.name, func(t *testing.T) {
			p := new(pace)
			if c.rate > 0 {
				p = pacedAt(c.rate)
			}
			for i, want := range c.want {
				p.report(p.lesson, limited, 0)
				hold := time.Until(p.until)
				if want > 0 {
					wantBetween(t, fmt.Sprint("hold ", i), hold, want, want*11/10)
				}
				time.Sleep(hold)
				p.join(time.Time{}, false)
			}
		})
	}
}

// Nobody is free before the queue is short, and what is granted then is not part of a cycle.
func TestFreeWhenTheQueueIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pacedAt(1)
		p.since, p.flat, p.scale = time.Now().Add(-9*time.Second), 0, time.Second // in a second it has grown 16-fold
		for range 5 {
			p.join(time.Time{}, false)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if state, waiting, _ := seen(p); state != paced || waiting != 4 {
			t.Errorf("state %d, %d wait; want %d, and 4", state, waiting, paced)
		}
		time.Sleep(time.Second)
		p.join(time.Time{}, false)
		if state, waiting, _ := seen(p); state != free || waiting != 0 {
			t.Errorf("state %d, %d wait; want %d, and none", state, waiting, free)
		}
		p.report(1, limited, 10*time.Second)
		probe(p, 0, 0)
		if _, _, rate := seen(p); rate != 1 {
			t.Errorf("learned %.4f a second, want 1, as before", rate)
		}
	})
}

// Requests that were sent before wait for their like alone.
func TestSentBeforeGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pacedAt(1)
		for range 100 {
			p.join(time.Time{}, false)
		}
		w, wait, joined := p.join(time.Now().Add(5*time.Second), true)
		if !joined || wait != time.Second {
			t.Fatalf("joined is %t, the turn expected after %s; want true, and a second", joined, wait)
		}
		time.Sleep(time.Second)
		<-w.left
	})
}

// Ten requests leave before the first 429 is known. Their 429s, which come one by one, are one lesson.
func Test429OfAnOlderLessonIsNoNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newQuotaAPI(func(n int, req *http.Request) (*http.Response, error) {
			if n <= 10 {
				time.Sleep(time.Duration(n) * 90 * time.Millisecond)
				return status(429)
			}
			return status(200)
		})
		calls := &asking{rt: &RetryTransport{Base: api}}
		for i := range 10 {
			calls.begin(t.Context(), fmt.Sprint(i))
		}
		for _, got := range calls.wait() {
			wantCode(t, got, 200)
		}
		wantBetween(t, "the probe, after the first 429", api.at[10]-90*time.Millisecond, time.Second, 1100*time.Millisecond)
		if len(api.paths) != 20 {
			t.Errorf("%d requests were sent, want 20", len(api.paths))
		}
	})
}

func TestStray429CostsTenSecondsAtMost(t *testing.T) {
	for _, retryAfter := range []string{"", "1"} {
		bubble(t, fmt.Sprintf("Retry-After %q", retryAfter), func(t *testing.T) {
			stray := 1 + rand.IntN(1000)
			api := newQuotaAPI(func(n int, _ *http.Request) (*http.Response, error) {
				time.Sleep(80 * time.Millisecond)
				if n == stray {
					return status(429, "Retry-After", retryAfter)
				}
				return status(200)
			})
			rt := &RetryTransport{Base: api}
			const goroutines, each = 64, 400
			began := time.Now()
			var wg sync.WaitGroup
			for range goroutines {
				wg.Go(func() {
					for range each {
						if got := ask(t.Context(), rt, "me"); got.code != 200 {
							t.Errorf("status %d, error %v; want 200", got.code, got.err)
						}
					}
				})
			}
			wg.Wait()
			const ideal = each * 80 * time.Millisecond
			wantBetween(t, fmt.Sprintf("25,600 calls with a stray 429 at #%d", stray), time.Since(began), ideal, ideal+10*time.Second)
		})
	}
}

// A 429 is news for everybody, also if its own call is not sent again.
func Test429OfACallThatEndsCountsForEverybody(t *testing.T) {
	bubble(t, "a body that cannot be replayed", func(t *testing.T) {
		rt := &RetryTransport{Base: newQuotaAPI(then429("60", ok))}
		req, err := http.NewRequestWithContext(t.Context(), "PUT", "https://eu.api.ovh.com/x", io.LimitReader(zeros{}, 2<<20))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rt.RoundTrip(req)
		if err != nil || resp.StatusCode != 429 {
			t.Fatalf("%v, error %v; want its 429", resp, err)
		}
		resp.Body.Close()
		wantBetween(t, "the next call took", ask(t.Context(), rt, "me").took, time.Minute, 66*time.Second)
	})
	bubble(t, "a call that is canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		rt := &RetryTransport{Base: newQuotaAPI(func(n int, req *http.Request) (*http.Response, error) {
			if n == 1 {
				cancel()
				return status(429, "Retry-After", "60")
			}
			return status(200)
		})}
		if got := ask(ctx, rt, "x"); got.code != 429 && !errors.Is(got.err, context.Canceled) {
			t.Errorf("the canceled call: status %d, error %v; want its 429 or context.Canceled", got.code, got.err)
		}
		wantBetween(t, "the next call took", ask(t.Context(), rt, "me").took, time.Minute, 66*time.Second)
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
