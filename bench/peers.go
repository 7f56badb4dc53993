package bench

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/ovhauth"
	"github.com/bradleyfalzon/ghinstallation/v2"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/ovh/go-ovh/ovh"
	"github.com/prometheus/sigv4"
	"golang.org/x/oauth2"
)

var keys = ovhauth.Credentials{
	ApplicationKey:    "0123456789abcdef",
	ApplicationSecret: "0123456789abcdef0123456789abcdef",
	ConsumerKey:       "fedcba9876543210fedcba9876543210",
}

// roundTripper is a function as an [http.RoundTripper].
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// noop is a Base that responds at once and leaves the body unread.
var noop = roundTripper(func(req *http.Request) (*http.Response, error) {
	if req.Body != nil {
		req.Body.Close()
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
})

// signed is our Transport with the keys at hand and all else left at its default.
func signed(base http.RoundTripper) http.RoundTripper {
	return &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: keys, Base: base}
}

// baseline is a signer as one writes it by hand: it copies the request and its header map once, hashes the signed bytes and sets
// four headers. It has no error path, looks at no context, and checks nothing. It does not count allocations either: what does can
// be faster.
func baseline(base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		hash := sha1.New()
		buf := make([]byte, 0, 256)
		for _, s := range [...]string{keys.ApplicationSecret, "+", keys.ConsumerKey, "+", req.Method, "+",
			req.URL.Scheme, "://", req.URL.Host, req.URL.RequestURI(), "+"} {
			buf = append(buf, s...)
		}
		hash.Write(buf)
		if req.GetBody != nil {
			body, _ := req.GetBody()
			io.Copy(hash, body)
			body.Close()
		}
		timestamp := strconv.FormatInt(time.Now().Unix(), 10)
		hash.Write(append(append(buf[:0], '+'), timestamp...))

		out := new(*req)
		out.Header = make(http.Header, len(req.Header)+4)
		maps.Copy(out.Header, req.Header)
		out.Header["X-Ovh-Application"] = []string{keys.ApplicationKey}
		out.Header["X-Ovh-Consumer"] = []string{keys.ConsumerKey}
		out.Header["X-Ovh-Timestamp"] = []string{timestamp}
		out.Header["X-Ovh-Signature"] = []string{"$1$" + hex.EncodeToString(hash.Sum(buf[:0]))}
		return base.RoundTrip(out)
	})
}

// bearer is x/oauth2's Transport with a token that never expires: it copies the request and sets one header.
func bearer(base http.RoundTripper) http.RoundTripper {
	token := &oauth2.Token{AccessToken: keys.ConsumerKey}
	return &oauth2.Transport{Source: oauth2.StaticTokenSource(token), Base: base}
}

// aws is Prometheus' signer for AWS, with static keys. It hashes the body by SHA-256, and signs by HMAC.
func aws(base http.RoundTripper) http.RoundTripper {
	config := &sigv4.SigV4Config{Region: "eu-west-3", AccessKey: keys.ApplicationKey, SecretKey: "0123456789abcdef"}
	return must(sigv4.NewSigV4RoundTripper(config, base))
}

var githubKey = sync.OnceValue(func() []byte {
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	return pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
})

// github is ghinstallation's Transport with an installation token that it has got and that is good for an hour.
func github(base http.RoundTripper) http.RoundTripper {
	t := must(ghinstallation.New(roundTripper(func(req *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(req.URL.Path, "/access_tokens") {
			return base.RoundTrip(req)
		}
		expires := time.Now().Add(time.Hour).Format(time.RFC3339)
		body := `{"token":"` + keys.ConsumerKey + `","expires_at":"` + expires + `"}`
		return &http.Response{StatusCode: http.StatusCreated, Body: io.NopCloser(strings.NewReader(body))}, nil
	}), 1, 1, githubKey()))
	must(t.Token(context.Background()))
	return t
}

// goOVH is go-ovh's client. It has asked for the API's time already, so that NewRequest sends nothing.
func goOVH(endpoint string, base http.RoundTripper) *ovh.Client {
	client := must(ovh.NewClient(endpoint, keys.ApplicationKey, keys.ApplicationSecret, keys.ConsumerKey))
	client.Client.Transport = base
	must(client.TimeDelta())
	return client
}

// apiTime responds to every request with the API's time.
var apiTime = roundTripper(func(*http.Request) (*http.Response, error) {
	body := io.NopCloser(strings.NewReader(strconv.FormatInt(time.Now().Unix(), 10)))
	return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
})

// retrying is our RetryTransport with every field at its default.
func retrying(base http.RoundTripper) http.RoundTripper { return &ovhauth.RetryTransport{Base: base} }

// hashicorp is go-retryablehttp's RoundTripper with its default policy, and without its log line for each request.
func hashicorp(base http.RoundTripper) http.RoundTripper {
	client := retryablehttp.NewClient()
	client.Logger = nil
	client.HTTPClient = &http.Client{Transport: base}
	return &retryablehttp.RoundTripper{Client: client}
}

// must panics on an error: a benchmark that goes wrong has nothing to say.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
