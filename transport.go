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
// A URL without a host is relative to the endpoint; /v1/… and /v2/… are relative to the endpoint without its version. A URL of
// the endpoint's own scheme, host and port is signed as it stands. Any other passes unsigned, and so does a redirect that has
// once led elsewhere.
//
// The zero value is ready. A Transport is safe for concurrent use; its fields must not change after the first request. Errors of
// its own match [ErrMissingCredentials], [ErrBodyTooLarge], [ErrPlainHTTP] or [ErrFIPS] where one of these is the cause; nothing
// has been sent then. Errors of Base, of the body's reader and of the context are returned as they are.
type Transport struct {
	// Endpoint is the API to sign for: one of the constants, a name that [ParseEndpoint] knows, or a URL. "" means
	// OVH_ENDPOINT, then ovh.conf (see [DefaultCredentials]; or the files of [FileCredentials]), then EU.
	Endpoint Endpoint

	// Credentials is asked for each request that needs any, and again if it is sent once more. Nil means
	// DefaultCredentials(Endpoint).
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

	ready atomic.Pointer[setup]
	clock ServerClock
	sync  flight[struct{}]
}

// setup is what the fields of a Transport come to, worked out at the first request.
type setup struct {
	*parsedEndpoint
	transport   *Transport
	credentials CredentialProvider
	constant    bool // always the same credentials
	clock       Clock
	checked     atomic.Pointer[checked] // the last that a request with need of everything was made with
	hidden      func() *setup           // this one, for a context to hold: in another's field, fmt follows pointers to the keys
}

// checked are credentials that were looked through and found fit for the request.
type checked struct {
	given       Credentials // by the provider
	Credentials             // without white space around them
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
	_, s.constant = t.Credentials.(Credentials)
	s.hidden = func() *setup { return s }
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
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// Format prints the endpoint alone. Under a wrong verb such as %s, fmt would print a Transport's fields, and theirs, without
// asking Credentials how they want to be printed.
func (t *Transport) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "&ovhauth.Transport{Endpoint:%q}", string(t.Endpoint))
}

type withoutSignature struct{}

// WithoutSignature returns a context whose requests a [Transport] sends to the endpoint without any authentication, and without
// asking for credentials: for the few calls that take none, such as ordering as a guest.
func WithoutSignature(ctx context.Context) context.Context {
	return context.WithValue(ctx, withoutSignature{}, true)
}

// RoundTrip signs a copy of req and sends it by Base. If the API says that it was signed at the wrong time, or by an access
// token that is not valid any more, that is mended and the request sent once more.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c := call{t: t, req: req}
	if err := c.route(); err != nil {
		closeBody(req.Body)
		return nil, err
	}
	if c.foreign {
		return c.pass()
	}
	out, err := c.authorize()
	if err != nil {
		return nil, err
	}
	resp, err := t.base().RoundTrip(out)
	if err == nil && resp != nil && c.mend(resp) {
		c.mended = true
		// An answer in hand is worth more than the reason why there could be no second one.
		if out, failed := c.authorize(); failed == nil {
			closeBody(resp.Body)
			resp, err = t.base().RoundTrip(out)
		}
	}
	return c.finish(resp, err)
}

// call is one request on its way through a Transport.
type call struct {
	t   *Transport
	req *http.Request // the caller's, which nobody may touch
	*setup

	ctx        *outgoing // of each time that it is sent to the endpoint
	url        *url.URL  // absolute
	hostHeader string    // as it will be sent
	target     string    // path and query, as the request line will say them
	foreign    bool      // of another origin, or sent here by one
	need       need

	keys     *checked                      // from retrieve
	bearer   bool                          // an access token of it went out
	signedAt time.Time                     // by the clock that signed, unless bearer
	sentAt   time.Time                     // by the local clock
	reopen   func() (io.ReadCloser, error) // opens the body again; nil before openBody, or without a body
	length   int                           // of a body that is held
	looked   bool                          // into an answer
	mended   bool                          // this is the second time
}

// need is what a request must carry.
type need int

const (
	everything     need = iota // a signature, or an access token
	applicationKey             // for asking for a consumer key
	nothing
)

