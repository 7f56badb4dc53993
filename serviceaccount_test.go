package ovhauth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestTokenRequest(t *testing.T) {
	isolate(t)
	for _, test := range []struct{ endpoint, url string }{ // "" for none
		{"ovh-eu", "https://www.ovh.com/auth/oauth2/token"},
		{"https://eu.api.ovh.com/v1", "https://www.ovh.com/auth/oauth2/token"},
		{"https://api.ovh.com/1.0", "https://www.ovh.com/auth/oauth2/token"},
		{"https://api.eu.ovhcloud.com", "https://www.ovh.com/auth/oauth2/token"},
		{"https://api.ca.ovhcloud.com/1.0", "https://ca.ovh.com/auth/oauth2/token"},
		{"https://api.eu.ovhcloud.com/other/1.0", "https://www.ovh.com/auth/oauth2/token"},
		{"https://eu.api.kimsufi.com/other/1.0", ""},
		{"ovh-ca", "https://ca.ovh.com/auth/oauth2/token"},
		{"ovh-us", "https://us.ovhcloud.com/auth/oauth2/token"},
		{"https://api.example.com:4242/1.0", "https://api.example.com:4242/auth/oauth2/token"},
		{"", "https://www.ovh.com/auth/oauth2/token"},
		{"kimsufi-eu", ""},
		{"kimsufi-ca", ""},
		{"soyoustart-eu", ""},
		{"soyoustart-ca", ""},
		{"runabove-ca", ""},
		{"nowhere", ""},
	} {
		var asked *http.Request
		ctx := through(t.Context(), func(req *http.Request) (*http.Response, error) {
			asked = req
			return response(200, `{"access_token":"T","token_type":"Bearer","expires_in":3599,"scope":"all"}`), nil
		})
		got, err := ServiceAccount(Endpoint(test.endpoint), " ID", "a secret\n").Retrieve(ctx)
		if test.url == "" {
			if err == nil || asked != nil || !strings.Contains(err.Error(), test.endpoint) {
				t.Errorf("%s: got %v, want an error that names it, before anything is sent", test.endpoint, err)
			}
			continue
		}
		if err != nil || got.AccessToken != "T" || time.Until(got.Expires) < 59*time.Minute {
			t.Fatalf("%s: %q until %s, %v", test.endpoint, got.AccessToken, got.Expires, err)
		}
		asked.ParseForm()
		want := url.Values{"grant_type": {"client_credentials"}, "scope": {"all"}, "client_id": {"ID"}, "client_secret": {"a secret"}}
		if asked.Method != "POST" || asked.URL.String() != test.url || asked.PostForm.Encode() != want.Encode() {
			t.Errorf("%s: got %s %s %s, want POST %s %s", test.endpoint, asked.Method, asked.URL, asked.PostForm.Encode(), test.url, want.Encode())
		}
		if asked.Header.Get("Authorization") != "" {
			t.Errorf("%s: the secret goes out twice", test.endpoint)
		}
	}
}

func TestServiceAccountWithoutSecret(t *testing.T) {
	for _, test := range []struct{ id, secret, missing string }{
		{"", "", "client_id, client_secret are missing"}, {"ID", " ", "client_secret is missing"}, {"\n", "S", "client_id is missing"},
	} {
		_, err := ServiceAccount(EU, test.id, test.secret).Retrieve(t.Context())
		if !errors.Is(err, ErrMissingCredentials) || !strings.Contains(err.Error(), test.missing) {
			t.Errorf("client %q, secret %q: got %v, want an error with %q", test.id, test.secret, err, test.missing)
		}
	}
}

func TestTokenIsKeptAndRenewed(t *testing.T) {
	for _, test := range []struct {
		life  int
		until time.Duration // it is kept
	}{
		{3599, 3569 * time.Second},
		{100, 90 * time.Second},
		{0, 1000 * time.Hour}, // of unlimited life
	} {
		synctest.Test(t, func(t *testing.T) {
			var given atomic.Int32
			p := ServiceAccount(EU, "ID", "S")
			ctx := through(t.Context(), tokens(&given, test.life))
			for _, step := range []struct {
				wait time.Duration
				want string
			}{{0, "T1"}, {0, "T1"}, {test.until - time.Second, "T1"}, {2 * time.Second, "T2"}} {
				time.Sleep(step.wait)
				got, err := p.Retrieve(ctx)
				if test.life == 0 {
					step.want = "T1"
				}
				if err != nil || got.AccessToken != step.want {
					t.Errorf("life %d s, after %s: %q, %v; want %s", test.life, step.wait, got.AccessToken, err, step.want)
				}
			}
		})
	}
}

func TestOldTokenServesWhileItCannotBeRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := ServiceAccount(EU, "ID", "S")
		var given atomic.Int32
		works := tokens(&given, 3600)
		down := func(*http.Request) (*http.Response, error) { return response(503, ""), nil }
		if _, err := p.Retrieve(through(t.Context(), works)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3580 * time.Second)
		if got, err := p.Retrieve(through(t.Context(), down)); err != nil || got.AccessToken != "T1" {
			t.Errorf("20 s before its end: %q, %v", got.AccessToken, err)
		}
		time.Sleep(20 * time.Second)
		if got, err := p.Retrieve(through(t.Context(), down)); err == nil {
			t.Errorf("after its end: %q", got.AccessToken)
		}
		if got, err := p.Retrieve(through(t.Context(), works)); err != nil || got.AccessToken != "T2" {
			t.Errorf("the endpoint is back: %q, %v", got.AccessToken, err)
		}
	})
}

func TestOneTokenForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var given atomic.Int32
		give := tokens(&given, 3600)
		ctx := through(t.Context(), func(req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return give(req)
		})
		p := ServiceAccount(EU, "ID", "S")
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				if i == 0 {
					ctx, cancel = context.WithTimeout(ctx, time.Millisecond)
				}
				defer cancel()
				_, err := p.Retrieve(ctx)
				if i == 0 != (err == context.DeadlineExceeded) {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		if n := given.Load(); n != 1 {
			t.Errorf("%d tokens", n)
		}
	})
}

// One that finds the token too old, and then comes late to the flight, must not start another.
func TestRenewedJustNow(t *testing.T) {
	var given atomic.Int32
	p := ServiceAccount(EU, "ID", "S").(*serviceAccount)
	ctx := through(t.Context(), tokens(&given, 3600))
	p.Retrieve(ctx)
	if got, err := p.fetch(ctx); err != nil || got.value != "T1" {
		t.Errorf("got %v, %v, want T1", got, err)
	}
}

type closer func()

func (c closer) Close() error { c(); return nil }

