package ovhauth

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// ServiceAccount authenticates by OAuth2 client credentials: it exchanges the client's ID and secret for an access token, with
// scope "all". EU, CA and US have token endpoints, the same for all their hosts. Kimsufi, So you Start and RunAbove have none, and
// the error says so. Any other endpoint is asked at /auth/oauth2/token of its host. "" is the endpoint of a [Transport] without one.
//
// The first request that needs a token asks for it, through the Base of that request's Transport, or through
// [http.DefaultClient] if Retrieve is called in a context of no Transport. The token is kept until shortly before it expires, or
// until the API rejects it. Requests that need one at the same time share one exchange. Each waits until its own context ends, and at
// most 30 s. Within these 30 s, 429, 408 and 5xx are tried again, after the time that Retry-After asks for plus a random time. A lost
// connection is tried again twice.
//
// An error of the token endpoint matches [*APIError] with its status and its code, such as "invalid_client"; no other text of the
// response is kept, since it may repeat the secret. Redirects are not followed, so that the secret goes to no other host.
func ServiceAccount(e Endpoint, clientID, clientSecret string) CredentialProvider {
	return newServiceAccount(cmp.Or(e.withoutPassword(), "the default endpoint"), clientID, clientSecret, func(ctx context.Context) (string, error) {
		parsed, err := findEndpoint(ctx, e)
		if err != nil {
			return "", err
		}
		if !parsed.trusted() {
			return "", parsed.distrust("ServiceAccount")
		}
		return parsed.tokenURL()
	})
}

// ServiceAccountAt is a [ServiceAccount] whose tokens come from the OAuth2 token endpoint at tokenURL. Plain http is [ErrPlainHTTP],
// unless the host is a loopback address or localhost.
func ServiceAccountAt(tokenURL, clientID, clientSecret string) CredentialProvider {
	u, err := parseTokenURL(tokenURL)
	of := "an invalid URL"
	if err == nil {
		of = u.Host + u.EscapedPath()
	}
	return newServiceAccount(of, clientID, clientSecret, func(context.Context) (string, error) {
		if err != nil {
			return "", err
		}
		return u.String(), nil
	})
}

func parseTokenURL(s string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(s))
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, permanentErrorf("the token URL of a service account is not an https:// URL") // and may hold a password
	case u.User != nil || u.Fragment != "":
		return nil, permanentErrorf("token URL %s://%s%s: it must not have a user or a fragment", u.Scheme, u.Host, u.EscapedPath())
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return nil, permanentErrorf("token URL %s://%s%s: %w", u.Scheme, u.Host, u.EscapedPath(), ErrPlainHTTP)
	}
	return u, nil
}

// newServiceAccount returns the account with this client. Its printed form says that it is of the endpoint named; address is where
// it gets its tokens.
func newServiceAccount(of, clientID, clientSecret string, address func(context.Context) (string, error)) *serviceAccount {
	// A closure, since fmt would print the fields of a struct.
	return &serviceAccount{of: of, request: func(ctx context.Context) (*accessToken, error) {
		id, secret := strings.TrimSpace(clientID), strings.TrimSpace(clientSecret)
		var missing []string
		if id == "" {
			missing = append(missing, "client_id")
		}
		if secret == "" {
			missing = append(missing, "client_secret")
		}
		if missing != nil {
			return nil, missingError(missing, "ServiceAccount needs both")
		}
		url, err := address(ctx)
		if err != nil {
			return nil, err
		}
		t, err := requestToken(ctx, &clientcredentials.Config{
			ClientID:     id,
			ClientSecret: secret,
			TokenURL:     url,
			Scopes:       []string{"all"},
			AuthStyle:    oauth2.AuthStyleInParams, // else x/oauth2 tries two ways, and the secret travels twice
		})
		if err != nil {
			return nil, noToken{err}
		}
		return t, nil
	}}
}

// noToken is an error of a token endpoint. A guest needs no token.
type noToken struct{ error }

func (e noToken) Unwrap() error { return e.error }

type serviceAccount struct {
	of      string
	request func(context.Context) (*accessToken, error)
	token   atomic.Pointer[accessToken] // nil before the first, and after Invalidate
	flight  flight[*accessToken]
}

// String says where the account is, and not who it is.
func (s *serviceAccount) String() string { return "service account at " + s.of }

// Format prints String under every verb.
func (s *serviceAccount) Format(f fmt.State, _ rune) { io.WriteString(f, s.String()) }

// accessToken lives until expires and is replaced from renew on; both are zero if the token endpoint did not limit its life.
type accessToken struct {
	value          string
	renew, expires time.Time
}

