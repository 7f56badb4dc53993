package ovhjson_test

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// baseFunc is a RoundTripper made of a function.
type baseFunc func(*http.Request) (*http.Response, error)

func (f baseFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// body knows how far it was read and whether it was closed.
type body struct {
	io.Reader
	ended, closed bool
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

func (b *body) Close() error { b.closed = true; return nil }

// response has a body of type *body, of which one byte is read at a time, as a slow connection gives it.
func response(status int, text string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: &body{Reader: oneByte{strings.NewReader(text)}}}
}

type oneByte struct{ io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.Reader.Read(p[:min(1, len(p))]) }

func newRequest(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// openBodies is a Base that counts the responses that are still open.
type openBodies struct {
	http.RoundTripper
	n atomic.Int64
}

func (o *openBodies) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := o.RoundTripper.RoundTrip(req)
	if err == nil {
		o.n.Add(1)
		resp.Body = &openBody{resp.Body, o}
	}
	return resp, err
}

type openBody struct {
	io.ReadCloser
	of *openBodies
}

func (b *openBody) Close() error {
	if b.of != nil {
		b.of.n.Add(-1)
		b.of = nil
	}
	return b.ReadCloser.Close()
}

// paged is an API with two lists of the numbers 1 to 5, two on a page.
func paged(t *testing.T) (*ovhtest.Server, *http.Client, *openBodies) {
	server := ovhtest.NewServer()
	t.Cleanup(server.Close)
	server.Handle("/v2/numbers", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _ := strconv.Atoi(strings.TrimPrefix(r.Header.Get("X-Pagination-Cursor"), "from "))
		if first < 4 {
			w.Header().Set("X-Pagination-Cursor-Next", fmt.Sprint("from ", first+2))
		}
		io.WriteString(w, []string{"[1,2]", "", "[ 3, 4 ]\n", "", "[5]"}[first])
	}))
	server.Handle("GET /numbers", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Pagination-Mode") == "" {
			io.WriteString(w, "[1,2,3,4,5]")
			return
		}
		number, _ := strconv.Atoi(cmp.Or(r.Header.Get("X-Pagination-Number"), "1"))
		w.Header().Set("X-Pagination-Elements", "5")
		w.Header().Set("X-Pagination-Size", "2")
		io.WriteString(w, []string{"[1,2]", "[3,4]", "[5]"}[number-1])
	}))
	bodies := &openBodies{RoundTripper: http.DefaultTransport}
	var second atomic.Int64 // each signature has a time of its own
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint: server.Endpoint(), Credentials: server.Credentials(), Base: bodies,
		Clock: ovhauth.ClockFunc(func() time.Time { return time.Now().Add(time.Duration(second.Add(1)) * time.Second) }),
	}}
	t.Cleanup(func() {
		if n := bodies.n.Load(); n != 0 {
			t.Errorf("%d bodies are left open, want 0", n)
		}
	})
	return server, client, bodies
}