func TestTokenTries(t *testing.T) {
	connection := errors.New("connection reset by peer")
	good := `{"access_token":"T","expires_in":3599}`
	type try struct {
		status int // 0: a connection error
		body   io.Reader
		after  string // Retry-After
	}
	for _, test := range []struct {
		name  string
		tries []try // the last is for all that follow
		asked int   // 0: as often as 30 s allow
		least time.Duration
		most  time.Duration
		want  string // in the error; "" for none
	}{
		{"twice lost", []try{{}, {}, {status: 200}}, 3, 0, 1500 * time.Millisecond, ""},
		{"lost in the middle", []try{{status: 200, body: brokenReader{connection}}, {status: 200}}, 2, 0, 500 * time.Millisecond, ""},
		{"always lost", []try{{}}, 3, 0, 1500 * time.Millisecond, "POST https://www.ovh.com/auth/oauth2/token: connection reset by peer"},
		{"503, then lost", []try{{status: 503}, {}, {}, {}, {status: 200}}, 4, 0, 3500 * time.Millisecond, "connection reset by peer"},
		{"500 and 504", []try{{status: 500}, {status: 504}, {status: 200}}, 3, 0, 1500 * time.Millisecond, ""},
		{"429", []try{{status: 429}, {status: 200}}, 2, 0, 500 * time.Millisecond, ""},
		{"408", []try{{status: 408}, {status: 200}}, 2, 0, 500 * time.Millisecond, ""},
		{"429 with Retry-After", []try{{status: 429, after: "7"}, {status: 200}}, 2, 7*time.Second + 1, 7500 * time.Millisecond, ""}, // and jitter
		{"Retry-After in the past", []try{{status: 429, after: "Thu, 01 Jan 1970 00:00:00 GMT"}, {status: 200}}, 2, 1, 500 * time.Millisecond, ""},
		{"Retry-After that makes no sense", []try{{status: 503, after: "soon"}, {status: 200}}, 2, 0, 500 * time.Millisecond, ""},
		{"Retry-After beyond 30 s", []try{{status: 429, after: "31"}, {status: 200}}, 1, 0, 0, "429 Too Many Requests; the token endpoint is overloaded"},
		{"Retry-After of centuries", []try{{status: 503}, {status: 503}, {status: 503}, {status: 503}, {status: 429, after: "9999999999"}, {status: 200}},
			5, 0, 7500 * time.Millisecond, "429 Too Many Requests"},
		{"always 503", []try{{status: 503}}, 0, 20 * time.Second, 30 * time.Second, "503 Service Unavailable; the token endpoint is overloaded"},
		{"always 429", []try{{status: 429}}, 0, 20 * time.Second, 30 * time.Second, "429 Too Many Requests; the token endpoint is overloaded"},
		{"400", []try{{status: 400}, {status: 200}}, 1, 0, 0, "400 Bad Request; check client_id"},
		{"404", []try{{status: 404}, {status: 200}}, 1, 0, 0, "404 Not Found; check client_id"},
		{"malformed", []try{{status: 200, body: strings.NewReader("<html>")}, {status: 200}}, 1, 0, 0, "200 OK"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked, opened := 0, 0
				ctx := through(t.Context(), func(*http.Request) (*http.Response, error) {
					try := test.tries[min(asked, len(test.tries)-1)]
					asked++
					if try.status == 0 {
						return nil, connection
					}
					resp := response(try.status, good)
					if try.after != "" {
						resp.Header.Set("Retry-After", try.after)
					}
					opened++
					var body io.Reader = resp.Body
					if try.body != nil {
						body = try.body
					} else if try.status != 200 {
						body = http.NoBody
					}
					resp.Body = struct {
						io.Reader
						io.Closer
					}{body, closer(func() { opened-- })}
					return resp, nil
				})
				began := time.Now()
				_, err := ServiceAccount(EU, "ID", "secret").Retrieve(ctx)
				took := time.Since(began)
				if opened != 0 {
					t.Errorf("%d bodies are still open", opened)
				}
				if test.asked != 0 && asked != test.asked || asked > 100 {
					t.Errorf("asked %d times, want %d", asked, test.asked)
				}
				if took < test.least || took > test.most {
					t.Errorf("it took %s, want %s to %s", took, test.least, test.most)
				}
				if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Errorf("error %v, want %q in it", err, test.want)
				}
				if test.name == "always lost" && !errors.Is(err, connection) {
					t.Errorf("%v hides its cause", err)
				}
			})
		})
	}
}

// A token endpoint that serves two clients per 400 ms serves ten that come at once, within the 30 s that each has.
func TestManyAccountsAtASlowTokenEndpoint(t *testing.T) {
	for _, after := range []string{"", "1"} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var mu sync.Mutex
			served := map[time.Duration]int{} // by the window of 400 ms
			ctx := through(t.Context(), func(*http.Request) (*http.Response, error) {
				mu.Lock()
				defer mu.Unlock()
				window := time.Since(began) / (400 * time.Millisecond)
				if served[window] == 2 {
					resp := response(429, "")
					if after != "" {
						resp.Header.Set("Retry-After", after)
					}
					return resp, nil
				}
				served[window]++
				return response(200, `{"access_token":"T","expires_in":3599}`), nil
			})
			var wg sync.WaitGroup
			for i := range 10 {
				wg.Go(func() {
					if _, err := ServiceAccount(EU, fmt.Sprint("ID", i), "secret").Retrieve(ctx); err != nil {
						t.Errorf("Retry-After %q: account %d after %s: %v", after, i, time.Since(began), err)
					}
				})
			}
			wg.Wait()
		})
	}
}

// No token has a mebibyte: no more of a response is read.
func TestLongTokenResponse(t *testing.T) {
	const long = 2 << 20
	body := &io.LimitedReader{R: zeros{}, N: long}
	_, err := ServiceAccount(EU, "ID", "secret").Retrieve(through(t.Context(), func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Body: io.NopCloser(body)}, nil
	}))
	if read := long - body.N; err == nil || !strings.Contains(err.Error(), "no token in the response") || read != 1<<20 {
		t.Errorf("got %v after %d bytes, want an error after 1 MiB", err, read)
	}
}

// A certificate does not become valid by being looked at again.
func TestTokenEndpointWithABadCertificate(t *testing.T) {
	asked := 0
	_, err := ServiceAccount(EU, "ID", "secret").Retrieve(through(t.Context(), func(*http.Request) (*http.Response, error) {
		asked++
		return nil, &tls.CertificateVerificationError{Err: errors.New("signed by nobody")}
	}))
	if asked != 1 || err == nil || !strings.Contains(err.Error(), "signed by nobody") {
		t.Errorf("asked %d times: %v; want once, and the reason", asked, err)
	}
}

func TestTokenTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		began := time.Now()
		_, err := ServiceAccount(EU, "ID", "S").Retrieve(through(t.Context(), func(req *http.Request) (*http.Response, error) {
			asked++
			<-req.Context().Done()
			return nil, req.Context().Err()
		}))
		if time.Since(began) != 30*time.Second || asked != 1 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v after %s and %d tries, want %v after 30 s and 1", err, time.Since(began), asked, context.DeadlineExceeded)
		}
	})
}

func TestTokenErrors(t *testing.T) {
	const secret = "s3cr3t"
	for _, test := range []struct {
		name   string
		status int
		header http.Header
		body   string
		want   string
		code   string // of the *APIError; "-" for none such
	}{
		{"rejected", 400, nil, `{"error":"invalid_client","error_description":"s3cr3t is wrong"}`,
			"ovhauth: access token: POST https://www.ovh.com/auth/oauth2/token: 400 Bad Request: invalid_client; check", "invalid_client"},
		{"rejected with 200", 200, nil, `{"error":"invalid_scope"}`, ": 200 OK: invalid_scope", "invalid_scope"},
		{"the secret for a code", 401, nil, `{"error":"bad s3cr3t\n\u0007"}`, "401 Unauthorized; check", ""},
		{"the secret alone for a code", 401, nil, `{"error":"s3cr3t"}`, "401 Unauthorized; check", ""},
		{"the request for a code", 401, nil, `{"error":"client_secret=s3cr%33t"}`, "401 Unauthorized; check", ""},
		{"another type", 200, nil, `{"access_token":"a","token_type":"mac"}`, "not of type Bearer", "-"},
		{"HTML", 200, http.Header{"Content-Type": {"text/html"}}, "<html>s3cr3t</html>", "200 OK, but no token", ""},
		{"HTML error", 403, http.Header{"Content-Type": {"text/html"}}, "<html>s3cr3t</html>", "403 Forbidden; check", ""},
		{"no token", 200, nil, `{"s3cr3t":1}`, "200 OK, but no token", ""},
		{"empty token", 200, nil, `{"access_token":""}`, "200 OK, but no token", ""},
		{"empty", 204, nil, ``, "204 No Content, but no token", ""},
		{"token of another type", 200, nil, `{"access_token":{"s3cr3t":1}}`, "200 OK, but no token", ""},
		{"text", 200, http.Header{"Content-Type": {"text/plain"}}, `s3cr3t`, "200 OK, but no token", ""},
		{"blank token", 200, nil, `{"access_token":"  "}`, "blank", "-"},
		{"control character", 200, nil, `{"access_token":"a\r\nX-Evil: s3cr3t"}`, "control character", "-"},
		{"expired", 200, nil, `{"access_token":"a","expires_in":-5}`, "expired already", "-"},
		{"strange expiry", 200, nil, `{"access_token":"a","expires_in":"s3cr3t"}`, "200 OK, but no token", ""},
		{"redirect", 307, http.Header{"Location": {"https://evil.example/"}}, ``, "307 Temporary Redirect", ""},
		{"redirect with another method", 302, http.Header{"Location": {"https://www.ovh.com/"}}, ``, "302 Found", ""},
	} {
		asked := 0
		ctx := through(t.Context(), func(*http.Request) (*http.Response, error) {
			asked++
			resp := response(test.status, test.body)
			maps.Copy(resp.Header, test.header)
			resp.Header.Set("X-Ovh-Queryid", "Q")
			return resp, nil
		})
		_, err := ServiceAccount(EU, "ID", secret).Retrieve(ctx)
		if err == nil {
			t.Errorf("%s: no error", test.name)
			continue
		}
		if !strings.Contains(err.Error(), test.want) || strings.ContainsAny(err.Error(), "\r\n\a") || asked != 1 {
			t.Errorf("%s: %d times: %q lacks %q", test.name, asked, err, test.want)
		}
		api, ok := errors.AsType[*APIError](err)
		if ok != (test.code != "-") || ok && (api.StatusCode != test.status || api.Code != test.code || api.QueryID != "Q" ||
			api.Method != "POST" || api.Path != "/auth/oauth2/token") {
			t.Errorf("%s: got %#v, want code %q (-: no APIError) of POST /auth/oauth2/token", test.name, api, test.code)
		}
		for err := err; err != nil; err = errors.Unwrap(err) {
			if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
				t.Errorf("%s: %#v shows the secret", test.name, err)
			}
		}
	}
}

