package ovhauth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
)

const (
	timeOut     = `{"message":"Query out of time","httpCode":"400 Bad Request","errorCode":"QUERY_TIME_OUT"}`
	timeOutOnly = `{"class":"Client::BadRequest","message":"Query out of time"}`
	badKey      = `{"errorCode":"INVALID_CREDENTIAL","httpCode":"403 Forbidden","message":"This credential is not valid"}`
	busy        = `{"class":"Client::Forbidden::Busy","message":"An operation is already running"}`
)

// skewed is an API whose clock is ahead of the local one. What its response is, reject decides.
type skewed struct {
	ahead  time.Duration
	reject func(s *skewed, req *http.Request, attempt int) *http.Response

	mu        sync.Mutex
	sent      []string // method and timestamp of each signed request
	asked     int      // for the time
	bodies    []string
	responses []*trackedBody
}

func (s *skewed) now() time.Time { return time.Now().Add(s.ahead) }

func (s *skewed) date() string { return s.now().UTC().Format(http.TimeFormat) }

func (s *skewed) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		req.Body.Close()
	}
	s.mu.Lock()
	if strings.HasSuffix(req.URL.Path, "/auth/time") {
		s.asked++
		s.mu.Unlock()
		time.Sleep(time.Second) // so that those who ask at once do so together
		return response(200, fmt.Sprint(s.now().Unix())), nil
	}
	defer s.mu.Unlock()
	s.sent = append(s.sent, req.Header.Get("X-Ovh-Timestamp"))
	s.bodies = append(s.bodies, string(body))
	resp := s.reject(s, req, len(s.sent))
	if resp == nil {
		resp = response(200, "{}")
	}
	tracked := &trackedBody{Reader: resp.Body}
	s.responses = append(s.responses, tracked)
	resp.Body = tracked
	return resp, nil
}

func (s *skewed) wrong(req *http.Request) bool {
	var at int64
	fmt.Sscan(req.Header.Get("X-Ovh-Timestamp"), &at)
	return s.now().Sub(time.Unix(at, 0)).Abs() > 30*time.Second
}

// dated rejects what was signed at the wrong time, with this status, body, and a Date.
func dated(status int, body string, headers ...string) func(*skewed, *http.Request, int) *http.Response {
	return func(s *skewed, req *http.Request, _ int) *http.Response {
		if !s.wrong(req) {
			return nil
		}
		return response(status, body, append(headers, "Date", s.date())...)
	}
}

func undated(status int, body string, headers ...string) func(*skewed, *http.Request, int) *http.Response {
	return func(s *skewed, req *http.Request, _ int) *http.Response {
		if !s.wrong(req) {
			return nil
		}
		return response(status, body, headers...)
	}
}

func always(status int, body string) func(*skewed, *http.Request, int) *http.Response {
	return func(s *skewed, req *http.Request, _ int) *http.Response {
		return response(status, body, "Date", s.date())
	}
}

