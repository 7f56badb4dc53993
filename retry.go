package ovhauth

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// RetryTransport is an [http.RoundTripper] that sends a request again where that is safe and may help:
//
//	client := &http.Client{Transport: &ovhauth.RetryTransport{Base: &ovhauth.Transport{}}}
//
// Standing above a [Transport], it has every attempt signed anew. A request is sent again
//
//   - if nothing of it was sent: the name was not found, the connection or the TLS handshake failed;
//   - if it was refused unexecuted: 429, or 403 of class Client::Forbidden::Busy;
//   - if it may have been executed (the connection was lost or timed out, 408, 500, 502, 503, 504), only if its method is GET,
//     HEAD, OPTIONS, PUT or DELETE, or the caller has set an Idempotency-Key.
//
// Nothing else is repeated: no certificate error, no error of this package, nothing after the context is done, and no request
// whose body has no GetBody. An answer whose body breaks while the caller reads it is an answer.
//
// The wait before retry n, counted from 0, is random between 0 and MinWait·2ⁿ, at most MaxWait. A Retry-After up to MaxWait,
// in seconds or as a date, is obeyed instead. If it asks for more, if the wait would outlast the context's deadline, or if too
// many of the latest requests had to be retried, there is no retry: the caller gets the last attempt's own answer, whole, or its
// own error. After a 429 with such a Retry-After every request to the same host waits, whoever makes it; one whose deadline
// comes first fails at once with an error that is [context.DeadlineExceeded]. The host of a URL without one is the endpoint's if
// Base is a *Transport, else it counts as one of its own.
//
// The zero value is ready. A RetryTransport is safe for concurrent use; its fields must not change after the first request. It
// bounds the number of attempts, not the time that one takes: give requests a context with a deadline.
type RetryTransport struct {
	// Base sends each attempt. Nil means a [Transport] of the RetryTransport's own, without any field set.
	Base http.RoundTripper

	// MaxRetries is how often a request is sent again after the first time. 0 means 4, negative means never.
	MaxRetries int

	// MinWait bounds the wait before the first retry; the bound doubles with each, up to MaxWait. 0 or less means 500 ms and 30 s.
	MinWait, MaxWait time.Duration

	// Limiter is asked before every attempt, the first one included. Nil means no limit.
	Limiter Limiter

	// Logger is told of each [Event] at its level; never a secret, never a body. Nil means silent.
	Logger *slog.Logger

	// OnEvent is called for each [Event], during the request that it is about: it should return soon, and must be safe for
	// concurrent use. Nil means that nobody is told.
	OnEvent func(context.Context, Event)

	own    Transport // what a nil Base means
	holds  holds
	budget budget
}

// Limiter bounds the rate of requests; golang.org/x/time/rate has one. Wait returns nil when the next attempt may be sent. Any
// error ends the request unsent and is wrapped in the one that the caller gets; once ctx is done, Wait must return, and the
// caller gets ctx's error. Wait must be safe for concurrent use.
type Limiter interface {
	Wait(ctx context.Context) error
}

const (
	defaultMaxRetries = 4
	defaultMinWait    = 500 * time.Millisecond
	defaultMaxWait    = 30 * time.Second
)

func (t *RetryTransport) maxRetries() int        { return max(0, cmp.Or(t.MaxRetries, defaultMaxRetries)) }
func (t *RetryTransport) minWait() time.Duration { return cmp.Or(max(0, t.MinWait), defaultMinWait) }
func (t *RetryTransport) maxWait() time.Duration { return cmp.Or(max(0, t.MaxWait), defaultMaxWait) }

func (t *RetryTransport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return &t.own
}

// CloseIdleConnections closes the idle connections of Base, if it can do so.
func (t *RetryTransport) CloseIdleConnections() {
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Format prints the type of Base and the limits. What Base holds may be secret.
func (t *RetryTransport) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "&ovhauth.RetryTransport{Base:%T MaxRetries:%d MinWait:%s MaxWait:%s}",
		t.Base, t.MaxRetries, t.MinWait, t.MaxWait)
}

// RoundTrip sends req by Base, again if need be. Errors are those of the last attempt, as Base returned them; or ctx.Err(), if
// the context ended between two attempts; or this package's own, if the limiter failed or the body could not be opened again.
func (t *RetryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		closeBody(req.Body)
		return nil, permanentErrorf("the request has no URL")
	}
	c := retryCall{t: t, req: req, harmless: isHarmless(req)}
	c.try()
	if c.again {
		return c.retry()
	}
	return c.resp, c.err
}

