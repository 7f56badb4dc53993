package ovhauth_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
)

// Tests in which no wait matters set MinWait to this.
const noWait = time.Nanosecond

const payload = `{"a":"b"}`

var testKeys = ovhauth.Credentials{ApplicationKey: "the-AK", ApplicationSecret: "the-AS", ConsumerKey: "the-CK"}

// roundTrip is a Base made of a function, which has to close the request's body.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

type closer func()

func (c closer) Close() error { c(); return nil }

// limiter is a Limiter made of a function.
type limiter func(context.Context) error

func (f limiter) Wait(ctx context.Context) error { return f(ctx) }

// inBubble runs a subtest in virtual time.
func inBubble(t *testing.T, name string, f func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// scripted gives the attempts their outcomes in turn, the last one for ever, and notes when they came. It treats bodies as a
// RoundTripper must.
type scripted struct {
	outcomes []any // *http.Response or error

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
	switch a := s.outcomes[min(len(s.at), len(s.outcomes))-1].(type) {
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

// attempts returns how many there were.
func (s *scripted) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.at)
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
		t.Errorf("%d bodies opened, %d closed by %d calls, want %d of each", b.opened.Load(), b.closed.Load(), b.all.Load(), want)
	}
}

// reply makes a response with the body "response <code>"; headers are pairs of name and value.
func reply(code int, header ...string) *http.Response {
	resp := &http.Response{StatusCode: code, Status: fmt.Sprint(code, " ", http.StatusText(code)), Header: http.Header{},
		Body: &text{s: fmt.Sprint("response ", code)}}
	for i := 0; i < len(header); i += 2 {
		resp.Header.Set(header[i], header[i+1])
	}
	return resp
}

// replyText is reply with another body.
func replyText(code int, body string, header ...string) *http.Response {
	resp := reply(code, header...)
	resp.Body = &text{s: body}
	return resp
}

// respond is reply for a Base that is not scripted.
func respond(code int, header ...string) *http.Response {
	return response(code, fmt.Sprint("response ", code), header...)
}

// result is what a caller got, in words: "200", or the error.
func result(resp *http.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(resp.StatusCode)
}

// get sends a GET of /me.
func get(t *testing.T, ctx context.Context, rt http.RoundTripper) (*http.Response, error) {
	t.Helper()
	return finished(t, rt, newRequest(t, "GET", "/me", nil).WithContext(ctx))
}

// getURL sends a GET, by the test's context.
func getURL(t *testing.T, rt http.RoundTripper, url string) (*http.Response, error) {
	t.Helper()
	return finished(t, rt, newRequest(t, "GET", url, nil))
}

// finished sends req, reads a reply whole and closes it.
func finished(t *testing.T, rt http.RoundTripper, req *http.Request) (*http.Response, error) {
	t.Helper()
	resp, err := rt.RoundTrip(req)
	if (resp == nil) == (err == nil) {
		t.Errorf("RoundTrip returned response %v and error %v, want one of them", resp, err)
		return resp, err
	}
	if err == nil && resp.Body != nil {
		want := fmt.Sprint("response ", resp.StatusCode)
		if b, err := io.ReadAll(resp.Body); string(b) != want || err != nil {
			t.Errorf("read %.100q, %v; want %q", b, err, want)
		}
		resp.Body.Close()
	}
	return resp, err
}

// heap returns how many bytes are in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// observed keeps the events of a RetryTransport.
type observed struct {
	mu     sync.Mutex
	events []ovhauth.Event
}

func (o *observed) add(_ context.Context, e ovhauth.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
}

// words are the events in short, "kind: reason".
func (o *observed) words() (all []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.events {
		all = append(all, e.Kind.String()+": "+e.Reason)
	}
	return all
}

