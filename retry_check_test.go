package ovhauth_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
	"github.com/hashicorp/go-retryablehttp"
)

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
	noListener := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	_, ours := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: ovhauth.Credentials{}}).RoundTrip(request("GET"))
	if !errors.Is(ours, ovhauth.ErrMissingCredentials) {
		t.Fatalf("error %v, want ErrMissingCredentials", ours)
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
		{"POST then GET 403 busy", nil, resp(403, after(request("POST"), 303), busy), nil, false},
		{"POST then GET 429", nil, resp(429, after(request("POST"), 303), ""), nil, false},
		{"GET then GET 429", nil, resp(429, after(request("GET"), 302), ""), nil, true},
		{"POST then GET 200", nil, resp(200, after(request("POST"), 303), ""), nil, false},
		{"lost then GET 503", nil, resp(503, after(nil, 303), ""), nil, false},
		{"GET lost", nil, nil, failed("Get", io.ErrUnexpectedEOF), true},
		{"PUT lost", nil, nil, failed("Put", io.ErrUnexpectedEOF), true},
		{"POST lost", nil, nil, failed("Post", io.ErrUnexpectedEOF), false},
		{"POST not dialed", nil, nil, failed("Post", noListener), true},
		{"POST not resolved", nil, nil, failed("Post", &net.DNSError{}), true},
		{"POST lost reading", nil, nil, failed("Post", &net.OpError{Op: "read", Err: io.EOF}), false},
		{"unknown lost", nil, nil, io.ErrUnexpectedEOF, false},
		{"unknown lost too", nil, nil, failed("", io.ErrUnexpectedEOF), false},
		{"unknown not dialed", nil, nil, noListener, true},
		{"GET, context done", done, nil, failed("Get", io.ErrUnexpectedEOF), false},
		{"GET certificate", nil, nil, failed("Get", &tls.CertificateVerificationError{Err: errors.New("revoked")}), false},
		{"GET host name", nil, nil, failed("Get", x509.HostnameError{Certificate: &x509.Certificate{}}), false},
		{"GET expired", nil, nil, failed("Get", x509.CertificateInvalidError{}), false},
		{"GET of our own", nil, nil, failed("Get", fmt.Errorf("wrapped: %w", ours)), false},
		{"GET redirect rejected", nil, resp(302, request("GET"), ""), failed("Get", io.ErrUnexpectedEOF), false},
		{"GET redirected too often", nil, nil, failed("Get", errors.New("stopped after 10 redirects")), false},
		{"nothing at all", nil, nil, nil, false},
	} {
		ctx := test.ctx
		if ctx == nil {
			ctx = t.Context()
		}
		if got, err := ovhauth.CheckRetry(ctx, test.resp, test.err); got != test.want || err != nil {
			t.Errorf("%s: %t, %v; want %t and no error", test.name, got, err, test.want)
		}
	}
}

func TestCheckRetryPutsBackWhatItRead(t *testing.T) {
	long := strings.Repeat(busy, 1000)
	resp := &http.Response{StatusCode: 403, Request: httptest.NewRequest("GET", "/x", nil), Body: io.NopCloser(strings.NewReader(long))}
	ovhauth.CheckRetry(t.Context(), resp, nil)
	if b, err := io.ReadAll(resp.Body); string(b) != long || err != nil {
		t.Errorf("%d bytes are left, %v; want all %d", len(b), err, len(long))
	}
}

// A retryablehttp.Client of the user's own returns the last response or the last error.
func TestCheckRetryDrives(t *testing.T) {
	for _, test := range []struct {
		name     string
		method   string
		given    any
		attempts int
		want     string
	}{
		{"GET 503", "GET", reply(503, "Retry-After", "9"), 3, "503"},
		{"POST 503", "POST", reply(503, "Retry-After", "9"), 1, "503"},
		{"POST 429", "POST", reply(429, "Retry-After", "9"), 3, "429"},
		{"GET lost", "GET", io.ErrUnexpectedEOF, 3, "unexpected EOF"},
		{"POST lost", "POST", io.ErrUnexpectedEOF, 1, "unexpected EOF"},
	} {
		synctest.Test(t, func(t *testing.T) {
			base := &scripted{outcomes: []any{test.given}}
			client := &retryablehttp.Client{
				HTTPClient:   &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: testKeys, Base: base}},
				RetryWaitMin: time.Second, RetryWaitMax: 5 * time.Second, RetryMax: 2,
				CheckRetry: ovhauth.CheckRetry, Backoff: ovhauth.Backoff, ErrorHandler: retryablehttp.PassthroughErrorHandler,
			}
			req, _ := retryablehttp.NewRequest(test.method, "/x", []byte(payload))
			resp, err := client.Do(req)
			if got := result(resp, err); len(base.at) != test.attempts || !strings.HasSuffix(got, test.want) {
				t.Errorf("%s: %s after %d attempts, want %s after %d", test.name, got, len(base.at), test.want, test.attempts)
			}
			if err == nil && test.attempts == 3 && base.at[2] != 10*time.Second {
				t.Errorf("%s: sent at %v, want every 5 s, the most that Backoff waits", test.name, base.at)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	for _, test := range []struct {
		name        string
		least, most time.Duration
		attempt     uint64 // as an int
		want        time.Duration
	}{
		{"first", time.Second, time.Minute, 0, time.Second},
		{"fourth", time.Second, time.Minute, 3, 8 * time.Second},
		{"capped", time.Second, time.Minute, 6, time.Minute},
		{"capped, late", time.Second, time.Minute, 60, time.Minute},
		{"the last attempt there is", time.Second, time.Minute, math.MaxInt, time.Minute},
		{"an attempt below 0", time.Second, time.Minute, math.MaxUint64, time.Minute},
		{"least above most", time.Hour, time.Minute, 0, time.Minute},
		{"the longest", math.MaxInt64, math.MaxInt64, 1, math.MaxInt64},
		{"the largest power", 1, math.MaxInt64, 62, 1 << 62},
		{"nothing", 0, 0, 0, 0},
		{"least of nothing", 0, time.Minute, 3, 0},
		{"negative", -1, -1, 3, 0},
	} {
		least, most := time.Duration(math.MaxInt64), time.Duration(0)
		for range 1000 {
			d := ovhauth.Backoff(test.least, test.most, int(test.attempt), nil)
			least, most = min(least, d), max(most, d)
		}
		if least < 0 || most > test.want || most < test.want/20*19 || least > test.want/20 {
			t.Errorf("%s: between %s and %s, want anything between 0 and %s", test.name, least, most, test.want)
		}
	}
	for after, want := range map[string]time.Duration{"3": 3 * time.Second, "61": time.Minute, "9223372037": time.Minute} {
		if got := ovhauth.Backoff(noWait, time.Minute, 0, reply(200, "Retry-After", after)); got != want {
			t.Errorf("Retry-After %s: %s, want %s", after, got, want)
		}
	}
}
