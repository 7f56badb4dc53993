// Command consumerkey asks for a consumer key, waits until you have validated it in your browser, and greets you by it.
//
// It talks to the API if it finds an application's key and secret in the environment or in ovh.conf, else to a server of its own
// on this machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/examples/internal/keys"
	"example.com/ovhauth/ovhjson"
)

const patience = 10 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	switch err := run(ctx); {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "Interrupted. A key that nobody has validated gives access to nothing.")
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	transport, server, err := keys.Find(ctx, os.Stdout, "https://eu.api.ovh.com/createApp/")
	if err != nil {
		return err
	}
	if server != nil {
		defer server.Close()
	}
	application, err := transport.Credentials.Retrieve(ctx)
	if err != nil {
		return err
	}
	if application.ApplicationKey == "" || application.ApplicationSecret == "" {
		return errors.New("a consumer key belongs to an application: set OVH_APPLICATION_KEY and OVH_APPLICATION_SECRET, in the environment " +
			"or in ovh.conf; both are made at https://eu.api.ovh.com/createApp/")
	}
	pending, err := consumerkey.Request(ctx, &http.Client{Transport: transport}, consumerkey.Options{Rules: consumerkey.ReadOnly("/me")})
	if err != nil {
		return err
	}
	fmt.Println("Log in and authorize GET on /me, for as long as you like, at")
	fmt.Println()
	fmt.Println("   ", pending.ValidationURL)
	fmt.Println()
	if server != nil {
		fmt.Println("(or wait: in three seconds, this program does it for you)")
		defer time.AfterFunc(3*time.Second, func() { server.Validate(pending.ConsumerKey) }).Stop()
	}

	application.ConsumerKey = pending.ConsumerKey // what uses it takes a Transport of its own
	transport = &ovhauth.Transport{Endpoint: transport.Endpoint, Credentials: application}
	if err := await(ctx, &http.Client{Transport: dots{transport}}); err != nil {
		return err
	}
	me, err := ovhjson.Get[struct{ FirstName string }](ctx, &http.Client{Transport: transport}, "/me")
	if err != nil {
		return err
	}
	fmt.Printf("\nWelcome, %s! Your consumer key is\n\n    %s\n\n", me.FirstName, pending.ConsumerKey)
	fmt.Println("Keep it in OVH_CONSUMER_KEY, or as consumer_key beside the application's key and secret in ~/.ovh.conf,")
	fmt.Println("which nobody but you should be able to read (chmod 600 ~/.ovh.conf).")
	return nil
}

func await(ctx context.Context, client *http.Client) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	fmt.Print("Waiting ")
	err := consumerkey.Await(ctx, client, time.Second)
	fmt.Println()
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("nobody has validated the key within %s; run this again for a new one", patience)
	}
	return err
}

// dots shows that something happens: one dot for each request.
type dots struct{ http.RoundTripper }

func (d dots) RoundTrip(req *http.Request) (*http.Response, error) {
	fmt.Print(".")
	return d.RoundTripper.RoundTrip(req)
}
