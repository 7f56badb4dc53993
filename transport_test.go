package ovhauth_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jarcoal/httpmock"

	"example.com/ovhauth"
)

var (
	signed = []string{"Application", "Consumer", "Signature", "Timestamp"}
	bearer = []string{"Authorization"}
)

// Where each URL goes, and what it carries there.
func TestRoute(t *testing.T) {
	application := []string{"Application"}
	for _, test := range []struct {
		endpoint ovhauth.Endpoint
		method   string
		url      string
		want     string
		carries  []string
	}{
		{ovhauth.EU, "GET", "/me", "https://eu.api.ovh.com/1.0/me", signed},
		{ovhauth.EU, "GET", "me", "https://eu.api.ovh.com/1.0/me", signed},
		{ovhauth.EU, "GET", "", "https://eu.api.ovh.com/1.0", signed},
		{ovhauth.EU, "GET", "?a=b", "https://eu.api.ovh.com/1.0?a=b", signed},
		{ovhauth.EU, "GET", "/v1/me", "https://eu.api.ovh.com/v1/me", signed},
		{ovhauth.EU, "GET", "/v2/iam/policy?x=y", "https://eu.api.ovh.com/v2/iam/policy?x=y", signed},
		{ovhauth.EU, "GET", "v2/iam/policy", "https://eu.api.ovh.com/v2/iam/policy", signed},
		{ovhauth.EU, "GET", "/v2", "https://eu.api.ovh.com/1.0/v2", signed},
		{ovhauth.EU, "GET", "/v3/me", "https://eu.api.ovh.com/1.0/v3/me", signed},
		{ovhauth.EU, "GET", "/ip/1.2.3.4%2F29/reverse", "https://eu.api.ovh.com/1.0/ip/1.2.3.4%2F29/reverse", signed},
		{ovhauth.EU, "GET", "/ip/1.2.3.4%2f29", "https://eu.api.ovh.com/1.0/ip/1.2.3.4%2f29", signed},
		{"ovh-ca", "GET", "/me", "https://ca.api.ovh.com/1.0/me", signed},
		{"https://gate.example/ovh/1.0/", "GET", "/me", "https://gate.example/ovh/1.0/me", signed},
		{"https://gate.example/ovh/1.0", "GET", "/v2/me", "https://gate.example/ovh/v2/me", signed},
		{"https://gate.example/ovh", "GET", "/v2/me", "https://gate.example/ovh/v2/me", signed},
		{"https://gate.example/v1", "GET", "/v2/me", "https://gate.example/v2/me", signed},
		{"https://gate.example", "GET", "/v2/me", "https://gate.example/v2/me", signed},
		{"http://127.0.0.1:8080/1.0", "GET", "/me", "http://127.0.0.1:8080/1.0/me", signed},
		{"http://[::1]:8080/1.0", "GET", "/me", "http://[::1]:8080/1.0/me", signed},

		{ovhauth.EU, "GET", "https://eu.api.ovh.com/anything?at=all", "https://eu.api.ovh.com/anything?at=all", signed},
		{ovhauth.EU, "GET", "https://EU.API.ovh.com/1.0/me", "https://EU.API.ovh.com/1.0/me", signed},
		{ovhauth.EU, "GET", "https://eu.api.ovh.com:443/1.0/me", "https://eu.api.ovh.com:443/1.0/me", signed},
		{"https://eu.api.ovh.com:443/1.0", "GET", "https://eu.api.ovh.com/1.0/me", "https://eu.api.ovh.com/1.0/me", signed},
		{ovhauth.EU, "GET", "https://eu.api.ovh.com:8443/1.0/me", "https://eu.api.ovh.com:8443/1.0/me", nil},
		{ovhauth.EU, "GET", "https://ca.api.ovh.com/1.0/me", "https://ca.api.ovh.com/1.0/me", nil},
		{ovhauth.EU, "GET", "https://eu.api.ovh.com.example.org/1.0/me", "https://eu.api.ovh.com.example.org/1.0/me", nil},
		{ovhauth.EU, "GET", "http://example.org/", "http://example.org/", nil},
		{"https://127.0.0.1:8443", "GET", "http://127.0.0.1:8080/me", "http://127.0.0.1:8080/me", nil},
		{"https://127.0.0.1:8443", "GET", "http://127.0.0.1:8443/me", "http://127.0.0.1:8443/me", nil},
		{ovhauth.SoYouStartEU, "GET", "https://eu.api.\u017foyoustart.com/1.0/me", "https://eu.api.%C5%BFoyoustart.com/1.0/me", nil},
		{ovhauth.KimsufiEU, "GET", "https://eu.api.\u212aimsufi.com/1.0/me", "https://eu.api.%E2%84%AAimsufi.com/1.0/me", nil}, // a Kelvin sign

		{ovhauth.EU, "GET", "/auth/time", "https://eu.api.ovh.com/1.0/auth/time", nil},
		{ovhauth.EU, "GET", "/v1/auth/time", "https://eu.api.ovh.com/v1/auth/time", nil},
		{ovhauth.EU, "GET", "https://eu.api.ovh.com/1.0/auth/time", "https://eu.api.ovh.com/1.0/auth/time", nil},
		{ovhauth.EU, "", "/auth/time", "https://eu.api.ovh.com/1.0/auth/time", nil},
		{ovhauth.EU, "", "/me", "https://eu.api.ovh.com/1.0/me", signed},
		{ovhauth.EU, "POST", "/auth/time", "https://eu.api.ovh.com/1.0/auth/time", signed},
		{ovhauth.EU, "GET", "/v2/auth/time", "https://eu.api.ovh.com/v2/auth/time", signed},
		{ovhauth.EU, "GET", "/auth/time/", "https://eu.api.ovh.com/1.0/auth/time/", signed},
		{ovhauth.EU, "GET", "/domain/auth/time", "https://eu.api.ovh.com/1.0/domain/auth/time", signed},
		{ovhauth.EU, "POST", "/auth/credential", "https://eu.api.ovh.com/1.0/auth/credential", application},
		{ovhauth.EU, "POST", "/v1/auth/credential", "https://eu.api.ovh.com/v1/auth/credential", application},
		{ovhauth.EU, "GET", "/auth/credential", "https://eu.api.ovh.com/1.0/auth/credential", signed},
		{ovhauth.EU, "GET", "/auth/currentCredential", "https://eu.api.ovh.com/1.0/auth/currentCredential", signed},
	} {
		base := &recorder{}
		transport := &ovhauth.Transport{Endpoint: test.endpoint, Credentials: shared, Base: base}
		req := newRequest(t, test.method, test.url, nil)
		req.Method = test.method // "", too
		if req.URL.Host == "" {
			req.Host = "localhost:8080" // as a reverse proxy leaves it
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Errorf("%s: %s %s: %v", test.endpoint, test.method, test.url, err)
			continue
		}
		got := base.last()
		if got.URL.String() != test.want || got.Host != "" && got.Host != got.URL.Host {
			t.Errorf("%s: %s went to %s with Host %q, want %s", test.endpoint, test.url, got.URL, got.Host, test.want)
		}
		if carries := authentication(got.Header); !slices.Equal(carries, test.carries) {
			t.Errorf("%s: %s %s carries %v, want %v", test.endpoint, test.method, test.url, carries, test.carries)
		}
		if signature := got.Header.Get("X-Ovh-Signature"); signature != "" && signature != ovhauth.Sign(shared, cmp.Or(test.method, "GET"), test.want, nil, timestamp(got)) {
			t.Errorf("%s: %s is not signed as it was sent", test.endpoint, test.url)
		}
		if resp.Request != req {
			t.Errorf("%s: the response is not one to the caller's request", test.url)
		}
	}
}

