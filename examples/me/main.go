// Command me greets the owner of an OVHcloud account by GET /me, and shows what went over the wire.
//
// It talks to the API if any OVH_* variable is set, else to a server of its own on this machine.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	transport := &ovhauth.Transport{Base: wire{http.DefaultTransport}}
	if !configured() {
		server := ovhtest.NewServer()
		defer server.Close()
		fmt.Println("No OVH_* variables are set, so this runs against an API server of its own,", server.Endpoint())
		fmt.Println("To greet yourself, make keys at https://eu.api.ovh.com/createToken/?GET=/me and export")
		fmt.Println("OVH_ENDPOINT (ovh-eu, …), OVH_APPLICATION_KEY, OVH_APPLICATION_SECRET and OVH_CONSUMER_KEY.")
		fmt.Println()
		transport.Endpoint, transport.Credentials = server.Endpoint(), server.Credentials()
		defer func() {
			for _, x := range server.Exchanges() {
				fmt.Printf("The server recomputed the signature of %s %s: verified %t.\n", x.Method, x.URL, x.Verified)
			}
		}()
	}

	client := &http.Client{Transport: transport}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	me, err := ovhjson.Get[struct{ FirstName string }](ctx, client, "/me")
	if err != nil {
		return err
	}
	fmt.Printf("\nWelcome, %s!\n", me.FirstName)
	return nil
}

func configured() bool {
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "OVH_") && !strings.HasSuffix(v, "=") {
			return true
		}
	}
	return false
}
