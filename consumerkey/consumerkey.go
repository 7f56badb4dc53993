// Package consumerkey covers the life of a consumer key, the part of the credentials that says in whose name an application calls the
// OVHcloud API. [Request] asks for one, its user validates it in a browser, [Await] waits for that, [Current] describes it, and
// [Logout] ends it.
//
// The clients are plain http.Clients that an [ovhauth.Transport] signs for. A response other than 2xx is an [*ovhauth.APIError];
// any other error begins with "consumerkey: ". Every function is safe for concurrent use. OAuth2 service accounts and access
// tokens have no consumer key.
package consumerkey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhjson"
)

// Rule allows a consumer key one method on one path. A * in the path stands for any run of characters, slashes included:
// "/domain/zone/*" covers all below "/domain/zone", but not "/domain/zone" itself.
type Rule struct {
	Method string `json:"method"` // GET, POST, PUT or DELETE
	Path   string `json:"path"`   // relative to the endpoint: "/me"
}

// ReadOnly returns the rules that allow GET on each path and on all below it: two for "/domain/zone", and for "/" the one that
// allows everything. White space and slashes at the end of a path do not count.
//
// A blank path gives a rule that [Request] rejects, so that a setting which was forgotten does not open the whole account. No
// path gives no rules, which Request takes for GET on "/*".
func ReadOnly(paths ...string) []Rule {
	return rules([]string{http.MethodGet}, paths)
}

// ReadWrite is [ReadOnly] for GET, POST, PUT and DELETE.
func ReadWrite(paths ...string) []Rule {
	return rules([]string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}, paths)
}

