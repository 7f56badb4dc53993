package compat

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/ovh/go-ovh/ovh"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

var goOVHRow = row{
	Client: "go-ovh", Module: "github.com/ovh/go-ovh", Language: "Go",
	Wiring: "`Client.Client = &http.Client{Transport: transport}`", BaseURL: "its endpoint as ever: `ovh-eu`", Keys: "any three",
}

// goOVH is a client of OVHcloud's, through base. What it signs, with keys that nobody knows, ours replaces.
func goOVH(t *testing.T, endpoint string, base http.RoundTripper) *ovh.Client {
	t.Helper()
	client, err := ovh.NewClient(endpoint, "any", "any", "any")
	if err != nil {
		t.Fatal(err)
	}
	client.Client = &http.Client{Transport: base}
	return client
}

// exerciseGoOVH is exercise for go-ovh.
func (a *api) exerciseGoOVH(t *testing.T, client *ovh.Client) {
	t.Helper()
	a.exercise(t, func() (string, error) {
		var me struct{ Firstname string }
		err := client.Get("/me", &me)
		return me.Firstname, err
	}, func() (int, error) {
		err := client.Post(recordPath, map[string]string{"fieldType": "TXT", "target": "é"}, nil)
		return statusOf(err)
	})
}

// statusOf takes the status out of go-ovh's error.
func statusOf(err error) (int, error) {
	if e, ok := errors.AsType[*ovh.APIError](err); ok {
		return e.Code, nil
	}
	return http.StatusOK, err
}

func TestGoOVH(t *testing.T) {
	listed(t, goOVHRow)
	a := newAPI(t)
	a.exerciseGoOVH(t, goOVH(t, string(a.Endpoint()), a.retrying()))
}

// go-ovh asks for the time once in its life. When the clocks drift apart after that, all its calls fail; through ours, none.
func TestGoOVHWhenTheClockSteps(t *testing.T) {
	listed(t, goOVHRow)
	for name, test := range map[string]struct {
		transport func(*api) http.RoundTripper
		want      string
	}{
		"alone":        {func(a *api) http.RoundTripper { return a.base }, "Query out of time"},
		"through ours": {func(a *api) http.RoundTripper { return a.retrying() }, ""},
	} {
		a := newAPI(t)
		keys := a.Credentials()
		client, err := ovh.NewClient(string(a.Endpoint()), keys.ApplicationKey, keys.ApplicationSecret, keys.ConsumerKey)
		if err != nil {
			t.Fatal(err)
		}
		client.Client = &http.Client{Transport: test.transport(a)}
		if err := client.Get("/me", nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a.SetClock(func() time.Time { return time.Now().Add(-time.Hour) })
		got := ""
		if err := client.Get("/me", nil); err != nil {
			e, ok := errors.AsType[*ovh.APIError](err)
			if !ok {
				t.Fatalf("%s: %v", name, err)
			}
			got = e.Message
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// go-ovh's TimeDelta has the opposite sign of a ServerClock's Offset, as docs/go-ovh.md says.
func TestGoOVHTimeDelta(t *testing.T) {
	server := ovhtest.NewServer()
	defer server.Close()
	server.SetClock(func() time.Time { return time.Now().Add(time.Hour) })
	theirs, err := goOVH(t, string(server.Endpoint()), nil).TimeDelta()
	if err != nil {
		t.Fatal(err)
	}
	clock := &ovhauth.ServerClock{}
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: server.Credentials(), Clock: clock}}
	if _, err := ovhjson.Get[any](t.Context(), client, "/me"); err != nil {
		t.Fatal(err)
	}
	if ours := -clock.Offset(); theirs.Round(time.Minute) != ours.Round(time.Minute) || ours.Round(time.Minute) != -time.Hour {
		t.Errorf("go-ovh's TimeDelta is %s, -Offset is %s; want -1h0m0s for both", theirs, ours)
	}
}

func ownKey(a *api) string { return a.Credentials().ApplicationKey }

// The calls that go-ovh does not authenticate stay so: a guest's cart must not become the account's.
func TestGoOVHUnAuth(t *testing.T) {
	listed(t, goOVHRow)
	for _, test := range []struct {
		name   string
		client func(t *testing.T, a *api) *ovh.Client
		key    func(*api) string // that arrives
	}{
		{"with keys", func(t *testing.T, a *api) *ovh.Client {
			return goOVH(t, string(a.Endpoint()), a.retrying())
		}, ownKey},
		{"without keys", func(t *testing.T, a *api) *ovh.Client {
			signer := a.transport()
			signer.Credentials = ovhauth.Credentials{}
			return goOVH(t, string(a.Endpoint()), &ovhauth.RetryTransport{Base: signer, MinWait: time.Millisecond})
		}, func(*api) string { return "any" }},
		{"through the proxy", func(t *testing.T, a *api) *ovh.Client {
			endpoint, _ := startProxy(t, a)
			return goOVH(t, endpoint.String(), nil)
		}, ownKey},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			executed := 0
			a.HandleGuest("/order/cart", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { executed++ }))
			client := test.client(t, a)
			body := map[string]string{"description": "a guest's"}
			failed := 0
			for range rounds {
				for method, call := range map[string]func() error{
					"GET":    func() error { return client.GetUnAuth("/order/cart", nil) },
					"POST":   func() error { return client.PostUnAuth("/order/cart", body, nil) },
					"PUT":    func() error { return client.PutUnAuth("/order/cart", body, nil) },
					"DELETE": func() error { return client.DeleteUnAuth("/order/cart", nil) },
				} {
					status, err := statusOf(call())
					if err != nil || status != http.StatusOK && (method != "POST" || status != http.StatusServiceUnavailable) {
						t.Fatalf("%s: %d, %v; want 200, or 503 for a POST", method, status, err)
					}
					if status != http.StatusOK {
						failed++
					}
				}
			}
			if want := 4*rounds - failed; executed != want || failed == 0 {
				t.Errorf("%d executed, want %d; %d failed, want some", executed, want, failed)
			}
			for _, x := range a.Exchanges() {
				if got, want := x.Header.Get("X-Ovh-Application"), test.key(a); got != want {
					t.Errorf("application key %q, want %q: the Transport's, else go-ovh's: %v", got, want, x)
				}
				for _, name := range []string{"X-Ovh-Consumer", "X-Ovh-Signature", "X-Ovh-Timestamp", "Authorization"} {
					if x.Header.Get(name) != "" {
						t.Errorf("a guest's request has %s: %v", name, x)
					}
				}
			}
		})
	}
}