// route finds where the request goes, and what it needs to get there.
func (c *call) route() (err error) {
	ctx, u := c.req.Context(), c.req.URL
	if err := ctx.Err(); err != nil {
		return err // http.Client does not look before it calls
	}
	if u == nil {
		return permanentErrorf("the request has no URL")
	}
	if c.setup, err = c.t.setup(ctx); err != nil {
		return err
	}
	c.url, c.hostHeader = u, c.req.Host
	if u.Host == "" {
		if u.Scheme != "" && u.Scheme != c.scheme {
			return permanentErrorf("a URL with scheme %s: but no host; write the path alone, such as /me", u.Scheme)
		}
		r := &relative{outgoing: outgoing{ctx, c.hidden}}
		c.ctx, c.url, c.hostHeader = &r.outgoing, &r.url, ""
		c.target = c.absolute(u, c.url)
	} else if u.Scheme != c.scheme && strings.EqualFold(u.Scheme, "http") && c.hasName(u) && !isLoopback(u.Hostname()) {
		return permanentErrorf("http://%s: %w", u.Host, ErrPlainHTTP)
	}
	if u.Host != "" && !c.owns(u) || c.strayed() {
		c.foreign = true
		return nil
	}
	if c.ctx == nil {
		c.ctx = &outgoing{ctx, c.hidden}
	}
	if c.hostHeader == "" {
		c.hostHeader = c.url.Host
	}
	if c.target == "" {
		c.target = u.RequestURI()
	}
	c.need = c.needs(ctx)
	return c.sendable()
}

// strayed reports whether the request is a redirect, and one before it went to another origin: whoever answers there must not
// decide what is signed here.
func (c *call) strayed() bool {
	for resp := c.req.Response; resp != nil && resp.Request != nil; resp = resp.Request.Response {
		if u := resp.Request.URL; u != nil && u.Host != "" && !c.owns(u) {
			return true
		}
	}
	return false
}

