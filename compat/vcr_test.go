package compat

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gopkg.in/dnaeon/go-vcr.v4/pkg/cassette"
	"gopkg.in/dnaeon/go-vcr.v4/pkg/recorder"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// authentication are the headers in which a Transport sends keys, signatures and tokens.
var authentication = []string{"X-Ovh-Application", "X-Ovh-Consumer", "X-Ovh-Signature", "X-Ovh-Timestamp", "Authorization"}

// tape is a go-vcr recorder to be the Base of a Transport. It records what went over the wire without keys, and replays it for
// requests that differ in nothing but their authentication.
func tape(path string, mode recorder.Mode, base http.RoundTripper) (*recorder.Recorder, error) {
	return recorder.New(path,
		recorder.WithMode(mode),
		recorder.WithRealTransport(base),
		recorder.WithSkipRequestLatency(true),
		recorder.WithHook(scrub, recorder.AfterCaptureHook),
		recorder.WithMatcher(cassette.NewDefaultMatcher(cassette.WithIgnoreHeaders(authentication...))),
	)
}

// scrub removes the authentication from what is recorded, and leaves out what has keys or tokens in its body.
func scrub(i *cassette.Interaction) error {
	i.Request.Headers = i.Request.Headers.Clone() // it is the request's own
	for _, name := range authentication {
		i.Request.Headers.Del(name)
	}
	path, _, _ := strings.Cut(i.Request.URL, "?")
	i.DiscardOnSave = strings.HasSuffix(path, "/auth/credential") || strings.HasSuffix(path, "/oauth2/token")
	return nil
}

// Below a Transport, go-vcr records requests as they are signed. The cassette must not hold keys, and what is replayed must not
// depend on the time: copy tape, authentication and scrub.
func Example_goVCRBelow() {
	server := ovhtest.NewServer() // or the API itself
	dir, err := os.MkdirTemp("", "vcr")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "me") // testdata/me, in a test

	firstname := func(mode recorder.Mode) {
		vcr, err := tape(path, mode, http.DefaultTransport)
		if err != nil {
			log.Fatal(err)
		}
		defer vcr.Stop() // which writes the cassette
		client := &http.Client{Transport: &ovhauth.RetryTransport{Base: &ovhauth.Transport{
			Endpoint: server.Endpoint(), Credentials: server.Credentials(), Base: vcr,
		}}}
		_, body, err := whole(client.Get("/me"))
		fmt.Println(strings.Contains(body, `"firstname":"Jeanne"`), err)
	}
	firstname(recorder.ModeRecordOnly)
	server.Close()
	firstname(recorder.ModeReplayOnly)

	recorded, err := os.ReadFile(path + ".yaml")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("keys in the cassette:", strings.Contains(string(recorded), server.Credentials().ConsumerKey))
	// Output:
	// true <nil>
	// true <nil>
	// keys in the cassette: false
}

// Above the transports, go-vcr sees neither keys nor retries, so it can be used as it is. It wants absolute URLs.
func Example_goVCRAbove() {
	server := ovhtest.NewServer() // or the API itself
	dir, err := os.MkdirTemp("", "vcr")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	firstname := func(mode recorder.Mode) {
		vcr, err := recorder.New(filepath.Join(dir, "me"),
			recorder.WithMode(mode),
			recorder.WithRealTransport(&ovhauth.RetryTransport{Base: &ovhauth.Transport{
				Endpoint: server.Endpoint(), Credentials: server.Credentials(),
			}}))
		if err != nil {
			log.Fatal(err)
		}
		defer vcr.Stop()
		_, body, err := whole(vcr.GetDefaultClient().Get(string(server.Endpoint()) + "/me"))
		fmt.Println(strings.Contains(body, `"firstname":"Jeanne"`), err)
	}
	firstname(recorder.ModeRecordOnly)
	server.Close()
	firstname(recorder.ModeReplayOnly)
	// Output:
	// true <nil>
	// true <nil>
}

