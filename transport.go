package ovhauth

import (
	"cmp"
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
)

// Transport is an [http.RoundTripper] that signs requests to the OVHcloud API. Put it into an [http.Client]:
//
//	client := &http.Client{Transport: &ovhauth.Transport{}}
//	resp, err := client.Get("/me") // GET https://eu.api.ovh.com/1.0/me, signed
//
// A URL without a host is relative to the endpoint; /1.0/…, /v1/… and /v2/… are relative to the endpoint without its version. A
// URL of the endpoint's own scheme, host and port is signed as it stands, and so is one of another host of the same API. A URL of
// any other origin is sent without authentication, and so is a redirect that has once led to another origin.
//
// The zero value is ready. A Transport is safe for concurrent use; its fields must not change after the first request. Errors of
// its own match [ErrMissingCredentials], [ErrBodyTooLarge], [ErrPlainHTTP] or [ErrFIPS] where one of these is the cause; nothing
// has been sent then. Errors of Base, of the body's reader and of the context are returned as they are. If the context ends while
// the Transport finds out what a rejection is about, the error matches the context's and an [*APIError].
type Transport struct {
	// Endpoint is the API to sign for: one of the constants, a name that [ParseEndpoint] knows, or a URL. "" means
	// OVH_ENDPOINT, then ovh.conf (see [DefaultCredentials]; or the files of [FileCredentials]), then EU.
	Endpoint Endpoint

	// Credentials is asked for each request that needs any, and once more after it was told that the API rejected what it gave.
	// Nil means DefaultCredentials(Endpoint).
	Credentials CredentialProvider

	// Clock tells the time to sign with. Nil means a [ServerClock] of the Transport's own.
	Clock Clock

	// Base sends the signed requests. Nil means [http.DefaultTransport].
	Base http.RoundTripper

	// Logger is told of each [Event] at its level; never a secret, never a body. Nil means silent.
	Logger *slog.Logger

	// OnEvent is called for each [Event], during the request that it is about: it should return soon, and must be safe for
	// concurrent use. Nil means that nobody is told.
	OnEvent func(context.Context, Event)

	ready     atomic.Pointer[setup]
	clock     ServerClock
	timeQuery flight[*correction]
	closing   atomic.Bool
	trusted   atomic.Int64 // until then, in Unix nanoseconds, a Date that is far off does not make the clock suspect
}

// setup is what the fields of a Transport come to, worked out at the first request.
type setup struct {
	*parsedEndpoint
	transport   *Transport
	credentials CredentialProvider
	clock       Clock
}

func (t *Transport) setup(ctx context.Context) (*setup, error) {
	if s := t.ready.Load(); s != nil {
		return s, nil
	}
	parsed, credentials, err := bind(ctx, t.Endpoint, t.Credentials)
	if err != nil {
		return nil, err
	}
	s := &setup{parsedEndpoint: parsed, transport: t, credentials: credentials, clock: t.Clock}
	if s.clock == nil {
		s.clock = &t.clock
	}
	t.ready.CompareAndSwap(nil, s) // of several first requests, all use the same
	return t.ready.Load(), nil
}

func (t *Transport) base() http.RoundTripper {
	if t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

// CloseIdleConnections closes the idle connections of Base, if it can do so.
func (t *Transport) CloseIdleConnections() {
	if t.closing.Swap(true) {
		return // http.DefaultTransport may lead back here
	}
	defer t.closing.Store(false)
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Format prints the endpoint alone. Under a wrong verb such as %s, fmt would print a Transport's fields, and theirs, without
// asking Credentials how they want to be printed.
func (t *Transport) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "&ovhauth.Transport{Endpoint:%q}", t.Endpoint.withoutPassword())
}

type withoutSignature struct{}

// WithoutSignature returns a context whose requests a [Transport] sends to the endpoint without any authentication, and without
// asking for credentials: for the few calls that take none, such as ordering as a guest.
func WithoutSignature(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutSignature{}, true)
}

