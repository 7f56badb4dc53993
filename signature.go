package ovhauth

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"hash"
	"io"
	"strconv"
	"sync"
	"time"
)

// Sign returns the X-Ovh-Signature of one request: "$1$" and 40 lower-case hex digits. It is a pure function: it reads no
// clock and keeps nothing.
//
// The url is the whole URL: scheme, host, path and query, byte for byte as the server will see it. The body is empty for a
// request without one. The same t, in Unix seconds, must go out as X-Ovh-Timestamp. [Transport] does all of this; Sign is for
// code that sends its requests by other means.
//
// The formula is that of OVHcloud's guide "First steps with the OVHcloud APIs": the SHA-1 of
// secret+consumerKey+METHOD+url+body+timestamp, joined by plus signs. Under GODEBUG=fips140=only, which forbids SHA-1, Sign
// panics; a Transport returns [ErrFIPS] instead.
func Sign(c Credentials, method, url string, body []byte, t time.Time) string {
	s := newSigner(context.Background())
	defer s.free()
	s.writeHead(&c, method, url)
	s.hash.Write(body)
	_, signature := s.finish(t)
	return signature
}

// signer hashes what is signed, without copying its body: the head, the body, then the time. As an [io.Writer] for the body it
// stops when its context ends.
type signer struct {
	ctx  context.Context
	hash hash.Hash
	sum  [sha1.Size]byte
	tail [64]byte       // what is signed after the body, and then the headers
	buf  [32 << 10]byte // for the head, then for reading the body
}

var signers = sync.Pool{New: func() any { return &signer{hash: sha1.New()} }}

func newSigner(ctx context.Context) *signer {
	s := signers.Get().(*signer)
	s.ctx = ctx
	s.hash.Reset()
	return s
}

// free lets another request have the signer. After an error of writeBody, which may still be at work, it is not called.
func (s *signer) free() {
	s.ctx = nil
	signers.Put(s)
}

// writeHead hashes what is signed before the body.
func (s *signer) writeHead(c *Credentials, method string, url ...string) {
	b := appendHead(s.buf[:0], c, method, url...)
	s.hash.Write(b)
	clear(s.buf[:min(len(b), len(s.buf))]) // it holds the secret, and the body's reader is given the same memory
}

// appendHead appends what is signed before the body. It takes the URL in parts, so that nobody has to join them.
func appendHead(b []byte, c *Credentials, method string, url ...string) []byte {
	b = append(append(b, c.ApplicationSecret...), '+')
	b = append(append(b, c.ConsumerKey...), '+')
	b = append(append(b, method...), '+')
	for _, part := range url {
		b = append(b, part...)
	}
	return append(b, '+')
}

// writeBody hashes the body that is to be sent. One that cannot be looked at without reading it is opened another time.
func (s *signer) writeBody(sent io.Reader, body replay) error {
	if inMemory, err := writeInMemory(s, sent); inMemory {
		return err
	}
	second, err := body.again()
	if err != nil {
		closeBody(second)
		return err
	}
	if second == nil {
		return nil
	}
	return readAndClose(s.ctx, second, func(r io.Reader) error {
		defer clear(s.buf[:]) // the next body's reader is given the same memory
		_, err := io.CopyBuffer(s, r, s.buf[:])
		return err
	})
}

// Write hashes p in pieces: an in-memory body comes as a single p, and a gigabyte takes a second.
func (s *signer) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if err := s.ctx.Err(); err != nil {
			return n, err
		}
		m, err := s.hash.Write(p[n:min(len(p), n+1<<20)])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// finish hashes the time, and returns the timestamp and the signature.
func (s *signer) finish(t time.Time) (timestamp, signature string) {
	b := strconv.AppendInt(append(s.tail[:0], '+'), t.Unix(), 10)
	s.hash.Write(b)
	s.hash.Sum(s.sum[:0])
	return spell(b[len("+"):], s.sum)
}

// signHead is finish for a request without a body, whose head can stand on the stack: it saves a GET some 50 ns.
func signHead(head []byte, t time.Time) (timestamp, signature string) {
	b := strconv.AppendInt(append(head, '+'), t.Unix(), 10)
	return spell(b[len(head)+len("+"):], sha1.Sum(b))
}

// spell returns the timestamp and the signature as the headers have them. They share one string.
func spell(digits []byte, sum [sha1.Size]byte) (timestamp, signature string) {
	both := string(hex.AppendEncode(append(digits, "$1$"...), sum[:]))
	return both[:len(digits)], both[len(digits):]
}
