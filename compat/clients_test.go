package compat

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-resty/resty/v2"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/jarcoal/httpmock"
	"github.com/ovh/go-ovh/ovh"
	"golang.org/x/time/rate"

	"example.com/ovhauth"
	"example.com/ovhauth/compat/iam"
)

// answer reads all there is of one, for clients that leave that to their caller.
func answer(resp *http.Response, err error) (int, string, error) {
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
		_, body, err := answer(client.Get(base + "/me"))
		return body, err
	}, func() (int, error) {
		status, _, err := answer(client.Post(base+recordPath, "application/json", strings.NewReader(record)))
		return status, err
	})
}

// goOVH is a client of OVHcloud's, through ours. What it signs, by keys that nobody knows, ours replaces.
func goOVH(t *testing.T, a *api, base http.RoundTripper) *ovh.Client {
	client, err := ovh.NewClient(string(a.Endpoint()), "unknown", "wrong", "unknown")
	if err != nil {
		t.Fatal(err)
	}
	client.Client = &http.Client{Transport: base}
	return client
}

func TestGoOVH(t *testing.T) {
	a := newAPI(t)
	client := goOVH(t, a, a.retrying())
	a.exercise(t, func() (string, error) {
		var me struct{ Firstname string }
		err := client.Get("/me", &me)
		return me.Firstname, err
	}, func() (int, error) {
		err := client.Post(recordPath, map[string]string{"fieldType": "TXT", "target": "é"}, nil)
		if refusal, ok := errors.AsType[*ovh.APIError](err); ok {
			return refusal.Code, nil
		}
		return http.StatusOK, err
	})
}

// go-ovh asks for the time once in its life. When the clocks drift apart after that, all its calls fail; through ours, none.
func TestGoOVHWhenTheClockSteps(t *testing.T) {
	for name, test := range map[string]struct {
		transport func(*api) http.RoundTripper
		want      string
	}{
		"alone":        {func(a *api) http.RoundTripper { return a.base }, "Query out of time"},
		"through ours": {func(a *api) http.RoundTripper { return a.retrying() }, ""},
	} {
		a := newAPI(t)
		keys := a.Credentials()
		client, err := ovh.NewClient(string(a.Endpoint()), keys.ApplicationKey, keys.ApplicationSecret, keys.ConsumerKey)
		if err != nil {
			t.Fatal(err)
		}
		client.Client = &http.Client{Transport: test.transport(a)}
		if err := client.Get("/me", nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a.SetClock(func() time.Time { return time.Now().Add(-time.Hour) })
		err = client.Get("/me", nil)
		if got, ok := errors.AsType[*ovh.APIError](err); ok != (test.want != "") || ok && got.Message != test.want || !ok && err != nil {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

func TestOAPICodegen(t *testing.T) {
	a := newAPI(t)
	policies(a)
	client, err := iam.NewClientWithResponses("/v2", iam.WithHTTPClient(&http.Client{Transport: a.retrying()}))
	if err != nil {
		t.Fatal(err)
	}
	made, told := 0, map[int]int{}
	for range rounds {
		created, err := client.CreatePolicyWithResponse(t.Context(), iam.PolicyCreation{Name: "<é>", Identities: []string{}})
		if err != nil {
			t.Fatal(err)
		}
		if told[created.StatusCode()]++; created.JSON200 != nil {
			made++
			one, err := client.GetPolicyWithResponse(t.Context(), created.JSON200.Id)
			if err != nil || one.JSON200 == nil || one.JSON200.Name != "<é>" {
				t.Fatalf("policy %s: %v, %v", created.JSON200.Id, one, err)
			}
		}
		for range 2 {
			list, err := client.ListPoliciesWithResponse(t.Context(), &iam.ListPoliciesParams{Details: new(true), XPaginationSize: new(500)})
			if err != nil || list.JSON200 == nil || len(*list.JSON200) != made {
				t.Fatalf("%d policies made; listed %v, %v", made, list, err)
			}
		}
	}
	if none, err := client.GetPolicyWithResponse(t.Context(), "a/b"); err != nil || none.JSON404 == nil {
		t.Errorf("no policy: %v, %v", none, err)
	}
	if len(told) != 2 {
		t.Errorf("told %v", told)
	}
	a.checkExchanges(t, told[http.StatusServiceUnavailable])
}

func TestResty(t *testing.T) {
	a := newAPI(t)
	client := resty.New().SetTransport(a.retrying())
	a.exercise(t, func() (string, error) {
		resp, err := client.R().Get("/me")
		return resp.String(), err
	}, func() (int, error) {
		resp, err := client.R().SetHeader("Content-Type", "application/json").SetBody(record).Post(recordPath)
		return resp.StatusCode(), err
	})
}

// What a proxy passes on has no GetBody: it is signed all the same, held meanwhile.
func TestReverseProxy(t *testing.T) {
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

// Code that has a retryablehttp.Client of its own needs no RetryTransport.
func TestRetryableHTTP(t *testing.T) {
	a := newAPI(t)
	client := retryablehttp.NewClient()
	client.HTTPClient = &http.Client{Transport: a.transport()}
	client.CheckRetry = ovhauth.CheckRetry
	client.Backoff = ovhauth.Backoff
	client.ErrorHandler = retryablehttp.PassthroughErrorHandler
	client.RetryWaitMin = time.Millisecond
	client.Logger = nil
	a.exercise(t, func() (string, error) {
		_, body, err := answer(client.Get("/me"))
		return body, err
	}, func() (int, error) {
		status, _, err := answer(client.Post(recordPath, "application/json", []byte(record)))
		return status, err
	})
}

// A mock below sees each attempt, signed, and may let it through.
func TestHTTPMock(t *testing.T) {
	a := newAPI(t)
	mock := httpmock.NewMockTransport()
	mock.RegisterResponder("GET", string(a.Endpoint())+"/me", a.base.RoundTrip)
	mock.RegisterResponder("POST", string(a.Endpoint())+recordPath, a.base.RoundTrip)
	mock.RegisterResponder("GET", "https://files.example/invoice", func(req *http.Request) (*http.Response, error) {
		if req.Header.Get("X-Ovh-Signature") != "" {
			t.Error("signed for another origin")
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
	if status, _, err := answer(client.Get("https://files.example/invoice")); status != http.StatusTeapot {
		t.Errorf("%d, %v", status, err)
	}
}

// Each attempt takes a token; a request mended for its time takes no second one.
func TestRateLimiter(t *testing.T) {
	a := newAPI(t)
	limiter := rate.NewLimiter(rate.Every(time.Hour), 1000)
	stack := a.retrying()
	stack.Limiter = limiter
	client := &http.Client{Transport: stack}
	a.exerciseHTTP(t, client, "")
	sent := len(a.Exchanges()) - 1 // without the one that was signed at the wrong time
	if taken := 1000 - int(limiter.Tokens()+0.5); taken != sent {
		t.Errorf("%d attempts took %d tokens", sent, taken)
	}

	stack.Limiter.(*rate.Limiter).SetBurst(0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	a.Forget()
	if _, err := client.Do(req); err == nil || !strings.Contains(err.Error(), "ovhauth: limiter: ") || len(a.Exchanges()) != 0 {
		t.Errorf("without a token: %v, %d sent", err, len(a.Exchanges()))
	}
}
