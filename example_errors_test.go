package ovhauth_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

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

// Each way in which the API rejects credentials has an error of its own.
func ExampleErrInvalidCredential() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	unknownApplication, wrongSecret, expired, revoked := server.NewKey(), server.NewKey(), server.NewKey(), server.NewKey()
	unknownApplication.ApplicationKey = "unknown"
	wrongSecret.ApplicationSecret = "wrong"
	server.Expire(expired.ConsumerKey)
	server.Revoke(revoked.ConsumerKey)

	for _, keys := range []ovhauth.Credentials{unknownApplication, wrongSecret, expired, revoked} {
		client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: keys}}
		switch _, err := ovhjson.Get[any](context.Background(), client, "/me"); {
		case errors.Is(err, ovhauth.ErrInvalidKey):
			fmt.Println("this endpoint does not know the application key")
		case errors.Is(err, ovhauth.ErrInvalidSignature):
			fmt.Println("the secret or the consumer key is wrong")
		case errors.Is(err, ovhauth.ErrInvalidCredential):
			fmt.Println("the consumer key is pending, rejected or expired")
		case errors.Is(err, ovhauth.ErrUnknownCredential):
			fmt.Println("the consumer key is unknown: ask for a new one")
		}
	}
	// Output:
	// this endpoint does not know the application key
	// the secret or the consumer key is wrong
	// the consumer key is pending, rejected or expired
	// the consumer key is unknown: ask for a new one
}

// A Clock of your own is never corrected, so the API's rejection reaches you.
func ExampleErrQueryTimeOut() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    server.Endpoint(),
		Credentials: server.Credentials(),
		Clock:       ovhauth.ClockFunc(func() time.Time { return time.Now().Add(-time.Hour) }),
	}}

	_, err := ovhjson.Get[any](context.Background(), client, "/me")
	fmt.Println(errors.Is(err, ovhauth.ErrQueryTimeOut))
	// Output: true
}

// A body without GetBody is kept in memory to be signed. A longer one needs a GetBody.
func ExampleErrBodyTooLarge() {
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    ovhauth.EU,
		Credentials: ovhauth.Credentials{ApplicationKey: "AK", ApplicationSecret: "AS", ConsumerKey: "CK"},
	}}
	stream := io.LimitReader(rand.Reader, 33<<20) // nobody can open it again
	_, err := client.Post("/some/file", "application/octet-stream", stream)
	fmt.Println(errors.Is(err, ovhauth.ErrBodyTooLarge))
	// Output: true
}

// Keys go over plain http to this machine alone.
func ExampleErrPlainHTTP() {
	_, err := ovhauth.ParseEndpoint("http://api.example/1.0")
	fmt.Println(errors.Is(err, ovhauth.ErrPlainHTTP))
	_, err = ovhauth.ParseEndpoint("http://127.0.0.1:8080/1.0")
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}