// What is rejected before anything is sent.
func TestRejectedBeforeItIsSent(t *testing.T) {
	opaque := &url.URL{Scheme: "https", Host: "eu.api.ovh.com", Opaque: "//eu.api.ovh.com/1.0/me"}
	for _, test := range []struct {
		name     string
		endpoint ovhauth.Endpoint
		req      *http.Request
		keys     ovhauth.CredentialProvider
		want     error
		says     string
	}{
		{"no URL", ovhauth.EU, &http.Request{}, shared, nil, "no URL"},
		{"unknown endpoint", "ovh-fr", newRequest(t, "GET", "/me", nil), shared, nil, "ovh-eu, ovh-ca, ovh-us"},
		{"plain http endpoint", "http://eu.api.ovh.com/1.0", newRequest(t, "GET", "/me", nil), shared, ovhauth.ErrPlainHTTP, "https"},
		{"plain http URL", ovhauth.EU, newRequest(t, "GET", "http://eu.api.ovh.com/1.0/me", nil), shared, ovhauth.ErrPlainHTTP, "https"},
		{"plain http, other port", ovhauth.EU, newRequest(t, "GET", "http://EU.api.ovh.com:8080/", nil), shared, ovhauth.ErrPlainHTTP, "https"},
		{"plain http, in capitals", ovhauth.EU, &http.Request{URL: &url.URL{Scheme: "HTTP", Host: "eu.api.ovh.com", Path: "/1.0/me"}}, shared, ovhauth.ErrPlainHTTP, "https"},
		{"opaque", ovhauth.EU, &http.Request{URL: opaque}, shared, nil, "opaque"},
		{"opaque, relative", ovhauth.EU, newRequest(t, "GET", "mailto:a@b.c", nil), shared, nil, "no host"},
		{"opaque, the endpoint's scheme", ovhauth.EU, newRequest(t, "GET", "https:opaque", nil), shared, nil, "opaque"},
		{"scheme without host", ovhauth.EU, newRequest(t, "GET", "file:///etc/passwd", nil), shared, nil, "no host"},
		{"blank in query", ovhauth.EU, newRequest(t, "GET", "/me?q=a b", nil), shared, nil, "blank"},
		{"delete in query", ovhauth.EU, &http.Request{URL: &url.URL{Path: "/me", RawQuery: "a\x7fb"}}, shared, nil, "control"},
		{"control character in query", ovhauth.EU, &http.Request{URL: &url.URL{Path: "/me", RawQuery: "a\r\nb"}}, shared, nil, "control"},
		{"no slash", ovhauth.EU, &http.Request{URL: &url.URL{Scheme: "https", Host: "eu.api.ovh.com", Path: "me"}}, shared, nil, "slash"},
		{"CONNECT", ovhauth.EU, newRequest(t, "CONNECT", "/me", nil), shared, nil, "CONNECT"},
		{"Unicode Host", ovhauth.EU, &http.Request{Host: "é.example", URL: &url.URL{Scheme: "https", Host: "eu.api.ovh.com", Path: "/"}}, shared, nil, "ASCII"},
		{"no keys", ovhauth.EU, newRequest(t, "GET", "/me", nil), ovhauth.Credentials{}, ovhauth.ErrMissingCredentials,
			"application_key, application_secret, consumer_key are missing"},
		{"two keys", ovhauth.EU, newRequest(t, "GET", "/me", nil), ovhauth.Credentials{ApplicationKey: "a", ApplicationSecret: "b", ConsumerKey: " \n"},
			ovhauth.ErrMissingCredentials, ": consumer_key is missing"},
		{"no application key", ovhauth.EU, newRequest(t, "POST", "/auth/credential", nil), ovhauth.Credentials{AccessToken: "t"},
			ovhauth.ErrMissingCredentials, "application_key is missing"},
		{"control character in a key", ovhauth.EU, newRequest(t, "GET", "/me", nil),
			ovhauth.Credentials{ApplicationKey: "a", ApplicationSecret: "b", ConsumerKey: "hunter2\r\nx"}, nil, "consumer_key has a control character"},
		{"delete in a key", ovhauth.EU, newRequest(t, "GET", "/me", nil),
			ovhauth.Credentials{ApplicationKey: "a", ApplicationSecret: "hunter2\x7fx", ConsumerKey: "c"}, nil, "application_secret has a control character"},
		{"control character in a token", ovhauth.EU, newRequest(t, "GET", "/me", nil), ovhauth.Credentials{AccessToken: "hunter2\x00x"}, nil, "access_token has"},
		{"provider", ovhauth.EU, newRequest(t, "GET", "/me", nil), ovhauth.CredentialFunc(func(context.Context) (ovhauth.Credentials, error) {
			return shared, io.ErrClosedPipe
		}), io.ErrClosedPipe, "credentials: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			base, body := &recorder{}, &trackedBody{Reader: strings.NewReader("{}")}
			req := test.req.WithContext(t.Context())
			req.Body = body
			resp, err := (&ovhauth.Transport{Endpoint: test.endpoint, Credentials: test.keys, Base: base}).RoundTrip(req)
			if err == nil || resp != nil || test.want != nil && !errors.Is(err, test.want) {
				t.Fatalf("got %v, %v; want %v", resp, err, test.want)
			}
			if s := err.Error(); !strings.HasPrefix(s, "ovhauth: ") || !strings.Contains(s, test.says) || strings.Contains(s, "hunter2") {
				t.Errorf("the error says %q; want %q in it", s, test.says)
			}
			if len(base.requests) != 0 || body.closed != 1 {
				t.Errorf("%d requests sent, body closed %d times", len(base.requests), body.closed)
			}
		})
	}
}

