package ovhauth

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Clock tells the API server's time, as well as it knows it. [Transport] asks it once for each signature. It must be safe for
// concurrent use; an error ends the request before it is sent.
//
// A Clock that also has a method Correct(server time.Time) bool, as [ServerClock] does, is told the server's time when the API
// says that a request was signed at the wrong one. Any other Clock is trusted and never corrected.
type Clock interface {
	Now(context.Context) (time.Time, error)
}

// ClockFunc is a [Clock] that cannot fail: ClockFunc(time.Now) for a machine whose clock is right, or a test's fixed time.
type ClockFunc func() time.Time

// Now calls f. Its error is always nil.
func (f ClockFunc) Now(context.Context) (time.Time, error) { return f(), nil }

// ServerClock follows the API server's clock by an offset to the local one. Its zero value is ready, with no offset, and asks
// nobody: a [Transport] corrects it when the API rejects a request because of its time. It is safe for
// concurrent use; several Transports of one endpoint may share one.
type ServerClock struct {
	offset atomic.Int64 // nanoseconds, server minus local
}

// Now returns the local time plus the offset. Its error is always nil.
func (c *ServerClock) Now(context.Context) (time.Time, error) {
	return time.Now().Add(c.Offset()), nil
}

// Offset returns how far the server's clock is ahead of the local one.
func (c *ServerClock) Offset() time.Duration {
	return time.Duration(c.offset.Load())
}

// maxDrift is the difference to the server's clock that is not corrected: a Date header counts whole seconds, and takes its time
// to arrive.
const maxDrift = 2 * time.Second

// Correct takes server for the server's time at this moment, and reports whether that moved the clock. Up to two seconds of
// difference do not move it.
func (c *ServerClock) Correct(server time.Time) bool {
	now := time.Now().Round(0) // the wall clock: the monotonic one stands still while a laptop is suspended, which no test shows
	if server.Sub(now.Add(c.Offset())).Abs() <= maxDrift {
		return false
	}
	c.offset.Store(int64(server.Sub(now)))
	return true
}

// ServerTime asks the API for its time, in whole seconds (GET /auth/time, which needs no credentials). The client must use a
// [Transport], which says where to ask. A response other than 2xx is an [*APIError].
func ServerTime(ctx context.Context, client *http.Client) (time.Time, error) {
	const call = "GET /auth/time"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/auth/time", nil)
	if err != nil {
		return time.Time{}, fmt.Errorf("ovhauth: %s: %w", call, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return time.Time{}, callError(call, err)
	}
	if err := CheckResponse(resp); err != nil {
		return time.Time{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse))
	if err != nil {
		return time.Time{}, fmt.Errorf("ovhauth: reading the response to %s: %w", call, err)
	}
	seconds, err := strconv.ParseInt(string(bytes.TrimSpace(body)), 10, 64)
	if err != nil || seconds <= 0 {
		return time.Time{}, fmt.Errorf("ovhauth: the response to %s is not a time", call)
	}
	return time.Unix(seconds, 0), nil
}

// maxResponse is in bytes, and more than any response that this package decodes.
const maxResponse = 1 << 20

func callError(call string, err error) error {
	if u, ok := err.(*url.Error); ok {
		err = u.Err // it says method and path already
	}
	if isPermanent(err) {
		return err
	}
	if isUnroutable(err) {
		return fmt.Errorf("ovhauth: %s: the client must use an ovhauth.Transport, which knows the endpoint", call)
	}
	return fmt.Errorf("ovhauth: %s: %w", call, err)
}

// isUnroutable reports whether net/http was given a URL without a scheme, which only a Transport can make sense of.
func isUnroutable(err error) bool {
	return strings.Contains(err.Error(), `unsupported protocol scheme ""`)
}
