package ovhauth_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
	"github.com/hashicorp/go-retryablehttp"
)

// A GET is sent again after a 503; a POST is not, as the 503 may have come too late.
func ExampleRetryTransport() {
	srv := ovhtest.NewServer() // in place of the real API
	defer srv.Close()
	srv.Handle("/domain/zone/example.com/refresh", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))

	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Base:    &ovhauth.Transport{Endpoint: srv.Endpoint(), Credentials: srv.Credentials()},
		MinWait: time.Millisecond, // for this example; the default suits the API
	}}
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		srv.Inject(ovhtest.Fault{Status: http.StatusServiceUnavailable})
		req, err := http.NewRequest(method, "/domain/zone/example.com/refresh", nil)
		if err != nil {
			log.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(method, resp.Status)
	}
	fmt.Println(len(srv.Exchanges()), "requests")
	// Output:
	// GET 200 OK
	// POST 503 Service Unavailable
	// 3 requests
}

// A 429 was not executed: the request, here a POST, is sent again when its turn comes, at the rate that the API grants. A call
// whose turn would come after its deadline is told so at once, with the 429.
func ExampleRetryTransport_rateLimit() {
	srv := ovhtest.NewServer() // in place of the real API
	defer srv.Close()
	srv.Handle("POST /domain/zone/example.com/refresh", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Base: &ovhauth.Transport{Endpoint: srv.Endpoint(), Credentials: srv.Credentials()},
	}}
	refresh := func(timeout time.Duration) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "/domain/zone/example.com/refresh", strings.NewReader("{}"))
		if err != nil {
			log.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		fmt.Println(resp.Status)
	}
	srv.Inject(ovhtest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"1"}}})
	refresh(time.Minute)
	srv.Inject(ovhtest.Fault{Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"3600"}}})
	refresh(time.Minute)
	// Output:
	// 200 OK
	// 429 Too Many Requests
}

// permits is a Limiter that lets as many requests through as there are permits in it. A *rate.Limiter of golang.org/x/time is
// one, too, and gives out so many a second.
type permits chan struct{}

func (p permits) Wait(ctx context.Context) error {
	select {
	case <-p:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func ExampleLimiter() {
	srv := ovhtest.NewServer() // in place of the real API
	defer srv.Close()
	srv.Inject(ovhtest.Fault{Status: http.StatusServiceUnavailable})

	limiter := make(permits, 3)
	for range cap(limiter) {
		limiter <- struct{}{}
	}
	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Base:    &ovhauth.Transport{Endpoint: srv.Endpoint(), Credentials: srv.Credentials()},
		Limiter: limiter,
		MinWait: time.Millisecond, // for this example
	}}
	resp, err := client.Get("/me")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status, "after two attempts;", len(limiter), "permit left")
	// Output: 200 OK after two attempts; 1 permit left
}

// Code that has a retryablehttp.Client already keeps it, and gives it these two.
func ExampleCheckRetry() {
	srv := ovhtest.NewServer() // in place of the real API
	defer srv.Close()
	srv.Inject(ovhtest.Fault{Status: http.StatusServiceUnavailable})

	client := retryablehttp.NewClient()
	client.HTTPClient = &http.Client{
		Transport: &ovhauth.Transport{Endpoint: srv.Endpoint(), Credentials: srv.Credentials()},
		// A redirect followed in there would hide what became of the first request.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	client.CheckRetry = ovhauth.CheckRetry
	client.Backoff = ovhauth.Backoff
	client.ErrorHandler = retryablehttp.PassthroughErrorHandler // the last response, rather than "giving up"
	client.Logger = nil
	client.RetryWaitMin = time.Millisecond // for this example

	resp, err := client.Get("/me")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	for _, x := range srv.Exchanges() {
		fmt.Println("signed:", x.Verified)
	}
	// Output:
	// 200 OK
	// signed: true
	// signed: true
}

// The wait that a response asks for is obeyed, but not beyond the maximum.
func ExampleBackoff() {
	resp := &http.Response{Header: http.Header{"Retry-After": {"7"}}}
	fmt.Println(ovhauth.Backoff(time.Second, 30*time.Second, 0, resp))
	fmt.Println(ovhauth.Backoff(time.Second, 5*time.Second, 0, resp))
	// Output:
	// 7s
	// 5s
}
