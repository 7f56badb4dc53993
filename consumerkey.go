package ovhauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// AccessRule allows a consumer key one method on one path. A * in the path stands for any run of characters, slashes included;
// "/domain/zone/*" does not cover "/domain/zone" itself.
type AccessRule struct {
	Method string `json:"method"` // GET, POST, PUT or DELETE
	Path   string `json:"path"`   // relative to the endpoint: "/me"
}

// ReadOnly returns the rules that allow GET on each path and on all below it: two for "/domain/zone", and for "/" the one that
// allows everything. White space and slashes at a path's end are dropped. A blank path makes rules that [RequestConsumerKey]
// refuses, lest a setting that was forgotten opens the whole account; no path at all makes none, which it takes for GET on "/*".
func ReadOnly(paths ...string) []AccessRule {
	return rules([]string{http.MethodGet}, paths)
}

// ReadWrite is [ReadOnly] for GET, POST, PUT and DELETE.
func ReadWrite(paths ...string) []AccessRule {
	return rules([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}, paths)
}

func rules(methods, paths []string) (rules []AccessRule) {
	add := func(method, path string) {
		if r := (AccessRule{method, path}); !slices.Contains(rules, r) {
			rules = append(rules, r)
		}
	}
	for _, path := range paths {
		blank := strings.TrimSpace(path) == ""
		path = "/" + strings.Trim(strings.TrimSuffix(strings.TrimRight(path, "/ \t\r\n"), "/*"), "/ \t\r\n")
		for _, method := range methods {
			switch {
			case blank:
				add(method, "")
			case path == "/":
				add(method, "/*")
			default:
				add(method, path)
				add(method, path+"/*")
			}
		}
	}
	return rules
}

// ConsumerKeyRequest is what an application asks its user for.
type ConsumerKeyRequest struct {
	AccessRules []AccessRule // none: GET on every path
	Redirection string       // where the browser goes after validation; "": it stays
	AllowedIPs  []string     // addresses and CIDR ranges that the key may be used from; none: from everywhere
}

// PendingKey is a consumer key that its user has yet to validate, by logging in at ValidationURL. Printed, logged or marshalled,
// it shows neither the key nor the token that is the query of the URL.
type PendingKey struct {
	ConsumerKey, State, ValidationURL string
}

func (p PendingKey) mask() PendingKey {
	if p.ConsumerKey != "" {
		p.ConsumerKey = redacted
	}
	if before, _, ok := strings.Cut(p.ValidationURL, "?"); ok {
		p.ValidationURL = before + "?" + redacted
	}
	return p
}

// Format prints p without its secrets, under every verb but %p and %w, which fmt keeps to itself and go vet objects to.
func (p PendingKey) Format(f fmt.State, _ rune) {
	m := p.mask()
	fmt.Fprintf(f, "ovhauth.PendingKey{ConsumerKey:%q State:%q ValidationURL:%q}", m.ConsumerKey, m.State, m.ValidationURL)
}

// LogValue logs p without its secrets.
func (p PendingKey) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(p)) }

// MarshalJSON writes p without its secrets: what it writes cannot be used. To store the key, store its field.
func (p PendingKey) MarshalJSON() ([]byte, error) {
	type plain PendingKey // without this method
	return json.Marshal(plain(p.mask()))
}

// Credential is what the API shows of a consumer key: never the key itself. It decodes the JSON of /auth/currentCredential and of
// /me/api/credential/{credentialId}.
type Credential struct {
	ID            int64        `json:"credentialId"`
	ApplicationID int64        `json:"applicationId"`
	Status        string       `json:"status"` // validated, pendingValidation, refused or expired
	Rules         []AccessRule `json:"rules"`
	AllowedIPs    []string     `json:"allowedIPs"` // nil: from everywhere
	Creation      time.Time    `json:"creation"`
	Expiration    *time.Time   `json:"expiration"` // nil: never
	LastUse       *time.Time   `json:"lastUse"`    // nil: not yet
}

