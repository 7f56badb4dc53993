package ovhauth_test

import (
	"bytes"
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/ovhauth"
)

// logged is a Logger's text without the time, and with waits in whole units.
func logged(b *bytes.Buffer, unit time.Duration) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey:
				return slog.Attr{}
			case "wait":
				return slog.Duration("wait", a.Value.Duration().Truncate(unit))
			}
			return a
		}}))
}

// eventTable has every kind and every reason of a RetryTransport.
var eventTable = []struct {
	name     string
	reason   string
	outcomes []any
	prepare  func(rt *ovhauth.RetryTransport, ctx context.Context) (context.Context, context.CancelFunc) // nil: nothing
	get      func(t *testing.T, ctx context.Context) *http.Request                                       // nil: a GET
	want     string                                                                                      // lines, from level=DEBUG
}{
	{name: "no connection", reason: ovhauth.ReasonNotSent, outcomes: []any{&net.DNSError{Err: "no such host", Name: "api", IsNotFound: true}, reply(200)},
		want: `msg="ovhauth: retry" method=GET path=/a%2Fb attempt=1 error="lookup api: no such host" reason="nothing was sent"`},
	{name: "connection lost", reason: ovhauth.ReasonConnectionLost,
		outcomes: []any{&url.Error{Op: "Get", URL: "https://api/x?token=hunter2", Err: io.ErrUnexpectedEOF}, reply(200)},
		want:     `msg="ovhauth: retry" method=GET path=/a%2Fb attempt=1 error="unexpected EOF" reason="connection lost"`},
	{name: "server error, asks for a wait", reason: ovhauth.ReasonServerError, outcomes: []any{reply(503, "Retry-After", "2"), reply(200)},
		want: `msg="ovhauth: retry" method=GET path=/a%2Fb attempt=1 status=503 wait=2s reason="server error"`},
	{name: "busy", reason: ovhauth.ReasonBusy, outcomes: []any{replyText(403, busy), reply(200)},
		want: `msg="ovhauth: retry" method=GET path=/a%2Fb attempt=1 status=403 reason=busy`},
	{name: "rate limit", reason: ovhauth.ReasonRateLimit, outcomes: []any{reply(429, "Retry-After", "100"), reply(200)},
		want: `msg="ovhauth: throttled" method=GET path=/a%2Fb attempt=1 status=429 wait=1m40s reason="rate limit"`},
	{name: "a limiter that takes its time", reason: ovhauth.ReasonLimiter, outcomes: []any{reply(200)},
		prepare: func(rt *ovhauth.RetryTransport, ctx context.Context) (context.Context, context.CancelFunc) {
			rt.Limiter = limiter(func(context.Context) error { time.Sleep(3 * time.Second); return nil })
			return ctx, func() {}
		},
		want: `msg="ovhauth: held" method=GET path=/a%2Fb attempt=1 wait=3s reason=limiter`},
	{name: "retries used up", reason: ovhauth.ReasonRetriesUsed, outcomes: []any{reply(500)},
		prepare: func(rt *ovhauth.RetryTransport, ctx context.Context) (context.Context, context.CancelFunc) {
			rt.MaxRetries = 1
			return ctx, func() {}
		},
		want: `msg="ovhauth: retry" method=GET path=/a%2Fb attempt=1 status=500 reason="server error"` + "\n" +
			`msg="ovhauth: gave up" method=GET path=/a%2Fb attempt=2 status=500 reason="retries used up"`},
	{name: "429 and no retries", reason: ovhauth.ReasonRetriesUsed, outcomes: []any{reply(429)},
		prepare: func(rt *ovhauth.RetryTransport, ctx context.Context) (context.Context, context.CancelFunc) {
			rt.MaxRetries = -1
			return ctx, func() {}
		},
		want: `msg="ovhauth: gave up" method=GET path=/a%2Fb attempt=1 status=429 reason="retries used up"`},
	{name: "deadline", reason: ovhauth.ReasonDeadline, outcomes: []any{reply(503, "Retry-After", "9")},
		prepare: func(_ *ovhauth.RetryTransport, ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 5*time.Second)
		},
		want: `msg="ovhauth: gave up" method=GET path=/a%2Fb attempt=1 status=503 reason="deadline too soon"`},
	{name: "deadline of a 429", reason: ovhauth.ReasonDeadline, outcomes: []any{reply(429, "Retry-After", "9")},
		prepare: func(_ *ovhauth.RetryTransport, ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 5*time.Second)
		},
		want: `msg="ovhauth: gave up" method=GET path=/a%2Fb attempt=1 status=429 reason="deadline too soon"`},
	{name: "Retry-After", reason: ovhauth.ReasonRetryAfter, outcomes: []any{reply(503, "Retry-After", "31")},
		want: `msg="ovhauth: gave up" method=GET path=/a%2Fb attempt=1 status=503 reason="Retry-After too long"`},
	{name: "Retry-After of a 429", reason: ovhauth.ReasonRetryAfter, outcomes: []any{reply(429, "Retry-After", "3600")},
		want: `msg="ovhauth: gave up" method=GET path=/a%2Fb attempt=1 status=429 reason="Retry-After too long"`},
	{name: "body", reason: ovhauth.ReasonBody, outcomes: []any{reply(429)}, get: longPost,
		want: `msg="ovhauth: gave up" method=POST path=/a%2Fb attempt=1 status=429 reason="body cannot be replayed"`},
	{name: "limiter, at first", reason: ovhauth.ReasonLimiter, outcomes: []any{reply(200)},
		prepare: func(rt *ovhauth.RetryTransport, ctx context.Context) (context.Context, context.CancelFunc) {
			rt.Limiter = limiter(func(context.Context) error { return errors.New("no permit") })
			return ctx, func() {}
		},
		want: `msg="ovhauth: gave up" method=GET path=/a%2Fb attempt=1 error="ovhauth: limiter: no permit" reason=limiter`},
	{name: "limiter, after an error", reason: ovhauth.ReasonLimiter, outcomes: []any{io.ErrUnexpectedEOF},
		prepare: func(rt *ovhauth.RetryTransport, ctx context.Context) (context.Context, context.CancelFunc) {
			asked := 0
			rt.Limiter = limiter(func(context.Context) error {
				if asked++; asked == 2 {
					return errors.New("no permit")
				}
				return nil
			})
			return ctx, func() {}
		},
		want: `msg="ovhauth: retry" method=GET path=/a%2Fb attempt=1 error="unexpected EOF" reason="connection lost"` + "\n" +
			`msg="ovhauth: gave up" method=GET path=/a%2Fb attempt=1 error="unexpected EOF" reason=limiter`},
	{name: "context", reason: ovhauth.ReasonContextEnded, outcomes: []any{reply(503, "Retry-After", "9")},
		prepare: func(_ *ovhauth.RetryTransport, ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		},
		want: `msg="ovhauth: retry" method=GET path=/a%2Fb attempt=1 status=503 wait=9s reason="server error"` + "\n" +
			`msg="ovhauth: gave up" method=GET path=/a%2Fb attempt=1 status=503 error="context canceled" reason="context ended"`},
	{name: "a POST that must not be sent again", outcomes: []any{reply(503)}, get: func(t *testing.T, ctx context.Context) *http.Request {
		return newRequest(t, "POST", "https://api/a%2Fb", nil).WithContext(ctx)
	}},
	{name: "what would fail the same way", outcomes: []any{errors.New(`unsupported protocol scheme "x"`)}},
	{name: "success", outcomes: []any{reply(200)}},
}

