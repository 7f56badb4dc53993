package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"example.com/ovhauth"
)

// proxy passes requests on to the endpoint that transport signs for. It gives a token to clients that sign in by OAuth2, which
// need a token to send one; what they send is dropped.
func proxy(transport http.RoundTripper, logger *log.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /auth/oauth2/token", giveToken)
	mux.HandleFunc("POST /oauth2/token", giveToken)
	onward := &httputil.ReverseProxy{
		Transport:      transport,
		Rewrite:        rewrite,
		ModifyResponse: leadBack,
		FlushInterval:  -1,
		ErrorLog:       logger,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if until := passageOf(r).until.Load(); until != nil && !time.Now().Before(*until) {
				err = errStalled // net/http ends the context first, and that may be what the transport tells of
			}
			status, message, reason := explain(err)
			logger.Printf("%s %s: %d: %s", r.Method, r.URL.EscapedPath(), status, oneLine(reason))
			writeError(w, status, message)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h, pattern := mux.Handler(r); pattern != "" {
			h.ServeHTTP(w, r)
			return
		}
		p := new(passage)
		if r.Body != http.NoBody {
			r.Body = &patient{r.Body, http.NewResponseController(w), p}
		}
		onward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), passageKey{}, p)))
	})
}

func giveToken(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	io.WriteString(w, `{"access_token":"proxy","token_type":"Bearer","expires_in":3599,"scope":"all"}`)
}

// rewrite makes the URL relative to the endpoint, and drops what says who calls, which is for the signer to say. ReverseProxy has
// dropped hop-by-hop and forwarding headers before.
func rewrite(r *httputil.ProxyRequest) {
	r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.User, r.Out.Host = "", "", nil, ""
	r.Out.URL.RawQuery = r.In.URL.RawQuery // as it was sent, even if net/url cannot read it
	unauthenticated := isUnauthenticated(r.In.Header)
	for name := range r.Out.Header {
		if isOurs(name) && !(unauthenticated && name == "X-Ovh-Application") {
			r.Out.Header.Del(name)
		}
	}
}

// isUnauthenticated reports whether a client wants to make its call without authentication: it shows its application and no more.
// An ovhauth.Transport that finds X-Ovh-Application alone sends its own application key alone.
func isUnauthenticated(h http.Header) bool {
	return h.Get("X-Ovh-Application") != "" && h.Get("X-Ovh-Consumer") == "" && h.Get("X-Ovh-Signature") == "" && h.Get("Authorization") == ""
}

// isOurs reports whether a header says who calls. A browser's cookies for localhost are any port's, and none of them is the API's.
func isOurs(name string) bool {
	return name == "Authorization" || name == "Cookie" || strings.HasPrefix(name, "X-Ovh-") && name != "X-Ovh-Batch"
}

// guard rejects what a web page could make its visitor's browser send. Browsers mark what a page asks for by Origin or
// Sec-Fetch-Site; "none" is what the user typed. And a page from a name that its owner's DNS points here has that name as Host.
func guard(expose bool, hosts []string, h http.Handler, logger *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, origin := r.Header["Origin"]
		site := r.Header.Get("Sec-Fetch-Site")
		reject := func(status int, message string) {
			logger.Printf("%s %s: %d: %s", r.Method, r.URL.EscapedPath(), status, message)
			writeError(w, status, message)
		}
		switch {
		case !isOwnHost(r.Host, expose, hosts):
			reject(http.StatusMisdirectedRequest, "this proxy goes by localhost, its address, and the names given by -host")
		case origin, site != "" && site != "none":
			reject(http.StatusForbidden, "this proxy takes no requests of web pages, as it acts with its user's keys")
		case !strings.HasPrefix(r.URL.Path, "/"), strings.HasPrefix(r.URL.Path, "//"):
			reject(http.StatusBadRequest, "the path must begin with one slash")
		default:
			h.ServeHTTP(w, r)
		}
	})
}

// isOwnHost reports whether a Host header names this machine: localhost, an address, which no DNS can point elsewhere, or one of
// hosts.
func isOwnHost(host string, expose bool, hosts []string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return strings.EqualFold(host, "localhost") || err == nil && (expose || ip.IsLoopback()) ||
		slices.ContainsFunc(hosts, func(name string) bool { return strings.EqualFold(host, name) })
}

// explain says what an error of the transport is, to a client that does not know of Go, and its reason to the reader of the log.
func explain(err error) (status int, message, reason string) {
	var network net.Error
	same := func(status int, message string) (int, string, string) { return status, message, message }
	switch {
	case errors.Is(err, context.Canceled):
		return same(499, "the client has left") // the number that nginx gives it
	case errors.Is(err, errStalled):
		return same(http.StatusRequestTimeout, errStalled.Error())
	case errors.Is(err, errMalformed):
		return http.StatusBadRequest, errMalformed.Error(), err.Error()
	case errors.Is(err, ovhauth.ErrBodyTooLarge):
		return same(http.StatusRequestEntityTooLarge, "the request body is larger than 32 MiB")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return http.StatusGatewayTimeout, "the API did not respond in time", err.Error()
	case errors.Is(err, ovhauth.ErrMissingCredentials):
		return http.StatusUnauthorized, "the proxy has no complete credentials; its log says what is missing", err.Error()
	default:
		return http.StatusBadGateway, "the proxy could not get a response of the API; its log says why", err.Error()
	}
}

// writeError writes an error as the API does.
func writeError(w http.ResponseWriter, status int, message string) {
	side := "Client::"
	if status >= 500 {
		side = "Server::"
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(struct {
		Class   string `json:"class"`
		Message string `json:"message"`
	}{side + strings.ReplaceAll(cmp.Or(http.StatusText(status), "Client Closed Request"), " ", ""), message})
}

// passage is what becomes known of a request on its way.
type passage struct {
	scheme, host string                    // where it was sent
	until        atomic.Pointer[time.Time] // when the part of its body that is being read is to be there
}

type passageKey struct{}

func passageOf(r *http.Request) *passage { return r.Context().Value(passageKey{}).(*passage) }

// noting is a Base that notes the origin, which the Transport above has found.
type noting struct{ http.RoundTripper }

func (n noting) RoundTrip(req *http.Request) (*http.Response, error) {
	if p, ok := req.Context().Value(passageKey{}).(*passage); ok {
		p.scheme, p.host = req.URL.Scheme, req.URL.Host
	}
	return n.RoundTripper.RoundTrip(req)
}

// leadBack makes a redirect within the API's origin relative, so that it leads to the proxy.
func leadBack(resp *http.Response) error {
	p := passageOf(resp.Request)
	if to, err := url.Parse(resp.Header.Get("Location")); err == nil && to.Host != "" && to.Scheme == p.scheme && to.Host == p.host {
		to.Scheme, to.Host = "", ""
		resp.Header.Set("Location", to.String())
	}
	return nil
}

// bodyTimeout is how long a request's body may stand still.
const bodyTimeout = 30 * time.Second

var (
	errStalled   = errors.New("the request body stood still for 30 seconds")
	errMalformed = errors.New("the request body is malformed")
)

// patient is a request body whose client gets bodyTimeout for each part of it. net/http lifts the last deadline at the end.
type patient struct {
	io.ReadCloser
	connection *http.ResponseController
	passage    *passage
}

func (p *patient) Read(b []byte) (int, error) {
	until := time.Now().Add(bodyTimeout)
	p.passage.until.Store(&until)
	p.connection.SetReadDeadline(until)
	n, err := p.ReadCloser.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, errStalled
	}
	p.passage.until.Store(nil)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", errMalformed, err)
	}
	return n, err
}
