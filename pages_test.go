package ovhauth_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// openBodies counts the answers that are still open.
type openBodies struct {
	http.RoundTripper
	n atomic.Int64
}

func (o *openBodies) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := o.RoundTripper.RoundTrip(req)
	if err == nil {
		o.n.Add(1)
		resp.Body = &openBody{resp.Body, o}
	}
	return resp, err
}

type openBody struct {
	io.ReadCloser
	of *openBodies
}

func (b *openBody) Close() error {
	if b.of != nil {
		b.of.n.Add(-1)
		b.of = nil
	}
	return b.ReadCloser.Close()
}

// paged is an API with two lists of the numbers 1 to 5, two on a page.
func paged(t *testing.T) (*ovhtest.Server, *http.Client, *openBodies) {
	server := ovhtest.NewServer()
	t.Cleanup(server.Close)
	server.Handle("/v2/numbers", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first, _ := strconv.Atoi(strings.TrimPrefix(r.Header.Get("X-Pagination-Cursor"), "from "))
		if first < 4 {
			w.Header().Set("X-Pagination-Cursor-Next", fmt.Sprint("from ", first+2))
		}
		io.WriteString(w, []string{"[1,2]", "", "[ 3, 4 ]\n", "", "[5]"}[first])
	}))
	server.Handle("GET /numbers", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Pagination-Mode") == "" {
			io.WriteString(w, "[1,2,3,4,5]")
			return
		}
		number, _ := strconv.Atoi(r.Header.Get("X-Pagination-Number"))
		w.Header().Set("X-Pagination-Elements", "5")
		w.Header().Set("X-Pagination-Size", "2")
		io.WriteString(w, []string{"[1,2]", "[3,4]", "[5]"}[number-1])
	}))
	bodies := &openBodies{RoundTripper: http.DefaultTransport}
	var second atomic.Int64 // each signature has a time of its own
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint: server.Endpoint(), Credentials: server.Credentials(), Base: bodies,
		Clock: ovhauth.ClockFunc(func() time.Time { return time.Now().Add(time.Duration(second.Add(1)) * time.Second) }),
	}}
	t.Cleanup(func() {
		if n := bodies.n.Load(); n != 0 {
			t.Errorf("%d bodies are left open", n)
		}
	})
	return server, client, bodies
}

func numbers(t *testing.T, client *http.Client, req *http.Request) (all []int) {
	t.Helper()
	for n, err := range ovhauth.Elements[int](ovhauth.Pages(client, req)) {
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
				t.Errorf("%s %v: %v", test.path, test.header, got)
			}
			stamps := map[string]bool{}
			for _, x := range server.Exchanges() {
				if !x.Verified {
					t.Error(x)
				}
				stamps[x.Header.Get("X-Ovh-Timestamp")] = true
			}
			if len(stamps) != test.pages || bodies.n.Load() != 0 || fmt.Sprint(req.Header) != before {
				t.Errorf("%s %v: signed at %v, %d bodies open, request has %v", test.path, test.header, stamps, bodies.n.Load(), req.Header)
			}
		}
	}
}

// sized is a Base that answers with numbered pages as these headers say.
func sized(elements, size string, asked *[]string) http.RoundTripper {
	return baseFunc(func(req *http.Request) (*http.Response, error) {
		*asked = append(*asked, req.Header.Get("X-Pagination-Number"))
		resp := answer(200, "[0]")
		resp.Header = http.Header{}
		for name, value := range map[string]string{"X-Pagination-Elements": elements, "X-Pagination-Size": size} {
			if value != "" {
				resp.Header.Set(name, value)
			}
		}
		return resp, nil
	})
}

