// Package ovhtest is an OVHcloud API for tests of code that calls the real one.
//
//	server := ovhtest.NewServer()
//	defer server.Close()
//	me, err := ovhjson.Get[Me](ctx, server.Client(), "/me") // signed
//
// The code under test makes its own client of Endpoint and Credentials; or, if an endpoint is built into it, of Transport, which
// reaches the server under any host name. NewServer listens on loopback, NewTLSServer does so with TLS, and NewPipeServer needs no
// socket: in a bubble of testing/synctest it lets a Retry-After of a minute, a clock that steps or a token that expires take no
// time at all.
//
// The server verifies every signature against the request line and the body as they arrived. It enforces the time tolerance, the
// state, the access rules and the allowed IPs of consumer keys, and the rules of service accounts, with the errors of the real
// API. It serves, below /1.0 and /v1 alike:
//
//	GET  /auth/time                             POST /auth/credential    (these two need no signature)
//	GET  /auth/currentCredential                GET  /auth/details       POST /auth/logout
//	GET  /me                                    PUT  /me
//	GET  /me/api/credential                     GET, PUT, DELETE /me/api/credential/{id}
//	GET  /me/api/credential/{id}/application
//	GET  /me/api/application                    GET, DELETE /me/api/application/{id}
//
// and at the host's root the token endpoints of service accounts, POST /auth/oauth2/token and /oauth2/token, and the page of a
// validation URL, on which a user authorizes or refuses a consumer key in a browser. The lists take the request header
// X-Pagination-Mode, and the routes with an {id} take X-Ovh-Batch. Handle and HandleGuest add routes. Tests set the clock, change
// the state of keys, limit the rate, inject faults, and look at what arrived (Exchanges, OnExchange).
package ovhtest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"time"

	"example.com/ovhauth"
)

// Server is an OVHcloud API of one customer account. Make it with NewServer, NewTLSServer or NewPipeServer. All methods are safe
// for concurrent use, and may be called while requests are served.
type Server struct{ *state }

type state struct {
	http      *httptest.Server
	transport http.RoundTripper
	client    *http.Client
	first     *key
	stop      context.CancelFunc // ends the context of every request
	served    *http.ServeMux     // the server's own routes

	mu        sync.Mutex // guards all that follows
	routes    map[string]mounted
	added     *http.ServeMux // of routes
	clock     func() time.Time
	tolerance time.Duration
	dialect   Dialect
	limit     rateLimit
	lastID    int64
	account   account
	apps      map[string]*application    // by application key
	keys      map[string]*key            // by consumer key
	services  map[string]*serviceAccount // by client ID
	tokens    map[string]token           // by access token
	faults    []Fault
	faultFunc func(*http.Request) *Fault
	exchanges []*Exchange

	onExchange func(Exchange)
}

// NewServer starts a server on loopback that has one application, with one validated consumer key that may call everything. It
// panics if it cannot listen. Close it after use.
func NewServer() *Server {
	h := httptest.NewUnstartedServer(nil)
	return newServer(h, h.Start, dialTCP(h.Listener))
}

// NewTLSServer is NewServer with TLS. Its certificate is for 127.0.0.1; Transport trusts it, and Certificate lets others do so. It
// speaks HTTP/2 with clients that offer it; Transport does not.
func NewTLSServer() *Server {
	h := httptest.NewUnstartedServer(nil)
	h.EnableHTTP2 = true
	return newServer(h, h.StartTLS, dialTCP(h.Listener))
}

// NewPipeServer is NewServer without a socket: Client and Transport reach it through memory, and nothing else does, as nobody
// listens at its Endpoint. It works in a bubble of testing/synctest, if it is made and closed there.
func NewPipeServer() *Server {
	p := newPipes()
	h := &httptest.Server{Listener: p, Config: &http.Server{}}
	return newServer(h, h.Start, p.dial)
}

func dialTCP(l net.Listener) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

