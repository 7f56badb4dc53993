// Command proxy signs for programs in any language: curl localhost:8080/me is GET /me with your keys.
//
// It talks to the API if OVH_* variables are set, else to a server of its own on this machine. Whoever can reach its port acts
// with your keys, as far as their access rules go: so it listens on loopback only, unless -expose is given, and every user of
// this machine can call it. Web pages cannot: it answers no request that a browser makes for a page, and none for a host name
// other than localhost, which keeps out those that have the DNS point their own name at this machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

func main() {
	address := flag.String("listen", "localhost:8080", "the `address` to listen on")
	expose := flag.Bool("expose", false, "listen beyond loopback: anybody who reaches the port acts with your keys, unasked")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *address, *expose); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, address string, expose bool) error {
	signer := &ovhauth.Transport{}
	listener, err := listen(address, expose)
	if err != nil {
		return err
	}
	defer listener.Close()
	if !configured() {
		server := ovhtest.NewServer()
		defer server.Close()
		fmt.Println("No OVH_* variables are set, so this signs for an API server of its own,", server.Endpoint())
		fmt.Println("For your account, make keys at https://eu.api.ovh.com/createToken/?GET=/me and export")
		fmt.Println("OVH_ENDPOINT (ovh-eu, …), OVH_APPLICATION_KEY, OVH_APPLICATION_SECRET and OVH_CONSUMER_KEY.")
		fmt.Println()
		signer.Endpoint, signer.Credentials = server.Endpoint(), server.Credentials()
	}
	fmt.Printf("Listening: curl http://%s/me. Whoever reaches this port acts with your keys.\n", listener.Addr())
	name, _, _ := net.SplitHostPort(address)
	return serve(ctx, listener, guard(name, expose, proxy(&ovhauth.RetryTransport{Base: signer})))
}

// listen refuses an address that others than this machine can reach, unless it is to be exposed.
func listen(address string, expose bool) (net.Listener, error) {
	resolved, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("-listen: %w", err)
	}
	if !expose && !resolved.IP.IsLoopback() {
		return nil, fmt.Errorf("-listen %s is not a loopback address: anybody who reaches it would act with your keys; "+
			"listen on localhost, or add -expose if that is what you want", address)
	}
	return net.ListenTCP("tcp", resolved)
}

// proxy passes requests on to the endpoint that transport signs for.
func proxy(transport http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) { // which drops hop-by-hop and forwarding headers before
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.User, r.Out.Host = "", "", nil, ""
			r.Out.URL.RawQuery = r.In.URL.RawQuery // as it was sent, even if net/url cannot read it
			for name := range r.Out.Header {
				if isOurs(name) {
					r.Out.Header.Del(name)
				}
			}
		},
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			status := http.StatusBadGateway
			if errors.Is(err, ovhauth.ErrBodyTooLarge) {
				status = http.StatusRequestEntityTooLarge
			}
			http.Error(w, err.Error(), status)
		},
	}
}

// isOurs reports whether a header says who calls, which is for the signer to say. A browser's cookies for localhost are any
// port's, and none of them is the API's.
func isOurs(name string) bool {
	return name == "Authorization" || name == "Cookie" || strings.HasPrefix(name, "X-Ovh-") && name != "X-Ovh-Batch"
}

// guard refuses what a web page could make its visitor's browser send. Browsers mark what a page asks for by Origin or
// Sec-Fetch-Site; "none" is what the user typed. And a page from a name that its owner's DNS points here has that name as Host.
func guard(name string, expose bool, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, origin := r.Header["Origin"]
		site := r.Header.Get("Sec-Fetch-Site")
		switch {
		case !isOwnHost(r.Host, name, expose):
			http.Error(w, "this proxy does not answer to that Host; call it by localhost or its address", http.StatusMisdirectedRequest)
		case origin, site != "" && site != "none":
			http.Error(w, "this proxy does not answer to web pages, as it acts with its user's keys", http.StatusForbidden)
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// isOwnHost reports whether a Host header names this machine: localhost, an address, which no DNS can point elsewhere, or, if
// exposed, the name that was told to -listen.
func isOwnHost(host, name string, expose bool) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && (expose || ip.IsLoopback()) || expose && name != "" && strings.EqualFold(host, name)
}

// serve answers until ctx ends, and then gives the requests under way ten seconds.
func serve(ctx context.Context, listener net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := server.Shutdown(grace)
		server.Close()
		stopped <- err
	})()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("requests under way were cut off: %w", err)
	}
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
