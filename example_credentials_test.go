package ovhauth_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// setenv sets variables for as long as an example runs.
func setenv(values map[string]string) (restore func()) {
	for name, value := range values {
		os.Setenv(name, value)
	}
	return func() {
		for name := range values {
			os.Unsetenv(name)
		}
	}
}

// What a Transport without Credentials uses: the environment, and what is not there from ovh.conf.
func ExampleDefaultCredentials() {
	defer setenv(map[string]string{"OVH_ENDPOINT": "ovh-eu", "OVH_ACCESS_TOKEN": "a token"})()

	keys, err := ovhauth.DefaultCredentials(ovhauth.EU).Retrieve(context.Background())
	fmt.Println(keys.AccessToken, err)
	// Output: a token <nil>
}

// The environment alone: no file is read.
func ExampleEnvCredentials() {
	defer setenv(map[string]string{"OVH_APPLICATION_KEY": "AK", "OVH_APPLICATION_SECRET": "AS", "OVH_CONSUMER_KEY": "CK"})()

	keys, err := ovhauth.EnvCredentials().Retrieve(context.Background())
	fmt.Println(keys.ApplicationKey, keys.ConsumerKey, err)
	// Output: AK CK <nil>
}

func ExampleFileCredentials() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "ovh.conf")
	if err := os.WriteFile(path, []byte("[ovh-eu]\napplication_key=AK\napplication_secret=AS\nconsumer_key=CK\n"), 0o600); err != nil {
		log.Fatal(err)
	}

	keys, err := ovhauth.FileCredentials(ovhauth.EU, path).Retrieve(context.Background())
	fmt.Println(keys.ApplicationKey, keys.ConsumerKey, err)
	// Output: AK CK <nil>
}

// A service account's token is fetched once and renewed when need be.
func ExampleServiceAccount() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	clientID, clientSecret := server.NewServiceAccount()

	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    server.Endpoint(),
		Credentials: ovhauth.ServiceAccount(server.Endpoint(), clientID, clientSecret),
	}}
	for range 2 {
		resp, err := client.Get("/me")
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	fmt.Println(len(server.Exchanges()), "requests, with the one for the token")
	// Output:
	// 200 OK
	// 200 OK
	// 3 requests, with the one for the token
}

// From asking for a consumer key to using it.
func ExampleRequestConsumerKey() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	ctx, keys := context.Background(), server.Credentials()
	keys.ConsumerKey = ""

	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: keys}}
	pending, err := ovhauth.RequestConsumerKey(ctx, client, ovhauth.ConsumerKeyRequest{AccessRules: ovhauth.ReadOnly("/me")})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(pending.State)
	server.Validate(pending.ConsumerKey) // as the user does in a browser at pending.ValidationURL

	keys.ConsumerKey = pending.ConsumerKey
	client = &http.Client{Transport: &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: keys}}
	resp, err := client.Get("/me")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output:
	// pendingValidation
	// 200 OK
}

// The wait ends when the user has decided, or with the context.
func ExampleAwaitValidation() {
	server := ovhtest.NewServer() // in place of the real API, with a key that is validated
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()

	fmt.Println(ovhauth.AwaitValidation(ctx, server.Client(), 0))
	// Output: <nil>
}

func ExampleCurrentCredential() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()

	credential, err := ovhauth.CurrentCredential(context.Background(), server.Client())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(credential.Status, credential.Rules[0], credential.Expiration == nil)
	// Output: validated {GET /*} true
}

// A key that is given up opens nothing any more.
func ExampleLogout() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	ctx := context.Background()

	if err := ovhauth.Logout(ctx, server.Client()); err != nil {
		log.Fatal(err)
	}
	_, err := ovhauth.CurrentCredential(ctx, server.Client())
	fmt.Println(errors.Is(err, ovhauth.ErrInvalidCredential))
	// Output: true
}

func ExampleReadOnly() {
	fmt.Println(ovhauth.ReadOnly("/domain/zone"))
	// Output: [{GET /domain/zone} {GET /domain/zone/*}]
}

func ExampleReadWrite() {
	fmt.Println(ovhauth.ReadWrite("/"))
	// Output: [{GET /*} {POST /*} {PUT /*} {DELETE /*}]
}
