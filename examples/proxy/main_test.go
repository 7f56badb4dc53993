package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// front is a proxy for an API, with its log.
type front struct {
	api *ovhtest.Server
	url string
	log *lines
}

func start(t *testing.T) front {
	f := front{api: ovhtest.NewServer(), log: new(lines)}
	t.Cleanup(f.api.Close)
	signer := &ovhauth.Transport{Endpoint: f.api.Endpoint(), Credentials: f.api.Credentials(), Base: noting{f.api.Transport()}}
	f.url = serveFront(t, &ovhauth.RetryTransport{Base: signer, MinWait: time.Millisecond}, f.log)
	return f
}

func serveFront(t *testing.T, transport http.RoundTripper, out io.Writer) (url string) {
	logger := log.New(out, "", 0)
	server := httptest.NewServer(guard(false, nil, proxy(transport, logger), logger))
	t.Cleanup(server.Close)
	return server.URL
}

func call(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func TestSignsWhatPassesThrough(t *testing.T) {
	f := start(t)
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	f.api.Handle("POST /ip/{block}", echo)
	f.api.Handle("POST /v2/iam/policy", echo)
	for _, target := range []string{"/ip/1.2.3.4%2F29?b=1&a=%zz;x", "/v2/iam/policy"} {
		req := request(t, "POST", f.url+target, `{"é":1}`)
		for name, value := range map[string]string{
			"Authorization": "Bearer stolen", "X-Ovh-Application": "stale", "X-Ovh-Signature": "stale", "X-Ovh-Session": "stale",
			"Cookie": "other=port", "Connection": "X-Hop", "X-Hop": "1", "X-Forwarded-For": "10.0.0.1", "X-Ovh-Batch": ",", "X-Pagination-Size": "2",
		} {
			req.Header.Set(name, value)
		}
		f.api.Forget()
		if resp, body := call(t, req); resp.StatusCode != 200 || body != `{"é":1}` {
			t.Fatalf("%s: %s %s, want 200 and what was sent", target, resp.Status, body)
		}
		x := f.api.Exchanges()[0]
		if !x.Verified || !strings.HasSuffix(x.URL, target) || x.Header.Get("X-Ovh-Batch") != "," || x.Header.Get("X-Pagination-Size") != "2" {
			t.Errorf("%s arrived as %s, %v; want it signed as it was sent", target, x.URL, x)
		}
		for _, name := range []string{"Authorization", "Cookie", "X-Ovh-Session", "X-Hop", "X-Forwarded-For"} {
			if got := x.Header.Get(name); got != "" {
				t.Errorf("%s: %s was passed on", name, got)
			}
		}
	}
}

// A client may keep the version in its endpoint, or leave it out.
func TestEndpointsOfClients(t *testing.T) {
	f := start(t)
	f.api.Handle("GET /v2/iam/policy", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "[]") }))
	for _, test := range []struct{ target, arrives string }{
		{"/me", "/1.0/me"},
		{"/1.0/me", "/1.0/me"},
		{"/v1/me", "/v1/me"},
		{"/v2/iam/policy", "/v2/iam/policy"},
		{"/1.0/auth/time", "/1.0/auth/time"},
		{"/auth/time", "/1.0/auth/time"},
	} {
		f.api.Forget()
		resp, body := call(t, request(t, "GET", f.url+test.target, ""))
		x := f.api.Exchanges()[0]
		if got, _ := url.Parse(x.URL); resp.StatusCode != 200 || got.Path != test.arrives {
			t.Errorf("%s: %s %s, arrived as %s; want 200 for %s", test.target, resp.Status, body, x.URL, test.arrives)
		}
	}
}

