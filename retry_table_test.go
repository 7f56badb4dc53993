package ovhauth_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/jarcoal/httpmock"
)

// A mishap is what happens to the first attempt of a request; the second one succeeds.
type mishap struct {
	https  bool
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	handle http.HandlerFunc
	base   func(*http.Transport) http.RoundTripper
	keys   ovhauth.CredentialProvider
	cancel context.CancelFunc // of the request's context
}

// outcome is a row of the table.
type outcome struct {
	name  string
	given func(*testing.T, *mishap)
}

func status(code int, body string) func(*testing.T, *mishap) {
	return func(_ *testing.T, m *mishap) {
		m.handle = func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere") // which nobody may follow
			w.WriteHeader(code)
			if r.Method != http.MethodHead {
				io.WriteString(w, body)
			}
		}
	}
}

// dialTo leads to addr, whatever the URL's host.
func dialTo(addr string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

var unsent = []outcome{
	{"DNS", func(_ *testing.T, m *mishap) {
		noServer := func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no server") }
		m.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			d := net.Dialer{Resolver: &net.Resolver{PreferGo: true, Dial: noServer}}
			return d.DialContext(ctx, network, "api.invalid.:443")
		}
	}},
	{"dial", func(t *testing.T, m *mishap) { m.dial = dialTo("127.0.0.1:0") }}, // where nobody can listen
	{"TLS handshake cut", func(t *testing.T, m *mishap) {
		m.https, m.dial = true, dialTo(listen(t, func(conn net.Conn) { conn.Close() }))
	}},
}

var busyNow = []outcome{{"403 busy", status(403, busy)}}

var doubtful = []outcome{
	{"connection reset", func(_ *testing.T, m *mishap) {
		m.handle = func(w http.ResponseWriter, _ *http.Request) { reset(w) }
	}},
	{"timeout", func(_ *testing.T, m *mishap) {
		m.handle = func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		m.base = func(tr *http.Transport) http.RoundTripper {
			tr = tr.Clone()
			tr.ResponseHeaderTimeout = 10 * time.Millisecond
			return tr
		}
	}},
	{"408", status(408, "<html><body><h1>408 Request Time-out</h1></body></html>")},
	{"500", status(500, "oops")},
	{"502", status(502, "<html>bad gateway</html>")},
	{"503", status(503, "")},
	{"504", status(504, "late")},
}

var never = []outcome{
	{"200", status(200, "fine")},
	{"204", status(204, "")},
	{"302", status(302, "")},
	{"307", status(307, "")},
	{"400", status(400, `{"message":"Invalid signature"}`)},
	{"401", status(401, `{"message":"You must login first"}`)},
	{"403", status(403, `{"class":"Client::Forbidden","message":"This call has not been granted"}`)},
	{"403 too long to be understood", status(403, strings.Repeat(busy, 1000))},
	{"404", status(404, "")},
	{"409", status(409, busy)},
	{"501", status(501, "")},
	{"505", status(505, "")},
	{"no TLS there", func(t *testing.T, m *mishap) {
		plain := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(plain.Close)
		m.https, m.dial = true, dialTo(plain.Listener.Addr().String())
	}},
	{"certificate error", func(_ *testing.T, m *mishap) {
		m.https = true
		m.base = func(tr *http.Transport) http.RoundTripper {
			tr = tr.Clone()
			tr.TLSClientConfig.RootCAs = x509.NewCertPool()
			return tr
		}
	}},
	{"certificate error of one's own", func(_ *testing.T, m *mishap) {
		m.https = true
		m.base = func(tr *http.Transport) http.RoundTripper {
			tr = tr.Clone()
			tr.TLSClientConfig.VerifyConnection = func(tls.ConnectionState) error { return x509.UnknownAuthorityError{} }
			return tr
		}
	}},
	{"no credentials", func(_ *testing.T, m *mishap) {
		m.keys = ovhauth.CredentialFunc(func(context.Context) (ovhauth.Credentials, error) {
			return ovhauth.Credentials{}, &net.DNSError{Err: "the vault is down"}
		})
	}},
	{"context done", func(_ *testing.T, m *mishap) {
		m.handle = func(w http.ResponseWriter, _ *http.Request) { m.cancel(); reset(w) }
	}},
	{"503, then context done", func(t *testing.T, m *mishap) {
		status(503, "")(t, m)
		m.base = func(tr *http.Transport) http.RoundTripper {
			return roundTrip(func(req *http.Request) (*http.Response, error) {
				defer m.cancel()
				return tr.RoundTrip(req)
			})
		}
	}},
}

