package ovhauth_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
)

// openings counts the readers that a GetBody gave, and how often each is closed.
type openings struct {
	text   string
	bodies []*trackedBody
}

func (o *openings) open() (io.ReadCloser, error) {
	b := &trackedBody{Reader: strings.NewReader(o.text)}
	o.bodies = append(o.bodies, b)
	return b, nil
}

// openInMemory gives readers that write themselves out, as those of http.NewRequest do.
func (o *openings) openInMemory() (io.ReadCloser, error) {
	b, _ := o.open()
	return inMemory{b.(*trackedBody)}, nil
}

type inMemory struct{ *trackedBody }

func (b inMemory) WriteTo(w io.Writer) (int64, error) { return b.Reader.(io.WriterTo).WriteTo(w) }

func (o *openings) check(t *testing.T, name string) {
	t.Helper()
	for i, b := range o.bodies {
		if b.closed != 1 {
			t.Errorf("%s: reader %d of %d closed %d times", name, i, len(o.bodies), b.closed)
		}
	}
}

// How each kind of body arrives at Base.
func TestBody(t *testing.T) {
	const text = `{"a":"b"}`
	for _, test := range []struct {
		name    string
		body    func(*http.Request, *openings)
		want    string
		length  int64
		getBody bool
		held    bool // Base gets a copy, not the caller's reader
	}{
		{"nil", func(r *http.Request, _ *openings) { r.Body = nil }, "", 0, false, false},
		{"NoBody", func(r *http.Request, _ *openings) { r.Body = http.NoBody }, "", 0, false, false},
		{"with GetBody", func(r *http.Request, o *openings) { r.Body, _ = o.open(); r.GetBody = o.open; r.ContentLength = 9 }, text, 9, true, false},
		{"in memory", func(r *http.Request, o *openings) {
			r.Body, _ = o.openInMemory()
			r.GetBody = o.openInMemory
			r.ContentLength = 9
		}, text, 9, true, false},
		{"with GetBody, unknown length", func(r *http.Request, o *openings) { r.Body, _ = o.open(); r.GetBody = o.open; r.ContentLength = -1 }, text, -1, true, false},
		{"one-shot", func(r *http.Request, o *openings) { r.Body, _ = o.open(); r.ContentLength = 9 }, text, 9, true, true},
		{"one-shot, unknown length", func(r *http.Request, o *openings) { r.Body, _ = o.open() }, text, 9, true, true},
		{"one-shot, wrong length", func(r *http.Request, o *openings) { r.Body, _ = o.open(); r.ContentLength = 5 }, text, 5, true, true},
		{"one-shot, empty, other length", func(r *http.Request, o *openings) { o.text = ""; r.Body, _ = o.open(); r.ContentLength = 5 }, "", 5, true, true},
		{"one-shot, empty, trailers", func(r *http.Request, o *openings) {
			o.text = ""
			r.Body, _ = o.open()
			r.Trailer = http.Header{"X-Sum": nil}
		}, "", 0, false, true},
		{"one-shot, empty", func(r *http.Request, o *openings) { o.text = ""; r.Body, _ = o.open(); r.ContentLength = -1 }, "", 0, false, true},
		{"one-shot, trailers", func(r *http.Request, o *openings) {
			r.Body, _ = o.open()
			r.Trailer = http.Header{"X-Sum": nil}
			r.ContentLength = -1
		}, text, -1, false, true},
	} {
		base := &recorder{}
		opened := &openings{text: text}
		req := newRequest(t, "POST", "/me", nil)
		test.body(req, opened)
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}
		if _, err := transport.RoundTrip(req); err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		got := base.last()
		if base.bodies[0] != test.want || got.ContentLength != test.length || (got.GetBody != nil) != test.getBody {
			t.Errorf("%s: sent %q of length %d, GetBody: %v", test.name, base.bodies[0], got.ContentLength, got.GetBody != nil)
		}
		if same := got.Body == req.Body; same == test.held {
			t.Errorf("%s: Base got the caller's own body: %v", test.name, same)
		}
		// Only a body that says nothing of its length, or that it is empty, may become none: net/http would not notice else.
		if test.want == "" && test.length == 0 && req.Trailer == nil && got.Body != nil && got.Body != http.NoBody {
			t.Errorf("%s: an empty body is a %T", test.name, got.Body)
		}
		if got.GetBody != nil {
			again, err := got.GetBody()
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(again); string(b) != test.want {
				t.Errorf("%s: GetBody gave %q", test.name, b)
			}
			again.Close()
		}
		if want := ovhauth.Sign(shared, "POST", got.URL.String(), []byte(test.want), timestamp(got)); got.Header.Get("X-Ovh-Signature") != want {
			t.Errorf("%s: signed another body than %q", test.name, test.want)
		}
		opened.check(t, test.name)
	}
}

