package ovhtest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"

	"example.com/ovhauth/ovhtest"
)

func TestExchanges(t *testing.T) {
	s := newServer(t)
	call(t, s, "PUT", "/1.0/me?a=%3a", `{"name":"x"}`)
	send(t, plain(t, s, "GET", "/v1/auth/time", ""))
	got := s.Exchanges()
	if len(got) != 2 {
		t.Fatalf("got %v, want two exchanges", got)
	}
	x := got[0]
	if x.Method != "PUT" || x.URL != root(s)+"/1.0/me?a=%3a" || string(x.Body) != `{"name":"x"}` ||
		x.Header.Get("X-Ovh-Consumer") != s.Credentials().ConsumerKey ||
		!x.Verified || !x.Executed || x.Status != 200 || x.ErrorCode != "" || x.QueryID == "" {
		t.Errorf("got %v, want the PUT as it was sent, verified and executed", x)
	}
	if x := got[1]; x.URL != root(s)+"/v1/auth/time" || x.Verified || !x.Executed || x.QueryID == got[0].QueryID {
		t.Errorf("got %v, want the GET of the time, not verified", x)
	}
	s.Handle("GET /meddle", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { clear(r.Header) }))
	call(t, s, "GET", "/1.0/meddle", "")
	if got := s.Exchanges()[2].Header; got.Get("X-Ovh-Consumer") == "" {
		t.Errorf("a handler changed the record to %v, want the header as it was sent", got)
	}
	s.Forget()
	if got := s.Exchanges(); len(got) != 0 {
		t.Errorf("after Forget: %v, want none", got)
	}
}

// What is cut off is an exchange, too.
func TestOnExchange(t *testing.T) {
	s := newServer(t)
	seen := make(chan ovhtest.Exchange, 1)
	s.OnExchange(func(x ovhtest.Exchange) { seen <- x })
	call(t, s, "PUT", "/1.0/me", `{"name":"x"}`)
	if x := <-seen; x.Method != "PUT" || !x.Verified || x.Status != 200 || string(x.Body) != `{"name":"x"}` {
		t.Errorf("seen %s with %s, want the PUT as it was", x, x.Body)
	}
	s.Inject(ovhtest.Fault{Cut: ovhtest.CutBeforeRequest})
	client.Do(plain(t, s, "GET", "/1.0/me", ""))
	if x := <-seen; x.Status != 0 || x.Executed {
		t.Errorf("seen %s, want one that was cut off", x)
	}
	s.OnExchange(nil)
	call(t, s, "GET", "/1.0/me", "")
	if len(seen) != 0 {
		t.Error("an observer that was taken away saw an exchange")
	}
}

func TestNothingPrintsASecret(t *testing.T) {
	s := newServer(t)
	call(t, s, "PUT", "/1.0/me?secret=query", `{"name":"secretbody"}`)
	_, validationURL := requestKey(t, s, `{"accessRules":[{"method":"GET","path":"/*"}]}`)
	send(t, plain(t, s, "GET", strings.TrimPrefix(validationURL, root(s)), ""))
	id, secret := s.NewServiceAccount()
	_, body := askToken(t, s, id, secret, granted)
	keys, all := s.Credentials(), s.Exchanges()
	_, validationToken, _ := strings.Cut(validationURL, "=")
	secrets := []string{
		keys.ApplicationKey, keys.ApplicationSecret, keys.ConsumerKey, all[0].Header.Get("X-Ovh-Signature"),
		"secretbody", "secret=query", secret, validationToken, decode[map[string]any](t, body)["access_token"].(string),
	}
	for _, v := range []any{s, *s, all[0], &all[0], all, struct{ X any }{all[2]}} {
		var out bytes.Buffer
		for _, verb := range "vsqxXdbotUeEfFgGcpT" {
			if _, pointer := v.(*ovhtest.Server); verb == 'p' && !pointer {
				continue // prints the fields of what is no pointer, whatever its methods
			}
			fmt.Fprintf(&out, "%"+string(verb)+" %+"+string(verb)+" %#"+string(verb)+"\n", v, v, v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Errorf("%T: %v, want no error", v, err)
		}
		for _, secret := range secrets {
			for _, form := range []string{"%s", "%x", "%X", "%v"} {
				if strings.Contains(out.String(), fmt.Sprintf(form, []byte(secret))) {
					t.Errorf("%T prints %q, want no secret", v, secret)
				}
			}
		}
	}
	send(t, plain(t, s, "GET", "/1.0/me", ""))
	for i, want := range map[int]string{
		0: "PUT " + root(s) + "/1.0/me?…: verified true, executed true, status 200",
		4: "GET " + root(s) + "/1.0/me: verified false, executed false, status 401 Client::Unauthorized",
	} {
		if got := fmt.Sprintf("%d", s.Exchanges()[i]); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Every method while requests are served: for the race detector.
func TestConcurrentUse(t *testing.T) {
	s := newServer(t)
	s.InjectFunc(nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			k := s.NewKey()
			req := signed(t, s, k, "GET", "/1.0/auth/currentCredential", "")
			if resp, err := client.Do(req); err != nil || resp.StatusCode != 200 {
				t.Errorf("got %v, %v; want 200", resp, err)
			} else {
				resp.Body.Close()
			}
			s.Expire(k.ConsumerKey)
			s.Refuse(k.ConsumerKey)
			s.Validate(k.ConsumerKey)
			s.Revoke(k.ConsumerKey)
			s.NewApplication()
			s.NewServiceAccount()
			s.RevokeTokens()
			s.SetClock(nil)
			s.SetTolerance(1e11)
			s.SetDialect(ovhtest.Classes)
			s.LimitRate(0, 0, "")
			s.Inject(ovhtest.Fault{Path: "/none", Status: 500})
			s.InjectFunc(nil)
			s.Exchanges()
			s.Forget()
		})
	}
	wg.Wait()
}