func TestRepairClock(t *testing.T) {
	const hour = time.Hour
	for _, test := range []struct {
		name   string
		ahead  time.Duration
		method string
		reject func(*skewed, *http.Request, int) *http.Response
		sent   int // signed requests
		asked  int // times that /auth/time was asked
		status int
		offset time.Duration // of the clock afterwards, to the second
	}{
		{"right clock", 0, "GET", dated(400, timeOut), 1, 0, 200, 0},
		{"ahead", hour, "GET", dated(400, timeOut), 2, 0, 200, hour},
		{"behind", -hour, "POST", dated(400, timeOut), 2, 0, 200, -hour},
		{"years", 30 * 365 * 24 * hour, "POST", dated(400, timeOut), 2, 0, 200, 30 * 365 * 24 * hour},
		{"newer dialect", hour, "POST", dated(400, timeOutOnly), 2, 0, 200, hour},
		{"other status", hour, "POST", dated(408, timeOut), 2, 0, 200, hour},
		{"no Date", hour, "POST", undated(400, timeOut), 2, 1, 200, hour},
		{"Date is no date", hour, "POST", undated(400, timeOut, "Date", "yesterday"), 2, 1, 200, hour},
		{"from a cache", hour, "POST", dated(400, timeOut, "Age", "3600"), 2, 1, 200, hour},
		{"rejected again", hour, "POST", always(400, timeOut), 2, 1, 400, hour},
		{"within two seconds, rejected all the same", time.Second, "POST", always(400, timeOut), 2, 2, 400, 0},
		{"Date of a 403, GET", hour, "GET", dated(403, busy), 2, 1, 200, hour},
		{"Date of a 403, DELETE", hour, "DELETE", dated(403, busy), 2, 1, 200, hour},
		{"Date of a 403, POST", hour, "POST", dated(403, busy), 1, 1, 403, hour},
		{"Date of a 403, PATCH", hour, "PATCH", dated(403, busy), 1, 1, 403, hour},
		{"Date of a 403 about authentication, POST", hour, "POST", dated(403, badKey), 2, 1, 200, hour},
		{"Date of a 401", hour, "GET", dated(401, `{"message":"You must login first"}`), 2, 1, 200, hour},
		{"Date of a 401, POST", hour, "POST", dated(401, `{"message":"You must login first"}`), 1, 1, 401, hour},
		{"Date of a 403, behind", -hour, "GET", dated(403, busy), 2, 1, 200, -hour},
		{"Date of a 400", hour, "PUT", dated(400, `{"message":"Invalid JSON received"}`), 2, 1, 200, hour},
		{"a 503 that says so", hour, "POST", dated(503, timeOut), 2, 0, 200, hour},
		{"a 200 that says so", hour, "GET", dated(200, timeOut), 1, 0, 200, 0},
		{"the words, but not JSON", hour, "POST", undated(400, "<h1>Query out of time</h1>"), 1, 0, 400, 0},
		{"Date of a 404", hour, "GET", dated(404, "{}"), 1, 0, 404, 0},
		{"Date of a 500", hour, "GET", dated(500, "{}"), 1, 0, 500, 0},
		{"Date just outside", 32 * time.Second, "GET", dated(403, busy), 2, 1, 200, 32 * time.Second},
		{"Date just inside", 29 * time.Second, "GET", always(403, busy), 1, 0, 403, 0},
		{"Date just inside, behind", -29 * time.Second, "GET", always(403, busy), 1, 0, 403, 0},
		{"the words in other words", hour, "POST", undated(400, `{"message":"Query out of time, or so"}`), 1, 0, 400, 0},
		{"not JSON", hour, "POST", undated(400, "<h1>QUERY_TIME_OUT</h1>"), 1, 0, 400, 0},
		{"empty", hour, "POST", undated(400, ""), 1, 0, 400, 0},
	} {
		for i := range 4 {
			once, told := i&1 != 0, i&2 != 0
			t.Run(fmt.Sprintf("%s, once %v, provider told %v", test.name, once, told), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log bytes.Buffer
					api, clock := &skewed{ahead: test.ahead, reject: test.reject}, &ovhauth.ServerClock{}
					transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Clock: clock, Base: api,
						Logger: slog.New(slog.NewTextHandler(&log, nil))}
					if told {
						transport.Credentials = &rotating{next: []ovhauth.Credentials{shared}} // which has no others
					}
					opened := &openings{text: "body"}
					req := newRequest(t, test.method, "/me", nil)
					req.Body, _ = opened.open()
					if !once {
						req.GetBody = opened.open
					}
					resp, err := transport.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					if resp.StatusCode != test.status || len(api.sent) != test.sent || api.asked != test.asked || resp.Request != req {
						t.Errorf("%d after %d requests and %d questions, want %d, %d, %d", resp.StatusCode, len(api.sent), api.asked, test.status, test.sent, test.asked)
					}
					if got := clock.Offset().Round(2 * time.Second); got != test.offset.Round(2*time.Second) {
						t.Errorf("the clock is %v ahead, want %v", got, test.offset)
					}
					if corrected := strings.Contains(log.String(), `msg="ovhauth: clock corrected" method=`); corrected != (test.offset != 0) {
						t.Errorf("log: %s", log.String())
					}
					if !slices.Equal(api.bodies, slices.Repeat([]string{"body"}, test.sent)) {
						t.Errorf("bodies %q", api.bodies)
					}
					resp.Body.Close()
					opened.check(t, "request")
					for i, a := range api.responses {
						if a.closed != 1 {
							t.Errorf("response %d closed %d times", i, a.closed)
						}
					}

					if test.status == 200 && test.sent > 1 { // once corrected, corrected for all
						sent, asked := len(api.sent), api.asked
						if resp, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil || resp.StatusCode != 200 {
							t.Fatalf("the next request: %v, %v; want 200", resp, err)
						}
						if len(api.sent) != sent+1 || api.asked != asked {
							t.Error("the next request was rejected again")
						}
					}
				})
			})
		}
	}
}

// The zero Transport corrects a clock of its own, and one that is not a corrector is left alone.
func TestRepairWhichClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			clock  ovhauth.Clock
			status int
		}{{nil, 200}, {ovhauth.ClockFunc(time.Now), 400}} {
			api := &skewed{ahead: time.Hour, reject: dated(400, timeOut)}
			transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Clock: test.clock, Base: api}
			resp, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil))
			if err != nil || resp.StatusCode != test.status {
				t.Errorf("%T: %v, %v", test.clock, resp, err)
			}
		}
	})
}

// What needs no signature is not about time, whatever the response.
func TestRepairOnlyWhatWasSigned(t *testing.T) {
	for _, test := range []struct {
		method, url string
		ctx         context.Context
	}{
		{"POST", "/auth/credential", t.Context()},
		{"GET", "/me", ovhauth.WithoutSignature(t.Context())},
		{"GET", "https://example.org/", t.Context()},
	} {
		api := &skewed{ahead: time.Hour, reject: always(400, timeOut)}
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: api}
		if _, err := transport.RoundTrip(newRequest(t, test.method, test.url, nil).WithContext(test.ctx)); err != nil || len(api.sent) != 1 {
			t.Errorf("%s %s: sent %d times, %v", test.method, test.url, len(api.sent), err)
		}
	}
}

// Of 50 rejected together, all go again, and the time is asked for once.
func TestRepairTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		all.Add(50)
		api := &skewed{ahead: time.Hour, reject: undated(400, timeOut)}
		// Nobody gets a response before all have been rejected, whoever moves the clock first.
		together := baseFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := api.RoundTrip(req)
			if err == nil && resp.StatusCode == 400 {
				all.Done()
				all.Wait()
			}
			return resp, err
		})
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: together}
		var callers sync.WaitGroup
		for range 50 {
			callers.Go(func() {
				resp, err := transport.RoundTrip(newRequest(t, "POST", "/me", strings.NewReader("x")))
				if err != nil || resp.StatusCode != 200 {
					t.Errorf("got %v, %v", resp, err)
				}
			})
		}
		callers.Wait()
		if len(api.sent) != 100 || api.asked != 1 {
			t.Errorf("%d requests, %d questions", len(api.sent), api.asked)
		}
	})
}

