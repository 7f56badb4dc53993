package ovhtest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

func TestStoriesOfABubble(t *testing.T) {
	t.Run("a minute of Retry-After", func(t *testing.T) { synctest.Test(t, retriesAfterAMinute) })

	t.Run("a clock that steps", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server := ovhtest.NewPipeServer()
			defer server.Close()
			var ahead time.Duration
			server.SetClock(func() time.Time { return time.Now().Add(ahead) })
			for _, ahead = range []time.Duration{0, time.Hour, -time.Hour} {
				if _, err := ovhjson.Get[any](t.Context(), server.Client(), "/me"); err != nil {
					t.Errorf("a clock %s ahead: %v, want no error", ahead, err)
				}
			}
			if n := len(server.Exchanges()); n != 5 {
				t.Errorf("%d requests, want 5: one, and two for each step", n)
			}
		})
	})

	t.Run("a token that expires", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server := ovhtest.NewPipeServer()
			defer server.Close()
			id, secret := server.NewServiceAccount()
			client := &http.Client{Transport: &ovhauth.Transport{
				Endpoint:    server.Endpoint(),
				Credentials: ovhauth.ServiceAccount(server.Endpoint(), id, secret),
				Base:        server.Transport(),
			}}
			tokens := map[string]bool{}
			for range 3 {
				if _, err := ovhjson.Get[any](t.Context(), client, "/me"); err != nil {
					t.Errorf("got %v, want no error", err)
				}
				x := server.Exchanges()
				tokens[x[len(x)-1].Header.Get("Authorization")] = true
				time.Sleep(time.Hour)
			}
			if len(tokens) != 3 {
				t.Errorf("%d tokens in three hours, want one for each", len(tokens))
			}
		})
	})

	t.Run("a delay that outlives its client", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server := ovhtest.NewPipeServer()
			defer server.Close()
			server.Inject(ovhtest.Fault{Delay: time.Hour})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			began := time.Now()
			_, err := ovhjson.Get[any](ctx, server.Client(), "/me")
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != time.Minute {
				t.Errorf("got %v after %s, want the deadline after a minute", err, took)
			}
		})
	})
}

// A connection in memory breaks with the errors of a socket, which RetryTransport tells apart.
func TestPipeBreaksLikeASocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := ovhtest.NewPipeServer()
		defer server.Close()
		for _, cut := range []ovhtest.Cut{ovhtest.CutBeforeRequest, ovhtest.CutAfterExecution} {
			server.Inject(ovhtest.Fault{Cut: cut})
			body := bytes.NewReader(make([]byte, 1<<20))
			if resp, err := server.Client().Post("/auth/logout", "", body); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("cut %d: %v, %v; want ECONNRESET", cut, resp, err)
			}
		}
		server.Inject(ovhtest.Fault{Status: 200, Body: "0123456789", Cut: ovhtest.CutMidAnswer})
		resp, err := server.Client().Get("/me")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); string(b) != "01234" || !isCut(err) {
			t.Errorf("half a response: %q, %v; want 01234 and a lost connection", b, err)
		}
	})
}

// A connection that is closed, and not reset, ends.
func TestPipeEndsLikeASocket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := ovhtest.NewPipeServer()
		defer server.Close()
		server.Handle("GET /raw", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nup to its end")
		}))
		resp, err := server.Client().Get("/raw")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); string(b) != "up to its end" || err != nil {
			t.Errorf("a response without a length: %q, %v; want all of it", b, err)
		}
	})
}

func TestPipeServerThatIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := ovhtest.NewPipeServer()
		server.Close()
		server.Close()
		if _, err := server.Client().Get("/me"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want ECONNREFUSED", err)
		}
	})
}

// Each server has a host of its own, and nobody listens at it.
func TestPipeServersHaveHosts(t *testing.T) {
	one, other := ovhtest.NewPipeServer(), ovhtest.NewPipeServer()
	defer one.Close()
	defer other.Close()
	if one.Endpoint() == other.Endpoint() || !strings.HasPrefix(string(one.Endpoint()), "http://127.0.0.1:") {
		t.Errorf("endpoints %s and %s, want two of loopback", one.Endpoint(), other.Endpoint())
	}
}

