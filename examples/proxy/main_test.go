package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// start runs a proxy for a server, on loopback.
func start(t *testing.T) (*ovhtest.Server, string) {
	api := ovhtest.NewServer()
	t.Cleanup(api.Close)
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	signer := &ovhauth.Transport{Endpoint: api.Endpoint(), Credentials: api.Credentials(), Base: base}
	front := httptest.NewServer(guard("localhost", false, proxy(&ovhauth.RetryTransport{Base: signer})))
	t.Cleanup(front.Close)
	return api, front.URL
}

func call(t *testing.T, req *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
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
	api, url := start(t)
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	api.Handle("POST /ip/{block}", echo)
	api.Handle("POST /v2/iam/policy", echo)
	for _, target := range []string{"/ip/1.2.3.4%2F29?b=1&a=%zz;x", "/v2/iam/policy"} {
		req := request(t, "POST", url+target, `{"é":1}`)
		for name, value := range map[string]string{
			"Authorization": "Bearer stolen", "X-Ovh-Application": "stale", "X-Ovh-Signature": "stale", "X-Ovh-Session": "stale",
			"Cookie": "other=port", "Connection": "X-Hop", "X-Hop": "1", "X-Forwarded-For": "10.0.0.1", "X-Ovh-Batch": ",", "X-Pagination-Size": "2",
		} {
			req.Header.Set(name, value)
		}
		api.Forget()
		if status, body := call(t, req); status != 200 || body != `{"é":1}` {
			t.Fatalf("%s: %d %s", target, status, body)
		}
		x := api.Exchanges()[0]
		if !x.Verified || !strings.HasSuffix(x.URL, target) || x.Header.Get("X-Ovh-Batch") != "," || x.Header.Get("X-Pagination-Size") != "2" {
			t.Errorf("%s arrived as %s, %v", target, x.URL, x)
		}
		for _, name := range []string{"Authorization", "Cookie", "X-Ovh-Session", "X-Hop", "X-Forwarded-For"} {
			if got := x.Header.Get(name); got != "" {
				t.Errorf("%s: %s was passed on", name, got)
			}
		}
	}
}

// A web page has no way in: not by its own name for this machine, nor by a request to another site's.
func TestRefusesWebPages(t *testing.T) {
	api, url := start(t)
	for _, test := range []struct {
		host, header, value string
		want                int
	}{
		{"", "", "", 200},
		{"localhost", "", "", 200},
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
		api.Forget()
		req := request(t, "GET", url+"/me", "")
		req.Host = test.host
		if test.header != "" {
			req.Header[test.header] = []string{test.value}
		}
		status, body := call(t, req)
		if status != test.want || (len(api.Exchanges()) == 0) == (test.want == 200) {
			t.Errorf("Host %q, %s %q: %d %s; %d sent", test.host, test.header, test.value, status, body, len(api.Exchanges()))
		}
	}
	for host, want := range map[string]bool{"192.168.1.2:80": true, "Gateway.example": true, "evil.example": false, "": false} {
		if isOwnHost(host, "gateway.example", true) != want {
			t.Errorf("exposed as gateway.example, Host %q: %v", host, !want)
		}
	}
}

// An event reaches the caller while the API is still writing the answer.
func TestStreams(t *testing.T) {
	api, url := start(t)
	read := make(chan struct{})
	api.Handle("GET /stream", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "8") // an answer without is flushed anyway
		io.WriteString(w, "one\n")
		w.(http.Flusher).Flush()
		select {
		case <-read:
			io.WriteString(w, "two\n")
		case <-r.Context().Done():
		}
	}))
	resp, err := http.DefaultClient.Do(request(t, "GET", url+"/stream", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); line != "one\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
	close(read)
	if line, err := lines.ReadString('\n'); line != "two\n" || err != nil {
		t.Errorf("%q, %v", line, err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	_, url := start(t)
	large := request(t, "POST", url+"/me", "")
	large.Body, large.ContentLength = io.NopCloser(io.LimitReader(zeros{}, 33<<20)), 33<<20
	if status, body := call(t, large); status != 413 || !strings.Contains(body, "ovhauth: ") {
		t.Errorf("%d %s", status, body)
	}
	none := httptest.NewServer(proxy(&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: ovhauth.Credentials{}}))
	defer none.Close()
	if status, body := call(t, request(t, "GET", none.URL+"/me", "")); status != 502 || !strings.Contains(body, "consumer_key") {
		t.Errorf("%d %s", status, body)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestListensOnLoopback(t *testing.T) {
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0"} {
		if l, err := listen(address, false); err == nil || !strings.Contains(err.Error(), "-expose") {
			t.Errorf("%s: %v, %v", address, l, err)
		}
	}
	for _, address := range []string{"localhost:0", "127.0.0.1:0"} {
		l, err := listen(address, false)
		if err != nil {
			t.Fatal(err)
		}
		if l.Close(); !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
			t.Errorf("%s became %s", address, l.Addr())
		}
	}
	l, err := listen("0.0.0.0:0", true)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// Ctrl-C lets a request under way end.
func TestShutsDownCleanly(t *testing.T) {
	l, err := listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			interrupt()
			for { // until the port is closed
				conn, err := new(net.Dialer).DialContext(r.Context(), "tcp", l.Addr().String())
				if err != nil {
					break
				}
				conn.Close()
			}
			io.WriteString(w, "done")
		}))
	}()
	if status, body := call(t, request(t, "GET", "http://"+l.Addr().String(), "")); status != 200 || body != "done" {
		t.Errorf("%d %s", status, body)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// Without keys it runs against a server of its own, and stops when it is told to.
func TestRunWithoutKeys(t *testing.T) {
	for _, name := range []string{"OVH_ENDPOINT", "OVH_APPLICATION_KEY", "OVH_APPLICATION_SECRET", "OVH_CONSUMER_KEY"} {
		t.Setenv(name, "")
	}
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	if err := run(ctx, "127.0.0.1:0", false); err != nil {
		t.Error(err)
	}
	if err := run(ctx, "0.0.0.0:0", false); err == nil {
		t.Error("listens to everybody")
	}
}
