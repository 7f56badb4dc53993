// Command me greets the owner of an OVHcloud account by GET /me, and shows what went over the wire.
//
// It talks to the API if it finds keys in the environment or in ovh.conf, else to a server of its own on this machine.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"time"

	"example.com/ovhauth/examples/internal/keys"
	"example.com/ovhauth/ovhjson"
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
	transport, server, err := keys.Find(ctx, os.Stdout, "https://eu.api.ovh.com/createToken/?GET=/me")
	if err != nil {
		return err
	}
	transport.Base = wire{http.DefaultTransport}
	if server != nil {
		defer server.Close()
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
