package ovhauth_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/ovhtest"
)

// corrupt changes one digit of each signature.
type corrupt struct{ http.RoundTripper }

func (c corrupt) RoundTrip(req *http.Request) (*http.Response, error) {
	signature := []byte(req.Header.Get("X-Ovh-Signature"))
	signature[len(signature)-1] ^= 1
	req.Header.Set("X-Ovh-Signature", string(signature))
	return c.RoundTripper.RoundTrip(req)
}

// Every rejection by an API that checks, in both dialects, is told for what it is.
func TestRejectionsOfTheAPI(t *testing.T) {
	server := ovhtest.NewServer()
	defer server.Close()
	good := server.Credentials()
	other := func(change func(*ovhauth.Credentials)) ovhauth.Credentials {
		keys := good
		change(&keys)
		return keys
	}
	readOnly := server.NewKey(consumerkey.Rule{Method: "GET", Path: "/me"})
	expired, refused, revoked := server.NewKey(), server.NewKey(), server.NewKey()
	server.Expire(expired.ConsumerKey)
	server.Refuse(refused.ConsumerKey)
	server.Revoke(revoked.ConsumerKey)
	late := ovhauth.ClockFunc(func() time.Time { return time.Now().Add(-time.Minute) })
	plain := &http.Transport{}
	defer plain.CloseIdleConnections()

	for _, test := range []struct {
		name   string
		keys   ovhauth.Credentials
		clock  ovhauth.Clock
		base   http.RoundTripper
		method string
		want   error
		status int
	}{
		{"good", good, nil, plain, "GET", nil, 200},
		{"one digit of the signature", good, nil, corrupt{plain}, "GET", ovhauth.ErrInvalidSignature, 400},
		{"wrong secret", other(func(c *ovhauth.Credentials) { c.ApplicationSecret += "x" }), nil, plain, "GET", ovhauth.ErrInvalidSignature, 400},
		{"wrong application key", other(func(c *ovhauth.Credentials) { c.ApplicationKey += "x" }), nil, plain, "GET", ovhauth.ErrInvalidKey, 403},
		{"wrong consumer key", other(func(c *ovhauth.Credentials) { c.ConsumerKey += "x" }), nil, plain, "GET", ovhauth.ErrUnknownCredential, 403},
		{"revoked consumer key", revoked, nil, plain, "GET", ovhauth.ErrUnknownCredential, 403},
		{"expired consumer key", expired, nil, plain, "GET", ovhauth.ErrInvalidCredential, 403},
		{"refused consumer key", refused, nil, plain, "GET", ovhauth.ErrInvalidCredential, 403},
		{"not granted", readOnly, nil, plain, "PUT", ovhauth.ErrNotGranted, 403},
		{"wrong time", good, late, plain, "GET", ovhauth.ErrQueryTimeOut, 400},
		{"bad token", ovhauth.Credentials{AccessToken: "hunter2"}, nil, plain, "GET", nil, 401},
	} {
		for _, dialect := range []ovhtest.Dialect{ovhtest.ErrorCodes, ovhtest.Classes} {
			server.SetDialect(dialect)
			client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: test.keys, Clock: test.clock, Base: test.base}}
			resp, err := client.Do(newRequest(t, test.method, "/me", strings.NewReader("{}")))
			if err != nil {
				t.Fatal(err)
			}
			err = ovhauth.CheckResponse(resp)
			if resp.StatusCode != test.status || test.want != nil && !errors.Is(err, test.want) || (err == nil) != (test.status == 200) {
				t.Errorf("%s: %d, %v; want %v", test.name, resp.StatusCode, err, test.want)
			}
			if err == nil {
				resp.Body.Close()
			} else if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "query ID") {
				t.Errorf("%s: %v; want an error with a query ID and no text of the body", test.name, err)
			}
		}
	}
}

// What arrives is what was sent, verified by a server that has never heard of this package's Sign.
func TestVerifiedExchange(t *testing.T) {
	server := ovhtest.NewServer()
	defer server.Close()
	server.Handle("/{path...}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}))
	for _, url := range []string{"/a b", "/é", "/a|b", "/a#frag", "/ip/1.2.3.4%2F29", "/x?q=a+b&q=%20&é", "/x?", "/v1/x", string(server.Endpoint()) + "/x"} {
		for name, body := range map[string]io.Reader{"none": nil, "memory": strings.NewReader(`{"é":"<>"}`), "stream": struct{ io.Reader }{strings.NewReader(`{"é":"<>"}`)}} {
			server.Forget()
			resp, err := server.Client().Do(newRequest(t, "PUT", url, body))
			if err != nil {
				t.Errorf("%s, body %s: %v", url, name, err)
				continue
			}
			echo, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			x := server.Exchanges()
			if resp.StatusCode != 200 || err != nil || len(x) != 1 || !x[0].Verified || !x[0].Executed || body != nil && string(echo) != `{"é":"<>"}` {
				t.Errorf("%s, body %s: %d %q, %v: %v", url, name, resp.StatusCode, echo, err, x)
			}
		}
	}
}

// A clock an hour off costs fifty clients that start together one rejection each, and no error.
func TestWrongClockOverSockets(t *testing.T) {
	server := ovhtest.NewServer()
	defer server.Close()
	server.SetClock(func() time.Time { return time.Now().Add(-time.Hour) })
	client := server.Client()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			resp, err := client.Get("/me")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("got %s, want 200", resp.Status)
			}
		})
	}
	wg.Wait()
	if n := len(server.Exchanges()); n < 51 || n > 100 {
		t.Errorf("%d requests", n)
	}
	server.Forget()
	if resp, err := client.Get("/me"); err != nil || len(server.Exchanges()) != 1 {
		t.Errorf("%v, %v: the clock was not kept", resp, err)
	}
}

// The token endpoint is asked through the Transport's Base: at first, and again when the API rejects the token.
func TestServiceAccountAgainstTheAPI(t *testing.T) {
	srv := ovhtest.NewServer()
	defer srv.Close()
	id, secret := srv.NewServiceAccount()
	var asked []string
	client := func(secret string) *http.Client {
		return &http.Client{Transport: &ovhauth.Transport{
			Endpoint:    srv.Endpoint(),
			Credentials: ovhauth.ServiceAccount(srv.Endpoint(), id, secret),
			Base: baseFunc(func(req *http.Request) (*http.Response, error) {
				asked = append(asked, req.URL.Path)
				return http.DefaultTransport.RoundTrip(req)
			}),
		}}
	}
	mine := client(secret)
	for _, want := range []string{"/auth/oauth2/token /1.0/me", "/1.0/me", "/1.0/me /auth/oauth2/token /1.0/me"} {
		asked = nil
		resp, err := mine.Get("/me")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := strings.Join(asked, " "); resp.StatusCode != 200 || got != want {
			t.Errorf("%s by %s, want %s", resp.Status, got, want)
		}
		if want == "/1.0/me" {
			srv.RevokeTokens()
		}
	}
	_, err := client("wrong").Get("/me")
	if api, ok := errors.AsType[*ovhauth.APIError](err); !ok || api.StatusCode != 400 || api.Code != "invalid_client_credentials" {
		t.Errorf("with a wrong secret: %v", err)
	}
}
