package ovhtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth/ovhtest"
)

func TestStatusFault(t *testing.T) {
	s := newServer(t)
	for _, test := range []struct {
		fault       ovhtest.Fault
		contentType string
	}{
		{ovhtest.Fault{Status: 503}, ""},
		{ovhtest.Fault{Status: 408, Body: "<html><body><h1>408 Request Time-out</h1>"}, "text/html; charset=utf-8"},
		{ovhtest.Fault{Status: 429, Body: `{"message":"x"}`, Header: http.Header{"Retry-After": {"3"}}},
			"application/json; charset=utf-8"},
		{ovhtest.Fault{Status: 500, Body: `{}`, Header: http.Header{"Content-Type": {"text/x"}, "Date": nil}}, "text/x"},
	} {
		s.Forget()
		s.Inject(test.fault)
		resp, body := send(t, signed(t, s, s.Credentials(), "PUT", "/1.0/me", `{"name":"x"}`))
		contentType := resp.Header.Get("Content-Type")
		if resp.StatusCode != test.fault.Status || body != test.fault.Body || contentType != test.contentType {
			t.Errorf("got %s %s of type %q, want %+v", resp.Status, body, contentType, test.fault)
		}
		if got, want := resp.Header.Get("Retry-After"), test.fault.Header.Get("Retry-After"); got != want {
			t.Errorf("Retry-After %q, want %q", got, want)
		}
		if _, without := test.fault.Header["Date"]; without != (resp.Header.Get("Date") == "") {
			t.Errorf("Date %q, want a date unless the fault removes it", resp.Header.Get("Date"))
		}
		got := s.Exchanges()[0]
		if !got.Verified || got.Executed || got.Status != test.fault.Status || string(got.Body) != `{"name":"x"}` {
			t.Errorf("recorded %v with %q, want it verified and not executed, with its body", got, got.Body)
		}
	}
	if got := call(t, s, "GET", "/1.0/me", ""); !strings.Contains(got, "Dupont") {
		t.Errorf("a faulty PUT was executed: %s, want the name of before", got)
	}
}

func TestInject(t *testing.T) {
	s := newServer(t)
	status := func(method, target string) int {
		t.Helper()
		resp, _ := send(t, signed(t, s, s.Credentials(), method, target, ""))
		return resp.StatusCode
	}
	wants := func(method, target string, want ...int) {
		t.Helper()
		for i, want := range want {
			if got := status(method, target); got != want {
				t.Errorf("%s %s, time %d: got %d, want %d", method, target, i, got, want)
			}
		}
	}
	s.Inject(
		ovhtest.Fault{Method: "GET", Path: "/me/api/*", Times: 2, Status: 500},
		ovhtest.Fault{Path: "/me/api/application", Status: 502},
		ovhtest.Fault{Method: "PUT", Times: -1, Status: 503},
	)
	wants("GET", "/1.0/me", 200)
	wants("GET", "/1.0/me/api/credential?status=validated", 500)
	wants("GET", "/v1/me/api/application", 500, 502, 200)
	wants("PUT", "/1.0/me", 503, 503, 503)
	wants("PUT", "/1.0/nothing", 503)
	if resp, _ := send(t, plain(t, s, "PUT", "/1.0/me", "")); resp.StatusCode != 503 {
		t.Errorf("unsigned: %s: the door came first, want 503", resp.Status)
	}
	s.Inject()
	wants("PUT", "/1.0/me", 400)

	var asked atomic.Int32
	s.Inject(ovhtest.Fault{Status: 500})
	s.InjectFunc(func(r *http.Request) *ovhtest.Fault {
		asked.Add(1)
		if r.Header.Get("X-Ovh-Application") == "" {
			return &ovhtest.Fault{Method: "none", Status: 504}
		}
		return nil
	})
	if resp, _ := send(t, plain(t, s, "GET", "/1.0/me", "")); resp.StatusCode != 504 {
		t.Errorf("got %s, want 504", resp.Status)
	}
	wants("GET", "/1.0/me", 500, 200)
	s.InjectFunc(nil)
	wants("GET", "/1.0/me", 200)
	if got := asked.Load(); got != 3 {
		t.Errorf("asked %d times, want three times", got)
	}
}

