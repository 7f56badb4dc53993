package ovhauth

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"weak"
)

// Why the API rejects a request: targets for [errors.Is] on an [*APIError].
var (
	ErrInvalidSignature  = errors.New("ovhauth: invalid signature")            // 400 INVALID_SIGNATURE
	ErrQueryTimeOut      = errors.New("ovhauth: request signed at wrong time") // 400 QUERY_TIME_OUT
	ErrInvalidKey        = errors.New("ovhauth: unknown application key")      // 403 INVALID_KEY
	ErrUnknownCredential = errors.New("ovhauth: unknown consumer key")         // 403 NOT_CREDENTIAL
	ErrInvalidCredential = errors.New("ovhauth: consumer key not valid")       // 403 INVALID_CREDENTIAL: pending, refused or expired
	ErrNotGranted        = errors.New("ovhauth: call not granted")             // 403 NOT_GRANTED_CALL: access rules or IAM policies
)

// Why this package rejects a request itself, before anything is sent: targets for [errors.Is] on an error of [Transport].
var (
	ErrMissingCredentials = errors.New("ovhauth: missing credentials")
	ErrBodyTooLarge       = errors.New("ovhauth: request body without GetBody is larger than 32 MiB; set GetBody, so that it can be signed without keeping it in memory")
	ErrPlainHTTP          = errors.New("ovhauth: plain http would show the keys to the network; use https")
	ErrFIPS               = errors.New("ovhauth: GODEBUG=fips140=only forbids SHA-1, which the API's signature is made of; use an OAuth2 service account or an access token")
)

// APIError is a response of the API other than 2xx, as [CheckResponse] reads it. What looks like a key, a signature or a token is
// cut out of its texts: a page may show the request that it rejects.
type APIError struct {
	Method, Path string // of the request, as the caller wrote its URL, without the query

	StatusCode int               // of the response, whatever its body claims
	Code       string            // "errorCode" of the API's older dialect ("NOT_GRANTED_CALL"), or "error" of an OAuth2 endpoint
	Class      string            // "class" of the newer dialect: "Client::Forbidden"
	Message    string            // the API's own words; of a response that is not JSON, its text
	Details    map[string]string // "details" of the newer dialect; a value that is not a string is kept as JSON
	QueryID    string            // X-Ovh-Queryid: what OVHcloud's support asks for
	RetryAfter time.Duration     // what Retry-After asks for, in seconds or as a date; 0 for nothing

	isText   bool   // the response was not JSON: its words are nobody's message
	unsigned string // why the request was not signed, if that is not what its caller has asked for
}

type meaning struct {
	target        error
	code, message string
	plain         string // {call} stands for the method and path
}

// meanings pairs each target with the code and the messages that the API gives it, and with what they mean for the caller.
var meanings = []meaning{
	{ErrInvalidSignature, "INVALID_SIGNATURE", "Invalid signature",
		"the application secret or the consumer key is not the one that belongs to this application key, or the API could not make " +
			"sense of the body, such as a list where it expects a number"},
	{ErrQueryTimeOut, "QUERY_TIME_OUT", "Query out of time",
		"it was signed at a time too far from the server's; check this machine's clock"},
	{ErrInvalidKey, "INVALID_KEY", "This application key is invalid",
		"this endpoint does not know the application key; a key belongs to one endpoint"},
	{ErrInvalidKey, "", "Invalid application key",
		"this endpoint does not know the application key; a key belongs to one endpoint"},
	{ErrUnknownCredential, "NOT_CREDENTIAL", "This credential does not exist",
		"this endpoint does not know the consumer key, or it belongs to another application; ask for a new one"},
	{ErrInvalidCredential, "INVALID_CREDENTIAL", "This credential is not valid",
		"the consumer key is not validated yet, was refused or has expired"},
	{ErrNotGranted, "NOT_GRANTED_CALL", "This call has not been granted",
		"the consumer key's access rules do not allow {call}"},
	{ErrNotGranted, "", "User not granted for this request",
		"no IAM policy of the account allows {call} to these credentials"},
	{nil, "", "You must login first",
		"it carried no credentials, or a token that is not valid any more"},
	{nil, "MISSING_CREDENTIAL", "",
		"it carried no credentials, or a consumer key that is not validated yet"},
	{nil, "", "You must send your application key to request new credentials",
		"the Transport's credentials lack an application key"},
	{nil, "", "Got an invalid (or empty) URL",
		"there is no such path at this endpoint"},
}

