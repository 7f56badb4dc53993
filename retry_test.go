package ovhauth_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"runtime"
	"slices"
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
	"github.com/hashicorp/go-retryablehttp"
	"github.com/jarcoal/httpmock"
)

// The tests that need no wait set MinWait to this.
const noWait = time.Nanosecond

const payload = `{"a":"b"}`

var testKeys = ovhauth.Credentials{ApplicationKey: "the-AK", ApplicationSecret: "the-AS", ConsumerKey: "the-CK"}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// A mishap is what happens to the first attempt of a request; the second one succeeds.
type mishap struct {
	https  bool
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	handle http.HandlerFunc
	base   func(*http.Transport) http.RoundTripper
	keys   ovhauth.CredentialProvider
	cancel context.CancelFunc // of the request's context
}

func status(code int, body string) func(*testing.T, *mishap) {
	return func(_ *testing.T, m *mishap) {
		m.handle = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere") // which nobody may follow
			w.WriteHeader(code)
			if r.Method != http.MethodHead {
				io.WriteString(w, body)
			}
		}
	}
}

// reset cuts the connection of a request that is being served.
func reset(w http.ResponseWriter) {
	conn, _, _ := w.(http.Hijacker).Hijack()
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// slammer accepts connections and closes them.
func slammer(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return l.Addr().String()
}

var unsent = []struct {
	name  string
	setup func(*testing.T, *mishap)
}{
	{"DNS", func(_ *testing.T, m *mishap) {
		noServer := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no server") }
		m.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			d := net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: noServer}}
			return d.DialContext(ctx, network, "api.invalid.:443")
		}
	}},
	{"dial", func(t *testing.T, m *mishap) {
		m.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:0") // where nobody can listen
		}
	}},
	{"TLS handshake cut", func(t *testing.T, m *mishap) {
		addr := slammer(t)
		m.https = true
		m.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	}},
	{"no TLS there", func(t *testing.T, m *mishap) {
		plain := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(plain.Close)
		m.https = true
		m.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, plain.Listener.Addr().String())
		}
	}},
}

var unexecuted = []struct {
	name  string
	setup func(*testing.T, *mishap)
}{
	{"429", status(429, "slow down")},
	{"403 busy", status(403, busy)},
}

var doubtful = []struct {
	name  string
	setup func(*testing.T, *mishap)
}{
	{"connection reset", func(_ *testing.T, m *mishap) {
		m.handle = func(w http.ResponseWriter, _ *http.Request) { reset(w) }
	}},
	{"timeout", func(_ *testing.T, m *mishap) {
		m.handle = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		m.base = func(tr *http.Transport) http.RoundTripper {
			tr = tr.Clone()
			tr.ResponseHeaderTimeout = 10 * time.Millisecond
			return tr
		}
	}},
	{"408", status(408, "<html><body><h1>408 Request Time-out</h1></body></html>")},
	{"500", status(500, "oops")},
	{"502", status(502, "<html>bad gateway</html>")},
	{"503", status(503, "")},
	{"504", status(504, "late")},
}

var never = []struct {
	name  string
	setup func(*testing.T, *mishap)
}{
	{"200", status(200, "fine")},
	{"204", status(204, "")},
	{"302", status(302, "")},
	{"307", status(307, "")},
	{"400", status(400, `{"message":"Invalid signature"}`)},
	{"401", status(401, `{"message":"You must login first"}`)},
	{"403", status(403, `{"class":"Client::Forbidden","message":"This call has not been granted"}`)},
	{"403 large", status(403, strings.Repeat(busy, 1000))},
	{"404", status(404, "")},
	{"409", status(409, busy)},
	{"501", status(501, "")},
	{"505", status(505, "")},
	{"certificate error", func(_ *testing.T, m *mishap) {
		m.https = true
		m.base = func(tr *http.Transport) http.RoundTripper {
			tr = tr.Clone()
			tr.TLSClientConfig.RootCAs = x509.NewCertPool()
			return tr
		}
	}},
	{"certificate error of one's own", func(_ *testing.T, m *mishap) {
		m.https = true
		m.base = func(tr *http.Transport) http.RoundTripper {
			tr = tr.Clone()
			tr.TLSClientConfig.VerifyConnection = func(tls.ConnectionState) error { return x509.UnknownAuthorityError{} }
			return tr
		}
	}},
	{"no credentials", func(_ *testing.T, m *mishap) {
		m.keys = ovhauth.CredentialFunc(func(context.Context) (ovhauth.Credentials, error) {
			return ovhauth.Credentials{}, &net.DNSError{Err: "the vault is down"}
		})
	}},
	{"context done", func(_ *testing.T, m *mishap) {
		m.handle = func(w http.ResponseWriter, _ *http.Request) { m.cancel(); reset(w) }
	}},
	{"answered, then context done", func(t *testing.T, m *mishap) {
		status(503, "")(t, m)
		m.base = func(tr *http.Transport) http.RoundTripper {
			return roundTrip(func(req *http.Request) (*http.Response, error) {
				defer m.cancel()
				return tr.RoundTrip(req)
			})
		}
	}},
}

// TestRetryTable is the table in RetryTransport's documentation, each cell of it over a real socket.
func TestRetryTable(t *testing.T) {
	idempotent := []string{"", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST with key", "PATCH with key"}
	other := []string{"POST", "PATCH", "PURGE"}
	for _, group := range []struct {
		rows []struct {
			name  string
			setup func(*testing.T, *mishap)
		}
		again, againOther bool
	}{
		{unsent, true, true},
		{unexecuted, true, true},
		{doubtful, true, false},
		{never, false, false},
	} {
		for _, row := range group.rows {
			for _, method := range idempotent {
				t.Run(row.name+"/"+method, func(t *testing.T) { cell(t, method, row.setup, group.again) })
			}
			for _, method := range other {
				t.Run(row.name+"/"+method, func(t *testing.T) { cell(t, method, row.setup, group.againOther) })
			}
		}
	}
}

func cell(t *testing.T, method string, setup func(*testing.T, *mishap), again bool) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := mishap{cancel: cancel, keys: testKeys}
	setup(t, &m)
	if method == "HEAD" && strings.HasPrefix(t.Name(), "TestRetryTable/403_busy") {
		again = false // such an answer has no body to say so
	}

	var attempts, arrived atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		if got, _ := io.ReadAll(r.Body); string(got) != payload {
			t.Errorf("body %q arrived", got)
		}
		if m.handle != nil && attempts.Load() == 1 {
			m.handle(w, r)
			return
		}
		io.WriteString(w, "done")
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{}}
	if m.https {
		srv.StartTLS()
		tr.TLSClientConfig.RootCAs = srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	} else {
		srv.Start()
	}
	defer srv.Close()
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if m.dial != nil && attempts.Load() == 1 {
			return m.dial(ctx, network, addr)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	signer := &ovhauth.Transport{Endpoint: ovhauth.Endpoint(srv.URL), Credentials: m.keys,
		Base: roundTrip(func(req *http.Request) (*http.Response, error) {
			if m.base != nil && attempts.Load() == 1 {
				return m.base(tr).RoundTrip(req)
			}
			return tr.RoundTrip(req)
		})}
	var ownErr error
	var ownStatus int
	rt := &ovhauth.RetryTransport{MinWait: noWait, Base: roundTrip(func(req *http.Request) (*http.Response, error) {
		attempts.Add(1)
		resp, err := signer.RoundTrip(req)
		ownErr, ownStatus = err, 0
		if err == nil {
			ownStatus = resp.StatusCode
		}
		return resp, err
	})}

	method, withKey := strings.CutSuffix(method, " with key")
	req, _ := http.NewRequestWithContext(ctx, "GET", "/x", strings.NewReader(payload))
	req.Method = method
	if withKey {
		req.Header.Set("Idempotency-Key", "k")
	}
	resp, err := rt.RoundTrip(req)
	if (resp == nil) == (err == nil) {
		t.Fatalf("response %v and error %v", resp, err)
	}
	want := int32(1)
	if again {
		want = 2
	}
	if attempts.Load() != want {
		t.Errorf("%d attempts, want %d (last error %v)", attempts.Load(), want, err)
	}
	if again && (err != nil || resp.StatusCode != 200) {
		t.Errorf("after a retry: %v, %v", resp, err)
	}
	if err != ownErr { // not errors.Is: the very error, not wrapped
		t.Errorf("error %v, but Base's was %v", err, ownErr)
	}
	if err == nil {
		if resp.StatusCode != ownStatus {
			t.Errorf("status %d, but Base's was %d", resp.StatusCode, ownStatus)
		}
		if resp.Request != req {
			t.Error("the answer is not to the caller's request")
		}
		if _, err := io.ReadAll(resp.Body); err != nil && ctx.Err() == nil {
			t.Error("reading the answer:", err)
		}
		resp.Body.Close()
	}
}

