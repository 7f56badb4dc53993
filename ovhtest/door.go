package ovhtest

import (
	"bytes"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/ovhauth/consumerkey"
)

const maxBody = 64 << 20 // bytes; a larger request body gets a 413

// A call is a request on its way through the server.
type call struct {
	exchange *Exchange
	now      time.Time
	header   http.Header // of the response
	caller
}

// A caller is who sent a request: an application in the name of a consumer key, or a service account.
type caller struct {
	app         *application
	consumerKey string
	key         *key // nil before admit, and for a service account
	clientID    string
	service     *serviceAccount
}

type callKey struct{}

func callOf(r *http.Request) *call { return r.Context().Value(callKey{}).(*call) }

// serve receives a request and lets its fault happen, at the fault's place around respond.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := &call{exchange: s.arrived(r)}
	defer s.done(c.exchange)
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	f := s.fault(r)
	if f.Cut == CutBeforeRequest {
		f.wait(r)
		reset(r)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		panic(http.ErrAbortHandler) // the client is gone, or its chunks are malformed
	}
	if tooLarge != nil {
		body = nil
	}
	s.locked(func() { c.exchange.Body = body })
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.wait(r)

	out := &recorder{ResponseWriter: w, s: s, x: c.exchange}
	if f.Cut == 0 {
		s.respond(out, r, f, tooLarge != nil)
		out.record(http.StatusOK) // that of a handler that wrote nothing
		return
	}
	whole := httptest.NewRecorder()
	s.respond(&recorder{ResponseWriter: whole, s: s, x: c.exchange, unsent: true}, r, f, tooLarge != nil)
	if f.Cut == CutMidAnswer && r.Method != http.MethodHead {
		sendHalf(out, whole)
	}
	reset(r)
}

// respond is the door, and what is behind it.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, f Fault, tooLarge bool) {
	c := callOf(r)
	c.now = s.now()
	s.setHeader(w.Header(), c.now)
	if tooLarge {
		s.reject(w, c.exchange, errTooLarge)
		return
	}
	c.header = w.Header()
	var rejection *apiError
	c.caller, rejection = s.identify(r, c.exchange, c.now)
	if f.Status != 0 {
		f.writeTo(w)
		return
	}
	mux, match, access := s.find(r)
	switch {
	case s.overLimit(w.Header(), c.now):
		rejection = errTooMany
	case access == open, access == guest && isGuest(r):
		rejection = nil
	case rejection == nil:
		rejection = s.admit(c, r)
	}
	if rejection == nil && mux == nil {
		rejection = errNoRoute
	}
	if rejection != nil {
		s.reject(w, c.exchange, rejection)
		return
	}
	s.locked(func() { c.exchange.Executed = true })
	mux.ServeHTTP(w, match)
}

// identify verifies the signature or the bearer token of r, and notes in x whether it is valid.
func (s *Server) identify(r *http.Request, x *Exchange, now time.Time) (caller, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		t, ok := s.tokens[token]
		if !ok || !now.Before(t.expires) {
			return caller{}, errLogin
		}
		x.Verified = true
		return caller{clientID: t.clientID, service: s.services[t.clientID]}, nil
	}
	signature := r.Header.Get("X-Ovh-Signature")
	if signature == "" {
		return caller{}, errLogin
	}
	app := s.apps[r.Header.Get("X-Ovh-Application")]
	if app == nil {
		return caller{}, errInvalidKey
	}
	timestamp := r.Header.Get("X-Ovh-Timestamp")
	seconds, err := strconv.ParseUint(timestamp, 10, 63) // without a sign
	if err != nil || now.Truncate(time.Second).Sub(time.Unix(int64(seconds), 0)).Abs() > s.tolerance {
		return caller{}, errQueryTimeOut
	}
	consumerKey := r.Header.Get("X-Ovh-Consumer")
	for _, url := range signedURLs(r) {
		sum := sha1.Sum([]byte(strings.Join([]string{app.secret, consumerKey, r.Method, url, string(x.Body), timestamp}, "+")))
		if signature == fmt.Sprintf("$1$%x", sum) && consumerKey != "" {
			x.URL, x.Verified = url, true
			return caller{app: app, consumerKey: consumerKey}, nil
		}
	}
	return caller{}, errInvalidSignature
}

// signedURLs returns the URLs that a client may have signed: scheme, host and request target. Of a request that came without TLS
// it may be either scheme, as TLS may have ended in front of the server. To a proxy the request line names all three.
func signedURLs(r *http.Request) []string {
	secure, plain := "https://"+r.Host+r.RequestURI, "http://"+r.Host+r.RequestURI
	switch {
	case strings.HasPrefix(r.RequestURI, "http://"):
		return []string{r.RequestURI}
	case r.TLS != nil, r.Header.Get("X-Forwarded-Proto") == "https":
		return []string{secure}
	default:
		return []string{plain, secure}
	}
}