// The methods of the table's two columns.
var (
	idempotent = []string{"", "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST with key", "PATCH with key"}
	otherwise  = []string{"POST", "PATCH", "PURGE"}
)

// TestRetryTable is the table in RetryTransport's documentation, each cell of it over a real socket. The row of 429, which waits, is
// TestThrottledTable.
func TestRetryTable(t *testing.T) {
	for _, group := range []struct {
		rows              []outcome
		again, againOther bool
	}{
		{unsent, true, true},
		{busyNow, true, true},
		{doubtful, true, false},
		{never, false, false},
	} {
		for _, row := range group.rows {
			for _, method := range idempotent {
				again := group.again && (row.name != "403 busy" || method != "HEAD") // whose response has no body to say so
				t.Run(row.name+"/"+method, func(t *testing.T) { cell(t, method, row.given, again) })
			}
			for _, method := range otherwise {
				t.Run(row.name+"/"+method, func(t *testing.T) { cell(t, method, row.given, group.againOther) })
			}
		}
	}
}

// tableRequest makes a request of a method of the table.
func tableRequest(t *testing.T, ctx context.Context, method string) *http.Request {
	method, withKey := strings.CutSuffix(method, " with key")
	req := newRequest(t, "GET", "/x", strings.NewReader(payload)).WithContext(ctx)
	req.Method = method
	if withKey {
		req.Header.Set("Idempotency-Key", "k")
	}
	return req
}

func cell(t *testing.T, method string, given func(*testing.T, *mishap), again bool) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	m := mishap{cancel: cancel, keys: testKeys}
	given(t, &m)

	var attempts atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got, _ := io.ReadAll(r.Body); string(got) != payload {
			t.Errorf("body %q arrived, want %q", got, payload)
		}
		if m.handle != nil && attempts.Load() == 1 {
			m.handle(w, r)
			return
		}
		io.WriteString(w, "done")
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{}}
	if m.https {
		srv.StartTLS()
		tr.TLSClientConfig.RootCAs = srv.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	} else {
		srv.Start()
	}
	defer srv.Close()
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if m.dial != nil && attempts.Load() == 1 {
			return m.dial(ctx, network, addr)
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	signer := &ovhauth.Transport{Endpoint: ovhauth.Endpoint(srv.URL), Credentials: m.keys,
		Base: roundTrip(func(req *http.Request) (*http.Response, error) {
			if m.base != nil && attempts.Load() == 1 {
				return m.base(tr).RoundTrip(req)
			}
			return tr.RoundTrip(req)
		})}
	var ownErr error
	var ownStatus int
	rt := &ovhauth.RetryTransport{MinWait: noWait, Base: roundTrip(func(req *http.Request) (*http.Response, error) {
		attempts.Add(1)
		resp, err := signer.RoundTrip(req)
		ownErr, ownStatus = err, 0
		if err == nil {
			ownStatus = resp.StatusCode
		}
		return resp, err
	})}

	req := tableRequest(t, ctx, method)
	resp, err := rt.RoundTrip(req)
	if (resp == nil) == (err == nil) {
		t.Fatalf("RoundTrip returned response %v and error %v, want one of them", resp, err)
	}
	want := int32(1)
	if again {
		want = 2
	}
	if attempts.Load() != want {
		t.Errorf("%d attempts, want %d (last error %v)", attempts.Load(), want, err)
	}
	if again && (err != nil || resp.StatusCode != 200) {
		t.Errorf("after a retry: %s, want 200", result(resp, err))
	}
	if err != ownErr { // not errors.Is: the very error, not wrapped
		t.Errorf("error %v, want Base's own, %v", err, ownErr)
	}
	if err == nil {
		if resp.StatusCode != ownStatus {
			t.Errorf("status %d, want Base's own, %d", resp.StatusCode, ownStatus)
		}
		if resp.Request != req {
			t.Error("Response.Request is another, want the caller's")
		}
		if _, err := io.ReadAll(resp.Body); err != nil && ctx.Err() == nil {
			t.Errorf("reading the response: %v, want no error", err)
		}
		resp.Body.Close()
	}
}

