package ovhauth_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/ovhauth"
)

// FuzzWire: whatever http.NewRequest accepts is rejected before it is sent, or arrives as it was signed, or, at another origin,
// arrives unsigned.
func FuzzWire(f *testing.F) {
	for _, url := range []string{
		"/me", "me", "", "?a=b", "/a b", "/é", "/a|b", "/a#frag", "/a?q=a b", "/a/", "/x%2Fy", "/x%2fy", "/a+b", "?q=a+b", "?q=a%20b",
		"?q=é", "?b=1&a=2", "/a?", "/../b", "//c", "/,", "/:", "/@", "?x=[1]", "?q=%zz", "?q=x;y", "/v1/me", "/v2/iam/policy", "/v1", "*",
		"https://eu.api.ovh.com", "https://eu.api.ovh.com?", "https://eu.api.ovh.com//double//x/../y?a=1&&b", "https://EU.API.OVH.COM/1.0/me",
		"https://eu.api.ovh.com:443/1.0/me", "https://Api.ovh.Com", "https://eu.api.ovh.com:8443/1.0/me", "https://user:pass@eu.api.ovh.com/1.0/me#f",
		"http://eu.api.ovh.com/1.0/me", "https://example.org/file", "http://example.org/file", "https:///me", "https:opaque", "mailto:a@b.c",
		"/auth/time", "/auth/credential", "/ip/1.2.3.4%2F29/reverse", "https://eu.api.ovh.com/1.0/me?x=\x80", "/\x00", "/%00?%0a",
	} {
		f.Add("GET", url, "", "", false)
		f.Add("POST", url, `{"a":"b"}`, "", true)
	}
	f.Add("", "/me", "", "", false)
	f.Add("get", "/me", "body", "", true)
	f.Add("CONNECT", "https://eu.api.ovh.com", "", "", false)
	f.Add("OPTIONS", "*", "", "", false)
	f.Add("CONNECT", "http://0", "0", "0", true)
	f.Add("PUT", "https://eu.api.ovh.com/1.0/me", "x", "proxy.example", false)
	f.Add("PUT", "https://eu.api.ovh.com/1.0/me", "x", "é.example", false)
	f.Add("PUT", "https://eu.api.ovh.com/1.0/me", "x", "a b/c", false)
	f.Add("PUT", "https://eu.api.ovh.com/1.0/me", "x", "[fe80::1%25eth0]:1", false)

	wire := newWire(f)
	transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: wire.base}
	f.Fuzz(func(t *testing.T, method, url, body, host string, once bool) {
		var reader io.Reader = strings.NewReader(body)
		if once {
			reader = struct{ io.Reader }{reader} // which NewRequest makes no GetBody for
		}
		req, err := http.NewRequest(method, url, reader)
		if err != nil {
			t.Skip()
		}
		if host != "" {
			req.Host = host
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		resp, err := transport.RoundTrip(req.WithContext(ctx))
		asked := strings.ToLower(strings.TrimSuffix(req.URL.Host, ":443"))
		own := asked == "" || req.URL.Scheme == "https" && slices.Contains([]string{"eu.api.ovh.com", "api.eu.ovhcloud.com", "api.ovh.com"}, asked)
		if err != nil {
			// What we, or net/http, would not send. Anything else was sent, and could not be read.
			if own && !strings.HasPrefix(err.Error(), "ovhauth: ") && !strings.HasPrefix(err.Error(), "net/http: invalid ") {
				t.Fatalf("%s %q: %v", method, url, err)
			}
			return
		}
		resp.Body.Close()
		var a arrival
		select {
		case a = <-wire.arrived:
		case <-ctx.Done():
			t.Fatalf("%s %q: it got a response, but did not arrive", method, url)
		}
		signature := a.header.Get("X-Ovh-Signature")
		path, _, _ := strings.Cut(a.url(), "?")
		path = strings.TrimPrefix(path, "https://"+a.host)
		switch {
		case !own:
			for name := range a.header {
				if strings.HasPrefix(name, "X-Ovh-") {
					t.Errorf("%s went to %s", name, req.URL)
				}
			}
		case a.method() == "GET" && (path == "/1.0/auth/time" || path == "/v1/auth/time"),
			a.method() == "POST" && (path == "/1.0/auth/credential" || path == "/v1/auth/credential"):
			if names := authentication(a.header); a.method() == "GET" && names != nil || a.method() == "POST" && !slices.Equal(names, []string{"Application"}) {
				t.Errorf("%s %s carries %v", a.method(), path, names)
			}
		case signature != a.signature(shared):
			t.Errorf("%s %q arrived as %q for %q, signed otherwise", method, url, a.line, a.host)
		case a.body != body:
			t.Errorf("body %q arrived as %q", body, a.body)
		}
	})
}
