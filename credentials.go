package ovhauth

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// Credentials are what the API knows a caller by: three keys that sign each request, or an OAuth2 access token that goes out as
// "Authorization: Bearer". With an AccessToken, the keys are not used, but for the ApplicationKey when a consumer key is asked for.
//
// Printed, logged or marshalled to JSON, Credentials show which fields are set, and no value. Go's fmt consults no type inside an
// unexported field, nor under %p and a misplaced %w (which go vet reports): there, nothing can hide them.
type Credentials struct {
	ApplicationKey, ApplicationSecret, ConsumerKey string

	AccessToken string
	Expires     time.Time `json:",omitzero"` // of AccessToken; zero means unknown
}

// Retrieve returns c: a literal is its own [CredentialProvider]. The error is always nil.
func (c Credentials) Retrieve(context.Context) (Credentials, error) { return c, nil }

// CredentialProvider gives a [Transport] the credentials for each request that needs any. It must be safe for concurrent use
// and is asked every time, so it should keep what is costly to get. An error ends the request before it is sent.
//
// The provider returns an incomplete set as it is: which keys a request needs, the Transport knows. A provider that also has a
// method Invalidate(Credentials) is told when the API refuses an access token that it gave, and is then asked once more.
type CredentialProvider interface {
	Retrieve(context.Context) (Credentials, error)
}

// CredentialFunc is a [CredentialProvider] made of a function.
type CredentialFunc func(context.Context) (Credentials, error)

// Retrieve calls f.
func (f CredentialFunc) Retrieve(ctx context.Context) (Credentials, error) { return f(ctx) }

// DefaultCredentials finds credentials for e in the environment and in ovh.conf. "" means the endpoint that a [Transport] without
// one takes: that of OVH_ENDPOINT, else of ovh.conf, else [EU].
//
// There are three kinds: the keys OVH_APPLICATION_KEY, OVH_APPLICATION_SECRET and OVH_CONSUMER_KEY; a service account's
// OVH_CLIENT_ID and OVH_CLIENT_SECRET; or OVH_ACCESS_TOKEN. The highest place that names any of them decides the kind, and what
// it lacks of that kind comes from the places below. Two kinds in one place are an error. An empty value counts as none.
//
//   - The environment, unless OVH_ENDPOINT names another endpoint than e. If it has all of a kind, no file is opened for more.
//   - ./ovh.conf, then .ovh.conf in the user's home directory, then /etc/ovh.conf; any may be absent. In each, the section
//     [ovh-eu], named like the endpoint, then one named by its URL. The keys are the variables in lower case without OVH_.
//     Values are taken literally: quotes are kept, and # or ; begins a comment only at the start of a line.
//   - Instead of these sections, [profile:NAME], if OVH_PROFILE, or else profile in [default], says so, unless its endpoint is
//     another than e. This is the format of the OVHcloud CLI.
//
// All are read at the first request. A complete set is kept, unless the API refuses it as an access token; a failure is not,
// nor a set with something missing.
func DefaultCredentials(e Endpoint) CredentialProvider {
	return &lookup{endpoint: e, env: true, files: true}
}

// EnvCredentials reads the variables of [DefaultCredentials] and no file. A service account is taken for one of OVH_ENDPOINT, or
// else of [EU].
func EnvCredentials() CredentialProvider {
	return &lookup{env: true}
}

// FileCredentials reads credentials for e from files of the format that [DefaultCredentials] describes. Of several paths a later
// one takes precedence; each must exist, and may begin with ~/ for the user's home directory. Without a path it reads the three
// default files, any of which may be absent. Of the environment it heeds OVH_PROFILE, and OVH_ENDPOINT if e is "".
func FileCredentials(e Endpoint, paths ...string) CredentialProvider {
	return &lookup{endpoint: e, files: true, paths: slices.Clone(paths)}
}

// kinds are the ways to authenticate, each by the keys of ovh.conf that it takes.
var kinds = [][]string{
	{"application_key", "application_secret", "consumer_key"},
	{"client_id", "client_secret"},
	{"access_token"},
}

// variable is the environment's name for a key of ovh.conf.
func variable(key string) string { return "OVH_" + strings.ToUpper(key) }

// source is one place that may hold credentials.
type source struct {
	name   string
	values map[string]string       // by key of ovh.conf; an empty one is none
	label  func(key string) string // the source's own name for a key
}

func environment() source {
	values := map[string]string{}
	for _, key := range slices.Concat(kinds...) {
		values[key] = strings.TrimSpace(os.Getenv(variable(key)))
	}
	return source{"the environment", values, variable}
}