// Which status says that the client is wrong, and what its error advises.
func TestWhoseFaultATokenErrorIs(t *testing.T) {
	for _, test := range []struct {
		status int
		client bool
		says   string // at the end
	}{
		{400, true, "; check client_id, client_secret and the endpoint that they were created at"},
		{404, true, "; check client_id, client_secret and the endpoint that they were created at"},
		{200, true, ", but no token in the response"},
		{302, false, ": 302 Found"},
		{408, false, "; the token endpoint is overloaded or down, try again later"},
		{429, false, "; the token endpoint is overloaded or down, try again later"},
		{500, false, "; the token endpoint is overloaded or down, try again later"},
	} {
		synctest.Test(t, func(t *testing.T) {
			_, err := ServiceAccount(EU, "ID", "secret").Retrieve(through(t.Context(), func(*http.Request) (*http.Response, error) {
				return response(test.status, ""), nil
			}))
			if got := isClientRejection(err); got != test.client || !strings.HasSuffix(fmt.Sprint(err), test.says) {
				t.Errorf("%d: %v, rejects the client: %t; want %q at the end, %t", test.status, err, got, test.says, test.client)
			}
		})
	}
}

// Whatever of the request a token endpoint repeats, and wherever, no part of the secret is in the error.
func TestTokenEndpointThatRepeatsTheSecret(t *testing.T) {
	const secret = "s3cr3tPart1+/s3cr3tPart2=&s3cr3tPart3s3cr3tPart4s3cr3tPart5s3cr3tPart6s3cr3tPart7"
	form := "client_id=ID&client_secret=" + url.QueryEscape(secret)
	for name, send := range map[string]func() (*http.Response, error){
		"the whole in the code": func() (*http.Response, error) { return response(400, `{"error":"`+secret+`"}`), nil },
		"a part in the code":    func() (*http.Response, error) { return response(400, `{"error":"s3cr3tPart3s3cr3tPart4"}`), nil },
		"the start in the code": func() (*http.Response, error) { return response(400, `{"error":"x-s3cr3tP"}`), nil },
		"in the description": func() (*http.Response, error) {
			return response(400, `{"error":"invalid_client","error_description":"`+form+`"}`), nil
		},
		"in the body":               func() (*http.Response, error) { return response(500, form), nil },
		"in a body with status 200": func() (*http.Response, error) { return response(200, form), nil },
		"in the query ID": func() (*http.Response, error) {
			resp := response(400, `{"error":"invalid_client"}`)
			resp.Header.Set("X-Ovh-Queryid", "Q "+form)
			return resp, nil
		},
		"in the location": func() (*http.Response, error) {
			resp := response(302, "")
			resp.Header.Set("Location", "https://www.ovh.com/?"+form)
			return resp, nil
		},
		"in a response that is not HTTP": func() (*http.Response, error) {
			return nil, errors.New("net/http: malformed MIME header line: " + form)
		},
		"in a response that is not HTTP, decoded": func() (*http.Response, error) {
			return nil, fmt.Errorf("malformed HTTP response %q", secret)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, err := ServiceAccount(EU, "ID", secret).Retrieve(through(t.Context(), func(*http.Request) (*http.Response, error) { return send() }))
				if err == nil || !strings.Contains(err.Error(), "POST https://www.ovh.com/auth/oauth2/token") {
					t.Fatalf("got %v, want an error that names the token endpoint", err)
				}
				for err := err; err != nil; err = errors.Unwrap(err) {
					if shown := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(shown, "s3cr3t") {
						t.Errorf("it shows the secret: %s", shown)
					}
				}
			})
		})
	}
}

// A form has the secret in another spelling.
func TestTokenEndpointThatRepeatsTheEscapedSecret(t *testing.T) {
	const secret = "+/=+/=+/=+/="
	_, err := ServiceAccount(EU, "ID", secret).Retrieve(through(t.Context(), func(*http.Request) (*http.Response, error) {
		return nil, &tls.CertificateVerificationError{Err: errors.New("client_secret=" + url.QueryEscape(secret))}
	}))
	if err == nil || strings.Contains(err.Error(), url.QueryEscape("+/=")) {
		t.Errorf("got %v, want an error without the secret", err)
	}
}