func TestKeysAreTrimmed(t *testing.T) {
	base := &recorder{}
	padded := ovhauth.Credentials{ApplicationKey: shared.ApplicationKey + "\n", ApplicationSecret: "\t" + shared.ApplicationSecret, ConsumerKey: " " + shared.ConsumerKey + "\r\n"}
	at := time.Unix(1457018875, 0)
	transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: padded, Base: base, Clock: ovhauth.ClockFunc(func() time.Time { return at })}
	if _, err := transport.RoundTrip(newRequest(t, "GET", "/auth", nil)); err != nil {
		t.Fatal(err)
	}
	if h := base.last().Header; h.Get("X-Ovh-Signature") != "$1$e9556054b6309771395efa467c22e627407461ad" ||
		h.Get("X-Ovh-Application") != shared.ApplicationKey || h.Get("X-Ovh-Consumer") != shared.ConsumerKey {
		t.Errorf("sent %v, want it signed with the trimmed keys", h)
	}
	padded.AccessToken = " \n" // is none
	transport = &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: padded, Base: base}
	_, err := transport.RoundTrip(newRequest(t, "PUT", "/me", strings.NewReader("x")))
	got := base.last()
	if want := ovhauth.Sign(shared, "PUT", "https://eu.api.ovh.com/1.0/me", []byte("x"), timestamp(got)); err != nil || got.Header.Get("X-Ovh-Signature") != want {
		t.Errorf("with a blank token: sent %v, %v; want signature %s", got.Header, err, want)
	}
	transport = &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: ovhauth.Credentials{AccessToken: " token\n"}, Base: base}
	if _, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil {
		t.Fatal(err)
	}
	if h := base.last().Header; h.Get("Authorization") != "Bearer token" || !slices.Equal(authentication(h), bearer) {
		t.Errorf("sent %v, want the trimmed token alone", h)
	}
}

// A token that has been found good is still no application key.
func TestTokenIsNoApplicationKey(t *testing.T) {
	base := &recorder{}
	transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: ovhauth.Credentials{AccessToken: "t"}, Base: base}
	if _, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := transport.RoundTrip(newRequest(t, "POST", "/auth/credential", nil)); !errors.Is(err, ovhauth.ErrMissingCredentials) || len(base.requests) != 1 {
		t.Errorf("%v, %d sent", err, len(base.requests))
	}
}

// An application key that has been found good is no set of keys to sign with.
func TestApplicationKeyDoesNotSign(t *testing.T) {
	base := &recorder{}
	transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: ovhauth.Credentials{ApplicationKey: "a"}, Base: base}
	if _, err := transport.RoundTrip(newRequest(t, "POST", "/auth/credential", nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); !errors.Is(err, ovhauth.ErrMissingCredentials) || len(base.requests) != 1 {
		t.Errorf("%v, %d sent", err, len(base.requests))
	}
}