// A body in memory is signed as it is about to be sent, from where it stands.
func TestBodyInMemory(t *testing.T) {
	for _, size := range []int{0, 1, 9, 1 << 10, 50 << 10, 3 << 20} {
		text := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		for _, reader := range []io.Reader{strings.NewReader("ab" + text), bytes.NewReader([]byte("ab" + text)), bytes.NewBufferString("ab" + text)} {
			io.ReadFull(reader, make([]byte, 2)) // read before it was made a body
			req := newRequest(t, "POST", "/me", reader)
			req.URL.RawQuery = strings.Repeat("q", min(size*2, 100<<10)) // with which it may not fit into the signer's memory
			req.Body = io.NopCloser(reader)                              // which NewRequest drops if it is empty
			opened := 0
			req.GetBody = func() (io.ReadCloser, error) { opened++; return io.NopCloser(strings.NewReader(text)), nil }
			base := &recorder{}
			if _, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(req); err != nil {
				t.Fatalf("%T of %d: %v", reader, size, err)
			}
			got := base.last()
			if want := ovhauth.Sign(shared, "POST", got.URL.String(), []byte(text), timestamp(got)); got.Header.Get("X-Ovh-Signature") != want {
				t.Errorf("%T of %d: signed another body", reader, size)
			}
			if base.bodies[0] != text || got.Body != req.Body || opened != 0 {
				t.Errorf("%T of %d: %d bytes sent, the caller's own: %v, opened %d times", reader, size, len(base.bodies[0]), got.Body == req.Body, opened)
			}
		}
	}
}

// What is signed is what goes out the second time, too, whoever opened it.
func TestRepairedBodyIsSigned(t *testing.T) {
	for _, size := range []int{1, 100 << 10} {
		for _, getBody := range []bool{true, false} {
			text, sent := strings.Repeat("x", size), 0
			base := baseFunc(func(r *http.Request) (*http.Response, error) {
				b, _ := io.ReadAll(r.Body)
				if want := ovhauth.Sign(shared, "POST", r.URL.String(), b, timestamp(r)); string(b) != text || r.Header.Get("X-Ovh-Signature") != want {
					t.Errorf("%d bytes, GetBody %v: sent %d of them, or signed other ones", size, getBody, len(b))
				}
				if sent++; sent == 1 {
					return response(400, timeOut, "Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), nil
				}
				return response(200, ""), nil
			})
			req := newRequest(t, "POST", "/me", strings.NewReader(text))
			if !getBody {
				req.GetBody = nil
			}
			if _, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(req); err != nil || sent != 2 {
				t.Errorf("%d bytes, GetBody %v: sent %d times, %v", size, getBody, sent, err)
			}
		}
	}
}

// Without GetBody a body is held up to 32 MiB, and no more of it is read than shows that it is larger.
func TestBodyTooLarge(t *testing.T) {
	const most = 32 << 20
	for _, test := range []struct {
		name         string
		size, length int64
		want         error
		most         int64 // may be read
	}{
		{"at the limit", most, -1, nil, most},
		{"at the limit, known", most, most, nil, most},
		{"beyond", most + 1, -1, ovhauth.ErrBodyTooLarge, most + 1},
		{"endless", 1 << 40, -1, ovhauth.ErrBodyTooLarge, most + 1},
		{"beyond, known", 1 << 40, 1 << 40, ovhauth.ErrBodyTooLarge, 0},
	} {
		zeros := &zeroReader{left: test.size}
		body := &trackedBody{Reader: zeros}
		req := newRequest(t, "POST", "/me", nil)
		req.Body, req.ContentLength = body, test.length
		base := baseFunc(func(req *http.Request) (*http.Response, error) {
			if n, _ := io.Copy(io.Discard, req.Body); n != test.size || req.ContentLength != test.size {
				t.Errorf("%s: %d bytes sent, Content-Length %d", test.name, n, req.ContentLength)
			}
			return response(200, ""), nil
		})
		_, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(req)
		if !errors.Is(err, test.want) || body.closed != 1 || zeros.read > test.most {
			t.Errorf("%s: %v; body closed %d times, %d bytes read", test.name, err, body.closed, zeros.read)
		}
	}
}

type zeroReader struct{ left, read int64 }

func (z *zeroReader) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(p)), z.left))
	clear(p[:n])
	z.left -= int64(n)
	z.read += int64(n)
	return n, nil
}

