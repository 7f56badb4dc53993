package compat

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go/http3"

	"example.com/ovhauth"
)

// Each way in which net/http, and what stands in for it, can carry a request.
func TestKindsOfConnections(t *testing.T) {
	listed(t, row{
		Client: "net/http over HTTP/1.1 and 2, h2c, a CONNECT proxy and a unix socket; quic-go's HTTP/3", Language: "Go",
		Wiring: "`Transport.Base`", BaseURL: "any", Keys: "none",
	})
	for _, test := range []struct {
		name, proto string
		serve       func(t *testing.T, h http.Handler) (url string, base http.RoundTripper)
	}{
		{"HTTP/1.1 over TLS", "HTTP/1.1", func(t *testing.T, h http.Handler) (string, http.RoundTripper) {
			server := tlsServer(t, h, false)
			return server.URL, server.Client().Transport
		}},
		{"HTTP/2", "HTTP/2.0", func(t *testing.T, h http.Handler) (string, http.RoundTripper) {
			server := tlsServer(t, h, true)
			return server.URL, server.Client().Transport
		}},
		{"h2c", "HTTP/2.0", func(t *testing.T, h http.Handler) (string, http.RoundTripper) {
			server := httptest.NewUnstartedServer(h)
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetUnencryptedHTTP2(true)
			server.Start()
			t.Cleanup(server.Close)
			return server.URL, &http.Transport{Protocols: server.Config.Protocols}
		}},
		{"HTTP/3", "HTTP/3.0", http3Server},
		{"CONNECT proxy", "HTTP/1.1", func(t *testing.T, h http.Handler) (string, http.RoundTripper) {
			server := tlsServer(t, h, false)
			base := server.Client().Transport.(*http.Transport)
			base.Proxy = http.ProxyURL(connectProxy(t))
			return server.URL, base
		}},
		{"unix socket", "HTTP/1.1", func(t *testing.T, h http.Handler) (string, http.RoundTripper) {
			path := filepath.Join(t.TempDir(), "api.sock")
			listener, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewUnstartedServer(h)
			server.Listener.Close()
			server.Listener = listener
			server.Start()
			t.Cleanup(server.Close)
			return "http://localhost", &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAPI(t)
			url, base := test.serve(t, a.front(t, test.proto))
			t.Cleanup(func() { base.(interface{ CloseIdleConnections() }).CloseIdleConnections() })
			signer := &ovhauth.Transport{Endpoint: ovhauth.Endpoint(url + "/1.0"), Credentials: a.Credentials(), Base: base}
			a.exerciseHTTP(t, &http.Client{Transport: &ovhauth.RetryTransport{Base: signer, MinWait: time.Millisecond}}, "")
		})
	}
}

// front stands before the API, as the load balancers of the real one do, and checks how requests come.
func (a *api) front(t *testing.T, proto string) http.Handler {
	target, err := url.Parse(string(a.Endpoint()))
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Transport: a.base,
		Rewrite: func(r *httputil.ProxyRequest) {
			if r.In.Proto != proto {
				t.Errorf("a request came by %s, want %s", r.In.Proto, proto)
			}
			r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host // Host stays what was signed
			if r.In.TLS != nil {
				r.Out.Header.Set("X-Forwarded-Proto", "https")
			}
		},
	}
}

func tlsServer(t *testing.T, h http.Handler, http2 bool) *httptest.Server {
	server := httptest.NewUnstartedServer(h)
	server.EnableHTTP2 = http2
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func http3Server(t *testing.T, h http.Handler) (string, http.RoundTripper) {
	certified := tlsServer(t, h, false) // for its certificate
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http3.Server{Handler: h, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: certified.TLS.Certificates})}
	done := make(chan error)
	go func() { done <- server.Serve(conn) }()
	roots := x509.NewCertPool()
	roots.AddCert(certified.Certificate())
	base := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(func() {
		base.Close()
		server.Close()
		<-done
		conn.Close()
	})
	return "https://" + conn.LocalAddr().String(), base
}