func rules(methods, paths []string) (rules []Rule) {
	add := func(method, path string) {
		if r := (Rule{method, path}); !slices.Contains(rules, r) {
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

// Options are what an application asks its user for.
type Options struct {
	Rules       []Rule   // none: GET on every path
	Redirection string   // where the browser goes after validation; "": it stays
	AllowedIPs  []string // addresses and CIDR ranges that the key may be used from; none: from everywhere
}

// Pending is a consumer key that its user has yet to validate, by logging in at ValidationURL. Printed, logged or marshaled it
// shows neither the key nor the token in the URL's query. To store or show one of them, use its field.
type Pending struct {
	ConsumerKey, State, ValidationURL string
}

const redacted = "[redacted]"

func (p Pending) redact() Pending {
	if p.ConsumerKey != "" {
		p.ConsumerKey = redacted
	}
	if before, _, ok := strings.Cut(p.ValidationURL, "?"); ok {
		p.ValidationURL = before + "?" + redacted
	}
	return p
}

// String returns p without its secrets.
func (p Pending) String() string {
	r := p.redact()
	return fmt.Sprintf("consumerkey.Pending{ConsumerKey:%q State:%q ValidationURL:%q}", r.ConsumerKey, r.State, r.ValidationURL)
}

// Format prints p without its secrets, under every verb but %p and %w, which fmt keeps to itself and go vet reports.
func (p Pending) Format(f fmt.State, _ rune) { io.WriteString(f, p.String()) }

// LogValue logs p without its secrets.
func (p Pending) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalText writes p without its secrets: what it writes cannot be read back.
func (p Pending) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// MarshalJSON writes p without its secrets: what it writes cannot be used.
func (p Pending) MarshalJSON() ([]byte, error) {
	type plain Pending // without this method
	return json.Marshal(plain(p.redact()))
}

// Info is what the API shows of a consumer key: never the key itself. It decodes the JSON of /auth/currentCredential and of
// /me/api/credential/{credentialId}.
type Info struct {
	ID            int64      `json:"credentialId"`
	ApplicationID int64      `json:"applicationId"`
	Status        string     `json:"status"` // validated, pendingValidation, refused or expired
	Rules         []Rule     `json:"rules"`
	AllowedIPs    []string   `json:"allowedIPs"` // nil: from everywhere
	Creation      time.Time  `json:"creation"`
	Expiration    *time.Time `json:"expiration"` // nil: never
	LastUse       *time.Time `json:"lastUse"`    // nil: not yet
}

// Request asks for a consumer key (POST /auth/credential). The user then validates it at ValidationURL, and chooses there how long
// it lives; [Await] waits for that. The credentials of client need an application key only. To use the new key, give it to another
// [ovhauth.Transport], or to this one by an [ovhauth.CredentialFunc].
func Request(ctx context.Context, client *http.Client, o Options) (*Pending, error) {
	in := struct {
		Rules       []Rule   `json:"accessRules"`
		Redirection string   `json:"redirection,omitempty"`
		AllowedIPs  []string `json:"allowedIPs,omitempty"`
	}{o.Rules, o.Redirection, o.AllowedIPs}
	if len(in.Rules) == 0 {
		in.Rules = ReadOnly("/")
	}
	for _, rule := range in.Rules {
		if rule.Method == "" || !strings.HasPrefix(rule.Path, "/") {
			return nil, fmt.Errorf("consumerkey: the rule %q %q needs a method, and a path that begins with a slash", rule.Method, rule.Path)
		}
	}
	key, err := ask[Pending](ctx, client, http.MethodPost, "/auth/credential", in)
	if err != nil {
		return nil, err
	}
	if key.ConsumerKey == "" || key.ValidationURL == "" {
		return nil, errors.New("consumerkey: the response to POST /auth/credential lacks consumerKey or validationUrl")
	}
	return &key, nil
}

// Await asks for the [Current] key of client, at once and then at the given interval (0 or less: 5 s), until it is validated, and
// then returns nil. client must sign with the new key, not with one that is valid already. If ctx ends first, the error matches
// ctx.Err().
//
// The API rejects a pending key as [ovhauth.ErrInvalidCredential]; 401 and the code MISSING_CREDENTIAL have been seen as well.
// None of them ends the wait. The API responds likewise for a key that the user refused or that has expired, so ctx needs a
// deadline. A status that says so ends the wait with an error that matches ErrInvalidCredential. Any other error ends the wait, such as
// [ovhauth.ErrUnknownCredential] for a revoked key.
func Await(ctx context.Context, client *http.Client, every time.Duration) error {
	if every <= 0 {
		every = 5 * time.Second
	}
	for {
		key, err := Current(ctx, client)
		switch {
		case err == nil && key.Status == "validated":
			return nil
		case ctx.Err() != nil:
			return notYet(ctx)
		case err != nil && !isPending(err):
			return err
		case err == nil && key.Status != "pendingValidation":
			return fmt.Errorf("consumerkey: the key's status is %q; ask for another key: %w", key.Status, ovhauth.ErrInvalidCredential)
		}
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return notYet(ctx)
		}
	}
}

func isPending(err error) bool {
	api, ok := errors.AsType[*ovhauth.APIError](err)
	return ok && (errors.Is(api, ovhauth.ErrInvalidCredential) || api.Code == "MISSING_CREDENTIAL" || api.StatusCode == http.StatusUnauthorized)
}

func notYet(ctx context.Context) error {
	return fmt.Errorf("consumerkey: the key is not validated yet: %w", ctx.Err())
}

// Current describes the consumer key that client signs with (GET /auth/currentCredential, which every validated key may call).
func Current(ctx context.Context, client *http.Client) (*Info, error) {
	info, err := ask[Info](ctx, client, http.MethodGet, "/auth/currentCredential", nil)
	if err != nil {
		return nil, err
	}
	if info.Status == "" {
		return nil, errors.New("consumerkey: the response to GET /auth/currentCredential lacks status")
	}
	return &info, nil
}

// Logout ends the life of the consumer key that client signs with (POST /auth/logout): the API rejects it from then on.
func Logout(ctx context.Context, client *http.Client) error {
	_, err := ask[any](ctx, client, http.MethodPost, "/auth/logout", nil)
	return err
}

// maxBody is in bytes, and more than any response that ask decodes.
const maxBody = 1 << 20

// ask is a call of ovhjson whose response is short.
func ask[T any](ctx context.Context, client *http.Client, method, path string, body any) (T, error) {
	req, err := ovhjson.NewRequest(ctx, method, path, body)
	if err != nil {
		var none T
		return none, &failure{err}
	}
	resp, err := client.Do(req)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxBody), resp.Body}
	}
	value, err := ovhjson.Decode[T](resp, err)
	if _, ok := err.(*ovhauth.APIError); err != nil && !ok {
		err = &failure{err}
	}
	return value, err
}

// failure gives an error of ovhjson the name of this package.
type failure struct{ err error }

func (f *failure) Error() string {
	return "consumerkey: " + strings.TrimPrefix(f.err.Error(), "ovhjson: ")
}
func (f *failure) Unwrap() error { return f.err }
