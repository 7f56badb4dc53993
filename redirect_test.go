package ovhauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"example.com/ovhauth"
)

// byHost is a Base that has one response for each host, and notes what arrived.
type byHost struct {
	responses map[string]*http.Response
	arrived   []*http.Request
}

func (b *byHost) RoundTrip(req *http.Request) (*http.Response, error) {
	b.arrived = append(b.arrived, req)
	if resp := b.responses[req.URL.Host]; resp != nil {
		copied := *resp
		return &copied, nil
	}
	return response(200, "{}"), nil
}

var otherKeys = ovhauth.Credentials{ApplicationKey: "otherApplication", ApplicationSecret: "otherSecret", ConsumerKey: "otherConsumer"}

// What stands above the Transports of two APIs, of which one stands above the other.
func nothingAbove(eu, _ http.RoundTripper) http.RoundTripper { return eu }

func retryAbove(eu, _ http.RoundTripper) http.RoundTripper { return &ovhauth.RetryTransport{Base: eu} }

// switchAbove asks each by itself.
func switchAbove(eu, ca http.RoundTripper) http.RoundTripper {
	return baseFunc(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == "ca.api.ovh.com" {
			return ca.RoundTrip(req)
		}
		return eu.RoundTrip(req)
	})
}

// copyAbove hides which request was sent.
func copyAbove(eu, _ http.RoundTripper) http.RoundTripper {
	return baseFunc(func(req *http.Request) (*http.Response, error) {
		resp, err := eu.RoundTrip(req.Clone(req.Context()))
		if resp != nil {
			resp.Request = req
		}
		return resp, err
	})
}

// A redirect from the API of one Transport to that of another is followed unsigned: the host of one does not decide what is done
// at the other.
func TestRedirectBetweenStackedTransports(t *testing.T) {
	for _, test := range []struct {
		name, method, url string
		above             func(eu, ca http.RoundTripper) http.RoundTripper
	}{
		{"relative", "DELETE", "/me", nothingAbove},
		{"relative, a RetryTransport above", "DELETE", "/me", retryAbove},
		{"relative, a RetryTransport above that sends a copy", "POST", "/me", retryAbove},
		{"relative, a switch above", "DELETE", "/me", switchAbove},
		{"relative, another's RoundTripper above that sends a copy", "DELETE", "/me", copyAbove},
		{"absolute", "DELETE", "https://eu.api.ovh.com/1.0/me", nothingAbove},
		{"absolute, another's RoundTripper above that sends a copy", "DELETE", "https://eu.api.ovh.com/1.0/me", copyAbove},
	} {
		base := &byHost{responses: map[string]*http.Response{
			"eu.api.ovh.com": response(307, "", "Location", "https://ca.api.ovh.com/1.0/me/api/credential/1"),
		}}
		ca := &ovhauth.Transport{Endpoint: ovhauth.CA, Credentials: otherKeys, Base: base}
		stack := test.above(&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: ca}, ca)
		resp, err := (&http.Client{Transport: stack}).Do(newRequest(t, test.method, test.url, strings.NewReader("x")))
		if err != nil || len(base.arrived) != 2 {
			t.Fatalf("%s: %v, %v, %d requests; want the redirect followed", test.name, resp, err, len(base.arrived))
		}
		if got := authentication(base.arrived[0].Header); got == nil {
			t.Errorf("%s: the request to EU went out unsigned, want it signed", test.name)
		}
		if got := authentication(base.arrived[1].Header); got != nil {
			t.Errorf("%s: the redirect to CA carries %v, want nothing", test.name, got)
		}
	}
}

// A redirect by what stands above a Transport, and which no Transport has seen, is no stranger's: it leads to a signed request.
func TestRedirectFromAbove(t *testing.T) {
	base := &byHost{}
	signer := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}
	above := baseFunc(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/old" {
			resp := response(302, "", "Location", "/me")
			resp.Request = req // as net/http does
			return resp, nil
		}
		return signer.RoundTrip(req)
	})
	resp, err := (&http.Client{Transport: above}).Get("/old")
	if err != nil || len(base.arrived) != 1 || authentication(base.arrived[0].Header) == nil {
		t.Errorf("%v, %v, %d requests; want one, signed", resp, err, len(base.arrived))
	}
}