// scripted answers the attempts in turn, the last one for ever, and notes when they came. It treats bodies as a RoundTripper must.
type scripted struct {
	answers []any // *http.Response or error

	mu    sync.Mutex
	start time.Time
	at    []time.Duration // since the first
	reqs  []*http.Request
	sent  []string // bodies
}

func (s *scripted) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.start = time.Now()
	}
	s.at = append(s.at, time.Since(s.start))
	s.reqs = append(s.reqs, req)
	if req.Body != nil {
		b, _ := io.ReadAll(req.Body)
		s.sent = append(s.sent, string(b))
		req.Body.Close()
	}
	switch a := s.answers[min(len(s.at), len(s.answers))-1].(type) {
	case error:
		return nil, a
	default:
		resp := *a.(*http.Response)
		resp.Request = req
		if b, ok := resp.Body.(*text); ok {
			resp.Body = b.open()
		}
		return &resp, nil
	}
}

// text is a body that can be read again and again, and knows whether those opened were closed.
type text struct {
	io.Reader
	s                   string
	of                  *text
	opened, closed, all atomic.Int32
}

func (b *text) open() *text {
	b.opened.Add(1)
	return &text{Reader: strings.NewReader(b.s), of: b}
}
func (b *text) Close() error {
	b.of.all.Add(1)
	if b.closed.Add(1) == 1 {
		b.of.closed.Add(1)
	}
	return nil
}

// check fails the test unless as many were opened, and each was closed exactly once.
func (b *text) check(t *testing.T, want int32) {
	t.Helper()
	if b.opened.Load() != want || b.closed.Load() != want || b.all.Load() != want {
		t.Errorf("%d bodies opened, %d closed by %d calls, want %d", b.opened.Load(), b.closed.Load(), b.all.Load(), want)
	}
}

func reply(code int, header ...string) *http.Response {
	resp := &http.Response{StatusCode: code, Header: http.Header{}, Body: &text{s: fmt.Sprint("answer ", code)}}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

func get(t *testing.T, ctx context.Context, rt http.RoundTripper) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", "/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	return finished(t, rt, req)
}

// finished reads the answer whole and closes it.
func finished(t *testing.T, rt http.RoundTripper, req *http.Request) (*http.Response, error) {
	t.Helper()
	resp, err := rt.RoundTrip(req)
	if (resp == nil) == (err == nil) {
		t.Fatalf("response %v and error %v", resp, err)
	}
	if err == nil && resp.Body != nil {
		want := fmt.Sprint("answer ", resp.StatusCode)
		if b, err := io.ReadAll(resp.Body); string(b) != want || err != nil {
			t.Errorf("read %q, %v, want %q", b, err, want)
		}
		resp.Body.Close()
	}
	return resp, err
}

func TestRetryWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bounds := []time.Duration{0, 1, 2, 4, 5, 5, 5}
		longest := make([]time.Duration, len(bounds))
		for range 300 {
			base := &scripted{answers: []any{reply(503)}}
			rt := &ovhauth.RetryTransport{Base: base, MaxRetries: 6, MinWait: time.Second, MaxWait: 5 * time.Second}
			if resp, err := get(t, t.Context(), rt); err != nil || resp.StatusCode != 503 {
				t.Fatal(resp, err)
			}
			if len(base.at) != 7 {
				t.Fatalf("%d attempts, want 7", len(base.at))
			}
			base.answers[0].(*http.Response).Body.(*text).check(t, 7)
			for i := 1; i < len(base.at); i++ {
				wait := base.at[i] - base.at[i-1]
				if wait > bounds[i]*time.Second {
					t.Fatalf("wait %d is %s", i, wait)
				}
				longest[i] = max(longest[i], wait)
			}
		}
		for i, l := range longest {
			if l < bounds[i]*time.Second*8/10 {
				t.Errorf("of 300, the longest wait %d is %s, of up to %d s", i, l, bounds[i])
			}
		}
	})
}

func TestRetryDefaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var first, fourth time.Duration
		for range 300 {
			base := &scripted{answers: []any{io.ErrUnexpectedEOF}}
			if _, err := get(t, t.Context(), &ovhauth.RetryTransport{Base: base}); err != io.ErrUnexpectedEOF {
				t.Fatal(err)
			}
			if len(base.at) != 5 {
				t.Fatalf("%d attempts, want 5", len(base.at))
			}
			first = max(first, base.at[1])
			fourth = max(fourth, base.at[4]-base.at[3])
		}
		if first > 500*time.Millisecond || first < 400*time.Millisecond || fourth > 4*time.Second || fourth < 3*time.Second {
			t.Error(first, fourth)
		}
		base := &scripted{answers: []any{reply(503)}}
		get(t, t.Context(), &ovhauth.RetryTransport{Base: base, MaxRetries: -1})
		if len(base.at) != 1 {
			t.Errorf("%d attempts, want none again", len(base.at))
		}
		for after, want := range map[string]int{"30": 2, "31": 1} { // MaxWait
			base := &scripted{answers: []any{reply(503, "Retry-After", after), reply(200)}}
			get(t, t.Context(), &ovhauth.RetryTransport{Base: base})
			if len(base.at) != want {
				t.Errorf("Retry-After %s: %d attempts, want %d", after, len(base.at), want)
			}
		}
	})
}