// sendable refuses what would not go over the wire as it is signed.
func (c *call) sendable() error {
	switch {
	case c.url.Opaque != "":
		return permanentErrorf("an opaque URL cannot be signed; set URL.Path, and RawPath if need be")
	case c.req.Method == http.MethodConnect:
		return permanentErrorf("the API has no CONNECT")
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

func (c *call) needs(ctx context.Context) need {
	if ctx.Value(withoutSignature{}) != nil {
		return nothing
	}
	switch path, _, _ := strings.Cut(c.target, "?"); c.req.Method {
	case http.MethodGet, "":
		if slices.Contains(c.timePaths, path) {
			return nothing
		}
	case http.MethodPost:
		if slices.Contains(c.credentialPaths, path) {
			return applicationKey
		}
	}
	return everything
}

// pass sends the request on unsigned. Signed it may be only by a Transport above, for this very origin.
func (c *call) pass() (*http.Response, error) {
	out, header := c.req, c.req.Header
	if above, ok := c.req.Context().Value(signedFor{}).(*outgoing); !ok || !above.sender().owns(c.url) {
		header = without(header, isSignature)
	}
	if len(header) < len(c.req.Header) || c.url != c.req.URL {
		out = c.req.WithContext(c.req.Context())
		out.URL, out.Header = c.url, header
		if c.url != c.req.URL {
			out.Host = "" // as in authorize
		}
	}
	resp, err := c.t.base().RoundTrip(out)
	return c.finish(resp, err)
}

// outgoing is the context of a request sent to the endpoint. It tells a Transport below that the request is signed, and for whom.
type outgoing struct {
	context.Context               // the caller's
	sender          func() *setup // setup.hidden
}

// Format keeps fmt from following the caller's context further than it would by itself, to what that one would not show.
func (o *outgoing) Format(f fmt.State, _ rune) { io.WriteString(f, "ovhauth.outgoing") }

// relative is the context of a request whose URL has no host, and the URL that it is sent to, in one allocation.
type relative struct {
	outgoing
	url url.URL
}

// copied is the request to send, with the memory for its four headers' values in the same allocation. The context has no part in
// it: whoever keeps a context, as providers do, would keep the body too, and show the keys.
type copied struct {
	http.Request
	values [4]string
}

type signedFor struct{}

func (o *outgoing) Value(key any) any {
	if key == (signedFor{}) {
		return o
	}
	return o.Context.Value(key)
}

// providerContext is the context that a provider is asked in: the caller's, and in it the client to get access tokens with.
type providerContext outgoing

// Format is that of outgoing.
func (p *providerContext) Format(f fmt.State, verb rune) { (*outgoing)(p).Format(f, verb) }

func (p *providerContext) Value(key any) any {
	if key == oauth2.HTTPClient { // made only for those who ask
		return &http.Client{Transport: p.sender().transport.base()}
	}
	if key == (listenerKey{}) {
		t := p.sender().transport
		return listener{t.Logger, func() { t.log(p, "credentials replaced", slog.String("reason", ReasonClientRejected)) }}
	}
	return untraced{p.Context}.Value(key)
}

// authorize returns the request to send: a copy with its authentication. If it fails, it has closed the body.
func (c *call) authorize() (*http.Request, error) {
	out := &copied{Request: *c.req.WithContext(c.ctx)} // not Clone: trailers must stay the map that their sender fills
	out.URL = c.url
	if c.url != c.req.URL {
		out.Host = "" // that of a relative URL was meant for whoever passes the request on
	}
	out.Header = without(c.req.Header, isAuthentication)
	if c.mended {
		out.Body = nil // the first copy's, and closed
	}
	err := c.authenticate(out)
	if done := c.ctx.Err(); done != nil {
		err = done
	}
	if err != nil {
		closeBody(out.Body)
		return nil, err
	}
	return &out.Request, nil
}

func (c *call) authenticate(out *copied) error {
	if c.need == nothing {
		return nil
	}
	err := c.retrieve((*providerContext)(c.ctx))
	if err != nil {
		return err
	}
	keys := c.keys
	out.values[0] = keys.ApplicationKey
	if c.need == applicationKey {
		out.Header["X-Ovh-Application"] = out.values[0:1:1]
		return nil
	}
	if c.bearer = keys.AccessToken != ""; !c.bearer || c.mended || c.invalidator() != nil {
		if err := c.openBody(&out.Request); err != nil {
			return err
		}
	}
	if c.bearer {
		out.values[0] = "Bearer " + keys.AccessToken
		out.Header["Authorization"] = out.values[0:1:1]
		return nil
	}
	out.values[1] = keys.ConsumerKey
	if out.values[2], out.values[3], err = c.sign(out.Body); err != nil {
		return err
	}
	out.Header["X-Ovh-Application"] = out.values[0:1:1]
	out.Header["X-Ovh-Consumer"] = out.values[1:2:2]
	out.Header["X-Ovh-Timestamp"] = out.values[2:3:3]
	out.Header["X-Ovh-Signature"] = out.values[3:4:4]
	return nil
}

// retrieve asks for credentials, and looks them through unless they are the last ones.
func (c *call) retrieve(ctx context.Context) error {
	keys := c.checked.Load()
	if c.constant && keys != nil && c.need == everything {
		c.keys = keys
		return nil
	}
	given, err := c.credentials.Retrieve(ctx)
	if err != nil {
		if _, ours := err.(*permanentError); ours {
			return err
		}
		return permanentErrorf("credentials: %w", err)
	}
	if c.bearer && given == c.keys.given {
		return permanentErrorf("the access token that the API refused is the only one there is")
	}
	if keys == nil || keys.given != given || c.need != everything {
		fit, err := given.usable(ctx, c.need, c.credentials)
		if err != nil {
			return err
		}
		keys = &checked{given, fit}
		if c.need == everything {
			c.checked.Store(keys)
		}
	}
	c.keys = keys
	return nil
}

// sign returns the timestamp and the signature. It takes the time last, so that a slow body does not age the signature.
func (c *call) sign(sent io.Reader) (timestamp, signature string, err error) {
	if fips140.Enforced() {
		return "", "", &permanentError{ErrFIPS}
	}
	var text []byte
	if c.reopen == nil {
		var memory [256]byte // on the stack, and enough for most
		text = c.appendHead(memory[:0])
	} else {
		var memory [maxShort + 256]byte
		head := c.appendHead(memory[:0])
		var short bool
		if text, short = appendShort(head, sent); !short {
			return c.signStream(head)
		}
	}
	if err := c.readClock(); err != nil {
		return "", "", err
	}
	timestamp, signature = finish(text, c.signedAt)
	return timestamp, signature, nil
}

func (c *call) appendHead(b []byte) []byte {
	method := cmp.Or(c.req.Method, http.MethodGet)
	return appendHead(b, &c.keys.Credentials, method, c.url.Scheme, "://", c.hostHeader, c.target)
}

// signStream is sign for a body that is not short.
func (c *call) signStream(head []byte) (timestamp, signature string, err error) {
	s := newStream(c.req.Context(), head)
	defer s.free()
	body, err := c.reopen()
	if err != nil {
		closeBody(body)
	} else {
		err = s.readBody(body)
	}
	if err != nil {
		bodyFailed(s.ctx)
		return "", "", err
	}
	if err := c.readClock(); err != nil {
		return "", "", err
	}
	timestamp, signature = s.finish(c.signedAt)
	return timestamp, signature, nil
}

func (c *call) readClock() (err error) {
	if c.signedAt, c.sentAt, err = read(c.req.Context(), c.clock); err != nil {
		return permanentErrorf("clock: %w", err)
	}
	return nil
}

// mend looks into a refusal, puts right what it was about if that is the clock or the access token, and reports whether to send
// the request once more.
func (c *call) mend(resp *http.Response) bool {
	switch {
	case c.need != everything || resp.StatusCode < 400:
		return false
	case c.bearer:
		return resp.StatusCode == http.StatusUnauthorized && c.dropToken(resp)
	default:
		return c.mendClock(resp)
	}
}

// invalidator is a provider that can replace what the API refuses.
type invalidator interface{ Invalidate(Credentials) }

func (c *call) invalidator() invalidator {
	p, _ := c.credentials.(invalidator)
	return p
}

func (c *call) dropToken(resp *http.Response) bool {
	p := c.invalidator()
	if p == nil {
		return false
	}
	p.Invalidate(c.keys.given)
	c.t.log(c.req.Context(), "access token dropped: the API refused it")
	c.look(resp) // to its end, so that the connection can be used again
	return true
}

func (c *call) look(resp *http.Response) []byte {
	c.looked = true
	return peek(c.req.Context(), resp)
}

// maxSkew is how far the Date of a refusal may lie from the time of signing before the clock is taken to be wrong. The API's own
// tolerance is not documented.
const maxSkew = 30 * time.Second

func (c *call) mendClock(resp *http.Response) bool {
	clock, ok := c.clock.(corrector)
	if !ok {
		return false // trusted
	}
	took := max(time.Since(c.sentAt), time.Now().Round(0).Sub(c.sentAt.Round(0))) // suspending a laptop stops only the first
	arrived := time.Now()
	answer := newAPIError(resp, c.look(resp))
	timeOut := answer.Is(ErrQueryTimeOut)
	date, err := http.ParseTime(resp.Header.Get("Date"))
	dated := err == nil
	wrong := dated && (date.Before(c.signedAt.Add(-maxSkew)) || date.After(c.signedAt.Add(took+maxSkew)))
	switch resp.StatusCode {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
	default:
		wrong = false
	}
	if !timeOut && !wrong {
		return false
	}
	if !dated || resp.Header.Get("Age") != "" { // a cache dates its answers when it got them
		if c.t.askTime(c.req.Context(), clock) != nil {
			return false
		}
	} else if clock.Correct(date.Add(time.Since(arrived))) {
		c.t.logCorrected(c.req.Context(), clock)
	}
	// An executed POST may answer 403 too, so a Date alone does not show that it was not.
	return answer.aboutAuth() || isIdempotent(c.req.Method)
}

// corrector is what a Clock is that can be told the time.
type corrector interface{ Correct(server time.Time) bool }

// askTime corrects the clock by GET /auth/time, which all who need it at once ask together.
func (t *Transport) askTime(ctx context.Context, clock corrector) error {
	_, err := t.sync.do(ctx, func(ctx context.Context) (struct{}, error) {
		client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // another origin does not know this one's time
		}}
		moved, err := correct(ctx, client, clock)
		if moved {
			t.logCorrected(ctx, clock)
		}
		return struct{}{}, err
	})
	return err
}

