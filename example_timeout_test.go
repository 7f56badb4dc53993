package ovhauth_test

import (
	"fmt"
	"net/http"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// A server that hangs uses up the deadline of the whole call, unless each attempt has a bound of its own.
func ExampleRetryTransport_attemptTimeout() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	server.Inject(ovhtest.Fault{Delay: time.Hour}) // the first request meets it

	base := http.DefaultTransport.(*http.Transport).Clone()
	base.ResponseHeaderTimeout = 100 * time.Millisecond // for this example; 10 s suits the API
	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Base:    &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: server.Credentials(), Base: base},
		MinWait: time.Millisecond, // for this example
	}}
	resp, err := client.Get("/me")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	fmt.Println("the first attempt got a response:", server.Exchanges()[0].Status != 0)
	// Output:
	// 200 OK
	// the first attempt got a response: false
}