func TestRedirectsLeadBack(t *testing.T) {
	f := start(t)
	var location string
	f.api.Handle("GET /old", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if location != "" {
			w.Header().Set("Location", location)
		}
		w.WriteHeader(http.StatusFound)
	}))
	secure := "https" + strings.TrimPrefix(string(f.api.Endpoint()), "http") + "/me" // another origin
	for _, test := range []struct{ given, want string }{
		{string(f.api.Endpoint()) + "/me?a=b#c", "/1.0/me?a=b#c"},
		{"/1.0/me", "/1.0/me"},
		{"me", "/1.0/me"},
		{"https://example.com/1.0/me", "https://example.com/1.0/me"},
		{secure, secure},
		{"", ""},
	} {
		location = test.given
		if resp, _ := call(t, request(t, "GET", f.url+"/old", "")); resp.StatusCode != 302 || resp.Header.Get("Location") != test.want {
			t.Errorf("Location %q became %q (%s), want %q", test.given, resp.Header.Get("Location"), resp.Status, test.want)
		}
	}
}

// What a client sends without authentication stays so, by the proxy's application key.
func TestUnauthenticatedCallsStaySo(t *testing.T) {
	f := start(t)
	f.api.HandleGuest("POST /order/cart", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{}`) }))
	for _, test := range []struct {
		name     string
		header   map[string]string
		verified bool
	}{
		{"an application key alone", map[string]string{"X-Ovh-Application": "dummy"}, false},
		{"nothing", nil, true}, // curl has no keys of its own
		{"dummy keys", map[string]string{"X-Ovh-Application": "dummy", "X-Ovh-Consumer": "dummy", "X-Ovh-Signature": "$1$0", "X-Ovh-Timestamp": "1"}, true},
		{"a dummy token", map[string]string{"X-Ovh-Application": "dummy", "Authorization": "Bearer proxy"}, true},
	} {
		f.api.Forget()
		req := request(t, "POST", f.url+"/1.0/order/cart", "{}")
		for name, value := range test.header {
			req.Header.Set(name, value)
		}
		resp, body := call(t, req)
		x := f.api.Exchanges()[0]
		if resp.StatusCode != 200 || x.Verified != test.verified || x.Header.Get("X-Ovh-Application") != f.api.Credentials().ApplicationKey {
			t.Errorf("%s: %s %s, recorded %s of application %q; want 200, verified %t, by the proxy's application",
				test.name, resp.Status, body, x, x.Header.Get("X-Ovh-Application"), test.verified)
		}
	}
}

// OAuth2 clients ask for a token first, where they ask for everything else.
func TestDummyToken(t *testing.T) {
	f := start(t)
	for _, path := range []string{"/auth/oauth2/token", "/oauth2/token"} {
		resp, body := call(t, request(t, "POST", f.url+path, "grant_type=client_credentials&scope=all"))
		var token struct {
			AccessToken string `json:"access_token"`
			TokenType   string `json:"token_type"`
			ExpiresIn   int    `json:"expires_in"`
		}
		err := json.Unmarshal([]byte(body), &token)
		if resp.StatusCode != 200 || err != nil || token.AccessToken == "" || token.TokenType != "Bearer" || token.ExpiresIn <= 0 || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s %s, want a token", path, resp.Status, body)
		}
	}
	if n := len(f.api.Exchanges()); n != 0 {
		t.Errorf("%d requests went to the API, want 0", n)
	}
	// The account is one of this package, which asks the proxy for its token and then sends it to the proxy.
	endpoint := ovhauth.Endpoint(f.url + "/1.0")
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: endpoint, Credentials: ovhauth.ServiceAccount(endpoint, "dummy", "dummy")}}
	resp, err := client.Get("/me")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if x := f.api.Exchanges(); resp.StatusCode != 200 || len(x) != 1 || !x[0].Verified {
		t.Errorf("%s, %v; want one request, signed by the proxy", resp.Status, x)
	}
}

// A web page has no way in: not by its own name for this machine, nor by a request to another site's.
func TestRejectsWebPages(t *testing.T) {
	f := start(t)
	for _, test := range []struct {
		host, header, value string
		want                int
	}{
		{"", "", "", 200},
		{"localhost", "", "", 200},
		{"LOCALHOST:8080", "", "", 200},
		{"localhost:8080", "Sec-Fetch-Site", "none", 200},
		{"[::1]:8080", "", "", 200},
		{"127.0.0.2", "", "", 200},
		{"evil.example:8080", "", "", 421},
		{"localhost.evil.example", "", "", 421},
		{"localhost.", "", "", 421},
		{"192.168.1.2:8080", "", "", 421},
		{"", "Origin", "https://evil.example", 403},
		{"", "Origin", "null", 403},
		{"", "Origin", "", 403},
		{"", "Origin", "http://localhost:8080", 403},
		{"", "Sec-Fetch-Site", "cross-site", 403},
		{"", "Sec-Fetch-Site", "same-site", 403},
	} {
		for _, path := range []string{"/me", "/auth/oauth2/token"} {
			method := map[bool]string{true: "POST", false: "GET"}[strings.HasSuffix(path, "token")]
			f.api.Forget()
			req := request(t, method, f.url+path, "")
			req.Host = test.host
			if test.header != "" {
				req.Header[test.header] = []string{test.value}
			}
			resp, body := call(t, req)
			if resp.StatusCode != test.want || test.want != 200 && len(f.api.Exchanges()) != 0 {
				t.Errorf("%s of Host %q, %s %q: %s %s, %d sent; want %d", path, test.host, test.header, test.value, resp.Status, body, len(f.api.Exchanges()), test.want)
			}
		}
	}
	for host, want := range map[string]bool{"192.168.1.2:80": true, "Gateway.example": true, "evil.example": false, "": false} {
		if isOwnHost(host, true, []string{"gateway.example"}) != want {
			t.Errorf("exposed as gateway.example, Host %q: %v, want %v", host, !want, want)
		}
	}
}

// An event reaches the caller while the API is still writing the response.
func TestStreams(t *testing.T) {
	f := start(t)
	read := make(chan struct{})
	f.api.Handle("GET /stream", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "8") // a response without is flushed anyway
		io.WriteString(w, "one\n")
		w.(http.Flusher).Flush()
		select {
		case <-read:
			io.WriteString(w, "two\n")
		case <-r.Context().Done():
		}
	}))
	resp, err := http.DefaultClient.Do(request(t, "GET", f.url+"/stream", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stream := bufio.NewReader(resp.Body)
	if line, err := stream.ReadString('\n'); line != "one\n" || err != nil {
		t.Errorf("got %q, %v; want one", line, err)
	}
	close(read)
	if line, err := stream.ReadString('\n'); line != "two\n" || err != nil {
		t.Errorf("got %q, %v; want two", line, err)
	}
}

// failing is a transport that has an error.
type failing struct{ err error }

func (f failing) RoundTrip(*http.Request) (*http.Response, error) { return nil, f.err }

type timeout struct{ error }

func (timeout) Timeout() bool   { return true }
func (timeout) Temporary() bool { return true }

// An error of the proxy reads like one of the API, and makes one line of the log. None speaks of Go.
func TestErrors(t *testing.T) {
	withoutKeys(t)
	for _, test := range []struct {
		name      string
		transport http.RoundTripper
		path      string
		status    int
		body      string
		log       string
	}{
		{"no keys", &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: ovhauth.EnvCredentials()}, "/me?hunter2", 401,
			`{"class":"Client::Unauthorized","message":"the proxy has no complete credentials; its log says what is missing"}`, "GET /me: 401: ovhauth: missing credentials: "},
		{"a long body", failing{ovhauth.ErrBodyTooLarge}, "/me", 413,
			`{"class":"Client::RequestEntityTooLarge","message":"the request body is larger than 32 MiB"}`, "GET /me: 413: the request body is larger than 32 MiB\n"},
		{"no time left", failing{fmt.Errorf("limiter: %w", context.DeadlineExceeded)}, "/me", 504,
			`{"class":"Server::GatewayTimeout","message":"the API did not respond in time"}`, "GET /me: 504: limiter: context deadline exceeded\n"},
		{"a timeout", failing{timeout{errors.New("dial tcp: i/o timeout")}}, "/me", 504,
			`{"class":"Server::GatewayTimeout","message":"the API did not respond in time"}`, "GET /me: 504: dial tcp: i/o timeout\n"},
		{"a client that leaves", failing{fmt.Errorf("x: %w", context.Canceled)}, "/me", 499,
			`{"class":"Client::ClientClosedRequest","message":"the client has left"}`, "GET /me: 499: the client has left\n"},
		{"no connection", failing{errors.New("dial tcp:\nno route")}, "/me", 502,
			`{"class":"Server::BadGateway","message":"the proxy could not get a response of the API; its log says why"}`, "GET /me: 502: dial tcp: no route\n"},
		{"two slashes", nil, "//evil.example/me", 400,
			`{"class":"Client::BadRequest","message":"the path must begin with one slash"}`, "GET //evil.example/me: 400: the path must begin with one slash\n"},
		{"a break in the path", failing{errors.New("x")}, "/a%0Ab", 502, `{"class":"Server::BadGateway","message":"the proxy could not get a response of the API; its log says why"}`, "GET /a%0Ab: 502: x\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := new(lines)
			resp, body := call(t, request(t, "GET", serveFront(t, test.transport, out)+test.path, ""))
			if resp.StatusCode != test.status || body != test.body+"\n" || resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("got %s of type %s: %s; want %d: %s", resp.Status, resp.Header.Get("Content-Type"), body, test.status, test.body)
			}
			if got := out.String(); !strings.HasPrefix(got, test.log) || strings.Count(got, "\n") != 1 || strings.Contains(got, "hunter2") {
				t.Errorf("logged %q, want one line: %s", got, test.log)
			}
		})
	}
}

// What was not executed is sent again; what may have been is sent again only if that is harmless.
func TestSendsAgain(t *testing.T) {
	f := start(t)
	f.api.Handle("/x", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	for _, test := range []struct {
		method string
		fault  ovhtest.Fault
		status int
		sent   int
	}{
		{"GET", ovhtest.Fault{Status: 503}, 200, 2},
		{"POST", ovhtest.Fault{Status: 503}, 503, 1},
		{"POST", ovhtest.Fault{Cut: ovhtest.CutAfterExecution}, 502, 1},
		{"PUT", ovhtest.Fault{Status: 503}, 200, 2},
		{"DELETE", ovhtest.Fault{Status: 503}, 200, 2},
		{"PUT", ovhtest.Fault{Cut: ovhtest.CutAfterExecution}, 200, 2},
		{"POST", ovhtest.Fault{Status: 429, Header: http.Header{"Retry-After": {"0"}}}, 200, 2},
	} {
		f.api.Forget()
		f.api.Inject(test.fault)
		body := `{"a":1}`
		if test.method == "GET" {
			body = ""
		}
		resp, got := call(t, request(t, test.method, f.url+"/x", body))
		if n := len(f.api.Exchanges()); resp.StatusCode != test.status || n != test.sent || test.status == 200 && got != body {
			t.Errorf("%s after %+v: %s %s, sent %d times; want %d, %d times", test.method, test.fault, resp.Status, got, n, test.status, test.sent)
		}
		f.api.Inject()
	}
}

func TestListensOnLoopback(t *testing.T) {
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0"} {
		if l, err := listen(address, false); err == nil || !strings.Contains(err.Error(), "-expose") {
			t.Errorf("%s: %v, %v; want an error that names -expose", address, l, err)
		}
	}
	for _, address := range []string{"localhost:0", "127.0.0.1:0"} {
		l, err := listen(address, false)
		if err != nil {
			t.Fatal(err)
		}
		if l.Close(); !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
			t.Errorf("%s became %s, want an address of loopback", address, l.Addr())
		}
	}
	l, err := listen("0.0.0.0:0", true)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := listen("x", false); err == nil {
		t.Error("no port: no error")
	}
}

func TestFlags(t *testing.T) {
	for _, test := range []struct {
		args, fail string
		want       options
	}{
		{"", "", options{address: "localhost:8080"}},
		{"-listen :80 -expose -host a -host b -tls", "", options{address: ":80", expose: true, hosts: []string{"a", "b"}, tls: true}},
		{"-listen gateway:80 -expose -host a", "", options{address: "gateway:80", expose: true, hosts: []string{"a", "gateway"}}},
		{"-tls-cert c -tls-key k", "", options{address: "localhost:8080", tlsCert: "c", tlsKey: "k"}},
		{"-tls-cert c", "-tls-cert and -tls-key together", options{}},
		{"-tls -tls-cert c -tls-key k", "-tls alone", options{}},
		{"-host gateway:80", "must be a name alone", options{}},
		{"-host http://gateway", "must be a name alone", options{}},
		{"-host=", "must be a name alone", options{}},
		{"-host 2001:db8::1", "", options{address: "localhost:8080", hosts: []string{"2001:db8::1"}}},
		{"x", `no arguments, but "x"`, options{}},
		{"-x", "not defined", options{}},
	} {
		got, err := parse(strings.Fields(test.args), io.Discard)
		if !reflect.DeepEqual(got, test.want) || (err == nil) != (test.fail == "") || err != nil && !strings.Contains(err.Error(), test.fail) {
			t.Errorf("%s: got %+v, %v; want %+v, %q", test.args, got, err, test.want, test.fail)
		}
	}
}

// A signal lets a request under way end.
func TestShutsDownCleanly(t *testing.T) {
	l, err := listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, l, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			interrupt()
			for { // until the port is closed
				conn, err := new(net.Dialer).DialContext(r.Context(), "tcp", l.Addr().String())
				if err != nil {
					break
				}
				conn.Close()
			}
			io.WriteString(w, "done")
		}), log.New(io.Discard, "", 0))
	}()
	if resp, body := call(t, request(t, "GET", "http://"+l.Addr().String(), "")); resp.StatusCode != 200 || body != "done" {
		t.Errorf("got %s %s, want 200 done", resp.Status, body)
	}
	if err := <-served; err != nil {
		t.Errorf("got %v, want no error", err)
	}
}

// A request that does not end is cut off after ten seconds, which is an error.
func TestShutdownDoesNotWaitForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		ctx, interrupt := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() {
			served <- serve(ctx, &oneConn{Conn: server, given: make(chan struct{})}, nil, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				interrupt()
				<-r.Context().Done()
			}), log.New(io.Discard, "", 0))
		}()
		began := time.Now()
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if err := <-served; !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 10*time.Second {
			t.Errorf("got %v after %s, want an error after ten seconds", err, time.Since(began))
		}
	})
}

// oneConn is a listener of one connection.
type oneConn struct {
	net.Conn
	given chan struct{}
	once  sync.Once
}

func (l *oneConn) Accept() (conn net.Conn, err error) {
	l.once.Do(func() { conn = l.Conn })
	if conn == nil {
		<-l.given
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *oneConn) Close() error   { close(l.given); return nil }
func (l *oneConn) Addr() net.Addr { return l.LocalAddr() }

// serveOne serves one connection in memory until the test ends.
func serveOne(t *testing.T, h http.Handler) (client net.Conn) {
	client, server := net.Pipe()
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, &oneConn{Conn: server, given: make(chan struct{})}, nil, h, log.New(io.Discard, "", 0))
	}()
	t.Cleanup(func() {
		client.Close()
		stop()
		<-served
	})
	return client
}

func TestTimeouts(t *testing.T) {
	consume := proxy(roundTripper(func(req *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, fmt.Errorf("reading the body: %w", err)
		}
		select { // for longer than any timeout: reading is over
		case <-time.After(time.Hour):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
		return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: req}, nil
	}), log.New(io.Discard, "", 0))
	for _, test := range []struct {
		name  string
		given []string // one every 25 s
		want  string   // the status line; "" for a connection that is closed
		took  time.Duration
	}{
		{"a header that does not end", []string{"GET / HTTP/1.1\r\n"}, "", 10 * time.Second},
		{"a body that stands still", []string{"PUT /me HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n", "ab"},
			"HTTP/1.1 408 Request Timeout", 25*time.Second + bodyTimeout},
		{"a slow body", []string{"PUT /me HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n", "ab", "c", "d"},
			"HTTP/1.1 200 OK", 75*time.Second + time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := serveOne(t, consume)
				began := time.Now()
				for i, part := range test.given {
					time.AfterFunc(time.Duration(i)*25*time.Second, func() { io.WriteString(client, part) })
				}
				line, _ := bufio.NewReader(client).ReadString('\n')
				if took := time.Since(began); strings.TrimSpace(line) != test.want || took != test.took {
					t.Errorf("got %q after %s, want %q after %s", line, took, test.want, test.took)
				}
			})
		})
	}
}

// What a client does wrong with a body is said to be its fault, and holds no connection: also where nobody reads the body, and also
// by a Transport that sees no more of it than that the context has ended.
func TestBodiesThatDoNotCome(t *testing.T) {
	for _, test := range []struct{ name, head, body, want string }{
		{"a body that stands still", "PUT /me HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4", "ab",
			"HTTP/1.1 408 Request Timeout the request body stood still for 30 seconds"},
		{"a malformed body", "PUT /me HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked", "x\r\n",
			"HTTP/1.1 400 Bad Request the request body is malformed"},
		{"for the token endpoint", "POST /auth/oauth2/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4", "ab", "HTTP/1.1 200 OK "},
		{"to another host", "POST /me HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 4", "ab",
			"HTTP/1.1 421 Misdirected Request this proxy goes by localhost, its address, and the names given by -host"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := ovhtest.NewPipeServer()
				defer api.Close()
				logger := log.New(io.Discard, "", 0)
				signer := &ovhauth.Transport{Endpoint: api.Endpoint(), Credentials: api.Credentials(), Base: noting{api.Transport()}}
				client := serveOne(t, guard(false, nil, proxy(&ovhauth.RetryTransport{Base: signer}, logger), logger))
				began := time.Now()
				io.WriteString(client, test.head+"\r\n\r\n"+test.body)
				r := bufio.NewReader(client)
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				var body struct{ Message string }
				if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
					t.Fatal(err)
				}
				if got := resp.Proto + " " + resp.Status + " " + body.Message; got != test.want || len(api.Exchanges()) != 0 {
					t.Errorf("got %q, and %d requests went to the API; want %q, and none", got, len(api.Exchanges()), test.want)
				}
				if rest, err := io.ReadAll(r); err != nil || time.Since(began) > bodyTimeout {
					t.Errorf("the connection ended after %s with %q, %v; want its end within %s", time.Since(began), rest, err, bodyTimeout)
				}
			})
		})
	}
}

// A request that fails otherwise is not said to stand still.
func TestBodiesThatDoNotStandStill(t *testing.T) {
	for name, read := range map[string]func(io.Reader){
		"an API that fails while the body comes": func(body io.Reader) {
			go io.ReadAll(body)
			time.Sleep(time.Second)
		},
		"an API that fails an hour after it": func(body io.Reader) {
			io.ReadFull(body, make([]byte, 2))
			time.Sleep(time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body, client := io.Pipe()
				defer client.Close()
				go io.WriteString(client, "ab")
				out := new(lines)
				proxy(roundTripper(func(req *http.Request) (*http.Response, error) {
					read(req.Body)
					return nil, errors.New("cut")
				}), log.New(out, "", 0)).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/me", body))
				if got, want := out.String(), "POST /me: 502: cut\n"; got != want {
					t.Errorf("logged %q, want %q", got, want)
				}
			})
		})
	}
}

// deadlines counts the deadlines that are set.
type deadlines struct {
	http.ResponseWriter
	set int
}

func (d *deadlines) SetReadDeadline(time.Time) error { d.set++; return nil }

func TestOnlyBodiesOfHTTP1AreLimited(t *testing.T) {
	for _, test := range []struct {
		name  string
		major int
		body  io.Reader
		want  int
	}{
		{"HTTP/1 with a body", 1, strings.NewReader("a"), 1},
		{"HTTP/1 without", 1, http.NoBody, 0},
		{"HTTP/2 with a body", 2, strings.NewReader("a"), 0},
	} {
		req := httptest.NewRequest("PUT", "/me", test.body)
		req.ProtoMajor = test.major
		w := &deadlines{ResponseWriter: httptest.NewRecorder()}
		limitRest(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, req)
		if w.set != test.want {
			t.Errorf("%s: %d deadlines set, want %d", test.name, w.set, test.want)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestIdleConnectionsAreClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := serveOne(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		began := time.Now()
		if _, err := io.ReadAll(client); err != nil || time.Since(began) != 2*time.Minute {
			t.Errorf("ended after %s with %v, want two minutes", time.Since(began), err)
		}
	})
}

// listening is how the program says where it is.
var listening = regexp.MustCompile(`curl (https?://[0-9.:]+)/me`)

// running is the program, as main runs it.
type running struct {
	out *lines
	url string
}

func runProxy(t *testing.T, args ...string) running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	out, ended := new(lines), make(chan error, 1)
	go func() {
		ended <- run(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), io.MultiWriter(out, writer), out)
		writer.Close()
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("run: %v, want no error", err)
		}
	})
	for scanner := bufio.NewScanner(reader); scanner.Scan(); {
		if m := listening.FindStringSubmatch(scanner.Text()); m != nil {
			go io.Copy(io.Discard, reader)
			return running{out, m[1]}
		}
	}
	t.Fatalf("it did not start: %s", out)
	return running{}
}

