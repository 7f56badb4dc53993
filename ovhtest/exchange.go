package ovhtest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Exchange is a request that arrived, and what became of it. Its header and body hold keys and signatures, so fmt, slog
// and encoding/json show it as one line without them, as String does. (Only %p and %w, which vet rejects here, ask no
// method.)
type Exchange struct {
	Method   string
	URL      string      // as the server takes it to be signed: scheme, Host header, request target
	Header   http.Header // of the request
	Body     []byte      // of the request; nil until it has arrived, if CutBeforeRequest left it unread, and beyond 64 MiB
	Verified bool        // it had a valid signature or bearer token, whether its route or fault asked for one or not
	Executed bool        // the handler of its route was called

	Status    int    // of the response; 0 before its header was sent, and if it never was
	QueryID   string // X-Ovh-Queryid of the response
	ErrorCode string // of an error that the server sent: its errorCode, else its class or OAuth2 error; in every dialect
}

// String is the method, the URL without its query, and the outcome.
func (x Exchange) String() string {
	url, _, query := strings.Cut(x.URL, "?")
	if query {
		url += "?…"
	}
	line := fmt.Sprintf("%s %s: verified %t, executed %t, status %d", x.Method, url, x.Verified, x.Executed, x.Status)
	if x.ErrorCode != "" {
		line += " " + x.ErrorCode
	}
	return line
}

// Format prints String, whatever the verb.
func (x Exchange) Format(f fmt.State, _ rune) { io.WriteString(f, x.String()) }

// MarshalText is String, for encoding/json and slog.
func (x Exchange) MarshalText() ([]byte, error) { return []byte(x.String()), nil }

// Exchanges returns what has arrived, in that order, with requests still under way as far as they are. Status, Executed
// and the rest are settled before the client can see the response.
func (s *Server) Exchanges() []Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Exchange
	for _, x := range s.exchanges {
		all = append(all, x.clone())
	}
	return all
}

// Forget drops the exchanges so far, which otherwise are kept, bodies included, as long as the server.
func (s *Server) Forget() {
	s.locked(func() { s.exchanges = nil })
}

// OnExchange lets f see every exchange as soon as its handler is done, concurrently; nil, as at first, lets nobody. The response
// may still be on its way.
func (s *Server) OnExchange(f func(Exchange)) {
	s.locked(func() { s.onExchange = f })
}

func (s *Server) done(x *Exchange) {
	s.mu.Lock()
	shown, f := x.clone(), s.onExchange
	s.mu.Unlock()
	if f != nil {
		f(shown)
	}
}

func (x *Exchange) clone() Exchange {
	shown := *x
	shown.Header, shown.Body = x.Header.Clone(), bytes.Clone(x.Body)
	return shown
}

func (s *Server) arrived(r *http.Request) *Exchange {
	x := &Exchange{Method: r.Method, URL: signedURLs(r)[0], Header: r.Header.Clone()}
	s.locked(func() { s.exchanges = append(s.exchanges, x) })
	return x
}

// A recorder notes the status of a response before it is sent.
type recorder struct {
	http.ResponseWriter
	s      *Server
	x      *Exchange
	unsent bool // the response is kept back by a fault, so there is nothing to note
}

func (w *recorder) record(status int) {
	if w.unsent || status < 200 && status != http.StatusSwitchingProtocols {
		return // informational: the response is yet to come
	}
	w.s.locked(func() {
		if w.x.Status == 0 {
			w.x.Status, w.x.QueryID = status, w.Header().Get("X-Ovh-Queryid")
		}
	})
}

func (w *recorder) WriteHeader(status int) {
	w.record(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	w.record(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

func (w *recorder) Flush() {
	w.record(http.StatusOK)
	http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

const jsonType = "application/json; charset=utf-8"

// setHeader sets what every response of the API has.
func (s *Server) setHeader(h http.Header, now time.Time) {
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	h.Set("Content-Type", jsonType)
	h.Set("Cache-Control", "no-cache, no-store")
	h.Set("Server", "nginx")
	h.Set("X-Iplb-Request-Id", strings.ToUpper(random(24)))
	h.Set("X-Iplb-Instance", "00000")
	h.Set("X-Ovh-Queryid", fmt.Sprintf("EU.ext-1.%x.%s", now.Unix(), random(20)))
	h.Set("Access-Control-Allow-Headers", "X-Ovh-Timestamp, X-Ovh-Consumer, X-Ovh-Application, X-Ovh-Signature, "+
		"X-Ovh-Session, Authorization, Content-Type")
}