func TestRetryAfter(t *testing.T) {
	const ordinary, none = -1, -2
	for _, test := range []struct {
		after, date string // it is Sat, 01 Jan 2000 00:00:00 GMT
		want        time.Duration
	}{
		{"7", "", 7 * time.Second},
		{"20", "", 20 * time.Second},
		{"21", "", none},
		{"9223372037", "", none}, // more nanoseconds than an int64 has
		{"9223372036854775807", "", none},
		{"Sat, 01 Jan 2000 00:00:09 GMT", "", 9 * time.Second},
		{"Saturday, 01-Jan-00 00:00:09 GMT", "", 9 * time.Second},
		{"Sat Jan  1 00:00:09 2000", "", 9 * time.Second},
		{"Sat, 01 Jan 2000 09:00:09 GMT", "Sat, 01 Jan 2000 09:00:03 GMT", 6 * time.Second}, // the local clock is wrong
		{"Sat, 01 Jan 2000 00:00:09 GMT", "Fri, 31 Dec 1999 23:00:00 GMT", none},
		{"Sat, 01 Jan 2000 00:00:09 GMT", "garbage", 9 * time.Second},
		{"Sat, 01 Jan 2000 01:00:00 GMT", "", none},
		{"Fri, 31 Dec 9999 23:59:59 GMT", "", none},
		{"Fri, 31 Dec 1999 23:59:59 GMT", "", ordinary},
		{"0", "", ordinary},
		{"-5", "", ordinary},
		{"-9223372037", "", ordinary},
		{"99999999999999999999", "", none},
		{"-99999999999999999999", "", ordinary},
		{"1.5", "", ordinary},
		{"soon", "", ordinary},
		{"", "", ordinary},
	} {
		t.Run(test.after+"/"+test.date, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				base := &scripted{answers: []any{reply(503, "Retry-After", test.after, "Date", test.date), reply(200)}}
				rt := &ovhauth.RetryTransport{Base: base, MinWait: time.Millisecond, MaxWait: 20 * time.Second}
				start := time.Now()
				resp, err := get(t, t.Context(), rt)
				if err != nil {
					t.Fatal(err)
				}
				if test.want == none {
					if len(base.at) != 1 || resp.StatusCode != 503 || time.Since(start) != 0 {
						t.Errorf("want the answer at once; %d attempts, %s", len(base.at), time.Since(start))
					}
					return
				}
				if len(base.at) != 2 {
					t.Fatalf("%d attempts", len(base.at))
				}
				if got := base.at[1]; test.want == ordinary && got > time.Millisecond || test.want > 0 && got != test.want {
					t.Errorf("waited %s", got)
				}
			})
		})
	}
	t.Run("every status", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, code := range []int{429, 403, 408, 500, 502, 503, 504} {
				resp := reply(code, "Retry-After", "5")
				if code == 403 {
					resp.Body = &text{s: busy}
				}
				base := &scripted{answers: []any{resp, reply(200)}}
				if get(t, t.Context(), &ovhauth.RetryTransport{Base: base}); base.at[1] != 5*time.Second {
					t.Errorf("%d: waited %s", code, base.at[1])
				}
			}
		})
	})
}

func TestRetryContext(t *testing.T) {
	t.Run("a wait that would pass the deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, outcome := range []any{reply(503, "Retry-After", "10"), io.ErrUnexpectedEOF} {
				base := &scripted{answers: []any{outcome}}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				rt := &ovhauth.RetryTransport{Base: base, MaxRetries: 100}
				start := time.Now()
				resp, err := get(t, ctx, rt)
				if ctx.Err() != nil || err == nil && (resp.StatusCode != 503 || time.Since(start) != 0) || err != nil && err != outcome {
					t.Error(resp, err, ctx.Err(), time.Since(start))
				}
			}
			base := &scripted{answers: []any{reply(503, "Retry-After", "9"), reply(200)}}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if resp, err := get(t, ctx, &ovhauth.RetryTransport{Base: base}); err != nil || resp.StatusCode != 200 {
				t.Error(resp, err)
			}
		})
	})
	t.Run("cancelled while it waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(5*time.Second, cancel)
			first := reply(503, "Retry-After", "10")
			base := &scripted{answers: []any{first}}
			start := time.Now()
			resp, err := get(t, ctx, &ovhauth.RetryTransport{Base: base})
			if resp != nil || err != context.Canceled || time.Since(start) != 5*time.Second || len(base.at) != 1 {
				t.Error(resp, err, time.Since(start), len(base.at))
			}
			first.Body.(*text).check(t, 1)
		})
	})
	t.Run("done before it begins", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		sent := &text{s: payload}
		req, _ := http.NewRequestWithContext(ctx, "PUT", "/me", sent.open())
		base := &scripted{answers: []any{reply(200)}}
		if _, err := finished(t, &ovhauth.RetryTransport{Base: base}, req); err != context.Canceled || len(base.at) != 0 {
			t.Error(err, len(base.at))
		}
		sent.check(t, 1)
	})
	t.Run("an error that hides why", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		base := roundTrip(func(*http.Request) (*http.Response, error) {
			cancel()
			return nil, errors.New("broken")
		})
		if _, err := get(t, ctx, &ovhauth.RetryTransport{Base: base}); err != context.Canceled {
			t.Error(err)
		}
	})
	t.Run("an error of another context", func(t *testing.T) {
		base := &scripted{answers: []any{context.DeadlineExceeded, context.Canceled, reply(200)}}
		if resp, err := get(t, t.Context(), &ovhauth.RetryTransport{Base: base, MinWait: noWait}); err != nil || resp.StatusCode != 200 {
			t.Error(resp, err)
		}
	})
	t.Run("http.Client.Timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			base := roundTrip(func(req *http.Request) (*http.Response, error) {
				<-req.Context().Done()
				return nil, req.Context().Err()
			})
			client := &http.Client{Transport: &ovhauth.RetryTransport{Base: base}, Timeout: 3 * time.Second}
			start := time.Now()
			_, err := client.Get("/me")
			if !os.IsTimeout(err) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 3*time.Second {
				t.Error(err, time.Since(start))
			}
		})
	})
}

// An answer that stalls must not hold up the retry for ever.
func TestRetryStalledAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		stalled := reply(503)
		stalled.Body = r
		base := &scripted{answers: []any{stalled, reply(200)}}
		resp, err := get(t, t.Context(), &ovhauth.RetryTransport{Base: base, MinWait: noWait})
		if err != nil || resp.StatusCode != 200 || base.at[1] > time.Second {
			t.Error(resp, err, base.at)
		}
		if _, err := w.Write([]byte("late")); err != io.ErrClosedPipe {
			t.Error("the stalled body is not closed:", err)
		}
	})
}