// The values of the headers share their memory, but do not run into each other, nor into the caller's.
func TestHeadersHaveRoomOfTheirOwn(t *testing.T) {
	req := newRequest(t, "GET", "/me", nil)
	req.Header["Accept"] = []string{"a", "the caller's"}[:1]
	base := baseFunc(func(r *http.Request) (*http.Response, error) {
		for _, name := range []string{"Accept", "X-Ovh-Application", "X-Ovh-Consumer", "X-Ovh-Timestamp", "X-Ovh-Signature"} {
			r.Header.Add(name, "more") // which no Base should
		}
		for name, values := range r.Header {
			if len(values) != 2 || values[0] == "more" {
				t.Errorf("%s is %q, want the value of this request and that of Base", name, values)
			}
		}
		return response(200, ""), nil
	})
	if _, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if got := req.Header["Accept"][:2][1]; got != "the caller's" {
		t.Errorf("the caller's header says %s", got)
	}
}

// The five headers are the Transport's own at its endpoint, in any spelling; at any other origin the four must not be seen.
func TestForeignHeadersAreReplaced(t *testing.T) {
	dirty := func() http.Header {
		return http.Header{
			"X-Ovh-Consumer": {"stale"}, "x-ovh-consumer": {"stale"}, "X-OVH-APPLICATION": {"stale"}, "x-OVH-timestamp": {"stale"},
			"X-Ovh-Signature": {"stale"}, "authorization": {"stale"}, "X-Ovh-Batch": {","}, "Accept": {"*/*"},
		}
	}
	unsigned := ovhauth.WithoutSignature(t.Context())
	for _, test := range []struct {
		url     string
		keys    ovhauth.Credentials
		ctx     context.Context
		carries []string
	}{
		{"/me", shared, t.Context(), signed},
		{"/me", ovhauth.Credentials{AccessToken: "token"}, t.Context(), bearer},
		{"/me", ovhauth.Credentials{}, unsigned, nil},
		{"/auth/time", ovhauth.Credentials{}, t.Context(), nil},
		{"https://example.org/", shared, t.Context(), bearer},  // the caller's own Authorization
		{"ftp://eu.api.ovh.com/", shared, t.Context(), bearer}, // of another Base's, perhaps
	} {
		base := &recorder{}
		req := newRequest(t, "GET", test.url, nil).WithContext(test.ctx)
		req.Header = dirty()
		if _, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: test.keys, Base: base}).RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		got := base.last().Header
		if carries := authentication(got); !slices.Equal(carries, test.carries) {
			t.Errorf("%s carries %v, want %v", test.url, carries, test.carries)
		}
		for name, values := range got {
			if values[0] == "stale" && name != "authorization" {
				t.Errorf("%s: the caller's %s was sent", test.url, name)
			}
		}
		if got.Get("X-Ovh-Batch") != "," || got.Get("Accept") != "*/*" {
			t.Errorf("%s: a header was lost: %v", test.url, got)
		}
		if !reflect.DeepEqual(req.Header, dirty()) {
			t.Errorf("%s: the caller's header became %v", test.url, req.Header)
		}
	}
}

// A request may say by its Host header for whom it is, say at a gateway: that is what the server sees, and what is signed.
func TestHostHeaderIsSigned(t *testing.T) {
	wire := newWire(t)
	transport := &ovhauth.Transport{Endpoint: "https://gate.example/1.0", Credentials: shared, Base: wire.base}
	req := newRequest(t, "GET", "https://gate.example/1.0/me", nil)
	req.Host = "eu.api.ovh.com"
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := <-wire.arrived; got.url() != "https://eu.api.ovh.com/1.0/me" || got.header.Get("X-Ovh-Signature") != got.signature(shared) {
		t.Errorf("arrived as %+v", got)
	}
}

// Two regions by two transports, one above the other, in either order.
func TestStackedTransports(t *testing.T) {
	other := encoded
	for _, euAbove := range []bool{true, false} {
		base := &recorder{}
		eu := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared}
		ca := &ovhauth.Transport{Endpoint: ovhauth.CA, Credentials: other}
		top, below := eu, ca
		if !euAbove {
			top, below = ca, eu
		}
		top.Base, below.Base = below, base
		for url, keys := range map[string]ovhauth.Credentials{
			"https://eu.api.ovh.com/1.0/me": shared, "https://ca.api.ovh.com/1.0/me": other, "https://api.us.ovhcloud.com/1.0/me": {},
		} {
			req := newRequest(t, "GET", url, nil)
			if _, err := top.RoundTrip(req); err != nil {
				t.Fatal(err)
			}
			if got := base.last().Header.Get("X-Ovh-Application"); got != keys.ApplicationKey {
				t.Errorf("EU above: %v: %s carries the keys of %q, want %q", euAbove, url, got, keys.ApplicationKey)
			}
		}
		// A Base that sends the signed request elsewhere, by its own context and headers, does not take the keys along.
		top.Base = baseFunc(func(req *http.Request) (*http.Response, error) {
			stray := req.Clone(req.Context())
			stray.URL = &url.URL{Scheme: "https", Host: "example.org", Path: "/"}
			return below.RoundTrip(stray)
		})
		if _, err := top.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil {
			t.Fatal(err)
		}
		if names := authentication(base.last().Header); names != nil {
			t.Errorf("%v went to example.org", names)
		}
	}
}

// redirects responds to each URL of the map with a redirect to its value, any other with 200, and says what carried a signature.
type redirects struct {
	to    map[string]string
	seen  []string
	relay http.Header
}