// Error says in one line what was asked, what the API replied, what that can mean, and the query ID.
func (e *APIError) Error() string {
	call := cmp.Or(strings.TrimSpace(e.Method+" "+e.Path), "the request")
	parts := []string{"ovhauth: " + call, strings.TrimSpace(fmt.Sprint(e.StatusCode, " ", http.StatusText(e.StatusCode))), e.Code, e.Class, e.Message}
	parts = append(parts, e.meaning(call))
	for _, name := range slices.Sorted(maps.Keys(e.Details)) {
		if e.Details[name] != "" {
			parts = append(parts, name+" "+e.Details[name])
		}
	}
	parts = slices.DeleteFunc(parts, func(s string) bool { return s == "" })
	s := oneLine(strings.Join(parts, ": "))
	if e.QueryID != "" {
		s += " (query ID " + oneLine(e.QueryID) + ")"
	}
	return s
}

// meaning says in plain words what the response can mean, "" if that is not known.
func (e *APIError) meaning(call string) string {
	if e.unsigned != "" {
		return e.unsigned
	}
	for _, m := range meanings {
		if m.matches(e) {
			return strings.ReplaceAll(m.plain, "{call}", call)
		}
	}
	return ""
}

// Is reports whether the response means target, by its code or by its message: not every dialect has the code.
func (e *APIError) Is(target error) bool {
	return slices.ContainsFunc(meanings, func(m meaning) bool { return target == m.target && m.matches(e) })
}

// aboutKeys reports whether the rejection may be due to keys that were replaced meanwhile.
func (e *APIError) aboutKeys() bool {
	return e.Is(ErrInvalidKey) || e.Is(ErrUnknownCredential) || e.Is(ErrInvalidCredential) || e.Is(ErrInvalidSignature)
}

// aboutAuth reports whether the response rejects the caller rather than the call: nothing was executed.
func (e *APIError) aboutAuth() bool {
	return slices.ContainsFunc(meanings, func(m meaning) bool { return m.target != nil && m.matches(e) })
}

func (m *meaning) matches(e *APIError) bool {
	return m.code != "" && e.Code == m.code ||
		m.message != "" && !e.isText && strings.EqualFold(strings.TrimSpace(e.Message), m.message)
}

// CheckResponse returns nil for a 2xx response and does not touch it. For any other it returns an [*APIError], made of the header
// and the first 16 KiB of the body, and closes the body.
func CheckResponse(resp *http.Response) error {
	if resp.StatusCode/100 == 2 {
		return nil
	}
	var body []byte
	if resp.Body != nil {
		defer resp.Body.Close()
		// What came before a connection broke is still the best account of what went wrong.
		body, _ = io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	}
	return newAPIError(resp, body)
}

func newAPIError(resp *http.Response, body []byte) *APIError {
	e := &APIError{StatusCode: resp.StatusCode, QueryID: withoutKeys(resp.Header.Get("X-Ovh-Queryid")), RetryAfter: max(0, retryAfter(resp))}
	if req := resp.Request; req != nil {
		e.Method = cmp.Or(req.Method, http.MethodGet)
		if req.URL != nil {
			e.Path = req.URL.EscapedPath() // the query may hold what is nobody else's business
		}
	}
	if n := noteOf(resp); n != nil {
		e.unsigned = n.unsigned
	}
	clean := withoutKeys
	if keyName.Match(body) {
		clean = withoutLongWords
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		e.isText = true
		e.Message = oneLine(clean(tag.ReplaceAllString(clean(string(body)), " ")))
		return e
	}
	e.Code = cmp.Or(text(fields["errorCode"], clean), text(fields["error"], clean))
	e.Class = text(fields["class"], clean)
	e.Message = cmp.Or(text(fields["message"], clean), text(fields["error_description"], clean))
	var details map[string]json.RawMessage
	if json.Unmarshal(fields["details"], &details) == nil && len(details) > 0 {
		e.Details = make(map[string]string, len(details))
		for name, value := range details {
			e.Details[clean(name)] = detail(name, value, clean)
		}
	}
	return e
}