// reset cuts the connection of a request that is being served.
func reset(w http.ResponseWriter) {
	conn, _, _ := w.(http.Hijacker).Hijack()
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// listen serves each connection to a new port of loopback by serve, which has to close it.
func listen(t *testing.T, serve func(net.Conn)) (addr string) {
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
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

// baseFunc is a Base made of a function. Like any good one it closes the request's body.
type baseFunc func(*http.Request) (*http.Response, error)

func (f baseFunc) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	return f(req)
}

// response makes one; headers are pairs of name and value.
func response(status int, body string, headers ...string) *http.Response {
	resp := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(headers); i += 2 {
		resp.Header.Set(headers[i], headers[i+1])
	}
	return resp
}

// recorder responds 200 and keeps what it was sent.
type recorder struct {
	requests []*http.Request
	bodies   []string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		req.Body.Close()
	}
	r.requests, r.bodies = append(r.requests, req), append(r.bodies, string(body))
	return response(200, "ok"), nil
}

func (r *recorder) last() *http.Request { return r.requests[len(r.requests)-1] }

func newRequest(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// authentication lists the authentication headers of h by their canonical names.
func authentication(h http.Header) (names []string) {
	for name := range h {
		switch name = http.CanonicalHeaderKey(name); name {
		case "X-Ovh-Application", "X-Ovh-Consumer", "X-Ovh-Timestamp", "X-Ovh-Signature", "Authorization":
			names = append(names, strings.TrimPrefix(name, "X-Ovh-"))
		}
	}
	slices.Sort(names)
	return names
}

// trackedBody counts how often it is closed.
type trackedBody struct {
	io.Reader
	closed int
}

func (b *trackedBody) Close() error { b.closed++; return nil }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func rejected(status int, body string, headers ...string) *http.Response {
	resp := response(status, body, headers...)
	resp.Request, _ = http.NewRequest("DELETE", "https://eu.api.ovh.com/1.0/me?secret=hunter2", nil)
	return resp
}

// timestamp is the time that req was signed at.
func timestamp(req *http.Request) time.Time {
	seconds, _ := strconv.ParseInt(req.Header.Get("X-Ovh-Timestamp"), 10, 64)
	return time.Unix(seconds, 0)
}

// bodyRequest makes a request whose bodies are counted.
func bodyRequest(t *testing.T, method string, sent *text) *http.Request {
	req := newRequest(t, method, "https://api/x", sent.open())
	req.ContentLength = int64(len(sent.s))
	req.GetBody = func() (io.ReadCloser, error) { return sent.open(), nil }
	return req
}

// wire is a server that responds 200 to every request and tells what it read, down to the bytes of the request line. Its base
// leads to it whatever the host, also for https, without TLS.
type wire struct {
	base    *http.Transport
	arrived chan arrival
}

type arrival struct {
	line   string // "GET /1.0/me HTTP/1.1"
	host   string
	header http.Header
	body   string
}

func (a arrival) method() string { return a.line[:strings.IndexByte(a.line, ' ')] }

func (a arrival) url() string {
	target := a.line[strings.IndexByte(a.line, ' ')+1 : strings.LastIndexByte(a.line, ' ')]
	return "https://" + a.host + target
}

// signature recomputes the signature from what arrived.
func (a arrival) signature(keys ovhauth.Credentials) string {
	return fmt.Sprintf("$1$%x", sha1.Sum([]byte(strings.Join([]string{keys.ApplicationSecret, keys.ConsumerKey,
		a.method(), a.url(), a.body, a.header.Get("X-Ovh-Timestamp")}, "+"))))
}

func newWire(t testing.TB) *wire {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
	}
	w := &wire{base: &http.Transport{DialContext: dial, DialTLSContext: dial}, arrived: make(chan arrival, 1)}
	t.Cleanup(w.base.CloseIdleConnections)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go w.serve(conn)
		}
	}()
	return w
}

func (w *wire) serve(conn net.Conn) {
	defer conn.Close()
	var raw bytes.Buffer
	in := bufio.NewReader(io.TeeReader(conn, &raw))
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return // for the sender, an EOF
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		line, _, _ := bytes.Cut(raw.Bytes(), []byte("\r\n"))
		w.arrived <- arrival{line: string(line), host: req.Host, header: req.Header, body: string(body)}
		raw.Reset()
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}
}