func (r *redirects) RoundTrip(req *http.Request) (*http.Response, error) {
	entry := req.Method + " " + req.URL.String()
	if req.Header.Get("X-Ovh-Signature") != "" {
		entry += " signed"
	}
	r.seen = append(r.seen, entry)
	if to, ok := r.to[req.URL.String()]; ok {
		r.relay.Set("Location", to) // the same header for every response, as some mocks have it
		return &http.Response{StatusCode: http.StatusFound, Header: r.relay, Body: http.NoBody}, nil
	}
	return response(200, ""), nil
}

func TestRedirects(t *testing.T) {
	const me, elsewhere = "https://eu.api.ovh.com/1.0/me", "https://files.example/x"
	for _, test := range []struct {
		name, from string
		to         map[string]string
		want       []string
	}{
		{"within", me, map[string]string{me: "/1.0/you"}, []string{"GET " + me + " signed", "GET https://eu.api.ovh.com/1.0/you signed"}},
		{"within, relative request", "/me", map[string]string{me: "you?a=b"}, []string{"GET " + me + " signed", "GET https://eu.api.ovh.com/1.0/you?a=b signed"}},
		{"within, absolute path", "/me", map[string]string{me: "/1.0/you"}, []string{"GET " + me + " signed", "GET https://eu.api.ovh.com/1.0/you signed"}},
		{"within, root", "/me", map[string]string{me: "/v2/you"}, []string{"GET " + me + " signed", "GET https://eu.api.ovh.com/v2/you signed"}},
		{"away", "/me", map[string]string{me: elsewhere}, []string{"GET " + me + " signed", "GET " + elsewhere}},
		{"away and back", "/me", map[string]string{me: elsewhere, elsewhere: "https://eu.api.ovh.com/1.0/bill"},
			[]string{"GET " + me + " signed", "GET " + elsewhere, "GET https://eu.api.ovh.com/1.0/bill"}},
		{"back, and on", "/me", map[string]string{me: elsewhere, elsewhere: "https://eu.api.ovh.com/a", "https://eu.api.ovh.com/a": "/b"},
			[]string{"GET " + me + " signed", "GET " + elsewhere, "GET https://eu.api.ovh.com/a", "GET https://eu.api.ovh.com/b"}},
		{"in from outside", elsewhere, map[string]string{elsewhere: me}, []string{"GET " + elsewhere, "GET " + me}},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := &redirects{to: test.to, relay: http.Header{}}
			client := &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}}
			resp, err := client.Do(newRequest(t, "GET", test.from, nil))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if !slices.Equal(base.seen, test.want) {
				t.Errorf("sent %q, want %q", base.seen, test.want)
			}
			if test.to[me] != "" && base.relay.Get("Location") != cmp.Or(test.to["https://eu.api.ovh.com/a"], test.to[elsewhere], test.to[me]) {
				t.Errorf("the response's own header was changed: %v", base.relay)
			}
		})
	}

	// http.Client can resolve the redirect of a URL that has a host, and a proxy may want it as it is.
	for url, want := range map[string]string{me: "you", "/me": "https://eu.api.ovh.com/1.0/you"} {
		base := baseFunc(func(*http.Request) (*http.Response, error) { return response(302, "", "Location", "you"), nil })
		resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(newRequest(t, "GET", url, nil))
		if err != nil || resp.Header.Get("Location") != want {
			t.Errorf("GET %s: %v, %v, want Location %s", url, resp, err, want)
		}
	}

	// Without a host, and not of this endpoint any more: nobody signs it, and Base is told where it goes.
	host := newRequest(t, "GET", "/me", nil)
	host.Host, host.Response = "localhost:8080", &http.Response{Request: newRequest(t, "GET", elsewhere, nil)}
	strayed := &recorder{}
	if _, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: strayed}).RoundTrip(host); err != nil || strayed.last().Host != "" {
		t.Errorf("a strayed request without a host: %v, Host %q", err, strayed.last().Host)
	}
	lost := &redirects{to: map[string]string{elsewhere: "https:/1.0/me", me: "you"}, relay: http.Header{}}
	resp, err := (&http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: lost}}).Do(newRequest(t, "GET", elsewhere, nil))
	const you = "https://eu.api.ovh.com/1.0/you"
	if err != nil || !slices.Equal(lost.seen, []string{"GET " + elsewhere, "GET " + me, "GET " + you}) || resp.Request.URL.String() != you {
		t.Errorf("a redirect without a host, then one that is relative to it: %v, %v, sent %q; want it to end at %s", resp, err, lost.seen, you)
	}

	downgrade := &redirects{to: map[string]string{me: "http://eu.api.ovh.com/1.0/me"}, relay: http.Header{}}
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: downgrade}}
	if _, err := client.Do(newRequest(t, "GET", "/me", nil)); !errors.Is(err, ovhauth.ErrPlainHTTP) || len(downgrade.seen) != 1 {
		t.Errorf("a redirect to plain http: %v, sent %q", err, downgrade.seen)
	}
}