func asWritten(key string) string { return key }

// kind returns the one of kinds that s has a key of, if any.
func (s source) kind() (kind []string, err error) {
	var named []string
	for _, k := range kinds {
		if i := slices.IndexFunc(k, func(key string) bool { return s.values[key] != "" }); i >= 0 {
			named = append(named, s.label(k[i]))
			kind = k
		}
	}
	if len(named) > 1 {
		return nil, permanentErrorf("%s has credentials of more than one kind: %s; leave one", s.name, strings.Join(named, ", "))
	}
	return kind, nil
}

// found is what sources hold together.
type found struct {
	kind    []string // nil if they hold nothing
	values  map[string]string
	missing []string // of kind
}

func (f found) complete() bool { return f.kind != nil && f.missing == nil }

// merge takes sources from the one of highest precedence down.
func merge(sources ...source) (f found, err error) {
	f.values = map[string]string{}
	for _, s := range sources {
		if f.kind == nil {
			if f.kind, err = s.kind(); err != nil {
				return found{}, err
			}
		}
		for _, key := range f.kind {
			f.values[key] = cmp.Or(f.values[key], s.values[key])
		}
	}
	for _, key := range f.kind {
		if f.values[key] == "" {
			f.missing = append(f.missing, key)
		}
	}
	return f, nil
}

// environmentComplete reports whether nothing need be read from a file but the endpoint.
func environmentComplete() bool {
	f, err := merge(environment())
	return err == nil && f.complete()
}

// lookup is the provider that searches the environment, files, or both.
type lookup struct {
	endpoint   Endpoint
	env, files bool
	paths      []string

	kept atomic.Pointer[CredentialProvider] // Credentials or a service account
}

func (l *lookup) Retrieve(ctx context.Context) (Credentials, error) {
	for {
		if kept := l.kept.Load(); kept != nil {
			return (*kept).Retrieve(ctx)
		}
		provider, complete, err := l.find(ctx)
		if err != nil {
			return Credentials{}, err
		}
		if !complete {
			return provider.Retrieve(ctx)
		}
		l.kept.CompareAndSwap(nil, &provider) // of several first requests, all use the same
	}
}

// Invalidate tells the service account; a token that came from elsewhere is looked up again, as it may have been replaced.
func (l *lookup) Invalidate(c Credentials) {
	kept := l.kept.Load()
	if kept == nil {
		return
	}
	if p, ok := (*kept).(interface{ Invalidate(Credentials) }); ok {
		p.Invalidate(c)
	} else if *kept == CredentialProvider(c) {
		l.kept.CompareAndSwap(kept, nil)
	}
}

func (l *lookup) target(ctx context.Context) (*parsedEndpoint, error) {
	if l.endpoint == "" && !l.files {
		return findEndpoint(ctx, cmp.Or(environmentEndpoint(), EU))
	}
	return findEndpoint(ctx, l.endpoint, l.paths...)
}

// useEnv reports whether the environment's credentials are for e.
func (l *lookup) useEnv(e *parsedEndpoint) (bool, error) {
	named := environmentEndpoint()
	if !l.env || named == "" {
		return l.env, nil
	}
	other, err := parseEndpoint(named)
	return err == nil && other.same(e), err
}

func (l *lookup) find(ctx context.Context) (provider CredentialProvider, complete bool, err error) {
	e, err := l.target(ctx)
	if err != nil {
		return nil, false, err
	}
	f, err := l.read(e)
	if err != nil {
		return nil, false, err
	}
	v := f.values
	if v["client_id"] == "" && v["client_secret"] == "" {
		c := Credentials{ApplicationKey: v["application_key"], ApplicationSecret: v["application_secret"], ConsumerKey: v["consumer_key"], AccessToken: v["access_token"]}
		return c, f.complete(), nil
	}
	if f.missing != nil { // Credentials cannot hold one half of it
		return nil, false, missingError(f.missing, l.hint(ctx, f.missing))
	}
	return ServiceAccount(e.full(), v["client_id"], v["client_secret"]), true, nil
}

func (l *lookup) read(e *parsedEndpoint) (found, error) {
	var sources []source
	use, err := l.useEnv(e)
	if err != nil {
		return found{}, err
	}
	if use {
		sources = append(sources, environment())
	}
	f, err := merge(sources...)
	if err != nil || f.complete() || !l.files {
		return f, err
	}
	c, err := readConf(confPaths(l.paths))
	if err != nil {
		return found{}, err
	}
	sections, err := c.sources(e)
	if err != nil {
		return found{}, err
	}
	return merge(append(sources, sections...)...)
}

