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
)

const maxBody = 64 << 20 // bytes; a larger request body is answered 413

// A call is a request on its way through the server.
type call struct {
	exchange *Exchange
	now      time.Time
	caller
}

// A caller is who sent a request: an application in the name of a consumer key, or a service account.
type caller struct {
	app         *application
	consumerKey string
	key         *key // nil before admit, and for a service account
	clientID    string
}

type callKey struct{}

func callOf(r *http.Request) *call { return r.Context().Value(callKey{}).(*call) }

// serve receives a request and lets its fault happen, at the fault's place around answer.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := &call{exchange: s.arrived(r)}
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

	out := &recorder{w, s, c.exchange}
	if f.Cut == 0 {
		s.answer(out, r, f, tooLarge != nil)
		out.record(http.StatusOK) // that of a handler that wrote nothing
		return
	}
	whole := httptest.NewRecorder()
	s.answer(whole, r, f, tooLarge != nil)
	if f.Cut == CutMidAnswer && r.Method != http.MethodHead {
		sendHalf(out, whole)
	}
	reset(r)
}

// answer is the door, and what is behind it.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, f Fault, tooLarge bool) {
	c := callOf(r)
	c.now = s.now()
	s.setHeader(w.Header(), c.now)
	if tooLarge {
		s.refuse(w, c, errTooLarge)
		return
	}
	var refusal *apiError
	c.caller, refusal = s.identify(r, c.exchange.Body, c.now)
	s.locked(func() { c.exchange.Verified = refusal == nil })
	if f.Status != 0 {
		f.answer(w)
		return
	}
	mux, match, open := s.find(r)
	switch {
	case s.overLimit(w.Header(), c.now):
		refusal = errTooMany
	case open:
		refusal = nil
	case refusal == nil:
		refusal = s.admit(c, r)
	}
	if refusal == nil && mux == nil {
		refusal = errNoRoute
	}
	if refusal != nil {
		s.refuse(w, c, refusal)
		return
	}
	s.locked(func() { c.exchange.Executed = true })
	mux.ServeHTTP(w, match)
}

// identify verifies the signature or the bearer token of r.
func (s *Server) identify(r *http.Request, body []byte, now time.Time) (caller, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		t, ok := s.tokens[token]
		if !ok || !now.Before(t.expires) {
			return caller{}, errLogin
		}
		return caller{clientID: t.clientID}, nil
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
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || now.Truncate(time.Second).Sub(time.Unix(seconds, 0)).Abs() > s.tolerance {
		return caller{}, errQueryTimeOut
	}
	consumerKey, url := r.Header.Get("X-Ovh-Consumer"), signedURL(r)
	sum := sha1.Sum([]byte(strings.Join([]string{app.secret, consumerKey, r.Method, url, string(body), timestamp}, "+")))
	if signature != fmt.Sprintf("$1$%x", sum) || consumerKey == "" {
		return caller{}, errInvalidSignature
	}
	return caller{app: app, consumerKey: consumerKey}, nil
}

// signedURL is the URL that a client signs: scheme, host and request target. To a proxy the request line names all three.
func signedURL(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "http://") {
		return r.RequestURI
	}
	return "http://" + r.Host + r.RequestURI
}

// admit decides whether the caller, known to be who it says, may make this call.
func (s *Server) admit(c *call, r *http.Request) *apiError {
	if c.clientID != "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
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

func granted(rules []rule, method, path string) bool {
	switch method {
	case http.MethodHead, http.MethodOptions:
		method = http.MethodGet
	case http.MethodPatch:
		method = http.MethodPut
	}
	return strings.HasPrefix(path, "/auth/") || slices.ContainsFunc(rules, func(r rule) bool {
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

type route struct {
	http.Handler
	open bool // to everybody
}

// mount makes a pattern that is relative to the base one of mux.
func mount(mux *http.ServeMux, pattern string, h route) {
	before, path, ok := strings.Cut(pattern, "/")
	if !ok || strings.HasPrefix(path, "v2/") {
		mux.Handle(pattern, h)
		return
	}
	mux.Handle(before+"/1.0/"+path, h)
	mux.Handle(before+"/v1/"+path, h)
}

// find looks for the route of r, a second time without a trailing slash. It returns the mux that has it and the request
// to give that mux. The redirects and the 405 of ServeMux count as nothing found.
func (s *Server) find(r *http.Request) (mux *http.ServeMux, match *http.Request, open bool) {
	tries := []*http.Request{r}
	if strings.HasSuffix(r.URL.EscapedPath(), "/") {
		trimmed, u := *r, *r.URL
		u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
		trimmed.URL = &u
		tries = append(tries, &trimmed)
	}
	for _, match := range tries {
		h, _ := s.served.Handler(match)
		own, ok := h.(route)
		if ok && own.open {
			return s.served, match, true
		}
		if h, _ := s.added.Handler(match); isRoute(h) {
			return s.added, match, false
		}
		if ok {
			return s.served, match, false
		}
	}
	return nil, nil, false
}

func isRoute(h http.Handler) bool {
	_, ok := h.(route)
	return ok
}

type rateLimit struct {
	n          int
	per        time.Duration
	retryAfter string
	served     []time.Time // within the last per
}

// LimitRate answers 429 to what goes beyond n requests in any window of length per, whatever key, route and outcome they
// have; those answered 429 do not count, nor do injected faults. retryAfter is the Retry-After header of the answer, ""
// for none. With n 0, as at first, there is no limit.
func (s *Server) LimitRate(n int, per time.Duration, retryAfter string) {
	s.locked(func() { s.limit = rateLimit{n: n, per: per, retryAfter: retryAfter} })
}

func (s *Server) overLimit(h http.Header, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.limit
	if l.n == 0 {
		return false
	}
	l.served = slices.DeleteFunc(l.served, func(t time.Time) bool { return now.Sub(t) >= l.per })
	if len(l.served) < l.n {
		l.served = append(l.served, now)
		return false
	}
	if l.retryAfter != "" {
		h.Set("Retry-After", l.retryAfter)
	}
	return true
}
