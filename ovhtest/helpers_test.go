package ovhtest_test

import (
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

func newServer(t *testing.T) *ovhtest.Server {
	t.Helper()
	s := ovhtest.NewServer()
	t.Cleanup(s.Close)
	return s
}

// root is the URL of the server's host.
func root(s *ovhtest.Server) string { return strings.TrimSuffix(string(s.Endpoint()), "/1.0") }

// signature is the one that the API's documentation describes.
func signature(c ovhauth.Credentials, method, url, body, timestamp string) string {
	return fmt.Sprintf("$1$%x", sha1.Sum([]byte(
		c.ApplicationSecret+"+"+c.ConsumerKey+"+"+method+"+"+url+"+"+body+"+"+timestamp)))
}

// plain is a request without any authentication; target is below the host.
func plain(t *testing.T, s *ovhtest.Server, method, target, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, root(s)+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// signedAt is a request signed by hand.
func signedAt(t *testing.T, s *ovhtest.Server, c ovhauth.Credentials, at time.Time,
	method, target, body string) *http.Request {
	t.Helper()
	req, timestamp := plain(t, s, method, target, body), fmt.Sprint(at.Unix())
	req.Header.Set("X-Ovh-Application", c.ApplicationKey)
	req.Header.Set("X-Ovh-Consumer", c.ConsumerKey)
	req.Header.Set("X-Ovh-Timestamp", timestamp)
	req.Header.Set("X-Ovh-Signature", signature(c, method, root(s)+target, body, timestamp))
	return req
}

func signed(t *testing.T, s *ovhtest.Server, c ovhauth.Credentials, method, target, body string) *http.Request {
	t.Helper()
	return signedAt(t, s, c, time.Now(), method, target, body)
}

// client adds nothing, follows no redirect, and keeps no connection that net/http could repeat a request on.
var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// send returns the response to req, with its body.
func send(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
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

// call sends a request of the server's first key and wants a 200.
func call(t *testing.T, s *ovhtest.Server, method, target, body string) string {
	t.Helper()
	resp, got := send(t, signed(t, s, s.Credentials(), method, target, body))
	if resp.StatusCode != 200 {
		t.Fatalf("%s %s: %s %s, want 200", method, target, resp.Status, got)
	}
	return got
}

func decode[T any](t *testing.T, body string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatalf("%v in %s, want JSON", err, body)
	}
	return v
}

func requestKey(t *testing.T, s *ovhtest.Server, body string) (c ovhauth.Credentials, validationURL string) {
	t.Helper()
	req := plain(t, s, "POST", "/1.0/auth/credential", body)
	req.Header.Set("X-Ovh-Application", s.Credentials().ApplicationKey)
	resp, text := send(t, req)
	got := decode[struct{ ConsumerKey, ValidationURL, State string }](t, text)
	if resp.StatusCode != 200 || len(got.ConsumerKey) != 32 || got.State != "pendingValidation" {
		t.Fatalf("%s %s, want 200 and a pending key", resp.Status, text)
	}
	c = s.Credentials()
	c.ConsumerKey = got.ConsumerKey
	return c, got.ValidationURL
}

// isCut reports whether err is what a client sees of a connection that was reset.
func isCut(err error) bool {
	return slices.ContainsFunc([]error{syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF}, func(cut error) bool {
		return errors.Is(err, cut)
	})
}

const granted = "grant_type=client_credentials&scope=all"

// askToken asks the token endpoint; user and password are Basic authentication if there is a user.
func askToken(t *testing.T, s *ovhtest.Server, user, password, form string) (*http.Response, string) {
	t.Helper()
	req := plain(t, s, "POST", "/auth/oauth2/token", form)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	return send(t, req)
}
