package consumerkey_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

// From the request of a consumer key to its use.
func ExampleRequest() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	ctx, keys := context.Background(), server.Credentials()
	keys.ConsumerKey = ""

	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: keys}}
	pending, err := consumerkey.Request(ctx, client, consumerkey.Options{Rules: consumerkey.ReadOnly("/me")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(pending.State)
	server.Validate(pending.ConsumerKey) // as the user does in a browser at pending.ValidationURL

	keys.ConsumerKey = pending.ConsumerKey
	client = &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: keys}}
	me, err := ovhjson.Get[struct{ FirstName string }](ctx, client, "/me")
	fmt.Println(me.FirstName, err)
	// Output:
	// pendingValidation
	// Jeanne <nil>
}

// A log shows neither the key nor the token in the URL. The user gets the URL from its field.
func ExamplePending() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()

	pending, err := consumerkey.Request(context.Background(), server.Client(), consumerkey.Options{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Contains(fmt.Sprintf("%+v", pending), pending.ConsumerKey))
	fmt.Println(strings.HasPrefix(pending.ValidationURL, "http://127.0.0.1"))
	// Output:
	// false
	// true
}

// The wait ends when the user has decided, or with the context.
func ExampleAwait() {
	server := ovhtest.NewServer() // in place of the real API, with a key that is validated
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()

	fmt.Println(consumerkey.Await(ctx, server.Client(), 0))
	// Output: <nil>
}

func ExampleCurrent() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()

	key, err := consumerkey.Current(context.Background(), server.Client())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(key.Status, key.Rules[0], key.Expiration == nil)
	// Output: validated {GET /*} true
}

// A key that is given up opens nothing any more.
func ExampleLogout() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	ctx := context.Background()

	if err := consumerkey.Logout(ctx, server.Client()); err != nil {
		log.Fatal(err)
	}
	_, err := consumerkey.Current(ctx, server.Client())
	fmt.Println(errors.Is(err, ovhauth.ErrInvalidCredential))
	// Output: true
}

func ExampleReadOnly() {
	fmt.Println(consumerkey.ReadOnly("/domain/zone"))
	// Output: [{GET /domain/zone} {GET /domain/zone/*}]
}

func ExampleReadWrite() {
	fmt.Println(consumerkey.ReadWrite("/"))
	// Output: [{GET /*} {POST /*} {PUT /*} {DELETE /*}]
}