// The question for the time outlives the request that began it. That is its caller's again, to change; another one tells of the clock.
func TestRepairLeavesARequestThatEndedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &skewed{ahead: time.Hour, reject: undated(400, timeOut)}
		base := baseFunc(func(req *http.Request) (*http.Response, error) {
			if strings.HasSuffix(req.URL.Path, "/auth/time") {
				time.Sleep(10 * time.Second)
			}
			return api.RoundTrip(req)
		})
		var told []string
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base, OnEvent: func(ctx context.Context, e ovhauth.Event) {
			told = append(told, fmt.Sprint(e.Kind, " ", e.Path, " ", ctx.Err()))
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		req := newRequest(t, "GET", "/first", nil).WithContext(ctx)
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := transport.RoundTrip(req); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("first: %v, want %v", err, context.DeadlineExceeded)
			}
			req.Method, req.URL = "POST", &url.URL{Path: "/changed"}
		})
		both.Go(func() {
			time.Sleep(time.Second)
			if resp, err := transport.RoundTrip(newRequest(t, "GET", "/second", nil)); err != nil || resp.StatusCode != 200 {
				t.Errorf("second: %v, %v, want 200", resp, err)
			}
		})
		both.Wait()
		if want := []string{"clock corrected /second <nil>"}; !slices.Equal(told, want) || api.asked != 1 {
			t.Errorf("told %q after %d questions, want %q after one", told, api.asked, want)
		}
	})
}

// A clock that another request has moved meanwhile does not hide that this one was signed at the wrong time.
func TestRepairAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &ovhauth.ServerClock{}
		api := &skewed{ahead: time.Hour}
		api.reject = func(s *skewed, req *http.Request, attempt int) *http.Response {
			if attempt > 1 {
				return nil
			}
			clock.Correct(s.now())
			return response(403, busy, "Date", s.date())
		}
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Clock: clock, Base: api}
		if resp, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil || resp.StatusCode != 200 {
			t.Errorf("got %v, %v", resp, err)
		}
	})
}

// A slow response is no wrong clock: its Date lies between signing and arrival.
func TestSlowResponseIsNotSkew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := &ovhauth.ServerClock{}
		for _, late := range []bool{true, false} { // when the server made its Date
			api := &skewed{}
			api.reject = func(s *skewed, _ *http.Request, _ int) *http.Response {
				resp := response(403, busy, "Date", s.date())
				time.Sleep(10 * time.Minute)
				if late {
					resp.Header.Set("Date", s.date())
				}
				return resp
			}
			transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Clock: clock, Base: api}
			if _, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil || len(api.sent) != 1 || clock.Offset() != 0 {
				t.Errorf("late %v: sent %d times, clock %v, %v", late, len(api.sent), clock.Offset(), err)
			}
		}
	})
}

// What cannot be repaired is passed on as the API sent it, whole.
func TestRepairFails(t *testing.T) {
	long := timeOut[:len(timeOut)-1] + `,"details":{"x":"` + strings.Repeat("y", 1<<20) + `"}}`
	reject := func(body string) func(*skewed, *http.Request, int) *http.Response { return undated(400, body) }
	mine := errors.New("mine")
	for name, test := range map[string]struct {
		body   string
		change func(*ovhauth.Transport, *http.Request)
	}{
		"GetBody fails the second time": {timeOut, func(_ *ovhauth.Transport, r *http.Request) {
			calls := 0
			original := r.GetBody
			r.Body = struct{ io.ReadCloser }{r.Body} // not seen to lie in memory, so the first time is for hashing
			r.GetBody = func() (io.ReadCloser, error) {
				if calls++; calls > 1 {
					return nil, mine
				}
				return original()
			}
		}},
		"the time is not to be had": {timeOut, func(tr *ovhauth.Transport, _ *http.Request) {
			base := tr.Base
			tr.Base = baseFunc(func(r *http.Request) (*http.Response, error) {
				if strings.HasSuffix(r.URL.Path, "/auth/time") {
					return response(503, ""), nil
				}
				return base.RoundTrip(r)
			})
		}},
		"too long to be the API's": {long, func(*ovhauth.Transport, *http.Request) {}},
	} {
		synctest.Test(t, func(t *testing.T) {
			api := &skewed{ahead: time.Hour, reject: reject(test.body)}
			transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: api}
			req := newRequest(t, "POST", "/me", strings.NewReader("x"))
			test.change(transport, req)
			resp, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 400 || string(body) != test.body || err != nil || len(api.sent) != 1 || api.responses[0].closed != 1 {
				t.Errorf("%s: %d with %d of %d bytes, %v; sent %d times, closed %d times", name, resp.StatusCode, len(body), len(test.body), err, len(api.sent), api.responses[0].closed)
			}
		})
	}
}

// A response that breaks off is handed on with what came of it, and with its error.
func TestRepairKeepsABrokenResponse(t *testing.T) {
	sent := 0
	base := baseFunc(func(*http.Request) (*http.Response, error) {
		sent++
		resp, broken := response(403, ""), false
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(timeOut), readerFunc(func([]byte) (int, error) {
			if broken {
				return 0, io.EOF // a reader need not say it twice
			}
			broken = true
			return 0, io.ErrUnexpectedEOF
		})))
		return resp, nil
	})
	resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(newRequest(t, "GET", "/me", nil))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); string(body) != timeOut || err != io.ErrUnexpectedEOF || sent != 1 {
		t.Errorf("got %q, %v after %d sendings; want %q, %v after 1", body, err, sent, timeOut, io.ErrUnexpectedEOF)
	}
	nilBody := baseFunc(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 403}, nil })
	if resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: nilBody}).RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil || resp.StatusCode != 403 {
		t.Errorf("no body: %v, %v", resp, err)
	}
}

