package ovhauth_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/ovhauth"
)

func TestBodyIsReopenedForEachAttempt(t *testing.T) {
	sent := &text{s: payload}
	base := &scripted{outcomes: []any{reply(503), io.ErrUnexpectedEOF, reply(200)}}
	req := bodyRequest(t, "PUT", sent)
	req.Trailer = http.Header{"X-Sum": nil}
	first, before := req.Body, *req
	if got := result(finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req)); got != "200" {
		t.Fatalf("got %s, want 200", got)
	}
	if want := []string{payload, payload, payload}; !slices.Equal(base.sent, want) {
		t.Errorf("sent %q, want %q", base.sent, want)
	}
	sent.check(t, 3)
	if base.reqs[0].Body != first {
		t.Error("the first attempt sent another reader, want the caller's own")
	}
	for i, r := range base.reqs {
		r.Trailer.Set("X-Sum", "1") // the map that the sender of trailers fills
		if r.ContentLength != req.ContentLength || req.Trailer.Get("X-Sum") != "1" || r.GetBody == nil || r.URL != req.URL {
			t.Errorf("attempt %d is %+v, want a copy of the caller's request", i+1, r)
		}
		req.Trailer.Del("X-Sum")
	}
	if req.Body != before.Body || req.Context() != before.Context() || len(req.Header) != 0 {
		t.Error("the caller's request was changed, want it untouched")
	}
}

// A body without GetBody is kept as it is read, up to 1 MiB.
func TestBodyWithoutGetBodyIsKept(t *testing.T) {
	const limit = 1 << 20
	for _, test := range []struct {
		name   string
		size   int
		length int64 // as the caller says
		again  bool
	}{
		{"short", 9, 9, true},
		{"short, of unknown length", 9, -1, true},
		{"short, without a length", 9, 0, true},
		{"at the limit", limit, limit, true},
		{"at the limit, of unknown length", limit, -1, true},
		{"beyond", limit + 1, limit + 1, false},
		{"beyond, of unknown length", limit + 1, -1, false},
	} {
		for _, first := range []any{reply(429), reply(503), io.ErrUnexpectedEOF} {
			inBubble(t, test.name, func(t *testing.T) {
				sent := &text{s: strings.Repeat("x", test.size)}
				req := bodyRequest(t, "PUT", sent)
				req.GetBody, req.ContentLength = nil, test.length
				base := &scripted{outcomes: []any{first, reply(200)}}
				got, want, attempts := result(finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req)), "200", 2
				if !test.again {
					attempts = 1
					if want = "unexpected EOF"; first != io.ErrUnexpectedEOF {
						want = strconv.Itoa(first.(*http.Response).StatusCode)
					}
				}
				if got != want || len(base.at) != attempts {
					t.Errorf("%s after %d attempts, want %s after %d", got, len(base.at), want, attempts)
				}
				for i, b := range base.sent {
					if b != sent.s {
						t.Errorf("attempt %d sent %d bytes, want all %d", i+1, len(b), len(sent.s))
					}
				}
				sent.check(t, 1)
			})
		}
	}
}

// A 429 that cannot be sent again is the caller's, with its whole body, however long.
func TestBodyThatIsNotKeptReturnsIts429Whole(t *testing.T) {
	sent, long := &text{s: strings.Repeat("x", 1<<20+1)}, strings.Repeat("y", 100<<10)
	req := bodyRequest(t, "POST", sent)
	req.GetBody = nil
	resp, err := (&ovhauth.RetryTransport{Base: &scripted{outcomes: []any{replyText(429, long)}}}).RoundTrip(req)
	if result(resp, err) != "429" {
		t.Fatalf("got %s, want the 429", result(resp, err))
	}
	if got, err := io.ReadAll(resp.Body); string(got) != long || err != nil {
		t.Errorf("%d bytes of the response, %v; want all %d", len(got), err, len(long))
	}
	resp.Body.Close()
	sent.check(t, 1)
}

