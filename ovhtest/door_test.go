package ovhtest_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/ovhtest"
)

func TestDoor(t *testing.T) {
	s := newServer(t)
	now := time.Unix(1457018875, 0)
	s.SetClock(func() time.Time { return now })
	keys := s.Credentials()
	key := func(state func(string)) ovhauth.Credentials {
		k := s.NewKey()
		state(k.ConsumerKey)
		return k
	}
	foreign := s.NewApplication()
	foreign.ApplicationKey, foreign.ApplicationSecret = keys.ApplicationKey, keys.ApplicationSecret
	noKey, wrongKey, wrongSecret, unknown := keys, keys, keys, keys
	noKey.ConsumerKey, wrongKey.ApplicationKey = "", "0123456789ABCDEF"
	wrongSecret.ApplicationSecret, unknown.ConsumerKey = "wrong", "wrong"
	onlyMe := s.NewKey(consumerkey.Rule{Method: "GET", Path: "/me"})
	refusedOnlyMe := s.NewKey(consumerkey.Rule{Method: "GET", Path: "/other"})
	s.Refuse(refusedOnlyMe.ConsumerKey)
	pending := pendingKey(t, s, `{"accessRules":[{"method":"GET","path":"/*"}]}`)
	again := key(s.Expire)
	s.Validate(again.ConsumerKey)

	get := func(c ovhauth.Credentials, at time.Time) *http.Request {
		return signedAt(t, s, c, at, "GET", "/1.0/me", "")
	}
	unsigned := func() *http.Request { return plain(t, s, "GET", "/1.0/me", "") }
	with := func(req *http.Request, header, value string) *http.Request {
		req.Header.Set(header, value)
		return req
	}
	// resigned sends method, target and body with the signature of others.
	resigned := func(send, method, target, body, timestamp string) *http.Request {
		f := strings.Fields(send)
		req := signedAt(t, s, keys, now, f[0], f[1], strings.Join(f[2:], " "))
		req.Header.Set("X-Ovh-Timestamp", timestamp)
		return with(req, "X-Ovh-Signature", signature(keys, method, root(s)+target, body, timestamp))
	}
	const ts = "1457018875"
	otherHost, upperCase := get(keys, now), get(keys, now)
	otherHost.Host = "example.com"
	with(upperCase, "X-Ovh-Signature", strings.ToUpper(upperCase.Header.Get("X-Ovh-Signature")))
	for _, test := range []struct {
		name string
		req  *http.Request
		want string // the error code, "" for 200
	}{
		{"signed", get(keys, now), ""},
		{"a body", signedAt(t, s, keys, now, "PUT", "/1.0/me", `{"name":"Dupond"}`), ""},
		{"a query, as it stands", signedAt(t, s, keys, now, "GET", "/1.0/me?b=%3a&a=é&a=+&&c", ""), ""},
		{"nothing", unsigned(), "Client::Unauthorized"},
		{"an application key alone", with(unsigned(), "X-Ovh-Application", keys.ApplicationKey), "Client::Unauthorized"},
		{"basic authentication", with(unsigned(), "Authorization", "Basic YTpi"), "Client::Unauthorized"},
		{"a signature beside it", with(get(keys, now), "Authorization", "Basic YTpi"), ""},
		{"unknown token", with(unsigned(), "Authorization", "Bearer x"), "Client::Unauthorized"},
		{"wrong application key", get(wrongKey, now.Add(-time.Hour)), "INVALID_KEY"},
		{"30 s behind", get(keys, now.Add(-30*time.Second)), ""},
		{"30 s ahead", get(keys, now.Add(30*time.Second)), ""},
		{"31 s behind", get(keys, now.Add(-31*time.Second)), "QUERY_TIME_OUT"},
		{"31 s ahead", get(wrongSecret, now.Add(31*time.Second)), "QUERY_TIME_OUT"},
		{"no number", resigned("GET /1.0/me", "GET", "/1.0/me", "", "now"), "QUERY_TIME_OUT"},
		{"a sign", resigned("GET /1.0/me", "GET", "/1.0/me", "", "+"+ts), "QUERY_TIME_OUT"},
		{"no timestamp", resigned("GET /1.0/me", "GET", "/1.0/me", "", ""), "QUERY_TIME_OUT"},
		{"wrong secret", get(wrongSecret, now), "INVALID_SIGNATURE"},
		{"other method", resigned("GET /1.0/me", "PUT", "/1.0/me", "", ts), "INVALID_SIGNATURE"},
		{"other path", resigned("GET /1.0/me", "GET", "/v1/me", "", ts), "INVALID_SIGNATURE"},
		{"other query", resigned("GET /1.0/me?a=%3A", "GET", "/1.0/me?a=%3a", "", ts), "INVALID_SIGNATURE"},
		{"other body", resigned("PUT /1.0/me {}", "PUT", "/1.0/me", "{ }", ts), "INVALID_SIGNATURE"},
		{"other timestamp", with(get(keys, now), "X-Ovh-Timestamp", "1457018876"), "INVALID_SIGNATURE"},
		{"other consumer key", with(get(keys, now), "X-Ovh-Consumer", unknown.ConsumerKey), "INVALID_SIGNATURE"},
		{"other host", otherHost, "INVALID_SIGNATURE"},
		{"upper case", upperCase, "INVALID_SIGNATURE"},
		{"no consumer key", get(noKey, now), "INVALID_SIGNATURE"},
		{"unknown consumer key", get(unknown, now), "NOT_CREDENTIAL"},
		{"another application's", get(foreign, now), "NOT_CREDENTIAL"},
		{"revoked", get(key(s.Revoke), now), "NOT_CREDENTIAL"},
		{"pending", get(pending, now), "INVALID_CREDENTIAL"},
		{"refused", get(key(s.Refuse), now), "INVALID_CREDENTIAL"},
		{"expired", get(key(s.Expire), now), "INVALID_CREDENTIAL"},
		{"validated again", get(again, now), ""},
		{"refused before its rules are looked at", get(refusedOnlyMe, now), "INVALID_CREDENTIAL"},
		{"granted", get(onlyMe, now), ""},
		{"not granted", signedAt(t, s, onlyMe, now, "PUT", "/1.0/me", "{}"), "NOT_GRANTED_CALL"},
		{"not granted, not found", signedAt(t, s, onlyMe, now, "GET", "/1.0/nothing", ""), "NOT_GRANTED_CALL"},
		{"not found", signedAt(t, s, keys, now, "GET", "/1.0/nothing", ""), "Client::NotFound"},
		{"no such method", signedAt(t, s, keys, now, "POST", "/1.0/me", ""), "Client::NotFound"},
		{"unsigned, not found", plain(t, s, "GET", "/1.0/nothing", ""), "Client::Unauthorized"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.Forget()
			resp, body := send(t, test.req)
			got := s.Exchanges()[0]
			if got.ErrorCode != test.want || got.Status != resp.StatusCode || (test.want == "") != (resp.StatusCode == 200) {
				t.Errorf("got %s, recorded %v, want %q", body, got, test.want)
			}
			if got.Executed != (test.want == "") {
				t.Errorf("executed %t, want executed if it was served, and only then", got.Executed)
			}
			behind := []string{"", "NOT_CREDENTIAL", "INVALID_CREDENTIAL", "NOT_GRANTED_CALL", "Client::NotFound"}
			if want := slices.Contains(behind, test.want); got.Verified != want {
				t.Errorf("verified %t, want %t", got.Verified, want)
			}
		})
	}
}

