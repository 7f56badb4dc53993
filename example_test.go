package ovhauth_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
	"github.com/jarcoal/httpmock"
)

// Anything that takes an http.Client is signed by it. Against the real API, &ovhauth.Transport{} is enough.
func ExampleTransport() {
	server := ovhtest.NewServer() // an API for tests
	defer server.Close()

	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    server.Endpoint(),
		Credentials: server.Credentials(),
	}}
	resp, err := client.Get("/me")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := ovhauth.CheckResponse(resp); err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, bytes.Contains(body, []byte("firstname")))
	// Output: 200 OK true
}

// A wrong clock costs one round trip, once.
func ExampleServerClock() {
	server := ovhtest.NewServer()
	defer server.Close()
	server.SetClock(func() time.Time { return time.Now().Add(time.Hour) })

	clock := &ovhauth.ServerClock{}
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: server.Credentials(), Clock: clock}}
	for range 2 {
		resp, err := client.Get("/me")
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	for _, x := range server.Exchanges() {
		fmt.Printf("%d %q\n", x.Status, x.ErrorCode)
	}
	fmt.Println("the server is ahead by", clock.Offset().Round(time.Minute))
	// Output:
	// 200 OK
	// 200 OK
	// 400 "QUERY_TIME_OUT"
	// 200 ""
	// 200 ""
	// the server is ahead by 1h0m0s
}

// A machine that is known to be wrong can set its clock before the first request.
func ExampleServerClock_Correct() {
	server := ovhtest.NewServer()
	defer server.Close()
	server.SetClock(func() time.Time { return time.Now().Add(-time.Hour) })

	clock := &ovhauth.ServerClock{}
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: server.Credentials(), Clock: clock}}
	now, err := ovhauth.ServerTime(context.Background(), client)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(clock.Correct(now), clock.Offset().Round(time.Minute))
	// Output: true -1h0m0s
}

func ExampleServerTime() {
	server := ovhtest.NewServer()
	defer server.Close()
	server.SetClock(func() time.Time { return time.Unix(1457018875, 0) })

	t, err := ovhauth.ServerTime(context.Background(), server.Client())
	fmt.Println(t.Unix(), err)
	// Output: 1457018875 <nil>
}

// A fixed time makes signatures that a test can expect.
func ExampleClockFunc() {
	clock := ovhauth.ClockFunc(func() time.Time { return time.Unix(1457018875, 0) })
	now, err := clock.Now(context.Background())
	fmt.Println(now.Unix(), err)
	// Output: 1457018875 <nil>
}

func ExampleCredentials() {
	keys := ovhauth.Credentials{ApplicationKey: "ak", ApplicationSecret: "as"}
	fmt.Printf("%+v\n", keys)
	// Output: ovhauth.Credentials{ApplicationKey:"[redacted]" ApplicationSecret:"[redacted]" ConsumerKey:"" AccessToken:""}
}

// Keys from wherever they are kept. The provider is asked for each request, so keys can be changed while the program runs.
func ExampleCredentialFunc() {
	server := ovhtest.NewServer()
	defer server.Close()

	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint: server.Endpoint(),
		Credentials: ovhauth.CredentialFunc(func(ctx context.Context) (ovhauth.Credentials, error) {
			return server.Credentials(), nil // a vault, a file, a keyring
		}),
	}}
	resp, err := client.Get("/me")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// vault is a provider over a secrets store in which keys are replaced now and then.
type vault struct {
	read func(context.Context) (ovhauth.Credentials, error) // costs a round trip, and returns when the context ends
	kept atomic.Pointer[ovhauth.Credentials]
}

func (v *vault) Retrieve(ctx context.Context) (ovhauth.Credentials, error) {
	if kept := v.kept.Load(); kept != nil {
		return *kept, nil
	}
	keys, err := v.read(ctx)
	if err == nil {
		v.kept.Store(&keys)
	}
	return keys, err
}

// Invalidate is called when the API rejects what Retrieve returned. Retrieve is called again at once.
func (v *vault) Invalidate(rejected ovhauth.Credentials) {
	if kept := v.kept.Load(); kept != nil && *kept == rejected { // else another request has been here before
		v.kept.CompareAndSwap(kept, nil)
	}
}

// The request that finds the keys replaced is sent once more, with the new ones.
func ExampleCredentialProvider() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	stored := server.Credentials()
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    server.Endpoint(),
		Credentials: &vault{read: func(context.Context) (ovhauth.Credentials, error) { return stored, nil }},
	}}
	for range 2 {
		resp, err := client.Get("/me")
		if err != nil {
			fmt.Println(err)
			return
		}
		resp.Body.Close()
		fmt.Println(resp.Status)

		server.Revoke(stored.ConsumerKey)
		stored = server.NewKey()
	}
	for _, x := range server.Exchanges() {
		fmt.Printf("%d %q\n", x.Status, x.ErrorCode)
	}
	// Output:
	// 200 OK
	// 200 OK
	// 200 ""
	// 403 "NOT_CREDENTIAL"
	// 200 ""
}

// A mock as Base sees what would go over the wire: the full URL and the keys.
func ExampleTransport_mock() {
	mock := httpmock.NewMockTransport()
	mock.RegisterResponder("GET", "https://eu.api.ovh.com/1.0/me", func(req *http.Request) (*http.Response, error) {
		fmt.Println(req.URL, req.Header.Get("X-Ovh-Application"), req.Header.Get("X-Ovh-Consumer"))
		return httpmock.NewStringResponse(http.StatusOK, `{"firstname":"Jeanne"}`), nil
	})
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    ovhauth.EU,
		Credentials: ovhauth.Credentials{ApplicationKey: "AK", ApplicationSecret: "AS", ConsumerKey: "CK"},
		Base:        mock,
	}}
	me, err := ovhjson.Get[struct{ FirstName string }](context.Background(), client, "/me")
	fmt.Println(me.FirstName, err)
	// Output:
	// https://eu.api.ovh.com/1.0/me AK CK
	// Jeanne <nil>
}

// Some calls take no authentication.
func ExampleWithoutSignature() {
	server := ovhtest.NewServer()
	defer server.Close()

	ctx := ovhauth.WithoutSignature(context.Background())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "/me", nil)
	resp, err := server.Client().Do(req)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(ovhauth.CheckResponse(resp).(*ovhauth.APIError).Message)
	// Output: You must login first
}