// The context ends while the time is asked for: the caller leaves at once, and takes the question along if it was the last. The error
// says what the response was about.
func TestRepairCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan struct{})
		api := &skewed{ahead: time.Hour, reject: undated(400, timeOut)}
		base := baseFunc(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/auth/time") {
				<-r.Context().Done()
				close(gone)
				return nil, r.Context().Err()
			}
			return api.RoundTrip(r)
		})
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		resp, err := transport.RoundTrip(newRequest(t, "POST", "/me", nil).WithContext(ctx))
		if resp != nil || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ovhauth.ErrQueryTimeOut) || api.responses[0].closed != 1 {
			t.Errorf("got %v, %v, response closed %d times; want an error that matches the context's and ErrQueryTimeOut", resp, err, api.responses[0].closed)
		}
		<-gone
	})
}

// The same while a token is asked for, and while the response is waited for.
func TestRejectionWhoseContextEnds(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		text   string
		want   string
	}{
		{"in the provider", 401, `{"message":"You must login first"}`,
			"ovhauth: context deadline exceeded while looking into the response: POST /me: 401 Unauthorized: You must login first"},
		{"in the response", 401, "", "ovhauth: context deadline exceeded while looking into the response: POST /me: 401 Unauthorized"},
		{"with a response that is not looked into", 404, "", "context deadline exceeded"},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
			defer cancel()
			r, w := io.Pipe()
			body := &hangingBody{&trackedBody{Reader: r}, r}
			if test.text != "" {
				go func() { io.WriteString(w, test.text); w.Close() }()
			}
			transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: &hangingProvider{}, Base: baseFunc(func(*http.Request) (*http.Response, error) {
				if test.status == 404 {
					<-ctx.Done() // as the response arrives
				}
				return &http.Response{StatusCode: test.status, Body: body}, nil
			})}
			resp, err := transport.RoundTrip(newRequest(t, "POST", "/me", nil).WithContext(ctx))
			if resp != nil || !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), test.want) || body.closed != 1 {
				t.Errorf("got %v, %v, response closed %d times; want %q and once", resp, err, body.closed, test.want)
			}
		})
	}
}

// hangingProvider gives a token, and another one never.
type hangingProvider struct{ rejected bool }

func (p *hangingProvider) Invalidate(ovhauth.Credentials) { p.rejected = true }

func (p *hangingProvider) Retrieve(ctx context.Context) (ovhauth.Credentials, error) {
	if p.rejected {
		<-ctx.Done()
		return ovhauth.Credentials{}, ctx.Err()
	}
	return ovhauth.Credentials{AccessToken: "t"}, nil
}

// A body that stalls delays its response by a second, and no status is lost to it.
func TestStalledRejection(t *testing.T) {
	for _, status := range []int{400, 401, 403, 404, 429, 503} {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			body := &hangingBody{&trackedBody{Reader: r}, r}
			base := baseFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: status, Body: body}, nil
			})
			began := time.Now()
			resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(newRequest(t, "GET", "/me", nil))
			if err != nil || resp.StatusCode != status || time.Since(began) > time.Second {
				t.Fatalf("got %v, %v after %v; want a %d after at most a second", resp, err, time.Since(began), status)
			}
			go func() { io.WriteString(w, "late"); w.Close() }()
			if text, err := io.ReadAll(resp.Body); string(text) != "late" || err != nil {
				t.Errorf("%d: the body is %q, %v; want what came late", status, text, err)
			}
			if resp.Body.Close(); body.closed != 1 {
				t.Errorf("%d: the body was closed %d times, want once", status, body.closed)
			}
		})
	}
}

// A caller that does not wait for a stalled body closes it, and nothing is left behind.
func TestStalledRejectionIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails if a goroutine is left
		r, w := io.Pipe()
		base := baseFunc(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 403, Body: r}, nil })
		go io.WriteString(w, "early")
		resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(newRequest(t, "GET", "/me", nil))
		if err != nil {
			t.Fatal(err)
		}
		early := make([]byte, 5)
		if _, err := io.ReadFull(resp.Body, early); err != nil || string(early) != "early" {
			t.Errorf("read %q, %v; want what came before the body stalled", early, err)
		}
		resp.Body.Close()
	})
}

// The time is asked of the API alone: where it redirects to may be anywhere.
func TestRepairAsksNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, clock := &skewed{ahead: time.Hour, reject: undated(400, timeOut)}, &ovhauth.ServerClock{}
		base := baseFunc(func(r *http.Request) (*http.Response, error) {
			switch {
			case r.URL.Host == "elsewhere.example":
				t.Error("asked elsewhere")
			case strings.HasSuffix(r.URL.Path, "/auth/time"):
				return response(302, "", "Location", "https://elsewhere.example/time"), nil
			}
			return api.RoundTrip(r)
		})
		resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Clock: clock, Base: base}).RoundTrip(newRequest(t, "GET", "/me", nil))
		if err != nil || resp.StatusCode != 400 || clock.Offset() != 0 {
			t.Errorf("got %v, %v, clock %v", resp, err, clock.Offset())
		}
	})
}

// What panics while the time is asked for panics where it can be recovered.
func TestRepairPanics(t *testing.T) {
	api := &skewed{ahead: time.Hour, reject: undated(400, timeOut)}
	base := baseFunc(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/auth/time") {
			panic("mine")
		}
		return api.RoundTrip(r)
	})
	transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}
	for range 2 { // and the next one is not stuck
		func() {
			defer func() {
				if p := recover(); p != "mine" {
					t.Errorf("recovered %v", p)
				}
			}()
			transport.RoundTrip(newRequest(t, "GET", "/me", nil))
		}()
	}
}

// nudged is a clock that can be corrected, and no more.
type nudged struct{ offset time.Duration }

func (n *nudged) Now(context.Context) (time.Time, error) { return time.Now().Add(n.offset), nil }