// RoundTrip signs a copy of req and sends it by Base. If the API rejects it because of the time that it was signed at, or because
// of its keys or token, the clock is corrected or the provider asked again, and the request is sent once more.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c, err := t.route(req)
	if err != nil {
		closeBody(req.Body)
		return nil, err
	}
	if c.foreign {
		return c.pass()
	}
	keys, err := c.retrieve()
	if err != nil {
		closeBody(req.Body)
		return nil, err
	}
	body := c.replay(keys)
	defer body.release()
	var resp *http.Response // to the attempt before, which it rejected
	for number := 1; ; number++ {
		a, err := c.authorize(number, keys, body)
		if err != nil && resp != nil {
			return resp, nil // it is worth more than the reason why there can be no second one
		}
		if err != nil {
			return nil, err
		}
		if resp != nil {
			closeBody(resp.Body)
		}
		if resp, err = c.send(a); err != nil {
			return nil, err
		}
		replacement, again := c.repair(a, resp)
		if err := c.ctx.Err(); err != nil { // meanwhile
			if looked, ok := resp.Body.(*peekedBody); ok {
				head, _ := looked.known()
				err = permanentErrorf("%w while looking into the response: %w", err, newAPIError(resp, head))
			}
			closeBody(resp.Body)
			return nil, err
		}
		if !again {
			return resp, nil
		}
		keys = replacement
	}
}

// call is one request on its way through a Transport. Nothing changes it once it is routed.
type call struct {
	*setup
	req *http.Request // the caller's, which nobody may touch

	foreign    bool      // of another origin, or sent here by one; what follows does not count then, but for url
	ctx        *outgoing // of each attempt
	url        *url.URL  // absolute
	hostHeader string    // as it will be sent
	target     string    // path and query, as the request line will say them
	need       need
	guestKey   string // the application key that the caller set, if that is all the authentication that it wants
}

// need is what a request must carry.
type need int

const (
	everything     need = iota // a signature, or an access token
	applicationKey             // for asking for a consumer key, and for guests
	nothing
)

// route finds where the request goes, and what it needs to get there.
func (t *Transport) route(req *http.Request) (c call, err error) {
	ctx, u := req.Context(), req.URL
	if err := ctx.Err(); err != nil {
		return c, err // http.Client does not look before it calls
	}
	if u == nil {
		return c, permanentErrorf("the request has no URL")
	}
	s, err := t.setup(ctx)
	if err != nil {
		return c, err
	}
	c = call{setup: s, req: req, url: u, hostHeader: req.Host}
	switch {
	case u.Host == "" && (u.Scheme == "" || u.Scheme == s.scheme):
		r := &relative{outgoing: outgoing{ctx, s, req.Method, u}}
		c.ctx, c.url, c.hostHeader = &r.outgoing, &r.url, s.host
		c.target = s.absolute(u, c.url)
		c.foreign = c.strayed()
	case u.Host == "":
		return c, permanentErrorf("a URL with scheme %s: but no host; write the path alone, such as /me", u.Scheme)
	case u.Scheme == "":
		return c, permanentErrorf("URL //%s%s: two slashes at the start make %s a host; write one", u.Host, u.EscapedPath(), u.Host)
	case strings.EqualFold(u.Scheme, "http") && s.scheme != "http" && s.hasName(u) && !isLoopback(u.Hostname()):
		return c, permanentErrorf("http://%s: %w", u.Host, ErrPlainHTTP)
	case ctx.Value(inside{t}) != nil:
		return c, permanentErrorf("the Base of this Transport leads back to it, as http.DefaultTransport = &ovhauth.Transport{} does; " +
			"write http.DefaultTransport = &ovhauth.Transport{Base: http.DefaultTransport}")
	default:
		c.target = u.RequestURI()
		c.hostHeader = cmp.Or(c.hostHeader, u.Host)
		if c.foreign = !s.owns(u) || c.strayed(); !c.foreign {
			c.ctx = &outgoing{ctx, s, req.Method, u}
		}
	}
	if c.foreign {
		return c, nil
	}
	c.need, c.guestKey = c.needs(ctx)
	return c, c.sendable()
}

