package ovhauth

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"hash"
	"slices"
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
	var memory [512]byte // on the stack, and enough for most
	s := newStream(context.Background(), appendHead(memory[:0], &c, method, url))
	defer s.free()
	s.hash.Write(body)
	_, signature := s.finish(t)
	return signature
}

// appendHead appends what is signed before the body. It takes the URL in parts, so that nobody has to join them.
func appendHead(b []byte, c *Credentials, method string, url ...string) []byte {
	n := len(c.ApplicationSecret) + len(c.ConsumerKey) + len(method) + 64 // for all that is short
	for _, part := range url {
		n += len(part)
	}
	b = append(append(slices.Grow(b, n), c.ApplicationSecret...), '+')
	b = append(append(b, c.ConsumerKey...), '+')
	b = append(append(b, method...), '+')
	for _, part := range url {
		b = append(b, part...)
	}
	return append(b, '+')
}

// appendTime appends what is signed after the body.
func appendTime(b []byte, t time.Time) []byte {
	return strconv.AppendInt(append(b, '+'), t.Unix(), 10)
}

// finish returns the timestamp and the signature of what is signed at t. The text is that before the time.
func finish(text []byte, t time.Time) (timestamp, signature string) {
	all := appendTime(text, t)
	return spell(all[len(text)+len("+"):], sha1.Sum(all))
}

// spell returns the timestamp and the signature as the headers have them. They share one string.
func spell(digits []byte, sum [sha1.Size]byte) (timestamp, signature string) {
	both := string(hex.AppendEncode(append(digits, "$1$"...), sum[:]))
	return both[:len(digits)], both[len(digits):]
}

// stream hashes what is signed without copying its body: the head, then the body written to it, then finish. It is an
// [io.Writer] that stops when its context ends.
type stream struct {
	ctx  context.Context
	hash hash.Hash
	sum  [sha1.Size]byte
	tail [64]byte       // what is signed after the body, and then the headers
	buf  [32 << 10]byte // for the head, then for reading the body
}

var streams = sync.Pool{New: func() any { return &stream{hash: sha1.New()} }}

func newStream(ctx context.Context, head []byte) *stream {
	s := streams.Get().(*stream)
	s.ctx = ctx
	s.hash.Reset()
	b := append(s.buf[:0], head...) // to Write itself, head would leave the stack
	s.hash.Write(b)
	clear(b) // it holds the secret, and the body's reader is given the same memory
	return s
}

func (s *stream) free() {
	s.ctx = nil
	streams.Put(s)
}

// Write hashes p in pieces: an in-memory body comes as a single p, and a gigabyte takes a second.
func (s *stream) Write(p []byte) (n int, err error) {
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

func (s *stream) finish(t time.Time) (timestamp, signature string) {
	b := appendTime(s.tail[:0], t)
	s.hash.Write(b)
	s.hash.Sum(s.sum[:0])
	return spell(b[len("+"):], s.sum)
}
