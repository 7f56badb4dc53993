package ovhjson_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhjson"
)

type record struct {
	ID   int64  `json:"id"`
	Type string `json:"fieldType"`
}

// sentTo is a client whose API keeps the one request that it gets, and its body, and responds with 200 and text.
func sentTo(t *testing.T, request **http.Request, sent, text string) *http.Client {
	return &http.Client{Transport: baseFunc(func(req *http.Request) (*http.Response, error) {
		*request = req
		got := ""
		if req.Body != nil {
			b, err := io.ReadAll(req.Body)
			if err != nil {
				t.Error(err)
			}
			got = string(b)
		}
		if got != sent {
			t.Errorf("%s %s: sent %s, want %s", req.Method, req.URL, got, sent)
		}
		resp := response(200, text)
		resp.Request = req
		return resp, nil
	})}
}

func TestCalls(t *testing.T) {
	const url = "https://eu.api.ovh.com/1.0/record?x=1"
	type call func(ctx context.Context, client *http.Client) (record, error)
	for _, test := range []struct {
		name, method, sent, contentType string
		call
	}{
		{"Get", "GET", "", "", func(ctx context.Context, client *http.Client) (record, error) {
			return ovhjson.Get[record](ctx, client, url)
		}},
		{"Post", "POST", `{"id":0,"fieldType":"TXT"}`, "application/json;charset=utf-8", func(ctx context.Context, client *http.Client) (record, error) {
			return ovhjson.Post[record](ctx, client, url, record{Type: "TXT"})
		}},
		{"Post without a body", "POST", "", "", func(ctx context.Context, client *http.Client) (record, error) {
			return ovhjson.Post[record](ctx, client, url, nil)
		}},
		{"Put of JSON", "PUT", `{"ttl":60}`, "application/json;charset=utf-8", func(ctx context.Context, client *http.Client) (record, error) {
			return ovhjson.Put[record](ctx, client, url, json.RawMessage(`{"ttl": 60}`))
		}},
		{"Delete", "DELETE", "", "", func(ctx context.Context, client *http.Client) (record, error) {
			return ovhjson.Delete[record](ctx, client, url)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			type key struct{}
			ctx := context.WithValue(t.Context(), key{}, test.name)
			var req *http.Request
			got, err := test.call(ctx, sentTo(t, &req, test.sent, `{"id":7,"fieldType":"A"}`))
			if want := (record{7, "A"}); err != nil || got != want {
				t.Errorf("got %+v, %v; want %+v", got, err, want)
			}
			if req.Method != test.method || req.URL.String() != url || req.Header.Get("Content-Type") != test.contentType {
				t.Errorf("sent %s %s of type %q; want %s %s of type %q", req.Method, req.URL, req.Header.Get("Content-Type"), test.method, url, test.contentType)
			}
			if req.Context().Value(key{}) != test.name {
				t.Error("the request does not have the caller's context")
			}
		})
	}
}

