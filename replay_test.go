package ovhauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// countedBody is a body that counts how often it is closed.
type countedBody struct {
	io.Reader
	closed int
}

func (s *countedBody) Close() error { s.closed++; return nil }

func TestReplayKeepsUpToItsLimit(t *testing.T) {
	const limit = 10
	for _, test := range []struct {
		name string
		text string
		kept bool
	}{
		{"empty", "", true},
		{"short", "short", true},
		{"at the limit", "0123456789", true},
		{"beyond", "0123456789a", false},
	} {
		body := &countedBody{Reader: iotest.OneByteReader(strings.NewReader(test.text))}
		r := keepBody(body, limit)
		first, err := r.again()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(first); string(got) != test.text || err != nil {
			t.Errorf("%s: the first reader got %q, %v; want %q", test.name, got, err, test.text)
		}
		if body.closed != 1 {
			t.Errorf("%s: the caller's body was closed %d times when it had been read, want once", test.name, body.closed)
		}
		first.Close()
		second, err := r.again()
		if (err == nil) != test.kept || err != nil && !errors.Is(err, errNotKept) {
			t.Errorf("%s: opened again: %v, want an error only if it was too long", test.name, err)
		}
		if err == nil {
			if inMemory, _ := writeInMemory(io.Discard, second); !inMemory {
				t.Errorf("%s: the second reader is a %T, want one that net/http knows to be in memory", test.name, second)
			}
			if got, _ := io.ReadAll(second); string(got) != test.text {
				t.Errorf("%s: the second reader got %q, want %q", test.name, got, test.text)
			}
		} else if r.kept.bytes != nil {
			t.Errorf("%s: %d bytes are still kept, want none", test.name, len(r.kept.bytes))
		}
		if r.release(); body.closed != 1 {
			t.Errorf("%s: the caller's body was closed %d times, want once", test.name, body.closed)
		}
	}
}

// A reader that was opened before the body turned out to be too long has nothing to go on with.
func TestReplayTooLongForAReaderBehind(t *testing.T) {
	r := keepBody(&countedBody{Reader: strings.NewReader("0123456789a")}, 10)
	ahead, _ := r.again()
	behind, _ := r.again()
	io.ReadAll(ahead)
	if n, err := behind.Read(make([]byte, 1)); n != 0 || !errors.Is(err, errNotKept) {
		t.Errorf("read %d, %v; want an error that it was not kept", n, err)
	}
}

// What has broken a body has broken it for each reader, even if the body could go on.
func TestReplayStaysBroken(t *testing.T) {
	r := keepBody(&countedBody{Reader: iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("abc")))}, 10)
	for i := range 2 {
		reader, _ := r.again()
		if got, err := io.ReadAll(reader); string(got) != "a" || err != iotest.ErrTimeout {
			t.Errorf("reader %d got %q, %v; want a and the body's own error", i, got, err)
		}
	}
}

// The caller's body is closed when the last attempt no longer reads it, and not before.
func TestReplayClosesTheBodyOnce(t *testing.T) {
	body := &countedBody{Reader: strings.NewReader("text")}
	r := keepBody(body, 10)
	alone, _ := r.again()
	if alone.Close(); body.closed != 0 {
		t.Error("closed with the reader of one attempt, want it open for the next")
	}
	first, _ := r.again()
	second, _ := r.again()
	if first.Close(); body.closed != 0 {
		t.Error("closed with its first reader, want it open for the second")
	}
	if n, err := first.Read(make([]byte, 1)); n != 0 || err != http.ErrBodyReadAfterClose {
		t.Errorf("a closed reader gave %d bytes, %v; want none", n, err)
	}
	first.Close()
	if r.release(); body.closed != 0 {
		t.Error("closed while the last attempt may still read it")
	}
	if second.Close(); body.closed != 1 {
		t.Errorf("closed %d times after the last reader, want once", body.closed)
	}
}

// A body that never ends does not keep a reader that was closed, nor the request, from going on.
func TestReplayOfABodyThatStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		r := keepBody(pr, 10)
		first, _ := r.again()
		go io.ReadAll(first) // waits
		synctest.Wait()
		first.Close()
		if _, err := r.again(); err != nil {
			t.Errorf("opened again: %v, want a reader", err)
		}
		r.kept.closeSource() // as the end of the context does
		if _, err := pw.Write([]byte("x")); err != io.ErrClosedPipe {
			t.Errorf("wrote to the body: %v, want it closed", err)
		}
	})
}

// A reader that waits for another does not keep time from passing in a bubble, where the body may need it. If it does, this hangs.
func TestReplayInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		r := keepBody(pr, 10)
		first, _ := r.again()
		go io.ReadAll(first) // of an attempt that had an early response
		synctest.Wait()
		time.AfterFunc(time.Second, func() { io.WriteString(pw, "text"); pw.Close() })
		second, _ := r.again()
		if got, err := io.ReadAll(second); string(got) != "text" || err != nil {
			t.Errorf("read %q, %v; want the text", got, err)
		}
	})
}

// What was noted about a request goes when the request does.
func TestNotesGoWithTheirRequest(t *testing.T) {
	count := func() (n int) {
		notes.Range(func(any, any) bool { n++; return true })
		return n
	}
	before := count()
	redirecting := &Transport{Endpoint: EU, Credentials: Credentials{AccessToken: "t"}, Base: roundTripFunc(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 302, Header: http.Header{"Location": {"/"}}, Body: http.NoBody}, nil
	})}
	type own struct{}
	for range 100 {
		var req *http.Request // in its own context, as the hooks of an httptrace may have it
		req, _ = http.NewRequestWithContext(context.WithValue(context.Background(), own{}, &req), "GET", "/me", nil)
		if _, err := redirecting.RoundTrip(req); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		req, _ := http.NewRequestWithContext(context.Background(), "GET", "/me", nil)
		note{unsigned: "since"}.keepFor(req)
		note{unsigned: "since"}.keepFor(req)
	}
	for range 100 {
		if runtime.GC(); count() <= before+1 {
			return
		}
		time.Sleep(time.Millisecond) // the clean-ups run in a goroutine of the runtime
	}
	t.Errorf("%d notes are left, want at most %d", count(), before+1)
}

// endless is a body that always has another byte, and tells when it is read after it should not be.
type endless struct{ reads chan struct{} }

func (e endless) Read(p []byte) (int, error) {
	time.Sleep(400 * time.Millisecond)
	e.reads <- struct{}{}
	return copy(p, "x"), nil
}

func (e endless) Close() error { return nil }

// A body that trickles is looked at for a second, and then left to its reader.
func TestPeekStopsAfterASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		body := endless{make(chan struct{}, 100)}
		resp := &http.Response{StatusCode: 403, Body: body}
		if head, whole := peek(t.Context(), resp, peekTime); whole || len(head) != 2 {
			t.Errorf("saw %q, whole: %v; want what came within a second", head, whole)
		}
		time.Sleep(time.Minute)
		if n := len(body.reads); n > 3 {
			t.Errorf("read %d times; want no reading but the caller's after a second", n)
		}
	})
}