// retryCall is one request on its way through a RetryTransport.
type retryCall struct {
	t        *RetryTransport
	req      *http.Request // the caller's, which nobody may touch
	harmless bool          // if executed twice

	tries int
	resp  *http.Response // of the last try: a response
	err   error          // or an error
	again bool           // there will be another one
	next  time.Time      // when
}

// retry lets go-retryablehttp wait and try until one try is the last. It sees neither the request nor any answer, so that it,
// and the http.Client inside it, cannot read, follow, log, wrap or close anything. The receiver is a copy: a call that needs
// no retry stays on the stack.
func (c retryCall) retry() (*http.Response, error) {
	client := &retryablehttp.Client{
		HTTPClient: &http.Client{Transport: &tries{call: &c}},
		RetryMax:   c.t.maxRetries(),
		CheckRetry: func(context.Context, *http.Response, error) (bool, error) { return c.again, nil },
		Backoff:    func(_, _ time.Duration, _ int, _ *http.Response) time.Duration { return time.Until(c.next) },
	}
	skeleton := (&http.Request{URL: &url.URL{}}).WithContext(c.req.Context())
	if _, err := client.Do(&retryablehttp.Request{Request: skeleton}); err != nil {
		return nil, err // the context ended while it waited
	}
	return c.resp, c.err
}

// tries is the RoundTripper inside go-retryablehttp. Whatever comes of a try, its call knows.
type tries struct {
	call    *retryCall
	started bool
}

func (t *tries) RoundTrip(*http.Request) (*http.Response, error) {
	if t.started {
		t.call.try()
	}
	t.started = true // the first try has been made already
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

// try sends the request once, and decides whether to do so again.
func (c *retryCall) try() {
	var conn *connWatch
	if !c.harmless || hasBody(c.req) { // else what it sees does not matter
		conn = new(connWatch)
	}
	c.resp, c.err = c.send(conn)
	c.tries++
	c.again = c.decide(judge(c.req.Context(), c.resp, c.err, conn.unsent(), conn.bodyFailed()))
	if c.again && c.resp != nil {
		drain(c.req.Context(), c.resp.Body, time.Until(c.next))
	}
}

func (c *retryCall) send(conn *connWatch) (*http.Response, error) {
	ctx, out := c.req.Context(), c.req
	if err := c.t.admit(ctx, c.req.URL); err != nil {
		if c.tries == 0 {
			closeBody(c.req.Body) // no later body is open yet
		}
		return nil, err
	}
	if conn != nil {
		out = out.WithContext(conn.watch(ctx))
	}
	if c.tries > 0 && hasBody(c.req) {
		body, err := c.req.GetBody()
		if err != nil {
			return nil, permanentErrorf("opening the request's body again: %w", err)
		}
		out = out.WithContext(out.Context()) // a copy, for its Body
		out.Body = body
	}
	resp, err := c.t.base().RoundTrip(out)
	return settle(c.req, resp, err)
}

// decide reports whether to try again, and sets the wait.
func (c *retryCall) decide(v verdict) bool {
	t, ctx := c.t, c.req.Context()
	if v == settled && c.err == nil {
		t.budget.spend(-1)
	}
	after := retryAfter(c.resp)
	if c.resp != nil && c.resp.StatusCode == http.StatusTooManyRequests && after <= t.maxWait() {
		t.holds.add(t.host(c.req.URL), time.Now().Add(after))
	}
	if !v.again(c.harmless) || !c.replayable() || c.tries > t.maxRetries() || after > t.maxWait() || ctx.Err() != nil {
		return false
	}
	wait := Backoff(t.minWait(), t.maxWait(), c.tries-1, c.resp)
	wait = max(wait, t.holds.left(t, c.req.URL))
	c.next = time.Now().Add(wait)
	if deadline, ok := ctx.Deadline(); ok && !c.next.Before(deadline) {
		return false
	}
	const price = 5
	if !t.budget.spend(price) {
		return false
	}
	if t.Logger != nil {
		t.Logger.LogAttrs(ctx, slog.LevelDebug, "ovhauth: retry", slog.String("method", cmp.Or(c.req.Method, http.MethodGet)),
			slog.String("path", c.req.URL.EscapedPath()), slog.String("reason", c.reason()), slog.Duration("wait", wait))
	}
	return true
}

func (c *retryCall) reason() string {
	if c.err == nil {
		return fmt.Sprintf("%d %s", c.resp.StatusCode, http.StatusText(c.resp.StatusCode))
	}
	err := c.err
	for u, ok := errors.AsType[*url.Error](err); ok; u, ok = errors.AsType[*url.Error](err) {
		err = u.Err // the rest is the URL, with its query
	}
	return err.Error()
}

// replayable reports whether the request can be sent a second time.
func (c *retryCall) replayable() bool { return !hasBody(c.req) || c.req.GetBody != nil }

// isHarmless reports whether req, executed twice, does what it does executed once.
func isHarmless(req *http.Request) bool {
	return isIdempotent(req.Method) || req.Header.Get("Idempotency-Key") != ""
}

// host is what u's host is held by: whatever spelling a request has, there is one of each host.
func (t *RetryTransport) host(u *url.URL) string {
	if u.Host == "" {
		if base, ok := t.base().(*Transport); ok {
			if s, err := base.setup(context.Background()); err == nil {
				u = &url.URL{Scheme: s.scheme, Host: s.host}
			}
		}
	}
	return strings.ToLower(u.Hostname()) + ":" + port(u.Scheme, u.Port())
}

// admit waits until an attempt may be sent to u's host: until no 429 holds it back, and for the limiter.
func (t *RetryTransport) admit(ctx context.Context, u *url.URL) error {
	if err := t.holds.wait(ctx, t, u); err != nil || t.Limiter == nil {
		return err
	}
	if err := t.Limiter.Wait(ctx); err != nil {
		if done := ctx.Err(); done != nil {
			return done
		}
		return permanentErrorf("limiter: %w", err)
	}
	return t.holds.wait(ctx, t, u) // there may be a new one by now
}

// verdict is what an attempt came to: a row of the table in RetryTransport's documentation.
type verdict int

const (
	settled    verdict = iota // sending it again does not help
	unexecuted                // sending it again is safe
	doubtful                  // it may have been executed
)

func (v verdict) again(harmless bool) bool { return v == unexecuted || v == doubtful && harmless }

// judge takes a response or an error; unsent says that nothing was sent before the error, bodyFailed that the error is one of the
// request's body.
func judge(ctx context.Context, resp *http.Response, err error, unsent, bodyFailed bool) verdict {
	switch {
	case err == nil:
		return judgeAnswer(ctx, resp)
	case isPermanent(err), isCertificate(err), isUnroutable(err), bodyFailed:
		return settled
	case unsent:
		return unexecuted
	}
	return doubtful
}

func judgeAnswer(ctx context.Context, resp *http.Response) verdict {
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return unexecuted
	case http.StatusForbidden:
		if head, _ := peek(ctx, resp); newAPIError(resp, head).Class == "Client::Forbidden::Busy" {
			return unexecuted
		}
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return doubtful
	}
	return settled
}