func (n *nudged) Correct(server time.Time) bool {
	n.offset = time.Until(server)
	return true
}

func TestRepairClockOfOnesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Clock: &nudged{}, Logger: slog.New(slog.NewTextHandler(&log, nil)),
			Base: &skewed{ahead: time.Hour, reject: dated(400, timeOut)}}
		if resp, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil || resp.StatusCode != 200 {
			t.Errorf("got %v, %v", resp, err)
		}
		if !strings.Contains(log.String(), `msg="ovhauth: clock corrected" method=GET path=/me attempt=1 status=400 wait=1h0m0s reason="query time out"`) {
			t.Errorf("log: %s", log.String())
		}
	})
}

// tokens is a provider that can be told of a rejected token.
type tokens struct {
	next    []string
	dropped []string
}

func (p *tokens) Retrieve(context.Context) (ovhauth.Credentials, error) {
	return ovhauth.Credentials{AccessToken: p.next[0]}, nil
}

func (p *tokens) Invalidate(c ovhauth.Credentials) {
	p.dropped = append(p.dropped, c.AccessToken)
	if len(p.next) > 1 {
		p.next = p.next[1:]
	}
}

func TestRepairToken(t *testing.T) {
	for _, test := range []struct {
		name    string
		next    []string
		status  int // of a rejection
		size    int // that it is longer by
		sent    []string
		dropped []string
		want    int
	}{
		{"dropped", []string{"old", "new"}, 401, 0, []string{"Bearer old", "Bearer new"}, []string{"old"}, 200},
		{"as it was given", []string{" old\n", "new"}, 401, 0, []string{"Bearer old", "Bearer new"}, []string{" old\n"}, 200},
		{"once only", []string{"old", "older", "new"}, 401, 0, []string{"Bearer old", "Bearer older"}, []string{"old"}, 401},
		{"no other", []string{"old"}, 401, 0, []string{"Bearer old"}, []string{"old"}, 401},
		{"403 is not about the token", []string{"old", "new"}, 403, 0, []string{"Bearer old"}, nil, 403},
		{"longer than is read", []string{"old", "new"}, 401, 16 << 10, []string{"Bearer old"}, nil, 401},
	} {
		for _, once := range []bool{false, true} {
			var log bytes.Buffer
			var sent []string
			base := baseFunc(func(r *http.Request) (*http.Response, error) {
				if body, _ := io.ReadAll(r.Body); string(body) != "body" {
					t.Errorf("%s: body %q", test.name, body)
				}
				sent = append(sent, r.Header.Get("Authorization"))
				if sent[len(sent)-1] == "Bearer new" {
					return response(200, ""), nil
				}
				return response(test.status, `{"message":"no"}`+strings.Repeat(" ", test.size), "Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), nil
			})
			provider := &tokens{next: test.next}
			opened := &openings{text: "body"}
			req := newRequest(t, "POST", "/me", nil)
			req.Body, _ = opened.open()
			if !once {
				req.GetBody = opened.open
			}
			transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: provider, Base: base, Logger: slog.New(slog.NewTextHandler(&log, nil))}
			resp, err := transport.RoundTrip(req)
			if err != nil || resp.StatusCode != test.want {
				t.Errorf("%s: got %v, %v; want %d", test.name, resp, err, test.want)
			}
			if !slices.Equal(sent, test.sent) || !slices.Equal(provider.dropped, test.dropped) {
				t.Errorf("%s: sent %q, dropped %q; want %q, %q", test.name, sent, provider.dropped, test.sent, test.dropped)
			}
			if strings.Contains(log.String(), "old") || (log.Len() > 0) != (len(test.sent) > 1) {
				t.Errorf("%s: log: %s", test.name, log.String())
			}
			opened.check(t, test.name)
		}
	}
}

// The provider is not told of the rejection of a request that had nothing of it.
func TestUnsignedRejectionDropsNothing(t *testing.T) {
	for name, rejection := range map[string]*http.Response{"401": response(401, "{}"), "403": response(403, badKey)} {
		provider := &tokens{next: []string{"old", "new"}}
		base := &byHost{responses: map[string]*http.Response{"eu.api.ovh.com": rejection}}
		req := newRequest(t, "GET", "/order/cart", nil)
		req = req.WithContext(ovhauth.WithoutSignature(req.Context()))
		resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: provider, Base: base}).RoundTrip(req)
		if err != nil || resp.StatusCode != rejection.StatusCode || len(base.arrived) != 1 || provider.dropped != nil {
			t.Errorf("%s: %v, %v, %d sent, dropped %q; want it passed on, and nothing dropped", name, resp, err, len(base.arrived), provider.dropped)
		}
	}
}

// What was rejected is what was sent: the application key of a provider that has a token, too, or keys beside a blank token.
func TestReplacedKeysBesideAToken(t *testing.T) {
	for _, test := range []struct{ name, path, token string }{
		{"asking for a consumer key", "/auth/credential", "token"},
		{"signed", "/me", " \n"},
	} {
		old, other := shared, otherKeys
		old.AccessToken, other.AccessToken = test.token, test.token
		var reasons []string
		base := baseFunc(func(r *http.Request) (*http.Response, error) {
			if r.Header.Get("X-Ovh-Application") == shared.ApplicationKey {
				return response(403, `{"errorCode":"INVALID_KEY"}`), nil
			}
			return response(200, "{}"), nil
		})
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: &rotating{next: []ovhauth.Credentials{old, other}}, Base: base,
			OnEvent: func(_ context.Context, e ovhauth.Event) { reasons = append(reasons, e.Reason) }}
		resp, err := transport.RoundTrip(newRequest(t, "POST", test.path, nil))
		if err != nil || resp.StatusCode != 200 || !slices.Equal(reasons, []string{ovhauth.ReasonKeysRejected}) {
			t.Errorf("%s: %v, %v, events for %q; want 200 and %q", test.name, resp, err, reasons, ovhauth.ReasonKeysRejected)
		}
	}
}