func TestErrorResponses(t *testing.T) {
	s := newServer(t)
	keys := s.Credentials()
	as := func(change func(*ovhauth.Credentials)) *http.Request {
		c := keys
		change(&c)
		return signed(t, s, c, "GET", "/1.0/me", "")
	}
	refused := s.NewKey()
	s.Refuse(refused.ConsumerKey)
	elsewhere := pendingKey(t, s, `{"accessRules":[{"method":"GET","path":"/*"}],"allowedIPs":["192.0.2.0/24"]}`)
	s.Validate(elsewhere.ConsumerKey)
	for _, test := range []struct {
		req            func() *http.Request
		status         int
		codes, classes string // the body in each dialect
	}{
		{func() *http.Request { return plain(t, s, "GET", "/1.0/me", "") }, 401,
			`{"class":"Client::Unauthorized","message":"You must login first"}`,
			`{"class":"Client::Unauthorized","message":"You must login first"}`},
		{func() *http.Request { return as(func(c *ovhauth.Credentials) { c.ApplicationKey = "x" }) }, 403,
			`{"errorCode":"INVALID_KEY","httpCode":"403 Forbidden","message":"This application key is invalid"}`,
			`{"class":"Client::Forbidden","message":"This application key is invalid"}`},
		{func() *http.Request { return signedAt(t, s, keys, time.Unix(0, 0), "GET", "/1.0/me", "") }, 400,
			`{"errorCode":"QUERY_TIME_OUT","httpCode":"400 Bad Request","message":"Query out of time"}`,
			`{"class":"Client::BadRequest","message":"Query out of time"}`},
		{func() *http.Request { return as(func(c *ovhauth.Credentials) { c.ApplicationSecret = "x" }) }, 400,
			`{"errorCode":"INVALID_SIGNATURE","httpCode":"400 Bad Request","message":"Invalid signature"}`,
			`{"class":"Client::BadRequest","message":"Invalid signature"}`},
		{func() *http.Request { return as(func(c *ovhauth.Credentials) { c.ConsumerKey = "x" }) }, 403,
			`{"errorCode":"NOT_CREDENTIAL","httpCode":"403 Forbidden","message":"This credential does not exist"}`,
			`{"class":"Client::Forbidden","message":"This credential does not exist"}`},
		{func() *http.Request { return signed(t, s, refused, "GET", "/1.0/me", "") }, 403,
			`{"errorCode":"INVALID_CREDENTIAL","httpCode":"403 Forbidden","message":"This credential is not valid"}`,
			`{"class":"Client::Forbidden","message":"This credential is not valid"}`},
		{func() *http.Request { return signed(t, s, elsewhere, "GET", "/1.0/me", "") }, 403,
			`{"errorCode":"FORBIDDEN","httpCode":"403 Forbidden","message":"This call is forbidden from your IP address"}`,
			`{"class":"Client::Forbidden","message":"This call is forbidden from your IP address"}`},
		{func() *http.Request {
			return signed(t, s, s.NewKey(consumerkey.Rule{Method: "GET", Path: "/x"}), "GET", "/1.0/me", "")
		}, 403,
			`{"errorCode":"NOT_GRANTED_CALL","httpCode":"403 Forbidden","message":"This call has not been granted"}`,
			`{"class":"Client::Forbidden","message":"This call has not been granted"}`},
		{func() *http.Request { return signed(t, s, keys, "GET", "/1.0/nothing", "") }, 404,
			`{"class":"Client::NotFound","message":"Got an invalid (or empty) URL"}`,
			`{"class":"Client::NotFound","message":"Got an invalid (or empty) URL"}`},
		{func() *http.Request { return plain(t, s, "POST", "/1.0/auth/credential", "{}") }, 401,
			`{"class":"Client::Unauthorized","message":"You must send your application key to request new credentials"}`,
			`{"class":"Client::Unauthorized","message":"You must send your application key to request new credentials"}`},
	} {
		for dialect, want := range []string{ovhtest.ErrorCodes: test.codes, ovhtest.Classes: test.classes} {
			s.SetDialect(ovhtest.Dialect(dialect))
			resp, body := send(t, test.req())
			if resp.StatusCode != test.status || body != want {
				t.Errorf("got %s %s, want %d %s", resp.Status, body, test.status, want)
			}
			for header, want := range map[string]string{
				"Content-Type":  "application/json; charset=utf-8",
				"Cache-Control": "no-cache, no-store",
				"X-Ovh-Queryid": "EU.ext-",
			} {
				if got := resp.Header.Get(header); !strings.HasPrefix(got, want) {
					t.Errorf("%s: %q, want %q", header, got, want)
				}
			}
			exchanges := s.Exchanges()
			if last := exchanges[len(exchanges)-1]; last.QueryID != resp.Header.Get("X-Ovh-Queryid") {
				t.Errorf("recorded query ID %q, sent %q; want the same", last.QueryID, resp.Header.Get("X-Ovh-Queryid"))
			}
		}
	}
}