func TestServiceAccountAt(t *testing.T) {
	for _, test := range []struct {
		name  string
		url   string
		asked string // "" for an error
		says  string
		cause error
	}{
		{"https", " https://tokens.example/oauth2/token\n", "https://tokens.example/oauth2/token", "", nil},
		{"with a query", "https://tokens.example/token?tenant=a", "https://tokens.example/token?tenant=a", "", nil},
		{"loopback", "http://127.0.0.1:8080/token", "http://127.0.0.1:8080/token", "", nil},
		{"plain http", "http://tokens.example/token?s3cr3t", "", "token URL http://tokens.example/token: ", ErrPlainHTTP},
		{"with a password", "https://me:s3cr3t@tokens.example/", "", "must not have a user", nil},
		{"with a fragment", "https://tokens.example/#s3cr3t", "", "or a fragment", nil},
		{"without a host", "https:///s3cr3t", "", "not an https:// URL", nil},
		{"not a URL", "s3cr3t://%zz", "", "not an https:// URL", nil},
		{"empty", "", "", "not an https:// URL", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := ""
			p := ServiceAccountAt(test.url, "ID", "secret")
			c, err := p.Retrieve(through(t.Context(), func(r *http.Request) (*http.Response, error) {
				asked = r.URL.String()
				return response(200, `{"access_token":"T","token_type":"bearer"}`), nil
			}))
			if asked != test.asked || (err == nil) != (test.asked != "") {
				t.Fatalf("asked %q, got %v; want %q", asked, err, test.asked)
			}
			if err == nil && c.AccessToken != "T" {
				t.Errorf("got token %q, want T", c.AccessToken)
			}
			if err != nil && (!strings.Contains(err.Error(), test.says) || test.cause != nil && !errors.Is(err, test.cause) ||
				strings.Contains(err.Error(), "s3cr3t") || !isPermanent(err)) {
				t.Errorf("got %v, want %q in it, no secret, and no retry", err, test.says)
			}
			want := fmt.Sprint(p)
			if s := fmt.Sprintf("%+v %#v %d", p, p, p); s != want+" "+want+" "+want || strings.Contains(s, "s3cr3t") || !strings.HasPrefix(s, "service account at ") {
				t.Errorf("printed %s under other verbs; want %s, without a secret", s, want)
			}
		})
	}
}

// The query of a token URL may hold a key of its own.
func TestTokenURLQueryIsNotShown(t *testing.T) {
	for _, body := range []string{`{"error":"invalid_client"}`, `{"access_token":" "}`} {
		_, err := ServiceAccountAt("https://tokens.example/token?key=s3cr3t", "ID", "secret").Retrieve(
			through(t.Context(), func(*http.Request) (*http.Response, error) { return response(200, body), nil }))
		if err == nil || strings.Contains(err.Error(), "s3cr3t") || !strings.Contains(err.Error(), "https://tokens.example/token: ") {
			t.Errorf("%s: got %v, want an error with the URL without its query", body, err)
		}
	}
}

// tokenAPI serves /me to the current token, and tokens.
type tokenAPI struct {
	mu       sync.Mutex
	given    int
	revoked  int // the tokens up to this
	rejected int
}

func (a *tokenAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if strings.HasSuffix(req.URL.Path, "/oauth2/token") {
		a.given++
		return response(200, fmt.Sprintf(`{"access_token":"T%d","expires_in":3599}`, a.given)), nil
	}
	if req.Header.Get("Authorization") == fmt.Sprintf("Bearer T%d", a.given) && a.revoked < a.given {
		return response(200, "{}"), nil
	}
	a.rejected++
	return response(401, `{"message":"You must login first"}`), nil
}

// TestRejectedToken sends by a Transport whose token is rejected, through each provider that can hold a service account.
func TestRejectedToken(t *testing.T) {
	isolate(t)
	t.Setenv("OVH_CLIENT_ID", "ID")
	t.Setenv("OVH_CLIENT_SECRET", "S")
	write(t, "ovh.conf", "[ovh-eu]\nclient_id = ID\nclient_secret = S\n")
	for name, p := range map[string]CredentialProvider{
		"direct": ServiceAccount(EU, "ID", "S"), "environment": EnvCredentials(), "file": FileCredentials(EU), "default": DefaultCredentials(EU),
	} {
		api := &tokenAPI{}
		client := &http.Client{Transport: &Transport{Endpoint: EU, Credentials: p, Base: api}}
		get := func() int {
			resp, err := client.Get("/me")
			if err != nil {
				t.Errorf("%s: GET /me: %v", name, err)
				return 0
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		if status := get(); status != 200 || api.given != 1 {
			t.Errorf("%s: %d with token %d", name, status, api.given)
		}
		api.revoked = 1
		if status := get(); status != 200 || api.given != 2 || api.rejected != 1 {
			t.Errorf("%s: %d with token %d after %d rejections, want 200 with token 2 after 1", name, status, api.given, api.rejected)
		}
		api.revoked = 2
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if status := get(); status != 200 {
					t.Errorf("%s: status %d, want 200", name, status)
				}
			})
		}
		wg.Wait()
		if api.given != 3 {
			t.Errorf("%s: %d tokens", name, api.given)
		}
		api.revoked, api.rejected = 1000, 0
		if status := get(); status != 401 || api.rejected != 2 {
			t.Errorf("%s: %d after %d rejections, want 401 after 2: sent once more means once", name, status, api.rejected)
		}
	}
}