func newServer(h *httptest.Server, start func(), dial func(context.Context) (net.Conn, error)) *Server {
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{&state{
		http:      h,
		stop:      stop,
		served:    http.NewServeMux(),
		added:     http.NewServeMux(),
		clock:     time.Now,
		tolerance: 30 * time.Second,
		lastID:    1000,
		account:   jeanne,
		apps:      map[string]*application{},
		keys:      map[string]*key{},
		services:  map[string]*serviceAccount{},
		tokens:    map[string]token{},
	}}
	s.serveRoutes()
	h.Config.Handler = http.HandlerFunc(s.serve)
	h.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	h.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, c)
	}
	start()
	s.first = s.newApplication(time.Now())
	s.transport = newTransport(h, dial)
	s.client = &http.Client{Transport: &ovhauth.Transport{Endpoint: s.Endpoint(), Credentials: s.Credentials(), Base: s.transport}}
	return s
}

func newTransport(h *httptest.Server, dial func(context.Context) (net.Conn, error)) http.RoundTripper {
	dialAny := func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	t := &http.Transport{DisableKeepAlives: true, DialContext: dialAny}
	if h.TLS == nil {
		t.DialTLSContext = dialAny
		return terminator{t}
	}
	roots := x509.NewCertPool()
	roots.AddCert(h.Certificate())
	t.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"} // whatever host is asked for
	return t
}

// terminator stands where TLS ends in front of a server that has none: it takes https, and says so.
type terminator struct{ *http.Transport }

func (t terminator) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		return t.Transport.RoundTrip(req)
	}
	out := *req
	if out.Header = req.Header.Clone(); out.Header == nil {
		out.Header = http.Header{}
	}
	out.Header.Set("X-Forwarded-Proto", "https")
	resp, err := t.Transport.RoundTrip(&out)
	if err == nil {
		resp.Request = req
	}
	return resp, err
}

// Close stops the server. Requests under way lose their connection, their contexts end, and with them the delays of injected
// faults. Close returns when the last handler has: a handler that ignores its request's context delays it. A server can
// be closed more than once.
func (s *Server) Close() {
	s.http.CloseClientConnections() // before stop, which would let handlers respond
	s.stop()
	s.http.Close()
	s.client.CloseIdleConnections()
}

// String is the server's URL.
func (s Server) String() string { return "ovhtest.Server(" + s.http.URL + ")" }

// Format prints String, whatever the verb: fmt would print the server's keys.
func (s Server) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// Endpoint is the base URL of the API, "http://127.0.0.1:port/1.0", or https for NewTLSServer.
func (s *Server) Endpoint() ovhauth.Endpoint { return ovhauth.Endpoint(s.http.URL + "/1.0") }

// Credentials are the keys that the server started with.
func (s *Server) Credentials() ovhauth.Credentials { return s.first.credentials() }

// Client returns a client that signs with Credentials, sends to Transport and retries nothing; it is the same at every call.
func (s *Server) Client() *http.Client { return s.client }

// Transport is a Base that reaches this server under whatever host name a request asks for, by http and https alike (by https
// alone for NewTLSServer). Code with an endpoint of the real API built in can so be tested:
//
//	&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: server.Credentials(), Base: server.Transport()}
//
// It opens a connection for each request, since net/http itself repeats an idempotent request that a reused connection loses. In
// front of a server without TLS it stands where TLS ends, and adds X-Forwarded-Proto: https to a request for https.
func (s *Server) Transport() http.RoundTripper { return s.transport }

// Certificate is that of NewTLSServer, and nil for any other server.
func (s *Server) Certificate() *x509.Certificate { return s.http.Certificate() }

// SetClock makes now the clock of the server; it may be called concurrently. The Date header, /auth/time, the time tolerance, the
// rate limit, and the creation and expiration of keys and tokens follow it. Delays are real. Nil means time.Now.
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

// SetTolerance sets how far a request's timestamp may lie from the server's clock, in whole seconds either way; beyond it the
// response is QUERY_TIME_OUT. The default is 30 s: the real API's figure is not published.
func (s *Server) SetTolerance(d time.Duration) {
	s.locked(func() { s.tolerance = d })
}

// SetDialect chooses the form of errors to come.
func (s *Server) SetDialect(d Dialect) {
	s.locked(func() { s.dialect = d })
}

func (s *Server) locked(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// random returns n random letters and digits.
func random(n int) string { return (rand.Text() + rand.Text() + rand.Text())[:n] }
