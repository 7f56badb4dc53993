package ovhjson_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

func numbers(t *testing.T, client *http.Client, req *http.Request) (all []int) {
	t.Helper()
	for n, err := range ovhjson.Elements[int](ovhjson.Pages(client, req)) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

func TestPages(t *testing.T) {
	for _, test := range []struct {
		path   string
		header map[string]string
		want   []int
		pages  int
	}{
		{"/v2/numbers", nil, []int{1, 2, 3, 4, 5}, 3},
		{"/v2/numbers", map[string]string{"X-Pagination-Cursor": "from 2"}, []int{3, 4, 5}, 2},
		{"/numbers", nil, []int{1, 2, 3, 4, 5}, 1},
		{"/numbers", map[string]string{"X-Pagination-Mode": "CachedObjectList-Pages"}, []int{1, 2, 3, 4, 5}, 3},
		{"/numbers", map[string]string{"X-Pagination-Mode": "CachedObjectList-Pages", "X-Pagination-Number": "3"}, []int{5}, 1},
	} {
		server, client, bodies := paged(t)
		req := newRequest(t, "GET", test.path, nil)
		for name, value := range test.header {
			req.Header.Set(name, value)
		}
		before := fmt.Sprint(req.Header)
		if test.header == nil {
			req.Header = nil
			before = "map[]"
		}
		for range 2 { // a sequence can be ranged over again
			server.Forget()
			if got := numbers(t, client, req); !slices.Equal(got, test.want) {
				t.Errorf("%s %v: got %v, want %v", test.path, test.header, got, test.want)
			}
			stamps := map[string]bool{}
			for _, x := range server.Exchanges() {
				if !x.Verified {
					t.Errorf("%s was not verified", x)
				}
				stamps[x.Header.Get("X-Ovh-Timestamp")] = true
			}
			if len(stamps) != test.pages || bodies.n.Load() != 0 || fmt.Sprint(req.Header) != before {
				t.Errorf("%s %v: signed at %v, %d bodies open, request has %v; want %d times, none open, and the request as it was",
					test.path, test.header, stamps, bodies.n.Load(), req.Header, test.pages)
			}
		}
	}
}

// sized is a Base that responds with numbered pages as these headers say.
func sized(elements, size string, asked *[]string) http.RoundTripper {
	return baseFunc(func(req *http.Request) (*http.Response, error) {
		*asked = append(*asked, req.Header.Get("X-Pagination-Number"))
		resp := response(200, "[0]")
		for name, value := range map[string]string{"X-Pagination-Elements": elements, "X-Pagination-Size": size} {
			if value != "" {
				resp.Header.Set(name, value)
			}
		}
		return resp, nil
	})
}

func TestNumberedPages(t *testing.T) {
	for _, test := range []struct{ name, elements, size, asked, from, want, fails string }{
		{"empty", "0", "2", "", "", "1", ""},
		{"part of a page", "1", "2", "", "", "1", ""},
		{"full pages", "4", "2", "", "", "1 2", ""},
		{"full pages and a part", "5", "2", "", "", "1 2 3", ""},
		{"the size that was asked for", "5", "", "3", "", "1 2", ""},
		{"the API's own size", "5", "2", "5000", "", "1 2 3", ""},
		{"a list that knows no pages", "", "", "3", "", "1", ""},
		{"no size", "5", "", "", "", "1", "X-Pagination-Size"},
		{"from page 3", "7", "2", "", "3", "3 4", ""},
		{"from page 0", "5", "2", "", "0", "0", "X-Pagination-Number"},
		{"from no number", "5", "2", "", "x", "x", "X-Pagination-Number"},
		{"size 0", "5", "0", "", "", "1", "X-Pagination-Size"},
	} {
		var asked []string
		client := &http.Client{Transport: sized(test.elements, test.size, &asked)}
		req := newRequest(t, "GET", "https://eu.api.ovh.com/v1/numbers", nil)
		req.Header.Set("X-Pagination-Mode", "CachedObjectList-Pages")
		if test.asked != "" {
			req.Header.Set("X-Pagination-Size", test.asked)
		}
		if test.from != "" {
			req.Header.Set("X-Pagination-Number", test.from)
		}
		failed := ""
		for _, err := range ovhjson.Pages(client, req) {
			if err != nil {
				failed = err.Error()
			}
		}
		if got := strings.Join(asked, " "); got != test.want || (failed == "") != (test.fails == "") || !strings.Contains(failed, test.fails) {
			t.Errorf("%s: asked for %s, error %q; want %s, %q", test.name, got, failed, test.want, test.fails)
		}
	}
}

// last returns how many pages came, what came after them, and how often.
func last(pages iter.Seq2[*http.Response, error]) (n int, errs []error) {
	for resp, err := range pages {
		if err != nil {
			errs = append(errs, err)
		}
		if resp != nil {
			n++
		}
	}
	return n, errs
}

func TestPagesEndWithAnError(t *testing.T) {
	server, client, _ := paged(t)
	server.Handle("GET /v2/loop", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next := map[string]string{"": "a", "a": "b", "b": "c", "c": "b"}[r.Header.Get("X-Pagination-Cursor")]
		w.Header().Set("X-Pagination-Cursor-Next", next)
		io.WriteString(w, "[]")
	}))

	n, errs := last(ovhjson.Pages(client, newRequest(t, "GET", "/v2/loop", nil)))
	if n != 4 || len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "ovhjson: GET /v2/loop: the API gave the same cursor twice") {
		t.Errorf("a cursor that repeats: %d pages, %v; want four, then an error", n, errs)
	}
	server.Inject(ovhtest.Fault{Delay: 1}, ovhtest.Fault{Status: 500, Body: `{"message":"Oops"}`})
	n, errs = last(ovhjson.Pages(client, newRequest(t, "GET", "/v2/numbers", nil)))
	if n != 1 || len(errs) != 1 || !isStatus(errs[0], 500) {
		t.Errorf("a response other than 2xx: %d pages, %v; want one page, then an APIError", n, errs)
	}
	n, errs = last(ovhjson.Pages(http.DefaultClient, newRequest(t, "GET", "/v2/numbers", nil)))
	if n != 0 || len(errs) != 1 || !strings.Contains(errs[0].Error(), "must use an ovhauth.Transport") {
		t.Errorf("no Transport: %d pages, %v; want an error that says so", n, errs)
	}
	broken := newRequest(t, "POST", "/v2/numbers", strings.NewReader("{}"))
	broken.GetBody = func() (io.ReadCloser, error) { return nil, io.ErrClosedPipe }
	if n, errs = last(ovhjson.Pages(client, broken)); n != 0 || len(errs) != 1 || !errors.Is(errs[0], io.ErrClosedPipe) {
		t.Errorf("a body that cannot be opened again: %d pages, %v; want the error of GetBody", n, errs)
	}
	once := newRequest(t, "POST", "/v2/numbers", struct{ io.Reader }{strings.NewReader("{}")})
	if n, errs = last(ovhjson.Pages(client, once)); n != 0 || len(errs) != 1 || !strings.Contains(errs[0].Error(), "GetBody") {
		t.Errorf("a body that can be sent once: %d pages, %v; want an error that asks for GetBody", n, errs)
	}
}