// A file is hashed as a stream, from where it stands; nothing of it is held.
func TestLargeFileIsStreamed(t *testing.T) {
	const size = 64 << 20
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	req := newRequest(t, "PUT", "/disk", file)
	req.ContentLength = size
	req.GetBody = func() (io.ReadCloser, error) { return os.Open(path) }
	base := baseFunc(func(req *http.Request) (*http.Response, error) { return response(200, ""), nil })
	transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := transport.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 256<<10 {
		t.Errorf("%d bytes allocated", n)
	}
	if _, err := file.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the caller's file is still open: %v", err)
	}
}

// Over a socket: what net/http makes of a body must not change on its way through the Transport.
func TestBodyFramingOnTheWire(t *testing.T) {
	type framing struct {
		length  int64
		chunked bool
		trailer string
		expect  string
		body    string
	}
	var got framing
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = framing{r.ContentLength, len(r.TransferEncoding) > 0, r.Trailer.Get("X-Sum"), r.Header.Get("Expect"), string(body)}
	}))
	defer server.Close()
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.Endpoint(server.URL), Credentials: shared, Base: server.Client().Transport}}
	for _, test := range []struct {
		name   string
		method string
		body   io.Reader
		change func(*http.Request)
		want   framing
	}{
		{"POST NoBody", "POST", http.NoBody, nil, framing{}},
		{"PUT nil", "PUT", nil, nil, framing{}},
		{"GET nil", "GET", nil, nil, framing{}},
		{"DELETE with a body", "DELETE", strings.NewReader("x"), nil, framing{length: 1, body: "x"}},
		{"one-shot", "POST", struct{ io.Reader }{strings.NewReader("xyz")}, nil, framing{length: 3, body: "xyz"}},
		{"one-shot, empty", "POST", struct{ io.Reader }{strings.NewReader("")}, nil, framing{}},
		{"Expect", "POST", strings.NewReader("x"), func(r *http.Request) { r.Header.Set("Expect", "100-continue") },
			framing{length: 1, expect: "100-continue", body: "x"}},
		// The sender fills the trailers in while the body is read, which is when they are known.
		{"live trailers", "POST", nil, func(r *http.Request) {
			r.Trailer, r.ContentLength = http.Header{"X-Sum": nil}, -1
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("abc"), readerFunc(func([]byte) (int, error) {
				r.Trailer.Set("X-Sum", "3")
				return 0, io.EOF
			})))
		}, framing{length: -1, chunked: true, trailer: "3", body: "abc"}},
		{"live trailers of an empty body", "POST", nil, func(r *http.Request) {
			r.Trailer, r.ContentLength = http.Header{"X-Sum": nil}, -1
			r.Body = io.NopCloser(readerFunc(func([]byte) (int, error) {
				r.Trailer.Set("X-Sum", "0")
				return 0, io.EOF
			}))
		}, framing{length: -1, chunked: true, trailer: "0"}},
		{"live trailers with GetBody", "POST", nil, func(r *http.Request) {
			r.Trailer, r.ContentLength = http.Header{"X-Sum": nil}, -1
			r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("abc")), nil }
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("abc"), readerFunc(func([]byte) (int, error) {
				r.Trailer.Set("X-Sum", "3")
				return 0, io.EOF
			})))
		}, framing{length: -1, chunked: true, trailer: "3", body: "abc"}},
	} {
		req := newRequest(t, test.method, "/me", test.body)
		if test.change != nil {
			test.change(req)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		resp.Body.Close()
		if got != test.want {
			t.Errorf("%s arrived as %+v, want %+v", test.name, got, test.want)
		}
	}
}

// A request that has been read already is not sent as an empty one: net/http notices, if it is told the length.
func TestConsumedBody(t *testing.T) {
	hits := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits++ }))
	transport := &ovhauth.Transport{Endpoint: ovhauth.Endpoint(server.URL), Credentials: shared, Base: server.Client().Transport}
	req := newRequest(t, "PUT", "/me", struct{ io.Reader }{strings.NewReader("")})
	req.ContentLength = 5
	resp, err := transport.RoundTrip(req)
	server.Close()
	if err == nil || hits != 0 {
		t.Errorf("got %v, %v, %d executed", resp, err, hits)
	}
}

// A reverse proxy passes on how the request came to it, in chunks.
func TestChunkedRequestIsSentWithItsLength(t *testing.T) {
	base := &recorder{}
	req := newRequest(t, "POST", "/me", struct{ io.Reader }{strings.NewReader("xyz")})
	req.ContentLength, req.TransferEncoding = -1, []string{"chunked"}
	if _, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if got := base.last(); got.ContentLength != 3 || got.TransferEncoding != nil || req.TransferEncoding == nil {
		t.Errorf("sent with length %d, %v", got.ContentLength, got.TransferEncoding)
	}
}

