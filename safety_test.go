package ovhauth_test

import (
	"bytes"
	"context"
	"crypto/fips140"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"example.com/ovhauth"
)

// verbs are those under which fmt asks a value how to print it. Under %p, and under %w where it does not belong, fmt asks no
// type; go vet reports both.
const verbs = "vsqxXdtTbceEfFgGoOU"

// printings are all the ways in which fmt, slog and encoding/json show v.
func printings(v any) map[string]string {
	shown := map[string]string{}
	for _, flags := range []string{"", "+", "#", " ", "0", "-20.3"} {
		for _, verb := range verbs {
			format := "%" + flags + string(verb)
			shown[format] = fmt.Sprintf(format, v)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "v", v)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "v", v)
	shown["slog"] = log.String()
	b, err := json.Marshal(v)
	shown["json"] = fmt.Sprint(string(b), err)
	shown["error"] = fmt.Sprint(fmt.Errorf("%v: %+v", v, v))
	return shown
}

// hexadecimal and decimal forms of a secret are as good as the secret.
func leaks(shown, secret string) bool {
	return strings.Contains(shown, secret) || strings.Contains(shown, fmt.Sprintf("%x", secret)) ||
		strings.Contains(shown, fmt.Sprintf("%X", secret)) || strings.Contains(shown, strings.Trim(fmt.Sprint([]byte(secret)), "[]"))
}

func TestNothingPrintsAKey(t *testing.T) {
	keys := ovhauth.Credentials{ApplicationKey: "hunter2a", ApplicationSecret: "hunter2s", ConsumerKey: "hunter2c", AccessToken: "hunter2t"}
	for _, other := range []string{"OVH_ACCESS_TOKEN", "OVH_CLIENT_ID", "OVH_CLIENT_SECRET", "OVH_PROFILE"} {
		t.Setenv(other, "")
	}
	t.Setenv("OVH_APPLICATION_KEY", keys.ApplicationKey)
	t.Setenv("OVH_APPLICATION_SECRET", keys.ApplicationSecret)
	t.Setenv("OVH_CONSUMER_KEY", keys.ConsumerKey)
	env := ovhauth.EnvCredentials()
	if _, err := env.Retrieve(t.Context()); err != nil {
		t.Fatal(err)
	}
	used := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: keys, Base: &recorder{}}
	if _, err := used.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Keys      ovhauth.Credentials
		Pointer   *ovhauth.Credentials
		Any       any
		Transport http.RoundTripper
	}
	for name, v := range map[string]any{
		"Credentials":          keys,
		"pointer":              &keys,
		"slice":                []ovhauth.Credentials{keys},
		"map":                  map[string]ovhauth.Credentials{"a": keys},
		"struct":               holder{keys, &keys, keys, used},
		"pointer to struct":    &holder{keys, &keys, keys, used},
		"provider":             ovhauth.CredentialProvider(keys),
		"EnvCredentials":       env,
		"Transport":            &ovhauth.Transport{Credentials: keys},
		"Transport in use":     used,
		"Transport in Client":  &http.Client{Transport: used},
		"Transport of another": &ovhauth.Transport{Credentials: keys, Base: used},
		"Transport, password":  &ovhauth.Transport{Endpoint: "https://user:hunter2@api.example/1.0"},
		"provider, password":   ovhauth.DefaultCredentials("https://user:hunter2@api.example/1.0"),
		"account, password":    ovhauth.ServiceAccount("https://user:hunter2@api.example/1.0", "id", "secret"),
	} {
		for how, shown := range printings(v) {
			if leaks(shown, "hunter2") {
				t.Errorf("%s by %s: %s", name, how, shown)
			}
		}
	}
	if got := fmt.Sprint(ovhauth.Credentials{ConsumerKey: "hunter2"}); got != `ovhauth.Credentials{ApplicationKey:"" ApplicationSecret:"" ConsumerKey:"[redacted]" AccessToken:""}` {
		t.Errorf("which keys are set is not shown: %s", got)
	}
	if b, err := json.Marshal(keys); err != nil || string(b) != `{"ApplicationKey":"[redacted]","ApplicationSecret":"[redacted]","ConsumerKey":"[redacted]","AccessToken":"[redacted]"}` {
		t.Errorf("JSON: %s, %v", b, err)
	}
}

type withKeys struct {
	context.Context
	Keys ovhauth.Credentials
}