// A relative request that is redirected to a stranger leaves behind what was meant for the API.
func TestRedirectOfARelativeRequestToAStranger(t *testing.T) {
	for _, host := range []string{"evil.example", "evil.example.", "sub.eu.api.ovh.com"} {
		base := &byHost{responses: map[string]*http.Response{
			"eu.api.ovh.com": response(302, "", "Location", "https://"+host+"/landing"),
			host:             response(302, "", "Location", "https://second.example/landing"),
		}}
		client := &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}}
		req := newRequest(t, "GET", "/me?secret=query", nil)
		for _, name := range []string{"Authorization", "Cookie", "Cookie2", "Proxy-Authorization", "Www-Authenticate", "Proxy-Authenticate"} {
			req.Header.Set(name, "hunter2")
		}
		req.Header.Set("X-Other", "kept")
		if resp, err := client.Do(req); err != nil || len(base.arrived) != 3 {
			t.Fatalf("%s: %v, %v, %d requests; want both redirects followed", host, resp, err, len(base.arrived))
		}
		for _, r := range base.arrived[1:] {
			if text := fmt.Sprint(r.Header); strings.Contains(text, "hunter2") || strings.Contains(text, "secret=query") || authentication(r.Header) != nil {
				t.Errorf("%s got %s; want no Referer, no key, and nothing that net/http keeps from strangers", r.URL, text)
			}
			if r.Header.Get("X-Other") != "kept" {
				t.Errorf("%s got %v; want the caller's other headers", r.URL, r.Header)
			}
		}
	}
}

// wrapper passes on all that a Transport can, as one for tracing does.
type wrapper struct{ *ovhauth.Transport }

// What leads back to the Transport itself is an error that shows the right line, not an endless loop.
func TestTransportBelowItself(t *testing.T) {
	old := http.DefaultTransport
	defer func() { http.DefaultTransport = old }()
	for _, url := range []string{"/me", "https://eu.api.ovh.com/1.0/me", "https://elsewhere.example/"} {
		for name, transport := range map[string]http.RoundTripper{
			"Transport":                 &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared},
			"RetryTransport, Transport": &ovhauth.RetryTransport{Base: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared}},
			"a wrapper, Transport":      wrapper{&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared}},
		} {
			http.DefaultTransport = transport
			closing := &trackedBody{Reader: strings.NewReader("x")}
			req := newRequest(t, "PUT", url, nil)
			req.Body = closing
			_, err := http.DefaultTransport.RoundTrip(req)
			if err == nil || !strings.Contains(err.Error(), "http.DefaultTransport = &ovhauth.Transport{Base: http.DefaultTransport}") {
				t.Errorf("%s, %s: %v; want an error that shows the right line", name, url, err)
			}
			if closing.closed == 0 {
				t.Errorf("%s, %s: the body was not closed", name, url)
			}
			http.DefaultClient.CloseIdleConnections()
		}
	}
	// What leads back over another one.
	for _, url := range []string{"/me", "https://eu.api.ovh.com/1.0/me", "https://ca.api.ovh.com/1.0/me", "https://elsewhere.example/"} {
		for _, below := range []ovhauth.Endpoint{ovhauth.EU, ovhauth.CA} {
			transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: &ovhauth.Transport{Endpoint: below, Credentials: otherKeys}}
			rounds := 0
			http.DefaultTransport = baseFunc(func(req *http.Request) (*http.Response, error) {
				if rounds++; rounds > 2 {
					return response(508, ""), nil
				}
				return transport.RoundTrip(req)
			})
			if _, err := http.DefaultTransport.RoundTrip(newRequest(t, "GET", url, nil)); err == nil || !strings.Contains(err.Error(), "leads back to it") {
				t.Errorf("EU over %s, %s: %v; want an error", below, url, err)
			}
		}
	}
	// The line that it shows works.
	base := &byHost{}
	http.DefaultTransport = base
	http.DefaultTransport = &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: http.DefaultTransport}
	if resp, err := http.Get("https://eu.api.ovh.com/1.0/me"); err != nil || resp.StatusCode != 200 || authentication(base.arrived[0].Header) == nil {
		t.Errorf("%v, %v; want a signed request", resp, err)
	}
}

