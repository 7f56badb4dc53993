package ovhauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// rotatingAPI accepts one set of credentials, or the tokens that it gave to one client. All else it rejects.
type rotatingAPI struct {
	rejection string // of a request: status and body

	mu       sync.Mutex
	keys     Credentials
	client   [2]string // ID and secret
	epoch    int       // of tokens; those of an earlier one are revoked
	sent     int       // requests, with or without success
	executed []string  // bodies
	tokens   int       // requests for one
}

func (a *rotatingAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
		r.Body.Close()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/oauth2/token") {
		a.tokens++
		if !strings.Contains(string(body), "client_id="+a.client[0]+"&client_secret="+a.client[1]+"&") {
			return response(401, `{"error":"invalid_client"}`), nil
		}
		return response(200, fmt.Sprintf(`{"access_token":"%s-%d","expires_in":3600}`, a.client[1], a.epoch)), nil
	}
	a.sent++
	good := r.Header.Get("Authorization") == "Bearer "+a.keys.AccessToken
	switch {
	case a.client[0] != "":
		good = r.Header.Get("Authorization") == fmt.Sprintf("Bearer %s-%d", a.client[1], a.epoch)
	case a.keys.AccessToken == "":
		good = r.Header.Get("X-Ovh-Application") == a.keys.ApplicationKey && r.Header.Get("X-Ovh-Consumer") == a.keys.ConsumerKey &&
			r.Header.Get("X-Ovh-Signature") == signatureOf(r, a.keys, string(body))
	}
	if !good {
		var status int
		fmt.Sscan(a.rejection, &status)
		return response(status, a.rejection[4:]), nil
	}
	a.executed = append(a.executed, string(body))
	return response(200, "{}"), nil
}

// accept makes the API accept these values alone.
func (a *rotatingAPI) accept(values map[string]string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = Credentials{ApplicationKey: values["application_key"], ApplicationSecret: values["application_secret"],
		ConsumerKey: values["consumer_key"], AccessToken: values["access_token"]}
	a.client = [2]string{values["client_id"], values["client_secret"]}
	a.epoch++
}

var (
	oldKeys    = map[string]string{"application_key": "ak1", "application_secret": "as1", "consumer_key": "ck1"}
	newKeys    = map[string]string{"application_key": "ak2", "application_secret": "as2", "consumer_key": "ck2"}
	newSecret  = map[string]string{"application_key": "ak1", "application_secret": "as2", "consumer_key": "ck1"}
	newCK      = map[string]string{"application_key": "ak1", "application_secret": "as1", "consumer_key": "ck2"}
	oldToken   = map[string]string{"access_token": "t1"}
	newToken   = map[string]string{"access_token": "t2"}
	oldAccount = map[string]string{"client_id": "id", "client_secret": "secret1"}
	newAccount = map[string]string{"client_id": "id", "client_secret": "secret2"}
)

// rotations are the credentials that change and how the API rejects the old ones.
var rotations = []struct {
	name      string
	before    map[string]string
	after     map[string]string
	rejection string
}{
	{"application", oldKeys, newKeys, `403 {"errorCode":"INVALID_KEY","message":"This application key is invalid"}`},
	{"consumer key", oldKeys, newCK, `403 {"errorCode":"NOT_CREDENTIAL","message":"This credential does not exist"}`},
	{"expired consumer key", oldKeys, newCK, `403 {"class":"Client::Forbidden","message":"This credential is not valid"}`},
	{"consumer key that counts as none", oldKeys, newCK, `401 {"message":"You must login first"}`},
	{"application secret", oldKeys, newSecret, `400 {"errorCode":"INVALID_SIGNATURE","message":"Invalid signature"}`},
	{"access token", oldToken, newToken, `401 {"message":"You must login first"}`},
	{"client secret", oldAccount, newAccount, `401 {"message":"You must login first"}`},
	{"keys by a token", oldKeys, newToken, `403 {"errorCode":"INVALID_CREDENTIAL","message":"This credential is not valid"}`},
	{"token by a service account", oldToken, newAccount, `401 {"message":"You must login first"}`},
	{"service account by keys", oldAccount, newKeys, `401 {"message":"You must login first"}`},
}