func isStatus(err error, status int) bool {
	e, ok := err.(*ovhauth.APIError)
	return ok && e.StatusCode == status
}

func TestPagesOfARequestWithBody(t *testing.T) {
	server, client, _ := paged(t)
	numbers(t, client, newRequest(t, "POST", "/v2/numbers", strings.NewReader(`{"filter":1}`)))
	for _, x := range server.Exchanges() {
		if string(x.Body) != `{"filter":1}` {
			t.Errorf("%s: body %q, want that of the request", x, x.Body)
		}
	}
	if n := len(server.Exchanges()); n != 3 {
		t.Errorf("%d pages, want 3", n)
	}
}

// After the context has ended no page is asked for, whatever the client below makes of a context.
func TestPagesEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent []*http.Request
	client := &http.Client{Transport: baseFunc(func(req *http.Request) (*http.Response, error) {
		sent = append(sent, req)
		resp := response(200, "[]")
		resp.Header.Set("X-Pagination-Cursor-Next", fmt.Sprint(len(sent)))
		return resp, nil
	})}
	var errs []error
	for resp, err := range ovhjson.Pages(client, newRequest(t, "GET", "/v2/numbers", nil).WithContext(ctx)) {
		if errs = append(errs, err); resp != nil && len(sent) == 2 {
			cancel()
		}
	}
	if len(sent) != 2 || len(errs) != 3 || errs[1] != nil || !errors.Is(errs[2], context.Canceled) {
		t.Errorf("asked %d times: %v; want two pages, then that the context was canceled", len(sent), errs)
	}
	if sent[0].Header.Get("X-Pagination-Cursor") != "" {
		t.Error("the header of a page was that of the page before, which its connection may still be reading")
	}
}

// However the loop is left, nothing stays open, and no page is asked for in vain.
func TestPagesAreClosed(t *testing.T) {
	for name, leave := range map[string]func(pages iter.Seq2[*http.Response, error]){
		"break": func(pages iter.Seq2[*http.Response, error]) {
			for range pages {
				break
			}
		},
		"panic": func(pages iter.Seq2[*http.Response, error]) {
			defer func() { recover() }()
			for range pages {
				panic(1)
			}
		},
		"pull": func(pages iter.Seq2[*http.Response, error]) {
			next, stop := iter.Pull2(pages)
			defer stop()
			next()
		},
		"break among the elements": func(pages iter.Seq2[*http.Response, error]) {
			for range ovhjson.Elements[int](pages) {
				break
			}
		},
		"an element that cannot be decoded": func(pages iter.Seq2[*http.Response, error]) {
			for s, err := range ovhjson.Elements[string](pages) {
				if s != "" || err == nil || !strings.HasPrefix(err.Error(), "ovhjson: GET /v2/numbers: reading the response of type ") {
					t.Errorf("got %q, %v; want an error of decoding", s, err)
				}
			}
		},
	} {
		server, client, bodies := paged(t)
		leave(ovhjson.Pages(client, newRequest(t, "GET", "/v2/numbers", nil)))
		if bodies.n.Load() != 0 || len(server.Exchanges()) != 1 {
			t.Errorf("%s: %d bodies open, %d requests; want none open after one request", name, bodies.n.Load(), len(server.Exchanges()))
		}
	}
}