func TestRetryHold(t *testing.T) {
	request := func(t *testing.T, ctx context.Context, url string) (*http.Request, *text) {
		sent := &text{s: payload}
		req, err := http.NewRequestWithContext(ctx, "POST", url, sent.open())
		if err != nil {
			t.Fatal(err)
		}
		return req, sent
	}
	// start makes a request that is answered 429, and cannot be retried; from then on the host is held back.
	start := func(t *testing.T, url, retryAfter string, min time.Duration) (*ovhauth.RetryTransport, *scripted) {
		base := &scripted{answers: []any{reply(429, "Retry-After", retryAfter), reply(200)}}
		rt := &ovhauth.RetryTransport{Base: base, MinWait: min}
		req, sent := request(t, t.Context(), url)
		if resp, err := finished(t, rt, req); err != nil || resp.StatusCode != 429 {
			t.Fatal(resp, err)
		}
		sent.check(t, 1)
		return rt, base
	}
	inBubble := func(name string, f func(*testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
	}

	inBubble("everybody waits", func(t *testing.T) {
		rt, base := start(t, "https://a/", "10", 0)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				req, sent := request(t, t.Context(), "https://a/x")
				finished(t, rt, req)
				sent.check(t, 1)
			})
		}
		wg.Wait()
		for _, at := range base.at[1:] {
			if at != 10*time.Second {
				t.Errorf("sent after %s", at)
			}
		}
		req, _ := request(t, t.Context(), "https://a/y")
		if finished(t, rt, req); time.Since(base.start) != 10*time.Second {
			t.Error("the hold goes on")
		}
	})
	inBubble("another host does not", func(t *testing.T) {
		rt, base := start(t, "https://a/", "10", 0)
		for _, url := range []string{"https://b/", "/relative"} {
			req, _ := request(t, t.Context(), url)
			if finished(t, rt, req); time.Since(base.start) != 0 {
				t.Error(url, "was held back")
			}
		}
	})
	inBubble("relative URLs are one host", func(t *testing.T) {
		rt, base := start(t, "/a", "10", 0)
		req, _ := request(t, t.Context(), "/b")
		if finished(t, rt, req); time.Since(base.start) != 10*time.Second {
			t.Error("not held back")
		}
	})
	inBubble("a longer one wins", func(t *testing.T) {
		base := &scripted{answers: []any{reply(429, "Retry-After", "10"), reply(429, "Retry-After", "5"),
			reply(429, "Retry-After", "20"), reply(200)}}
		release := make(chan struct{})
		rt := &ovhauth.RetryTransport{Base: roundTrip(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			<-release
			return resp, err
		})}
		var wg sync.WaitGroup
		for range 3 { // all under way before there is a hold
			wg.Go(func() {
				req, _ := request(t, t.Context(), "/")
				finished(t, rt, req)
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		req, _ := request(t, t.Context(), "/")
		if finished(t, rt, req); time.Since(base.start) != 20*time.Second {
			t.Error(time.Since(base.start))
		}
	})
	inBubble("a deadline that comes first", func(t *testing.T) {
		rt, base := start(t, "/", "10", 0)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		req, sent := request(t, ctx, "/")
		_, err := finished(t, rt, req)
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil || time.Since(base.start) != 0 || len(base.at) != 1 {
			t.Error(err, time.Since(base.start))
		}
		if want := "ovhauth: after a 429, no request may be sent for another 10s: context deadline exceeded"; err.Error() != want {
			t.Errorf("%q", err)
		}
		sent.check(t, 1)
	})
	inBubble("cancelled meanwhile", func(t *testing.T) {
		rt, base := start(t, "/", "10", 0)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, cancel)
		req, sent := request(t, ctx, "/")
		_, err := finished(t, rt, req)
		if err != context.Canceled || time.Since(base.start) != 3*time.Second || len(base.at) != 1 {
			t.Error(err, time.Since(base.start))
		}
		sent.check(t, 1)
	})
	inBubble("none beyond MaxWait, none without 429", func(t *testing.T) {
		for _, first := range []*http.Response{reply(429, "Retry-After", "31"), reply(429), reply(503, "Retry-After", "10")} {
			base := &scripted{answers: []any{first, reply(200)}}
			rt := &ovhauth.RetryTransport{Base: base}
			req, _ := request(t, t.Context(), "/")
			finished(t, rt, req)
			req, _ = request(t, t.Context(), "/")
			if finished(t, rt, req); time.Since(base.start) != 0 {
				t.Error(first.Header, "held back the next")
			}
		}
	})
	inBubble("what is over is forgotten", func(t *testing.T) {
		rt := &ovhauth.RetryTransport{Base: &scripted{answers: []any{reply(429, "Retry-After", "1")}}, MaxRetries: -1}
		const hosts, most = 10_000, 1 << 20
		used := heap()
		for i := range hosts {
			req, _ := request(t, t.Context(), fmt.Sprintf("https://host-%d.example/", i))
			finished(t, rt, req)
			rt.Base.(*scripted).reqs, rt.Base.(*scripted).sent, rt.Base.(*scripted).at = nil, nil, nil
			time.Sleep(time.Second)
		}
		if got := int64(heap() - used); got > most {
			t.Errorf("%d hosts take %d KiB", hosts, got>>10)
		}
		runtime.KeepAlive(rt)
	})
	inBubble("a retry waits for another's 429", func(t *testing.T) {
		for deadline, want := range map[time.Duration]int{time.Hour: 200, 5 * time.Second: 503} {
			begun, fail := make(chan struct{}), make(chan struct{})
			slow := &scripted{answers: []any{reply(503), reply(200)}}
			rt := &ovhauth.RetryTransport{MinWait: noWait, Base: roundTrip(func(req *http.Request) (*http.Response, error) {
				if req.Method == "POST" {
					return (&scripted{answers: []any{reply(429, "Retry-After", "10")}}).RoundTrip(req)
				}
				if len(slow.at) == 0 {
					close(begun)
					<-fail
				}
				return slow.RoundTrip(req)
			})}
			ctx, cancel := context.WithTimeout(t.Context(), deadline)
			began := time.Now()
			done := make(chan struct{})
			go func() {
				defer close(done)
				resp, err := get(t, ctx, rt)
				if err != nil || resp.StatusCode != want || want == 200 && time.Since(began) != 10*time.Second {
					t.Error(resp, err, time.Since(began))
				}
			}()
			<-begun
			req, _ := request(t, t.Context(), "/")
			finished(t, rt, req)
			close(fail)
			<-done
			cancel()
		}
	})
}

// heap returns how many bytes are in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestRetryBudget(t *testing.T) {
	var status, attempts atomic.Int32
	status.Store(503)
	rt := &ovhauth.RetryTransport{MinWait: noWait, MaxRetries: 1, Base: roundTrip(func(req *http.Request) (*http.Response, error) {
		attempts.Add(1)
		return &http.Response{StatusCode: int(status.Load()), Body: http.NoBody}, nil
	})}
	run := func(n int) int {
		attempts.Store(0)
		var wg sync.WaitGroup
		for range n {
			wg.Go(func() { rt.RoundTrip(httptest.NewRequest("GET", "/", nil)) })
		}
		wg.Wait()
		return int(attempts.Load())
	}
	status.Store(200)
	run(10) // nothing is given back to a full budget
	status.Store(503)
	if got := run(150); got != 150+100 {
		t.Errorf("%d attempts, want 150 and 100 retries", got)
	}
	if got := run(1); got != 1 {
		t.Errorf("%d attempts on an empty budget", got)
	}
	status.Store(404)
	run(4)
	status.Store(503)
	if got := run(1); got != 1 {
		t.Error("4 answers paid for a retry")
	}
	status.Store(404)
	run(1)
	status.Store(503)
	if got := run(2); got != 3 {
		t.Errorf("%d attempts, want 2 and the 1 retry that 5 answers paid for", got)
	}
	status.Store(200)
	run(2000)
	status.Store(503)
	if got := run(150); got != 150+100 {
		t.Errorf("%d attempts after 2000 answers, want 150 and 100 retries", got)
	}
}

type limiter func(context.Context) error

func (f limiter) Wait(ctx context.Context) error { return f(ctx) }

func TestRetryLimiter(t *testing.T) {
	type key struct{}
	full := errors.New("would exceed context deadline")
	for failAt := 1; failAt <= 3; failAt++ {
		sent := &text{s: payload}
		base := &scripted{answers: []any{reply(503), reply(503), reply(200)}}
		waits := 0
		rt := &ovhauth.RetryTransport{Base: base, MinWait: noWait, Limiter: limiter(func(ctx context.Context) error {
			if ctx.Value(key{}) == nil {
				t.Error("not the caller's context")
			}
			if waits++; waits != len(base.at)+1 {
				t.Errorf("%d waits before attempt %d", waits, len(base.at)+1)
			}
			if waits == failAt {
				return full
			}
			return nil
		})}
		req, _ := http.NewRequestWithContext(context.WithValue(t.Context(), key{}, 1), "PUT", "/me", sent.open())
		req.GetBody = func() (io.ReadCloser, error) { return sent.open(), nil }
		_, err := finished(t, rt, req)
		if !errors.Is(err, full) || err.Error() != "ovhauth: limiter: would exceed context deadline" || len(base.at) != failAt-1 {
			t.Errorf("%v after %d attempts", err, len(base.at))
		}
		sent.check(t, int32(max(1, failAt-1)))
	}

	ctx, cancel := context.WithCancel(t.Context())
	rt := &ovhauth.RetryTransport{Limiter: limiter(func(context.Context) error { cancel(); return full })}
	if _, err := get(t, ctx, rt); err != context.Canceled {
		t.Error(err)
	}
	// Above another one, an error of the limiter below is not worth a retry.
	waits := 0
	below := &ovhauth.RetryTransport{Limiter: limiter(func(context.Context) error { waits++; return full })}
	if _, err := get(t, t.Context(), &ovhauth.RetryTransport{Base: below}); !errors.Is(err, full) || waits != 1 {
		t.Error(err, waits)
	}
	// A hold that begins while the limiter makes one wait is respected.
	synctest.Test(t, func(t *testing.T) {
		base := &scripted{answers: []any{reply(429, "Retry-After", "10"), reply(200)}}
		waits := make(chan bool, 1)
		rt := &ovhauth.RetryTransport{Base: base, Limiter: limiter(func(context.Context) error { <-waits; return nil })}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				finished(t, rt, httptest.NewRequest("POST", "/", &text{Reader: strings.NewReader(""), of: new(text)}))
			})
		}
		synctest.Wait()
		waits <- true
		synctest.Wait()
		waits <- true
		wg.Wait()
		if len(base.at) != 2 || base.at[1] != 10*time.Second {
			t.Error(base.at)
		}
	})
}