// strayed reports whether the request is a redirect, and one before it went to another origin: a server there must not
// decide what is signed here.
func (c *call) strayed() bool {
	for resp := c.req.Response; resp != nil && resp.Request != nil; resp = resp.Request.Response {
		u := resp.Request.URL
		if n := noteOf(resp); n != nil && n.url != nil {
			u = n.url // what was really asked for, by a Transport above
		}
		switch {
		case u == nil:
		case u.Host != "" && !c.owns(u):
			return true
		case u.Host == "" && c.req.Context().Value(passing{}) != nil: // relative to the endpoint of a Transport above, whose note is lost
			return true
		}
	}
	return false
}

// sendable rejects what would not go over the wire as it is signed.
func (c *call) sendable() error {
	switch {
	case c.url.Opaque != "":
		return permanentErrorf("an opaque URL cannot be signed; set URL.Path, and RawPath if need be")
	case c.req.Method == http.MethodConnect:
		return permanentErrorf("the API has no method CONNECT")
	case c.target[0] != '/':
		return permanentErrorf("URL path %q does not begin with a slash", c.url.Path)
	case hasBlank(c.target):
		return permanentErrorf("a blank or control character in the URL's query; encode it, as url.Values does")
	case c.hostHeader != c.host && !plainHost(c.hostHeader):
		return permanentErrorf("host %q cannot be signed; write it in ASCII, without a zone", c.hostHeader)
	}
	return nil
}

// hasBlank reports whether s has an ASCII blank or control character.
func hasBlank(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f {
			return true
		}
	}
	return false
}

func (c *call) needs(ctx context.Context) (n need, key string) {
	if ctx.Value(withoutSignature{}) != nil {
		return nothing, ""
	}
	switch path, _, _ := strings.Cut(c.target, "?"); c.req.Method {
	case http.MethodGet, "":
		if slices.Contains(c.timePaths, path) {
			return nothing, ""
		}
	case http.MethodPost:
		if slices.Contains(c.credentialPaths, path) {
			return applicationKey, keyOfGuest(c.req.Header)
		}
	}
	if key := keyOfGuest(c.req.Header); key != "" {
		return applicationKey, key
	}
	return everything, ""
}

// keyOfGuest returns the application key in a header that has nothing else of a signature, and no token: so go-ovh marks its
// unauthenticated calls. It returns "" for any other.
func keyOfGuest(h http.Header) string {
	key := h["X-Ovh-Application"] // as net/http spells it: to look at each name would cost every request a twentieth of its time
	if len(key) == 0 {
		return ""
	}
	for name, values := range h {
		if isAuthentication(name) && len(values) > 0 && values[0] != "" && name != "X-Ovh-Application" && name != "X-Ovh-Timestamp" {
			return ""
		}
	}
	return key[0]
}

// pass sends the request on without authentication, but for the signature of a Transport above for this very origin.
func (c *call) pass() (*http.Response, error) {
	ctx := c.req.Context()
	out := c.req.WithContext(context.WithValue(context.WithValue(ctx, inside{c.transport}, true), passing{}, true)) // not Clone, as in authorize
	out.URL, out.Header = c.url, c.req.Header
	if above, ok := ctx.Value(signing{}).(*outgoing); !ok || !above.sender.owns(c.url) {
		out.Header = without(c.req.Header, isSignature)
		if redirectOfRelative(c.req) {
			out.Header = without(out.Header, isPrivate)
		}
	}
	if c.url != c.req.URL {
		out.Host = "" // as in authorize
	}
	resp, err := c.transport.base().RoundTrip(out)
	if resp, err = settle(c.req, resp, err); err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized && noteOf(resp) == nil {
		note{unsigned: c.whyUnsigned()}.keepFor(c.req)
	}
	c.noteRedirect(resp)
	return resp, nil
}