// A caller that gives up while the server takes no connection is let go.
func TestPipeDialEndsWithItsContext(t *testing.T) {
	server := ovhtest.NewPipeServer()
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", string(server.Endpoint())+"/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.Transport().RoundTrip(req); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// Code that has an endpoint of the real API built in reaches the server, and what it signs is verified as it was signed.
func TestAnyHost(t *testing.T) {
	for name, start := range map[string]func() *ovhtest.Server{
		"sockets": ovhtest.NewServer, "TLS": ovhtest.NewTLSServer, "pipes": ovhtest.NewPipeServer,
	} {
		t.Run(name, func(t *testing.T) {
			server := start()
			defer server.Close()
			id, secret := server.NewServiceAccount()
			for _, test := range []struct {
				name        string
				endpoint    ovhauth.Endpoint
				credentials ovhauth.CredentialProvider
			}{
				{"its own endpoint", server.Endpoint(), server.Credentials()},
				{"EU", ovhauth.EU, server.Credentials()},
				{"US", ovhauth.US, server.Credentials()},
				{"a service account of CA", ovhauth.CA, ovhauth.ServiceAccount(ovhauth.CA, id, secret)},
			} {
				server.Forget()
				client := &http.Client{Transport: &ovhauth.Transport{Endpoint: test.endpoint, Credentials: test.credentials, Base: server.Transport()}}
				resp, err := client.Get("/me?a=%3a")
				if err != nil {
					t.Errorf("%s: %v, want no error", test.name, err)
					continue
				}
				resp.Body.Close()
				x := server.Exchanges()
				last := x[len(x)-1]
				if want := string(test.endpoint) + "/me?a=%3a"; resp.StatusCode != 200 || !last.Verified || last.URL != want || resp.Request.URL.String() != "/me?a=%3a" {
					t.Errorf("%s: %s of %s, recorded %s as %s; want 200, verified, %s", test.name, resp.Status, resp.Request.URL, last, last.URL, want)
				}
			}
		})
	}
}

// Where TLS ends in front of a server, what arrives in plain was signed for https, whether the terminator says so or not.
func TestSignedForHTTPS(t *testing.T) {
	s, secure := newServer(t), ovhtest.NewTLSServer()
	defer secure.Close()
	now := time.Now()
	request := func(s *ovhtest.Server, signedFor, forwarded string) *http.Request {
		req, keys := plain(t, s, "GET", "/1.0/me", ""), s.Credentials()
		timestamp := fmt.Sprint(now.Unix())
		req.Header.Set("X-Ovh-Application", keys.ApplicationKey)
		req.Header.Set("X-Ovh-Consumer", keys.ConsumerKey)
		req.Header.Set("X-Ovh-Timestamp", timestamp)
		req.Header.Set("X-Ovh-Signature", signature(keys, "GET", signedFor+"://"+req.Host+"/1.0/me", "", timestamp))
		if forwarded != "" {
			req.Header.Set("X-Forwarded-Proto", forwarded)
		}
		return req
	}
	for _, test := range []struct {
		name, signedFor, forwarded string
		server                     *ovhtest.Server
		want                       int
	}{
		{"http", "http", "", s, 200},
		{"https behind a silent terminator", "https", "", s, 200},
		{"https behind a terminator", "https", "https", s, 200},
		{"http, though the terminator had https", "http", "https", s, 400},
		{"http, forwarded as such", "http", "http", s, 200},
		{"another scheme", "ftp", "", s, 400},
		{"https over TLS", "https", "", secure, 200},
		{"http over TLS", "http", "", secure, 400},
	} {
		test.server.Forget()
		resp, err := test.server.Transport().RoundTrip(request(test.server, test.signedFor, test.forwarded))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		x := test.server.Exchanges()[0]
		if resp.StatusCode != test.want || x.Verified != (test.want == 200) || x.Verified && !strings.HasPrefix(x.URL, test.signedFor+"://") {
			t.Errorf("%s: %s, recorded %s; want %d", test.name, resp.Status, x, test.want)
		}
	}
}

// The contract of http.RoundTripper: the request is left alone, and the response is to it.
func TestTransportLeavesTheRequestAlone(t *testing.T) {
	s := newServer(t)
	for n, header := range []http.Header{nil, {"X-Mine": {"a"}}} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://eu.api.ovh.com/1.0/auth/time", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header
		resp, err := s.Transport().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.Request != req || len(req.Header) != n {
			t.Errorf("the response is to %p with %v, want %p and %d headers", resp.Request, req.Header, req, n)
		}
		if x := s.Exchanges(); x[len(x)-1].URL != "https://eu.api.ovh.com/1.0/auth/time" {
			t.Errorf("recorded %s, want https", x[len(x)-1].URL)
		}
	}
}

func TestCertificate(t *testing.T) {
	s, secure := newServer(t), ovhtest.NewTLSServer()
	defer secure.Close()
	if s.Certificate() != nil {
		t.Error("a server without TLS has a certificate, want none")
	}
	if c := secure.Certificate(); c == nil || c.VerifyHostname("127.0.0.1") != nil {
		t.Errorf("certificate %v, want one for 127.0.0.1", c)
	}
}

// A connection with TLS is cut below it.
func TestCutOfTLS(t *testing.T) {
	s := ovhtest.NewTLSServer()
	defer s.Close()
	s.Inject(ovhtest.Fault{Cut: ovhtest.CutAfterExecution})
	if resp, err := s.Client().Get("/me"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, %v; want ECONNRESET", resp, err)
	}
}