func TestAccessRules(t *testing.T) {
	s := newServer(t)
	s.Handle("/{any...}", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Handle("GET /v2/{any...}", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, test := range []struct {
		rule, request string
		want          bool
	}{
		{"GET /me", "GET /1.0/me", true},
		{"GET /me", "GET /v1/me?x=/y", true},
		{"GET /me", "HEAD /1.0/me", true},
		{"GET /me", "OPTIONS /1.0/me", true},
		{"GET /me", "PUT /1.0/me", false},
		{"GET /me", "GET /1.0/me/api", false},
		{"GET /me", "GET /1.0/m", false},
		{"GET /me ", "GET /1.0/me", false},
		{"PUT /me", "PATCH /1.0/me", true},
		{"POST /me", "PATCH /1.0/me", false},
		{"GET /*", "GET /1.0/", true},
		{"GET /*", "GET /1.0/a/b/c", true},
		{"GET *", "GET /1.0/a", true},
		{"GET /domain/zone/*", "GET /1.0/domain/zone", false},
		{"GET /domain/zone/*", "GET /1.0/domain/zone/", true},
		{"GET /domain/zone/*", "GET /1.0/domain/zone/a.ovh/record/1", true},
		{"GET /domain/zone*", "GET /1.0/domain/zone", true},
		{"GET /domain/*/record", "GET /1.0/domain/zone/a.ovh/record", true},
		{"GET /domain/*/record", "GET /1.0/domain/zone/record/1", false},
		{"GET /domain/*/record/*", "GET /1.0/domain/record/1", false},
		{"GET /*/record/*/x", "GET /1.0/a/record/b/c/x", true},
		{"GET /*/record/*/x", "GET /1.0/a/records/b/x", false},
		{"GET /a*a", "GET /1.0/a", false},
		{"GET /v2/iam", "GET /v2/iam", true},
		{"GET /iam", "GET /v2/iam", false},
		{"GET /nothing", "POST /1.0/auth/x", true},
		{"GET /nothing", "GET /1.0/auth", false},
	} {
		method, path, _ := strings.Cut(test.rule, " ")
		k := s.NewKey(consumerkey.Rule{Method: method, Path: path})
		method, target, _ := strings.Cut(test.request, " ")
		resp, _ := send(t, signed(t, s, k, method, target, ""))
		if want := map[bool]int{true: 200, false: 403}[test.want]; resp.StatusCode != want {
			t.Errorf("%q, %s: got %s, want %d", test.rule, test.request, resp.Status, want)
		}
	}
}

func TestAllowedIPs(t *testing.T) {
	s := newServer(t)
	for ips, want := range map[string]int{
		`null`:                          200,
		`[]`:                            200,
		`["127.0.0.1"]`:                 200,
		`["192.0.2.1","127.0.0.0/8"]`:   200,
		`["192.0.2.1","2001:db8::/32"]`: 403,
		`["127.0.0.2/32"]`:              403,
	} {
		k := pendingKey(t, s, `{"accessRules":[{"method":"GET","path":"/*"}],"allowedIPs":`+ips+`}`)
		s.Validate(k.ConsumerKey)
		if resp, body := send(t, signed(t, s, k, "GET", "/1.0/me", "")); resp.StatusCode != want {
			t.Errorf("%s: got %s %s, want %d", ips, resp.Status, body, want)
		}
	}
}

func TestTolerance(t *testing.T) {
	s := newServer(t)
	now := time.Unix(1457018875, 999_999_999)
	s.SetClock(func() time.Time { return now })
	s.SetTolerance(5 * time.Minute)
	for behind, want := range map[time.Duration]int{5 * time.Minute: 200, 5*time.Minute + time.Second: 400} {
		resp, _ := send(t, signedAt(t, s, s.Credentials(), now.Add(-behind), "GET", "/1.0/me", ""))
		if resp.StatusCode != want {
			t.Errorf("%v behind: got %s, want %d", behind, resp.Status, want)
		}
	}
}

func TestBodyLimit(t *testing.T) {
	s := newServer(t)
	req := plain(t, s, "PUT", "/1.0/me", "")
	const limit = 64 << 20
	req.Body, req.ContentLength = io.NopCloser(io.LimitReader(spaces{}, limit+1)), limit+1
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := s.Exchanges()[0]; resp.StatusCode != 413 || got.Executed || got.Verified || got.Body != nil {
		t.Errorf("got %s, recorded %v; want 413, and neither executed nor verified nor kept", resp.Status, got)
	}
}

type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

func TestLimitRate(t *testing.T) {
	s := newServer(t)
	now := time.Unix(1457018875, 0)
	s.SetClock(func() time.Time { return now })
	get := func(want int, wantRetryAfter string) {
		t.Helper()
		resp, body := send(t, signedAt(t, s, s.Credentials(), now, "GET", "/1.0/me", ""))
		got, ok := resp.Header.Get("Retry-After"), len(resp.Header["Retry-After"]) > 0
		if resp.StatusCode != want || got != wantRetryAfter || ok != (got != "") {
			t.Errorf("got %s %s with Retry-After %q, want %d with %q", resp.Status, body, got, want, wantRetryAfter)
		}
	}
	s.LimitRate(2, time.Minute, "17")
	get(200, "")
	now = now.Add(30 * time.Second)
	get(200, "")
	get(429, "17")
	if last := s.Exchanges()[2]; last.Executed || !last.Verified || last.ErrorCode != "TOO_MANY_REQUESTS" {
		t.Errorf("recorded %v, want it verified and not executed", last)
	}
	now = now.Add(30*time.Second - 1)
	get(429, "17")
	now = now.Add(1)
	get(200, "") // the first left the window
	get(429, "17")
	s.Inject(ovhtest.Fault{Status: 503})
	get(503, "") // faults come first
	s.LimitRate(1, time.Minute, "")
	if resp, _ := send(t, plain(t, s, "GET", "/1.0/auth/time", "")); resp.StatusCode != 200 {
		t.Errorf("got %s, want 200", resp.Status)
	}
	get(429, "") // unsigned requests count as well
	s.LimitRate(0, 0, "")
	get(200, "")
	get(200, "")
}

func TestLimitRateBy(t *testing.T) {
	for _, c := range []struct {
		name  string
		given ovhtest.RateWindow
		at    []int // seconds
		want  string
	}{
		{"sliding", ovhtest.RateSliding, []int{0, 30, 40, 59, 60, 61, 90}, "200 200 429 429 200 429 200"},
		{"rejections count", ovhtest.RateSlidingRejected, []int{0, 30, 40, 60, 90, 101, 160}, "200 200 429 429 429 429 200"},
		{"fixed", ovhtest.RateFixed, []int{0, 59, 59, 60, 60, 60, 190, 190, 239, 240}, "200 200 429 200 200 429 200 200 429 200"},
		{"bucket", ovhtest.RateBucket, []int{0, 0, 29, 30, 30, 600, 600, 600}, "200 200 429 200 429 200 200 429"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t)
			start := time.Unix(1457018875, 0)
			now := start
			s.SetClock(func() time.Time { return now })
			s.LimitRate(2, time.Minute, "")
			s.LimitRateBy(c.given)
			run := func() string {
				var got []string
				for _, second := range c.at {
					now = start.Add(time.Duration(second) * time.Second)
					resp, _ := send(t, signedAt(t, s, s.Credentials(), now, "GET", "/1.0/me", ""))
					got = append(got, strconv.Itoa(resp.StatusCode))
				}
				return strings.Join(got, " ")
			}
			if got := run(); got != c.want {
				t.Errorf("at %v s: %s, want %s", c.at, got, c.want)
			}
			start = start.Add(time.Hour)
			s.LimitRate(2, time.Minute, "") // keeps the window, forgets what was counted
			if got := run(); got != c.want {
				t.Errorf("after another LimitRate: %s, want %s", got, c.want)
			}
		})
	}
	defer func() {
		if got, want := fmt.Sprint(recover()), `ovhtest: LimitRateBy: no window is named "weekly"`; got != want {
			t.Errorf("panic %s, want %s", got, want)
		}
	}()
	newServer(t).LimitRateBy("weekly")
}