// A reader is given fresh memory, or such as holds no secret: here, one that looks before it writes.
func TestReadersDoNotSeeTheSecret(t *testing.T) {
	long := shared
	long.ApplicationSecret = strings.Repeat("LONG", 1000)
	for i := range 10 { // the memory is used again
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: &recorder{}}
		other := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: long, Base: &recorder{}}
		read := false
		req := newRequest(t, "PUT", "/me", nil)
		req.Body = &trackedBody{Reader: strings.NewReader("x")}
		req.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(readerFunc(func(p []byte) (int, error) {
				read = true
				if bytes.Contains(p, []byte("$1$")) || bytes.Contains(p, []byte("BODY")) || bytes.Contains(p, []byte("LONGLONG")) || bytes.Contains(p, []byte(shared.ApplicationSecret)) || bytes.Contains(p, []byte(shared.ConsumerKey)) {
					t.Error("the reader was given the keys, a signature or another's body")
				}
				return copy(p, strings.Repeat("BODY", 2<<10)), io.EOF
			})), nil
		}
		req.URL.RawQuery = strings.Repeat("x", i*10<<10) // more than the signer has room for, at the end
		if _, err := other.RoundTrip(newRequest(t, "PUT", "/me", strings.NewReader(strings.Repeat("x", 2<<10)))); err != nil {
			t.Fatal(err)
		}
		if _, err := transport.RoundTrip(req); err != nil || !read {
			t.Fatalf("got %v, body read: %t; want no error, and the body read", err, read)
		}
	}
}

// GetBody may be anything.
func TestOddGetBody(t *testing.T) {
	opened := &openings{text: "x"}
	for name, getBody := range map[string]func() (io.ReadCloser, error){
		"nothing":            func() (io.ReadCloser, error) { return nil, nil },
		"NoBody":             func() (io.ReadCloser, error) { return http.NoBody, nil },
		"both":               func() (io.ReadCloser, error) { r, _ := opened.open(); return r, io.ErrClosedPipe },
		"a typed nil inside": func() (io.ReadCloser, error) { return io.NopCloser(io.Reader(nil)), nil },
	} {
		body := &trackedBody{Reader: strings.NewReader("x")}
		req := newRequest(t, "PUT", "/me", nil)
		req.Body, req.GetBody = body, getBody
		base := baseFunc(func(*http.Request) (*http.Response, error) { // has the body opened again
			return response(400, timeOut, "Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)), nil
		})
		func() {
			defer func() { // a nil reader panics, as it does in net/http; the body is closed all the same
				if r := recover(); r != nil && name != "a typed nil inside" {
					t.Errorf("%s: panic %v, want none", name, r)
				}
			}()
			(&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(req)
		}()
		if name != "a typed nil inside" && body.closed != 1 {
			t.Errorf("%s: body closed %d times", name, body.closed)
		}
		opened.check(t, name)
	}
}

// A reader that panics, or ends its goroutine, has not read the body: nothing is sent.
func TestSecondReaderThatDoesNotReturn(t *testing.T) {
	for _, test := range []struct {
		name     string
		read     func()
		panicked any
		want     error
	}{
		{"panics", func() { panic("mine") }, "mine", nil},
		{"ends its goroutine", runtime.Goexit, nil, io.ErrUnexpectedEOF},
	} {
		base := &recorder{}
		req := newRequest(t, "PUT", "/me", struct{ io.Reader }{strings.NewReader("x")})
		req.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(readerFunc(func([]byte) (int, error) { test.read(); return 0, io.EOF })), nil
		}
		panicked, err := func() (panicked any, err error) {
			defer func() { panicked = recover() }()
			_, err = (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(req)
			return nil, err
		}()
		if panicked != test.panicked || err != test.want || len(base.requests) != 0 {
			t.Errorf("%s: panic %v, error %v, %d sent; want %v, %v, none", test.name, panicked, err, len(base.requests), test.panicked, test.want)
		}
	}
}

// A reader that has nothing yet is asked no more once the context has ended.
func TestSecondReaderEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		reads := 0
		req := newRequest(t, "PUT", "/me", struct{ io.Reader }{strings.NewReader("x")}).WithContext(ctx)
		req.GetBody = func() (io.ReadCloser, error) {
			return io.NopCloser(readerFunc(func([]byte) (int, error) {
				time.Sleep(time.Second)
				if reads++; reads > 10 {
					return 0, io.EOF
				}
				return 0, nil
			})), nil
		}
		_, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: &recorder{}}).RoundTrip(req)
		time.Sleep(time.Minute)
		synctest.Wait()
		if err != context.DeadlineExceeded || reads > 6 {
			t.Errorf("got %v, read %d times; want %v, and no reading after 5 s", err, reads, context.DeadlineExceeded)
		}
	})
}