// The token was rejected while the request for another failed: it must not come back.
func TestRejectedTokenDoesNotServeOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var given atomic.Int32
		p := ServiceAccount(EU, "ID", "S").(*serviceAccount)
		old, _ := p.Retrieve(through(t.Context(), tokens(&given, 3600)))
		time.Sleep(3580 * time.Second)
		_, err := p.Retrieve(through(t.Context(), func(*http.Request) (*http.Response, error) {
			p.Invalidate(old)
			return response(400, ""), nil
		}))
		if err == nil {
			t.Error("got no error, want that of the token endpoint")
		}
	})
}

// The token was rejected, and another one has come, while a renewal failed: that one serves.
func TestRenewalFailsWhileAnotherSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var given atomic.Int32
		works := through(t.Context(), tokens(&given, 3600))
		p := ServiceAccount(EU, "ID", "secret").(*serviceAccount)
		old, _ := p.Retrieve(works)
		time.Sleep(3580 * time.Second)
		got, err := p.Retrieve(through(t.Context(), func(*http.Request) (*http.Response, error) {
			p.Invalidate(old)
			p.fetch(works)
			return response(400, ""), nil
		}))
		if err != nil || got.AccessToken != "T2" {
			t.Errorf("got %q, %v; want T2", got.AccessToken, err)
		}
	})
}

// A renewal that callers gave up waiting for counts when it comes.
func TestLateRenewalCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var given atomic.Int32
		give := tokens(&given, 3600)
		p := ServiceAccount(EU, "ID", "secret")
		p.Retrieve(through(t.Context(), give))
		time.Sleep(3580 * time.Second)
		slow := through(t.Context(), func(r *http.Request) (*http.Response, error) {
			time.Sleep(3 * time.Second)
			return give(r)
		})
		stays := make(chan error)
		go func() {
			_, err := p.(*serviceAccount).flight.do(slow, p.(*serviceAccount).fetch)
			stays <- err
		}()
		synctest.Wait()
		if got, err := p.Retrieve(slow); err != nil || got.AccessToken != "T1" {
			t.Errorf("after %s got %q, %v; want T1", renewPatience, got.AccessToken, err)
		}
		if err := <-stays; err != nil {
			t.Errorf("the late renewal: %v", err)
		}
		if got, err := p.Retrieve(slow); err != nil || got.AccessToken != "T2" || given.Load() != 2 {
			t.Errorf("then got %q, %v, with %d tokens given; want T2, the second", got.AccessToken, err, given.Load())
		}
	})
}

// While a token is good, a token endpoint that stalls holds nobody up for long, nor all of them one after the other.
func TestRenewalStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var given, asked atomic.Int32
		p := ServiceAccount(EU, "ID", "S")
		p.Retrieve(through(t.Context(), tokens(&given, 3600)))
		time.Sleep(3575 * time.Second)
		stall := through(t.Context(), func(r *http.Request) (*http.Response, error) {
			asked.Add(1)
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		for i := range 3 {
			start := time.Now()
			c, err := p.Retrieve(stall)
			if err != nil || c.AccessToken != "T1" || time.Since(start) > 2*time.Second {
				t.Errorf("%d: %v, %v after %s", i, c.AccessToken == "T1", err, time.Since(start))
			}
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("asked %d times in a row", n)
		}
		time.Sleep(renewPause)
		if c, err := p.Retrieve(through(t.Context(), tokens(&given, 3600))); err != nil || c.AccessToken != "T2" {
			t.Errorf("not renewed when it could be: %v", err)
		}
		ctx, cancel := context.WithCancel(stall)
		cancel()
		time.Sleep(3575 * time.Second)
		if _, err := p.Retrieve(ctx); err != context.Canceled {
			t.Errorf("canceled: %v", err)
		}
	})
}

