package compat

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"github.com/jarcoal/httpmock"
	"golang.org/x/time/rate"
	"resty.dev/v3"

	"example.com/ovhauth"
)

// whole reads all of a response, for clients that leave that to their caller.
func whole(resp *http.Response, err error) (int, string, error) {
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// exerciseHTTP is exercise for what is an http.Client, with its paths below base.
func (a *api) exerciseHTTP(t *testing.T, client *http.Client, base string) {
	t.Helper()
	a.exercise(t, func() (string, error) {
		_, body, err := whole(client.Get(base + "/me"))
		return body, err
	}, func() (int, error) {
		status, _, err := whole(client.Post(base+recordPath, "application/json", strings.NewReader(record)))
		return status, err
	})
}

// A program that has its URL built in, and takes no client, is signed by what stands in for http.DefaultTransport.
func TestDefaultTransport(t *testing.T) {
	listed(t, row{
		Client: "a program that takes no client", Language: "Go",
		Wiring:  "`http.DefaultTransport = &ovhauth.RetryTransport{Base: &ovhauth.Transport{Base: http.DefaultTransport}}`",
		BaseURL: "as it is built in, `https://eu.api.ovh.com/1.0`", Keys: "none",
	})
	a := newAPI(t)
	original := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = original })
	http.DefaultTransport = &ovhauth.RetryTransport{
		Base:    &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: a.Credentials(), Base: a.Transport()},
		MinWait: time.Millisecond,
	}
	a.exercise(t, func() (string, error) {
		_, body, err := whole(http.Get("https://eu.api.ovh.com/1.0/me"))
		return body, err
	}, func() (int, error) {
		status, _, err := whole(http.Post("https://eu.api.ovh.com/1.0"+recordPath, "application/json", strings.NewReader(record)))
		return status, err
	})
}

func TestResty(t *testing.T) {
	listed(t, row{
		Client: "resty", Module: "resty.dev/v3", Language: "Go",
		Wiring: "`SetTransport(transport)`", BaseURL: "none: `/me`", Keys: "none",
	})
	a := newAPI(t)
	client := resty.New().SetTransport(a.retrying())
	defer client.Close()
	a.exercise(t, func() (string, error) {
		resp, err := client.R().Get("/me")
		return resp.String(), err
	}, func() (int, error) {
		resp, err := client.R().SetHeader("Content-Type", "application/json").SetBody(record).Post(recordPath)
		return resp.StatusCode(), err
	})
}

// What a reverse proxy passes on has no GetBody: it is signed all the same.
func TestReverseProxy(t *testing.T) {
	listed(t, row{
		Client: "httputil.ReverseProxy", Language: "Go",
		Wiring: "`Transport: transport`", BaseURL: "`SetURL` to the endpoint, or no host at all", Keys: "none",
	})
	a := newAPI(t)
	target, err := url.Parse(string(a.Endpoint()))
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Transport: a.retrying(),
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
	})
	defer proxy.Close()
	a.exerciseHTTP(t, proxy.Client(), proxy.URL)
}

var retryableRow = row{
	Client: "go-retryablehttp", Module: "github.com/hashicorp/go-retryablehttp", Language: "Go",
	Wiring:  "`HTTPClient`, with a Transport, and `CheckRetry`, `Backoff`",
	BaseURL: "none: `/me`", Keys: "none",
}

// Code that has a retryablehttp.Client of its own needs no RetryTransport.
func TestRetryableHTTP(t *testing.T) {
	listed(t, retryableRow)
	a := newAPI(t)
	client := retryablehttp.NewClient()
	client.HTTPClient = &http.Client{Transport: a.transport()}
	client.CheckRetry = ovhauth.CheckRetry
	client.Backoff = ovhauth.Backoff
	client.ErrorHandler = retryablehttp.PassthroughErrorHandler
	client.RetryWaitMin = time.Millisecond
	client.Logger = nil
	a.exercise(t, func() (string, error) {
		_, body, err := whole(client.Get("/me"))
		return body, err
	}, func() (int, error) {
		status, _, err := whole(client.Post(recordPath, "application/json", []byte(record)))
		return status, err
	})
}

// A mock below sees each attempt, signed, and may let it through.
func TestHTTPMock(t *testing.T) {
	listed(t, row{
		Client: "httpmock", Module: "github.com/jarcoal/httpmock", Language: "Go",
		Wiring: "`Transport.Base`", BaseURL: "responders of absolute URLs", Keys: "none",
	})
	a := newAPI(t)
	mock := httpmock.NewMockTransport()
	mock.RegisterResponder("GET", string(a.Endpoint())+"/me", a.base.RoundTrip)
	mock.RegisterResponder("POST", string(a.Endpoint())+recordPath, a.base.RoundTrip)
	mock.RegisterResponder("GET", "https://files.example/invoice", func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("X-Ovh-Signature") != "" {
			t.Error("a request for another origin is signed")
		}
		return httpmock.NewStringResponse(http.StatusTeapot, ""), nil
	})
	signer := a.transport()
	signer.Base = mock
	client := &http.Client{Transport: &ovhauth.RetryTransport{Base: signer, MinWait: time.Millisecond}}
	a.exerciseHTTP(t, client, "")
	if n := mock.GetTotalCallCount(); n != len(a.Exchanges()) {
		t.Errorf("the mock was called %d times for %d requests", n, len(a.Exchanges()))
	}
	if status, _, err := whole(client.Get("https://files.example/invoice")); status != http.StatusTeapot {
		t.Errorf("from another origin: %d, %v; want 418", status, err)
	}
}

// Each attempt takes a token; a request that is sent again because of its time takes no second one.
func TestRateLimiter(t *testing.T) {
	listed(t, row{
		Client: "rate.Limiter", Module: "golang.org/x/time", Language: "Go",
		Wiring: "`RetryTransport.Limiter`", BaseURL: "none: `/me`", Keys: "none",
	})
	a := newAPI(t)
	limiter := rate.NewLimiter(rate.Every(time.Hour), 1000)
	stack := a.retrying()
	stack.Limiter = limiter
	client := &http.Client{Transport: stack}
	a.exerciseHTTP(t, client, "")
	sent := len(a.Exchanges()) - 1 // without the one that was signed with a wrong time
	if taken := 1000 - int(limiter.Tokens()+0.5); taken != sent {
		t.Errorf("%d attempts took %d tokens", sent, taken)
	}

	limiter.SetBurst(0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	a.Forget()
	if _, err := client.Do(req); err == nil || !strings.Contains(err.Error(), "ovhauth: limiter: ") || len(a.Exchanges()) != 0 {
		t.Errorf("without a token: %v, %d sent; want an error of the limiter, and nothing sent", err, len(a.Exchanges()))
	}
}