func TestCut(t *testing.T) {
	for _, test := range []struct {
		name     string
		cut      ovhtest.Cut
		status   int // of the fault
		request  string
		executed bool
		verified bool
		gets     int // the status that the client gets before the cut, 0 for none
	}{
		{"before", ovhtest.CutBeforeRequest, 500, "signed POST", false, false, 0},
		{"after", ovhtest.CutAfterExecution, 0, "signed POST", true, true, 0},
		{"after, unsigned", ovhtest.CutAfterExecution, 0, "unsigned POST", false, false, 0},
		{"mid", ovhtest.CutMidAnswer, 0, "signed POST", true, true, 201},
		{"mid, unsigned", ovhtest.CutMidAnswer, 0, "unsigned POST", false, false, 401},
		{"mid, no body", ovhtest.CutMidAnswer, 0, "signed DELETE", true, true, 0},
		{"mid, HEAD", ovhtest.CutMidAnswer, 0, "signed HEAD", true, true, 0},
		{"mid of a status", ovhtest.CutMidAnswer, 502, "signed POST", false, true, 502},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t)
			var calls atomic.Int32
			s.Handle("/x", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				w.Header().Set("X-Test", "1")
				if r.Method == "DELETE" {
					w.WriteHeader(204)
					return
				}
				w.WriteHeader(201)
				io.WriteString(w, "0123456789")
			}))
			s.Inject(ovhtest.Fault{Cut: test.cut, Status: test.status, Body: "Bad gateway"})
			how, method, _ := strings.Cut(test.request, " ")
			req := plain(t, s, method, "/1.0/x", "")
			if how == "signed" {
				req = signed(t, s, s.Credentials(), method, "/1.0/x", "")
			}
			resp, err := client.Do(req)
			if (err == nil) != (test.gets != 0) {
				t.Fatalf("got %v, %v; want a response of status %d, or none for 0", resp, err, test.gets)
			}
			if err == nil {
				var body []byte
				body, err = io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != test.gets || int64(len(body)) != resp.ContentLength/2 || len(body) == 0 {
					t.Errorf("got %s, %q of %d bytes; want half of the body", resp.Status, body, resp.ContentLength)
				}
				if want := map[bool]string{true: "1"}[test.executed]; resp.Header.Get("X-Test") != want {
					t.Errorf("X-Test %q, want %q", resp.Header.Get("X-Test"), want)
				}
			}
			if !isCut(err) {
				t.Errorf("got error %v, want a lost connection", err)
			}
			got := s.Exchanges()[0]
			if got.Executed != test.executed || got.Verified != test.verified || got.Status != test.gets ||
				(calls.Load() == 1) != test.executed {
				t.Errorf("recorded %v, %d calls; want what the table says", got, calls.Load())
			}
		})
	}
}

// A body that never comes shows that CutBeforeRequest does not wait for one, nor asks for it by a 100 Continue.
func TestCutBeforeTheBody(t *testing.T) {
	s := newServer(t)
	s.Inject(ovhtest.Fault{Cut: ovhtest.CutBeforeRequest})
	conn := dial(t, s)
	fmt.Fprintf(conn, "POST /1.0/me HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
	got, err := io.ReadAll(conn)
	if len(got) > 0 || err != nil && !isCut(err) {
		t.Errorf("got %q, %v; want a lost connection and no byte", got, err)
	}
	if x := s.Exchanges()[0]; x.Body != nil || x.Status != 0 {
		t.Errorf("recorded %v with body %q, want neither body nor status", x, x.Body)
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ovhtest.NewPipeServer()
		defer s.Close()
		for _, cut := range []ovhtest.Cut{0, ovhtest.CutBeforeRequest} {
			s.Inject(ovhtest.Fault{Delay: time.Minute, Cut: cut})
			start := time.Now()
			resp, err := s.Client().Get("/me")
			if took := time.Since(start); took != time.Minute || (err == nil) != (cut == 0) {
				t.Errorf("cut %d: took %v: %v; want a minute, and an error if it is cut", cut, took, err)
			}
			if err == nil {
				resp.Body.Close()
			}
		}
	})
}

// A reset, not an orderly end of the connection.
func TestCutIsAReset(t *testing.T) {
	s := newServer(t)
	s.Inject(ovhtest.Fault{Cut: ovhtest.CutAfterExecution})
	conn := dial(t, s)
	fmt.Fprintf(conn, "GET /1.0/auth/time HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := io.ReadAll(conn); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want ECONNRESET", err)
	}
}

// The client leaves by closing its side of the connection, and waits for the server to close the other.
func TestDelayEndsWithItsClient(t *testing.T) {
	s := newServer(t)
	s.Inject(ovhtest.Fault{Delay: time.Hour})
	conn := dial(t, s)
	req := signed(t, s, s.Credentials(), "POST", "/1.0/auth/logout", "x")
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	conn.CloseWrite()
	if got, err := io.ReadAll(conn); len(got) > 0 || err != nil && !isCut(err) {
		t.Errorf("got %q, %v; want a lost connection and no byte", got, err)
	}
	if x := s.Exchanges()[0]; x.Executed {
		t.Errorf("recorded %v, want it not executed", x)
	}
}

// A client that leaves in the middle of its body has executed nothing.
func TestHalfARequest(t *testing.T) {
	s := newServer(t)
	conn := dial(t, s)
	fmt.Fprintf(conn, "POST /1.0/auth/logout HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")
	conn.CloseWrite()
	if _, err := http.ReadResponse(bufio.NewReader(conn), nil); !isCut(err) {
		t.Errorf("got %v, want a lost connection", err)
	}
	if x := s.Exchanges()[0]; x.Executed || x.Status != 0 {
		t.Errorf("recorded %v, want neither executed nor responded to", x)
	}
}

func dial(t *testing.T, s *ovhtest.Server) *net.TCPConn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", strings.TrimPrefix(root(s), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}