// RequestConsumerKey asks for a consumer key (POST /auth/credential). The user then validates it at the answer's ValidationURL,
// and chooses there how long it lives; [AwaitValidation] waits for that. The client must use a [Transport] that has an
// application key; it needs no secret and no consumer key, and an answer other than 2xx is an [*APIError]. To use the new key,
// give it to another Transport, or to this one by a [CredentialFunc].
func RequestConsumerKey(ctx context.Context, client *http.Client, r ConsumerKeyRequest) (*PendingKey, error) {
	in := struct {
		AccessRules []AccessRule `json:"accessRules"`
		Redirection string       `json:"redirection,omitempty"`
		AllowedIPs  []string     `json:"allowedIPs,omitempty"`
	}{r.AccessRules, r.Redirection, r.AllowedIPs}
	if len(in.AccessRules) == 0 {
		in.AccessRules = ReadOnly("/")
	}
	for _, rule := range in.AccessRules {
		if rule.Method == "" || !strings.HasPrefix(rule.Path, "/") {
			return nil, permanentErrorf("access rule %q %q: it takes a method, and a path that begins with a slash", rule.Method, rule.Path)
		}
	}
	var key PendingKey
	if err := ask(ctx, client, http.MethodPost, "/auth/credential", in, &key); err != nil {
		return nil, err
	}
	if key.ConsumerKey == "" || key.ValidationURL == "" {
		return nil, errors.New("ovhauth: the answer to POST /auth/credential lacks consumerKey or validationUrl")
	}
	return &key, nil
}

// AwaitValidation asks for the [CurrentCredential] of client, at once and then at the given interval (0 or less: 5 s), until its
// key is validated, and returns nil then: client must sign with the new key, not with one that is valid already. If ctx ends
// first, it returns ctx.Err().
//
// While a key is pending the API answers [ErrInvalidCredential], and so it does for one that was refused or has expired: it
// cannot always be told that waiting is in vain, so bound ctx. A status that says so ends the wait with an error that matches
// ErrInvalidCredential; any other error, such as [ErrUnknownCredential] for a revoked key, is returned at once.
func AwaitValidation(ctx context.Context, client *http.Client, every time.Duration) error {
	if every <= 0 {
		every = 5 * time.Second
	}
	for {
		c, err := CurrentCredential(ctx, client)
		switch {
		case err == nil && c.Status == "validated":
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && !errors.Is(err, ErrInvalidCredential):
			return err
		case err == nil && c.Status != "pendingValidation":
			return fmt.Errorf("%w: its status is %q; ask for another", ErrInvalidCredential, c.Status)
		}
		if !sleep(ctx, every) {
			return ctx.Err()
		}
	}
}

// CurrentCredential describes the consumer key that client signs with (GET /auth/currentCredential, which every key may call once
// it is validated). The client must use a [Transport]; an answer other than 2xx is an [*APIError]. OAuth2 access tokens have no
// credential of this sort.
func CurrentCredential(ctx context.Context, client *http.Client) (*Credential, error) {
	var c Credential
	if err := ask(ctx, client, http.MethodGet, "/auth/currentCredential", nil, &c); err != nil {
		return nil, err
	}
	return &c, nil
}

// Logout ends the life of the consumer key that client signs with (POST /auth/logout): nothing signed with it is accepted any
// more. The client must use a [Transport]; an answer other than 2xx is an [*APIError].
func Logout(ctx context.Context, client *http.Client) error {
	return ask(ctx, client, http.MethodPost, "/auth/logout", nil, nil)
}

// maxAnswer is more than any of the answers that ask decodes.
const maxAnswer = 1 << 20

// ask asks the API one thing through client, and decodes the answer into out, unless out is nil.
func ask(ctx context.Context, client *http.Client, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json;charset=utf-8")
	}
	resp, err := client.Do(req)
	if err != nil {
		return askError(method, path, err)
	}
	if err := CheckResponse(resp); err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && out != nil {
		err = json.Unmarshal(answer, out)
	}
	if err != nil {
		return fmt.Errorf("ovhauth: reading the answer to %s %s: %w", method, path, err)
	}
	return nil
}

func askError(method, path string, err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // it says method and path already
	}
	if _, ok := errors.AsType[*permanentError](err); ok {
		return err
	}
	if isUnroutable(err) {
		return fmt.Errorf("ovhauth: %s %s: client must use an ovhauth.Transport, which knows the endpoint", method, path)
	}
	return fmt.Errorf("ovhauth: %s %s: %w", method, path, err)
}

// isUnroutable reports whether net/http was given a URL without a scheme, which only a Transport can make sense of.
func isUnroutable(err error) bool {
	return strings.Contains(err.Error(), `unsupported protocol scheme ""`)
}