// detail is a text of which the name may say that it is a key.
func detail(name string, value json.RawMessage, clean func(string) string) string {
	s := text(value, clean)
	if pair := name + ": " + s; withoutKeys(pair) != pair {
		return redacted
	}
	return s
}

// text returns a JSON string's value, nothing for null, and any other JSON as it is written; without keys.
func text(raw json.RawMessage, clean func(string) string) (s string) {
	if json.Unmarshal(raw, &s) != nil {
		s = string(raw)
	}
	return clean(s)
}

var tag = regexp.MustCompile(`<[^>]*>`)

// What a page may show of a request: a signature, also with its dollars escaped; a bearer token, or one that tells by its form that
// it is a JWT; and the value that follows the name of a header or field that holds a key, in whatever notation.
var (
	signatureText = regexp.MustCompile(`(?i)` + dollars + `1` + dollars + `(?:<[^>]*>|\s)*[0-9a-f]{8,}`)
	tokenText     = regexp.MustCompile(`(?i)\b(bearer(?:` + between + `|[\s+]|%20)+)[^\s"'<>&,;\\]+|\beyJ[\w-]+\.[\w-]+\.[\w-]*`)
	headerText    = regexp.MustCompile(`(?i)(x[-_]ovh[-_](?:application|consumer|timestamp|signature)(?:` + between + `|\s)+)` + value)
	fieldText     = regexp.MustCompile(`(?i)(\b(?:authorization|(?:application|consumer)[-_]?key|(?:application|client)[-_]?secret|(?:access|refresh|id)[-_]?token)` +
		`\s*(?:` + between + `)(?:` + between + `|\s)*(?:(?:basic|bearer|mac)\s+)?)` + value)
)

const (
	// between is what stands between a name and its value, also where a language prints a list or a map. The longer forms come first.
	between = `<[^>]*>|&(?:quot|nbsp|gt|#0*(?:3[249]|58|6[12])|#x0*(?:2[027]|3[ade]));|%3a|%3d|['"]value['"]|['"],|[bu]['"]|` +
		`(?:string|array)\(\d+\)|string\{|\[\d+\]|[:=>|'"\[\]({\\]`
	value   = `[^\s"'<>&,;\])}\\]+`
	dollars = `(?:\\*(?:\$|%(?:25)?24|&#0*36;|&#x0*24;|&dollar;|[ux](?:00)?24))+`
)

// A page that names a key may show it in a notation of its own, even in front of the name. So it loses all long words with a digit. Keys
// have 16 letters and digits or more; the parts of a UUID have fewer than 13.
var (
	keyName = regexp.MustCompile(`(?is)x.{1,14}ovh.{1,20}(?:application|consumer|signature)|(?:application|consumer).{0,6}key|` +
		`(?:application|client).{0,6}secret|(?:access|refresh|id).{0,6}token`)
	longWord = regexp.MustCompile(`[0-9A-Za-z]{13,}`)
)

func withoutLongWords(s string) string {
	return longWord.ReplaceAllStringFunc(withoutKeys(s), func(word string) string {
		if strings.ContainsAny(word, "0123456789") {
			return redacted
		}
		return word
	})
}

// withoutKeys cuts what looks like a key, a signature or a token out of s.
func withoutKeys(s string) string {
	s = signatureText.ReplaceAllString(s, redacted)
	s = tokenText.ReplaceAllString(s, "${1}"+redacted)
	s = headerText.ReplaceAllString(s, "${1}"+redacted)
	return fieldText.ReplaceAllString(s, "${1}"+redacted)
}

// oneLine puts s on one line, without what could steer a terminal, and cuts what would fill a screen.
func oneLine(s string) string {
	const most = 1000
	unprintable := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), unprintable), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// permanentError is an error that sending the request again cannot help: RetryTransport and CheckRetry return it at once.
type permanentError struct{ err error }

// Error has the package's name once, in front, also where an error of this package is wrapped in another.
func (e *permanentError) Error() string {
	return prefix + strings.ReplaceAll(e.err.Error(), prefix, "")
}

const prefix = "ovhauth: "

func (e *permanentError) Unwrap() error { return e.err }