// same is a cause that sending a request again brings again, or one that it may not.
type same struct {
	name  string
	given func(t *testing.T) (base *http.Transport, url string)
	says  string // in the error, so that the cause is the one that is meant
}

// speaking is a server that gives every request the same bytes.
func speaking(bytes string) func(*testing.T) (*http.Transport, string) {
	return func(t *testing.T) (*http.Transport, string) {
		addr := listen(t, func(conn net.Conn) {
			defer conn.Close()
			if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				io.Copy(io.Discard, req.Body)
				io.WriteString(conn, bytes)
			}
		})
		return &http.Transport{MaxResponseHeaderBytes: 4 << 10}, "http://" + addr + "/"
	}
}

// secure is a TLS server, and a client that trusts it.
func secure(server *tls.Config, h2 bool, h http.HandlerFunc, client func(*http.Transport)) func(*testing.T) (*http.Transport, string) {
	return func(t *testing.T) (*http.Transport, string) {
		srv := httptest.NewUnstartedServer(h)
		srv.TLS, srv.EnableHTTP2 = server, h2
		srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
		srv.StartTLS()
		t.Cleanup(srv.Close)
		tr := srv.Client().Transport.(*http.Transport)
		client(tr)
		return tr, srv.URL
	}
}

// proxied leads through a proxy that gives every CONNECT the same status line.
func proxied(status string) func(*testing.T) (*http.Transport, string) {
	return func(t *testing.T) (*http.Transport, string) {
		_, addr := speaking("HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n")(t)
		proxy, _ := url.Parse(addr)
		return &http.Transport{Proxy: http.ProxyURL(proxy)}, "https://eu.api.ovh.com/1.0/me"
	}
}

// noProxy is the error of a Transport.Proxy, in the words of http.ProxyFromEnvironment.
func noProxy(text string) func(*testing.T) (*http.Transport, string) {
	return func(*testing.T) (*http.Transport, string) {
		return &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New(text) }}, "http://api.example/"
	}
}

// socks leads through a SOCKS proxy that gives these replies.
func socks(replies ...string) func(*testing.T) (*http.Transport, string) {
	return func(t *testing.T) (*http.Transport, string) {
		proxy := &url.URL{Scheme: "socks5", Host: listen(t, func(conn net.Conn) {
			defer conn.Close()
			for _, reply := range replies {
				conn.Read(make([]byte, 512))
				io.WriteString(conn, reply)
			}
		})}
		return &http.Transport{Proxy: http.ProxyURL(proxy)}, "https://api.example/"
	}
}

