package ovhauth

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
)

// replay is a request's body that can be opened as often as it is needed.
type replay struct {
	own   io.ReadCloser                 // the caller's, for the first attempt; nil if it is kept, and NoBody or nil without a body
	again func() (io.ReadCloser, error) // opens another reader of the same bytes; nil without a body
	kept  *keptBody                     // nil with a GetBody, and without a body
}

// newReplay takes over req.Body. A body without GetBody is kept in memory as it is read, up to limit bytes; of a longer one, again
// returns an error. Call release after the last attempt.
func newReplay(req *http.Request, limit int64) replay {
	switch {
	case !hasBody(req):
		return replay{own: req.Body} // and NoBody stays what it is: any other empty body would be sent in chunks
	case req.GetBody != nil:
		return replay{own: req.Body, again: req.GetBody}
	}
	return keepBody(req.Body, limit)
}

func keepBody(source io.ReadCloser, limit int64) replay {
	k := &keptBody{source: source, closeSource: sync.OnceFunc(func() { source.Close() }), limit: limit,
		reading: make(chan struct{}, 1)}
	return replay{again: k.again, kept: k}
}

// putInto makes out, a copy of the caller's request, have the body of an attempt, counted from 1. The first attempt gets the
// caller's own reader, as it does from net/http.
func (r replay) putInto(out *http.Request, number int) (err error) {
	if r.again == nil || r.kept == nil && number == 1 {
		out.Body = r.own
		return nil
	}
	if r.kept != nil && r.kept.kept.Load() == wholly && len(out.Trailer) == 0 { // only a body of unknown length can have trailers
		out.TransferEncoding = nil // a reverse proxy copies that of the request it got
		if out.ContentLength <= 0 {
			out.ContentLength = int64(len(r.kept.bytes))
		}
		if out.ContentLength == 0 {
			out.Body = http.NoBody
			return nil
		}
		out.GetBody = r.again
	}
	out.Body, err = r.again()
	return err
}

// canRepeat reports whether the body of req, of which r is the replay, can be opened again.
func (r replay) canRepeat(req *http.Request) bool {
	if r.kept == nil {
		return r.again != nil || !hasBody(req)
	}
	kept := r.kept.kept.Load()
	return kept == partly || kept == wholly
}