// withoutKeys lets a test see no keys but those that it sets.
func withoutKeys(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("HOME", t.TempDir())
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "OVH_") {
			t.Setenv(name, "")
		}
	}
}

// Without keys it says so, and runs against a server of its own.
func TestRunWithoutKeys(t *testing.T) {
	withoutKeys(t)
	p := runProxy(t)
	if !strings.Contains(p.out.String(), "There are no keys in the environment or in ovh.conf") {
		t.Errorf("said %s, want that there are no keys", p.out)
	}
	if resp, body := call(t, request(t, "GET", p.url+"/1.0/me", "")); resp.StatusCode != 200 || !strings.Contains(body, "Jeanne") {
		t.Errorf("got %s %s, want Jeanne", resp.Status, body)
	}
}

// What run puts together: it says nothing of missing keys, leads redirects back, and takes any address if it is exposed.
func TestRunWithKeys(t *testing.T) {
	withoutKeys(t)
	api := ovhtest.NewServer()
	defer api.Close()
	api.Handle("GET /old", http.RedirectHandler(string(api.Endpoint())+"/me", http.StatusFound))
	keys := api.Credentials()
	t.Setenv("OVH_ENDPOINT", string(api.Endpoint()))
	for _, test := range []struct {
		name string
		env  map[string]string
		want int
	}{
		{"three keys", map[string]string{"OVH_APPLICATION_KEY": keys.ApplicationKey, "OVH_APPLICATION_SECRET": keys.ApplicationSecret,
			"OVH_CONSUMER_KEY": keys.ConsumerKey}, 302},
		{"a token", map[string]string{"OVH_ACCESS_TOKEN": "unknown"}, 401},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			p := runProxy(t, "-expose")
			req := request(t, "GET", p.url+"/old", "")
			req.Host = "192.0.2.1"
			resp, body := call(t, req)
			if to := resp.Header.Get("Location"); resp.StatusCode != test.want || test.want == 302 && to != "/1.0/me" {
				t.Errorf("got %s to %q, %s; want %d to /1.0/me", resp.Status, to, body, test.want)
			}
			if strings.Contains(p.out.String(), "There is no consumer key") {
				t.Errorf("said %s, want nothing of a consumer key", p.out)
			}
		})
	}
}

