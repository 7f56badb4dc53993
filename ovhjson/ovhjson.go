// Package ovhjson speaks JSON with the OVHcloud API, one line for each call, over a plain [http.Client] that an
// [ovhauth.Transport] signs for:
//
//	client := &http.Client{Transport: &ovhauth.RetryTransport{}}
//	me, err := ovhjson.Get[Me](ctx, client, "/me")
//
// What is decoded follows one set of rules everywhere. An empty body, a response 204 and the JSON null are the zero value: calls
// that return nothing give any of the three. Numbers in an any are a [json.Number], as IDs can be larger than a float64 counts.
// Text after the JSON value is an error, and so is a response that is no JSON. The size of a response is not limited.
//
// A response other than 2xx is an [*ovhauth.APIError]. Any other error begins with "ovhjson: " and names method and path, but not
// the query, which may be confidential; [errors.Is] and [errors.As] find what is behind it. With an error comes the zero value.
//
// URLs may be relative to the endpoint, as [ovhauth.Transport] describes. Every function is safe for concurrent use if its client
// is; http.Client is.
package ovhjson

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"example.com/ovhauth"
)

// Get asks for url and decodes the response into a T.
func Get[T any](ctx context.Context, client *http.Client, url string) (T, error) {
	return do[T](ctx, client, http.MethodGet, url, nil)
}

// Post sends body to url as JSON and decodes the response into a T. A nil body sends none; see [NewRequest] for what body may be.
// Where the response does not matter, T is any.
func Post[T any](ctx context.Context, client *http.Client, url string, body any) (T, error) {
	return do[T](ctx, client, http.MethodPost, url, body)
}

// Put is [Post] with the method PUT.
func Put[T any](ctx context.Context, client *http.Client, url string, body any) (T, error) {
	return do[T](ctx, client, http.MethodPut, url, body)
}

// Delete sends a DELETE without a body to url and decodes the response into a T.
func Delete[T any](ctx context.Context, client *http.Client, url string) (T, error) {
	return do[T](ctx, client, http.MethodDelete, url, nil)
}

func do[T any](ctx context.Context, client *http.Client, method, url string, body any) (T, error) {
	req, err := NewRequest(ctx, method, url, body)
	if err != nil {
		var none T
		return none, err
	}
	return Decode[T](client.Do(req))
}

// List asks for the list at url and decodes its elements, one when the loop asks for it: the [Elements] of the [Pages] of a GET.
// An error comes once, with a zero T, and is the last. Ranging again asks again. For lists that take headers, such as
// X-Pagination-Mode, call Pages with a request that has them.
func List[T any](ctx context.Context, client *http.Client, url string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		req, err := NewRequest(ctx, http.MethodGet, url, nil)
		if err != nil {
			var none T
			yield(none, err)
			return
		}
		Elements[T](Pages(client, req))(yield)
	}
}

// NewRequest makes a request whose body is the JSON of body, and whose GetBody opens it again for a retry or a redirect. A nil
// body is none. JSON that is written already is a [json.RawMessage]: a []byte, which encoding/json would write in base64, and an
// [io.Reader] are errors.
func NewRequest(ctx context.Context, method, url string, body any) (*http.Request, error) {
	var content io.Reader // nil: none
	switch body.(type) {
	case nil:
	case []byte, io.Reader:
		return nil, failed(method, url, fmt.Errorf("a body of type %T is not encoded; pass a Go value, or JSON as a json.RawMessage", body))
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, failed(method, url, fmt.Errorf("encoding the body: %w", err))
		}
		content = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return nil, failed(method, url, err)
	}
	if content != nil {
		req.Header.Set("Content-Type", "application/json;charset=utf-8")
	}
	return req, nil
}

// Decode checks, decodes and closes the response of a call to an [http.Client] or [http.RoundTripper]:
//
//	me, err := ovhjson.Decode[Me](client.Get("/me"))
func Decode[T any](resp *http.Response, err error) (T, error) {
	var none, value T
	if err != nil {
		return none, asOurs(err)
	}
	if err := ovhauth.CheckResponse(resp); err != nil {
		return none, err
	}
	if resp.Body == nil {
		return none, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil {
		err = decode(body, &value)
	}
	if err != nil {
		return none, unread(resp, err)
	}
	return value, nil
}

// decode leaves value alone if body is empty or null.
func decode(body []byte, value any) error {
	if body = bytes.Trim(body, " \t\r\n"); len(body) == 0 || string(body) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(value); err != nil {
		return err
	}
	return ended(d)
}

// ended returns an error if d has more than white space left. It reads to the end, so that a connection can be used again.
func ended(d *json.Decoder) error {
	_, err := d.Token()
	if err == io.EOF {
		return nil
	}
	if _, ok := err.(*json.SyntaxError); ok || err == nil {
		return errors.New("there is text after the JSON value")
	}
	return err
}

// unread says that the response to a request could not be read, and of what type it claims to be: a wrong endpoint sends HTML.
func unread(resp *http.Response, err error) error {
	err = fmt.Errorf("reading the response of type %q: %w", resp.Header.Get("Content-Type"), err)
	if resp.Request == nil || resp.Request.URL == nil { // not from net/http
		return fmt.Errorf("ovhjson: %w", err)
	}
	return failedRequest(resp.Request, err)
}

func failedRequest(req *http.Request, err error) error {
	return failed(req.Method, req.URL.EscapedPath(), err)
}

// asOurs gives an error of http.Client, which shows the whole URL, the form of those of this package.
func asOurs(err error) error {
	u, ok := err.(*url.Error)
	if !ok {
		return fmt.Errorf("ovhjson: %w", err)
	}
	if strings.Contains(u.Err.Error(), `unsupported protocol scheme ""`) {
		return failed(u.Op, u.URL, errors.New("the client must use an ovhauth.Transport, which knows the endpoint"))
	}
	return failed(u.Op, u.URL, u.Err)
}

// failed says which request has failed.
func failed(method, target string, err error) error {
	path, _, _ := strings.Cut(target, "?")
	if u, ok := err.(*url.Error); ok {
		err = u.Err // without the URL that it shows whole
	}
	method = strings.ToUpper(cmp.Or(method, http.MethodGet))
	return &requestError{fmt.Sprintf("ovhjson: %s %s: %s", method, path, strings.ReplaceAll(err.Error(), "ovhauth: ", "")), err}
}

// requestError has the name of this package in front, and not that of the Transport's behind it.
type requestError struct {
	text string
	err  error
}

func (e *requestError) Error() string { return e.text }
func (e *requestError) Unwrap() error { return e.err }