func TestElements(t *testing.T) {
	for _, test := range []struct {
		name, body string
		want       []int
		fails      string
	}{
		{"null", " null ", nil, ""},
		{"no element", "[]", nil, ""},
		{"white space", " [1 , 2]\n", []int{1, 2}, ""},
		{"empty", "", nil, ""},
		{"white space alone", " \n", nil, ""},
		{"breaks off at once", "[", nil, "unexpected EOF"},
		{"breaks off after an element", "[1", []int{1}, "unexpected EOF"},
		{"breaks off after a comma", "[1,", []int{1}, "unexpected EOF"},
		{"breaks off in an element", `[1,"a`, []int{1}, "unexpected EOF"},
		{"another bracket", "[1}", []int{1}, "invalid character '}'"},
		{"object", `{"a":1}`, nil, "it is not a JSON array"},
		{"string", `"hunter2"`, nil, "it is not a JSON array"},
		{"HTML", "<html>", nil, "invalid character '<'"},
		{"element of another type", `[1,"hunter2"]`, []int{1}, "cannot unmarshal"},
		{"text after it", `[1]{}`, []int{1}, "there is text after the JSON value"},
		{"text after null", `null,`, nil, "there is text after the JSON value"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var closed []*body
			pages := func(yield func(*http.Response, error) bool) {
				for range 2 {
					resp := response(200, test.body)
					closed = append(closed, resp.Body.(*body))
					if !yield(resp, nil) {
						return
					}
				}
			}
			want := test.want
			if test.fails == "" {
				want = append(slices.Clip(test.want), test.want...) // of two pages
			}
			var got []int
			failed := ""
			for n, err := range ovhjson.Elements[int](pages) {
				if failed != "" {
					t.Error("something came after an error")
				}
				if err != nil {
					failed = err.Error()
				} else {
					got = append(got, n)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if (failed == "") != (test.fails == "") || !strings.Contains(failed, test.fails) || strings.Contains(failed, "hunter2") ||
				failed != "" && !strings.HasPrefix(failed, `ovhjson: reading the response of type "application/json": `) {
				t.Errorf("got error %q, want %q", failed, test.fails)
			}
			if test.fails == "" && (len(closed) != 2 || !closed[0].ended || !closed[1].ended) {
				t.Error("a page was not read to its end, so its connection cannot be used again")
			}
		})
	}
}

// Elements decodes as Decode does: numbers in an any keep all their digits.
func TestElementsOfAny(t *testing.T) {
	for v, err := range ovhjson.Elements[any](func(yield func(*http.Response, error) bool) { yield(response(200, "[9007199254740993]"), nil) }) {
		if v != json.Number("9007199254740993") || err != nil {
			t.Errorf("got %#v, %v; want the json.Number 9007199254740993", v, err)
		}
	}
}

func TestList(t *testing.T) {
	_, client, _ := paged(t)
	for _, path := range []string{"/v2/numbers", "/numbers"} {
		list := ovhjson.List[int](t.Context(), client, path)
		for range 2 { // a sequence can be ranged over again
			var got []int
			for n, err := range list {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, n)
			}
			if want := []int{1, 2, 3, 4, 5}; !slices.Equal(got, want) {
				t.Errorf("%s: got %v, want %v", path, got, want)
			}
		}
		for range list {
			break // closes the page, which paged checks
		}
	}
}

// The first element is there before the server has sent the second.
func TestElementsStream(t *testing.T) {
	server, client, _ := paged(t)
	got := make(chan struct{})
	server.Handle("GET /v2/slow", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "[1,")
		w.(http.Flusher).Flush()
		select {
		case <-got:
			io.WriteString(w, "2]")
		case <-r.Context().Done():
		}
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for n, err := range ovhjson.Elements[int](ovhjson.Pages(client, newRequest(t, "GET", "/v2/slow", nil).WithContext(ctx))) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			close(got)
		}
	}
}

// http.NoBody is no body: it needs no GetBody.
func TestPagesWithoutBody(t *testing.T) {
	var asked []string
	client := &http.Client{Transport: sized("", "", &asked)}
	req := newRequest(t, "GET", "https://eu.api.ovh.com/v1/numbers", nil)
	req.Body = http.NoBody
	if n, errs := last(ovhjson.Pages(client, req)); n != 1 || errs != nil {
		t.Errorf("%d pages, then %v; want one", n, errs)
	}
}

func TestPagesWithoutURL(t *testing.T) {
	for _, err := range ovhjson.Pages(http.DefaultClient, &http.Request{}) {
		if err == nil || !strings.Contains(err.Error(), "ovhjson: the request has no URL") {
			t.Errorf("got %v, want an error that says so", err)
		}
	}
}
