package ovhtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

var ctx = context.Background()

// The code under test gets a client, or the endpoint and keys to make one.
func ExampleNewServer() {
	server := ovhtest.NewServer()
	defer server.Close()

	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: server.Credentials()}}
	me, err := ovhjson.Get[struct{ FirstName string }](ctx, client, "/me")
	fmt.Println(me.FirstName, err)
	// Output: Jeanne <nil>
}

func ExampleNewTLSServer() {
	server := ovhtest.NewTLSServer()
	defer server.Close()

	_, err := ovhjson.Get[any](ctx, server.Client(), "/me")
	fmt.Println(server.Endpoint()[:8], server.Certificate().Subject, err)
	// Output: https:// O=Acme Co <nil>
}

// Code with an endpoint of the real API built in.
func ExampleServer_Transport() {
	server := ovhtest.NewServer()
	defer server.Close()

	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: server.Credentials(), Base: server.Transport()}}
	_, err := ovhjson.Get[any](ctx, client, "/me")
	fmt.Println(server.Exchanges()[0], err)
	// Output: GET https://eu.api.ovh.com/1.0/me: verified true, executed true, status 200 <nil>
}

func ExampleServer_Handle() {
	server := ovhtest.NewServer()
	defer server.Close()
	server.Handle("GET /domain/zone/{zone}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"name":%q}`, r.PathValue("zone"))
	}))

	zone, err := ovhjson.Get[struct{ Name string }](ctx, server.Client(), "/domain/zone/example.ovh")
	fmt.Println(zone.Name, err)
	// Output: example.ovh <nil>
}