func TestRunWithAnApplicationAlone(t *testing.T) {
	withoutKeys(t)
	t.Setenv("OVH_APPLICATION_KEY", "a")
	t.Setenv("OVH_APPLICATION_SECRET", "b")
	if p := runProxy(t); !strings.Contains(p.out.String(), "There is no consumer key") {
		t.Errorf("said %s, want that there is no consumer key", p.out)
	}
}

// The certificate that -tls makes can be trusted, for localhost and the names of -host.
func TestRunWithTLS(t *testing.T) {
	withoutKeys(t)
	var path string
	t.Cleanup(func() { // after that of runProxy
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("at the end the certificate is there (%v), want it removed", err)
		}
	})
	p := runProxy(t, "-tls", "-host", "gateway.example")
	m := regexp.MustCompile(`The certificate is in (\S+)\. `).FindStringSubmatch(p.out.String())
	if m == nil {
		t.Fatalf("said %s, want where the certificate is", p.out)
	}
	path = m[1]
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(content)
	address := strings.TrimPrefix(p.url, "https://")
	for _, host := range []string{address, "localhost", "gateway.example"} {
		base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}}
		resp, err := (&http.Client{Transport: base}).Get("https://" + host + "/me")
		if err != nil {
			t.Errorf("%s: %v, want 200", host, err)
			continue
		}
		resp.Body.Close()
		base.CloseIdleConnections()
		if resp.StatusCode != 200 {
			t.Errorf("%s: %s, want 200", host, resp.Status)
		}
	}
}