func (t *Transport) logCorrected(ctx context.Context, clock corrector) {
	if c, ok := clock.(interface{ Offset() time.Duration }); ok {
		t.log(ctx, "clock corrected", slog.Duration("offset", c.Offset()))
	} else {
		t.log(ctx, "clock corrected")
	}
}

func (t *Transport) log(ctx context.Context, msg string, attrs ...slog.Attr) {
	if t.Logger != nil {
		t.Logger.LogAttrs(ctx, slog.LevelInfo, "ovhauth: "+msg, attrs...)
	}
}

// isIdempotent reports whether a request that may have been executed can be sent again.
func isIdempotent(method string) bool {
	switch method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// finish makes what Base returned an answer to the caller's request.
func (c *call) finish(resp *http.Response, err error) (*http.Response, error) {
	resp, err = settle(c.req, resp, err)
	if err != nil {
		return nil, err
	}
	if done := c.req.Context().Err(); c.looked && done != nil { // meanwhile
		closeBody(resp.Body)
		return nil, done
	}
	if c.url == c.req.URL {
		return resp, nil
	}
	if location := resp.Header.Get("Location"); location != "" {
		// http.Client resolves a redirect against the URL it knows, which has no host.
		if u, err := c.url.Parse(location); err == nil {
			resp.Header = resp.Header.Clone()
			resp.Header.Set("Location", u.String())
		}
	}
	return resp, nil
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