// post sends a POST whose body cannot be opened again, and returns the status.
func post(t *testing.T, transport *Transport) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", "/me/order", io.MultiReader(strings.NewReader("order")))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Errorf("POST: %v", err)
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// Replaced credentials are found by the first request that is rejected: it is sent once more, and executed once.
func TestRotation(t *testing.T) {
	for _, place := range []string{"file", "environment"} {
		for _, rotation := range rotations {
			t.Run(rotation.name+" in the "+place, func(t *testing.T) {
				f := isolate(t)
				put := func(values map[string]string) {
					if place == "file" {
						write(t, f.home, section("ovh-eu", values))
						return
					}
					for _, key := range kinds {
						for _, key := range key {
							t.Setenv(variable(key), values[key])
						}
					}
				}
				api := &rotatingAPI{rejection: rotation.rejection}
				transport := &Transport{Endpoint: EU, Base: api}
				put(rotation.before)
				api.accept(rotation.before)
				if status := post(t, transport); status != 200 || api.sent != 1 {
					t.Fatalf("before: status %d after %d sendings, want 200 after 1", status, api.sent)
				}

				put(rotation.after)
				api.accept(rotation.after)
				api.sent, api.executed = 0, nil
				if status := post(t, transport); status != 200 || api.sent != 2 || len(api.executed) != 1 || api.executed[0] != "order" {
					t.Errorf("after: status %d after %d sendings, executed %q; want 200 after 2, executed once", status, api.sent, api.executed)
				}
				api.sent = 0
				if status := post(t, transport); status != 200 || api.sent != 1 {
					t.Errorf("from then on: status %d after %d sendings, want 200 after 1", status, api.sent)
				}
			})
		}
	}
}

// Without other credentials the caller gets the rejection of the only sending, and a later call finds what is repaired.
func TestRotationThatFails(t *testing.T) {
	for _, rotation := range rotations {
		for name, spoil := range map[string]func(t *testing.T, path string){
			"unchanged": func(*testing.T, string) {},
			"gone":      func(t *testing.T, path string) { os.Remove(path) },
			"broken":    func(t *testing.T, path string) { write(t, path, "[ovh-eu\n") },
			"cut off":   func(t *testing.T, path string) { write(t, path, "[ovh-eu]\napplication_key = ak2\n") },
			"empty":     func(t *testing.T, path string) { write(t, path, "") },
		} {
			t.Run(rotation.name+", file "+name, func(t *testing.T) {
				f := isolate(t)
				write(t, f.home, section("ovh-eu", rotation.before))
				api := &rotatingAPI{rejection: rotation.rejection}
				api.accept(rotation.before)
				transport := &Transport{Endpoint: EU, Base: api}
				transport.OnEvent = func(_ context.Context, e Event) { t.Errorf("event %+v, want none", e) }
				post(t, transport)

				spoil(t, f.home)
				api.accept(rotation.after)
				account := rotation.before["client_id"] != ""
				var want int
				fmt.Sscan(rotation.rejection, &want)
				for range 2 { // the second time a service account has no token to be rejected
					api.sent, api.executed = 0, nil
					req, _ := http.NewRequest("POST", "/me/order", strings.NewReader("order"))
					resp, err := transport.RoundTrip(req)
					if account && err != nil {
						if api.sent != 0 || !strings.Contains(err.Error(), "invalid_client") {
							t.Errorf("%v after %d sendings, want an error with invalid_client before the first", err, api.sent)
						}
						continue
					}
					if err != nil || resp.StatusCode != want || api.sent != 1 {
						t.Fatalf("got %v after %d sendings; want status %d after 1", err, api.sent, want)
					}
				}

				write(t, f.home, section("ovh-eu", rotation.after))
				api.sent, api.executed, transport.OnEvent = 0, nil, nil
				if status := post(t, transport); status != 200 || len(api.executed) != 1 || api.sent > 2 {
					t.Errorf("repaired: status %d after %d sendings, executed %q; want 200, executed once", status, api.sent, api.executed)
				}
			})
		}
	}
}

// A client that the token endpoint rejects is read again, and asked for once more in the same call: the request is sent once. If it
// did not change, its secret is not sent a second time.
func TestClientRejectedByTheTokenEndpoint(t *testing.T) {
	for _, test := range []struct {
		name    string
		after   map[string]string
		tokens  int
		status  int // 0: an error
		replace int // events
	}{
		{"another secret", newAccount, 2, 200, 1},
		{"keys", newKeys, 1, 200, 1},
		{"unchanged", oldAccount, 1, 0, 0},
		{"also wrong", map[string]string{"client_id": "id", "client_secret": "secret3"}, 2, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := isolate(t)
			synctest.Test(t, func(t *testing.T) {
				write(t, f.home, section("ovh-eu", oldAccount))
				api := &rotatingAPI{rejection: "401 {}"}
				api.accept(oldAccount)
				var events []Event
				transport := &Transport{Endpoint: EU, Base: api}
				transport.OnEvent = func(_ context.Context, e Event) { events = append(events, e) }
				post(t, transport)
				time.Sleep(2 * time.Hour) // the token has expired

				write(t, f.home, section("ovh-eu", test.after))
				api.accept(newAccount)
				if test.after["consumer_key"] != "" {
					api.accept(newKeys)
				}
				api.sent, api.tokens, api.executed = 0, 0, nil
				req, _ := http.NewRequest("POST", "/me/order", strings.NewReader("order"))
				resp, err := transport.RoundTrip(req)
				if api.tokens != test.tokens {
					t.Errorf("asked %d times for a token, want %d", api.tokens, test.tokens)
				}
				if test.status == 0 {
					api, ok := errors.AsType[*APIError](err)
					if !ok || api.Code != "invalid_client" || !strings.Contains(err.Error(), "check client_id") {
						t.Errorf("got %v, want the rejection of the client and what to check", err)
					}
				} else if err != nil || resp.StatusCode != 200 || api.sent != 1 || len(api.executed) != 1 {
					t.Errorf("got %v after %d sendings, executed %q; want 200 after 1", err, api.sent, api.executed)
				}
				if len(events) != test.replace || test.replace == 1 && events[0].Reason != ReasonClientRejected {
					t.Errorf("events %+v, want %d for %q", events, test.replace, ReasonClientRejected)
				}
			})
		})
	}
}

