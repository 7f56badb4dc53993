package ovhauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// callingContext calls a function when it is first asked whether it has ended.
type callingContext struct {
	context.Context
	call func()
}

func (c *callingContext) Err() error {
	if call := c.call; call != nil {
		c.call = nil
		call()
	}
	return c.Context.Err()
}

// Of several first requests all use the same endpoint, credentials and clock: another's, if that was ready first.
func TestFirstRequestsShareOneSetup(t *testing.T) {
	t.Setenv("OVH_ENDPOINT", "")
	t.Setenv("HOME", t.TempDir())
	t.Chdir(t.TempDir())
	transport := new(Transport)
	var other *setup
	ctx := &callingContext{t.Context(), func() { other, _ = transport.setup(t.Context()) }} // while the files are read
	own, err := transport.setup(ctx)
	if err != nil || other == nil || own != other || transport.ready.Load() != other {
		t.Errorf("got %p, the other request %p, later ones %p, %v; want the same", own, other, transport.ready.Load(), err)
	}
}

// Files that were not read, as the request's context had ended, do not settle which endpoint later requests go to.
func TestEndpointIsNotSettledByACanceledRequest(t *testing.T) {
	isolate(t)
	write(t, "ovh.conf", "[default]\nendpoint = ovh-ca\n")
	for _, key := range kinds[0] {
		t.Setenv(variable(key), "x") // the files are read for the endpoint's name only
	}
	transport := new(Transport)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := transport.setup(&callingContext{ctx, cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if s, err := transport.setup(t.Context()); err != nil || s.name() != "ovh-ca" {
		t.Errorf("later got %v, %v; want ovh-ca", s, err)
	}
}

type silence struct{}

func (silence) RoundTrip(req *http.Request) (*http.Response, error) {
	closeBody(req.Body)
	return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
}

// What is kept for signing the next request does not keep this one's context, and all that hangs on it.
func TestSignerForgetsTheContext(t *testing.T) {
	transport := &Transport{Endpoint: EU, Credentials: Credentials{ApplicationKey: "a", ApplicationSecret: "b", ConsumerKey: "c"}, Base: silence{}}
	for _, body := range []io.Reader{nil, strings.NewReader("x"), struct{ io.Reader }{strings.NewReader("x")}} {
		req, err := http.NewRequestWithContext(t.Context(), "PUT", "/me", body)
		if err != nil {
			t.Fatal(err)
		}
		if req.GetBody == nil && body != nil { // is read by the signer
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(struct{ io.Reader }{strings.NewReader("x")}), nil }
		}
		if _, err := transport.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		s := signers.Get().(*signer)
		if s.ctx != nil {
			t.Errorf("body %T: the signer still has a context, want none", body)
		}
		for _, b := range s.buf {
			if b != 0 {
				t.Fatalf("body %T: the signer's buffer is not empty", body)
			}
		}
		signers.Put(s)
	}
}