// However long a renewal takes or fails, a token that has expired is not given out.
func TestExpiredTokenIsNotGivenOut(t *testing.T) {
	for _, left := range []time.Duration{time.Second, 10 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			var given atomic.Int32
			p := ServiceAccount(EU, "ID", "S")
			p.Retrieve(through(t.Context(), tokens(&given, 3600)))
			end := time.Now().Add(time.Hour)
			time.Sleep(time.Hour - left)
			fetch := tokens(&given, 3600)
			slow := through(t.Context(), func(r *http.Request) (*http.Response, error) {
				time.Sleep(3 * time.Second)
				return fetch(r)
			})
			for range 2 {
				c, err := p.Retrieve(slow)
				ended := !time.Now().Before(end)
				if err != nil || (c.AccessToken == "T1") == ended {
					t.Errorf("asked %s before its end: got %q, %v, when T1 had expired: %t; want T1 until then", left, c.AccessToken, err, ended)
				}
				time.Sleep(left)
			}
		})
	}
}

// What was asked for first, and comes last, does not replace what is newer.
func TestAbandonedFetch(t *testing.T) {
	for _, test := range []struct {
		name string
		had  int // tokens before
		want string
	}{{"the first token", 0, "T1"}, {"a renewal", 1, "T2"}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var given atomic.Int32
				p := ServiceAccount(EU, "ID", "S")
				ctx := through(t.Context(), tokens(&given, 3600))
				for range test.had {
					p.Retrieve(ctx)
					time.Sleep(3580 * time.Second)
				}
				hurry, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := p.Retrieve(through(hurry, func(r *http.Request) (*http.Response, error) {
					time.Sleep(time.Minute) // deaf to its context
					return response(200, `{"access_token":"late","expires_in":3600}`), nil
				}))
				if err != context.DeadlineExceeded {
					t.Fatalf("got %v, want %v", err, context.DeadlineExceeded)
				}
				p.Retrieve(ctx)
				time.Sleep(2 * time.Minute)
				if c, err := p.Retrieve(ctx); err != nil || c.AccessToken != test.want {
					t.Errorf("got %q, %v; want %s", c.AccessToken, err, test.want)
				}
			})
		})
	}
}

func TestKeptTokenCostsNothing(t *testing.T) {
	var given atomic.Int32
	p := ServiceAccount(EU, "ID", "S")
	ctx := through(t.Context(), tokens(&given, 3600))
	p.Retrieve(ctx)
	if n := testing.AllocsPerRun(100, func() { p.Retrieve(ctx) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// A late rejection must not drop the token that replaced the rejected one.
func TestInvalidateIsOfOneToken(t *testing.T) {
	var given atomic.Int32
	p := ServiceAccount(EU, "ID", "S").(*serviceAccount)
	ctx := through(t.Context(), tokens(&given, 3600))
	p.Invalidate(Credentials{})
	old, _ := p.Retrieve(ctx)
	p.Invalidate(old)
	current, _ := p.Retrieve(ctx)
	p.Invalidate(old)
	if again, _ := p.Retrieve(ctx); again != current || given.Load() != 2 {
		t.Errorf("%d tokens", given.Load())
	}
}

// Without a Transport the default client asks; with its redirects, the secret would follow a 307 anywhere.
func TestTokenOverTheNetwork(t *testing.T) {
	followed := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed = true }))
	defer elsewhere.Close()
	redirect := false
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if redirect {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token":"T"}`)
	}))
	defer srv.Close()
	if got, err := ServiceAccount(Endpoint(srv.URL), "ID", "S").Retrieve(t.Context()); err != nil || got.AccessToken != "T" {
		t.Errorf("got %q, %v, want T", got.AccessToken, err)
	}
	redirect = true
	if _, err := ServiceAccount(Endpoint(srv.URL), "ID", "S").Retrieve(t.Context()); err == nil || followed {
		t.Errorf("got %v, redirect followed: %t; want an error, and not followed", err, followed)
	}
	if http.DefaultClient.CheckRedirect != nil || http.DefaultClient.Transport != nil {
		t.Error("http.DefaultClient is another now")
	}
}

type brokenReader struct{ err error }

func (r brokenReader) Read([]byte) (int, error) { return 0, r.err }
