package ovhjson_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

// A Record is as much of one as a program needs.
type Record struct {
	ID        int64  `json:"id,omitempty"`
	FieldType string `json:"fieldType"`
	TTL       int    `json:"ttl"`
}

// zone is an API for tests with one record, in place of the real API.
func zone() *ovhtest.Server {
	server := ovhtest.NewServer()
	server.Handle("POST /domain/zone/example.ovh/record", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, strings.Replace(string(body), "{", `{"id":7,`, 1))
	}))
	server.Handle("PUT /domain/zone/example.ovh/record/7", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "null")
	}))
	server.Handle("DELETE /domain/zone/example.ovh/record/7", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNoContent)
	}))
	server.Handle("GET /domain/zone", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `["example.ovh","example.com"]`)
	}))
	return server
}

func ExampleGet() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: server.Credentials()}}

	me, err := ovhjson.Get[struct{ FirstName string }](context.Background(), client, "/me")
	fmt.Println(me.FirstName, err)
	// Output: Jeanne <nil>
}

// Without a type of its own, a response is a map.
func ExampleGet_map() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()

	me, err := ovhjson.Get[map[string]any](context.Background(), server.Client(), "/me")
	fmt.Println(me["firstname"], err)
	// Output: Jeanne <nil>
}

func ExamplePost() {
	server := zone()
	defer server.Close()

	record, err := ovhjson.Post[Record](context.Background(), server.Client(), "/domain/zone/example.ovh/record", Record{FieldType: "TXT", TTL: 60})
	fmt.Printf("%+v %v\n", record, err)
	// Output: {ID:7 FieldType:TXT TTL:60} <nil>
}

// The response is of no interest, so its type is any.
func ExamplePut() {
	server := zone()
	defer server.Close()

	_, err := ovhjson.Put[any](context.Background(), server.Client(), "/domain/zone/example.ovh/record/7", map[string]any{"ttl": 3600})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleDelete() {
	server := zone()
	defer server.Close()

	_, err := ovhjson.Delete[any](context.Background(), server.Client(), "/domain/zone/example.ovh/record/7")
	fmt.Println(err)
	_, err = ovhjson.Delete[any](context.Background(), server.Client(), "/domain/zone/example.ovh/record/8")
	if e, ok := errors.AsType[*ovhauth.APIError](err); ok {
		fmt.Println(e.StatusCode, e.Message)
	}
	// Output:
	// <nil>
	// 404 Got an invalid (or empty) URL
}

func ExampleList() {
	server := zone()
	defer server.Close()

	for name, err := range ovhjson.List[string](context.Background(), server.Client(), "/domain/zone") {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(name)
	}
	// Output:
	// example.ovh
	// example.com
}

// A request with a header of its own.
func ExampleNewRequest() {
	server := zone()
	defer server.Close()

	req, err := ovhjson.NewRequest(context.Background(), "POST", "/domain/zone/example.ovh/record", Record{FieldType: "A", TTL: 60})
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("Idempotency-Key", "1") // a RetryTransport may send it more than once
	record, err := ovhjson.Decode[Record](server.Client().Do(req))
	fmt.Println(record.ID, err)
	// Output: 7 <nil>
}

func ExampleDecode() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()

	me, err := ovhjson.Decode[struct{ FirstName string }](server.Client().Get("/me"))
	fmt.Println(me.FirstName, err)
	// Output: Jeanne <nil>
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
	for resp, err := range ovhjson.Pages(server.Client(), req) {
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
	for d, err := range ovhjson.Elements[domain](ovhjson.Pages(server.Client(), req)) {
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