// whyUnsigned says why a foreign request was not signed, and what to do.
func (c *call) whyUnsigned() string {
	if c.owns(c.url) {
		return "it went out unsigned, since a redirect by another origin led to it; call it directly"
	}
	return fmt.Sprintf("it went out unsigned, since its host %s is not that of the Transport's endpoint, %s; "+
		"write the path alone, or make a Transport for that endpoint", c.url.Host, c.host)
}

// redirectOfRelative reports whether req is a redirect, and one before it had a URL without a host. http.Client compares that
// with the new host when it decides which headers to copy, and Referer is made of it.
func redirectOfRelative(req *http.Request) bool {
	for resp := req.Response; resp != nil && resp.Request != nil; resp = resp.Request.Response {
		if u := resp.Request.URL; u != nil && u.Host == "" {
			return true
		}
	}
	return false
}

// isPrivate reports whether a header is for the endpoint alone: Referer, and what http.Client itself takes to its own host only.
func isPrivate(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Referer", "Authorization", "Cookie", "Cookie2", "Proxy-Authorization", "Proxy-Authenticate", "Www-Authenticate":
		return true
	}
	return false
}

// outgoing is the context of a request that is sent to the endpoint. It tells a Transport below that the request is signed, and for
// whom.
type outgoing struct {
	context.Context          // the caller's
	sender          *setup   // whose request it is
	method          string   // of the request
	asked           *url.URL // the caller's own, for events
}

// relative is the context of a request whose URL has no host, and the URL that it is sent to, in one allocation.
type relative struct {
	outgoing
	url url.URL
}

type (
	signing struct{}               // the key of the nearest *outgoing
	passing struct{}               // the key that says that a Transport passes a request of another origin
	inside  struct{ t *Transport } // the key that says that t has sent the request to its Base
)

// Format keeps fmt from following the caller's context further than it would by itself, to what that one would not show.
func (o *outgoing) Format(f fmt.State, _ rune) { io.WriteString(f, "ovhauth.outgoing") }

func (o *outgoing) Value(key any) any {
	if key == (signing{}) || key == (inside{o.sender.transport}) {
		return o
	}
	value := o.Context.Value(key)
	if trace, ok := value.(*httptrace.ClientTrace); ok && trace != nil && trace.WroteHeaderField != nil {
		return redactTrace(trace)
	}
	return value
}

// redactTrace returns a copy of trace whose hook sees no key and no signature.
func redactTrace(trace *httptrace.ClientTrace) *httptrace.ClientTrace {
	redacting := *trace
	redacting.WroteHeaderField = func(name string, values []string) {
		if isAuthentication(name) {
			values = []string{redacted}
		}
		trace.WroteHeaderField(name, values)
	}
	return &redacting
}

// providerContext is the context that a provider and a clock are asked in: the caller's, with the client to get access tokens by,
// and without the caller's httptrace hooks.
type providerContext outgoing

// Format is that of outgoing.
func (p *providerContext) Format(f fmt.State, verb rune) { (*outgoing)(p).Format(f, verb) }

func (p *providerContext) Value(key any) any {
	if key == oauth2.HTTPClient { // made only for those who ask
		return &http.Client{Transport: p.sender.transport.base()}
	}
	if key == (listenerKey{}) {
		t, req := p.sender.transport, (&http.Request{Method: p.method, URL: p.asked}).WithContext(p.Context)
		return listener{t.Logger, func() {
			emit(req, t.OnEvent, t.Logger, Event{Kind: EventCredentialsReplaced, Attempt: 1, Reason: ReasonClientRejected})
		}}
	}
	return untraced{p.Context}.Value(key)
}

// retrieve asks the provider for credentials. A guest whom it gives none has the application key of its own.
func (c *call) retrieve() (Credentials, error) {
	if c.need == nothing {
		return Credentials{}, nil
	}
	keys, err := c.credentials.Retrieve((*providerContext)(c.ctx))
	switch {
	case c.guestKey != "" && strings.TrimSpace(keys.ApplicationKey) == "" && !concernsGuests(err):
		keys, err = Credentials{ApplicationKey: c.guestKey}, nil
	case err == nil:
		err = c.ctx.Err()
	case c.ctx.Err() != nil:
		err = c.ctx.Err()
	case !isPermanent(err):
		err = permanentErrorf("credentials: %w", err)
	}
	return keys, err
}