// Every byte of the caller's request is as it was, and what Base gets is a copy.
func TestRequestIsNotTouched(t *testing.T) {
	const text = `{"a":"b"}`
	for _, test := range []struct {
		name, url string
		keys      ovhauth.Credentials
		getBody   bool
	}{
		{"absolute", "https://eu.api.ovh.com/1.0/me", shared, true},
		{"relative", "/me", shared, true},
		{"one-shot body", "/me", shared, false},
		{"bearer", "/me", ovhauth.Credentials{AccessToken: "token"}, false},
		{"bare", "/auth/credential", shared, false},
		{"elsewhere", "https://example.org/", shared, false},
	} {
		req := newRequest(t, "POST", test.url, strings.NewReader(text))
		if !test.getBody {
			req.GetBody, req.ContentLength = nil, -1
		}
		req.Header = http.Header{"Accept": make([]string, 1, 4), "x-ovh-consumer": {"stale"}}
		req.Trailer = http.Header{}
		req.Cancel = make(chan struct{}) //lint:ignore SA1019 http.Client sets it when it has a Timeout
		before, header := *req, req.Header.Clone()
		base := baseFunc(func(out *http.Request) (*http.Response, error) {
			for name := range out.Header {
				out.Header.Add(name, "appended below")
			}
			out.Header.Set("X-New", "set below")
			//lint:ignore SA1019 as above
			if out.Cancel != before.Cancel || reflect.ValueOf(out.Trailer).Pointer() != reflect.ValueOf(before.Trailer).Pointer() {
				t.Errorf("%s: Cancel or Trailer was lost", test.name)
			}
			return response(200, ""), nil
		})
		if _, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: test.keys, Base: base}).RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		// GetBody is a func, which DeepEqual cannot compare.
		if (req.GetBody == nil) != (before.GetBody == nil) {
			t.Errorf("%s: GetBody was changed", test.name)
		}
		after := *req
		after.GetBody, before.GetBody = nil, nil
		if !reflect.DeepEqual(after, before) || !reflect.DeepEqual(req.Header, header) {
			t.Errorf("%s: the request became %+v", test.name, req)
		}
		if spare := req.Header["Accept"][:2][1]; spare != "" {
			t.Errorf("%s: %q was appended into the caller's values", test.name, spare)
		}
	}
}

func TestNilHeader(t *testing.T) {
	base := &recorder{}
	req := newRequest(t, "GET", "/me", nil)
	req.Header = nil
	if _, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	if got := authentication(base.last().Header); !slices.Equal(got, signed) || req.Header != nil {
		t.Errorf("carries %v; the caller's header is %v", got, req.Header)
	}
}

// A response or an error, never both, never neither.
func TestResponseOrError(t *testing.T) {
	body := &trackedBody{Reader: strings.NewReader("")}
	for _, url := range []string{"/me", "https://example.org/"} {
		body.closed = 0
		both := baseFunc(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: body}, io.ErrUnexpectedEOF
		})
		resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: both}).RoundTrip(newRequest(t, "GET", url, nil))
		if resp != nil || err != io.ErrUnexpectedEOF || body.closed != 1 {
			t.Errorf("Base returned both: got %v, %v, body closed %d times", resp, err, body.closed)
		}
		neither := baseFunc(func(*http.Request) (*http.Response, error) { return nil, nil })
		resp, err = (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: neither}).RoundTrip(newRequest(t, "GET", url, nil))
		if resp != nil || err == nil {
			t.Errorf("Base returned neither: got %v, %v", resp, err)
		}
	}
}

type idleCloser struct {
	recorder
	closed int
}

func (c *idleCloser) CloseIdleConnections() { c.closed++ }

func TestCloseIdleConnections(t *testing.T) {
	base := &idleCloser{}
	client := &http.Client{Transport: &ovhauth.Transport{Base: base}}
	client.CloseIdleConnections()
	if base.closed != 1 {
		t.Errorf("Base was told %d times", base.closed)
	}
	(&ovhauth.Transport{Base: &recorder{}}).CloseIdleConnections() // has no such method

	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	http.DefaultTransport = base
	new(ovhauth.Transport).CloseIdleConnections()
	if base.closed != 2 {
		t.Error("http.DefaultTransport was not told")
	}
	http.DefaultTransport = &ovhauth.RetryTransport{Base: base}
	for again, transport := 3, new(ovhauth.Transport); again <= 4; again++ {
		if transport.CloseIdleConnections(); base.closed != again {
			t.Errorf("Base of http.DefaultTransport was told %d times, want %d", base.closed, again)
		}
	}
}

func TestZeroValue(t *testing.T) {
	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	base := &recorder{}
	http.DefaultTransport = base
	t.Setenv("OVH_ENDPOINT", "ovh-ca")
	for _, other := range []string{"OVH_ACCESS_TOKEN", "OVH_CLIENT_ID", "OVH_CLIENT_SECRET", "OVH_PROFILE"} {
		t.Setenv(other, "")
	}
	t.Setenv("OVH_APPLICATION_KEY", encoded.ApplicationKey)
	t.Setenv("OVH_APPLICATION_SECRET", encoded.ApplicationSecret)
	t.Setenv("OVH_CONSUMER_KEY", encoded.ConsumerKey)
	client := &http.Client{Transport: &ovhauth.Transport{}}
	if _, err := client.Get("/me"); err != nil {
		t.Fatal(err)
	}
	got := base.last()
	want := ovhauth.Sign(encoded, "GET", "https://ca.api.ovh.com/1.0/me", nil, timestamp(got))
	if got.URL.String() != "https://ca.api.ovh.com/1.0/me" || got.Header.Get("X-Ovh-Signature") != want {
		t.Errorf("sent %s %v", got.URL, got.Header)
	}
}

