// Package ovhtest is an OVHcloud API on loopback, for tests of code that calls the real one.
//
//	srv := ovhtest.NewServer()
//	defer srv.Close()
//	resp, err := srv.Client().Get("/me") // signed; or give srv.Endpoint() and srv.Credentials() to the code under test
//
// The server verifies every signature against the request line and the body as they arrived, enforces the time
// tolerance, the state, the access rules and the allowed IPs of consumer keys, and answers the errors of the real API.
// It serves, below /1.0 and /v1 alike:
//
//	GET  /auth/time                             POST /auth/credential    (these two ask for no signature)
//	GET  /auth/currentCredential                GET  /auth/details       POST /auth/logout
//	GET  /me                                    PUT  /me
//	GET  /me/api/credential                     GET, PUT, DELETE /me/api/credential/{id}
//	GET  /me/api/credential/{id}/application
//	GET  /me/api/application                    GET, DELETE /me/api/application/{id}
//
// and at the host's root POST /auth/oauth2/token, for service accounts, and the page of a validation URL, on which a
// user authorizes or refuses a consumer key in a browser. Handle adds routes. Tests turn the clock, change the state of
// keys, limit the rate, inject faults, and look at what arrived (Exchanges).
package ovhtest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"example.com/ovhauth"
)

// Server is an OVHcloud API of one customer account. Make it with NewServer. All methods are safe for concurrent use,
// and may be called while requests are served.
type Server struct{ *state }

type state struct {
	http   *httptest.Server
	client *http.Client
	first  *key
	stop   context.CancelFunc // ends the context of every request
	added  *http.ServeMux     // by Handle; asked before served
	served *http.ServeMux

	mu        sync.Mutex // guards all that follows
	clock     func() time.Time
	tolerance time.Duration
	dialect   Dialect
	limit     rateLimit
	lastID    int64
	account   account
	apps      map[string]*application // by application key
	keys      map[string]*key         // by consumer key
	secrets   map[string]string       // of service accounts, by client ID
	tokens    map[string]token        // by access token
	faults    []Fault
	faultFunc func(*http.Request) *Fault
	exchanges []*Exchange
}

// NewServer starts a server that has one application, with one validated consumer key that may call everything. It
// panics if it cannot listen on loopback. Close it after use.
func NewServer() *Server {
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{&state{
		stop:      stop,
		added:     http.NewServeMux(),
		served:    http.NewServeMux(),
		clock:     time.Now,
		tolerance: 30 * time.Second,
		lastID:    1000,
		account:   jeanne,
		apps:      map[string]*application{},
		keys:      map[string]*key{},
		secrets:   map[string]string{},
		tokens:    map[string]token{},
	}}
	s.serveRoutes()
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.http.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	s.http.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	s.http.Start()
	s.first = s.newApplication(time.Now())
	s.client = &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    s.Endpoint(),
		Credentials: s.Credentials(),
		Base:        &http.Transport{DisableKeepAlives: true},
	}}
	return s
}

// Close stops the server. Requests under way lose their connection, their contexts end, and with them the delays of
// injected faults. Close returns when the last handler has: one of Handle's that ignores its request's context holds it
// up. A server can be closed more than once.
func (s *Server) Close() {
	s.http.CloseClientConnections() // before stop, which would let handlers answer
	s.stop()
	s.http.Close()
	s.client.CloseIdleConnections()
}

// Format prints the server's URL, whatever the verb: fmt would print its keys.
func (s Server) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "ovhtest.Server(%s)", s.http.URL) }

// Endpoint is the base URL of the API, "http://127.0.0.1:port/1.0".
func (s *Server) Endpoint() ovhauth.Endpoint { return ovhauth.Endpoint(s.http.URL + "/1.0") }

// Credentials are the keys that the server started with.
func (s *Server) Credentials() ovhauth.Credentials { return s.first.credentials() }

// Client returns a client that signs with Credentials and retries nothing; it is the same at every call. It opens a
// connection for each request, since net/http itself repeats an idempotent request that a reused connection loses.
func (s *Server) Client() *http.Client { return s.client }

// Handle adds a route: a pattern of http.ServeMux relative to the base, "GET /domain/zone/{zone}", which answers below /1.0
// and /v1; or one that begins with /v2/, which stands at the host's root. It takes precedence over a route of the server's own,
// but for those that ask for no signature: without them no client would find its way in.
//
// h is called for requests that have a valid signature or token of a key that may make them. It gets the request as the client
// sent it, the body already read and readable again; only where a trailing slash kept the path from matching, URL.Path and
// RawPath lack it. Its answer is declared JSON unless it says otherwise. Handle panics where http.ServeMux does: on a malformed
// pattern, or one that conflicts with an earlier one.
func (s *Server) Handle(pattern string, h http.Handler) {
	mount(s.added, pattern, route{h, false})
}

// SetClock makes the server live by now, which may be called concurrently: the Date header, /auth/time, the time
// tolerance, the rate limit, the creation and expiration of keys and tokens follow it. Delays are real. Nil means
// time.Now.
func (s *Server) SetClock(now func() time.Time) {
	if now == nil {
		now = time.Now
	}
	s.locked(func() { s.clock = now })
}

func (s *Server) now() time.Time {
	s.mu.Lock()
	clock := s.clock
	s.mu.Unlock()
	return clock() // unlocked: it is the test's, and may call the server
}

// SetTolerance sets how far a request's timestamp may lie from the server's clock, in whole seconds either way; beyond
// it the answer is QUERY_TIME_OUT. The default is 30 s: the real API's figure is not published.
func (s *Server) SetTolerance(d time.Duration) {
	s.locked(func() { s.tolerance = d })
}

// SetDialect chooses the form of error answers to come.
func (s *Server) SetDialect(d Dialect) {
	s.locked(func() { s.dialect = d })
}

func (s *Server) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// apiPath is the path of a request as access rules see it: as it was sent, without base and query.
func apiPath(r *http.Request) string {
	path, _, _ := strings.Cut(strings.TrimPrefix(r.RequestURI, "http://"+r.Host), "?")
	for _, base := range []string{"/1.0/", "/v1/"} {
		if rest, ok := strings.CutPrefix(path, base); ok {
			return "/" + rest
		}
	}
	return path
}

// random returns n random letters and digits.
func random(n int) string { return (rand.Text() + rand.Text() + rand.Text())[:n] }