func before(deadline time.Time) bool { return deadline.IsZero() || time.Now().Before(deadline) }

func (s *serviceAccount) Retrieve(ctx context.Context) (Credentials, error) {
	t := s.token.Load()
	var err error
	switch {
	case t == nil || !before(t.expires):
		t, err = s.flight.do(ctx, s.fetch)
	case !before(t.renew):
		t, err = s.renew(ctx, t)
	}
	if err != nil {
		return Credentials{}, err
	}
	return Credentials{AccessToken: t.value, Expires: t.expires}, nil
}

const (
	renewPatience = 2 * time.Second  // how long a caller waits while the old token is valid
	renewPause    = 15 * time.Second // after an attempt that failed
)

// renew replaces old, which is valid for a moment yet. If that fails, or takes long, old serves on.
func (s *serviceAccount) renew(ctx context.Context, old *accessToken) (*accessToken, error) {
	patience, cancel := context.WithTimeout(ctx, renewPatience)
	defer cancel()
	t, err := s.flight.do(patience, s.fetch)
	if err == nil {
		return t, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if !before(old.expires) { // meanwhile
		return s.flight.do(ctx, s.fetch)
	}
	later := *old
	later.renew = time.Now().Round(0).Add(renewPause) // by the wall clock, as in newAccessToken
	if s.token.CompareAndSwap(old, &later) {
		return old, nil
	}
	if t = s.token.Load(); t != nil {
		return t, nil
	}
	return nil, err // the API has rejected old meanwhile
}

func (s *serviceAccount) fetch(ctx context.Context) (*accessToken, error) {
	old := s.token.Load()
	if old != nil && before(old.renew) && before(old.expires) {
		return old, nil // another flight landed just now
	}
	t, err := s.request(ctx)
	if err != nil {
		return nil, err
	}
	for {
		current := s.token.Load()
		if current != nil && (old == nil || current.value != old.value) {
			return current, nil // this flight was given up, and a later one has landed
		}
		if s.token.CompareAndSwap(current, t) {
			return t, nil
		}
	}
}

// Invalidate drops the token that c is made of, if it is still the current one.
func (s *serviceAccount) Invalidate(c Credentials) { s.drop(c) }

// drop is Invalidate, and reports whether there was something to drop.
func (s *serviceAccount) drop(c Credentials) bool {
	t := s.token.Load()
	return t != nil && t.value == c.AccessToken && s.token.CompareAndSwap(t, nil)
}

// maxTokenResponse is more than any token needs.
const maxTokenResponse = 1 << 20

const (
	lostTries = 3                      // that may end without a response
	tokenWait = 500 * time.Millisecond // bounds the wait before the second try; the bound doubles with each
	tokenMost = 4 * time.Second        // bounds it in the end
)

// requestToken asks until there is a token or a reason to stop. The time it takes is bounded by ctx, which is that of a flight.
func requestToken(ctx context.Context, config *clientcredentials.Config) (*accessToken, error) {
	client, _ := ctx.Value(oauth2.HTTPClient).(*http.Client)
	client = new(*cmp.Or(client, http.DefaultClient))
	exchange := &tokenExchange{base: client.Transport}
	client.Transport = exchange
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ctx = context.WithValue(ctx, oauth2.HTTPClient, client)
	for try := 0; ; try++ {
		t, err := config.Token(ctx)
		if err == nil {
			return newAccessToken(t, withoutQuery(config.TokenURL))
		}
		asked := min(max(0, retryAfter(exchange.response)), flightTimeout)
		wait := asked + Backoff(tokenWait, tokenMost, try, nil)
		deadline, limited := ctx.Deadline()
		tooLate := limited && time.Until(deadline) <= wait
		if tooLate || !exchange.worthRepeating(ctx) || !sleep(ctx, wait) {
			return nil, exchange.explain(err, config)
		}
	}
}

func newAccessToken(t *oauth2.Token, from string) (*accessToken, error) {
	if strings.TrimSpace(t.AccessToken) == "" || strings.ContainsFunc(t.AccessToken, unicode.IsControl) {
		return nil, permanentErrorf("access token: POST %s: the token in the response is blank or has a control character inside", from)
	}
	if t.TokenType != "" && !strings.EqualFold(t.TokenType, "Bearer") {
		return nil, permanentErrorf("access token: POST %s: the token in the response is not of type Bearer", from)
	}
	token := &accessToken{value: t.AccessToken}
	if !t.Expiry.IsZero() {
		life := time.Until(t.Expiry)
		if life <= 0 {
			return nil, permanentErrorf("access token: POST %s: the token in the response has expired already", from)
		}
		token.expires = t.Expiry.Round(0) // by the wall clock: the monotonic one stands still while a laptop is suspended, which no test shows
		token.renew = token.expires.Add(-min(life/10, 30*time.Second))
	}
	return token, nil
}

// tokenExchange sends requests to a token endpoint and reads the responses, so that a connection that breaks in the middle of one
// is not taken for a malformed response. It keeps the head of the last one.
type tokenExchange struct {
	base     http.RoundTripper
	response *http.Response // nil if the last request got none
	failure  error          // then
	lost     int            // how many requests got none
}

func (x *tokenExchange) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := x.send(req)
	x.response, x.failure = resp, err
	if err != nil {
		x.lost++
	}
	return resp, err
}