func longPost(t *testing.T, ctx context.Context) *http.Request {
	req := newRequest(t, "POST", "https://api/a%2Fb?token=hunter2", struct{ io.Reader }{strings.NewReader(strings.Repeat("x", 1<<20+1))})
	return req.WithContext(ctx)
}

// Each event is a line of the Logger, at Debug, and a call of OnEvent.
func TestEventTable(t *testing.T) {
	for _, test := range eventTable {
		inBubble(t, test.name, func(t *testing.T) {
			var lines bytes.Buffer
			seen := &observed{}
			rt := &ovhauth.RetryTransport{Base: &scripted{outcomes: test.outcomes}, MinWait: noWait, Logger: logged(&lines, 20*time.Second), OnEvent: seen.add}
			if !strings.Contains(test.want, "1m40s") {
				rt.Logger = logged(&lines, time.Second)
			}
			ctx := t.Context()
			if test.prepare != nil {
				var cancel context.CancelFunc
				ctx, cancel = test.prepare(rt, ctx)
				defer cancel()
			}
			req := newRequest(t, "", "https://api/a%2Fb?token=hunter2", nil).WithContext(ctx)
			if test.get != nil {
				req = test.get(t, ctx)
			}
			req.Header.Set("X-Token", "hunter2")
			if resp, err := rt.RoundTrip(req); err == nil {
				resp.Body.Close()
			}
			var want strings.Builder
			for line := range strings.SplitSeq(test.want, "\n") {
				if line != "" {
					want.WriteString("level=DEBUG " + line + "\n")
				}
			}
			if lines.String() != want.String() {
				t.Errorf("logged\n%swant\n%s", &lines, want.String())
			}
			words := seen.words()
			if len(words) != strings.Count(want.String(), "\n") {
				t.Errorf("OnEvent was told %q, want as many as there are lines", words)
			}
			if len(words) > 0 && !strings.HasSuffix(words[len(words)-1], ": "+test.reason) {
				t.Errorf("the last event is %q, want the reason %q", words[len(words)-1], test.reason)
			}
		})
	}
}