// An access token that cannot be replaced needs no second look at the body, so nothing is held.
func TestTokenStreamsTheBody(t *testing.T) {
	req := newRequest(t, "PUT", "/me", &zeroReader{left: 40 << 20})
	base := baseFunc(func(r *http.Request) (*http.Response, error) {
		if r.Body != req.Body {
			t.Error("the body was held")
		}
		return response(200, ""), nil
	})
	if _, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: ovhauth.Credentials{AccessToken: "t"}, Base: base}).RoundTrip(req); err != nil {
		t.Error(err)
	}
}

// The time is taken when the body has been hashed: a slow reader must not age the signature.
func TestTimeIsTakenLast(t *testing.T) {
	now := time.Unix(1000, 0)
	body := readerFunc(func([]byte) (int, error) { now = now.Add(time.Hour); return 0, io.EOF })
	base := &recorder{}
	transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base, Clock: ovhauth.ClockFunc(func() time.Time { return now })}
	if _, err := transport.RoundTrip(newRequest(t, "POST", "/me", body)); err != nil {
		t.Fatal(err)
	}
	if got := base.last().Header.Get("X-Ovh-Timestamp"); got != "4600" {
		t.Errorf("signed at %s", got)
	}
}

// endingContext ends when it has been looked at so often.
type endingContext struct {
	context.Context
	looks int
}

func (c *endingContext) Err() error {
	if c.looks--; c.looks < 0 {
		return context.Canceled
	}
	return nil
}

// Hashing a large body in memory ends with the context, too.
func TestHashingEndsWithTheContext(t *testing.T) {
	ctx := &endingContext{t.Context(), 10} // 64 pieces are hashed
	req := newRequest(t, "POST", "/me", bytes.NewReader(make([]byte, 64<<20))).WithContext(ctx)
	base := &recorder{}
	_, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base, Clock: failingClock(func() error {
		t.Error("the clock was asked after the context had ended; hashing should have ended with it")
		return nil
	})}).RoundTrip(req)
	if err != context.Canceled || len(base.requests) != 0 {
		t.Errorf("got %v, %d requests sent; want context.Canceled and none", err, len(base.requests))
	}
}

// Memory follows the bytes that arrive, not the length that was announced.
func TestMemoryFollowsWhatArrives(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates memory of its own")
	}
	transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: &recorder{}}
	var err error
	n := allocated(func() {
		for range 40 {
			req := newRequest(t, "PUT", "/me", io.MultiReader(strings.NewReader("x"), readerFunc(func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF })))
			req.ContentLength = 32 << 20
			_, err = transport.RoundTrip(req)
		}
	})
	if err != io.ErrUnexpectedEOF || n > 4<<20 {
		t.Errorf("%v; 40 uploads of one byte took %d KiB, want at most 4096", err, n>>10)
	}
}

// A body that is kept for a second attempt is the same bytes, however far the first one got.
func TestReplayOfAPartlyReadBody(t *testing.T) {
	const text = "0123456789"
	for _, getBody := range []bool{false, true} {
		for _, first := range []int{0, 4, len(text), len(text) + 1} { // bytes that the first attempt reads
			var sent []string
			base := baseFunc(func(r *http.Request) (*http.Response, error) {
				if len(sent) == 0 {
					b := make([]byte, first)
					n, _ := io.ReadFull(r.Body, b)
					sent = append(sent, string(b[:n]))
					return response(401, "{}"), nil
				}
				b, err := io.ReadAll(r.Body)
				sent = append(sent, string(b))
				return response(200, "{}"), err
			})
			opened := &openings{text: text}
			req := newRequest(t, "POST", "/me", nil)
			req.Body, _ = opened.open()
			if getBody {
				req.GetBody = opened.open
			}
			transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: &tokens{next: []string{"old", "new"}}, Base: base}
			resp, err := transport.RoundTrip(req)
			if err != nil || resp.StatusCode != 200 || !slices.Equal(sent, []string{text[:min(first, len(text))], text}) {
				t.Errorf("GetBody %v, %d bytes read: %v, %v, sent %q; want all of it the second time", getBody, first, resp, err, sent)
			}
			opened.check(t, fmt.Sprintf("GetBody %v, %d bytes read", getBody, first))
		}
	}
}