// concernsGuests reports whether a provider's error is about more than the keys that it lacks, such as a file that misleads them.
func concernsGuests(err error) bool {
	_, lacksToken := errors.AsType[noToken](err)
	return isPermanent(err) && !lacksToken && !errors.Is(err, ErrMissingCredentials)
}

// replay takes over the request's body. One that need not be read twice is sent as it is.
func (c *call) replay(keys Credentials) replay {
	if !hasBody(c.req) || c.need == nothing {
		return replay{own: c.req.Body}
	}
	signed := c.need == everything && strings.TrimSpace(keys.AccessToken) == ""
	if _, replaceable := c.credentials.(invalidator); signed || replaceable {
		return newReplay(c.req, maxKept)
	}
	return replay{own: c.req.Body}
}

// attempt is one sending of a request to the endpoint.
type attempt struct {
	number   int // 1 or 2
	request  *http.Request
	keys     Credentials   // as the provider gave them
	signedAt time.Time     // by the clock that signs; zero without a signature
	offset   time.Duration // of that clock then, if it has one
}

// signedRequest is the request to send, with the memory for its four headers' values in the same allocation. The context has no
// part in it: whoever keeps a context, as providers do, would keep the body too, and show the keys.
type signedRequest struct {
	http.Request
	values [4]string
}

// authorize makes the request to send: a copy with its authentication, and the body of attempt number. If it fails, it has closed
// the caller's body.
func (c *call) authorize(number int, keys Credentials, body replay) (attempt, error) {
	out := &signedRequest{Request: *c.req.WithContext(c.ctx)} // not Clone: trailers must stay the map that their sender fills
	out.URL = c.url
	if c.url != c.req.URL {
		out.Host = "" // that of a relative URL was meant for whoever passes the request on
	}
	out.Header = without(c.req.Header, isAuthentication)
	out.Body = nil
	a := attempt{number: number, request: &out.Request, keys: keys}
	err := c.authenticate(&a, out, body)
	if done := c.ctx.Err(); done != nil {
		err = done
	}
	if err != nil {
		if out.Body == nil && number == 1 {
			out.Body = body.own
		}
		closeBody(out.Body)
		return attempt{}, err
	}
	return a, nil
}

func (c *call) authenticate(a *attempt, out *signedRequest, body replay) (err error) {
	if c.need == nothing {
		return body.putInto(&out.Request, a.number)
	}
	keys, err := a.keys.usable(c.ctx, c.need, c.credentials)
	if err != nil {
		return err
	}
	signed := c.need == everything && keys.AccessToken == ""
	if signed && body.kept != nil {
		if err := body.kept.readWhole(c.req); err != nil {
			tellBodyFailed(c.ctx)
			return err
		}
	}
	if err := body.putInto(&out.Request, a.number); err != nil {
		return err
	}
	switch {
	case c.need == applicationKey:
		out.set(0, "X-Ovh-Application", keys.ApplicationKey)
	case !signed:
		out.set(0, "Authorization", "Bearer "+keys.AccessToken)
	default:
		timestamp, signature, err := c.sign(a, &keys, body)
		if err != nil {
			return err
		}
		out.set(0, "X-Ovh-Application", keys.ApplicationKey)
		out.set(1, "X-Ovh-Consumer", keys.ConsumerKey)
		out.set(2, "X-Ovh-Timestamp", timestamp)
		out.set(3, "X-Ovh-Signature", signature)
	}
	return nil
}

// set puts value i into the header.
func (r *signedRequest) set(i int, name, value string) {
	r.values[i] = value
	r.Header[name] = r.values[i : i+1 : i+1]
}