// Many requests that are rejected at once all find the new credentials.
func TestRotationUnderLoad(t *testing.T) {
	for _, rotation := range rotations {
		f := isolate(t)
		write(t, f.home, section("ovh-eu", rotation.before))
		api := &rotatingAPI{rejection: rotation.rejection}
		api.accept(rotation.before)
		transport := &Transport{Endpoint: EU, Base: api}
		post(t, transport)
		write(t, f.home, section("ovh-eu", rotation.after))
		api.accept(rotation.after)
		api.executed = nil
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if status := post(t, transport); status != 200 {
					t.Errorf("%s: status %d, want 200", rotation.name, status)
				}
			})
		}
		wg.Wait()
		if len(api.executed) != 50 {
			t.Errorf("%s: %d executed, want 50", rotation.name, len(api.executed))
		}
	}
}

// A rejection that comes while another one is being looked into counts, too: what was read before it may be older.
func TestRejectionWhileFilesAreRead(t *testing.T) {
	f := isolate(t)
	write(t, f.home, section("ovh-eu", oldToken))
	p := FileCredentials(EU).(*lookup)
	c, err := p.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.Invalidate(c)
	read := &hookedContext{Context: t.Context(), afterReading: func() {
		write(t, f.home, section("ovh-eu", newToken))
		p.Invalidate(c)
	}}
	if got, err := p.Retrieve(read); err != nil || got.AccessToken != "t2" {
		t.Errorf("the first got %q, %v; want t2", got.AccessToken, err)
	}
	if got, err := p.Retrieve(t.Context()); err != nil || got.AccessToken != "t2" {
		t.Errorf("the second got %q, %v; want t2", got.AccessToken, err)
	}
}

// Keys that cannot be read again serve on: an API that rejects good ones for a moment must not stop a process for good.
func TestRejectedKeysServeOnIfNothingReplacesThem(t *testing.T) {
	f := isolate(t)
	write(t, f.home, keysEU)
	p := FileCredentials(EU).(*lookup)
	c, _ := p.Retrieve(t.Context())
	os.Remove(f.home)
	p.Invalidate(c)
	if got, err := p.Retrieve(t.Context()); err == nil && got == c {
		t.Error("the rejected keys came back at once")
	}
	if got, err := p.Retrieve(t.Context()); err != nil || got != c {
		t.Errorf("later: %v, want the keys", err)
	}
}

// A caller that leaves while the files are read again has not cleared the rejection.
func TestRejectionOutlastsACanceledCaller(t *testing.T) {
	f := isolate(t)
	write(t, f.home, section("ovh-eu", oldToken))
	p := FileCredentials(EU).(*lookup)
	c, _ := p.Retrieve(t.Context())
	write(t, f.home, section("ovh-eu", newToken))
	p.Invalidate(c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Retrieve(ctx); err != context.Canceled {
		t.Errorf("the one that left: %v, want %v", err, context.Canceled)
	}
	if got, err := p.Retrieve(t.Context()); err != nil || got.AccessToken != "t2" {
		t.Errorf("the next got %q, %v; want t2", got.AccessToken, err)
	}
}

// Of several first calls, all use the same service account: what one has found does not replace what another keeps.
func TestFirstCallsShareAnAccount(t *testing.T) {
	f := isolate(t)
	write(t, f.home, section("ovh-eu", oldAccount))
	p := FileCredentials(EU).(*lookup)
	var second *keySet
	first, err := p.find(&hookedContext{Context: t.Context(), afterReading: func() {
		second, _ = p.find(t.Context(), nil)
	}}, nil)
	if err != nil || first.provider != second.provider || p.kept.Load().provider != first.provider {
		t.Errorf("%v: the first call has account %p, the second %p", err, first.provider, second.provider)
	}
}

// Of several first calls, all use the same endpoint, though the file that names it has changed between them.
func TestFirstCallsShareAnEndpoint(t *testing.T) {
	f := isolate(t)
	write(t, f.home, "[default]\nendpoint = ovh-ca\n")
	p := FileCredentials("", f.home).(*lookup)
	var second *parsedEndpoint
	first, err := p.target(&hookedContext{Context: t.Context(), onErr: func(call int) {
		if call == 2 { // the file has been read
			write(t, f.home, "[default]\nendpoint = ovh-us\n")
			second, _ = p.target(t.Context())
		}
	}})
	if err != nil || first != second || first.name() != "ovh-us" {
		t.Errorf("%v: the first call has %s, the second %s; want ovh-us for both", err, first.name(), second.name())
	}
}
