package ovhauth_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

// What the API says about a request that it rejects, and what that means.
func ExampleAPIError() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    server.Endpoint(),
		Credentials: server.NewKey(consumerkey.ReadOnly("/domain")...),
	}}

	_, err := ovhjson.Get[any](context.Background(), client, "/me")
	e, ok := errors.AsType[*ovhauth.APIError](err)
	if !ok {
		fmt.Println(err)
		return
	}
	fmt.Println(e.Method, e.Path, e.StatusCode, e.Code, e.Message)
	fmt.Println(errors.Is(err, ovhauth.ErrNotGranted), e.QueryID != "", e.RetryAfter)
	text, _, _ := strings.Cut(err.Error(), " (query ID")
	fmt.Println(text)
	// Output:
	// GET /me 403 NOT_GRANTED_CALL This call has not been granted
	// true true 0s
	// ovhauth: GET /me: 403 Forbidden: NOT_GRANTED_CALL: This call has not been granted: the consumer key's access rules do not allow GET /me
}

// A Transport finds out what is missing before it sends anything.
func ExampleTransport_missingCredentials() {
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    ovhauth.EU,
		Credentials: ovhauth.Credentials{ApplicationKey: "AK", ApplicationSecret: "AS"},
	}}
	_, err := client.Get("/me")
	fmt.Println(errors.Is(err, ovhauth.ErrMissingCredentials))
	fmt.Println(err)
	// Output:
	// true
	// Get "/me": ovhauth: missing credentials: consumer_key is missing; set it in Transport.Credentials
}
