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
// scope "all". EU, CA and US have token endpoints; Kimsufi, So you Start and RunAbove have none, and the error says so; any other
// endpoint is asked at /auth/oauth2/token of its host. "" is the endpoint of a [Transport] without one.
//
// A token is asked for by the first request that needs one, through the Base of that request's Transport, or through
// [http.DefaultClient] if Retrieve is called in a context of no Transport. It is kept, and renewed shortly before it expires, or
// when the API refuses it. Those who need one at once wait for the same: up to 30 s, three tries if the connection fails or the
// answer is 5xx, or until their own context ends.
//
// An error of the token endpoint matches [*APIError] with its status and its code, such as "invalid_client"; nothing else of the
// answer is kept. Redirects are not followed, lest the secret goes to another host.
func ServiceAccount(e Endpoint, clientID, clientSecret string) CredentialProvider {
	// A closure, since fmt would print the fields of a struct.
	return &serviceAccount{request: func(ctx context.Context) (*accessToken, error) {
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
		address, err := tokenURL(ctx, e)
		if err != nil {
			return nil, err
		}
		return requestToken(ctx, &clientcredentials.Config{
			ClientID:     id,
			ClientSecret: secret,
			TokenURL:     address,
			Scopes:       []string{"all"},
			AuthStyle:    oauth2.AuthStyleInParams, // else x/oauth2 tries two ways, and the secret travels twice
		})
	}}
}

func tokenURL(ctx context.Context, e Endpoint) (string, error) {
	parsed, err := findEndpoint(ctx, e)
	switch {
	case err != nil:
		return "", err
	case parsed.region == nil:
		return parsed.scheme + "://" + parsed.host + "/auth/oauth2/token", nil
	case parsed.region.tokenURL == "":
		return "", permanentErrorf("%s has no OAuth2 service accounts; use an application key, its secret and a consumer key",
			parsed.name())
	}
	return parsed.region.tokenURL, nil
}

type serviceAccount struct {
	request func(context.Context) (*accessToken, error)
	token   atomic.Pointer[accessToken] // nil before the first, and after Invalidate
	flight  flight[*accessToken]
}

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
	return Credentials{AccessToken: t.value}, nil
}

const (
	renewPatience = 2 * time.Second  // that a caller has, while the old token is good
	renewPause    = 15 * time.Second // after an attempt that came to nothing
)

// renew replaces old, which is good for a moment yet: if that fails, or takes long, old serves on.
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
	later.renew = time.Now().Round(0).Add(renewPause)
	if s.token.CompareAndSwap(old, &later) {
		return old, nil
	}
	if t = s.token.Load(); t != nil {
		return t, nil
	}
	return nil, err // the API has refused old meanwhile
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
func (s *serviceAccount) Invalidate(c Credentials) {
	if t := s.token.Load(); t != nil && t.value == c.AccessToken {
		s.token.CompareAndSwap(t, nil)
	}
}

const (
	tokenTries = 3
	tokenWait  = 500 * time.Millisecond // before the second try; twice as long before the third
)

func requestToken(ctx context.Context, config *clientcredentials.Config) (*accessToken, error) {
	client, _ := ctx.Value(oauth2.HTTPClient).(*http.Client)
	client = new(*cmp.Or(client, http.DefaultClient))
	exchange := &tokenExchange{base: client.Transport}
	client.Transport = exchange
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ctx = context.WithValue(ctx, oauth2.HTTPClient, client)
	for try := 1; ; try++ {
		t, err := config.Token(ctx)
		if err == nil {
			return newAccessToken(t, config.TokenURL)
		}
		if try == tokenTries || !exchange.worthRepeating() || !sleep(ctx, time.Duration(try)*tokenWait) {
			return nil, exchange.explain(err, config)
		}
	}
}

func newAccessToken(t *oauth2.Token, from string) (*accessToken, error) {
	if strings.TrimSpace(t.AccessToken) == "" || strings.ContainsFunc(t.AccessToken, unicode.IsControl) {
		return nil, permanentErrorf("access token: POST %s: the token in the answer is blank or has a control character inside", from)
	}
	if t.TokenType != "" && !strings.EqualFold(t.TokenType, "Bearer") {
		return nil, permanentErrorf("access token: POST %s: the token in the answer is not of type Bearer", from)
	}
	token := &accessToken{value: t.AccessToken}
	if !t.Expiry.IsZero() {
		life := time.Until(t.Expiry)
		if life <= 0 {
			return nil, permanentErrorf("access token: POST %s: the token in the answer has expired already", from)
		}
		token.expires = t.Expiry.Round(0) // by the wall clock: the monotonic one stands still while a laptop is suspended
		token.renew = token.expires.Add(-min(life/10, 30*time.Second))
	}
	return token, nil
}

// tokenExchange sends requests to a token endpoint and reads the answers, so that a connection that breaks in the middle of one
// is not taken for a malformed answer. It keeps the last one's head.
type tokenExchange struct {
	base   http.RoundTripper
	answer *http.Response // nil if none came
}

func (x *tokenExchange) RoundTrip(req *http.Request) (*http.Response, error) {
	x.answer = nil
	resp, err := cmp.Or(x.base, http.DefaultTransport).RoundTrip(req)
	if err != nil || resp == nil || resp.Body == nil {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.Request = req
	x.answer = resp
	return resp, nil
}

func (x *tokenExchange) worthRepeating() bool { return x.answer == nil || x.answer.StatusCode >= 500 }

// explain makes an error of what x/oauth2 says, which may quote the answer's body.
func (x *tokenExchange) explain(err error, config *clientcredentials.Config) error {
	if x.answer == nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err
		}
		return permanentErrorf("access token: POST %s: %w", config.TokenURL, err)
	}
	refusal := &tokenError{url: config.TokenURL, APIError: APIError{
		Method:     http.MethodPost,
		Path:       x.answer.Request.URL.EscapedPath(),
		StatusCode: x.answer.StatusCode,
		QueryID:    x.answer.Header.Get("X-Ovh-Queryid"),
	}}
	if retrieve, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		refusal.Code = retrieve.ErrorCode
	}
	// A code is a word. Text may quote the request, and with it the secret.
	if !errorCode.MatchString(refusal.Code) || strings.Contains(refusal.Code, config.ClientSecret) {
		refusal.Code = ""
	}
	return &permanentError{refusal}
}

var errorCode = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// tokenError is an answer of a token endpoint that holds no token.
type tokenError struct {
	url string
	APIError
}

func (e *tokenError) Unwrap() error { return &e.APIError }

func (e *tokenError) Error() string {
	s := fmt.Sprintf("access token: POST %s: %d %s", e.url, e.StatusCode, http.StatusText(e.StatusCode))
	switch {
	case e.Code != "":
		s += ": " + e.Code
	case e.StatusCode/100 == 2:
		s += ", but no token in the answer"
	}
	if e.StatusCode/100 == 4 {
		s += "; check client_id, client_secret and the endpoint that they were made at"
	}
	return s
}

// sleep reports whether it could sleep for so long before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