func TestNumberedPages(t *testing.T) {
	for _, test := range []struct{ elements, size, asked, want, fails string }{
		{"0", "2", "", "1", ""},
		{"1", "2", "", "1", ""},
		{"4", "2", "", "1 2", ""},
		{"5", "2", "", "1 2 3", ""},
		{"5", "", "3", "1 2", ""},
		{"5", "2", "5000", "1 2 3", ""}, // the API has its own idea of a size
		{"", "", "3", "1", ""},          // and this list none
		{"5", "", "", "1", "X-Pagination-Size"},
		{"5", "0", "", "1", "X-Pagination-Size"},
	} {
		var asked []string
		client := &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: sized(test.elements, test.size, &asked)}}
		req := newRequest(t, "GET", "/numbers", nil)
		req.Header.Set("X-Pagination-Mode", "CachedObjectList-Pages")
		if test.asked != "" {
			req.Header.Set("X-Pagination-Size", test.asked)
		}
		failed := ""
		for _, err := range ovhauth.Pages(client, req) {
			if err != nil {
				failed = err.Error()
			}
		}
		if got := strings.Join(asked, " "); got != test.want || (failed == "") != (test.fails == "") || !strings.Contains(failed, test.fails) {
			t.Errorf("%+v: asked for %s, %s", test, got, failed)
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

	n, errs := last(ovhauth.Pages(client, newRequest(t, "GET", "/v2/loop", nil)))
	if n != 4 || len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "ovhauth: /v2/loop: the API gave the same cursor twice") {
		t.Errorf("a cursor that repeats: %d pages, %v", n, errs)
	}
	server.Inject(ovhtest.Fault{Delay: 1}, ovhtest.Fault{Status: 500, Body: `{"message":"Oops"}`})
	n, errs = last(ovhauth.Pages(client, newRequest(t, "GET", "/v2/numbers", nil)))
	var refusal *ovhauth.APIError
	if n != 1 || len(errs) != 1 || !errors.As(errs[0], &refusal) || refusal.StatusCode != 500 {
		t.Errorf("an answer other than 2xx: %d pages, %v", n, errs)
	}
	n, errs = last(ovhauth.Pages(http.DefaultClient, newRequest(t, "GET", "/v2/numbers", nil)))
	if n != 0 || len(errs) != 1 || !strings.Contains(errs[0].Error(), "must use an ovhauth.Transport") {
		t.Errorf("no Transport: %d pages, %v", n, errs)
	}
	once := newRequest(t, "POST", "/v2/numbers", struct{ io.Reader }{strings.NewReader("{}")})
	if n, errs = last(ovhauth.Pages(client, once)); n != 0 || len(errs) != 1 || !strings.Contains(errs[0].Error(), "GetBody") {
		t.Errorf("a body that can be sent once: %d pages, %v", n, errs)
	}
}

func TestPagesOfARequestWithBody(t *testing.T) {
	server, client, _ := paged(t)
	numbers(t, client, newRequest(t, "POST", "/v2/numbers", strings.NewReader(`{"filter":1}`)))
	for _, x := range server.Exchanges() {
		if string(x.Body) != `{"filter":1}` {
			t.Errorf("%s: %q", x, x.Body)
		}
	}
	if n := len(server.Exchanges()); n != 3 {
		t.Errorf("%d pages", n)
	}
}

// After the context has ended no page is asked for, whatever the client below makes of a context.
func TestPagesEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent []*http.Request
	client := &http.Client{Transport: baseFunc(func(req *http.Request) (*http.Response, error) {
		sent = append(sent, req)
		resp := answer(200, "[]")
		resp.Header = http.Header{"X-Pagination-Cursor-Next": {fmt.Sprint(len(sent))}}
		return resp, nil
	})}
	var errs []error
	for resp, err := range ovhauth.Pages(client, newRequest(t, "GET", "/v2/numbers", nil).WithContext(ctx)) {
		if errs = append(errs, err); resp != nil && len(sent) == 2 {
			cancel()
		}
	}
	if len(sent) != 2 || len(errs) != 3 || errs[1] != nil || errs[2] != context.Canceled {
		t.Errorf("asked %d times: %v", len(sent), errs)
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
			for range ovhauth.Elements[int](pages) {
				break
			}
		},
		"an element that cannot be decoded": func(pages iter.Seq2[*http.Response, error]) {
			for s, err := range ovhauth.Elements[string](pages) {
				if s != "" || err == nil || !strings.HasPrefix(err.Error(), "ovhauth: reading a page of a list: json: ") {
					t.Errorf("%q, %v", s, err)
				}
			}
		},
	} {
		server, client, bodies := paged(t)
		leave(ovhauth.Pages(client, newRequest(t, "GET", "/v2/numbers", nil)))
		if bodies.n.Load() != 0 || len(server.Exchanges()) != 1 {
			t.Errorf("%s: %d bodies open, %d requests", name, bodies.n.Load(), len(server.Exchanges()))
		}
	}
}