func TestRetryBody(t *testing.T) {
	newRequest := func(method string, sent *text) *http.Request {
		req, err := http.NewRequest(method, "https://api/x", sent.open())
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = int64(len(sent.s))
		req.GetBody = func() (io.ReadCloser, error) { return sent.open(), nil }
		return req
	}
	t.Run("reopened for each attempt", func(t *testing.T) {
		sent := &text{s: payload}
		base := &scripted{answers: []any{reply(503), io.ErrUnexpectedEOF, reply(200)}}
		req := newRequest("PUT", sent)
		req.Trailer = http.Header{"X-Sum": nil}
		first, before := req.Body, *req
		if _, err := finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(base.sent, []string{payload, payload, payload}) {
			t.Errorf("sent %q", base.sent)
		}
		sent.check(t, 3)
		if base.reqs[0].Body != first {
			t.Error("the first attempt did not send the caller's own reader")
		}
		for _, r := range base.reqs {
			r.Trailer.Set("X-Sum", "1") // the map that the sender of trailers fills
			if r.ContentLength != req.ContentLength || req.Trailer.Get("X-Sum") != "1" || r.GetBody == nil || r.URL != req.URL {
				t.Errorf("not a copy of the caller's: %+v", r)
			}
			req.Trailer.Del("X-Sum")
		}
		if req.Body != before.Body || req.Context() != before.Context() || len(req.Header) != 0 {
			t.Error("the caller's request was touched")
		}
	})
	t.Run("without GetBody it is sent once", func(t *testing.T) {
		for _, outcome := range []any{reply(429), reply(503), io.ErrUnexpectedEOF} {
			sent := &text{s: payload}
			req := newRequest("PUT", sent)
			req.GetBody = nil
			base := &scripted{answers: []any{outcome}}
			resp, err := finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req)
			if len(base.at) != 1 || err != nil && err != outcome || err == nil && resp.StatusCode != outcome.(*http.Response).StatusCode {
				t.Error(resp, err, len(base.at))
			}
			sent.check(t, 1)
		}
	})
	t.Run("no body needs no GetBody", func(t *testing.T) {
		for _, body := range []io.Reader{nil, http.NoBody} {
			req, _ := http.NewRequest("PUT", "/x", body)
			req.GetBody = nil
			base := &scripted{answers: []any{reply(429), reply(200)}}
			finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req)
			if len(base.at) != 2 || base.reqs[1].Body != req.Body {
				t.Error(len(base.at), base.reqs[1].Body)
			}
		}
	})
	t.Run("GetBody fails", func(t *testing.T) {
		sent, gone := &text{s: payload}, errors.New("file is gone")
		opened := 0
		req := newRequest("PUT", sent)
		req.GetBody = func() (io.ReadCloser, error) { opened++; return nil, gone }
		first := reply(503)
		base := &scripted{answers: []any{first}}
		_, err := finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req)
		if want := "ovhauth: opening the request's body again: file is gone"; !errors.Is(err, gone) || err.Error() != want || opened != 1 {
			t.Errorf("%v, opened %d times", err, opened)
		}
		sent.check(t, 1)
		first.Body.(*text).check(t, 1)
	})
	t.Run("a redirect is left to the caller's client", func(t *testing.T) {
		for _, location := range []string{"/y", ":"} {
			sent := &text{s: payload}
			base := &scripted{answers: []any{reply(503), reply(307, "Location", location)}}
			resp, err := finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, newRequest("PUT", sent))
			if err != nil || resp.StatusCode != 307 || len(base.at) != 2 {
				t.Error(resp, err)
			}
			sent.check(t, 2)
		}
		asked := 0
		client := &http.Client{
			Transport:     &ovhauth.RetryTransport{MinWait: noWait, Base: &scripted{answers: []any{reply(503), reply(302, "Location", "/y"), reply(200)}}},
			CheckRedirect: func(*http.Request, []*http.Request) error { asked++; return nil },
		}
		resp, err := client.Get("https://api/x")
		if err != nil || resp.StatusCode != 200 || asked != 1 || resp.Request.URL.Path != "/y" {
			t.Error(resp, err, asked)
		}
		resp.Body.Close()
	})
	t.Run("a file from an offset", func(t *testing.T) {
		name := t.TempDir() + "/body"
		if err := os.WriteFile(name, []byte("HEADER"+payload), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, reopens := range []bool{true, false} {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			f.Seek(6, io.SeekStart)
			req, _ := http.NewRequest("PUT", "/x", f)
			req.ContentLength = int64(len(payload))
			want := []string{payload}
			if reopens {
				want = []string{payload, payload, payload}
				req.GetBody = func() (io.ReadCloser, error) {
					again, err := os.Open(name)
					if err == nil {
						_, err = again.Seek(6, io.SeekStart)
					}
					return again, err
				}
			}
			base := &scripted{answers: []any{reply(503), reply(503), reply(200)}}
			finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req)
			if !slices.Equal(base.sent, want) {
				t.Errorf("sent %q", base.sent)
			}
			if f.Close() == nil {
				t.Error("the file was left open")
			}
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestRetryLargeBody(t *testing.T) {
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
	req, _ := http.NewRequest("PUT", "/x", nil)
	req.Body, _ = open()
	req.GetBody, req.ContentLength = open, size

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	resp, err := rt.RoundTrip(req)
	runtime.ReadMemStats(&after)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	if !slices.Equal(arrived, []int64{size, size, size}) {
		t.Error(arrived)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got >= most {
		t.Errorf("%d KiB allocated", got>>10)
	} else {
		t.Logf("%d KiB allocated", got>>10)
	}
}

// Each attempt is signed at its own time.
func TestRetrySignsAnew(t *testing.T) {
	base := &scripted{answers: []any{io.ErrUnexpectedEOF, reply(503), reply(200)}}
	now := time.Unix(1457018875, 0)
	rt := &ovhauth.RetryTransport{MinWait: noWait, Base: &ovhauth.Transport{Credentials: testKeys, Base: base,
		Clock: ovhauth.ClockFunc(func() time.Time { now = now.Add(time.Second); return now })}}
	req, _ := http.NewRequest("PUT", "/x", strings.NewReader(payload))
	if _, err := finished(t, rt, req); err != nil || len(base.reqs) != 3 {
		t.Fatal(err, len(base.reqs))
	}
	for i, r := range base.reqs {
		at := time.Unix(1457018876+int64(i), 0)
		want := ovhauth.Sign(testKeys, "PUT", "https://eu.api.ovh.com/1.0/x", []byte(payload), at)
		if r.Header.Get("X-Ovh-Timestamp") != strconv.FormatInt(at.Unix(), 10) || r.Header.Get("X-Ovh-Signature") != want {
			t.Errorf("attempt %d: %v", i, r.Header)
		}
	}
	if len(req.Header) != 0 {
		t.Error("the caller's header:", req.Header)
	}
}

// A Base that asks for no connection may have sent the request by other means.
func TestRetryMock(t *testing.T) {
	for method, want := range map[string]int{"GET": 5, "POST": 1} {
		mock := httpmock.NewMockTransport()
		mock.RegisterResponder(method, "https://api/x", httpmock.NewErrorResponder(&net.OpError{Op: "dial", Err: errors.New("refused")}))
		client := &http.Client{Transport: &ovhauth.RetryTransport{Base: mock, MinWait: noWait}}
		req, _ := http.NewRequest(method, "https://api/x", nil)
		if _, err := client.Do(req); err == nil || mock.GetTotalCallCount() != want {
			t.Errorf("%s: %d attempts, want %d: %v", method, mock.GetTotalCallCount(), want, err)
		}
	}
}

// What an earlier attempt saw does not count for a later one, and the caller's own trace sees them all.
func TestRetryTrace(t *testing.T) {
	var seen []string
	trace := &httptrace.ClientTrace{
		GetConn: func(string) { seen = append(seen, "get") },
		GotConn: func(httptrace.GotConnInfo) { seen = append(seen, "got") },
	}
	attempts := 0
	var late *httptrace.ClientTrace
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		attempts++
		trace := httptrace.ContextClientTrace(req.Context())
		trace.GetConn("api:443")
		switch attempts {
		case 1: // no connection: sent again
			late = trace
			return nil, errors.New("refused")
		case 2: // the first one's connection comes, late; none for this one: sent again
			late.GotConn(httptrace.GotConnInfo{})
			return nil, errors.New("refused")
		default: // lost after sending
			trace.GotConn(httptrace.GotConnInfo{})
			return nil, io.ErrUnexpectedEOF
		}
	})
	req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "POST", "/x", nil)
	if _, err := finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req); err != io.ErrUnexpectedEOF || attempts != 3 {
		t.Error(err, attempts)
	}
	if got := strings.Join(seen, " "); got != "get get got get got" {
		t.Error(got)
	}
}