func TestRunWithACertificate(t *testing.T) {
	withoutKeys(t)
	c, err := selfSigned([]string{"localhost", "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := runProxy(t, "-tls-cert", certFile, "-tls-key", keyFile)
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer base.CloseIdleConnections()
	resp, err := (&http.Client{Transport: base}).Get(p.url + "/me")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || leaf.VerifyHostname("192.0.2.1") != nil || leaf.VerifyHostname("::1") != nil {
		t.Errorf("got %s by %v, want 200", resp.Status, leaf.IPAddresses)
	}
	if err := leaf.CheckSignatureFrom(leaf); err != nil {
		t.Errorf("as its own authority: %v, want no error", err)
	}
}

func TestRunReportsWhatIsWrong(t *testing.T) {
	withoutKeys(t)
	for _, args := range []string{"-listen 0.0.0.0:0", "-x", "-listen 127.0.0.1:0 -tls-cert /none -tls-key /none"} {
		if err := run(t.Context(), strings.Fields(args), io.Discard, io.Discard); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
	if err := run(t.Context(), []string{"-h"}, io.Discard, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v, want flag.ErrHelp", err)
	}
}

// program is set in the environment of this test, run as the program itself.
const program = "OVHAUTH_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(program) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Either signal lets a request under way end.
func TestSignals(t *testing.T) {
	withoutKeys(t)
	t.Setenv(program, "1")
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			api := ovhtest.NewServer()
			defer api.Close()
			keys := api.Credentials()
			t.Setenv("OVH_ENDPOINT", string(api.Endpoint()))
			t.Setenv("OVH_APPLICATION_KEY", keys.ApplicationKey)
			t.Setenv("OVH_APPLICATION_SECRET", keys.ApplicationSecret)
			t.Setenv("OVH_CONSUMER_KEY", keys.ConsumerKey)
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-listen", "127.0.0.1:0")
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var url string
			for scanner := bufio.NewScanner(out); url == "" && scanner.Scan(); {
				if m := listening.FindStringSubmatch(scanner.Text()); m != nil {
					url = m[1]
				}
			}
			api.Handle("GET /slow", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if err := cmd.Process.Signal(signal); err != nil {
					t.Error(err)
				}
				for { // until the port is closed
					conn, err := new(net.Dialer).DialContext(r.Context(), "tcp", strings.TrimPrefix(url, "http://"))
					if err != nil {
						break
					}
					conn.Close()
				}
				io.WriteString(w, "done")
			}))
			if resp, body := call(t, request(t, "GET", url+"/slow", "")); resp.StatusCode != 200 || body != "done" {
				t.Errorf("got %s %s, want 200 done", resp.Status, body)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("the program ended with %v, want no error", err)
			}
		})
	}
}

func TestExitStatus(t *testing.T) {
	t.Setenv(program, "1")
	for flags, want := range map[string]int{"-h": 0, "-x": 1} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], flags)
		if cmd.Run(); cmd.ProcessState.ExitCode() != want {
			t.Errorf("%s: exit status %d, want %d", flags, cmd.ProcessState.ExitCode(), want)
		}
	}
}
