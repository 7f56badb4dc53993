package ovhauth

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// maxHeld is how much of a body is held in memory, if it cannot be opened a second time.
const maxHeld = 32 << 20

// openBody gives out a body that can be opened again: to be hashed, and to be sent once more.
func (c *call) openBody(out *http.Request) (err error) {
	switch {
	case c.req.Body == nil || c.req.Body == http.NoBody:
		return nil // and NoBody stays what it is: any other empty body would be sent in chunks
	case c.reopen == nil && c.req.GetBody != nil:
		c.reopen = c.req.GetBody
		return nil // the caller's own reader goes first
	case c.reopen == nil:
		body := out.Body
		out.Body = nil // closed by hold
		held, err := hold(out.Context(), body, out.ContentLength)
		if err != nil {
			return err
		}
		c.length = len(held)
		empty := len(held) == 0 && c.req.ContentLength <= 0 && len(c.req.Trailer) == 0
		c.reopen = func() (io.ReadCloser, error) {
			if empty {
				return http.NoBody, nil
			}
			return io.NopCloser(bytes.NewReader(held)), nil
		}
	}
	if c.req.GetBody == nil && len(c.req.Trailer) == 0 { // only a body of unknown length can have trailers
		out.GetBody = c.reopen
		out.TransferEncoding = nil // a reverse proxy copies that of the request it got
		if out.ContentLength <= 0 {
			out.ContentLength = int64(c.length)
		}
	}
	out.Body, err = c.reopen()
	return err
}

// hold reads all of body into memory and closes it.
func hold(ctx context.Context, body io.ReadCloser, length int64) ([]byte, error) {
	var b bytes.Buffer
	if length > maxHeld {
		body.Close()
		return nil, &permanentError{ErrBodyTooLarge}
	}
	b.Grow(int(max(length, 0)) + bytes.MinRead)
	err := readAndClose(ctx, body, func(r io.Reader) error {
		_, err := b.ReadFrom(io.LimitReader(r, maxHeld+1))
		return err
	})
	if err == nil && b.Len() > maxHeld {
		err = &permanentError{ErrBodyTooLarge}
	}
	return b.Bytes(), err
}

// maxShort is how long a body may be to be copied next to the rest of what is signed, and hashed with it at once.
const maxShort = 1 << 10

// appendShort appends a short body that lies in memory, without reading from it, and reports whether it is one.
func appendShort(b []byte, body io.Reader) (_ []byte, short bool) {
	m := inMemory(body)
	if m == nil || m.Len() > maxShort {
		return b, false
	}
	head := len(b)
	switch r := m.(type) { // by their types: through an interface, b would leave the stack
	case *bytes.Buffer:
		b = append(b, r.Bytes()...)
	case *bytes.Reader:
		b = slices.Grow(b, r.Len())[:head+r.Len()]
		r.ReadAt(b[head:], r.Size()-int64(r.Len()))
	case *strings.Reader:
		b = slices.Grow(b, r.Len())[:head+r.Len()]
		r.ReadAt(b[head:], r.Size()-int64(r.Len()))
	}
	return b, true
}

// readBody hashes all of body and closes it.
func (s *stream) readBody(body io.ReadCloser) error {
	if body == nil {
		return nil
	}
	hash := func(r io.Reader) error {
		_, err := io.CopyBuffer(s, r, s.buf[:])
		return err
	}
	if inMemory(body) != nil {
		return hash(body) // its Close does nothing
	}
	defer clear(s.buf[:]) // the next body's reader is given the same memory
	return readAndClose(s.ctx, body, hash)
}

var nopCloser = reflect.TypeOf(io.NopCloser(new(bytes.Reader)))

// inMemory returns the reader that http.NewRequest made a body of, if it is one that never waits and writes itself out at once.
func inMemory(r io.Reader) interface{ Len() int } {
	switch r := r.(type) {
	case *bytes.Buffer:
		return r
	case *bytes.Reader:
		return r
	case *strings.Reader:
		return r
	}
	if reflect.TypeOf(r) == nopCloser {
		if inner, ok := reflect.ValueOf(r).Field(0).Interface().(io.Reader); ok {
			return inMemory(inner)
		}
	}
	return nil
}

// readAndClose lets read have body and closes it: when read is done, or when ctx ends, so that a reader that waits lets go.
func readAndClose(ctx context.Context, body io.ReadCloser, read func(io.Reader) error) error {
	closeOnce := sync.OnceFunc(func() { body.Close() })
	defer closeOnce()
	defer context.AfterFunc(ctx, closeOnce)()
	return read(contextReader{ctx, body})
}

// contextReader is a Reader that ends with its context, even if the one below goes on for ever.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// peek returns the start of an error answer's body, and puts it back. If ctx ends, so does the body.
func peek(ctx context.Context, resp *http.Response) []byte {
	if resp.Body == nil {
		return nil
	}
	body := &peeked{close: sync.OnceValue(resp.Body.Close)}
	stop := context.AfterFunc(ctx, func() { body.close() })
	head, err := io.ReadAll(io.LimitReader(contextReader{ctx, resp.Body}, maxErrorBody))
	stop()
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = brokenReader{err}
	}
	body.Reader = io.MultiReader(bytes.NewReader(head), rest)
	resp.Body = body
	return head
}

type peeked struct {
	io.Reader
	close func() error
}

func (p *peeked) Close() error { return p.close() }

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }

func closeBody(body io.ReadCloser) {
	if body != nil {
		body.Close()
	}
}