// overHTTP2 is a server that gives every request these frames of HTTP/2.
func overHTTP2(frames string) func(*testing.T) (*http.Transport, string) {
	return func(t *testing.T) (*http.Transport, string) {
		srv := httptest.NewUnstartedServer(nil)
		srv.EnableHTTP2 = true
		srv.StartTLS()
		srv.Close() // its certificate is enough
		addr := listen(t, func(conn net.Conn) {
			defer conn.Close()
			secure := tls.Server(conn, srv.TLS)
			io.CopyN(io.Discard, secure, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")))
			for frame := [9]byte{}; frame[3] != 1; { // until the headers of the request
				if _, err := io.ReadFull(secure, frame[:]); err != nil {
					return
				}
				io.CopyN(io.Discard, secure, int64(binary.BigEndian.Uint32(frame[:])>>8))
			}
			io.WriteString(secure, frames)
			io.Copy(io.Discard, secure)
		})
		tr := srv.Client().Transport.(*http.Transport)
		tr.DisableKeepAlives = true // each request gets the whole of it
		return tr, "https://" + addr
	}
}

// urlAlone is a cause that the URL is.
func urlAlone(url string) func(*testing.T) (*http.Transport, string) {
	return func(*testing.T) (*http.Transport, string) { return &http.Transport{}, url }
}

const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // the first frame of HTTP/2

var failsTheSame = []same{
	{"unknown scheme", urlAlone("foo://api.example/"), "unsupported protocol scheme"},
	{"no host", urlAlone("http:///x"), "no Host"},
	{"no TLS on a TLS port", func(t *testing.T) (*http.Transport, string) {
		return &http.Transport{}, "https://" + listen(t, func(conn net.Conn) { io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n") })
	}, "TLS handshake"},
	{"HTTP on a TLS port", func(t *testing.T) (*http.Transport, string) {
		srv := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(srv.Close)
		return &http.Transport{}, strings.Replace(srv.URL, "http:", "https:", 1)
	}, ""}, // which http.Client words in another way
	{"TLS alert: a client certificate is required", secure(&tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12},
		false, nil, func(*http.Transport) {}), "remote error: tls:"},
	{"TLS alert: another version is required", secure(&tls.Config{MinVersion: tls.VersionTLS13},
		false, nil, func(tr *http.Transport) { tr.TLSClientConfig.MaxVersion = tls.VersionTLS12 }), "remote error: tls:"},
	{"unknown authority", secure(nil, false, nil, func(tr *http.Transport) { tr.TLSClientConfig.RootCAs = x509.NewCertPool() }), "x509"},
	{"proxy 407", proxied("407 Proxy Authentication Required"), "Proxy Authentication Required"},
	{"proxy 407 in other words", proxied("407 authenticationrequired by the PROXY: Authentication Required"), "PROXY"},
	{"proxy 403", proxied("403 Forbidden"), "Forbidden"},
	{"proxy 401", proxied("401 Unauthorized"), "Unauthorized"},
	{"a web server that is no proxy", proxied("405 Method Not Allowed"), "Method Not Allowed"},
	{"HTTP_PROXY is no URL", noProxy(`invalid proxy address "a b": parse "http://a b": invalid character " " in host name`), "invalid proxy address"},
	{"HTTP_PROXY in CGI", noProxy("refusing to use HTTP_PROXY value in CGI environment; see golang.org/s/cgihttpproxy"), "CGI"},
	{"SOCKS proxy without a way to log in", socks("\x05\xff"), "no acceptable authentication"},
	{"SOCKS proxy that forbids it", socks("\x05\x00", "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00"), "not allowed by ruleset"},
	{"no SOCKS proxy", socks("HTTP/1.1 400 Bad Request\r\n\r\n"), "unexpected protocol version"},
	{"port out of range", urlAlone("http://127.0.0.1:99999/"), "invalid port"},
	{"TLS version that nobody speaks", func(t *testing.T) (*http.Transport, string) {
		return &http.Transport{}, "https://" + listen(t, func(conn net.Conn) {
			io.WriteString(conn, "\x16\x03\x01\x00\x2a\x02\x00\x00\x26\x03\x01"+strings.Repeat("r", 32)+"\x00\xc0\x2f\x00")
			io.Copy(io.Discard, conn)
		})
	}, "tls: server selected unsupported protocol version"},
	{"no TLS version is allowed", func(t *testing.T) (*http.Transport, string) {
		return &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12}}, "https://" + listen(t, func(conn net.Conn) { conn.Close() })
	}, "tls: no supported versions"},
	{"malformed response", speaking("garbage\r\n\r\n"), "malformed HTTP response"},
	{"malformed version", speaking("HTTX/1.1 200 OK\r\n\r\n"), "malformed HTTP version"},
	{"malformed status", speaking("HTTP/1.1 two OK\r\n\r\n"), "malformed HTTP status code"},
	{"malformed header", speaking("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), "malformed MIME header"},
	{"malformed Content-Length", speaking("HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), "Content-Length"},
	{"two lengths", speaking("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), "Content-Length"},
	{"unknown transfer encoding", speaking("HTTP/1.1 200 OK\r\nTransfer-Encoding: zip\r\n\r\n"), "unsupported transfer encoding"},
	{"too many transfer encodings", speaking("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), "transfer encodings"},
	{"too large response header", speaking("HTTP/1.1 200 OK\r\nX-Large: " + strings.Repeat("x", 8<<10) + "\r\n\r\n"), "headers exceeded"},
	{"too large response header over HTTP/2", secure(nil, true, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Large", strings.Repeat("x", 8<<10))
	}, func(tr *http.Transport) { tr.MaxResponseHeaderBytes = 4 << 10 }), "COMPRESSION_ERROR"},
	{"HTTP/1 over HTTP/2", overHTTP2("HTTP/1.1 400 Bad Request\r\n\r\n"), "frame too large"},
	{"a frame of a wrong size", overHTTP2(settings + "\x00\x00\x01\x06\x00\x00\x00\x00\x00a"), "FRAME_SIZE_ERROR"},
	{"HTTP/1.1 is required", overHTTP2(settings + "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0d"), "HTTP_1_1_REQUIRED"},
	{"a response without a status", overHTTP2(settings + "\x00\x00\x00\x01\x05\x00\x00\x00\x01"), "malformed response"},
	{"too many response headers over HTTP/2", secure(nil, true, func(w http.ResponseWriter, _ *http.Request) {
		for i := range 100 {
			w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 100))
		}
	}, func(tr *http.Transport) { tr.MaxResponseHeaderBytes = 4 << 10 }), "PROTOCOL_ERROR"},
}

var mayBeBetterNextTime = []same{
	{"TLS handshake cut", func(t *testing.T) (*http.Transport, string) {
		return &http.Transport{}, "https://" + listen(t, func(conn net.Conn) { conn.Close() })
	}, ""},
	{"proxy 502", proxied("502 Bad Gateway"), "Bad Gateway"},
	{"proxy 503", proxied("503 Service Unavailable"), "Service Unavailable"},
	{"connection closed", speaking(""), "EOF"},
	{"connection closed in the header", speaking("HTTP/1.1 200 OK\r\nContent-Type: te"), "EOF"},
}

// counting counts the attempts but for those of which net/http has noticed the end of the connection before the cause.
func counting(base http.RoundTripper, cause string, attempts *int) http.RoundTripper {
	return roundTrip(func(req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err == nil || strings.Contains(err.Error(), cause) {
			*attempts++
		}
		return resp, err
	})
}

// headers that net/http will not send
var badHeaders = []http.Header{{"a name": {"x"}}, {"": {"x"}}, {"X-Value": {"a\nb"}}, {"X-Value": {"\x00"}}}

// What fails the same way each time is sent once, by RetryTransport and by a retryablehttp.Client with CheckRetry.
func TestWhatFailsTheSameWayIsSentOnce(t *testing.T) {
	const retries = 2
	run := func(t *testing.T, base http.RoundTripper, req *http.Request, says string, want int) {
		attempts := 0
		counted := roundTrip(func(req *http.Request) (*http.Response, error) { attempts++; return base.RoundTrip(req) })
		_, err := (&ovhauth.RetryTransport{Base: counted, MinWait: noWait, MaxRetries: retries}).RoundTrip(req)
		if err == nil || !strings.Contains(err.Error(), says) || attempts != want {
			t.Errorf("RetryTransport: %d attempts, %v; want %d and an error with %q", attempts, err, want, says)
		}
		attempts = 0
		client := retryablehttp.Client{HTTPClient: &http.Client{Transport: counted}, RetryMax: retries, RetryWaitMin: noWait, RetryWaitMax: noWait,
			CheckRetry: ovhauth.CheckRetry, Backoff: ovhauth.Backoff, ErrorHandler: retryablehttp.PassthroughErrorHandler}
		_, err = client.Do(&retryablehttp.Request{Request: req})
		if err == nil || !strings.Contains(err.Error(), says) || attempts != want {
			t.Errorf("CheckRetry: %d attempts, %v; want %d and an error with %q", attempts, err, want, says)
		}
	}
	for _, test := range failsTheSame {
		t.Run(test.name, func(t *testing.T) {
			base, url := test.given(t)
			defer base.CloseIdleConnections()
			run(t, base, newRequest(t, "GET", url, nil), test.says, 1)
		})
	}
	for _, header := range badHeaders {
		t.Run(fmt.Sprintf("header %q", header), func(t *testing.T) {
			base, url := speaking("HTTP/1.1 200 OK\r\n\r\n")(t)
			req := newRequest(t, "GET", url, nil)
			req.Header = header
			run(t, base, req, "invalid header", 1)
		})
	}
	for name, spoil := range map[string]func(*http.Transport, *http.Request){
		"control character": func(_ *http.Transport, req *http.Request) { req.URL.RawQuery = "a\nb" },
		"Request.Header":    func(_ *http.Transport, req *http.Request) { req.Header = nil },
		"Host header": func(tr *http.Transport, req *http.Request) {
			tr.Proxy, req.Host = http.ProxyURL(&url.URL{Scheme: "http", Host: req.URL.Host}), "a/b"
		},
	} {
		t.Run(name, func(t *testing.T) {
			attempts := 0
			server := httptest.NewServer(http.NotFoundHandler())
			defer server.Close()
			base, req := server.Client().Transport.(*http.Transport), newRequest(t, "GET", server.URL, nil)
			spoil(base, req)
			_, err := (&ovhauth.RetryTransport{MinWait: noWait, Base: counting(base, name, &attempts)}).RoundTrip(req)
			if err == nil || !strings.Contains(err.Error(), name) || attempts != 1 {
				t.Errorf("%d attempts, %v; want one and an error about the %s", attempts, err, name)
			}
		})
	}
	t.Run("a body shorter than its length", func(t *testing.T) {
		attempts := 0
		base, url := speaking("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(t)
		req := newRequest(t, "PUT", url, strings.NewReader(payload))
		req.ContentLength++
		_, err := (&ovhauth.RetryTransport{MinWait: noWait, Base: counting(base, "ContentLength", &attempts)}).RoundTrip(req)
		if err == nil || !strings.Contains(err.Error(), "ContentLength") || attempts != 1 {
			t.Errorf("%d attempts, %v; want one and an error about the length", attempts, err)
		}
	})
	for _, test := range mayBeBetterNextTime {
		t.Run(test.name, func(t *testing.T) {
			base, url := test.given(t)
			run(t, base, newRequest(t, "GET", url, nil), test.says, 1+retries)
		})
	}
}

// A Base that asks for no connection may have sent the request by other means.
func TestRetryOverAMock(t *testing.T) {
	for method, want := range map[string]int{"GET": 5, "POST": 1} {
		mock := httpmock.NewMockTransport()
		mock.RegisterResponder(method, "https://api/x", httpmock.NewErrorResponder(&net.OpError{Op: "dial", Err: errors.New("connection refused")}))
		client := &http.Client{Transport: &ovhauth.RetryTransport{Base: mock, MinWait: noWait}}
		_, err := client.Do(newRequest(t, method, "https://api/x", nil))
		if err == nil || mock.GetTotalCallCount() != want {
			t.Errorf("%s: %d attempts, %v; want %d and the error", method, mock.GetTotalCallCount(), err, want)
		}
	}
}

// What an earlier attempt saw does not count for a later one, and the caller's own trace sees them all.
func TestEachAttemptIsWatchedAlone(t *testing.T) {
	var seen []string
	trace := &httptrace.ClientTrace{
		GetConn: func(string) { seen = append(seen, "get") },
		GotConn: func(httptrace.GotConnInfo) { seen = append(seen, "got") },
	}
	attempts := 0
	var late *httptrace.ClientTrace
	base := roundTrip(func(req *http.Request) (*http.Response, error) {
		attempts++
		trace := httptrace.ContextClientTrace(req.Context())
		trace.GetConn("api:443")
		switch attempts {
		case 1: // no connection: sent again
			late = trace
			return nil, errors.New("connection refused")
		case 2: // the first one's connection comes, late; none for this one: sent again
			late.GotConn(httptrace.GotConnInfo{})
			return nil, errors.New("connection refused")
		default: // lost after sending
			trace.GotConn(httptrace.GotConnInfo{})
			return nil, io.ErrUnexpectedEOF
		}
	})
	req := newRequest(t, "POST", "/x", nil)
	req = req.WithContext(httptrace.WithClientTrace(t.Context(), trace))
	if _, err := finished(t, &ovhauth.RetryTransport{Base: base, MinWait: noWait}, req); err != io.ErrUnexpectedEOF || attempts != 3 {
		t.Errorf("%d attempts, %v; want 3 and the last one's error", attempts, err)
	}
	if got, want := strings.Join(seen, " "), "get get got get got"; got != want {
		t.Errorf("the caller's trace saw %q, want %q", got, want)
	}
}

type askingClock func(context.Context)

func (f askingClock) Now(ctx context.Context) (time.Time, error) { f(ctx); return time.Now(), nil }

// The connections that a provider or a clock makes are not the attempt's.
func TestRetrySeesItsOwnConnectionsOnly(t *testing.T) {
	vault := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("the vault is down")
	}}}
	ask := func(ctx context.Context) {
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://vault.example/", nil)
		vault.Do(req)
	}
	for name, change := range map[string]func(*ovhauth.Transport){
		"provider": func(tr *ovhauth.Transport) {
			tr.Credentials = ovhauth.CredentialFunc(func(ctx context.Context) (ovhauth.Credentials, error) { ask(ctx); return shared, nil })
		},
		"clock": func(tr *ovhauth.Transport) { tr.Clock = askingClock(ask) },
	} {
		sent := 0
		signer := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: roundTrip(func(*http.Request) (*http.Response, error) {
			sent++
			return nil, io.ErrUnexpectedEOF // executed, perhaps
		})}
		change(signer)
		rt := &ovhauth.RetryTransport{Base: signer, MinWait: noWait}
		if _, err := rt.RoundTrip(newRequest(t, "POST", "/me", nil)); err != io.ErrUnexpectedEOF || sent != 1 {
			t.Errorf("%s: sent %d times, %v; want once and the connection's error", name, sent, err)
		}
	}
}

// overServer is a RetryTransport over a Transport that opens a connection for each request, so that net/http repeats nothing.
func overServer(srv *ovhtest.Server) *ovhauth.RetryTransport {
	return &ovhauth.RetryTransport{MinWait: noWait, Base: &ovhauth.Transport{
		Endpoint: srv.Endpoint(), Credentials: srv.Credentials(), Base: &http.Transport{DisableKeepAlives: true}}}
}

func TestRetryAfterACut(t *testing.T) {
	for _, test := range []struct {
		name              string
		cut               ovhtest.Cut
		method            string
		arrived, executed int
		responded, read   bool
	}{
		{"PUT cut before the request", ovhtest.CutBeforeRequest, "PUT", 2, 1, true, true},
		{"POST cut before the request", ovhtest.CutBeforeRequest, "POST", 1, 0, false, false},
		{"PUT cut after execution", ovhtest.CutAfterExecution, "PUT", 2, 2, true, true},
		{"POST cut after execution", ovhtest.CutAfterExecution, "POST", 1, 1, false, false},
		{"PUT cut in the response", ovhtest.CutMidAnswer, "PUT", 1, 1, true, false},
		{"POST cut in the response", ovhtest.CutMidAnswer, "POST", 1, 1, true, false},
	} {
		srv := ovhtest.NewServer()
		srv.Handle("/x", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "response") }))
		srv.Inject(ovhtest.Fault{Cut: test.cut})
		resp, err := overServer(srv).RoundTrip(newRequest(t, test.method, "/x", strings.NewReader(payload)))
		if (err == nil) != test.responded {
			t.Errorf("%s: error %v, want a response: %t", test.name, err, test.responded)
		}
		if err == nil {
			if _, err = io.ReadAll(resp.Body); (err == nil) != test.read {
				t.Errorf("%s: reading the response: %v, want it whole: %t", test.name, err, test.read)
			}
			resp.Body.Close()
		}
		if err != nil && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Errorf("%s: error %v, want the connection's", test.name, err)
		}
		srv.Close()
		executed := 0
		for _, x := range srv.Exchanges() {
			if x.Executed {
				executed++
			}
			if x.Body != nil && (!x.Verified || string(x.Body) != payload) {
				t.Errorf("%s: %s with %q arrived, want it signed, with %q", test.name, x, x.Body, payload)
			}
		}
		if len(srv.Exchanges()) != test.arrived || executed != test.executed {
			t.Errorf("%s: %d arrived, %d executed; want %d and %d", test.name, len(srv.Exchanges()), executed, test.arrived, test.executed)
		}
	}
}