func TestRetryBrokenBase(t *testing.T) {
	broken, opened := errors.New("broken"), &text{}
	for _, test := range []struct {
		resp *http.Response
		err  error
		want string
	}{
		{nil, nil, "ovhauth: Base returned neither a response nor an error"},
		{&http.Response{StatusCode: 200, Body: opened.open()}, broken, "broken"},
	} {
		attempts := 0
		base := roundTrip(func(*http.Request) (*http.Response, error) { attempts++; return test.resp, test.err })
		rt := &ovhauth.RetryTransport{Base: base, MaxRetries: -1}
		if _, err := get(t, t.Context(), rt); err == nil || err.Error() != test.want || attempts != 1 {
			t.Error(err, attempts)
		}
	}
	opened.check(t, 1)

	sent := &text{s: payload}
	if _, err := finished(t, &ovhauth.RetryTransport{}, &http.Request{Body: sent.open()}); err == nil {
		t.Error("a request without URL was sent")
	}
	sent.check(t, 1)
	// A response without a body is not one to choke on.
	base := &scripted{answers: []any{&http.Response{StatusCode: 503}, &http.Response{StatusCode: 403}}}
	if resp, err := get(t, t.Context(), &ovhauth.RetryTransport{Base: base, MinWait: noWait}); err != nil || resp.StatusCode != 403 {
		t.Error(resp, err)
	}
}

// overServer is a RetryTransport over a Transport that opens a connection for each request, so that net/http repeats nothing.
func overServer(srv *ovhtest.Server) *ovhauth.RetryTransport {
	return &ovhauth.RetryTransport{MinWait: noWait, Base: &ovhauth.Transport{
		Endpoint: srv.Endpoint(), Credentials: srv.Credentials(), Base: &http.Transport{DisableKeepAlives: true}}}
}

func TestRetryCuts(t *testing.T) {
	for _, test := range []struct {
		cut               ovhtest.Cut
		method            string
		arrived, executed int
		answered, read    bool
	}{
		{ovhtest.CutBeforeRequest, "PUT", 2, 1, true, true},
		{ovhtest.CutBeforeRequest, "POST", 1, 0, false, false},
		{ovhtest.CutAfterExecution, "PUT", 2, 2, true, true},
		{ovhtest.CutAfterExecution, "POST", 1, 1, false, false},
		{ovhtest.CutMidAnswer, "PUT", 1, 1, true, false},
		{ovhtest.CutMidAnswer, "POST", 1, 1, true, false},
	} {
		srv := ovhtest.NewServer()
		srv.Handle("/x", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "answer") }))
		srv.Inject(ovhtest.Fault{Cut: test.cut})
		req, _ := http.NewRequest(test.method, "/x", strings.NewReader(payload))
		resp, err := overServer(srv).RoundTrip(req)
		if (err == nil) != test.answered {
			t.Errorf("%+v: %v", test, err)
		}
		if err == nil {
			if _, err = io.ReadAll(resp.Body); (err == nil) != test.read {
				t.Errorf("%+v: reading the answer: %v", test, err)
			}
			resp.Body.Close()
		}
		if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Errorf("%+v: not the cause: %v", test, err)
		}
		srv.Close()
		executed := 0
		for _, x := range srv.Exchanges() {
			if x.Executed {
				executed++
			}
			if x.Body != nil && (!x.Verified || string(x.Body) != payload) {
				t.Errorf("%+v: %s with %q", test, x, x.Body)
			}
		}
		if len(srv.Exchanges()) != test.arrived || executed != test.executed {
			t.Errorf("%+v: %d arrived, %d executed", test, len(srv.Exchanges()), executed)
		}
	}
}