// The connection of a rejected token is used again.
func TestRepairTokenKeepsTheConnection(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer new" {
			http.Error(w, strings.Repeat("no ", 2000), http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	reused := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
	transport := &ovhauth.Transport{Endpoint: ovhauth.Endpoint(server.URL), Credentials: &tokens{next: []string{"old", "new"}}, Base: server.Client().Transport}
	resp, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil).WithContext(ctx))
	if err != nil || resp.StatusCode != 200 || !reused {
		t.Errorf("got %v, %v; connection used again: %v", resp, err, reused)
	}
}

// Between the first time and the second, a provider may turn from keys to a token.
func TestRepairKeepsTheBodyOfAnotherKind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, asked := &skewed{ahead: time.Hour, reject: func(s *skewed, _ *http.Request, attempt int) *http.Response {
			if attempt > 1 {
				return nil
			}
			return response(400, timeOut, "Date", s.date())
		}}, 0
		provider := ovhauth.CredentialFunc(func(context.Context) (ovhauth.Credentials, error) {
			if asked++; asked > 1 {
				return ovhauth.Credentials{AccessToken: "t"}, nil
			}
			return shared, nil
		})
		resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: provider, Base: api}).RoundTrip(newRequest(t, "POST", "/me", strings.NewReader("body")))
		if err != nil || resp.StatusCode != 200 || !slices.Equal(api.bodies, []string{"body", "body"}) {
			t.Errorf("%v, %v, bodies %q", resp, err, api.bodies)
		}
	})
}

// A token that nobody can renew is rejected once.
func TestRepairLiteralToken(t *testing.T) {
	sent := 0
	base := baseFunc(func(*http.Request) (*http.Response, error) { sent++; return response(401, ""), nil })
	resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: ovhauth.Credentials{AccessToken: "t"}, Base: base}).RoundTrip(newRequest(t, "GET", "/me", nil))
	if err != nil || resp.StatusCode != 401 || sent != 1 {
		t.Errorf("got %v, %v after %d", resp, err, sent)
	}
}

// A Date that is far off is a suspicion. The API's own time clears it, for ten minutes, or confirms it.
func TestRightClockIsNotMovedByADate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []ovhauth.Event
		clock := &ovhauth.ServerClock{}
		frontEnd := func(s *skewed, req *http.Request, _ int) *http.Response {
			if s.wrong(req) {
				return response(400, timeOut)
			}
			return response(403, `{"message":"This call has not been granted"}`, "Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		}
		api := &skewed{reject: frontEnd}
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Clock: clock, Base: api,
			OnEvent: func(_ context.Context, e ovhauth.Event) { events = append(events, e) }}
		get := func() int {
			resp, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		for i := range 3 {
			if status := get(); status != 403 || len(api.sent) != i+1 || api.asked != 1 || clock.Offset() != 0 {
				t.Fatalf("call %d: %d, %d requests, /auth/time asked %d times, clock moved by %v; want a 403, one request a call, asked once, not moved",
					i+1, status, len(api.sent), api.asked, clock.Offset())
			}
		}
		time.Sleep(10*time.Minute - time.Second)
		if get(); api.asked != 1 {
			t.Errorf("/auth/time asked %d times before ten minutes were over, want 1", api.asked)
		}
		time.Sleep(2 * time.Second)
		if get(); api.asked != 2 {
			t.Errorf("/auth/time asked %d times after ten minutes, want 2", api.asked)
		}
		if len(events) != 0 {
			t.Errorf("events %v, want none", events)
		}
	})
}

// If the API cannot be asked, a suspicion moves nothing, and is raised again.
func TestSuspicionThatCannotBeChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock, asked := &ovhauth.ServerClock{}, 0
		base := baseFunc(func(r *http.Request) (*http.Response, error) {
			if strings.HasSuffix(r.URL.Path, "/auth/time") {
				asked++
				return response(503, ""), nil
			}
			return response(403, "{}", "Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), nil
		})
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Clock: clock, Base: base}
		for range 2 {
			resp, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil))
			if err != nil || resp.StatusCode != 403 || clock.Offset() != 0 {
				t.Errorf("got %v, %v, clock moved by %v; want the 403, and no move", resp, err, clock.Offset())
			}
		}
		if asked != 2 {
			t.Errorf("/auth/time asked %d times, want each time", asked)
		}
	})
}

// QUERY_TIME_OUT is proof that the clock is wrong. A Date that agrees with the clock, or that misleads it, gives way to /auth/time.
func TestDateThatLies(t *testing.T) {
	for _, test := range []struct {
		name    string
		date    time.Duration // of the rejections, before the local clock
		status  int           // of the first call
		sent    int           // requests of the first call
		reasons []string
	}{
		{"agrees with the wrong clock", 0, 200, 2, []string{"query time out"}},
		{"misleads it", time.Hour, 400, 2, []string{"query time out", "date was wrong"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var reasons []string
			clock := &ovhauth.ServerClock{}
			api := &skewed{ahead: 10 * time.Minute, reject: func(s *skewed, req *http.Request, _ int) *http.Response {
				if !s.wrong(req) {
					return nil
				}
				return response(400, timeOut, "Date", time.Now().Add(-test.date).UTC().Format(http.TimeFormat))
			}}
			transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Clock: clock, Base: api,
				OnEvent: func(_ context.Context, e ovhauth.Event) { reasons = append(reasons, e.Reason) }}
			resp, err := transport.RoundTrip(newRequest(t, "POST", "/me", strings.NewReader("x")))
			if err != nil || resp.StatusCode != test.status || len(api.sent) != test.sent || api.asked != 1 {
				t.Fatalf("%s: %v, %v, %d requests, /auth/time asked %d times; want %d, %d, once", test.name, resp, err, len(api.sent), api.asked, test.status, test.sent)
			}
			if off := (clock.Offset() - 10*time.Minute).Abs(); off > 2*time.Second {
				t.Errorf("%s: the clock is off by %v; want it right for the calls to come", test.name, off)
			}
			if resp, err := transport.RoundTrip(newRequest(t, "POST", "/me", strings.NewReader("x"))); err != nil || resp.StatusCode != 200 || len(api.sent) != test.sent+1 {
				t.Errorf("%s: then %v, %v after %d requests; want 200 at once", test.name, resp, err, len(api.sent)-test.sent)
			}
			if !slices.Equal(reasons, test.reasons) {
				t.Errorf("%s: events for %q, want %q", test.name, reasons, test.reasons)
			}
		})
	}
}

