package ovhauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
)

// After the context ended in a backoff, the error says both: the context's and what the last attempt came to.
func TestContextEndsInABackoff(t *testing.T) {
	lost := &net.OpError{Op: "read", Err: io.ErrUnexpectedEOF}
	for _, test := range []struct {
		name    string
		given   any
		timeout bool
		matches []error
		want    string
	}{
		{"after a 503", reply(503, "Retry-After", "10"), false, []error{context.Canceled},
			"ovhauth: context canceled while waiting to send the request again after a 503 Service Unavailable"},
		{"after a 429", reply(429, "Retry-After", "10"), false, []error{context.Canceled},
			"ovhauth: context canceled while waiting to send the request again after a 429 Too Many Requests"},
		{"after a lost connection", lost, false, []error{context.Canceled, lost, io.ErrUnexpectedEOF},
			"ovhauth: context canceled while waiting to send the request again after: read: unexpected EOF"},
	} {
		inBubble(t, test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(5*time.Second, cancel)
			base := &scripted{outcomes: []any{test.given}}
			start := time.Now()
			// An error's wait is random: MaxRetries bridges short ones.
			_, err := get(t, ctx, &ovhauth.RetryTransport{Base: base, MinWait: time.Hour, MaxWait: time.Hour, MaxRetries: 99})
			for _, want := range test.matches {
				if !errors.Is(err, want) {
					t.Errorf("error %v, want one that matches %v", err, want)
				}
			}
			if err == nil || err.Error() != test.want || time.Since(start) != 5*time.Second {
				t.Errorf("error %v after %s, want %q when the context ends", err, time.Since(start), test.want)
			}
			if resp, ok := test.given.(*http.Response); ok {
				resp.Body.(*text).check(t, 1)
			}
		})
	}
}

func TestContextEndsOtherwise(t *testing.T) {
	t.Run("before the first attempt", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, getBody := range []bool{true, false} {
			sent := &text{s: payload}
			req := bodyRequest(t, "PUT", sent).WithContext(ctx)
			if !getBody {
				req.GetBody = nil
			}
			base := &scripted{outcomes: []any{reply(200)}}
			if _, err := finished(t, &ovhauth.RetryTransport{Base: base}, req); err != context.Canceled || len(base.at) != 0 {
				t.Errorf("GetBody %t: %v after %d attempts, want the context's own error and none", getBody, err, len(base.at))
			}
			sent.check(t, 1)
		}
	})
	t.Run("in an attempt whose error hides it", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		base := roundTrip(func(*http.Request) (*http.Response, error) {
			cancel()
			return nil, errors.New("broken")
		})
		if _, err := get(t, ctx, &ovhauth.RetryTransport{Base: base}); err != context.Canceled {
			t.Errorf("error %v, want the context's own", err)
		}
	})
	t.Run("as a 429 arrives", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		base := roundTrip(func(*http.Request) (*http.Response, error) {
			cancel()
			return respond(429), nil
		})
		if got := result(get(t, ctx, &ovhauth.RetryTransport{Base: base})); got != "429" {
			t.Errorf("got %s, want the 429 that arrived", got)
		}
	})
	t.Run("another context's error is an ordinary one", func(t *testing.T) {
		base := &scripted{outcomes: []any{context.DeadlineExceeded, context.Canceled, reply(200)}}
		if got := result(get(t, t.Context(), &ovhauth.RetryTransport{Base: base, MinWait: noWait})); got != "200" {
			t.Errorf("got %s, want 200 after two retries", got)
		}
	})
	inBubble(t, "http.Client.Timeout", func(t *testing.T) {
		base := roundTrip(func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, req.Context().Err()
		})
		client := &http.Client{Transport: &ovhauth.RetryTransport{Base: base}, Timeout: 3 * time.Second}
		start := time.Now()
		_, err := client.Get("/me")
		if !os.IsTimeout(err) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("%v after %s, want a timeout after 3 s", err, time.Since(start))
		}
	})
}

func TestBaseThatIsBroken(t *testing.T) {
	broken, opened := errors.New("broken"), &text{}
	for _, test := range []struct {
		name string
		resp *http.Response
		err  error
		want string
	}{
		{"neither response nor error", nil, nil, "ovhauth: Base returned neither a response nor an error"},
		{"both", &http.Response{StatusCode: 200, Body: opened.open()}, broken, "broken"},
	} {
		attempts := 0
		base := roundTrip(func(*http.Request) (*http.Response, error) { attempts++; return test.resp, test.err })
		rt := &ovhauth.RetryTransport{Base: base, MaxRetries: -1}
		if _, err := get(t, t.Context(), rt); err == nil || err.Error() != test.want || attempts != 1 {
			t.Errorf("%s: %v after %d attempts, want %q after one", test.name, err, attempts, test.want)
		}
	}
	opened.check(t, 1)
	base := &scripted{outcomes: []any{&http.Response{StatusCode: 503}, &http.Response{StatusCode: 403}}}
	if got := result(get(t, t.Context(), &ovhauth.RetryTransport{Base: base, MinWait: noWait})); got != "403" {
		t.Errorf("responses without a body: %s, want the 403 after a retry", got)
	}
}

