package ovhauth

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"hash"
	"strconv"
	"sync"
	"time"
)

// Sign returns the X-Ovh-Signature of one request: "$1$" and 40 lower-case hex digits. It is a pure function: it reads no
// clock and keeps nothing.
//
// The url is the whole of it, scheme, host, path and query, byte for byte as the server will see it; body is empty for a
// request without one. The same t, in Unix seconds, must go out as X-Ovh-Timestamp. [Transport] does all of this; Sign is for
// code that sends its requests by other means.
//
// The formula is that of OVHcloud's guide "First steps with the OVHcloud APIs": the SHA-1 of
// secret+consumerKey+METHOD+url+body+timestamp, joined by plus signs. Under GODEBUG=fips140=only, which forbids SHA-1, Sign
// panics; Transport answers [ErrFIPS] instead.
func Sign(c Credentials, method, url string, body []byte, t time.Time) string {
	s := newSigner(context.Background())
	defer s.free()
	s.start(&c, method, url)
	s.flush()
	s.hash.Write(body)
	_, signature := s.finish(t)
	return signature
}

// signer hashes one request as a stream: start, then the body written to it, then finish. It is an [io.Writer] that stops
// when its context ends.
type signer struct {
	ctx  context.Context
	hash hash.Hash
	sum  [sha1.Size]byte
	text []byte         // not hashed yet: short pieces are cheaper hashed at once; in buf
	buf  [32 << 10]byte // for the head and the tail of what is signed; between them, for copying the body
}

var signers = sync.Pool{New: func() any { return &signer{hash: sha1.New()} }}

func newSigner(ctx context.Context) *signer {
	s := signers.Get().(*signer)
	s.ctx = ctx
	s.hash.Reset()
	return s
}

func (s *signer) free() {
	s.ctx = nil
	clear(s.text)
	s.text = nil
	signers.Put(s)
}

// start takes the URL in parts, so that nobody has to join them.
func (s *signer) start(c *Credentials, method string, url ...string) {
	b := append(s.buf[:0], c.ApplicationSecret...)
	b = append(b, '+')
	b = append(b, c.ConsumerKey...)
	b = append(b, '+')
	b = append(b, method...)
	b = append(b, '+')
	for _, part := range url {
		b = append(b, part...)
	}
	s.text = append(b, '+')
	if len(s.text) > len(s.buf) {
		clear(s.buf[:]) // append has moved on, and left the secret behind
	}
}

// flush hashes what was kept back, before a body.
func (s *signer) flush() {
	s.hash.Write(s.text)
	clear(s.text) // it holds the secret, and the body's reader is given the same memory
	s.text = s.buf[:0]
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

// finish returns the timestamp and the signature, which share one string.
func (s *signer) finish(t time.Time) (timestamp, signature string) {
	head := len(s.text) + len("+")
	b := strconv.AppendInt(append(s.text, '+'), t.Unix(), 10)
	s.hash.Write(b)
	b = b[head:]
	digits := len(b)
	b = hex.AppendEncode(append(b, "$1$"...), s.hash.Sum(s.sum[:0]))
	both := string(b)
	return both[:digits], both[digits:]
}