// hint says where missing keys are looked for, and where to get them.
func (l *lookup) hint(ctx context.Context, missing []string) string {
	e, err := l.target(ctx)
	if err != nil {
		return err.Error()
	}
	alternatives := [][]string{missing}
	if slices.Equal(missing, kinds[0]) {
		alternatives = kinds // nothing at all was found
	}
	list := func(label func(string) string) string {
		var sets []string
		for _, keys := range alternatives {
			var names []string
			for _, key := range keys {
				names = append(names, label(key))
			}
			sets = append(sets, strings.Join(names, " and "))
		}
		return strings.Join(sets, ", or ")
	}
	var places []string
	if use, _ := l.useEnv(e); use {
		places = append(places, list(variable)+" in the environment")
	} else if l.env {
		places = append(places, "OVH_ENDPOINT to "+e.name()+" if the environment's credentials are for it")
	}
	if l.files {
		paths, optional := confPaths(l.paths)
		c, _ := readConf(paths, optional)
		sections, _ := c.sectionNames(e)
		places = append(places, fmt.Sprintf("%s in [%s] of %s",
			list(asWritten), strings.Join(sections, "] or ["), strings.Join(paths, ", ")))
	}
	hint := "set " + strings.Join(places, ", or ")
	if _, known := endpointNames[e.name()]; known && slices.Contains(kinds[0], missing[0]) {
		hint += fmt.Sprintf("; keys are made at https://%s/createToken/", e.host)
	}
	return hint
}

// usable returns c without white space around its keys, or an error that names those that a request needs and c lacks, as
// ovh.conf names them, or that cannot stand in a header. The provider that c is from may know where to put what is missing.
func (c Credentials) usable(ctx context.Context, need need, from CredentialProvider) (Credentials, error) {
	var missing []string
	check := func(name string, value *string) error {
		*value = strings.TrimSpace(*value)
		if *value == "" {
			missing = append(missing, name)
		} else if hasControl(*value) {
			return permanentErrorf("%s has a control character inside, such as a line break; copy it again", name)
		}
		return nil
	}
	c.AccessToken = strings.TrimSpace(c.AccessToken)
	var err error
	switch {
	case need == applicationKey:
		err = check("application_key", &c.ApplicationKey)
	case c.AccessToken != "":
		err = check("access_token", &c.AccessToken)
	default:
		err = cmp.Or(check("application_key", &c.ApplicationKey),
			check("application_secret", &c.ApplicationSecret), check("consumer_key", &c.ConsumerKey))
	}
	if err == nil && missing != nil {
		hint := "set them in Transport.Credentials"
		if l, ok := from.(*lookup); ok {
			hint = l.hint(ctx, missing)
		}
		err = missingError(missing, hint)
	}
	return c, err
}

func hasControl(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f || c >= utf8.RuneSelf {
			return c < utf8.RuneSelf || strings.ContainsFunc(s[i:], unicode.IsControl)
		}
	}
	return false
}

func missingError(missing []string, hint string) error {
	verb := "is"
	if len(missing) > 1 {
		verb = "are"
	}
	return permanentErrorf("%w: %s %s missing; %s", ErrMissingCredentials, strings.Join(missing, ", "), verb, hint)
}

const redacted = "[redacted]"

// mask returns c with every value that is set replaced.
func (c Credentials) mask() Credentials {
	for _, value := range []*string{&c.ApplicationKey, &c.ApplicationSecret, &c.ConsumerKey, &c.AccessToken} {
		if *value != "" {
			*value = redacted
		}
	}
	return c
}

// Format prints which fields are set, under every verb.
func (c Credentials) Format(f fmt.State, _ rune) {
	m := c.mask()
	fmt.Fprintf(f, "ovhauth.Credentials{ApplicationKey:%q ApplicationSecret:%q ConsumerKey:%q AccessToken:%q}",
		m.ApplicationKey, m.ApplicationSecret, m.ConsumerKey, m.AccessToken)
}

// LogValue logs which fields are set.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(c)) }

// MarshalJSON writes the placeholder "[redacted]" for every field that is set: what it writes can be logged, and cannot be read
// back. To store credentials, store their fields.
func (c Credentials) MarshalJSON() ([]byte, error) {
	type plain Credentials // without this method
	return json.Marshal(plain(c.mask()))
}