// Some routes take no authentication: a cart belongs to whoever knows its ID.
func ExampleServer_HandleGuest() {
	server := ovhtest.NewServer()
	defer server.Close()
	server.HandleGuest("POST /order/cart", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"cartId":"1234"}`)
	}))

	cart, err := ovhjson.Post[struct{ CartID string }](ovhauth.WithoutSignature(ctx), server.Client(), "/order/cart", map[string]string{"ovhSubsidiary": "FR"})
	fmt.Println(cart.CartID, err)
	// Output: 1234 <nil>
}

func ExampleServer_Error() {
	server := ovhtest.NewServer()
	defer server.Close()
	server.SetDialect(ovhtest.Classes)
	server.Handle("GET /vps/{name}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		server.Error(w, http.StatusNotFound, "", "Client::NotFound", "This service does not exist")
	}))

	_, err := ovhjson.Get[any](ctx, server.Client(), "/vps/x")
	if e, ok := errors.AsType[*ovhauth.APIError](err); ok {
		fmt.Println(e.StatusCode, e.Class, e.Message)
	}
	// Output: 404 Client::NotFound This service does not exist
}

// Keys with fewer rights than all.
func ExampleServer_NewKey() {
	server := ovhtest.NewServer()
	defer server.Close()
	keys := server.NewKey(consumerkey.ReadOnly("/me")...)

	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: keys}}
	_, err := ovhjson.Get[any](ctx, client, "/me")
	fmt.Println(err)
	_, err = ovhjson.Put[any](ctx, client, "/me", map[string]string{"name": "Martin"})
	fmt.Println(errors.Is(err, ovhauth.ErrNotGranted))
	// Output:
	// <nil>
	// true
}

// The states of a consumer key, one after the other.
func ExampleServer_Validate() {
	server := ovhtest.NewServer()
	defer server.Close()
	pending, err := consumerkey.Request(ctx, server.Client(), consumerkey.Options{})
	if err != nil {
		log.Fatal(err)
	}
	keys := server.Credentials()
	keys.ConsumerKey = pending.ConsumerKey

	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: keys}}
	for _, change := range []func(consumerkey string){server.Validate, server.Expire, server.Refuse, server.Revoke} {
		change(pending.ConsumerKey)
		_, err := ovhjson.Get[any](ctx, client, "/me")
		fmt.Println(err == nil, errors.Is(err, ovhauth.ErrInvalidCredential), errors.Is(err, ovhauth.ErrUnknownCredential))
	}
	// Output:
	// true false false
	// false true false
	// false true false
	// false false true
}

// Another application has keys of its own.
func ExampleServer_NewApplication() {
	server := ovhtest.NewServer()
	defer server.Close()
	one, other := server.Credentials(), server.NewApplication()

	fmt.Println(one.ApplicationKey != other.ApplicationKey, one.ConsumerKey != other.ConsumerKey)
	// Output: true true
}

// A service account that may do less than everything, and whose secret rotates.
func ExampleServer_NewServiceAccount() {
	server := ovhtest.NewServer()
	defer server.Close()
	id, secret := server.NewServiceAccount(consumerkey.ReadOnly("/me")...)

	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: ovhauth.ServiceAccount(server.Endpoint(), id, secret)}}
	_, err := ovhjson.Get[any](ctx, client, "/me")
	fmt.Println(err)
	_, err = ovhjson.Delete[any](ctx, client, "/me/api/application/1001")
	fmt.Println(errors.Is(err, ovhauth.ErrNotGranted))

	fmt.Println(server.RotateSecret(id) != secret)
	server.RevokeTokens() // so that another must be fetched, by a secret that is old
	_, err = ovhjson.Get[any](ctx, client, "/me")
	fmt.Println(err == nil)
	// Output:
	// <nil>
	// true
	// true
	// false
}

// A server whose clock is an hour ahead: the first request is rejected, the clock corrected, and the request sent once more.
func ExampleServer_SetClock() {
	server := ovhtest.NewServer()
	defer server.Close()
	server.SetClock(func() time.Time { return time.Now().Add(time.Hour) })

	_, err := ovhjson.Get[any](ctx, server.Client(), "/me")
	fmt.Println(err)
	for _, x := range server.Exchanges() {
		fmt.Println(x.Status, x.ErrorCode)
	}
	// Output:
	// <nil>
	// 400 QUERY_TIME_OUT
	// 200
}

func ExampleServer_SetTolerance() {
	server := ovhtest.NewServer()
	defer server.Close()
	server.SetTolerance(2 * time.Hour)
	server.SetClock(func() time.Time { return time.Now().Add(time.Hour) })

	_, err := ovhjson.Get[any](ctx, server.Client(), "/me")
	fmt.Println(len(server.Exchanges()), err)
	// Output: 1 <nil>
}

// The quota that users report: 60 requests a minute.
func ExampleServer_LimitRate() {
	server := ovhtest.NewServer()
	defer server.Close()
	server.LimitRate(60, time.Minute, "7")

	counts := map[int]int{}
	for range 62 {
		resp, err := server.Client().Get("/me")
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		counts[resp.StatusCode]++
	}
	fmt.Println(counts)
	// Output: map[200:60 429:2]
}

// A fixed window grants the whole quota again when a new minute begins.
func ExampleServer_LimitRateBy() {
	server := ovhtest.NewServer()
	defer server.Close()
	start := time.Now()
	now := start
	server.SetClock(func() time.Time { return now })
	server.SetTolerance(time.Hour)
	server.LimitRate(2, time.Minute, "")
	server.LimitRateBy(ovhtest.RateFixed)

	for _, seconds := range []int{0, 59, 59, 60, 60} {
		now = start.Add(time.Duration(seconds) * time.Second)
		resp, err := server.Client().Get("/me")
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(seconds, resp.StatusCode)
	}
	// Output:
	// 0 200
	// 59 200
	// 59 429
	// 60 200
	// 60 200
}

func ExampleServer_Inject() {
	server := ovhtest.NewServer()
	defer server.Close()
	server.Inject(
		ovhtest.Fault{Path: "/me", Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"1"}}},
		ovhtest.Fault{Path: "/me", Cut: ovhtest.CutAfterExecution},
	)

	for range 3 {
		resp, err := server.Client().Get("/me")
		if err != nil {
			fmt.Println("connection lost")
			continue
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	for _, x := range server.Exchanges() {
		fmt.Println("executed:", x.Executed)
	}
	// Output:
	// 503 Service Unavailable
	// connection lost
	// 200 OK
	// executed: false
	// executed: true
	// executed: true
}

// Every second request fails.
func ExampleServer_InjectFunc() {
	server := ovhtest.NewServer()
	defer server.Close()
	n := 0 // requests come one after the other here; else it would need a lock
	server.InjectFunc(func(r *http.Request) *ovhtest.Fault {
		if n++; n%2 == 0 {
			return &ovhtest.Fault{Status: http.StatusBadGateway}
		}
		return nil
	})

	for range 3 {
		resp, err := server.Client().Get("/me")
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	// Output:
	// 200 OK
	// 502 Bad Gateway
	// 200 OK
}

// What arrived, as it was sent.
func ExampleServer_Exchanges() {
	server := ovhtest.NewServer()
	defer server.Close()

	if _, err := ovhjson.Put[any](ctx, server.Client(), "/me", map[string]string{"name": "Martin"}); err != nil {
		log.Fatal(err)
	}
	x := server.Exchanges()[0]
	fmt.Println(x.Method, x.Verified, x.Executed, x.Status, string(x.Body), x.Header.Get("Content-Type"))
	server.Forget()
	fmt.Println(len(server.Exchanges()))
	// Output:
	// PUT true true 200 {"name":"Martin"} application/json;charset=utf-8
	// 0
}

// A test that logs what arrives: server.OnExchange(func(x ovhtest.Exchange) { t.Log(x) }).
func ExampleServer_OnExchange() {
	server := ovhtest.NewServer()
	defer server.Close()
	seen := make(chan ovhtest.Exchange, 1)
	server.OnExchange(func(x ovhtest.Exchange) { seen <- x })

	if _, err := ovhjson.Get[any](ctx, server.Client(), "/me"); err != nil {
		log.Fatal(err)
	}
	x := <-seen
	fmt.Println(x.Method, x.Status)
	// Output: GET 200
}