// Timeout lets [url.Error] and os.IsTimeout see that a deadline is behind it.
func (e *permanentError) Timeout() bool { return errors.Is(e.err, context.DeadlineExceeded) }

func permanentErrorf(format string, args ...any) error {
	return &permanentError{fmt.Errorf(format, args...)}
}

// peek returns the start of an error response's body, up to maxErrorBody and what comes within patience, and puts it back: the response
// can be read from its start, as if nobody had looked. It reports whether that is the whole body.
func peek(ctx context.Context, resp *http.Response, patience time.Duration) (head []byte, whole bool) {
	if resp.Body == nil {
		return nil, true
	}
	if p, ok := resp.Body.(*peekedBody); ok && p.isUnread() { // the transport below has waited long enough for both
		return p.known()
	}
	p := &peekedBody{source: resp.Body, stopped: make(chan struct{})}
	resp.Body = p
	go p.look()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.stopped:
	case <-timer.C:
	case <-ctx.Done():
	}
	return p.known()
}

const (
	// maxErrorBody is how much of an error response is read to understand it. The API's own are shorter than 1 KiB.
	maxErrorBody = 16 << 10

	// peekTime is how long a response whose body stalls is waited for. It has arrived, and its status is worth more than its text.
	peekTime = time.Second

	closeTime = 100 * time.Millisecond
)

// peekedBody is a body of which the start is read by look, in a goroutine that ends when the body is closed, or before.
type peekedBody struct {
	source  io.ReadCloser
	stopped chan struct{} // closed when look has ended

	mu     sync.Mutex // guards what follows
	head   []byte     // what look has read
	err    error      // that ended it
	enough bool       // look is to read no more
	given  int        // how much of head Read has given out
}

// known returns what look has read, and whether that is all. It lets look read no more.
func (p *peekedBody) known() (head []byte, whole bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.enough = true
	return p.head, p.err == io.EOF
}

func (p *peekedBody) isUnread() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.given == 0
}

func (p *peekedBody) look() {
	defer close(p.stopped)
	buf := make([]byte, maxErrorBody)
	for more := true; more; {
		n, err := p.source.Read(buf[len(p.head):])
		p.mu.Lock()
		p.head, p.err = buf[:len(p.head)+n], err
		more = err == nil && !p.enough && len(p.head) < len(buf)
		p.mu.Unlock()
	}
}

func (p *peekedBody) Read(b []byte) (int, error) {
	if n := p.give(b); n > 0 || len(b) == 0 {
		return n, nil
	}
	<-p.stopped // a Read of look's may be under way
	if n := p.give(b); n > 0 {
		return n, nil
	}
	if p.err != nil {
		return 0, p.err
	}
	return p.source.Read(b)
}

// give copies what is known already.
func (p *peekedBody) give(b []byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := copy(b, p.head[p.given:])
	p.given += n
	return n
}

// Close does not wait long for a Close that waits for look: net/http's gzip reader cannot be closed before its first bytes have come.
// Both end with the request's context then.
func (p *peekedBody) Close() error {
	select {
	case <-p.stopped:
		return p.source.Close()
	default:
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return untilDone(ctx, func() {}, p.source.Close)
}

// note is what a Transport knows about the response to a request, and the request does not show.
type note struct {
	url      *url.URL // what was asked for, absolute; of a redirect
	unsigned string   // why it was not signed, of a 401 to a request that was not for the endpoint
}

// notes are kept by the caller's request, as that is what remains when a redirect is followed: resp.Request must stay the caller's
// own, and its context is not ours to change.
var notes sync.Map // of *note, by weak.Pointer[http.Request]

// keepFor keeps n as long as there is a req.
func (n note) keepFor(req *http.Request) {
	key := weak.Make(req)
	if _, kept := notes.Swap(key, &n); !kept {
		runtime.AddCleanup(req, func(key weak.Pointer[http.Request]) { notes.Delete(key) }, key)
	}
}

// noteOf returns the note of a redirect or a 401, nil for none.
func noteOf(resp *http.Response) *note {
	if resp.Request == nil || resp.StatusCode/100 != 3 && resp.StatusCode != http.StatusUnauthorized {
		return nil
	}
	n, _ := notes.Load(weak.Make(resp.Request))
	kept, _ := n.(*note)
	return kept
}