// sign returns the timestamp and the signature of an attempt. It reads the clock last, so that a slow body does not age the
// signature.
func (c *call) sign(a *attempt, keys *Credentials, body replay) (timestamp, signature string, err error) {
	if fips140.Enforced() {
		return "", "", &permanentError{ErrFIPS}
	}
	method := cmp.Or(c.req.Method, http.MethodGet)
	if body.again == nil {
		var memory [512]byte // on the stack, and enough for most
		head := appendHead(memory[:0], keys, method, c.url.Scheme, "://", c.hostHeader, c.target)
		if err := c.readClock(a); err != nil {
			return "", "", err
		}
		timestamp, signature = signHead(head, a.signedAt)
		return timestamp, signature, nil
	}
	s := newSigner(c.ctx)
	s.writeHead(keys, method, c.url.Scheme, "://", c.hostHeader, c.target)
	if err := s.writeBody(a.request.Body, body); err != nil {
		tellBodyFailed(c.ctx)
		return "", "", err
	}
	if err := c.readClock(a); err != nil {
		return "", "", err
	}
	timestamp, signature = s.finish(a.signedAt)
	s.free()
	return timestamp, signature, nil
}

func (c *call) readClock(a *attempt) (err error) {
	a.offset = c.offset() // before the time: a correction in between counts as one after it
	if a.signedAt, err = c.clock.Now((*providerContext)(c.ctx)); err != nil {
		return permanentErrorf("clock: %w", err)
	}
	return nil
}

// send has Base send an attempt.
func (c *call) send(a attempt) (*http.Response, error) {
	resp, err := c.transport.base().RoundTrip(a.request)
	if resp, err = settle(c.req, resp, err); err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		note{}.keepFor(c.req) // a Transport above, which passed the request on, does not take it for unsigned then
	}
	c.noteRedirect(resp)
	return resp, nil
}

// noteRedirect prepares the response to a URL without a host for being followed: http.Client would resolve Location against that
// URL, and the redirect would not show where it came from.
func (c *call) noteRedirect(resp *http.Response) {
	if c.url == c.req.URL {
		return
	}
	location := resp.Header.Get("Location")
	if location == "" {
		return
	}
	if u, err := c.url.Parse(location); err == nil {
		resp.Header = resp.Header.Clone()
		resp.Header.Set("Location", u.String())
	}
	if resp.StatusCode/100 == 3 {
		asked := *c.url // which lies beside the caller's context, and that may lead to the request that the note goes with
		note{url: &asked}.keepFor(c.req)
	}
}

// repair looks at the response to an attempt. If that was rejected because of its time, it corrects the clock; because of its keys
// or token, it asks the provider for others. It reports whether to send the request once more, and with what.
func (c *call) repair(a attempt, resp *http.Response) (keys Credentials, again bool) {
	if resp.StatusCode < 400 {
		return keys, false
	}
	clock, correctable := c.clock.(corrector)
	correctable = correctable && !a.signedAt.IsZero()
	provider, replaceable := c.credentials.(invalidator)
	replaceable = replaceable && c.need != nothing && a.number == 1
	bearer := a.request.Header["Authorization"] != nil
	if bearer && resp.StatusCode != http.StatusUnauthorized || !correctable && !replaceable {
		return keys, false
	}
	// What stays unread would keep its connection, which the requests below may have to wait for.
	body, whole := peek(c.ctx, resp, peekTime)
	if !whole {
		return keys, false
	}
	r := rejection{a, resp, newAPIError(resp, body)}
	if replaceable && (r.aboutKeys() || r.StatusCode == http.StatusUnauthorized && c.need == everything) {
		if keys, again = c.replaceKeys(r, provider); again {
			return keys, true
		}
	}
	switch {
	case correctable && r.Is(ErrQueryTimeOut):
		return a.keys, c.correctClock(r, clock)
	case correctable && c.checkClock(r, clock):
		// A POST may be executed and get a 403, so a Date alone does not show that it was not executed.
		return a.keys, r.aboutAuth() || isIdempotent(c.req.Method)
	}
	return keys, false
}

