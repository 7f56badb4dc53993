package ovhtest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/ovhtest"
)

func TestSignatureOfTheseTests(t *testing.T) {
	c := ovhauth.Credentials{
		ApplicationSecret: "9ufkBmLaTQ9nz5yMUlg79taH0GNnzDjk",
		ConsumerKey:       "5mBuy6SUQcRw2ZUxg0cG68BoDKpED4KY",
	}
	got := signature(c, "POST", "https://eu.api.ovh.com/1.0/auth", `{"a":"b","c":"d"}`, "1457018875")
	if want := "$1$ec2fb5c7a81f64723c77d2e5b609ae6f58a84fc1"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestClient(t *testing.T) {
	s := newServer(t)
	resp, err := s.Client().Get(string(s.Endpoint()) + "/me")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || !s.Exchanges()[0].Verified {
		t.Errorf("got %s, %v; want 200, verified", resp.Status, s.Exchanges())
	}
}

func TestHandle(t *testing.T) {
	s := newServer(t)
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %q %s", r.Method, r.RequestURI, r.PathValue("x"), body)
	})
	s.Handle("/echo/{x}", echo)
	s.Handle("GET /tree/{x...}", echo)
	s.Handle("GET /v2/echo/{x}", echo)
	s.Handle("GET /me", echo)
	for _, test := range []struct{ method, target, body, want string }{
		{"POST", "/1.0/echo/a", "body", `POST /1.0/echo/a "a" body`},
		{"PATCH", "/v1/echo/a", "", `PATCH /v1/echo/a "a" `},
		{"GET", "/1.0/echo/a/", "", `GET /1.0/echo/a/ "a" `},
		{"GET", "/1.0/echo/1.2.3.4%2F29?b=%3a&a=+", "", `GET /1.0/echo/1.2.3.4%2F29?b=%3a&a=+ "1.2.3.4/29" `},
		{"GET", "/1.0/echo/a%2F", "", `GET /1.0/echo/a%2F "a/" `},
		{"GET", "/1.0/echo/1.2.3.4%2F29/", "", `GET /1.0/echo/1.2.3.4%2F29/ "1.2.3.4/29" `},
		{"GET", "/1.0/tree/a/b/", "", `GET /1.0/tree/a/b/ "a/b/" `},
		{"GET", "/v2/echo/a", "", `GET /v2/echo/a "a" `},
		{"GET", "/v1/me", "", `GET /v1/me "" `}, // in place of the server's own
	} {
		if got := call(t, s, test.method, test.target, test.body); got != test.want {
			t.Errorf("%s %s: got %s, want %s", test.method, test.target, got, test.want)
		}
	}
	for _, target := range []string{
		"/echo/a", "/1.0/v2/echo/a", "/1.0//echo/a", "/1.0/echo/../echo/a", "/1.0/nothing/", "/1.0/me%2F",
	} {
		if resp, _ := send(t, signed(t, s, s.Credentials(), "GET", target, "")); resp.StatusCode != 404 {
			t.Errorf("GET %s: %s, want 404", target, resp.Status)
		}
	}
}

func TestHandlerStatus(t *testing.T) {
	s := newServer(t)
	s.Handle("GET /early", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusTeapot)
	}))
	s.Handle("GET /flushed", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		if got := s.Exchanges()[1].Status; got != 200 {
			t.Errorf("flushed: the exchange has status %d, want 200", got)
		}
	}))
	s.Handle("GET /written", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "{}")
		if got := s.Exchanges()[2].Status; got != 200 {
			t.Errorf("written: the exchange has status %d, want 200", got)
		}
	}))
	s.Handle("GET /silent", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Handle("GET /switched", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
	}))
	for i, want := range []int{http.StatusTeapot, 200, 200, 200, http.StatusSwitchingProtocols} {
		target := []string{"/1.0/early", "/1.0/flushed", "/1.0/written", "/1.0/silent", "/1.0/switched"}[i]
		resp, _ := send(t, signed(t, s, s.Credentials(), "GET", target, ""))
		if got := s.Exchanges()[i]; resp.StatusCode != want || got.Status != want || got.QueryID == "" {
			t.Errorf("%s: got %s, recorded %v with query ID %q, want %d", target, resp.Status, got, got.QueryID, want)
		}
	}
}