func TestGoVCR(t *testing.T) {
	for _, test := range []struct {
		name, wiring, baseURL string
		// stack puts a recorder into the whole stack.
		stack func(a *api, path string, mode recorder.Mode, live http.RoundTripper) (http.RoundTripper, *recorder.Recorder, error)
	}{
		{"below", "`Transport.Base`, with a hook and a matcher (`Example_goVCRBelow`)", "any",
			func(a *api, path string, mode recorder.Mode, live http.RoundTripper) (http.RoundTripper, *recorder.Recorder, error) {
				vcr, err := tape(path, mode, live)
				signer := a.transport()
				signer.Base = vcr
				return &ovhauth.RetryTransport{Base: signer, MinWait: time.Millisecond}, vcr, err
			}},
		{"above", "`WithRealTransport(transport)`", "absolute",
			func(a *api, path string, mode recorder.Mode, live http.RoundTripper) (http.RoundTripper, *recorder.Recorder, error) {
				signer := a.transport()
				signer.Base = live
				vcr, err := recorder.New(path, recorder.WithMode(mode), recorder.WithSkipRequestLatency(true),
					recorder.WithRealTransport(&ovhauth.RetryTransport{Base: signer, MinWait: time.Millisecond}))
				return vcr, vcr, err
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			listed(t, row{
				Client: "go-vcr", Module: "gopkg.in/dnaeon/go-vcr.v4", Language: "Go",
				Wiring: test.wiring, BaseURL: test.baseURL, Keys: "none",
			})
			a, path := newAPI(t), filepath.Join(t.TempDir(), "tape")
			stack, vcr, err := test.stack(a, path, recorder.ModeRecordOnly, a.base)
			if err != nil {
				t.Fatal(err)
			}
			a.exerciseHTTP(t, &http.Client{Transport: stack}, string(a.Endpoint()))
			if err := vcr.Stop(); err != nil {
				t.Fatal(err)
			}
			checkCassette(t, a, path)

			// The same again, without an API.
			sent := len(a.Exchanges())
			stack, _, err = test.stack(a, path, recorder.ModeReplayOnly, nil)
			if err != nil {
				t.Fatal(err)
			}
			a.records = nil
			client, made := &http.Client{Transport: stack}, 0
			for range rounds {
				for range 2 {
					if _, body, err := whole(client.Get(string(a.Endpoint()) + "/me")); err != nil || !strings.Contains(body, "Jeanne") {
						t.Fatalf("replayed GET: %q, %v; want a body with Jeanne", body, err)
					}
				}
				status, _, err := whole(client.Post(string(a.Endpoint())+recordPath, "application/json", strings.NewReader(record)))
				if err != nil {
					t.Fatalf("replayed POST: %v", err)
				}
				if status == http.StatusOK {
					made++
				}
			}
			if failed := rounds - made; failed == 0 || made == 0 || len(a.Exchanges()) != sent {
				t.Errorf("replayed: %d POSTs made, %d failed, %d requests sent; want some, some, none", made, failed, len(a.Exchanges())-sent)
			}
		})
	}
}

// checkCassette checks that nothing in a cassette lets anybody act for the account.
func checkCassette(t *testing.T, a *api, path string) {
	t.Helper()
	recorded, err := os.ReadFile(path + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(recorded), "Jeanne") {
		t.Error("the cassette has no response of GET /me")
	}
	keys := a.Credentials()
	for name, secret := range map[string]string{
		"application key": keys.ApplicationKey, "application secret": keys.ApplicationSecret, "consumer key": keys.ConsumerKey,
		"signature": "$1$",
	} {
		if strings.Contains(string(recorded), secret) {
			t.Errorf("the cassette holds the %s", name)
		}
	}
	loaded, err := cassette.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range loaded.Interactions {
		for _, name := range authentication {
			if i.Request.Headers.Get(name) != "" {
				t.Errorf("the cassette holds %s of %s %s", name, i.Request.Method, i.Request.URL)
			}
		}
	}
}

// A consumer key or a token in a response is in no cassette, either.
func TestScrubLeavesOutKeysInBodies(t *testing.T) {
	for url, want := range map[string]bool{
		"https://eu.api.ovh.com/1.0/auth/credential":        true,
		"https://eu.api.ovh.com/v1/auth/credential?a=b":     true,
		"https://www.ovh.com/auth/oauth2/token":             true,
		"https://eu.api.ovh.com/1.0/me":                     false,
		"https://eu.api.ovh.com/1.0/auth/currentCredential": false,
	} {
		i := &cassette.Interaction{Request: cassette.Request{URL: url}}
		if err := scrub(i); err != nil || i.DiscardOnSave != want {
			t.Errorf("%s is left out: %v, %v; want %v", url, i.DiscardOnSave, err, want)
		}
	}
}