// A Date makes the clock suspect if it is more than 30 s before the request was signed, or after the response came.
func TestDateThatMakesTheClockSuspect(t *testing.T) {
	for _, test := range []struct {
		name  string
		date  time.Duration // since the request was signed
		takes time.Duration // that the response comes later
		ahead time.Duration // of the server's clock
		asked int           // for the time
	}{
		{"30 s before", -30 * time.Second, 0, 0, 0},
		{"31 s before", -31 * time.Second, 0, 0, 1},
		{"30 s after", 30 * time.Second, 0, 0, 0},
		{"31 s after", 31 * time.Second, 0, 0, 1},
		{"30 s after a slow response", 90 * time.Second, time.Minute, 0, 0},
		{"31 s after a slow response", 91 * time.Second, time.Minute, 0, 1},
		{"of both attempts", time.Hour, 0, 10 * time.Minute, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			signed, asked := time.Now(), 0
			base := baseFunc(func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/1.0/auth/time" {
					asked++
					return response(200, fmt.Sprint(time.Now().Add(test.ahead).Unix())), nil
				}
				time.Sleep(test.takes)
				return response(403, "{}", "Date", signed.Add(test.date).UTC().Format(http.TimeFormat)), nil
			})
			resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(newRequest(t, "GET", "/me", nil))
			if err != nil || resp.StatusCode != 403 || asked != test.asked {
				t.Errorf("%s: %v, %v, /auth/time asked %d times; want the 403, asked %d times", test.name, resp, err, asked, test.asked)
			}
		})
	}
}

// A rejection that comes when that of another request has had the clock corrected asks nobody for the time.
func TestRejectionAfterTheCorrection(t *testing.T) {
	for _, test := range []struct {
		name    string
		headers []string
		asked   int // for the time, by the other request
	}{{"with a Date", []string{"Date", ""}, 0}, {"without", nil, 1}} {
		synctest.Test(t, func(t *testing.T) {
			api := &skewed{ahead: time.Hour}
			if test.headers != nil {
				test.headers[1] = api.date()
			}
			api.reject = func(s *skewed, req *http.Request, _ int) *http.Response {
				if !s.wrong(req) {
					return nil
				}
				return response(400, timeOut, test.headers...)
			}
			transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared}
			first := true
			transport.Base = baseFunc(func(r *http.Request) (*http.Response, error) {
				resp, err := api.RoundTrip(r)
				if first {
					first = false
					transport.RoundTrip(newRequest(t, "GET", "/other", nil))
				}
				return resp, err
			})
			resp, err := transport.RoundTrip(newRequest(t, "POST", "/me", strings.NewReader("x")))
			if err != nil || resp.StatusCode != 200 || len(api.sent) != 4 || api.asked != test.asked {
				t.Errorf("%s: %v, %v, %d sent, /auth/time asked %d times; want 200, both sent twice, asked %d times", test.name, resp, err, len(api.sent), api.asked, test.asked)
			}
		})
	}
}

// The server's clock was read halfway between the request for its time and the response.
func TestSlowResponseToTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := new(ovhauth.ServerClock)
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Clock: clock, Base: baseFunc(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path != "/1.0/auth/time" {
				return response(400, timeOut), nil
			}
			time.Sleep(10 * time.Second)
			now := time.Now().Add(time.Hour)
			time.Sleep(10 * time.Second)
			return response(200, unix(now)), nil
		})}
		if _, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil || clock.Offset() != time.Hour {
			t.Errorf("%v, the clock is %s ahead; want an hour", err, clock.Offset())
		}
	})
}

// corrected is a clock that another request corrects as soon as it has told the time.
type corrected struct {
	ovhauth.ServerClock
	server func() time.Time
}

func (c *corrected) Now(ctx context.Context) (time.Time, error) {
	now, err := c.ServerClock.Now(ctx)
	c.Correct(c.server())
	return now, err
}

func TestCorrectionWhileTheClockIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &skewed{ahead: time.Hour, reject: func(s *skewed, req *http.Request, _ int) *http.Response {
			if !s.wrong(req) {
				return nil
			}
			return response(400, timeOut)
		}}
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Clock: &corrected{server: api.now}, Base: api}
		resp, err := transport.RoundTrip(newRequest(t, "POST", "/me", strings.NewReader("x")))
		if err != nil || resp.StatusCode != 200 || len(api.sent) != 2 || api.asked != 0 {
			t.Errorf("%v, %v, %d sent, /auth/time asked %d times; want 200 at the second, and nobody asked", resp, err, len(api.sent), api.asked)
		}
	})
}