func TestNewRequestOpensItsBodyAgain(t *testing.T) {
	req, err := ovhjson.NewRequest(t.Context(), "POST", "/me", map[string]int{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		again, err := req.GetBody()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(again); string(b) != `{"a":1}` || err != nil || req.ContentLength != int64(len(b)) {
			t.Errorf("opened again: %s, %v, of length %d; want {\"a\":1}", b, err, req.ContentLength)
		}
	}
	if req, err := ovhjson.NewRequest(t.Context(), "POST", "/me", nil); err != nil || req.Body != nil || req.Header.Get("Content-Type") != "" {
		t.Errorf("a nil body: %v, %v, %q; want no body and no type", req.Body, err, req.Header.Get("Content-Type"))
	}
}

func TestNewRequestErrors(t *testing.T) {
	for _, test := range []struct {
		name, method, url string
		body              any
		want              string
	}{
		{"bytes", "POST", "/me?secret", []byte(`{}`), "ovhjson: POST /me: a body of type []uint8 is not encoded; pass a Go value, or JSON as a json.RawMessage"},
		{"reader", "PUT", "/me", strings.NewReader(`{}`), "ovhjson: PUT /me: a body of type *strings.Reader is not encoded; pass a Go value, or JSON as a json.RawMessage"},
		{"no JSON in it", "POST", "/me", make(chan int), "ovhjson: POST /me: encoding the body: json: unsupported type: chan int"},
		{"broken JSON", "POST", "/me", json.RawMessage(`{`), "ovhjson: POST /me: encoding the body: json: error calling MarshalJSON for type json.RawMessage: unexpected end of JSON input"},
		{"bad URL", "GET", "/%zz?secret", nil, `ovhjson: GET /%zz: invalid URL escape "%zz"`},
		{"bad method", "a b", "/me", nil, `ovhjson: A B /me: net/http: invalid method "a b"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			req, err := ovhjson.NewRequest(t.Context(), test.method, test.url, test.body)
			if req != nil || err == nil || err.Error() != test.want {
				t.Errorf("got %v, %v; want %s", req, err, test.want)
			}
		})
	}
}

// Each function that makes a request returns the error of making it.
func TestRequestsThatCannotBeMade(t *testing.T) {
	const want = "ovhjson: GET /%zz: "
	if _, err := ovhjson.Get[int](t.Context(), http.DefaultClient, "/%zz"); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("Get: %v; want %s…", err, want)
	}
	n := 0
	for _, err := range ovhjson.List[int](t.Context(), http.DefaultClient, "/%zz") {
		if n++; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("List: %v; want %s…", err, want)
		}
	}
	if n != 1 {
		t.Errorf("List: %d errors, want 1", n)
	}
}

func TestDecode(t *testing.T) {
	for _, test := range []struct {
		name, body string
		want       any
	}{
		{"number", " 7\n", json.Number("7")},
		{"ID beyond a float64", `{"id":9007199254740993}`, map[string]any{"id": json.Number("9007199254740993")}},
		{"list", `[1,"a",true,null]`, []any{json.Number("1"), "a", true, nil}},
		{"empty", "", nil},
		{"white space", " \r\n\t", nil},
		{"null", " null\n", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp := response(200, test.body)
			got, err := ovhjson.Decode[any](resp, nil)
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %#v, %v; want %#v", got, err, test.want)
			}
			if b := resp.Body.(*body); !b.ended || !b.closed {
				t.Errorf("read to the end: %v, closed: %v; want both, so that the connection can be used again", b.ended, b.closed)
			}
		})
	}
}

// strict is a type that takes no null.
type strict struct{ n int }

func (s *strict) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &s.n) }

// A call that returns nothing gives 204, null or an empty body, for the same route, at random.
func TestNothingIsTheZeroValue(t *testing.T) {
	for _, resp := range []func() *http.Response{
		func() *http.Response { return response(200, "") },
		func() *http.Response { return response(200, "null") },
		func() *http.Response { return response(204, "") },
		func() *http.Response { return &http.Response{StatusCode: 204} }, // not from net/http
	} {
		if got, err := ovhjson.Decode[record](resp(), nil); got != (record{}) || err != nil {
			t.Errorf("a struct: %v, %v; want its zero value", got, err)
		}
		if got, err := ovhjson.Decode[*record](resp(), nil); got != nil || err != nil {
			t.Errorf("a pointer: %v, %v; want nil", got, err)
		}
		if got, err := ovhjson.Decode[json.RawMessage](resp(), nil); got != nil || err != nil {
			t.Errorf("raw JSON: %s, %v; want nil", got, err)
		}
		if got, err := ovhjson.Decode[strict](resp(), nil); got != (strict{}) || err != nil {
			t.Errorf("a type that takes no null: %v, %v; want its zero value", got, err)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	cut := errors.New("connection reset")
	asked := &http.Request{URL: &url.URL{Path: "/1.0/me", RawQuery: "secret"}}
	for _, test := range []struct {
		name string
		body io.Reader
		want string
	}{
		{"HTML", strings.NewReader("<html>"), "invalid character '<' looking for beginning of value"},
		{"white space that is not JSON's", strings.NewReader("\u00a0"), "invalid character 'Â' looking for beginning of value"},
		{"breaks off", strings.NewReader(`{"id":7`), "unexpected EOF"},
		{"text after it", strings.NewReader(`{"id":7}{"id":8}`), "there is text after the JSON value"},
		{"a bracket after it", strings.NewReader(`{"id":7}]`), "there is text after the JSON value"},
		{"another type", strings.NewReader(`{"id":"hunter2"}`), "json: cannot unmarshal string into Go struct field record.id of type int64"},
		{"connection lost", io.MultiReader(strings.NewReader(`{"id":7}`), failing{cut}), "connection reset"},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp := response(200, "")
			resp.Request = asked
			resp.Body.(*body).Reader = test.body
			got, err := ovhjson.Decode[record](resp, nil)
			want := `ovhjson: GET /1.0/me: reading the response of type "application/json": ` + test.want
			if got != (record{}) || err == nil || err.Error() != want {
				t.Errorf("got %v, %v; want the zero value, %s", got, err, want)
			}
			if !resp.Body.(*body).closed {
				t.Error("the body is left open")
			}
			if test.name == "connection lost" && !errors.Is(err, cut) {
				t.Errorf("%v does not match the error of the body", err)
			}
		})
	}
	for _, req := range []*http.Request{nil, {}} {
		resp := response(200, "}")
		resp.Request = req
		if _, err := ovhjson.Decode[any](resp, nil); err == nil || !strings.HasPrefix(err.Error(), "ovhjson: reading the response") {
			t.Errorf("a response to the request %v: %v; want an error that does without", req, err)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestErrorsOfTheClient(t *testing.T) {
	own := errors.New("no route to host")
	for _, test := range []struct {
		name   string
		client *http.Client
		want   string
		is     error
	}{
		{"no Transport of ours", &http.Client{}, "ovhjson: GET /me: the client must use an ovhauth.Transport, which knows the endpoint", nil},
		{"no connection", &http.Client{Transport: baseFunc(func(*http.Request) (*http.Response, error) { return nil, own })},
			"ovhjson: GET /me: no route to host", own},
		{"an error about a URL below", &http.Client{Transport: baseFunc(func(*http.Request) (*http.Response, error) {
			return nil, errors.Join(errors.New("token"), &url.Error{Op: "Post", URL: "https://a.example/?x", Err: own})
		})}, "ovhjson: GET /me: token\nPost \"https://a.example/?x\": no route to host", own},
		{"no keys", &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: ovhauth.Credentials{}}},
			"ovhjson: GET /me: missing credentials: ", ovhauth.ErrMissingCredentials},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ovhjson.Get[record](t.Context(), test.client, "/me?secret")
			if got != (record{}) || err == nil || !strings.HasPrefix(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v, %v; want %s", got, err, test.want)
			}
		})
	}
	if _, err := ovhjson.Decode[record](nil, own); err == nil || err.Error() != "ovhjson: no route to host" {
		t.Errorf("an error of a RoundTripper: %v; want it with the package's name", err)
	}
}

func TestAPIErrorStaysOne(t *testing.T) {
	resp := response(403, `{"errorCode":"NOT_GRANTED_CALL","message":"This call has not been granted"}`)
	got, err := ovhjson.Decode[record](resp, nil)
	if e, ok := err.(*ovhauth.APIError); !ok || e.StatusCode != 403 || !errors.Is(err, ovhauth.ErrNotGranted) || got != (record{}) {
		t.Errorf("got %v, %v; want an APIError that matches ErrNotGranted", got, err)
	}
	if !resp.Body.(*body).closed {
		t.Error("the body is left open")
	}
}

// A list may be longer than any limit on small responses.
func TestResponsesAreNotLimited(t *testing.T) {
	const n = 3 << 10
	long := "[" + strings.Repeat(`"`+strings.Repeat("x", 1<<10)+`",`, n-1) + `"x"]`
	big := func() *http.Response {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(long))}
	}
	if all, err := ovhjson.Decode[[]string](big(), nil); err != nil || len(all) != n {
		t.Errorf("Decode: %d elements, %v; want %d", len(all), err, n)
	}
	count := 0
	for _, err := range ovhjson.Elements[string](func(yield func(*http.Response, error) bool) { yield(big(), nil) }) {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != n {
		t.Errorf("Elements: %d elements, want %d", count, n)
	}
}