// The first request settles the setup for all: an error does not.
func TestSetupErrorIsNotKept(t *testing.T) {
	base := &recorder{}
	transport := &ovhauth.Transport{Credentials: shared, Base: base}
	t.Setenv("OVH_ENDPOINT", "ovh-nowhere")
	if _, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err == nil || !strings.Contains(err.Error(), `"ovh-nowhere"`) {
		t.Fatalf("got %v", err)
	}
	t.Setenv("OVH_ENDPOINT", "ovh-us")
	if _, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OVH_ENDPOINT", "ovh-ca")
	if _, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil || base.last().URL.Host != "api.us.ovhcloud.com" {
		t.Errorf("went to %s, %v", base.last().URL, err)
	}
}

func TestConcurrentFirstRequests(t *testing.T) {
	mock := httpmock.NewMockTransport()
	mock.RegisterResponder("GET", "https://eu.api.ovh.com/1.0/me", httpmock.NewStringResponder(200, "{}"))
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: mock}}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			resp, err := client.Get("/me")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	wg.Wait()
	if n := mock.GetTotalCallCount(); n != 50 {
		t.Errorf("%d calls", n)
	}
}

// A done context gives its own error, at whatever step it ends, and the body is closed. Nothing may be left running: the
// bubble would not end.
func TestContext(t *testing.T) {
	for _, test := range []struct {
		name string
		// run sends req, whose context it may cancel, through a transport of its own
		run  func(cancel func(), transport *ovhauth.Transport, req *http.Request)
		sent int
	}{
		{"before", func(cancel func(), transport *ovhauth.Transport, _ *http.Request) {
			cancel()
			transport.Credentials = ovhauth.CredentialFunc(func(context.Context) (ovhauth.Credentials, error) {
				t.Error("the provider was asked all the same")
				return shared, nil
			})
		}, 0},
		{"before, elsewhere", func(cancel func(), _ *ovhauth.Transport, req *http.Request) {
			cancel()
			req.URL = &url.URL{Scheme: "https", Host: "example.org"}
		}, 0},
		{"in the provider", func(cancel func(), transport *ovhauth.Transport, _ *http.Request) {
			transport.Credentials = ovhauth.CredentialFunc(func(ctx context.Context) (ovhauth.Credentials, error) {
				cancel()
				return shared, errors.New("interrupted")
			})
		}, 0},
		{"in the provider, unnoticed", func(cancel func(), transport *ovhauth.Transport, _ *http.Request) {
			transport.Credentials = ovhauth.CredentialFunc(func(ctx context.Context) (ovhauth.Credentials, error) {
				cancel()
				return shared, nil
			})
		}, 0},
		{"while the body hangs", func(cancel func(), _ *ovhauth.Transport, req *http.Request) {
			r, _ := io.Pipe()
			req.Body.(*trackedBody).Reader = r
			time.AfterFunc(time.Minute, cancel)
			req.Body = &hangingBody{req.Body.(*trackedBody), r}
		}, 0},
		{"while the body goes on for ever", func(cancel func(), _ *ovhauth.Transport, req *http.Request) {
			time.AfterFunc(time.Minute, cancel)
			req.Body.(*trackedBody).Reader = readerFunc(func([]byte) (int, error) { time.Sleep(time.Second); return 0, nil })
		}, 0},
		{"while the body hangs, whoever closes it", func(cancel func(), _ *ovhauth.Transport, req *http.Request) {
			req.Body.(*trackedBody).Reader = readerFunc(func([]byte) (int, error) { time.Sleep(time.Hour); return 0, io.EOF })
			time.AfterFunc(time.Minute, cancel)
		}, 0},
		{"while a second reader hangs, whoever closes it", func(cancel func(), _ *ovhauth.Transport, req *http.Request) {
			req.GetBody = func() (io.ReadCloser, error) {
				time.AfterFunc(time.Minute, cancel)
				return io.NopCloser(readerFunc(func([]byte) (int, error) { time.Sleep(time.Hour); return 0, io.EOF })), nil
			}
		}, 0},
		{"while a second reader that writes itself out is hashed", func(cancel func(), _ *ovhauth.Transport, req *http.Request) {
			req.GetBody = func() (io.ReadCloser, error) {
				time.AfterFunc(time.Minute, cancel)
				r, _ := io.Pipe()
				return struct {
					*bufio.Reader
					io.Closer
				}{bufio.NewReader(r), r}, nil
			}
		}, 0},
		{"while a second reader is hashed", func(cancel func(), _ *ovhauth.Transport, req *http.Request) {
			req.GetBody = func() (io.ReadCloser, error) {
				time.AfterFunc(time.Minute, cancel)
				r, _ := io.Pipe()
				return r, nil
			}
		}, 0},
		{"in the clock", func(cancel func(), transport *ovhauth.Transport, _ *http.Request) {
			transport.Clock = failingClock(func() error { cancel(); return io.EOF })
		}, 0},
		{"in Base", func(cancel func(), transport *ovhauth.Transport, _ *http.Request) {
			transport.Base = baseFunc(func(req *http.Request) (*http.Response, error) {
				cancel()
				return nil, errors.New("connection lost, somehow")
			})
		}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				base, body := &recorder{}, &trackedBody{Reader: strings.NewReader("{}")}
				transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}
				req := newRequest(t, "POST", "/me", nil).WithContext(ctx)
				req.Body = body
				test.run(cancel, transport, req)
				began := time.Now()
				resp, err := transport.RoundTrip(req)
				if took := time.Since(began); took > time.Minute {
					t.Errorf("it took %s; want it to end when the context does, after a minute at most", took)
				}
				time.Sleep(2 * time.Hour) // a Read that Close does not end is left behind until it ends by itself
				if resp != nil || err != context.Canceled {
					t.Errorf("got %v, %v", resp, err)
				}
				if len(base.requests) != test.sent || body.closed != 1 {
					t.Errorf("%d requests sent, body closed %d times", len(base.requests), body.closed)
				}
			})
		})
	}
}

