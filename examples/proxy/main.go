// Command proxy signs for programs in any language: curl localhost:8080/me is GET /me with your keys.
//
// It talks to the API if it finds keys in the environment or in ovh.conf, else to a server of its own on this machine. Whoever can
// reach its port acts with your keys, as far as their rights go: so it listens on loopback only, unless -expose is given, and
// every user of this machine can call it. Web pages cannot: it rejects what a browser sends for a page, and any host name other
// than localhost and those of -host, which keeps out pages that have the DNS point their own name at this machine.
//
// A client of the API takes http://localhost:8080/1.0 as its endpoint; /v1, /v2 and the bare host do as well. Whatever keys, signature
// or token it sends are dropped, so they can be any. For clients that speak only https there are -tls, which makes a certificate,
// and -tls-cert with -tls-key.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/examples/internal/keys"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); {
	case err == nil, errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	address         string
	expose          bool
	hosts           []string // names that a Host header may have, besides localhost and addresses
	tls             bool
	tlsCert, tlsKey string
}

func parse(args []string, errs io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("proxy", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.StringVar(&o.address, "listen", "localhost:8080", "the `address` to listen on")
	flags.BoolVar(&o.expose, "expose", false, "listen beyond loopback: anybody who reaches the port acts with your keys, unasked")
	flags.Func("host", "a host `name` by which clients call this proxy; may be given more than once", func(name string) error {
		if _, err := netip.ParseAddr(name); err != nil && (name == "" || strings.ContainsAny(name, ":/")) {
			return errors.New("must be a name alone, such as gateway.example")
		}
		o.hosts = append(o.hosts, name)
		return nil
	})
	flags.BoolVar(&o.tls, "tls", false, "https, with a certificate made for this run")
	flags.StringVar(&o.tlsCert, "tls-cert", "", "https, with the certificates of this PEM `file`")
	flags.StringVar(&o.tlsKey, "tls-key", "", "the private key of -tls-cert, a PEM `file`")
	switch err := flags.Parse(args); {
	case err != nil:
		return options{}, err
	case flags.NArg() > 0:
		return options{}, fmt.Errorf("there are no arguments, but %q; flags begin with a -", flags.Arg(0))
	case (o.tlsCert == "") != (o.tlsKey == ""), o.tls && o.tlsCert != "":
		return options{}, errors.New("give -tls alone, or -tls-cert and -tls-key together")
	}
	if name, _, err := net.SplitHostPort(o.address); err == nil && o.expose && name != "" {
		o.hosts = append(o.hosts, name)
	}
	return o, nil
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	o, err := parse(args, errs)
	if err != nil {
		return err
	}
	listener, err := listen(o.address, o.expose)
	if err != nil {
		return err
	}
	defer listener.Close()
	signer, server, err := keys.Find(ctx, out, "https://eu.api.ovh.com/createToken/?GET=/me")
	if err != nil {
		return err
	}
	if server != nil {
		defer server.Close()
	}
	if found, err := signer.Credentials.Retrieve(ctx); err == nil && found.AccessToken == "" && found.ConsumerKey == "" {
		fmt.Fprintln(out, "There is no consumer key, so only calls without authentication will work. Set OVH_CONSUMER_KEY.")
	}
	certificate, forget, err := o.certificate(out)
	if err != nil {
		return err
	}
	defer forget()
	scheme := "http"
	if certificate != nil {
		scheme = "https"
	}
	signer.Base = noting{http.DefaultTransport}
	logger := log.New(errs, "", log.LstdFlags)
	h := guard(o.expose, o.hosts, proxy(&ovhauth.RetryTransport{Base: signer}, logger), logger)
	fmt.Fprintf(out, "Listening: curl %s://%s/me. Whoever reaches this port acts with your keys.\n", scheme, listener.Addr())
	return serve(ctx, listener, certificate, h, logger)
}

// listen rejects an address that others than this machine can reach, unless it is to be exposed.
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

// serve serves until ctx ends, and then gives the requests under way ten seconds. With a certificate it serves https.
func serve(ctx context.Context, listener net.Listener, certificate *tls.Certificate, h http.Handler, logger *log.Logger) error {
	server := &http.Server{Handler: limitRest(h), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: logger}
	start := server.Serve
	if certificate != nil {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}}
		start = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	stopped := make(chan error, 1)
	defer context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err := server.Shutdown(grace)
		server.Close()
		stopped <- err
	})()
	if err := start(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("requests under way were cut off: %w", err)
	}
	return nil
}

// limitRest gives the client bodyTimeout for a body that h does not read: in HTTP/1, net/http reads it before it responds. In HTTP/2
// it does not, and a deadline would also hit an upload that waits for its turn.
func limitRest(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && r.Body != http.NoBody {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		h.ServeHTTP(w, r)
	})
}

// oneLine keeps what others have written from making two lines of the log out of one.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
