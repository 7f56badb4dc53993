// Package keys is where the example programs get their keys from.
package keys

import (
	"context"
	"fmt"
	"io"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// Find returns a Transport for the endpoint and keys of the environment and ovh.conf, and tells out where it found them. If there
// are none, it tells out how to get some, and the Transport is for a server of its own, which the caller closes; it is nil
// otherwise. An application's key and secret alone count as keys.
func Find(ctx context.Context, out io.Writer, page string) (*ovhauth.Transport, *ovhtest.Server, error) {
	provider := ovhauth.DefaultCredentials("")
	found, err := provider.Retrieve(ctx)
	if err != nil {
		return nil, nil, err
	}
	if found != (ovhauth.Credentials{}) {
		if found.AccessToken != "" || found.ConsumerKey != "" {
			fmt.Fprintf(out, "Keys: %s.\n", provider)
		}
		return &ovhauth.Transport{Credentials: provider}, nil, nil
	}
	server := ovhtest.NewServer()
	fmt.Fprintln(out, "There are no keys in the environment or in ovh.conf, so this uses an API server of its own,", server.Endpoint())
	fmt.Fprintln(out, "For your account, make keys at", page, "and set")
	fmt.Fprintln(out, "OVH_ENDPOINT (ovh-eu, …), OVH_APPLICATION_KEY, OVH_APPLICATION_SECRET and OVH_CONSUMER_KEY, or the same in ~/.ovh.conf.")
	fmt.Fprintln(out)
	return &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: server.Credentials()}, server, nil
}