// rejection is an attempt that the API rejected, and how.
type rejection struct {
	attempt
	resp *http.Response
	*APIError
}

// invalidator is a provider that can replace what the API rejects.
type invalidator interface{ Invalidate(Credentials) }

// replaceKeys tells the provider that the API rejects what it gave, and returns what it gives instead.
func (c *call) replaceKeys(r rejection, provider invalidator) (keys Credentials, again bool) {
	provider.Invalidate(r.keys)
	keys, err := c.retrieve()
	same := keys
	same.Expires = r.keys.Expires // which does not count
	if err != nil || same == r.keys {
		return keys, false
	}
	if _, err := keys.usable(c.ctx, c.need, c.credentials); err != nil { // such as those of an emptied file
		return keys, false
	}
	reason := ReasonKeysRejected
	if r.request.Header["Authorization"] != nil {
		reason = ReasonTokenRejected
	}
	c.tell(r, Event{Kind: EventCredentialsReplaced, Reason: reason})
	return keys, true
}

func (c *call) tell(r rejection, e Event) {
	e.Attempt, e.StatusCode = r.number, r.StatusCode
	emit(c.req, c.transport.OnEvent, c.transport.Logger, e)
}

// corrector is what a Clock is that can be told the time.
type corrector interface{ Correct(server time.Time) bool }

// correctClock corrects the clock after the API has said that the attempt was signed at the wrong time. It reports whether to send
// the request once more.
func (c *call) correctClock(r rejection, clock corrector) (again bool) {
	if r.number > 1 {
		c.askTime(r, clock, ReasonDateLied) // for the calls to come
		return false
	}
	if c.clockMovedSince(r.attempt) {
		return true // by the rejection of another request
	}
	date, err := http.ParseTime(r.resp.Header.Get("Date"))
	cached := r.resp.Header.Get("Age") != "" // a cache's responses have the Date of when it got them
	if err == nil && !cached && c.tellOf(r, c.correct((*providerContext)(c.ctx), clock, date), ReasonQueryTimeOut) {
		return true
	}
	_, err = c.askTime(r, clock, ReasonQueryTimeOut)
	return err == nil
}

const (
	// maxSkew is how far the Date of a rejection may lie from the time of signing before the clock is suspect. The API's own
	// tolerance is not documented.
	maxSkew = 30 * time.Second

	// trustTime is how long a clock that was shown to be right is not suspect again. A front end with a wrong Date would otherwise
	// cost one request to /auth/time for each rejection.
	trustTime = 10 * time.Minute
)

// checkClock compares the clock with the API's if the Date of a rejection makes it suspect, and reports whether the attempt was
// signed at the wrong time.
func (c *call) checkClock(r rejection, clock corrector) (wrong bool) {
	switch r.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
	default:
		return false
	}
	date, err := http.ParseTime(r.resp.Header.Get("Date"))
	if err != nil || !date.Before(r.signedAt.Add(-maxSkew)) && !date.After(r.signedAt.Add(c.took(r.attempt)+maxSkew)) {
		return false
	}
	if c.clockMovedSince(r.attempt) {
		return true
	}
	trusted := &c.transport.trusted
	if r.number > 1 || time.Now().UnixNano() < trusted.Load() {
		return false
	}
	moved, err := c.askTime(r, clock, ReasonDate)
	if err == nil && !moved {
		trusted.Store(time.Now().Add(trustTime).UnixNano())
	}
	return moved
}

// offset is how far the clock is ahead of the local one, 0 if it does not say.
func (c *call) offset() time.Duration {
	if clock, ok := c.clock.(interface{ Offset() time.Duration }); ok {
		return clock.Offset()
	}
	return 0
}

// clockMovedSince reports whether the clock was corrected after the attempt was signed.
func (c *call) clockMovedSince(a attempt) bool { return (c.offset() - a.offset).Abs() > maxDrift }