// The events of a call that earlier calls cause.
func TestEventsOfTheQueue(t *testing.T) {
	inBubble(t, "held", func(t *testing.T) {
		var lines bytes.Buffer
		rt := &ovhauth.RetryTransport{MaxRetries: -1, Base: &scripted{outcomes: []any{reply(429, "Retry-After", "100"), reply(200)}}}
		rt.Logger = logged(&lines, 20*time.Second)
		getURL(t, rt, "https://api/x")
		lines.Reset()
		getURL(t, rt, "https://api/y?token=hunter2")
		if want := `level=DEBUG msg="ovhauth: held" method=GET path=/y attempt=1 wait=1m40s reason=queue` + "\n"; lines.String() != want {
			t.Errorf("logged\n%swant\n%s", &lines, want)
		}
	})
	inBubble(t, "held behind a probe", func(t *testing.T) {
		seen := &observed{}
		rt := &ovhauth.RetryTransport{MaxRetries: -1, OnEvent: seen.add, Base: baseFunc(func(*http.Request) (*http.Response, error) {
			time.Sleep(4 * time.Second)
			return respond(429, "Retry-After", "10"), nil
		})}
		getURL(t, rt, "https://api/x")
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { getURL(t, rt, "https://api/x") })
			time.Sleep(12 * time.Second) // the first of them is under way then
		}
		wg.Wait()
		want := []string{"gave up: " + ovhauth.ReasonRetriesUsed, "held: " + ovhauth.ReasonQueue, "held: " + ovhauth.ReasonQueue}
		if got := seen.words()[:3]; !slices.Equal(got, want) || seen.events[2].Wait != 250*time.Millisecond {
			t.Errorf("events %q, the last with a wait of %s; want %q, and 250 ms: the doubling begins at 4 a second", got, seen.events[2].Wait, want)
		}
	})
	inBubble(t, "turned away", func(t *testing.T) {
		seen := &observed{}
		rt := &ovhauth.RetryTransport{MaxRetries: -1, OnEvent: seen.add, Base: &scripted{outcomes: []any{reply(429, "Retry-After", "3600")}}}
		getURL(t, rt, "https://api/x")
		getURL(t, rt, "https://api/y")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		finished(t, rt, newRequest(t, "GET", "https://api/z", nil).WithContext(ctx))
		want := []string{"gave up: " + ovhauth.ReasonRetriesUsed, "gave up: " + ovhauth.ReasonRetryAfter, "gave up: " + ovhauth.ReasonDeadline}
		if got := seen.words(); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
	inBubble(t, "canceled before its first attempt", func(t *testing.T) {
		seen := &observed{}
		rt := &ovhauth.RetryTransport{MaxRetries: -1, OnEvent: seen.add, Base: &scripted{outcomes: []any{reply(429, "Retry-After", "60")}}}
		getURL(t, rt, "https://api/x")
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		finished(t, rt, newRequest(t, "GET", "https://api/y", nil).WithContext(ctx))
		if got, want := seen.words(), []string{"gave up: " + ovhauth.ReasonRetriesUsed, "held: " + ovhauth.ReasonQueue}; !slices.Equal(got, want) {
			t.Errorf("events %q, want %q: a call that its caller ended gave nothing up", got, want)
		}
	})
	t.Run("budget", func(t *testing.T) {
		var lines bytes.Buffer
		rt := &ovhauth.RetryTransport{MinWait: noWait, MaxRetries: 1, Base: &scripted{outcomes: []any{reply(503)}}}
		for range 100 {
			getURL(t, rt, "https://api/x")
		}
		rt.Logger = logged(&lines, time.Second)
		getURL(t, rt, "https://api/x")
		if want := `level=DEBUG msg="ovhauth: gave up" method=GET path=/x attempt=1 status=503 reason="budget used up"` + "\n"; lines.String() != want {
			t.Errorf("logged\n%swant\n%s", &lines, want)
		}
	})
}

// The list of reasons is closed: these are the constants, and each that a RetryTransport gives is in a test above.
func TestReasonsAreAClosedList(t *testing.T) {
	ofRetryTransport := map[string]string{
		"ReasonNotSent": "nothing was sent", "ReasonConnectionLost": "connection lost", "ReasonServerError": "server error", "ReasonBusy": "busy",
		"ReasonRateLimit": "rate limit", "ReasonQueue": "queue", "ReasonRetriesUsed": "retries used up", "ReasonBudgetUsed": "budget used up",
		"ReasonDeadline": "deadline too soon", "ReasonRetryAfter": "Retry-After too long", "ReasonNothingGranted": "nothing granted",
		"ReasonBody": "body cannot be replayed", "ReasonLimiter": "limiter", "ReasonContextEnded": "context ended",
	}
	want := maps.Clone(ofRetryTransport)
	maps.Copy(want, map[string]string{"ReasonQueryTimeOut": "query time out", "ReasonDate": "date far off", "ReasonDateLied": "date was wrong",
		"ReasonTokenRejected": "token rejected", "ReasonKeysRejected": "keys rejected", "ReasonClientRejected": "client rejected"})

	parsed, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Reason") {
			got[spec.Names[0].Name], _ = strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		}
		return true
	})
	if !maps.Equal(got, want) {
		t.Errorf("event.go has the reasons\n%v\nwant\n%v", got, want)
	}

	tested := []string{ovhauth.ReasonQueue, ovhauth.ReasonBudgetUsed, // TestEventsOfTheQueue
		ovhauth.ReasonNothingGranted} // TestNothingGrantedForTooLong
	for _, test := range eventTable {
		tested = append(tested, test.reason)
	}
	for name, reason := range ofRetryTransport {
		if !slices.Contains(tested, reason) {
			t.Errorf("no test has an event with %s, want one", name)
		}
	}
}

// The words of the kinds, by which people count.
func TestEventKinds(t *testing.T) {
	for kind, want := range []string{"unknown", "retry", "throttled", "held", "gave up", "clock corrected", "credentials replaced", "unknown"} {
		if got := ovhauth.EventKind(kind).String(); got != want {
			t.Errorf("kind %d is %q, want %q", kind, got, want)
		}
	}
}