func TestElements(t *testing.T) {
	for _, test := range []struct {
		body string
		want string // the elements, or what is in the error
	}{
		{"null", "[]"},
		{"[]", "[]"},
		{" [1 , 2]\n", "[1 2]"},
		{"", "unexpected EOF"},
		{"[1", "unexpected EOF"},
		{"[1,", "unexpected EOF"},
		{"[1}", "invalid character"},
		{`{"a":1}`, "no JSON array"},
		{`"hunter2"`, "no JSON array"},
		{`[1,"a"]`, "cannot unmarshal"},
	} {
		pages := func(yield func(*http.Response, error) bool) {
			for range 2 {
				if !yield(answer(200, test.body), nil) {
					return
				}
			}
		}
		var got []int
		var errs []error
		for n, err := range ovhauth.Elements[int](pages) {
			if err != nil {
				errs = append(errs, err)
			} else {
				got = append(got, n)
			}
		}
		shown := fmt.Sprint(got[:len(got)/2]) // of two pages alike
		if len(errs) > 0 {
			shown = errs[0].Error()
		}
		if len(errs) > 1 || !strings.Contains(shown, test.want) || strings.Contains(shown, "hunter2") {
			t.Errorf("%q: %s, %d errors", test.body, shown, len(errs))
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
	for n, err := range ovhauth.Elements[int](ovhauth.Pages(client, newRequest(t, "GET", "/v2/slow", nil).WithContext(ctx))) {
		if err != nil {
			t.Fatal(err)
		}
		if n == 1 {
			close(got)
		}
	}
}

// A list below /v2, page by page.
func ExamplePages() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	server.Handle("GET /v2/iam/policy", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Pagination-Cursor") == "" {
			w.Header().Set("X-Pagination-Cursor-Next", "more")
			io.WriteString(w, `[{"name":"read"}]`)
			return
		}
		io.WriteString(w, `[{"name":"write"}]`)
	}))

	req, _ := http.NewRequest("GET", "/v2/iam/policy", nil)
	req.Header.Set("X-Pagination-Size", "1")
	for resp, err := range ovhauth.Pages(server.Client(), req) {
		if err != nil {
			fmt.Println(err)
			return
		}
		body, _ := io.ReadAll(resp.Body)
		fmt.Println(string(body))
	}
	// Output:
	// [{"name":"read"}]
	// [{"name":"write"}]
}

// A list below /v1 as full objects, a page at a time, rather than as IDs to be asked for one by one.
func ExampleElements() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	server.Handle("GET /domain", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Pagination-Elements", "3")
		io.WriteString(w, map[string]string{"1": `[{"name":"a.ovh"},{"name":"b.ovh"}]`, "2": `[{"name":"c.ovh"}]`}[r.Header.Get("X-Pagination-Number")])
	}))

	req, _ := http.NewRequest("GET", "/domain", nil)
	req.Header.Set("X-Pagination-Mode", "CachedObjectList-Pages")
	req.Header.Set("X-Pagination-Size", "2")
	type domain struct{ Name string }
	for d, err := range ovhauth.Elements[domain](ovhauth.Pages(server.Client(), req)) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Name)
	}
	// Output:
	// a.ovh
	// b.ovh
	// c.ovh
}

func TestPagesWithoutURL(t *testing.T) {
	for _, err := range ovhauth.Pages(http.DefaultClient, &http.Request{}) {
		if err == nil || !strings.Contains(err.Error(), "no URL") {
			t.Error(err)
		}
	}
}