// A request that went out unsigned, as its host is not the endpoint's, is told so when it is rejected.
func TestUnsignedRejectionNamesBothHosts(t *testing.T) {
	base := &byHost{responses: map[string]*http.Response{"ca.api.ovh.com": response(401, `{"message":"You must login first"}`)}}
	transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}
	for name, rt := range map[string]http.RoundTripper{"Transport": transport, "RetryTransport": &ovhauth.RetryTransport{Base: transport}} {
		resp, err := (&http.Client{Transport: rt}).Get("https://ca.api.ovh.com/1.0/me")
		if err != nil {
			t.Fatal(err)
		}
		base.responses["ca.api.ovh.com"].Body = response(401, `{"message":"You must login first"}`).Body
		err = ovhauth.CheckResponse(resp)
		if s := fmt.Sprint(err); !strings.Contains(s, "ca.api.ovh.com") || !strings.Contains(s, "eu.api.ovh.com") || !strings.Contains(s, "unsigned") {
			t.Errorf("%s: %v; want both hosts named, and that it went out unsigned", name, err)
		}
	}
	own := &ovhauth.Transport{Endpoint: ovhauth.CA, Credentials: otherKeys, Base: base}
	for name, rt := range map[string]http.RoundTripper{"signed": own, "signed by the Transport below": &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: own}} {
		resp, err := (&http.Client{Transport: rt}).Get("https://ca.api.ovh.com/1.0/me")
		if err != nil {
			t.Fatal(err)
		}
		if err := ovhauth.CheckResponse(resp); err == nil || strings.Contains(err.Error(), "unsigned") {
			t.Errorf("%s: %v; want nothing said of being unsigned", name, err)
		}
	}
}

// So is one that a stranger's redirect led back to the endpoint, whose host is the right one.
func TestUnsignedRejectionAfterARedirectBack(t *testing.T) {
	stranger, back := response(302, ""), response(302, "")
	stranger.Header.Set("Location", "https://example.org/")
	back.Header.Set("Location", "https://api.ovh.com/1.0/me")
	base := &byHost{responses: map[string]*http.Response{"eu.api.ovh.com": stranger, "example.org": back,
		"api.ovh.com": response(401, `{"message":"You must login first"}`)}}
	resp, err := (&http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}}).Get("/me")
	if err != nil {
		t.Fatal(err)
	}
	const want = "it went out unsigned, since a redirect by another origin led to it; call it directly"
	if err := ovhauth.CheckResponse(resp); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v; want it to end with %q", err, want)
	}
}

