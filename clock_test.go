package ovhauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
)

func TestServerClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var clock ovhauth.ServerClock
		now := func() time.Time { n, _ := clock.Now(t.Context()); return n }
		if d := time.Until(now()); d != 0 {
			t.Errorf("the zero clock is %v ahead", d)
		}
		for _, step := range []struct {
			ahead time.Duration // of the server
			moved bool
			want  time.Duration // offset afterwards
		}{
			{2 * time.Second, false, 0},
			{-2 * time.Second, false, 0},
			{2*time.Second + 1, true, 2*time.Second + 1},
			{0, true, 0},
			{-time.Hour, true, -time.Hour},
			{-time.Hour + time.Second, false, -time.Hour},
			{math.MaxInt64, true, math.MaxInt64},
			{math.MinInt64, true, math.MinInt64},
			{0, true, 0},
		} {
			if moved := clock.Correct(time.Now().Add(step.ahead)); moved != step.moved || clock.Offset() != step.want {
				t.Errorf("server %v ahead: moved %v, offset %v; want %v, %v", step.ahead, moved, clock.Offset(), step.moved, step.want)
			}
			if d := time.Until(now()); d != step.want {
				t.Errorf("Now is %v ahead, want %v", d, step.want)
			}
		}
	})
}

// timeAPI responds to /auth/time after a round trip of two seconds, and nothing else.
func timeAPI(ahead time.Duration, status int, body func(time.Time) string) *http.Client {
	return &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Base: baseFunc(func(req *http.Request) (*http.Response, error) {
		if req.URL.String() != "https://eu.api.ovh.com/1.0/auth/time" || authentication(req.Header) != nil {
			return nil, errors.New("asked elsewhere, or with keys")
		}
		time.Sleep(time.Second)
		now := time.Now().Add(ahead)
		time.Sleep(time.Second)
		return response(status, body(now)), nil
	})}}
}

func unix(now time.Time) string { return fmt.Sprint(now.Unix()) }

func TestServerTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := time.Now().Add(time.Hour + time.Second).Truncate(time.Second)
		got, err := ovhauth.ServerTime(t.Context(), timeAPI(time.Hour, 200, unix))
		if err != nil || !got.Equal(want) {
			t.Errorf("ServerTime = %v, %v; want %v", got, err, want)
		}
	})
}

func TestServerTimeClosesTheResponse(t *testing.T) {
	body := &trackedBody{Reader: strings.NewReader("1457018875\n")}
	base := baseFunc(func(*http.Request) (*http.Response, error) { return &http.Response{StatusCode: 200, Body: body}, nil })
	got, err := ovhauth.ServerTime(t.Context(), &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Base: base}})
	if err != nil || got.Unix() != 1457018875 || body.closed != 1 {
		t.Errorf("%v, %v, body closed %d times; want 1457018875 and once", got, err, body.closed)
	}
}

func TestServerTimeErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := func(s string) func(time.Time) string { return func(time.Time) string { return s } }
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for _, test := range []struct {
			name   string
			client *http.Client
			ctx    context.Context
			says   string
			check  func(error) bool
		}{
			{"rejected", timeAPI(0, 503, text("<h1>Sorry</h1>")), t.Context(), "GET /auth/time: 503 Service Unavailable: Sorry", func(err error) bool {
				e, ok := errors.AsType[*ovhauth.APIError](err)
				return ok && e.StatusCode == 503
			}},
			{"not a number", timeAPI(0, 200, text(`"soon"`)), t.Context(), "GET /auth/time", nil},
			{"empty", timeAPI(0, 200, text("")), t.Context(), "GET /auth/time", nil},
			{"longer than 1 MiB", timeAPI(0, 200, text(strings.Repeat(" ", 1<<20)+"1457018875")), t.Context(), "is not a time", nil},
			{"null", timeAPI(0, 200, text("null")), t.Context(), "is not a time", nil},
			{"zero", timeAPI(0, 200, text("0")), t.Context(), "is not a time", nil},
			{"before 1970", timeAPI(0, 200, text("-5")), t.Context(), "is not a time", nil},
			{"connection lost", &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Base: baseFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: io.NopCloser(io.MultiReader(strings.NewReader("1457018875"), iotest.ErrReader(io.ErrUnexpectedEOF)))}, nil
			})}}, t.Context(), "reading the response to GET /auth/time", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
			{"context", timeAPI(0, 200, unix), ended, "", func(err error) bool { return errors.Is(err, context.Canceled) }},
			{"no Transport of ours", &http.Client{Transport: &http.Transport{}}, t.Context(), "client must use an ovhauth.Transport", nil},
			{"bad endpoint", &http.Client{Transport: &ovhauth.Transport{Endpoint: "nowhere"}}, t.Context(), `endpoint "nowhere" is neither`, nil},
		} {
			_, err := ovhauth.ServerTime(test.ctx, test.client)
			if err == nil || test.check != nil && !test.check(err) {
				t.Errorf("%s: got %v, want another error", test.name, err)
				continue
			}
			if s := err.Error(); !strings.HasPrefix(s, "ovhauth: ") || strings.Count(s, "ovhauth: ") != 1 || !strings.Contains(s, test.says) {
				t.Errorf("%s: %q, want %q in it", test.name, s, test.says)
			}
		}
	})
}