func isPermanent(err error) bool {
	_, ok := errors.AsType[*permanentError](err)
	return ok
}

// isCertificate reports whether err is about the server's certificate. crypto/tls wraps what it finds wrong itself; a
// tls.Config's own verification may return the rest bare.
func isCertificate(err error) bool {
	_, wrapped := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, hostname := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	return wrapped || authority || hostname || invalid
}

// connWatch sees whether one attempt got a connection, and whether a Transport below could not read the body that it is to sign.
// Its hooks may run late: each attempt has a new one.
type connWatch struct {
	asked, got, failed atomic.Bool
	trace              httptrace.ClientTrace
}

type watchKey struct{}

// bodyFailed tells a RetryTransport above, if there is one, that the request's body cannot be read: the error itself is returned
// as it is, and does not show that.
func bodyFailed(ctx context.Context) {
	if w, ok := ctx.Value(watchKey{}).(*connWatch); ok {
		w.failed.Store(true)
	}
}

func (w *connWatch) bodyFailed() bool { return w != nil && w.failed.Load() }

// watch returns ctx with the hooks, those of the caller kept.
func (w *connWatch) watch(ctx context.Context) context.Context {
	w.trace.GetConn = func(string) { w.asked.Store(true) }
	w.trace.GotConn = func(httptrace.GotConnInfo) { w.got.Store(true) }
	return httptrace.WithClientTrace(context.WithValue(ctx, watchKey{}, w), &w.trace)
}

// unsent reports whether a connection was asked for and not got. A Base that asks for none, such as a mock, may have sent the
// request by other means. On nil it is false.
func (w *connWatch) unsent() bool { return w != nil && w.asked.Load() && !w.got.Load() }

// drain reads a short answer to its end, which lets its connection be used again, and closes the body. An answer that stalls
// must not hold up its own retry, which is to begin after wait.
func drain(ctx context.Context, body io.ReadCloser, wait time.Duration) {
	if body == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(max(wait, 100*time.Millisecond), time.Second))
	defer cancel()
	readAndClose(ctx, body, func(r io.Reader) error {
		_, err := io.CopyN(io.Discard, r, maxErrorBody)
		return err
	})
}

// holds are the hosts that want to be left alone after a 429. The zero value is ready.
type holds struct {
	some  atomic.Bool // false: there are none, and no need to lock
	mu    sync.Mutex
	until map[string]time.Time
}