// A guest goes out with the application key alone, whichever client marks it.
func TestGuests(t *testing.T) {
	failing := ovhauth.CredentialFunc(func(context.Context) (ovhauth.Credentials, error) {
		return ovhauth.Credentials{}, errors.New("no vault")
	})
	for _, test := range []struct {
		name     string
		header   map[string]string
		provider ovhauth.CredentialProvider
		want     string // the application key; "signed" for a signature, "error" if nothing is sent
	}{
		{"not marked", nil, shared, "signed"},
		{"marked", map[string]string{"X-Ovh-Application": "mine"}, shared, shared.ApplicationKey},
		{"marked, with a timestamp", map[string]string{"X-Ovh-Application": "mine", "X-Ovh-Timestamp": "1"}, shared, shared.ApplicationKey},
		{"marked, no keys", map[string]string{"X-Ovh-Application": "mine"}, ovhauth.Credentials{}, "mine"},
		{"marked, a token", map[string]string{"X-Ovh-Application": "mine"}, ovhauth.Credentials{AccessToken: "t"}, "mine"},
		{"marked in another spelling, which costs too much to look for", map[string]string{"x-ovh-application": "mine"}, shared, "signed"},
		{"marked, no token to be had", map[string]string{"X-Ovh-Application": "mine"}, ovhauth.ServiceAccount(ovhauth.EU, "id", "secret"), "mine"},
		{"marked, the provider fails", map[string]string{"X-Ovh-Application": "mine"}, failing, "mine"},
		{"marked, the provider is set up wrongly", map[string]string{"X-Ovh-Application": "mine"}, ovhauth.FileCredentials(ovhauth.EU, "absent.conf"), "error"},
		{"marked, with an empty consumer key", map[string]string{"X-Ovh-Application": "mine", "X-Ovh-Consumer": ""}, ovhauth.Credentials{}, "mine"},
		{"empty", map[string]string{"X-Ovh-Application": ""}, shared, "signed"},
		{"a consumer key, too", map[string]string{"X-Ovh-Application": "mine", "X-Ovh-Consumer": "c"}, shared, "signed"},
		{"a signature, too", map[string]string{"X-Ovh-Application": "mine", "x-ovh-signature": "s"}, shared, "signed"},
		{"a token, too", map[string]string{"X-Ovh-Application": "mine", "Authorization": "Bearer t"}, shared, "signed"},
	} {
		for _, path := range []string{"/order/cart", "/auth/credential"} {
			if path == "/auth/credential" && test.want == "signed" {
				continue // which nobody signs
			}
			base := &recorder{}
			req := newRequest(t, "POST", path, strings.NewReader("{}"))
			for name, value := range test.header {
				req.Header[name] = []string{value}
			}
			_, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: test.provider, Base: base}).RoundTrip(req)
			if (err == nil) != (test.want != "error") {
				t.Errorf("%s, %s: got %v; want %s", test.name, path, err, test.want)
			}
			if err != nil {
				continue
			}
			got := base.last().Header
			key := got.Get("X-Ovh-Application")
			if signed := got.Get("X-Ovh-Signature") != ""; signed != (test.want == "signed") || !signed && (key != test.want || len(authentication(got)) != 1) {
				t.Errorf("%s, %s: sent with %v; want %s", test.name, path, authentication(got), test.want)
			}
		}
	}
}

// That a guest must log in says nothing of keys, and nobody looks for others.
func TestGuestWhoMustLogIn(t *testing.T) {
	provider, sent := &rotating{next: []ovhauth.Credentials{shared, otherKeys}}, 0
	req := newRequest(t, "GET", "/me", nil)
	req.Header.Set("X-Ovh-Application", "mine")
	resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: provider, Base: baseFunc(func(*http.Request) (*http.Response, error) {
		sent++
		return response(401, `{"message":"You must login first"}`), nil
	})}).RoundTrip(req)
	if err != nil || resp.StatusCode != 401 || sent != 1 || provider.next[0] != shared {
		t.Errorf("got %v, %v after %d sendings, keys replaced: %t; want 401 after 1, and none replaced", resp, err, sent, provider.next[0] != shared)
	}
}

// What is wrong with the configuration is told a guest, too: it may mislead any key.
func TestGuestWithABrokenConfiguration(t *testing.T) {
	base := &recorder{}
	req := newRequest(t, "GET", "/order/cart", nil)
	req.Header.Set("X-Ovh-Application", "mine")
	_, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: ovhauth.FileCredentials(ovhauth.EU, "absent.conf"), Base: base}).RoundTrip(req)
	if err == nil || !strings.Contains(err.Error(), "absent.conf") || len(base.requests) != 0 {
		t.Errorf("got %v, %d sent; want an error that names the file, and nothing sent", err, len(base.requests))
	}
}

// URLs that cannot mean what they say.
func TestURLsThatAreRejected(t *testing.T) {
	for url, want := range map[string]string{
		"//record/1":              "two slashes at the start",
		"http://eu.api.ovh.com/x": "plain http",
		"mailto:me":               "no host",
	} {
		base := &recorder{}
		_, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}).RoundTrip(newRequest(t, "GET", url, nil))
		if err == nil || !strings.Contains(err.Error(), want) || len(base.requests) != 0 {
			t.Errorf("%s: %v, %d sent; want an error that says %q, and nothing sent", url, err, len(base.requests), want)
		}
	}
}