func TestClock(t *testing.T) {
	s := newServer(t)
	now := time.Date(2016, 3, 3, 15, 27, 55, 987, time.UTC)
	s.SetClock(func() time.Time { return now })
	resp, body := send(t, plain(t, s, "GET", "/1.0/auth/time", ""))
	if body != "1457018875" || resp.Header.Get("Date") != "Thu, 03 Mar 2016 15:27:55 GMT" {
		t.Errorf("got %s at %s, want 1457018875 at 15:27:55", body, resp.Header.Get("Date"))
	}
	k := s.NewKey()
	get := func() map[string]any {
		_, body := send(t, signedAt(t, s, k, now, "GET", "/1.0/auth/currentCredential", ""))
		return decode[map[string]any](t, body)
	}
	if got := get(); got["creation"] != "2016-03-03T15:27:55Z" {
		t.Errorf("created %v, want the server's time", got["creation"])
	}
	now = now.Add(time.Hour)
	if got := get(); got["lastUse"] != "2016-03-03T16:27:55Z" {
		t.Errorf("last used %v, want the server's time", got["lastUse"])
	}
	s.SetClock(nil)
	resp, _ = send(t, plain(t, s, "GET", "/1.0/auth/time", ""))
	if date, err := http.ParseTime(resp.Header.Get("Date")); err != nil || time.Since(date).Abs() > time.Minute {
		t.Errorf("a nil clock says %v, %v; want the time of now", date, err)
	}
}

func TestClose(t *testing.T) {
	s := ovhtest.NewServer()
	hanging := make(chan struct{})
	s.Handle("GET /hang", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(hanging)
		<-r.Context().Done()
	}))
	delayed := make(chan struct{})
	s.InjectFunc(func(r *http.Request) *ovhtest.Fault {
		f := map[string]*ovhtest.Fault{
			"/1.0/read":   {Delay: time.Hour},
			"/1.0/unread": {Delay: time.Hour, Cut: ovhtest.CutBeforeRequest},
		}[r.URL.Path]
		if f != nil {
			delayed <- struct{}{}
		}
		return f
	})
	errs := make(chan error)
	for _, target := range []string{"/1.0/hang", "/1.0/read", "/1.0/unread"} {
		req := signed(t, s, s.Credentials(), "GET", target, "body").WithContext(context.Background())
		go func() {
			_, err := client.Do(req)
			errs <- err
		}()
	}
	<-hanging
	<-delayed
	<-delayed
	s.Close()
	s.Close()
	for range 3 {
		if err := <-errs; err == nil {
			t.Error("a hanging request got a response, want a lost connection")
		}
	}
	// A handler has returned when Close does; the goroutine of its connection may have a few instructions left.
	var stacks strings.Builder
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		stacks.Reset()
		pprof.Lookup("goroutine").WriteTo(&stacks, 2)
		if !strings.Contains(stacks.String(), "ovhtest.(*Server)") && !strings.Contains(stacks.String(), "http.(*conn)") {
			return
		}
	}
	t.Errorf("goroutines left:\n%s, want none", stacks.String())
}

// What needs no signature stays open, whatever a catch-all would take.
func TestHandleLeavesTheOpenRoutes(t *testing.T) {
	s := newServer(t)
	s.Handle("/{path...}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "mine") }))
	s.SetClock(func() time.Time { return time.Unix(1457018875, 0) })
	for target, want := range map[string]string{"/1.0/auth/time": "1457018875", "/v1/auth/time": "1457018875"} {
		resp, err := http.DefaultClient.Do(plain(t, s, "GET", target, ""))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != want {
			t.Errorf("%s: %s %s, want the time", target, resp.Status, body)
		}
	}
	resp, err := s.Client().Get("/me")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "mine" {
		t.Errorf("/me: %s %s, want mine", resp.Status, body)
	}
}

// A client that takes the server for its proxy writes the whole URL into the request line.
func TestProxyForm(t *testing.T) {
	s := newServer(t)
	direct := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse(root(s)) }}
	defer direct.CloseIdleConnections()
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: s.Endpoint(), Credentials: s.NewKey(consumerkey.Rule{Method: "GET", Path: "/me"}), Base: direct}}
	resp, err := client.Get("/me?a=b")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if x := s.Exchanges(); resp.StatusCode != 200 || x[0].URL != string(s.Endpoint())+"/me?a=b" {
		t.Errorf("%s: %s, want 200, with its URL as it was sent", resp.Status, x[0])
	}
}

// The record is the server's: who reads it cannot change it.
func TestExchangesAreCopies(t *testing.T) {
	s := newServer(t)
	req := plain(t, s, "GET", "/1.0/auth/time", "body")
	req.Header.Set("X-Mine", "a")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	x := s.Exchanges()[0]
	x.Header.Set("X-Mine", "b")
	x.Body[0] = 'B'
	if again := s.Exchanges()[0]; again.Header.Get("X-Mine") != "a" || string(again.Body) != "body" {
		t.Errorf("the record became %q %q, want what was recorded", again.Header.Get("X-Mine"), again.Body)
	}
}