// release says that there will be no further attempt. The caller's body is closed when the last reader is.
func (r replay) release() {
	if r.kept != nil {
		r.kept.release()
	}
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

// keptBody is a body that can be read once, and the bytes that were read from it. Each of its readers begins at the first byte.
type keptBody struct {
	closeSource func() // once
	limit       int64
	kept        atomic.Int32 // how much of the source: partly, wholly, tooLong, or partly since it is broken

	reading chan struct{} // full while the source is read; guards what follows. Waiting for a mutex would stop the time of a synctest bubble
	source  io.Reader
	bytes   []byte // all that was read, unless it is too long; does not change any more once it is kept wholly
	read    int64  // how much that is
	end     error  // io.EOF, or what broke the source

	using    sync.Mutex // guards what follows
	readers  int        // that are open
	released bool
}

const (
	partly int32 = iota
	wholly
	tooLong
	broken
)

var errNotKept = permanentErrorf("the request's body is too long to be kept for sending it again; set GetBody")

// again waits for no reader.
func (k *keptBody) again() (io.ReadCloser, error) {
	switch k.kept.Load() {
	case tooLong:
		return nil, errNotKept
	case wholly:
		return io.NopCloser(bytes.NewReader(k.bytes)), nil // which net/http knows to be in memory
	}
	return k.open(), nil
}

func (k *keptBody) open() io.ReadCloser {
	k.using.Lock()
	defer k.using.Unlock()
	k.readers++
	return &keptReader{k: k}
}

func (k *keptBody) release() {
	k.using.Lock()
	defer k.using.Unlock()
	if k.released = true; k.readers == 0 {
		k.closeSource()
	}
}

// keptReader reads the kept bytes, then the source.
type keptReader struct {
	k      *keptBody
	at     int64 // guarded by k.reading
	closed atomic.Bool
}

func (r *keptReader) Read(p []byte) (n int, err error) {
	k := r.k
	k.reading <- struct{}{}
	defer func() { <-k.reading }()
	switch {
	case r.closed.Load():
		return 0, http.ErrBodyReadAfterClose
	case r.at < int64(len(k.bytes)):
		n = copy(p, k.bytes[r.at:])
		r.at += int64(n)
		return n, nil
	case r.at < k.read:
		return 0, errNotKept
	case k.end != nil:
		return 0, k.end
	}
	n, err = k.readSource(p)
	r.at = k.read
	return n, err
}

// readSource keeps what it reads, if that is not too much. The caller holds k.reading.
func (k *keptBody) readSource(p []byte) (n int, err error) {
	n, err = k.source.Read(p)
	k.read += int64(n)
	if k.read > k.limit {
		k.bytes = nil
		k.kept.Store(tooLong)
	} else {
		k.bytes = append(k.bytes, p[:n]...)
	}
	if err != nil {
		k.end = err
		if err != io.EOF {
			k.kept.Store(broken)
		} else if k.read <= k.limit {
			k.kept.Store(wholly)
		}
		k.closeSource()
	}
	return n, err
}

// maxKept is how much of a body without GetBody a Transport keeps in memory: to sign it, or to send it once more.
const maxKept = 32 << 20

// readWhole reads the source to its end, which the body of a signed request must be. It ends with req's context.
func (k *keptBody) readWhole(req *http.Request) error {
	if req.ContentLength > k.limit {
		return &permanentError{ErrBodyTooLarge}
	}
	reader, ctx := k.open(), req.Context()
	return untilDone(ctx, k.closeSource, func() error {
		defer reader.Close()
		n, err := io.CopyN(io.Discard, contextReader{ctx, reader}, k.limit+1)
		switch {
		case n > k.limit:
			return &permanentError{ErrBodyTooLarge}
		case err == io.EOF:
			return nil
		}
		return err
	})
}

// Close does not wait for a Read under way.
func (r *keptReader) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	k := r.k
	k.using.Lock()
	defer k.using.Unlock()
	if k.readers--; k.readers == 0 && k.released {
		k.closeSource()
	}
	return nil
}

var nopCloser = reflect.TypeOf(io.NopCloser(new(bytes.Reader)))

// writeInMemory writes a body that http.NewRequest made of a reader in memory to w, without reading from it, and reports whether
// it is one. To open such a body a second time would cost two allocations.
func writeInMemory(w io.Writer, body io.Reader) (inMemory bool, err error) {
	if reflect.TypeOf(body) == nopCloser {
		body, _ = reflect.ValueOf(body).Field(0).Interface().(io.Reader)
	}
	switch r := body.(type) {
	case *bytes.Buffer:
		_, err = w.Write(r.Bytes())
	case *bytes.Reader:
		unread := *r
		_, err = unread.WriteTo(w)
	case *strings.Reader:
		unread := *r
		_, err = unread.WriteTo(w)
	default:
		return false, nil
	}
	return true, err
}

// readAndClose lets read have body and closes it: when read is done, or when ctx ends, so that a reader that waits lets go. It does
// not wait for one that does not; read may go on then.
func readAndClose(ctx context.Context, body io.ReadCloser, read func(io.Reader) error) error {
	closeOnce := sync.OnceFunc(func() { body.Close() })
	return untilDone(ctx, closeOnce, func() error {
		defer closeOnce()
		return read(contextReader{ctx, body})
	})
}

// untilDone returns what read returns, or the context's error once it has ended and stop was called: Close does not end every Read,
// such as one of a terminal, or of a bufio.Reader in a NopCloser. net/http leaves such a Read behind, too. A panic goes on here.
func untilDone(ctx context.Context, stop func(), read func() error) error {
	type result struct {
		err   error
		panic any
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: io.ErrUnexpectedEOF} // if read ends by runtime.Goexit
		defer func() {
			r.panic = recover()
			done <- r
		}()
		r.err = read()
	}()
	select {
	case r := <-done:
		if r.panic != nil {
			panic(r.panic)
		}
		return r.err
	case <-ctx.Done():
		stop()
		return ctx.Err()
	}
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

func closeBody(body io.ReadCloser) {
	if body != nil {
		body.Close()
	}
}