// took is how long ago the attempt was signed, by the wall clock: the monotonic one stands still while a laptop is suspended, which
// no test shows.
func (c *call) took(a attempt) time.Duration {
	now, err := c.clock.Now((*providerContext)(c.ctx))
	if err != nil {
		return 0
	}
	return max(0, now.Round(0).Sub(a.signedAt.Round(0))-(c.offset()-a.offset))
}

// askTime corrects the clock by GET /auth/time, which all who need it at once ask together.
func (c *call) askTime(r rejection, clock corrector, reason string) (moved bool, err error) {
	s := c.setup // and nothing of the request, which is its caller's again if the context ends meanwhile
	found, err := c.transport.timeQuery.do(c.req.Context(), func(ctx context.Context) (*correction, error) {
		client := &http.Client{Transport: s.transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // another origin does not know this one's time
		}}
		asked := time.Now()
		server, err := ServerTime(ctx, client)
		if err != nil {
			return nil, err
		}
		// The server read its clock somewhere between request and response; halfway is the best guess.
		return s.correct(ctx, clock, server.Add(time.Since(asked)/2)), nil
	})
	if err != nil {
		return false, err
	}
	return c.tellOf(r, found, reason), nil
}

// correction is what came of telling a clock the time.
type correction struct {
	moved bool
	by    time.Duration
	told  atomic.Bool // by one of those who asked for it together
}

func (s *setup) correct(ctx context.Context, clock corrector, server time.Time) *correction {
	before, _ := s.clock.Now(ctx)
	if !clock.Correct(server) {
		return new(correction)
	}
	after, _ := s.clock.Now(ctx)
	return &correction{moved: true, by: after.Sub(before).Round(time.Millisecond)}
}

// tellOf tells of a correction, once, and reports whether the clock was moved.
func (c *call) tellOf(r rejection, found *correction, reason string) (moved bool) {
	if found.moved && !found.told.Swap(true) {
		c.tell(r, Event{Kind: EventClockCorrected, Wait: found.by, Reason: reason})
	}
	return found.moved
}

// isIdempotent reports whether a request that may have been executed can be sent again.
func isIdempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// settle makes what a Base returned for req a response or an error, never both; the error ctx's own if ctx is done.
func settle(req *http.Request, resp *http.Response, err error) (*http.Response, error) {
	ctx := req.Context()
	switch {
	case err != nil:
		if resp != nil {
			closeBody(resp.Body)
		}
		if done := ctx.Err(); done != nil && !errors.Is(err, done) && !errors.Is(err, context.Cause(ctx)) {
			err = done
		}
		return nil, err
	case resp == nil:
		return nil, permanentErrorf("Base returned neither a response nor an error")
	}
	if below := noteOf(resp); below != nil && resp.Request != req {
		below.keepFor(req)
	}
	resp.Request = req // a signed copy would carry the keys into logs
	return resp, nil
}

// without returns a copy of h that lacks the headers that drop names. Values are shared, but cannot be appended to.
func without(h http.Header, drop func(name string) bool) http.Header {
	header := make(http.Header, len(h)+4)
	for name, values := range h {
		if !drop(name) {
			header[name] = values[:len(values):len(values)]
		}
	}
	return header
}

// isAuthentication reports whether a header is one that only a Transport sets on requests to its endpoint. A name goes over the
// wire as it is spelled, and servers do not mind the spelling.
func isAuthentication(name string) bool {
	return isSignature(name) || len(name) == len("Authorization") && strings.EqualFold(name, "Authorization")
}

func isSignature(name string) bool {
	switch len(name) {
	case len("X-Ovh-Consumer"), len("X-Ovh-Timestamp"), len("X-Ovh-Application"):
		return strings.EqualFold(name, "X-Ovh-Application") || strings.EqualFold(name, "X-Ovh-Consumer") ||
			strings.EqualFold(name, "X-Ovh-Timestamp") || strings.EqualFold(name, "X-Ovh-Signature")
	}
	return false
}
