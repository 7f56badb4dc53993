package ovhtest_test

import (
	"fmt"
	"io"
	"log"
	"net/http"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/ovhtest"
)

func ExampleNewServer() {
	srv := ovhtest.NewServer()
	defer srv.Close()

	// The code under test gets a client, or srv.Endpoint() and srv.Credentials() to make its own of.
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    srv.Endpoint(),
		Credentials: srv.NewKey(consumerkey.Rule{Method: "GET", Path: "/auth/*"}),
	}}
	for _, path := range []string{"/auth/currentCredential", "/me"} {
		resp, err := client.Get(path)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(path, resp.Status)
	}
	fmt.Println(srv.Exchanges()[1].ErrorCode)
	// Output:
	// /auth/currentCredential 200 OK
	// /me 403 Forbidden
	// NOT_GRANTED_CALL
}

func ExampleServer_Handle() {
	srv := ovhtest.NewServer()
	defer srv.Close()
	srv.Handle("GET /domain/zone/{zone}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"name":%q}`, r.PathValue("zone"))
	}))

	resp, err := srv.Client().Get("/domain/zone/example.ovh")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	fmt.Println(string(body), err)
	// Output:
	// {"name":"example.ovh"} <nil>
}

func ExampleServer_Inject() {
	srv := ovhtest.NewServer()
	defer srv.Close()
	srv.Inject(
		ovhtest.Fault{Path: "/me", Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"1"}}},
		ovhtest.Fault{Path: "/me", Cut: ovhtest.CutAfterExecution},
	)

	for range 3 {
		resp, err := srv.Client().Get("/me")
		if err != nil {
			fmt.Println("connection lost")
			continue
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	for _, x := range srv.Exchanges() {
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