// Of a storm of requests, those beyond the rate are refused in the end, and the budget bounds how often they ask.
func TestRetryStorm(t *testing.T) {
	srv := ovhtest.NewServer()
	defer srv.Close()
	srv.Handle("POST /x", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.LimitRate(10, time.Hour, "soon")
	rt := overServer(srv)
	var ok, refused atomic.Int32
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() {
			req, _ := http.NewRequest("POST", "/x", strings.NewReader(payload))
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			var api *ovhauth.APIError
			if err := ovhauth.CheckResponse(resp); err == nil {
				ok.Add(1)
			} else if errors.As(err, &api) && api.StatusCode == 429 && api.Message != "" {
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	executed := 0
	for _, x := range srv.Exchanges() {
		if x.Executed {
			executed++
		}
	}
	// 500 tokens are 100 retries, and 10 answers give 10 tokens back.
	if n := len(srv.Exchanges()); ok.Load() != 10 || executed != 10 || refused.Load() != 50 || n < 60+100 || n > 60+102 {
		t.Errorf("%d answered, %d executed, %d refused, %d arrived", ok.Load(), executed, refused.Load(), n)
	}
}

// A context that is done while its connection is being made, or while the server thinks, ends the matter.
func TestRetryContextOnTheWire(t *testing.T) {
	for _, where := range []string{"dialling", "waiting for the answer", "reading it"} {
		for _, method := range []string{"GET", "POST"} {
			ctx, cancel := context.WithCancel(t.Context())
			srv := ovhtest.NewServer()
			srv.Handle("/x", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if where == "reading it" {
					io.WriteString(w, "the first half")
					w.(http.Flusher).Flush()
				} else {
					cancel()
				}
				<-r.Context().Done()
			}))
			dials := 0
			rt := overServer(srv)
			rt.Base.(*ovhauth.Transport).Base.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials++
				if where == "dialling" {
					cancel()
					<-ctx.Done()
					return nil, errors.New("dialling was given up")
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			req, _ := http.NewRequestWithContext(ctx, method, "/x", nil)
			resp, err := rt.RoundTrip(req)
			if err == nil {
				cancel()
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if (resp != nil) != (where == "reading it") || !errors.Is(err, context.Canceled) || dials != 1 {
				t.Errorf("%s, %s: %v, %d dials", method, where, err, dials)
			}
			srv.Close()
		}
	}
}

type pool struct {
	http.RoundTripper
	closed int
}

func (p *pool) CloseIdleConnections() { p.closed++ }

func TestRetryIdleConnections(t *testing.T) {
	base := &pool{RoundTripper: &scripted{answers: []any{io.ErrUnexpectedEOF}}}
	client := &http.Client{Transport: &ovhauth.RetryTransport{Base: &ovhauth.Transport{Credentials: testKeys, Base: base}, MinWait: noWait}}
	if _, err := client.Get("/me"); !errors.Is(err, io.ErrUnexpectedEOF) || base.closed != 0 {
		t.Errorf("%v, idle connections closed %d times", err, base.closed)
	}
	client.CloseIdleConnections()
	if base.closed != 1 {
		t.Error("not forwarded")
	}
	(&ovhauth.RetryTransport{Base: roundTrip(nil)}).CloseIdleConnections() // which has none
}

// Without a Base, one Transport serves all requests: what its clock has learnt stays learnt.
func TestRetryOwnTransport(t *testing.T) {
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
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
	}
	if stale.Load() != 1 || fresh.Load() != 3 {
		t.Errorf("%d requests at the wrong time, %d at the right one", stale.Load(), fresh.Load())
	}
	client.CloseIdleConnections()
}

func TestRetryPrintsNoSecret(t *testing.T) {
	keys := ovhauth.Credentials{ApplicationKey: "app-hush", ApplicationSecret: "sec-hush", ConsumerKey: "con-hush", AccessToken: "tok-hush"}
	base := &scripted{answers: []any{reply(200)}}
	rt := &ovhauth.RetryTransport{Base: &ovhauth.Transport{Credentials: keys, Base: base}}
	get(t, t.Context(), rt)
	for _, v := range []any{rt, struct{ RT *ovhauth.RetryTransport }{rt}, &http.Client{Transport: rt}} {
		for _, verb := range "vsdxXqtTbcopeEfFgGU" {
			for _, flag := range []string{"", "+", "#", " "} {
				if got := fmt.Sprintf("%"+flag+string(verb), v); strings.Contains(got, "hush") ||
					strings.Contains(got, fmt.Sprintf("%x", "hush")) || strings.Contains(got, fmt.Sprintf("%d", []byte("hush"))[1:16]) {
					t.Errorf("%%%s%c prints %s", flag, verb, got)
				}
			}
		}
	}
	if got, want := fmt.Sprint(rt), `&ovhauth.RetryTransport{Base:*ovhauth.Transport MaxRetries:0 MinWait:0s MaxWait:0s}`; got != want {
		t.Error(got)
	}
}

func TestRetryLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		base := &scripted{answers: []any{
			reply(503, "Retry-After", "2"),
			&url.Error{Op: "Put", URL: "https://api/x?token=hush", Err: io.ErrUnexpectedEOF},
			syscallError{}, reply(200)}}
		rt := &ovhauth.RetryTransport{Base: base, MinWait: noWait, Logger: slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{
			Level: slog.LevelDebug,
			ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				switch a.Key {
				case slog.TimeKey:
					return slog.Attr{}
				case "wait":
					return slog.Duration("wait", a.Value.Duration().Truncate(time.Microsecond))
				}
				return a
			}}))}
		req, _ := http.NewRequest("", "https://api/a%2Fb?token=hush", strings.NewReader("hush"))
		req.Header.Set("X-Token", "hush")
		finished(t, rt, req)
		const head = `level=DEBUG msg="ovhauth: retry" method=GET path=/a%2Fb reason=`
		want := head + "\"503 Service Unavailable\" wait=2s\n" + head + "\"unexpected EOF\" wait=0s\n" + head + "\"connection reset\" wait=0s\n"
		if b.String() != want {
			t.Errorf("got\n%swant\n%s", &b, want)
		}
	})
}

type syscallError struct{}

func (syscallError) Error() string { return "connection reset" }

func TestCheckRetry(t *testing.T) {
	request := func(method string, header ...string) *http.Request {
		req := httptest.NewRequest(method, "/x", nil)
		for _, h := range header {
			req.Header.Set(h, "x")
		}
		return req
	}
	resp := func(code int, req *http.Request, body string) *http.Response {
		return &http.Response{StatusCode: code, Request: req, Body: io.NopCloser(strings.NewReader(body))}
	}
	after := func(first *http.Request, code int) *http.Request {
		req := request("GET")
		req.Response = resp(code, first, "")
		return req
	}
	failed := func(op string, err error) error { return &url.Error{Op: op, URL: "/x", Err: err} }
	refused := &net.OpError{Op: "dial", Err: errors.New("refused")}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, local := (&ovhauth.Transport{Credentials: ovhauth.Credentials{}}).RoundTrip(request("GET"))
	if !errors.Is(local, ovhauth.ErrMissingCredentials) {
		t.Fatal(local)
	}

	for _, test := range []struct {
		name string
		ctx  context.Context
		resp *http.Response
		err  error
		want bool
	}{
		{"GET 503", nil, resp(503, request("GET"), ""), nil, true},
		{"POST 503", nil, resp(503, request("POST"), ""), nil, false},
		{"POST with key 503", nil, resp(503, request("POST", "Idempotency-Key"), ""), nil, true},
		{"unknown request 503", nil, resp(503, nil, ""), nil, false},
		{"unknown request 429", nil, resp(429, nil, ""), nil, true},
		{"POST 429", nil, resp(429, request("POST"), ""), nil, true},
		{"POST 403 busy", nil, resp(403, request("POST"), busy), nil, true},
		{"GET 403", nil, resp(403, request("GET"), `{"class":"Client::Forbidden"}`), nil, false},
		{"GET 200", nil, resp(200, request("GET"), ""), nil, false},
		{"GET 503, context done", done, resp(503, request("GET"), ""), nil, false},
		{"GET then GET 503", nil, resp(503, after(request("GET"), 302), ""), nil, true},
		{"POST then GET 503", nil, resp(503, after(request("POST"), 303), ""), nil, false},
		{"POST then GET 429", nil, resp(429, after(request("POST"), 303), ""), nil, false},
		{"POST then GET 200", nil, resp(200, after(request("POST"), 303), ""), nil, false},
		{"lost then GET 503", nil, resp(503, after(nil, 303), ""), nil, false},
		{"GET lost", nil, nil, failed("Get", io.ErrUnexpectedEOF), true},
		{"PUT lost", nil, nil, failed("Put", io.ErrUnexpectedEOF), true},
		{"POST lost", nil, nil, failed("Post", io.ErrUnexpectedEOF), false},
		{"POST not dialled", nil, nil, failed("Post", refused), true},
		{"POST not resolved", nil, nil, failed("Post", &net.DNSError{}), true},
		{"POST lost reading", nil, nil, failed("Post", &net.OpError{Op: "read", Err: io.EOF}), false},
		{"unknown lost", nil, nil, io.ErrUnexpectedEOF, false},
		{"unknown lost too", nil, nil, failed("", io.ErrUnexpectedEOF), false},
		{"unknown not dialled", nil, nil, refused, true},
		{"GET, context done", done, nil, failed("Get", io.ErrUnexpectedEOF), false},
		{"GET certificate", nil, nil, failed("Get", &tls.CertificateVerificationError{Err: errors.New("revoked")}), false},
		{"GET host name", nil, nil, failed("Get", x509.HostnameError{Certificate: &x509.Certificate{}}), false},
		{"GET expired", nil, nil, failed("Get", x509.CertificateInvalidError{}), false},
		{"GET of our own", nil, nil, failed("Get", fmt.Errorf("wrapped: %w", local)), false},
		{"GET redirect refused", nil, resp(302, request("GET"), ""), failed("Get", io.ErrUnexpectedEOF), false},
		{"nothing at all", nil, nil, nil, false},
	} {
		ctx := test.ctx
		if ctx == nil {
			ctx = t.Context()
		}
		if got, err := ovhauth.CheckRetry(ctx, test.resp, test.err); got != test.want || err != nil {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
	peeked := resp(403, request("GET"), strings.Repeat(busy, 1000))
	ovhauth.CheckRetry(t.Context(), peeked, nil)
	if b, err := io.ReadAll(peeked.Body); string(b) != strings.Repeat(busy, 1000) || err != nil {
		t.Errorf("%d bytes left after the look: %v", len(b), err)
	}
}

// A retryablehttp.Client of the user's own gives the last answer or the last error.
func TestCheckRetryDrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			method   string
			answer   any
			attempts int
		}{
			{"GET", reply(503, "Retry-After", "9"), 3},
			{"POST", reply(503, "Retry-After", "9"), 1},
			{"POST", reply(429, "Retry-After", "9"), 3},
			{"GET", io.ErrUnexpectedEOF, 3},
			{"POST", io.ErrUnexpectedEOF, 1},
		} {
			base := &scripted{answers: []any{test.answer}}
			client := &retryablehttp.Client{
				HTTPClient:   &http.Client{Transport: &ovhauth.Transport{Credentials: testKeys, Base: base}},
				RetryWaitMin: time.Second, RetryWaitMax: 5 * time.Second, RetryMax: 2,
				CheckRetry: ovhauth.CheckRetry, Backoff: ovhauth.Backoff, ErrorHandler: retryablehttp.PassthroughErrorHandler,
			}
			req, _ := retryablehttp.NewRequest(test.method, "/x", []byte(payload))
			resp, err := client.Do(req)
			if len(base.at) != test.attempts || (resp == nil) == (err == nil) || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(test, len(base.at), resp, err)
			}
			if err == nil && test.attempts == 3 && base.at[2] != 10*time.Second {
				t.Error(base.at)
			}
		}
	})
}

