package ovhauth_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"

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

// A service account whose tokens come from a URL of one's own choice, such as that of a gateway.
func ExampleServiceAccountAt() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	clientID, clientSecret := server.NewServiceAccount()
	tokenURL := strings.TrimSuffix(string(server.Endpoint()), "/1.0") + "/auth/oauth2/token"

	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    server.Endpoint(),
		Credentials: ovhauth.ServiceAccountAt(tokenURL, clientID, clientSecret),
	}}
	resp, err := client.Get("/me")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}
