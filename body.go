package ovhauth

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"reflect"
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
		return nil, &localError{ErrBodyTooLarge}
	}
	b.Grow(int(max(length, 0)) + bytes.MinRead)
	err := readAndClose(ctx, body, func(r io.Reader) error {
		_, err := b.ReadFrom(io.LimitReader(r, maxHeld+1))
		return err
	})
	if err == nil && b.Len() > maxHeld {
		err = &localError{ErrBodyTooLarge}
	}
	return b.Bytes(), err
}

// readBody hashes all of body and closes it.
func (s *signer) readBody(body io.ReadCloser) error {
	if body == nil {
		return nil
	}
	s.flush()
	hash := func(r io.Reader) error {
		_, err := io.CopyBuffer(s, r, s.buf[:])
		return err
	}
	if isInMemory(body) {
		defer body.Close()
		return hash(body)
	}
	return readAndClose(s.ctx, body, hash)
}

var nopCloser = reflect.TypeOf(io.NopCloser(new(bytes.Reader)))

// isInMemory reports whether r is what http.NewRequest makes of a reader that never waits, and writes itself out at once.
func isInMemory(r io.Reader) bool {
	switch r.(type) {
	case *bytes.Buffer, *bytes.Reader, *strings.Reader:
		return true
	}
	if v := reflect.ValueOf(r); v.Type() == nopCloser {
		inner, _ := v.Field(0).Interface().(io.Reader)
		return inner != nil && isInMemory(inner)
	}
	return false
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
