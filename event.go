package ovhauth

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// EventKind is what an [Event] is about.
type EventKind int

// The kinds of events. String gives the word that the Logger's message has after "ovhauth: ".
const (
	EventRetry               EventKind = iota + 1 // "retry": the attempt failed and will be sent again
	EventThrottled                                // "throttled": 429; the request will be sent again at the learned rate
	EventHeld                                     // "held": the request waits for its turn before it is sent
	EventGaveUp                                   // "gave up": it would be sent, or sent again, but for a limit
	EventClockCorrected                           // "clock corrected"
	EventCredentialsReplaced                      // "credentials replaced"
)

var eventWords = [...]string{
	EventRetry:               "retry",
	EventThrottled:           "throttled",
	EventHeld:                "held",
	EventGaveUp:              "gave up",
	EventClockCorrected:      "clock corrected",
	EventCredentialsReplaced: "credentials replaced",
}

// String returns the kind in words: "retry", "throttled", "held", "gave up", "clock corrected" or "credentials replaced".
func (k EventKind) String() string {
	if k < EventRetry || int(k) >= len(eventWords) {
		return "unknown"
	}
	return eventWords[k]
}

// Event is what a [Transport] or [RetryTransport] did beyond sending a request once. It holds no secret, no query and no body.
//
// An event is also a line of the Logger: its message is "ovhauth: " and the Kind, its attributes are method, path, attempt,
// status, error, wait and reason, each left out if it is zero. The level is Info for clock corrected and credentials replaced,
// Debug for the others.
type Event struct {
	Kind         EventKind
	Method, Path string        // as the caller wrote the URL, without the query
	Attempt      int           // 1 is the first
	StatusCode   int           // of the response, 0 for none
	Err          error         // of the attempt, nil for none
	Wait         time.Duration // that follows; for a clock, how far it was moved (positive: forwards)
	Reason       string        // one of the Reason constants
}

// emit gives an event of req to the observer and the logger, either of which may be nil.
func emit(req *http.Request, observe func(context.Context, Event), logger *slog.Logger, e Event) {
	if observe == nil && logger == nil {
		return
	}
	ctx := req.Context()
	e.Method, e.Path, e.Err = cmp.Or(req.Method, http.MethodGet), req.URL.EscapedPath(), withoutURL(e.Err)
	if observe != nil {
		observe(ctx, e)
	}
	if logger == nil {
		return
	}
	attrs := []slog.Attr{slog.String("method", e.Method), slog.String("path", e.Path)}
	if e.Attempt != 0 {
		attrs = append(attrs, slog.Int("attempt", e.Attempt))
	}
	if e.StatusCode != 0 {
		attrs = append(attrs, slog.Int("status", e.StatusCode))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", withoutKeys(errorText(e.Err))))
	}
	if e.Wait != 0 {
		attrs = append(attrs, slog.Duration("wait", e.Wait))
	}
	if e.Reason != "" {
		attrs = append(attrs, slog.String("reason", e.Reason))
	}
	level := slog.LevelDebug
	if e.Kind == EventClockCorrected || e.Kind == EventCredentialsReplaced {
		level = slog.LevelInfo
	}
	logger.LogAttrs(ctx, level, prefix+e.Kind.String(), attrs...)
}

// withoutURL unwraps a [url.Error]: what it adds is the URL, with its query.
func withoutURL(err error) error {
	for {
		u, ok := err.(*url.Error)
		if !ok {
			return err
		}
		err = u.Err
	}
}

// errorText is the text of err without a query. A Base that is made of an http.Client may have an error with the URL further down.
func errorText(err error) string {
	text := err.Error()
	if u, ok := errors.AsType[*url.Error](err); ok {
		text = strings.ReplaceAll(text, u.URL, withoutQuery(u.URL))
	}
	return text
}

// The reasons of events. The list is closed: no event has another, and none is empty.
const (
	// Of "retry": what came of the attempt.
	ReasonNotSent        = "nothing was sent" // no connection
	ReasonConnectionLost = "connection lost"  // or timed out, after something was sent
	ReasonServerError    = "server error"     // 408, 500, 502, 503, 504
	ReasonBusy           = "busy"             // 403 Client::Forbidden::Busy

	// Of "throttled": the API's rate limit.
	ReasonRateLimit = "rate limit"

	// Of "held": others that wait for the same host come first, or a 429 holds them all. Or it is ReasonLimiter: the Limiter has let
	// the request wait, and Wait is how long.
	ReasonQueue = "queue"

	// Of "gave up": the limit.
	ReasonRetriesUsed    = "retries used up"         // MaxRetries
	ReasonBudgetUsed     = "budget used up"          // too many of the latest requests to the host had to be retried
	ReasonDeadline       = "deadline too soon"       // the wait would outlast the context's deadline
	ReasonRetryAfter     = "Retry-After too long"    // beyond MaxWait; after a 429 without a deadline, beyond ten minutes
	ReasonNothingGranted = "nothing granted"         // by the host, for thirty minutes
	ReasonBody           = "body cannot be replayed" // no GetBody, and longer than 1 MiB
	ReasonLimiter        = "limiter"                 // the Limiter returned an error; of "held": it took its time
	ReasonContextEnded   = "context ended"           // while the request waited

	// Of "clock corrected": what showed that the clock was wrong.
	ReasonQueryTimeOut = "query time out" // the API said so
	ReasonDate         = "date far off"   // the Date of a rejection was far off, and /auth/time confirmed it
	ReasonDateLied     = "date was wrong" // the Date had misled; /auth/time set the clock right

	// Of "credentials replaced": what was rejected.
	ReasonTokenRejected  = "token rejected"
	ReasonKeysRejected   = "keys rejected"
	ReasonClientRejected = "client rejected" // by the token endpoint
)
