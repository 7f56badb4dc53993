package ovhtest_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

// keys makes n consumer keys in all, and returns the IDs of their credentials.
func keys(t *testing.T, s *ovhtest.Server, n int) []int64 {
	t.Helper()
	for range n - 1 {
		s.NewKey()
	}
	ids := decode[[]int64](t, call(t, s, "GET", "/1.0/me/api/credential", ""))
	if len(ids) != n {
		t.Fatalf("%d keys, want %d", len(ids), n)
	}
	return ids
}

// A client that follows the pages gets every object once, in the order of the IDs.
func TestPagesOfAList(t *testing.T) {
	s := newServer(t)
	want := keys(t, s, 5)
	for _, test := range []struct {
		mode, size string
		requests   int
	}{
		{"CachedObjectList-Pages", "2", 3},
		{"CachedObjectList-Pages", "5", 1},
		{"CachedObjectList-Pages", "", 1},
		{"CachedObjectList-Cursor", "2", 3},
		{"CachedObjectList-Cursor", "1", 5},
		{"CachedObjectList-Cursor", "", 1},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "/me/api/credential", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Pagination-Mode", test.mode)
		req.Header.Set("X-Pagination-Size", test.size)
		s.Forget()
		var got []int64
		for c, err := range ovhjson.Elements[consumerkey.Info](ovhjson.Pages(s.Client(), req)) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, c.ID)
		}
		if n := len(s.Exchanges()); !slices.Equal(got, want) || n != test.requests {
			t.Errorf("%s by %q: got %v in %d requests, want %v in %d", test.mode, test.size, got, n, want, test.requests)
		}
	}
}

func TestPageHeaders(t *testing.T) {
	s := newServer(t)
	ids := keys(t, s, 3)
	s.NewApplication()
	for _, test := range []struct {
		name, path, header string // pairs of a name after X-Pagination- and a value
		status             int
		ids                []int64
		want               string // in the same form as header; or the message of an error
	}{
		{"first page", "credential", "Mode CachedObjectList-Pages Size 2", 200, ids[:2], "Elements 4 Number 1 Size 2"},
		{"beyond the last page", "credential", "Mode CachedObjectList-Pages Size 65535 Number 65535", 200, nil, "Elements 4 Number 65535 Size 65535"},
		{"last cursor", "credential", "Mode CachedObjectList-Cursor Cursor 1 Size 2000", 200, ids[1:3], "Elements 4 Size 2000"},
		{"a cursor at the end", "credential", "Mode CachedObjectList-Cursor Cursor 4", 200, nil, "Elements 4 Size 5000"},
		{"applications", "application", "Mode CachedObjectList-Pages", 200, nil, "Elements 2 Number 1 Size 5000"},
		{"another mode", "credential", "Mode x", 400, nil, "Invalid X-Pagination-Mode"},
		{"no size", "credential", "Mode CachedObjectList-Pages Size 0", 400, nil, "Invalid X-Pagination-Size"},
		{"no number", "credential", "Mode CachedObjectList-Pages Number -1", 400, nil, "Invalid X-Pagination-Number"},
		{"no cursor", "credential", "Mode CachedObjectList-Cursor Cursor x", 400, nil, "Invalid X-Pagination-Cursor"},
		{"a cursor beyond the list", "credential", "Mode CachedObjectList-Cursor Cursor 9", 400, nil, "Invalid X-Pagination-Cursor"},
	} {
		req := signed(t, s, s.Credentials(), "GET", "/1.0/me/api/"+test.path, "")
		for pair := range slices.Chunk(strings.Fields(test.header), 2) {
			req.Header.Set("X-Pagination-"+pair[0], pair[1])
		}
		resp, body := send(t, req)
		if resp.StatusCode != test.status {
			t.Errorf("%s: got %s %s, want %d", test.name, resp.Status, body, test.status)
			continue
		}
		if test.status != 200 {
			if !strings.Contains(body, test.want) {
				t.Errorf("%s: got %s, want %q", test.name, body, test.want)
			}
			continue
		}
		var got []string
		for _, name := range []string{"Cursor-Next", "Elements", "Number", "Size"} {
			if v := resp.Header.Get("X-Pagination-" + name); v != "" {
				got = append(got, name, v)
			}
		}
		if s := strings.Join(got, " "); s != test.want {
			t.Errorf("%s: headers %s, want %s", test.name, s, test.want)
		}
		for _, id := range test.ids {
			if !strings.Contains(body, fmt.Sprintf(`"credentialId":%d,`, id)) {
				t.Errorf("%s: got %s, want credential %d in it", test.name, body, id)
			}
		}
	}
}

func TestBatch(t *testing.T) {
	s := newServer(t)
	ids := keys(t, s, 2)
	type item struct {
		Key   string
		Value *consumerkey.Info
		Error *string
	}
	get := func(separator, target string) (int, string) {
		req := signed(t, s, s.Credentials(), "GET", "/1.0/me/api/"+target, "")
		req.Header.Set("X-Ovh-Batch", separator)
		resp, body := send(t, req)
		return resp.StatusCode, body
	}
	for _, separator := range []string{",", ";"} {
		status, body := get(separator, fmt.Sprintf("credential/%d%s7%s%d", ids[1], separator, separator, ids[0]))
		got := decode[[]item](t, body)
		if status != 200 || len(got) != 3 || got[0].Value.ID != ids[1] || got[0].Error != nil || got[2].Value.ID != ids[0] || got[0].Key != fmt.Sprint(ids[1]) ||
			got[1].Key != "7" || got[1].Value != nil || *got[1].Error != "The requested object (credentialId = 7) does not exist" {
			t.Errorf("by %q: got %d %s, want two credentials, and an error between them", separator, status, body)
		}
	}
	if status, body := get(",", fmt.Sprintf("credential/%d,%d/application", ids[0], ids[1])); status != 200 || strings.Count(body, `"applicationKey"`) != 2 {
		t.Errorf("applications of credentials: got %d %s, want two", status, body)
	}
	if status, body := get("", fmt.Sprintf("credential/%d,%d", ids[0], ids[1])); status != 404 {
		t.Errorf("without the header: got %d %s, want 404", status, body)
	}
}