// net/http may go on sending the body while the response to it is looked at.
func TestResponseInHandIfTheBodyTurnsOutTooLong(t *testing.T) {
	for _, code := range []int{429, 503} {
		inBubble(t, fmt.Sprint(code), func(t *testing.T) {
			sent := &text{s: strings.Repeat("x", 1<<20+1)}
			req := bodyRequest(t, "PUT", sent)
			req.GetBody, req.ContentLength = nil, -1
			var seen observed
			rt := &ovhauth.RetryTransport{OnEvent: seen.add, Base: roundTrip(func(req *http.Request) (*http.Response, error) {
				io.CopyN(io.Discard, req.Body, 10)
				time.AfterFunc(time.Millisecond, func() {
					io.Copy(io.Discard, req.Body)
					req.Body.Close()
				})
				return respond(code, "Retry-After", "1"), nil
			})}
			resp, err := finished(t, rt, req)
			if got := result(resp, err); got != fmt.Sprint(code) {
				t.Errorf("got %s, want the %d", got, code)
			}
			if got := seen.words(); len(got) == 0 || got[len(got)-1] != "gave up: "+ovhauth.ReasonBody {
				t.Errorf("events %q, want that it gave up for the body's sake", got)
			}
			sent.check(t, 1)
		})
	}
}

// A body that broke off cannot be kept, nor sent again.
func TestBodyThatBreaksIsSentOnce(t *testing.T) {
	mine, attempts := errors.New("mine"), 0
	req := newRequest(t, "PUT", "https://api/x", readerFunc(func([]byte) (int, error) { return 0, mine }))
	rt := &ovhauth.RetryTransport{MinWait: noWait, Base: baseFunc(func(req *http.Request) (*http.Response, error) {
		attempts++
		_, err := io.ReadAll(req.Body)
		return nil, err
	})}
	if _, err := rt.RoundTrip(req); !errors.Is(err, mine) || attempts != 1 {
		t.Errorf("%d attempts, %v; want one and the body's own error", attempts, err)
	}
}

func TestNoBodyNeedsNoGetBody(t *testing.T) {
	for _, body := range []io.Reader{nil, http.NoBody} {
		req := newRequest(t, "PUT", "/x", body)
		req.GetBody = nil
		base := &scripted{outcomes: []any{reply(503), reply(200)}}
		finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req)
		if len(base.at) != 2 || base.reqs[1].Body != req.Body {
			t.Errorf("body %v: %d attempts, the second with body %v; want 2, with the caller's", body, len(base.at), base.reqs[len(base.reqs)-1].Body)
		}
	}
}

// An empty body that is not nil counts as none.
func TestEmptyBodyIsRetried(t *testing.T) {
	sent := &text{}
	req := bodyRequest(t, "PUT", sent)
	req.GetBody, req.ContentLength = nil, -1
	base := &scripted{outcomes: []any{reply(503), reply(200)}}
	if got := result(finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req)); got != "200" || len(base.at) != 2 {
		t.Errorf("%s after %d attempts, want 200 after 2", got, len(base.at))
	}
	sent.check(t, 1)
}

func TestGetBodyFails(t *testing.T) {
	sent, gone := &text{s: payload}, errors.New("file is gone")
	opened := 0
	req := bodyRequest(t, "PUT", sent)
	req.GetBody = func() (io.ReadCloser, error) { opened++; return nil, gone }
	first := reply(503)
	base := &scripted{outcomes: []any{first}}
	_, err := finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req)
	if want := "ovhauth: opening the request's body again: file is gone"; !errors.Is(err, gone) || err.Error() != want || opened != 1 {
		t.Errorf("%v, opened %d times; want %q once", err, opened, want)
	}
	sent.check(t, 1)
	first.Body.(*text).check(t, 1)
}

// A body that cannot be read for signing is no lost connection.
func TestUnreadableBodyIsOpenedOnce(t *testing.T) {
	mine := errors.New("mine")
	for name, getBody := range map[string]func() (io.ReadCloser, error){
		"GetBody": func() (io.ReadCloser, error) { return nil, mine },
		"reader": func() (io.ReadCloser, error) {
			return io.NopCloser(readerFunc(func([]byte) (int, error) { return 0, mine })), nil
		},
	} {
		opened := 0
		req := newRequest(t, "PUT", "/me", struct{ io.Reader }{strings.NewReader("x")})
		req.GetBody = func() (io.ReadCloser, error) { opened++; return getBody() }
		rt := &ovhauth.RetryTransport{Base: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: &recorder{}}, MinWait: noWait}
		if _, err := rt.RoundTrip(req); err != mine || opened != 1 {
			t.Errorf("%s: opened %d times, %v; want once and the body's own error", name, opened, err)
		}
	}
}

