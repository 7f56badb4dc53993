package ovhauth

import (
	"bytes"
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
	"regexp"
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
//   - after a 429, at the rate that the API grants, whatever its method: it was not executed;
//   - if nothing of it was sent: the name was not found, the connection failed, the TLS handshake was cut;
//   - after a 403 of class Client::Forbidden::Busy, which was not executed either;
//   - if it may have been executed (the connection was lost or timed out after sending, 408, 500, 502, 503, 504), only if its
//     method is GET, HEAD, OPTIONS, PUT or DELETE, or the caller has set an Idempotency-Key.
//
// Nothing else is repeated: nothing that would fail the same way (a certificate or TLS alert, HTTP on a TLS port, a proxy's 407 or
// 403, an invalid header, an unknown scheme, a malformed response), no error of this package, nothing after the context is done.
// A body without GetBody is kept as it is read, up to 1 MiB, so that it can be sent again; a longer one is sent once.
//
// The wait before retry n, counted from 0, is random between 0 and MinWait·2ⁿ, at most MaxWait. A Retry-After up to MaxWait, in
// seconds or as a date, is obeyed instead, with up to a tenth of it added at random. There is no retry if it asks for more, if the
// wait would outlast the context's deadline, or if too many of the latest requests to this host had to be retried. The caller then
// gets the last attempt's own response, whole, or its own error. While a request waits to be sent again, up to 16 KiB of the
// response are kept. If a longer one turns out to be the last, the caller gets an error with its status in place of it.
//
// # Rate limits
//
// A 429 is not a failure: it costs no retry and no budget, and MaxWait does not bound its wait. OVHcloud publishes
// no quota; the one figure known is 60 requests a minute for a consumer key (its staff, github.com/ovh/python-ovh/issues/81). Until
// the first 429 of a host nothing is limited. From then on requests to that host leave one by one, in the order in which they came,
// at a rate that is learned from the 429s. Each RetryTransport learns one rate per host; all hosts of a region count as one. A call
// waits as long as its context allows. If its turn would come after its deadline, it fails at once. Without a deadline it may wait
// for thirty minutes; the caller gets the 429 if its Retry-After is longer than ten minutes, or if the host has granted nothing for
// thirty. You never need a Limiter; use one if you know the quota.
//
// A URL without a host counts for the endpoint's host if Base is a *Transport. Under another Base, all such URLs count as one host.
//
// The zero value is ready. A RetryTransport is safe for concurrent use; its fields must not change after the first request. It
// bounds the number of attempts, not the time that one takes: give requests a context with a deadline.
type RetryTransport struct {
	// Base sends each attempt. Nil means a [Transport] of the RetryTransport's own, without any field set.
	Base http.RoundTripper

	// MaxRetries is how often a request is sent again after the first time, 429s not counted. 0 means 4; negative means never,
	// and a 429 is returned as it comes.
	MaxRetries int

	// MinWait bounds the wait before the first retry; the bound doubles with each, up to MaxWait. 0 or less means 500 ms and 30 s.
	MinWait, MaxWait time.Duration

	// Limiter is asked before every attempt, the first one included. Nil means no limit but the learned rate.
	Limiter Limiter

	// Logger is told of each [Event] at its level; never a secret, never a body. Nil means silent.
	Logger *slog.Logger

	// OnEvent is called for each [Event], during the request that it is about: it should return soon, and must be safe for
	// concurrent use. Nil means that nobody is told.
	OnEvent func(context.Context, Event)

	own   Transport // what a nil Base means
	hosts hosts
}

// Limiter bounds the rate of requests; golang.org/x/time/rate has one. Wait returns nil when the next attempt may be sent. Any
// error ends the request: the caller gets the last response, if there is one, else an error that wraps it. Once ctx is done,
// Wait must return. Wait must be safe for concurrent use.
//
// A Limiter that also has a method Throttled(ctx context.Context, retryAfter time.Duration) is told of each 429 (0: it had no
// Retry-After) and takes the place of the learned rate. Any other Limiter applies beside the learned rate: the slower of the two decides.
type Limiter interface {
	Wait(ctx context.Context) error
}

// learner is a Limiter that learns from 429s by itself.
type learner interface {
	Throttled(ctx context.Context, retryAfter time.Duration)
}

const (
	defaultMaxRetries = 4
	defaultMinWait    = 500 * time.Millisecond
	defaultMaxWait    = 30 * time.Second

	maxReplay = 1 << 20 // bytes of a body without GetBody that are kept

	heldByLimiter = 10 * time.Millisecond // a shorter wait in a Limiter is not worth an event
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

// RoundTrip sends req by Base, again if need be. An error is that of the last attempt, as Base returned it. If the context ends
// while the request waits for another attempt, the error matches the context's and that of the last attempt. A request that waits
// for its first attempt fails with the context's error, or with one that matches [context.DeadlineExceeded] if its turn would
// come too late; so does one whose Limiter says that it would.
func (t *RetryTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL == nil {
		closeBody(req.Body)
		return nil, permanentErrorf("the request has no URL")
	}
	c := retryCall{t: t, req: req, harmless: isHarmless(req), body: replay{own: req.Body}}
	if req.GetBody != nil || req.ContentLength <= maxReplay {
		c.body = newReplay(req, maxReplay)
	}
	defer c.body.release()
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
	body     replay

	attempts int            // that were sent
	resp     *http.Response // of the last one: a response
	err      error          // or an error; in the end, what the caller gets
	turn     *waiter        // of the next one, if it is in the queue of a pace already

	retries int       // attempts that MaxRetries counts
	spent   int64     // of the budget
	again   bool      // there will be another one of these
	next    time.Time // when
}

// retry lets go-retryablehttp wait and try until one try is the last. It sees neither the request nor any response, so that it,
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
		c.stop(ReasonContextEnded, c.req.Context().Err()) // while it waited
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

// try sends the request when its turn comes, once more after each 429, and decides whether to retry what came of that.
func (c *retryCall) try() {
	c.again = false
	for {
		lesson, ok := c.admit()
		if !ok {
			return
		}
		v := c.send(lesson)
		if v != throttled {
			c.again = c.decide(v)
			return
		}
		if !c.queue() {
			return
		}
	}
}

// admit waits until the next attempt may be sent, and returns the lesson of the pace that it is sent under, 0 for none. If it may
// not be sent, the call has what the caller gets.
func (c *retryCall) admit() (lesson int, ok bool) {
	ctx := c.req.Context()
	for {
		if err := ctx.Err(); err != nil && c.turn == nil { // Base need not look; a place in a queue is given back below
			c.stop(ReasonContextEnded, err)
			return 0, false
		}
		p := c.pace()
		if p != nil {
			if lesson, ok = c.waitForTurn(p); !ok {
				return 0, false
			}
		}
		if c.t.Limiter == nil {
			return lesson, true
		}
		began := time.Now()
		if err := c.t.Limiter.Wait(ctx); err != nil {
			if p != nil {
				p.report(lesson, lost, 0)
			}
			c.stop(ReasonLimiter, limiterError(ctx, err))
			return 0, false
		}
		if took := time.Since(began); took >= heldByLimiter {
			c.tell(Event{Kind: EventHeld, Attempt: c.attempts + 1, Wait: took, Reason: ReasonLimiter})
		}
		if now := c.pace(); now == nil || now.isCurrent(lesson) {
			return lesson, true
		}
		// There was a 429 while the limiter let it wait.
		if p != nil {
			p.report(lesson, lost, 0)
		}
	}
}

// pace returns that of the request's host, nil if there is none yet or the Limiter takes its place.
func (c *retryCall) pace() *pace {
	if _, ok := c.t.Limiter.(learner); ok || c.t.hosts.none() {
		return nil
	}
	return c.t.hosts.get(c.host(), false).paceOrNil()
}

// waitForTurn waits in the queue of a pace.
func (c *retryCall) waitForTurn(p *pace) (lesson int, ok bool) {
	ctx, w := c.req.Context(), c.turn
	if c.turn = nil; w == nil {
		deadline, _ := ctx.Deadline()
		var wait time.Duration
		if w, wait, ok = p.join(deadline, c.attempts > 0); ok && wait > 0 {
			c.tell(Event{Kind: EventHeld, Attempt: c.attempts + 1, Wait: wait, Reason: ReasonQueue})
		}
	}
	if err := p.wait(ctx, w); err != nil {
		c.stop(ReasonContextEnded, err)
		return 0, false
	}
	if w.away != "" {
		c.stop(w.away, c.turnedAway(w))
		return 0, false
	}
	return w.lesson, true
}

// turnedAway says why a request is not sent, and how long it would have to wait.
func (c *retryCall) turnedAway(w *waiter) error {
	wait := w.expected.Round(time.Second)
	if w.away == ReasonDeadline {
		return permanentErrorf("after a 429 of %s, this request's turn would come in about %s, after its deadline; give it more time, or make "+
			"fewer calls at once: %w", c.host(), wait, context.DeadlineExceeded)
	}
	return permanentErrorf("not sent: %w", &APIError{StatusCode: http.StatusTooManyRequests, RetryAfter: wait,
		Method: cmp.Or(c.req.Method, http.MethodGet), Path: c.req.URL.EscapedPath(), Message: "an earlier request was rejected by its rate limit"})
}

// limiterError wraps a Limiter's error. It matches what ended the wait: the context's error, or context.DeadlineExceeded if the
// limiter says that the wait would outlast the deadline, as rate.Limiter does.
func limiterError(ctx context.Context, err error) error {
	done := ctx.Err()
	if _, bounded := ctx.Deadline(); done == nil && bounded && strings.Contains(err.Error(), "deadline") {
		done = context.DeadlineExceeded
	}
	switch {
	case err == done:
		return err
	case done == nil || errors.Is(err, done):
		return permanentErrorf("limiter: %w", err)
	}
	return permanentErrorf("limiter: %w: %w", err, done)
}

// stop ends a call that cannot be sent, or not once more. The caller gets the response or error in hand, unless the context has
// ended: then the error says both.
func (c *retryCall) stop(reason string, cause error) {
	status, last := 0, c.err
	if c.resp != nil {
		status = c.resp.StatusCode
	}
	c.again = false
	if c.attempts > 0 || reason != ReasonContextEnded {
		c.tell(Event{Kind: EventGaveUp, Attempt: max(1, c.attempts), StatusCode: status, Err: cmp.Or(last, cause), Reason: reason})
	}
	switch done := c.req.Context().Err(); {
	case c.attempts == 0:
		if c.body.kept == nil {
			closeBody(c.req.Body)
		}
		c.err = cause
	case done == nil:
		// The response or error in hand says more than why there is no other.
	case c.resp != nil:
		closeBody(c.resp.Body)
		c.resp, c.err = nil, permanentErrorf("%w while waiting to send the request again after a %d %s", cause, status, http.StatusText(status))
	default:
		c.err = permanentErrorf("%w while waiting to send the request again after: %w", cause, withoutURL(last))
	}
}

// send sends an attempt and tells the pace what came of it, also if Base panics.
func (c *retryCall) send(lesson int) verdict {
	ctx, out := c.req.Context(), c.req
	var conn *connWatch
	if !c.harmless || hasBody(c.req) { // else what it sees does not matter
		conn = new(connWatch)
		out = out.WithContext(conn.watch(ctx))
	}
	if c.attempts++; c.body.kept != nil || c.attempts > 1 && hasBody(c.req) {
		out = out.WithContext(out.Context()) // a copy, for its Body
		err := c.body.putInto(out, c.attempts)
		if err == errNotKept { // the attempt before has read on, after its response had come
			c.attempts--
			c.report(lesson, lost)
			c.stop(ReasonBody, err)
			return settled
		}
		if err != nil {
			closeBody(out.Body)
			c.resp, c.err = nil, permanentErrorf("opening the request's body again: %w", err)
			c.report(lesson, lost)
			return settled
		}
	}
	came := lost
	defer func() { c.report(lesson, came) }()
	resp, err := c.t.base().RoundTrip(out)
	c.resp, c.err = settle(c.req, resp, err)
	if c.resp != nil && c.resp.StatusCode == http.StatusTooManyRequests {
		came = limited
	} else if c.resp != nil {
		came = granted
	}
	return judge(ctx, c.resp, c.err, conn.unsent(), conn.bodyFailed())
}

// report tells who learns the rate what came of an attempt. A 429 counts for everybody, whatever becomes of its own call.
func (c *retryCall) report(lesson int, came outcome) {
	after := max(0, retryAfter(c.resp))
	if l, ok := c.t.Limiter.(learner); ok {
		if came == limited {
			l.Throttled(c.req.Context(), after)
		}
		return
	}
	if came == limited {
		c.t.hosts.get(c.host(), true).paceOrNew().report(lesson, came, after)
	} else if p := c.pace(); p != nil && lesson > 0 {
		p.report(lesson, came, after)
	}
}

// queue decides whether a request is sent again after its 429, and puts it in the queue of the pace. The response is kept for the
// case that its turn does not come.
func (c *retryCall) queue() bool {
	ctx := c.req.Context()
	switch {
	case c.t.MaxRetries < 0:
		c.gaveUp(ReasonRetriesUsed)
		return false
	case !c.body.canRepeat(c.req):
		c.gaveUp(ReasonBody)
		return false
	case ctx.Err() != nil:
		return false
	}
	var wait time.Duration
	if p := c.pace(); p != nil {
		deadline, _ := ctx.Deadline()
		var ok bool
		if c.turn, wait, ok = p.join(deadline, true); !ok {
			return c.gaveUp(c.turn.away)
		}
	}
	c.tell(Event{Kind: EventThrottled, Attempt: c.attempts, StatusCode: http.StatusTooManyRequests, Wait: wait, Reason: ReasonRateLimit})
	c.keep(wait)
	return true
}

// decide reports whether to retry, and sets the wait.
func (c *retryCall) decide(v verdict) bool {
	t, ctx := c.t, c.req.Context()
	if v == settled && c.err == nil && !t.hosts.none() {
		if h := t.hosts.get(c.host(), false); h != nil {
			h.budget.refund(max(1, c.spent))
		}
	}
	if !v.allowsRetry(c.harmless) || ctx.Err() != nil {
		return false
	}
	after := retryAfter(c.resp)
	wait := Backoff(t.minWait(), t.maxWait(), c.retries, c.resp)
	if after > 0 {
		wait += rand.N(max(1, after/10)) // or all who were told the same come back at the same moment
	}
	c.next = time.Now().Add(wait)
	deadline, bounded := ctx.Deadline()
	price := int64(retryPrice)
	if v == unexecuted && c.resp != nil { // busy: the API is well
		price = 0
	}
	switch {
	case !c.body.canRepeat(c.req):
		return c.gaveUp(ReasonBody)
	case c.retries >= t.maxRetries():
		return c.gaveUp(ReasonRetriesUsed)
	case after > t.maxWait():
		return c.gaveUp(ReasonRetryAfter)
	case bounded && !c.next.Before(deadline):
		return c.gaveUp(ReasonDeadline)
	case !t.hosts.get(c.host(), true).budget.spend(price):
		return c.gaveUp(ReasonBudgetUsed)
	}
	c.retries++
	c.spent += price
	c.tell(Event{Kind: EventRetry, Attempt: c.attempts, Wait: wait, Reason: c.reason(v)})
	c.keep(wait)
	return true
}

// gaveUp tells that the call is not sent again although it might help, and returns false.
func (c *retryCall) gaveUp(reason string) bool {
	c.tell(Event{Kind: EventGaveUp, Attempt: c.attempts, Reason: reason})
	return false
}

// tell emits an event of the last attempt.
func (c *retryCall) tell(e Event) {
	if c.t.OnEvent == nil && c.t.Logger == nil {
		return
	}
	e.Err = cmp.Or(e.Err, c.err)
	if c.resp != nil {
		e.StatusCode = c.resp.StatusCode
	}
	emit(c.req, c.t.OnEvent, c.t.Logger, e)
}

func (c *retryCall) reason(v verdict) string {
	switch {
	case c.resp != nil && v == unexecuted:
		return ReasonBusy
	case c.resp != nil:
		return ReasonServerError
	case v == unexecuted || isDial(c.err):
		return ReasonNotSent
	}
	return ReasonConnectionLost
}

// keep reads a short response to its end, which lets its connection be used again, and keeps it in memory. A response that stalls
// must not hold up its own retry, which is to begin after wait. What is too long to be kept is an error with its status.
func (c *retryCall) keep(wait time.Duration) {
	if c.resp == nil || c.resp.Body == nil {
		return
	}
	kept := *c.resp
	text, whole := peek(c.req.Context(), &kept, min(max(wait, 100*time.Millisecond), peekTime))
	kept.Body.Close()
	if kept.Body = io.NopCloser(bytes.NewReader(text)); whole {
		c.resp = &kept
		return
	}
	c.err = permanentErrorf("the body of the last response was too long, or came too slowly, to be kept while the request waited: %w",
		newAPIError(c.resp, nil))
	c.resp = nil
}

// isHarmless reports whether req, executed twice, does what it does executed once.
func isHarmless(req *http.Request) bool {
	return isIdempotent(req.Method) || req.Header.Get("Idempotency-Key") != ""
}

// host is the name under which requests to the call's host are counted.
func (c *retryCall) host() string {
	u := c.req.URL
	if u.Host != "" {
		return apiHost(u.Host)
	}
	if base, ok := c.t.base().(*Transport); ok {
		if s, err := base.setup(c.req.Context()); err == nil {
			return apiHost(s.host)
		}
	}
	return ""
}

// verdict is what an attempt came to: a row of the table in RetryTransport's documentation.
type verdict int

const (
	settled    verdict = iota // sending it again does not help
	throttled                 // 429: it was not executed, and when to send it again is a matter of pace
	unexecuted                // sending it again is safe
	doubtful                  // it may have been executed
)

func (v verdict) allowsRetry(harmless bool) bool {
	return v == throttled || v == unexecuted || v == doubtful && harmless
}

// judge takes a response or an error; unsent says that nothing was sent before the error, bodyFailed that the error is one of the
// request's body.
func judge(ctx context.Context, resp *http.Response, err error, unsent, bodyFailed bool) verdict {
	switch {
	case err == nil:
		return judgeResponse(ctx, resp)
	case isPermanent(err), failsTheSameWay(err), bodyFailed:
		return settled
	case unsent:
		return unexecuted
	}
	return doubtful
}

func judgeResponse(ctx context.Context, resp *http.Response) verdict {
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return throttled
	case http.StatusForbidden:
		if head, _ := peek(ctx, resp, peekTime); newAPIError(resp, head).Class == "Client::Forbidden::Busy" {
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

// failsTheSameWay reports whether an error of net/http or crypto/tls is one that sending the request again brings again.
func failsTheSameWay(err error) bool {
	_, wrapped := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err) // bare, from a tls.Config's own verification
	_, hostname := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	_, record := errors.AsType[tls.RecordHeaderError](err) // HTTP on a TLS port
	if wrapped || authority || hostname || invalid || record || errors.Is(err, http.ErrSchemeMismatch) {
		return true
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && (op.Op == "remote error" || op.Op == "local error") {
		return true // a TLS alert, for which crypto/tls has no type of its own
	}
	return untypedFailure.MatchString(withoutURL(err).Error())
}

// untypedFailure matches the errors of net/http that have no type. A proxy's rejection of CONNECT is its reason phrase alone.
var untypedFailure = regexp.MustCompile(`unsupported protocol scheme|no Host in request URL|nil Request\.Header|control character in Request\.URL|` +
	`invalid (?:header field|method|trailer|Host header|port|proxy address)|cgihttpproxy|` +
	`certificate is not trusted|\btls: (?:server|peer|no supported|unsupported|received|unexpected|invalid|malformed)|stopped after \d+ redirects|` +
	`malformed (?:HTTP|MIME|response)|response headers exceeded|Content-?Length|content length|transfer encoding|header list larger|` +
	`frame too large|HTTP_1_1_REQUIRED|connection error: (?:PROTOCOL|COMPRESSION|FRAME_SIZE)_ERROR|` +
	`no acceptable authentication|authentication failed|not allowed by ruleset|unexpected protocol version|` + // of a SOCKS proxy
	`^(?i:.*proxy.*authentication.*required|bad request|unauthorized|payment required|forbidden|not found|method not allowed|not implemented)$`)

// connWatch sees whether one attempt got a connection, and whether a Transport below could not read the body that it is to sign.
// Its hooks may run late: each attempt has a new one.
type connWatch struct {
	asked, got, failed atomic.Bool
	trace              httptrace.ClientTrace
}

type watchKey struct{}

// tellBodyFailed tells a RetryTransport above, if there is one, that the request's body cannot be read: the error itself is returned
// as it is, and does not show that.
func tellBodyFailed(ctx context.Context) {
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

// hosts are what a RetryTransport knows of the hosts that had a retry or a 429. The zero value knows of none.
type hosts struct {
	all atomic.Pointer[map[string]*host] // replaced, never changed; nil at first, and then there is nothing to look up

	adding sync.Mutex // guards replacing all
}

// host is what is known of one.
type host struct {
	pace   atomic.Pointer[pace] // nil until the first 429
	budget budget
	used   atomic.Int64 // when, in Unix nanoseconds
}

// forgetAfter is how long what is known of a host that nobody asks is kept.
const forgetAfter = 30 * time.Minute

// none reports whether there was no retry and no 429 yet.
func (h *hosts) none() bool { return h.all.Load() == nil }

// get returns the host of this name. If there is none, it makes one or returns nil.
func (h *hosts) get(name string, create bool) *host {
	now, known := time.Now(), h.all.Load()
	if known != nil {
		if found := (*known)[name]; found != nil && now.Sub(time.Unix(0, found.used.Load())) < forgetAfter {
			found.used.Store(now.UnixNano())
			return found
		}
	}
	if !create && (known == nil || (*known)[name] == nil) {
		return nil
	}
	h.adding.Lock()
	defer h.adding.Unlock()
	all := h.sweep(now)
	if all[name] == nil && create {
		all[name] = new(host)
	}
	if found := all[name]; found != nil {
		found.used.Store(now.UnixNano())
	}
	h.all.Store(&all)
	return all[name]
}

// sweep returns a copy without the hosts that nobody has asked for a while. The caller holds h.adding.
func (h *hosts) sweep(now time.Time) map[string]*host {
	all := map[string]*host{}
	if old := h.all.Load(); old != nil {
		maps.Copy(all, *old)
	}
	maps.DeleteFunc(all, func(_ string, old *host) bool {
		p := old.pace.Load()
		return now.Sub(time.Unix(0, old.used.Load())) >= forgetAfter && (p == nil || p.isQuiet(now))
	})
	return all
}

func (h *host) paceOrNil() *pace {
	if h == nil {
		return nil
	}
	return h.pace.Load()
}

// paceOrNew returns the pace, which the first 429 makes.
func (h *host) paceOrNew() *pace {
	if p := h.pace.Load(); p != nil {
		return p
	}
	h.pace.CompareAndSwap(nil, new(pace)) // of several first 429s, all teach the same
	return h.pace.Load()
}

// budget is what may be spent on retries of one host, so that an API in trouble is not asked five times as often. The zero value
// is a full one.
type budget struct{ spent atomic.Int64 }

const (
	retryPrice = 5   // tokens for a retry. A success that needed none gives back 1, a retried one all that its retries cost
	maxBudget  = 500 // tokens
)

// spend takes price, or reports false if there is not so much.
func (b *budget) spend(price int64) bool {
	if b.spent.Add(price) <= maxBudget {
		return true
	}
	b.spent.Add(-price)
	return false
}

// refund gives back up to price.
func (b *budget) refund(price int64) {
	for {
		old := b.spent.Load()
		if old == 0 || b.spent.CompareAndSwap(old, max(0, old-price)) {
			return
		}
	}
}

// CheckRetry is a [retryablehttp.CheckRetry] that decides as [RetryTransport] does, for a retryablehttp.Client over a
// [Transport]. Its error is always nil.
//
// It sees less than RetryTransport does. After a response it knows the request as resp.Request. After an error it knows the method
// alone, as the Op of a [*url.Error], and no Idempotency-Key; only an error of dialing or of name resolution shows it that nothing
// was sent. It takes any other request as sent, and one whose method it does not know as not idempotent. An error of dialing after
// a redirect looks as if the first request had not been sent either: have the client's CheckRedirect return
// [http.ErrUseLastResponse] if POSTs may be redirected.
func CheckRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	switch {
	case ctx.Err() != nil, (resp == nil) == (err == nil): // with both, CheckRedirect has returned an error
		return false, nil
	case err != nil:
		u, ok := errors.AsType[*url.Error](err)
		harmless := ok && u.Op != "" && isIdempotent(strings.ToUpper(u.Op))
		return judge(ctx, nil, err, isDial(err), false).allowsRetry(harmless), nil
	}
	v, req := judge(ctx, resp, nil, false, false), resp.Request
	for req != nil && req.Response != nil { // what would be sent again is the first request, and that was executed
		req = req.Response.Request
		if v == unexecuted || v == throttled {
			v = doubtful
		}
	}
	return v.allowsRetry(req != nil && isHarmless(req)), nil
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

// retryAfter returns the wait that resp asks for, 0 or less for none. Counted from the Date of the response, a date means the
// same whatever the local clock says.
func retryAfter(resp *http.Response) time.Duration {
	if resp == nil {
		return 0
	}
	value := resp.Header.Get("Retry-After")
	if value == "" {
		return 0 // without it there is no error to make, and to drop, for each response
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