// A context that ends while its connection is being made, or while the server thinks, ends the matter.
func TestRetryContextOnTheWire(t *testing.T) {
	for _, where := range []string{"dialing", "waiting for the response", "reading it"} {
		for _, method := range []string{"GET", "POST"} {
			ctx, cancel := context.WithCancel(t.Context())
			srv := ovhtest.NewServer()
			srv.Handle("/x", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if where == "reading it" {
					io.WriteString(w, "the first half")
					w.(http.Flusher).Flush()
				} else {
					cancel()
				}
				<-r.Context().Done()
			}))
			var dials atomic.Int32
			rt := overServer(srv)
			rt.Base.(*ovhauth.Transport).Base.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				if where == "dialing" {
					cancel()
					<-ctx.Done()
					return nil, errors.New("dialing was given up")
				}
				return new(net.Dialer).DialContext(ctx, network, addr)
			}
			resp, err := rt.RoundTrip(newRequest(t, method, "/x", nil).WithContext(ctx))
			if err == nil {
				cancel()
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if (resp != nil) != (where == "reading it") || !errors.Is(err, context.Canceled) || dials.Load() != 1 {
				t.Errorf("%s, %s: %v after %d dials; want the context's error after one", where, method, err, dials.Load())
			}
			srv.Close()
		}
	}
}