// Tokens that grow in small steps are whole when they are due, for all their rounding. And no time is no limit.
func TestRateAtItsEdges(t *testing.T) {
	s := newServer(t)
	now := time.Unix(1457018875, 0)
	s.SetClock(func() time.Time { return now })
	ask := func() int {
		resp, _ := send(t, plain(t, s, "GET", "/1.0/auth/time", ""))
		return resp.StatusCode
	}
	s.LimitRateBy(ovhtest.RateBucket)
	s.LimitRate(1, time.Second, "")
	for i := range 11 {
		want := 429
		if i%10 == 0 {
			want = 200
		}
		if got := ask(); got != want {
			t.Errorf("a token a second, after %d tenths: got %d, want %d", i, got, want)
		}
		now = now.Add(time.Second / 10)
	}
	for _, window := range []ovhtest.RateWindow{ovhtest.RateSliding, ovhtest.RateSlidingRejected, ovhtest.RateFixed, ovhtest.RateBucket} {
		s.LimitRateBy(window)
		s.LimitRate(1, 0, "")
		for range 3 {
			if got := ask(); got != 200 {
				t.Errorf("window %q of no time: got %d, want 200", window, got)
			}
		}
	}
}

func TestTLSServerSpeaksHTTP2(t *testing.T) {
	s := ovhtest.NewTLSServer()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	base := &http.Transport{ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer base.CloseIdleConnections()
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: s.Endpoint(), Credentials: s.Credentials(), Base: base}}
	resp, err := client.Get("/me")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.Proto != "HTTP/2.0" || resp.StatusCode != 200 {
		t.Errorf("%s %s, want HTTP/2.0 and 200", resp.Proto, resp.Status)
	}
}

// pendingKey asks for a consumer key of the first application.
func pendingKey(t *testing.T, s *ovhtest.Server, body string) ovhauth.Credentials {
	t.Helper()
	c, _ := requestKey(t, s, body)
	return c
}