func (h *holds) add(host string, until time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweep()
	if h.until == nil {
		h.until = make(map[string]time.Time)
	}
	if until.After(h.until[host]) {
		h.until[host] = until
	}
	h.some.Store(true)
}

// left returns how long u's host still wants to be left alone; 0 or less for not at all.
func (h *holds) left(t *RetryTransport, u *url.URL) time.Duration {
	if !h.some.Load() {
		return 0
	}
	host := t.host(u)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sweep()
	return time.Until(h.until[host])
}

// sweep drops the holds that are over, so that none is kept for a host that is never asked again. The caller holds h.mu.
func (h *holds) sweep() {
	now := time.Now()
	maps.DeleteFunc(h.until, func(_ string, until time.Time) bool { return !until.After(now) })
	h.some.Store(len(h.until) > 0)
}

// wait returns when u's host is not held back. It returns an error at once if ctx is done, or will be before that.
func (h *holds) wait(ctx context.Context, t *RetryTransport, u *url.URL) error {
	for {
		if err := ctx.Err(); err != nil {
			return err // Base need not look
		}
		left := h.left(t, u)
		if left <= 0 {
			return nil
		}
		if deadline, ok := ctx.Deadline(); ok && left >= time.Until(deadline) {
			return permanentErrorf("after a 429, no request may be sent for another %s: %w", left, context.DeadlineExceeded)
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// budget is what a RetryTransport may spend on retries, so that an API in trouble is not asked five times as often. The zero
// value is a full one.
type budget struct{ spent atomic.Int64 }

// spend takes price, or gives it back if it is negative. It reports false, and does nothing, if there is not so much to take,
// or nothing to give back.
func (b *budget) spend(price int64) bool {
	const most = 500
	for {
		old := b.spent.Load()
		if now := old + price; now < 0 || now > most {
			return false
		} else if b.spent.CompareAndSwap(old, now) {
			return true
		}
	}
}

// CheckRetry is a [retryablehttp.CheckRetry] that decides as [RetryTransport] does, for a retryablehttp.Client over a
// [Transport]. Its error is always nil.
//
// It sees the request only as resp.Request, or as the Op of a [*url.Error]: of an error it knows the method, but no
// Idempotency-Key, and nothing but an error of dialling or name resolution shows it that nothing was sent. What it cannot see
// it takes for sent and not idempotent. An error of dialling after a redirect looks as if the first request had not been sent
// either: have the client's CheckRedirect return [http.ErrUseLastResponse] if POSTs may be redirected.
func CheckRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	switch {
	case ctx.Err() != nil, (resp == nil) == (err == nil): // with both, CheckRedirect has refused
		return false, nil
	case err != nil:
		u, ok := errors.AsType[*url.Error](err)
		harmless := ok && u.Op != "" && isIdempotent(strings.ToUpper(u.Op))
		return judge(ctx, nil, err, isDial(err), false).again(harmless), nil
	}
	v, req := judge(ctx, resp, nil, false, false), resp.Request
	for req != nil && req.Response != nil { // what would be sent again is the first request, and that was answered
		req = req.Response.Request
		if v == unexecuted {
			v = doubtful
		}
	}
	return v.again(req != nil && isHarmless(req)), nil
}

// isDial reports whether err shows by itself that there was no connection.
func isDial(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	_, dns := errors.AsType[*net.DNSError](err)
	return dns || ok && op.Op == "dial"
}

// Backoff is a [retryablehttp.Backoff]. The wait is what resp asks for by Retry-After, in seconds or as a date, which counts
// from its Date; without that, or if it is in the past or makes no sense, it is random between 0 and minWait·2^attempt. It never
// exceeds maxWait. Attempts count from 0; resp may be nil.
func Backoff(minWait, maxWait time.Duration, attempt int, resp *http.Response) time.Duration {
	if after := retryAfter(resp); after > 0 {
		return min(after, maxWait)
	}
	ceiling := maxWait
	if n := uint(attempt); minWait <= maxWait>>n { // so that shifting it cannot overflow
		ceiling = minWait << n
	}
	return rand.N(max(1, ceiling))
}

// retryAfter returns the wait that resp asks for, 0 or less for none. Counted from the Date of the answer, a date means the
// same whatever the local clock says.
func retryAfter(resp *http.Response) time.Duration {
	if resp == nil {
		return 0
	}
	value := resp.Header.Get("Retry-After")
	if value == "" {
		return 0 // not an error to be made, and dropped, at every answer
	}
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		const most = math.MaxInt64 / int64(time.Second)
		return time.Duration(max(0, min(seconds, most))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return at.Sub(now)
}