// A Base sees the headers it sends; its context shows no more than that, and not even that.
func TestOutgoingContextPrintsNoKey(t *testing.T) {
	keys := ovhauth.Credentials{ApplicationKey: "hunter2a", ApplicationSecret: "hunter2s", ConsumerKey: "hunter2c"}
	look := func(ctx context.Context) {
		type key struct{}
		for how, shown := range printings(context.WithValue(ctx, key{}, 1)) {
			if leaks(shown, "hunter2") {
				t.Errorf("by %s: %s", how, shown)
			}
		}
		for how, shown := range printings(struct{ ctx context.Context }{ctx}) { // where fmt asks no type
			if leaks(shown, "hunter2") {
				t.Errorf("in a field by %s: %s", how, shown)
			}
		}
		for how, shown := range printings(ctx) {
			if leaks(shown, "hunter2") {
				t.Errorf("by %s: %s", how, shown)
			}
		}
	}
	base := baseFunc(func(req *http.Request) (*http.Response, error) { look(req.Context()); return response(200, ""), nil })
	for _, provider := range []ovhauth.CredentialProvider{keys,
		ovhauth.CredentialFunc(func(ctx context.Context) (ovhauth.Credentials, error) { look(ctx); return keys, nil })} {
		for _, ctx := range []context.Context{ // the caller's may hold keys, and hide them as well as it can
			t.Context(), context.WithValue(t.Context(), withKeys{}, keys), &withKeys{t.Context(), keys},
		} {
			req := newRequest(t, "GET", "/me", nil).WithContext(ctx)
			if _, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: provider, Base: base}).RoundTrip(req); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := fmt.Sprint(&ovhauth.Transport{Endpoint: ovhauth.EU}); got != `&ovhauth.Transport{Endpoint:"https://eu.api.ovh.com/1.0"}` {
		t.Errorf("a Transport is printed as %s", got)
	}
}

// The response's request is the caller's, which never had the keys, whatever happened on the way.
func TestResponsesDoNotCarryKeys(t *testing.T) {
	for _, url := range []string{"/me", "https://eu.api.ovh.com/1.0/me", "https://example.org/"} {
		req := newRequest(t, "GET", url, nil)
		resp, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: baseFunc(func(signed *http.Request) (*http.Response, error) {
			resp := response(200, "")
			resp.Request = signed // as net/http does
			return resp, nil
		})}).RoundTrip(req)
		if err != nil || resp.Request != req || authentication(resp.Request.Header) != nil {
			t.Errorf("%s: %v, %v; want a response to the caller's request, without keys", url, resp, err)
		}
	}
}

// Under GODEBUG=fips140=only a signature is an error, not a panic; what needs none goes through. Under fips140=on all does. Only
// processes of their own can show that.
func TestFIPS(t *testing.T) {
	mode := os.Getenv("OVHAUTH_TEST_FIPS")
	if mode == "" {
		for _, mode := range []string{"only", "on"} {
			child := exec.Command(os.Args[0], "-test.run=^TestFIPS$", "-test.v")
			child.Env = append(os.Environ(), "OVHAUTH_TEST_FIPS="+mode, "GODEBUG=fips140="+mode)
			if out, err := child.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestFIPS")) {
				t.Errorf("fips140=%s: %v\n%s", mode, err, out)
			}
		}
		return
	}
	if mode == "on" {
		transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: &recorder{}}
		if _, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil || !fips140.Enabled() {
			t.Errorf("signed: %v, in FIPS mode %t; want no error, in FIPS mode", err, fips140.Enabled())
		}
		return
	}
	base, body := &recorder{}, &trackedBody{Reader: strings.NewReader("x")}
	transport := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: base}
	req := newRequest(t, "POST", "/me", body)
	if resp, err := transport.RoundTrip(req); resp != nil || !errors.Is(err, ovhauth.ErrFIPS) || len(base.requests) != 0 || body.closed != 1 {
		t.Errorf("signed: %v, %v; %d sent, body closed %d times", resp, err, len(base.requests), body.closed)
	}
	if _, err := transport.RoundTrip(newRequest(t, "GET", "/auth/time", nil)); err != nil {
		t.Errorf("bare: %v", err)
	}
	transport = &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: ovhauth.Credentials{AccessToken: "t"}, Base: base}
	if _, err := transport.RoundTrip(newRequest(t, "GET", "/me", nil)); err != nil {
		t.Errorf("bearer: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("Sign did not panic")
		}
	}()
	ovhauth.Sign(shared, "GET", "https://eu.api.ovh.com/1.0/me", nil, time.Now())
}