func TestRequestWithoutURL(t *testing.T) {
	sent := &text{s: payload}
	_, err := (&ovhauth.RetryTransport{}).RoundTrip(&http.Request{Body: sent.open()})
	if want := "ovhauth: the request has no URL"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
	sent.check(t, 1)
}

// A client that lacks a Transport of ours is told so at once.
func TestErrorOfThisPackageIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := ovhauth.ServerTime(t.Context(), &http.Client{Transport: &ovhauth.RetryTransport{Base: &http.Transport{}}})
		if want := "client must use an ovhauth.Transport"; err == nil || !strings.Contains(err.Error(), want) || time.Since(start) != 0 {
			t.Errorf("%v after %s, want an error with %q at once", err, time.Since(start), want)
		}
	})
}

// Nothing of go-retryablehttp's, or of the http.Client inside it, reaches the user.
func TestRedirectIsLeftToTheCallersClient(t *testing.T) {
	for _, location := range []string{"/y", ":"} {
		sent := &text{s: payload}
		base := &scripted{outcomes: []any{reply(503), reply(307, "Location", location)}}
		got := result(finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, bodyRequest(t, "PUT", sent)))
		if got != "307" || len(base.at) != 2 {
			t.Errorf("Location %q: %s after %d attempts, want the 307 after 2", location, got, len(base.at))
		}
		sent.check(t, 2)
	}
	asked := 0
	client := &http.Client{
		Transport:     &ovhauth.RetryTransport{MinWait: noWait, Base: &scripted{outcomes: []any{reply(503), reply(302, "Location", "/y"), reply(200)}}},
		CheckRedirect: func(*http.Request, []*http.Request) error { asked++; return nil },
	}
	resp, err := client.Get("https://api/x")
	if got := result(resp, err); got != "200" || asked != 1 || resp.Request.URL.Path != "/y" {
		t.Fatalf("%s, CheckRedirect asked %d times; want 200 of /y, asked once", got, asked)
	}
	resp.Body.Close()
}

type pool struct {
	http.RoundTripper
	closed int
}

func (p *pool) CloseIdleConnections() { p.closed++ }

func TestIdleConnectionsAreClosedOnDemand(t *testing.T) {
	base := &pool{RoundTripper: &scripted{outcomes: []any{io.ErrUnexpectedEOF}}}
	client := &http.Client{Transport: &ovhauth.RetryTransport{MinWait: noWait,
		Base: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: testKeys, Base: base}}}
	if _, err := client.Get("/me"); !errors.Is(err, io.ErrUnexpectedEOF) || base.closed != 0 {
		t.Errorf("%v, idle connections closed %d times; want the attempt's error, and never", err, base.closed)
	}
	if client.CloseIdleConnections(); base.closed != 1 {
		t.Errorf("idle connections closed %d times, want once", base.closed)
	}
	(&ovhauth.RetryTransport{Base: roundTrip(nil)}).CloseIdleConnections() // which has none
}

// Without a Base, one Transport serves all requests: what its clock has learned stays learned.
func TestNilBaseIsOneTransport(t *testing.T) {
	var stale, fresh atomic.Int32
	server := time.Now().Add(time.Hour)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", server.UTC().Format(http.TimeFormat))
		if sent, _ := strconv.ParseInt(r.Header.Get("X-Ovh-Timestamp"), 10, 64); server.Unix()-sent > 60 {
			stale.Add(1)
			w.WriteHeader(400)
			io.WriteString(w, `{"errorCode":"QUERY_TIME_OUT","httpCode":"400 Bad Request","message":"Query out of time"}`)
			return
		}
		fresh.Add(1)
	}))
	defer srv.Close()
	for name, value := range map[string]string{"ENDPOINT": srv.URL, "APPLICATION_KEY": "a", "APPLICATION_SECRET": "b", "CONSUMER_KEY": "c"} {
		t.Setenv("OVH_"+name, value)
	}
	client := &http.Client{Transport: &ovhauth.RetryTransport{}}
	for range 3 {
		resp, err := client.Get("/me")
		if got := result(resp, err); got != "200" {
			t.Fatalf("got %s, want 200", got)
		}
		resp.Body.Close()
	}
	if stale.Load() != 1 || fresh.Load() != 3 {
		t.Errorf("%d requests at the wrong time, %d at the right one; want 1 and 3", stale.Load(), fresh.Load())
	}
	client.CloseIdleConnections()
}

func TestRetryTransportPrintsNoSecret(t *testing.T) {
	keys := ovhauth.Credentials{ApplicationKey: "hunter2a", ApplicationSecret: "hunter2s", ConsumerKey: "hunter2c", AccessToken: "hunter2t"}
	rt := &ovhauth.RetryTransport{Base: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: keys, Base: &recorder{}}}
	rt.RoundTrip(newRequest(t, "GET", "/me", nil))
	for _, v := range []any{rt, struct{ RT *ovhauth.RetryTransport }{rt}, &http.Client{Transport: rt}} {
		for how, shown := range printings(v) {
			if leaks(shown, "hunter2") {
				t.Errorf("%T by %s: %s; want no key", v, how, shown)
			}
		}
	}
	if got, want := fmt.Sprint(rt), `&ovhauth.RetryTransport{Base:*ovhauth.Transport MaxRetries:0 MinWait:0s MaxWait:0s}`; got != want {
		t.Errorf("printed as %s, want %s", got, want)
	}
}