// admit decides whether the caller, known to be who it says, may make this call.
func (s *Server) admit(c *call, r *http.Request) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.service != nil {
		if !granted(c.service.rules, r.Method, apiPath(r)) {
			return notGrantedByIAM(r)
		}
		return nil
	}
	k := s.keys[c.consumerKey]
	switch from, _ := netip.ParseAddrPort(r.RemoteAddr); {
	case k == nil || k.app != c.app:
		return errNotCredential
	case k.at(c.now).Status != validated:
		return errInvalidCredential
	case !allows(k.AllowedIPs, from.Addr()):
		return errForbiddenIP
	case !granted(k.Rules, r.Method, apiPath(r)):
		return errNotGranted
	}
	used := c.now.Truncate(time.Second)
	c.key, k.LastUse = k, &used
	return nil
}

func granted(rules []consumerkey.Rule, method, path string) bool {
	switch method {
	case http.MethodHead, http.MethodOptions:
		method = http.MethodGet
	case http.MethodPatch:
		method = http.MethodPut
	}
	return strings.HasPrefix(path, "/auth/") || slices.ContainsFunc(rules, func(r consumerkey.Rule) bool {
		return r.Method == method && covers(r.Path, path)
	})
}

// covers reports whether the path of an access rule matches path; * stands for any run of characters, be it empty.
func covers(pattern, path string) bool {
	parts := strings.Split(pattern, "*")
	rest, ok := strings.CutPrefix(path, parts[0])
	last := len(parts) - 1
	if !ok || last == 0 {
		return ok && rest == ""
	}
	for _, part := range parts[1:last] {
		if _, rest, ok = strings.Cut(rest, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(rest, parts[last])
}

// A RateWindow is how LimitRate counts: see LimitRateBy.
type RateWindow string

const (
	RateSliding         RateWindow = ""                 // n requests in any window of length per
	RateSlidingRejected RateWindow = "sliding rejected" // as RateSliding, and rejected requests count as well
	RateFixed           RateWindow = "fixed"            // n requests in each window; the next begins where one ends
	RateBucket          RateWindow = "bucket"           // a token bucket: n at first, one more every per/n, never more than n
)

type rateLimit struct {
	n          int
	per        time.Duration
	retryAfter string
	window     RateWindow
	counted    []time.Time // RateSliding: within the last per
	start      time.Time   // RateFixed: of the window. RateBucket: when tokens were counted
	used       int         // RateFixed
	tokens     float64     // RateBucket
}

// LimitRate limits the rate of requests: the server responds with status 429 to each request beyond n within per. It counts every
// request, whatever its key, its route and its outcome. It does not count requests with an injected fault, nor those that it rejects
// with 429; LimitRateBy changes how it counts. The responses with status 429 carry retryAfter as their Retry-After header; "" means
// no header. With n or per 0, as at first, there is no limit. Each call starts to count anew.
func (s *Server) LimitRate(n int, per time.Duration, retryAfter string) {
	s.locked(func() { s.limit = rateLimit{n: n, per: per, retryAfter: retryAfter, window: s.limit.window} })
}

// LimitRateBy chooses how LimitRate counts, before or after a call of it, and starts to count anew. At first it is RateSliding.
// LimitRateBy panics if it does not know the window.
func (s *Server) LimitRateBy(window RateWindow) {
	switch window {
	case RateSliding, RateSlidingRejected, RateFixed, RateBucket:
	default:
		panic(fmt.Sprintf("ovhtest: LimitRateBy: no window is named %q", string(window)))
	}
	s.locked(func() {
		l := s.limit
		s.limit = rateLimit{n: l.n, per: l.per, retryAfter: l.retryAfter, window: window}
	})
}

func (s *Server) overLimit(h http.Header, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.limit
	if l.n == 0 || l.per <= 0 || l.grants(now) {
		return false
	}
	if l.retryAfter != "" {
		h.Set("Retry-After", l.retryAfter)
	}
	return true
}

// grants counts a request, and reports whether it is within the limit.
func (l *rateLimit) grants(now time.Time) bool {
	if l.start.IsZero() {
		l.start, l.tokens = now, float64(l.n)
	}
	switch l.window {
	case RateFixed:
		if past := now.Sub(l.start); past >= l.per {
			l.start, l.used = now.Add(-(past % l.per)), 0
		}
		l.used++
		return l.used <= l.n
	case RateBucket:
		l.tokens = min(float64(l.n), l.tokens+float64(l.n)*now.Sub(l.start).Seconds()/l.per.Seconds())
		l.start = now
		if l.tokens < 1-1e-9 { // a token that is whole but for rounding
			return false
		}
		l.tokens--
		return true
	}
	l.counted = slices.DeleteFunc(l.counted, func(t time.Time) bool { return now.Sub(t) >= l.per })
	granted := len(l.counted) < l.n
	if granted || l.window == RateSlidingRejected {
		l.counted = append(l.counted, now)
	}
	return granted
}