func TestBackoff(t *testing.T) {
	for _, test := range []struct {
		least, most time.Duration
		attempt     int
		want        time.Duration // the bound
	}{
		{time.Second, time.Minute, 0, time.Second},
		{time.Second, time.Minute, 3, 8 * time.Second},
		{time.Second, time.Minute, 6, time.Minute},
		{time.Second, time.Minute, 60, time.Minute},
		{time.Second, time.Minute, 1 << 40, time.Minute},
		{time.Second, time.Minute, -1, time.Minute},
		{time.Hour, time.Minute, 0, time.Minute},
		{math.MaxInt64, math.MaxInt64, 1, math.MaxInt64},
		{1, math.MaxInt64, 62, 1 << 62},
		{0, 0, 0, 0},
		{0, time.Minute, 3, 0},
		{-1, -1, 3, 0},
	} {
		least, most := time.Duration(math.MaxInt64), time.Duration(0)
		for range 1000 {
			d := ovhauth.Backoff(test.least, test.most, test.attempt, nil)
			least, most = min(least, d), max(most, d)
		}
		if least < 0 || most > test.want || most < test.want/20*19 || least > test.want/20 {
			t.Errorf("%+v: between %s and %s", test, least, most)
		}
	}
	for after, want := range map[string]time.Duration{"3": 3 * time.Second, "61": time.Minute, "9223372037": time.Minute} {
		if got := ovhauth.Backoff(noWait, time.Minute, 0, reply(200, "Retry-After", after)); got != want {
			t.Errorf("Retry-After %s: %s", after, got)
		}
	}
}

// The connections that a provider or a clock makes are not the attempt's.
func TestRetrySeesItsOwnConnectionsOnly(t *testing.T) {
	vault := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("the vault is down")
	}}}
	ask := func(ctx context.Context) {
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://vault.example/", nil)
		vault.Do(req)
	}
	for name, change := range map[string]func(*ovhauth.Transport){
		"provider": func(tr *ovhauth.Transport) {
			tr.Credentials = ovhauth.CredentialFunc(func(ctx context.Context) (ovhauth.Credentials, error) { ask(ctx); return shared, nil })
		},
		"clock": func(tr *ovhauth.Transport) { tr.Clock = askingClock(ask) },
	} {
		sent := 0
		signer := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: roundTrip(func(*http.Request) (*http.Response, error) {
			sent++
			return nil, io.ErrUnexpectedEOF // executed, perhaps
		})}
		change(signer)
		rt := &ovhauth.RetryTransport{Base: signer, MinWait: noWait}
		if _, err := rt.RoundTrip(newRequest(t, "POST", "/me", nil)); err != io.ErrUnexpectedEOF || sent != 1 {
			t.Errorf("%s: sent %d times, %v", name, sent, err)
		}
	}
}

type askingClock func(context.Context)

func (f askingClock) Now(ctx context.Context) (time.Time, error) { f(ctx); return time.Now(), nil }

// A body that cannot be read is no lost connection.
func TestRetryUnreadableBody(t *testing.T) {
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
			t.Errorf("%s: opened %d times, %v", name, opened, err)
		}
	}
}

// However a host is spelled, a hold is its own.
func TestHoldIsTheHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		base := roundTrip(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Since(start))
			if len(at) == 1 {
				return answer(429, "", "Retry-After", "10"), nil
			}
			return answer(200, ""), nil
		})
		rt := &ovhauth.RetryTransport{Base: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}, MaxRetries: -1}
		for _, url := range []string{"/me", "https://ca.api.ovh.com/1.0/me", "https://EU.api.ovh.com:443/1.0/me"} {
			if _, err := rt.RoundTrip(newRequest(t, "GET", url, nil)); err != nil {
				t.Error(err)
			}
		}
		if want := []time.Duration{0, 0, 10 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("sent at %v, want %v", at, want)
		}
	})
}

// An answer that stalls costs nothing of the wait that it asks for.
func TestStalledAnswerIsDrainedWithinTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		stalled := reply(503, "Retry-After", "2")
		stalled.Body = r
		base := &scripted{answers: []any{stalled, reply(200)}}
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		if resp, err := get(t, ctx, &ovhauth.RetryTransport{Base: base}); err != nil || resp.StatusCode != 200 || base.at[1] != 2*time.Second {
			t.Errorf("%v, %v, sent at %v", resp, err, base.at)
		}
	})
}

// A short answer is read to its end before the next attempt, which then has its connection.
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
	req, _ := http.NewRequestWithContext(ctx, "GET", server.URL, nil)
	resp, err := (&ovhauth.RetryTransport{Base: server.Client().Transport, MinWait: noWait}).RoundTrip(req)
	if err != nil || resp.StatusCode != 200 || !reused {
		t.Errorf("%v, %v; connection used again: %v", resp, err, reused)
	}
}

// A client that lacks a Transport of ours is told so at once, and deadlines are recognised by all that ask for them.
func TestRetryOtherErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := ovhauth.ServerTime(t.Context(), &http.Client{Transport: &ovhauth.RetryTransport{Base: &http.Transport{}}})
		if err == nil || !strings.Contains(err.Error(), "client must use an ovhauth.Transport") || time.Since(start) != 0 {
			t.Errorf("%v after %s", err, time.Since(start))
		}

		rt := &ovhauth.RetryTransport{Base: &scripted{answers: []any{reply(429, "Retry-After", "20"), reply(200)}}, MaxRetries: -1, MaxWait: -time.Second}
		get(t, t.Context(), rt)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		client := &http.Client{Transport: rt}
		_, err = client.Do(newRequest(t, "GET", "/me", nil).WithContext(ctx))
		var timeout net.Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() || !os.IsTimeout(err) {
			t.Errorf("the hold's error is %v", err)
		}
	})
}

// Requests that need no retry cost next to nothing.
func TestRetryAllocations(t *testing.T) {
	resp := &http.Response{StatusCode: 200, Body: http.NoBody}
	rt := &ovhauth.RetryTransport{Base: roundTrip(func(*http.Request) (*http.Response, error) { return resp, nil })}
	for method, most := range map[string]float64{"GET": 0, "POST": 6} {
		req := httptest.NewRequest(method, "/", nil)
		if got := testing.AllocsPerRun(100, func() { rt.RoundTrip(req) }); got > most {
			t.Errorf("%s: %v allocations, want %v", method, got, most)
		}
	}
}