// connectProxy starts a proxy that knows CONNECT alone, and checks that nothing of a signature comes to its notice.
func connectProxy(t *testing.T) *url.URL {
	var tunnels atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			t.Errorf("the proxy was asked to %s", r.Method)
		}
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Ovh-") || name == "Authorization" {
				t.Errorf("the proxy was given %s", name)
			}
		}
		there, err := net.Dial("tcp", r.Host)
		if err != nil {
			t.Error(err)
			return
		}
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		tunnels.Add(1)
		io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		go func() {
			io.Copy(there, here)
			there.Close()
		}()
		io.Copy(here, there)
		here.Close()
	}))
	t.Cleanup(proxy.Close)
	t.Cleanup(func() {
		if tunnels.Load() == 0 {
			t.Error("the proxy was not asked")
		}
	})
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// What is more than a request and a response.
func TestKindsOfExchanges(t *testing.T) {
	listed(t, row{
		Client: "net/http with Expect: 100-continue, trailers and 101 upgrades", Language: "Go",
		Wiring: "`http.Client{Transport: transport}`", BaseURL: "none: `/me`", Keys: "none",
	}, row{
		Client: "websocket", Module: "github.com/coder/websocket", Language: "Go",
		Wiring: "`DialOptions.HTTPClient`", BaseURL: "absolute, with `ws` or `wss` as the scheme", Keys: "none",
	})
	for _, test := range []struct {
		name string
		once func(t *testing.T, client *http.Client, a *api) (status int)
	}{
		{"101 upgrade", func(t *testing.T, client *http.Client, _ *api) int {
			req := newRequest(t, "GET", "/echo", nil)
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "echo")
			resp := do(t, client, req)
			if resp.StatusCode != http.StatusSwitchingProtocols {
				return resp.StatusCode
			}
			conn, ok := resp.Body.(io.ReadWriteCloser)
			if !ok {
				t.Fatalf("the body is a %T, want an io.ReadWriteCloser", resp.Body)
			}
			got := make([]byte, 4)
			if _, err := io.WriteString(conn, "ping"); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != "ping" {
				t.Fatalf("the other side said %q, %v; want ping", got, err)
			}
			return http.StatusOK
		}},
		{"Expect: 100-continue", func(t *testing.T, client *http.Client, _ *api) int {
			continued := false
			req := newRequest(t, "POST", recordPath, strings.NewReader(record))
			req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
				Got100Continue: func() { continued = true },
			}))
			req.Header.Set("Expect", "100-continue")
			status := do(t, client, req).StatusCode
			if !continued {
				t.Error("the body was sent unasked")
			}
			return status
		}},
		{"trailers", func(t *testing.T, client *http.Client, _ *api) int {
			req := newRequest(t, "POST", "/trailers", io.MultiReader(strings.NewReader(record))) // of unknown length
			req.Trailer = http.Header{"Checksum": {"of the request"}}
			resp := do(t, client, req)
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if got := resp.Trailer.Get("Checksum"); resp.StatusCode == http.StatusOK && (got != "of the request" || string(body) != record) {
				t.Errorf("body %q, trailer %q; want those of the request", body, got)
			}
			return resp.StatusCode
		}},
		{"websocket", func(t *testing.T, client *http.Client, a *api) int {
			// A websocket's URL is absolute: its scheme is what the library looks at.
			conn, resp, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(string(a.Endpoint()), "http")+"/socket",
				&websocket.DialOptions{HTTPClient: client})
			if err != nil {
				t.Fatalf("dial: %v, %v", err, resp)
			}
			defer conn.CloseNow()
			if err := conn.Write(t.Context(), websocket.MessageText, []byte("ping")); err != nil {
				t.Fatal(err)
			}
			if _, got, err := conn.Read(t.Context()); err != nil || string(got) != "ping" {
				t.Fatalf("the other side said %q, %v; want ping", got, err)
			}
			return http.StatusOK
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAPI(t)
			a.addKinds(t)
			a.base.ExpectContinueTimeout = time.Minute // without one, net/http sends the body unasked
			client, told, posts := &http.Client{Transport: a.retrying()}, map[int]int{}, 0
			for range rounds {
				told[test.once(t, client, a)]++
			}
			late := 0
			for _, x := range a.Exchanges() {
				switch {
				case x.ErrorCode == "QUERY_TIME_OUT":
					late++
				case !x.Verified:
					t.Errorf("not signed well: %v", x)
				}
				if x.Method == http.MethodPost && x.Status == http.StatusServiceUnavailable {
					posts++
				}
			}
			if told[http.StatusOK] != rounds-posts || told[http.StatusServiceUnavailable] != posts {
				t.Errorf("statuses %v, want %d times 200, and 503 for each POST that the API sent it to, %d", told, rounds-posts, posts)
			}
			if late != 1 {
				t.Errorf("%d requests were sent with a wrong time, want 1", late)
			}
		})
	}
}

// addKinds adds the routes of TestKindsOfExchanges.
func (a *api) addKinds(t *testing.T) {
	a.Handle("GET /echo", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("hijack: %v", err)
			return
		}
		defer conn.Close()
		io.CopyN(conn, rw, 4)
	}))
	a.Handle("GET /socket", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Errorf("accept: %v", err)
			return
		}
		defer conn.CloseNow()
		kind, message, err := conn.Read(r.Context())
		if err != nil {
			t.Errorf("read: %v", err)
			return
		}
		conn.Write(r.Context(), kind, message)
	}))
	a.Handle("POST /trailers", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Checksum")
		io.Copy(w, r.Body)
		w.Header().Set("Checksum", r.Trailer.Get("Checksum"))
	}))
}

func newRequest(t *testing.T, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func do(t *testing.T, client *http.Client, req *http.Request) *http.Response {
	t.Helper()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}