func (x *tokenExchange) send(req *http.Request) (*http.Response, error) {
	resp, err := cmp.Or(x.base, http.DefaultTransport).RoundTrip(req)
	if err != nil || resp == nil || resp.Body == nil {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenResponse))
	if err != nil {
		return nil, err
	}
	resp.Request = req
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// worthRepeating reports whether the same request may succeed later. It can be sent twice like a GET.
func (x *tokenExchange) worthRepeating(ctx context.Context) bool {
	if x.failure != nil {
		again, _ := CheckRetry(ctx, nil, &url.Error{Op: "Get", Err: x.failure})
		return again && x.lost < lostTries
	}
	return x.response != nil && isOverload(x.response.StatusCode)
}

// isOverload reports whether a status of a token endpoint says nothing about the client that asked.
func isOverload(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status >= 500
}

// explain makes an error of err, by x/oauth2, which may quote the response.
func (x *tokenExchange) explain(err error, config *clientcredentials.Config) error {
	address := withoutQuery(config.TokenURL)
	if x.response == nil {
		err = withoutURL(cmp.Or(x.failure, err))
		if repeats(err.Error(), config.ClientSecret) {
			err = errors.New("the response is not HTTP")
		}
		return permanentErrorf("access token: POST %s: %w", address, err)
	}
	rejection := &tokenError{url: address, APIError: APIError{
		Method:     http.MethodPost,
		Path:       x.response.Request.URL.EscapedPath(),
		StatusCode: x.response.StatusCode,
		QueryID:    x.response.Header.Get("X-Ovh-Queryid"),
	}}
	if retrieve, ok := errors.AsType[*oauth2.RetrieveError](err); ok && errorCode.MatchString(retrieve.ErrorCode) {
		rejection.Code = retrieve.ErrorCode
	}
	for _, text := range []*string{&rejection.Code, &rejection.QueryID} {
		if repeats(*text, config.ClientSecret) {
			*text = ""
		}
	}
	return &permanentError{rejection}
}

func withoutQuery(url string) string {
	url, _, _ = strings.Cut(url, "?")
	return url
}

// errorCode is what a code looks like. Other text may quote the request, and with it the secret.
var errorCode = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// repeats reports whether text has a part of secret that would help to guess it, as it is or as a form has it.
func repeats(text, secret string) bool {
	const part = 6
	for _, s := range []string{secret, url.QueryEscape(secret)} {
		for i := 0; i == 0 || i+part <= len(s); i++ {
			if strings.Contains(text, s[i:min(i+part, len(s))]) {
				return true
			}
		}
	}
	return false
}

// tokenError is a response of a token endpoint that holds no token.
type tokenError struct {
	url string // without its query
	APIError
}

func (e *tokenError) Unwrap() error { return &e.APIError }

func (e *tokenError) Error() string {
	s := fmt.Sprintf("access token: POST %s: %d %s", e.url, e.StatusCode, http.StatusText(e.StatusCode))
	switch {
	case e.Code != "":
		s += ": " + e.Code
	case e.StatusCode/100 == 2:
		s += ", but no token in the response"
	}
	switch {
	case isOverload(e.StatusCode):
		s += "; the token endpoint is overloaded or down, try again later"
	case e.StatusCode/100 == 4:
		s += "; check client_id, client_secret and the endpoint that they were created at"
	}
	return s
}

// isClientRejection reports whether a token endpoint does not accept the client's ID or secret.
func isClientRejection(err error) bool {
	rejection, ok := errors.AsType[*tokenError](err)
	return ok && rejection.StatusCode/100 != 3 && !isOverload(rejection.StatusCode)
}

// sleep reports whether it could sleep for d before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