// With one connection to a host, the time can only be asked for when the rejection has been read.
func TestRepairOverOneConnection(t *testing.T) {
	for name, size := range map[string]int{"short": 100, "as long as is read": 15 << 10, "too long": 20 << 10} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var at int64
			fmt.Sscan(r.Header.Get("X-Ovh-Timestamp"), &at)
			switch {
			case r.URL.Path == "/auth/time":
				fmt.Fprint(w, time.Now().Add(time.Hour).Unix())
			case time.Until(time.Unix(at, 0)) < 59*time.Minute:
				w.Header()["Date"] = nil
				w.WriteHeader(400)
				fmt.Fprint(w, `{"errorCode":"QUERY_TIME_OUT","message":"Query out of time"}`+strings.Repeat(" ", size))
				w.(http.Flusher).Flush()
			}
		}))
		one := server.Client().Transport.(*http.Transport).Clone()
		one.MaxConnsPerHost = 1
		asked := false
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			asked = asked || strings.HasSuffix(req.URL.Path, "/auth/time")
			return one.RoundTrip(req)
		})
		transport := &ovhauth.Transport{Endpoint: ovhauth.Endpoint(server.URL), Credentials: shared, Base: base}
		resp, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil))
		want := 200
		if size > 16<<10 {
			want = 400 // passed on whole
		}
		if err != nil || resp.StatusCode != want || asked != (want == 200) {
			t.Fatalf("%s: %v, %v, the time was asked for: %t; want a %d, and the question only if there is a connection for it", name, resp, err, asked, want)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || want == 400 && len(body) < size {
			t.Errorf("%s: read %d bytes, %v; want all of it", name, len(body), err)
		}
		resp.Body.Close()
		one.CloseIdleConnections()
		server.Close()
	}
}

// Keys that were replaced since they were read are replaced in the request, too.
func TestRejectedKeysAreReplaced(t *testing.T) {
	for name, rejection := range map[string]string{
		"INVALID_KEY":        `{"errorCode":"INVALID_KEY","message":"This application key is invalid"}`,
		"NOT_CREDENTIAL":     `{"errorCode":"NOT_CREDENTIAL","message":"This credential does not exist"}`,
		"INVALID_CREDENTIAL": badKey,
		"INVALID_SIGNATURE":  `{"errorCode":"INVALID_SIGNATURE","message":"Invalid signature"}`,
	} {
		for _, test := range []struct {
			name string
			next []ovhauth.Credentials
			sent int
			want int
		}{
			{"others", []ovhauth.Credentials{shared, otherKeys}, 2, 200},
			{"the same", []ovhauth.Credentials{shared, shared}, 1, 403},
			{"the same with another expiry", []ovhauth.Credentials{shared, func() ovhauth.Credentials { c := shared; c.Expires = time.Unix(1, 0); return c }()}, 1, 403},
			{"others that are rejected, too", []ovhauth.Credentials{shared, {ApplicationKey: "a", ApplicationSecret: "b", ConsumerKey: "c"}, otherKeys}, 2, 403},
		} {
			var events []ovhauth.Event
			sent := 0
			base := baseFunc(func(r *http.Request) (*http.Response, error) {
				sent++
				if b, _ := io.ReadAll(r.Body); string(b) != "body" {
					t.Errorf("%s, %s: sent with body %q", name, test.name, b)
				}
				if r.Header.Get("X-Ovh-Consumer") == otherKeys.ConsumerKey {
					return response(200, "{}"), nil
				}
				return response(403, rejection), nil
			})
			transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: &rotating{next: test.next}, Base: base,
				OnEvent: func(_ context.Context, e ovhauth.Event) { events = append(events, e) }}
			resp, err := transport.RoundTrip(newRequest(t, "POST", "/me", struct{ io.Reader }{strings.NewReader("body")}))
			if err != nil || resp.StatusCode != test.want || sent != test.sent {
				t.Errorf("%s, %s: %v, %v, sent %d times; want %d after %d", name, test.name, resp, err, sent, test.want, test.sent)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || test.want == 403 && string(body) != rejection {
				t.Errorf("%s, %s: the response is %q, %v; want it whole", name, test.name, body, err)
			}
			if replaced := len(events) == 1 && events[0].Kind == ovhauth.EventCredentialsReplaced && events[0].Reason == ovhauth.ReasonKeysRejected; replaced != (test.sent == 2) {
				t.Errorf("%s, %s: events %v; want one if keys were replaced", name, test.name, events)
			}
		}
	}
}

// If what replaces the keys cannot sign, the caller gets the rejection, and its body is closed no second time.
func TestRejectedKeysAreReplacedByIncompleteOnes(t *testing.T) {
	base := &byHost{responses: map[string]*http.Response{"eu.api.ovh.com": response(403, badKey)}}
	closing := baseFunc(base.RoundTrip)
	provider := &rotating{next: []ovhauth.Credentials{shared, {ApplicationKey: "a"}}}
	body := &trackedBody{Reader: strings.NewReader("x")}
	req := newRequest(t, "PUT", "/me", strings.NewReader("x"))
	req.Body = body // with GetBody
	resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: provider, Base: closing}).RoundTrip(req)
	if err != nil || resp.StatusCode != 403 || len(base.arrived) != 1 || body.closed != 1 {
		t.Errorf("%v, %v, %d sent, body closed %d times; want the 403 of one, and the body closed once", resp, err, len(base.arrived), body.closed)
	}
}

// rotating is a provider that has others when what it gave was rejected.
type rotating struct{ next []ovhauth.Credentials }

func (r *rotating) Retrieve(context.Context) (ovhauth.Credentials, error) { return r.next[0], nil }

func (r *rotating) Invalidate(c ovhauth.Credentials) {
	if c == r.next[0] && len(r.next) > 1 {
		r.next = r.next[1:]
	}
}