type hangingBody struct {
	*trackedBody
	pipe *io.PipeReader
}

func (b *hangingBody) Close() error { b.trackedBody.Close(); return b.pipe.Close() }

type failingClock func() error

func (f failingClock) Now(context.Context) (time.Time, error) { return time.Time{}, f() }

// A cause that was given with the cancellation comes through from net/http, and so does an error of Base that wraps the context's.
func TestContextCause(t *testing.T) {
	why, wrapped := errors.New("the user left"), fmt.Errorf("connection lost: %w", context.Canceled)
	for _, want := range []error{why, wrapped} {
		ctx, cancel := context.WithCancelCause(t.Context())
		base := baseFunc(func(req *http.Request) (*http.Response, error) {
			cancel(why)
			return nil, want
		})
		_, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(newRequest(t, "GET", "/me", nil).WithContext(ctx))
		if err != want {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

func TestErrorsComeAsTheyAre(t *testing.T) {
	mine := errors.New("mine")
	req := func() *http.Request {
		r := newRequest(t, "PUT", "/me", strings.NewReader("x"))
		r.Body = &trackedBody{Reader: strings.NewReader("x")}
		return r
	}
	for name, test := range map[string]func(*http.Request, *ovhauth.Transport){
		"reader": func(r *http.Request, _ *ovhauth.Transport) {
			r.GetBody = nil
			r.Body.(*trackedBody).Reader = readerFunc(func([]byte) (int, error) { return 0, mine })
		},
		"GetBody": func(r *http.Request, _ *ovhauth.Transport) {
			r.GetBody = func() (io.ReadCloser, error) { return nil, mine }
		},
		"second reader": func(r *http.Request, _ *ovhauth.Transport) {
			r.GetBody = func() (io.ReadCloser, error) {
				return io.NopCloser(readerFunc(func([]byte) (int, error) { return 0, mine })), nil
			}
		},
		"Base": func(_ *http.Request, tr *ovhauth.Transport) {
			tr.Base = baseFunc(func(*http.Request) (*http.Response, error) { return nil, mine })
		},
		"clock": func(_ *http.Request, tr *ovhauth.Transport) { tr.Clock = failingClock(func() error { return mine }) },
	} {
		r, transport := req(), &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: &recorder{}}
		body := r.Body.(*trackedBody)
		test(r, transport)
		resp, err := transport.RoundTrip(r)
		if resp != nil || !errors.Is(err, mine) || name != "clock" && err != mine {
			t.Errorf("%s: got %v, %v", name, resp, err)
		}
		if body.closed != 1 {
			t.Errorf("%s: body closed %d times", name, body.closed)
		}
	}
}

// Keys that were fit to be sent once are not looked through again; others are.
func TestKeysChange(t *testing.T) {
	for _, change := range []func(*ovhauth.Credentials) *string{
		func(c *ovhauth.Credentials) *string { return &c.ApplicationKey },
		func(c *ovhauth.Credentials) *string { return &c.ApplicationSecret },
		func(c *ovhauth.Credentials) *string { return &c.ConsumerKey },
	} {
		given := testKeys
		rt := &ovhauth.Transport{Endpoint: ovhauth.EU, Base: new(recorder),
			Credentials: ovhauth.CredentialFunc(func(context.Context) (ovhauth.Credentials, error) { return given, nil })}
		for _, test := range []struct {
			suffix string
			ok     bool
		}{{"", true}, {"", true}, {"\r\nx", false}, {" \n", true}, {"\x01x", false}, {"\u0085x", false}, {"é", true}, {"", true}} {
			given = testKeys
			*change(&given) += test.suffix
			if _, err := rt.RoundTrip(newRequest(t, "GET", "/me", nil)); (err == nil) != test.ok {
				t.Errorf("a key that ends in %q: got %v, want it accepted: %t", test.suffix, err, test.ok)
			}
		}
	}
}

// What is signed for a relative URL is what net/http makes of the absolute one.
func TestRelativeTarget(t *testing.T) {
	at := time.Unix(1457018875, 0)
	for _, endpoint := range []ovhauth.Endpoint{"https://h.example", ovhauth.EU} {
		base := new(recorder)
		rt := &ovhauth.Transport{Endpoint: endpoint, Credentials: testKeys, Base: base, Clock: ovhauth.ClockFunc(func() time.Time { return at })}
		for _, u := range []string{"", "/", "?a=b", "?", "/?", "me", "/me", "/me?", "/me?a=b%20c", "/a%2Fb", "/é", "/a;b=c,d", "//x/y", "/v1/a?b", "*"} {
			req := newRequest(t, "GET", "http://x/", nil)
			var err error
			if req.URL, err = url.Parse(u); err != nil {
				t.Fatal(err)
			}
			req.URL.Scheme, req.URL.Host = "", ""
			if _, err := rt.RoundTrip(req); err != nil {
				t.Errorf("%q: %v", u, err)
				continue
			}
			out := base.last()
			want := ovhauth.Sign(testKeys, "GET", "https://"+out.URL.Host+out.URL.RequestURI(), nil, at)
			if got := out.Header.Get("X-Ovh-Signature"); got != want {
				t.Errorf("%s, %q: sent %s, but signed something else", endpoint, u, out.URL)
			}
		}
	}
}
