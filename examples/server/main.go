// Command server is an OVHcloud API on this machine, for tests of programs in any language. It verifies what they sign.
//
// It prints on standard output the variables that lead a program there, ready for a shell, and on standard error each exchange as it
// comes. With -clock, -fail and -quota it behaves as badly as the real API can.
package main

import (
	"context"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.com/ovhauth/ovhtest"
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
	tls   bool
	clock time.Duration
	fail  share
	quota quota
}

func parse(args []string, errs io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("server", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.BoolVar(&o.tls, "tls", false, "https, with a certificate of its own")
	flags.DurationVar(&o.clock, "clock", 0, "how far the server's clock is `ahead`: 1h, -90s")
	flags.Var(&o.fail, "fail", "the `share` of the requests that get a 503: 10%")
	flags.Var(&o.quota, "quota", "how many requests are served in a time, before a 429: `60/m`")
	if err := flags.Parse(args); err != nil {
		return options{}, err
	}
	if flags.NArg() > 0 {
		return options{}, fmt.Errorf("there are no arguments, but %q; flags begin with a -", flags.Arg(0))
	}
	return o, nil
}

func run(ctx context.Context, args []string, out, errs io.Writer) error {
	o, err := parse(args, errs)
	if err != nil {
		return err
	}
	server := ovhtest.NewServer
	if o.tls {
		server = ovhtest.NewTLSServer
	}
	s := server()
	defer s.Close()
	s.SetClock(func() time.Time { return time.Now().Add(o.clock) })
	s.LimitRate(o.quota.requests, o.quota.per, "")
	s.InjectFunc(func(*http.Request) *ovhtest.Fault {
		if rand.Float64() < float64(o.fail) {
			return &ovhtest.Fault{Status: http.StatusServiceUnavailable}
		}
		return nil
	})
	s.OnExchange(func(x ovhtest.Exchange) {
		fmt.Fprintln(errs, x)
		s.Forget() // a long run would keep them all
	})
	if o.tls {
		path, err := writeCertificate(s)
		if err != nil {
			return err
		}
		defer os.Remove(path)
		for _, name := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "CURL_CA_BUNDLE"} {
			fmt.Fprintf(out, "export %s=%s\n", name, path)
		}
	}
	keys := s.Credentials()
	fmt.Fprintf(out, "export OVH_ENDPOINT=%s\n", s.Endpoint())
	fmt.Fprintf(out, "export OVH_APPLICATION_KEY=%s\n", keys.ApplicationKey)
	fmt.Fprintf(out, "export OVH_APPLICATION_SECRET=%s\n", keys.ApplicationSecret)
	fmt.Fprintf(out, "export OVH_CONSUMER_KEY=%s\n", keys.ConsumerKey)
	id, secret := s.NewServiceAccount()
	fmt.Fprintln(out, "# or, in place of the three keys, a service account:")
	fmt.Fprintf(out, "# export OVH_CLIENT_ID=%s OVH_CLIENT_SECRET=%s\n", id, secret)
	<-ctx.Done()
	return nil
}

// writeCertificate puts the server's certificate where programs can be told to look for it.
func writeCertificate(s *ovhtest.Server) (path string, err error) {
	file, err := os.CreateTemp("", "ovhtest-*.pem")
	if err != nil {
		return "", err
	}
	err = pem.Encode(file, &pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return file.Name(), errors.Join(err, file.Close())
}

// share is a part of all, between 0 and 1: "10%" as a flag.
type share float64

func (s share) String() string { return fmt.Sprintf("%g%%", 100*float64(s)) }

func (s *share) Set(text string) error {
	percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
	if err != nil || !(percent >= 0 && percent <= 100) {
		return errors.New("must be a percentage, such as 10%")
	}
	*s = share(percent / 100)
	return nil
}

// quota is a number of requests in a time: "60/m", "5/10s" as a flag. 0 requests mean no limit.
type quota struct {
	requests int
	per      time.Duration
}

func (q quota) String() string {
	if q.requests == 0 {
		return "none"
	}
	return fmt.Sprintf("%d/%s", q.requests, q.per)
}

func (q *quota) Set(text string) error {
	count, per, _ := strings.Cut(text, "/")
	if per != "" && per[0] >= 'a' {
		per = "1" + per // one s, m or h
	}
	requests, err := strconv.Atoi(count)
	duration, failed := time.ParseDuration(per)
	if err != nil || failed != nil || requests < 1 || duration <= 0 {
		return errors.New("must be a number of requests in a time, such as 60/m or 5/10s")
	}
	*q = quota{requests, duration}
	return nil
}