// A body that breaks while a Transport reads it is the caller's affair: no limit keeps the request from being sent again.
func TestUnreadableBodyIsNotGivenUp(t *testing.T) {
	mine := errors.New("mine")
	req := newRequest(t, "PUT", "/me", readerFunc(func([]byte) (int, error) { return 0, mine }))
	req.ContentLength = 2 << 20 // too long to be kept for a retry
	var seen observed
	rt := &ovhauth.RetryTransport{Base: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: &recorder{}}, OnEvent: seen.add}
	if _, err := rt.RoundTrip(req); err != mine || seen.words() != nil {
		t.Errorf("got %v and the events %q; want the body's own error and no event", err, seen.words())
	}
}

func TestBodyFromAnOffsetOfAFile(t *testing.T) {
	name := t.TempDir() + "/body"
	if err := os.WriteFile(name, []byte("HEADER"+payload), 0o600); err != nil {
		t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) {
		f, err := os.Open(name)
		if err == nil {
			_, err = f.Seek(6, io.SeekStart)
		}
		return f, err
	}
	for _, getBody := range []func() (io.ReadCloser, error){open, nil} {
		f, err := open()
		if err != nil {
			t.Fatal(err)
		}
		req := newRequest(t, "PUT", "/x", f)
		req.ContentLength, req.GetBody = int64(len(payload)), getBody
		base := &scripted{outcomes: []any{reply(503), reply(503), reply(200)}}
		finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req)
		if want := []string{payload, payload, payload}; !slices.Equal(base.sent, want) {
			t.Errorf("GetBody %t: sent %q, want %q", getBody != nil, base.sent, want)
		}
		if f.Close() == nil {
			t.Errorf("GetBody %t: the file was left open, want it closed", getBody != nil)
		}
	}
}

// Memory does not follow a body's length, over all attempts.
func TestLargeBodyIsStreamedAtEachAttempt(t *testing.T) {
	const size, most = 64 << 20, 8 << 20
	var arrived []int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		if arrived = append(arrived, n); len(arrived) < 3 {
			w.WriteHeader(503)
		}
	}))
	defer srv.Close()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	rt := &ovhauth.RetryTransport{MinWait: noWait,
		Base: &ovhauth.Transport{Endpoint: ovhauth.Endpoint(srv.URL), Credentials: testKeys, Base: tr}}
	open := func() (io.ReadCloser, error) { return io.NopCloser(io.LimitReader(zeros{}, size)), nil }
	req := newRequest(t, "PUT", "/x", nil)
	req.Body, _ = open()
	req.GetBody, req.ContentLength = open, size

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	resp, err := rt.RoundTrip(req)
	runtime.ReadMemStats(&after)
	if got := result(resp, err); got != "200" {
		t.Fatalf("got %s, want 200", got)
	}
	resp.Body.Close()
	if want := []int64{size, size, size}; !slices.Equal(arrived, want) {
		t.Errorf("%d bytes arrived, want %d", arrived, want)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got >= most {
		t.Errorf("%d KiB allocated, want less than %d", got>>10, most>>10)
	}
}

// Each attempt is signed at its own time.
func TestRetrySignsAnew(t *testing.T) {
	base := &scripted{outcomes: []any{io.ErrUnexpectedEOF, reply(503), reply(200)}}
	now := time.Unix(1457018875, 0)
	rt := &ovhauth.RetryTransport{MinWait: noWait, Base: &ovhauth.Transport{Credentials: testKeys, Endpoint: ovhauth.EU, Base: base,
		Clock: ovhauth.ClockFunc(func() time.Time { now = now.Add(time.Second); return now })}}
	req := newRequest(t, "PUT", "/x", strings.NewReader(payload))
	if got := result(finished(t, rt, req)); got != "200" || len(base.reqs) != 3 {
		t.Fatalf("%s after %d attempts, want 200 after 3", got, len(base.reqs))
	}
	for i, r := range base.reqs {
		at := time.Unix(1457018876+int64(i), 0)
		want := ovhauth.Sign(testKeys, "PUT", "https://eu.api.ovh.com/1.0/x", []byte(payload), at)
		if r.Header.Get("X-Ovh-Timestamp") != strconv.FormatInt(at.Unix(), 10) || r.Header.Get("X-Ovh-Signature") != want {
			t.Errorf("attempt %d was signed at %s, want %d", i+1, r.Header.Get("X-Ovh-Timestamp"), at.Unix())
		}
	}
	if len(req.Header) != 0 {
		t.Errorf("the caller's header is %v, want it untouched", req.Header)
	}
}
