package ovhauth

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// Credentials identify the caller to the API: three keys that sign each request, or an OAuth2 access token, which goes out as
// "Authorization: Bearer". With an AccessToken the keys are not used, except for the ApplicationKey when a consumer key is
// requested.
//
// Printed, logged or marshaled as text or JSON, Credentials show which fields are set, and no value. Nothing can hide the
// values inside an unexported field of another struct, nor under %p and a misplaced %w (which go vet reports): there, fmt does not
// ask a type how to print it. A struct that embeds Credentials beside another type with the same methods inherits none of them,
// and prints the values.
type Credentials struct {
	ApplicationKey, ApplicationSecret, ConsumerKey string

	AccessToken string
	Expires     time.Time `json:",omitzero"` // of AccessToken; zero means unknown
}

// Retrieve returns c: a literal is its own [CredentialProvider]. The error is always nil.
func (c Credentials) Retrieve(context.Context) (Credentials, error) { return c, nil }

// CredentialProvider gives a [Transport] the credentials for each request that needs any. It must be safe for concurrent use.
// Retrieve is called for every request, so it should keep what is costly to get, and it must return when its context ends. An
// error ends the request before it is sent. The provider returns an incomplete set as it is: the Transport knows which keys a
// request needs.
//
// Keys rotate. A provider that also has the method
//
//	Invalidate(Credentials)
//
// is told when the API rejects what Retrieve returned. It should then forget that set, if it is still the current one, and get it
// again at the next Retrieve, which follows at once. If that returns other keys or another token (Expires does not count), the
// request is sent once more: a rejected request was not executed. Without Invalidate, new keys are used when the provider finds
// them by itself. [CredentialFunc] has none: CredentialFunc(account.Retrieve) loses that of [ServiceAccount].
//
// In the context of Retrieve, the value of [golang.org/x/oauth2.HTTPClient] is an [http.Client] that sends by the Transport's Base.
type CredentialProvider interface {
	Retrieve(context.Context) (Credentials, error)
}

// CredentialFunc is a [CredentialProvider] made of a function. It has no Invalidate, whatever the function belongs to.
type CredentialFunc func(context.Context) (Credentials, error)

// Retrieve calls f.
func (f CredentialFunc) Retrieve(ctx context.Context) (Credentials, error) { return f(ctx) }

// DefaultCredentials finds credentials for e in the environment and in ovh.conf. "" means the endpoint that a [Transport] without
// one takes: that of OVH_ENDPOINT, else of ovh.conf, else [EU].
//
// There are three kinds: the keys OVH_APPLICATION_KEY, OVH_APPLICATION_SECRET and OVH_CONSUMER_KEY; a service account's
// OVH_CLIENT_ID and OVH_CLIENT_SECRET; or OVH_ACCESS_TOKEN. The first place that has any of them decides the kind. What
// is missing there comes from the places below. Two kinds in one place are an error. An empty value counts as none.
//
//   - The environment, unless OVH_ENDPOINT names another endpoint than e. If it has all of a kind, no file is opened for more.
//   - ./ovh.conf, then .ovh.conf in the user's home directory, then /etc/ovh.conf. One that is absent or cannot be read is skipped,
//     and so is what is not a regular file of at most 1 MiB and 10,000 lines besides comments. In each, the section [ovh-eu], named
//     like the endpoint, then one named by a URL of the same API. The keys are the variables in lower case without OVH_. Values are
//     taken literally: quotes are kept, and # or ; begins a comment only at the start of a line.
//   - Instead of these sections, [profile:NAME], if OVH_PROFILE, or else profile in [default], says so, unless its endpoint is
//     another than e. This is the format of the OVHcloud CLI.
//
// Keys go only where their own source may send them. A file may name any open endpoint of OVHcloud for all keys. If it names a URL of
// another host, loopback included, only the keys of that same file are used, or those of a section that is named by that URL;
// others are an error. In code and in OVH_ENDPOINT, any URL may be named for any keys.
//
// All are read at the first request. The endpoint is kept. A complete set of credentials is kept until the API rejects it, or the
// token endpoint rejects the service account; then all are read again. An incomplete set and an error are not kept.
//
// Printed, the provider says where its credentials were found, such as "[ovh-eu] of ~/.ovh.conf", and shows none of them. The Logger
// of the Transport is told once, at level Warn, of a file of keys that other users can read.
func DefaultCredentials(e Endpoint) CredentialProvider {
	return &lookup{endpoint: e, env: true, files: true}
}

// EnvCredentials reads the variables of [DefaultCredentials] and no file. A service account is taken for one of OVH_ENDPOINT, or
// else of [EU].
func EnvCredentials() CredentialProvider {
	return &lookup{env: true}
}

// FileCredentials reads credentials for e from files of the format that [DefaultCredentials] describes. Of several paths a later
// one takes precedence; each must be a readable file, and may begin with ~/ for the user's home directory. Without a path it reads
// the three default files, any of which may be absent. Of the environment it uses OVH_PROFILE, and OVH_ENDPOINT if e is "".
func FileCredentials(e Endpoint, paths ...string) CredentialProvider {
	return &lookup{endpoint: e, files: true, paths: slices.Clone(paths)}
}

// bind returns the endpoint of a Transport with these fields, and the provider that it asks.
func bind(ctx context.Context, e Endpoint, p CredentialProvider) (*parsedEndpoint, CredentialProvider, error) {
	if p == nil {
		p = DefaultCredentials(e)
	}
	if l, ok := p.(*lookup); ok && e == "" {
		parsed, err := l.target(ctx) // keys and the endpoint that they are for come from the same files
		return parsed, p, err
	}
	parsed, err := findEndpoint(ctx, e)
	if err == nil && !parsed.trusted() {
		err = parsed.distrust("Transport.Credentials")
	}
	return parsed, p, err
}

// listener is what a Transport wants to hear from the providers of this package. They find it in the context of Retrieve.
type listener struct {
	logger   *slog.Logger
	replaced func() // the token endpoint rejected a service account, and another took its place
}

type listenerKey struct{}

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
	barred bool                    // a file of others has named the endpoint
}

func environment() source {
	values := map[string]string{}
	for _, key := range slices.Concat(kinds...) {
		values[key] = strings.TrimSpace(os.Getenv(variable(key)))
	}
	return source{name: "the environment", values: values, label: variable}
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
		return nil, permanentErrorf("%s has more than one kind of credentials: %s; keep one of them", s.name, strings.Join(named, ", "))
	}
	return kind, nil
}

// found is what sources hold together.
type found struct {
	kind    []string // nil if they hold nothing
	values  map[string]string
	missing []string // of kind
	from    []string // the names of the sources
}

func (f found) complete() bool { return f.kind != nil && f.missing == nil }

// merge takes what e needs from sources, the one of highest precedence first.
func merge(e *parsedEndpoint, sources ...source) (f found, err error) {
	f.values = map[string]string{}
	for _, s := range sources {
		if f.kind == nil {
			if f.kind, err = s.kind(); err != nil {
				return found{}, err
			}
		}
		used := false
		for _, key := range f.kind {
			if f.values[key] == "" && s.values[key] != "" {
				f.values[key], used = s.values[key], true
			}
		}
		if used && s.barred {
			return found{}, e.distrust(s.name)
		}
		if used {
			f.from = append(f.from, s.name)
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
	f, err := merge(nil, environment())
	return err == nil && f.complete()
}

// lookup is the provider that searches the environment, files, or both.
type lookup struct {
	endpoint   Endpoint
	env, files bool
	paths      []string

	at     atomic.Pointer[parsedEndpoint] // what endpoint comes to, once that is found
	kept   atomic.Pointer[keySet]         // the last complete set
	warned sync.Map                       // paths of files that others can read
}

// keySet is what a lookup found. It never changes.
type keySet struct {
	found
	provider CredentialProvider // Credentials or a *serviceAccount
	rejected bool               // by the API: to be looked up again
}

func (l *lookup) Retrieve(ctx context.Context) (Credentials, error) {
	set := l.kept.Load()
	if set == nil || set.rejected {
		var err error
		if set, err = l.find(ctx, set); err != nil {
			return Credentials{}, err
		}
	}
	c, err := set.provider.Retrieve(ctx)
	if !isClientRejection(err) {
		return c, err
	}
	other, failed := l.find(ctx, set)
	if failed != nil || other.provider == set.provider {
		return c, err
	}
	c, err = other.provider.Retrieve(ctx)
	if listener, ok := ctx.Value(listenerKey{}).(listener); ok && err == nil {
		listener.replaced()
	}
	return c, err
}

// Invalidate marks the kept set as rejected, if c is from it.
func (l *lookup) Invalidate(c Credentials) {
	for {
		kept := l.kept.Load()
		if kept == nil {
			return
		}
		if account, ok := kept.provider.(*serviceAccount); ok && !account.drop(c) || !ok && kept.provider != CredentialProvider(c) {
			return
		}
		// A new one also if it is marked already: what find has read before now does not count for this rejection.
		if l.kept.CompareAndSwap(kept, &keySet{kept.found, kept.provider, true}) {
			return
		}
	}
}

// find reads everything again, and keeps a complete set in place of old, nil for none. Without another complete set old serves on:
// a later rejection may find the file repaired.
func (l *lookup) find(ctx context.Context, old *keySet) (*keySet, error) {
	for {
		set, err := l.read(ctx)
		if done := ctx.Err(); done != nil {
			return nil, done
		}
		complete := err == nil && set.complete()
		keep := set
		if old != nil && (!complete || maps.Equal(old.values, set.values)) {
			keep = &keySet{old.found, old.provider, false}
		}
		if keep == nil || !keep.complete() {
			return set, err
		}
		if l.kept.CompareAndSwap(old, keep) {
			if _, account := keep.provider.(*serviceAccount); !complete && !account {
				return set, err
			}
			return keep, nil
		}
		if old = l.kept.Load(); !old.rejected {
			return old, nil // of several that look at once, all use the same
		}
	}
}

// target is the endpoint that l is for: the same at every call, since the Transport keeps it, too.
func (l *lookup) target(ctx context.Context) (*parsedEndpoint, error) {
	if e := l.at.Load(); e != nil {
		return e, nil
	}
	named := l.endpoint
	if !l.files {
		named = cmp.Or(named, environmentEndpoint(), EU)
	}
	e, err := findEndpoint(ctx, named, l.paths...)
	if err != nil {
		return nil, err
	}
	l.at.CompareAndSwap(nil, e)
	return l.at.Load(), nil
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

// read reads everything. What is incomplete is no error.
func (l *lookup) read(ctx context.Context) (*keySet, error) {
	e, err := l.target(ctx)
	if err != nil {
		return nil, err
	}
	f, err := l.search(ctx, e)
	if err != nil {
		return nil, err
	}
	v := f.values
	if v["client_id"] == "" && v["client_secret"] == "" {
		return &keySet{found: f, provider: Credentials{
			ApplicationKey:    v["application_key"],
			ApplicationSecret: v["application_secret"],
			ConsumerKey:       v["consumer_key"],
			AccessToken:       v["access_token"],
		}}, nil
	}
	if f.missing != nil { // Credentials cannot hold one half of it
		return nil, missingError(f.missing, l.hint(ctx, f.missing))
	}
	return &keySet{found: f, provider: newServiceAccount(e.name(), v["client_id"], v["client_secret"],
		func(context.Context) (string, error) { return e.tokenURL() })}, nil
}

func (l *lookup) search(ctx context.Context, e *parsedEndpoint) (found, error) {
	var sources []source
	use, err := l.useEnv(e)
	if err != nil {
		return found{}, err
	}
	if use {
		env := environment()
		env.barred = !e.trusted()
		sources = append(sources, env)
	}
	f, err := merge(e, sources...)
	if err != nil || f.complete() || !l.files {
		return f, err
	}
	c, err := readConf(ctx, l.paths)
	if err != nil {
		return found{}, err
	}
	l.warn(ctx, c)
	sections, err := c.sources(e)
	if err != nil {
		return found{}, err
	}
	return merge(e, append(sources, sections...)...)
}

// warn tells the Transport's Logger of each file of keys that others can read, once.
func (l *lookup) warn(ctx context.Context, c conf) {
	listener, _ := ctx.Value(listenerKey{}).(listener)
	if listener.logger == nil {
		return
	}
	for _, file := range c.files {
		if !file.isExposed() {
			continue
		}
		if _, told := l.warned.LoadOrStore(file.full, true); !told {
			listener.logger.LogAttrs(ctx, slog.LevelWarn, prefix+"other users can read this file of keys; run chmod 600 on it",
				slog.String("file", file.full), slog.String("mode", file.mode.String()))
		}
	}
}

// String names the sources of the credentials in use.
func (l *lookup) String() string {
	if set := l.kept.Load(); set != nil {
		return strings.Join(set.from, ", ")
	}
	var places []string
	if l.env {
		places = append(places, "the environment")
	}
	if l.files {
		for _, path := range slices.Backward(confPaths(l.paths)) {
			places = append(places, path.name)
		}
	}
	return "no credentials yet from " + strings.Join(places, ", ")
}

// Format prints String under every verb.
func (l *lookup) Format(f fmt.State, _ rune) { io.WriteString(f, l.String()) }

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
	if use, _ := l.useEnv(e); use && e.trusted() {
		places = append(places, list(variable)+" in the environment")
	} else if l.env && !use {
		places = append(places, "OVH_ENDPOINT to "+e.name()+" if the environment's credentials are for it")
	}
	var unread []error
	if l.files {
		c, _ := readConf(ctx, l.paths)
		sections, _ := c.sectionNames(e)
		var paths []string
		for _, path := range confPaths(l.paths) {
			paths = append(paths, path.full)
		}
		places = append(places, fmt.Sprintf("%s in [%s] of %s",
			list(asWritten), strings.Join(sections, "] or ["), strings.Join(paths, ", ")))
		unread = c.unread
	}
	hints := []string{"set " + strings.Join(places, ", or ")}
	for _, err := range unread {
		hints = append(hints, fmt.Sprintf("this file was skipped: %v", err))
	}
	if e.region != nil && !e.region.closed && slices.Contains(kinds[0], missing[0]) {
		hints = append(hints, fmt.Sprintf("create keys at https://%s/createToken/", e.region.hosts[0]))
	}
	return strings.Join(hints, "; ")
}

// usable returns c without white space around its keys. If c lacks a key that a request needs, or one cannot stand in a header, the
// error names it as ovh.conf does. The provider that c is from may know where to put what is missing.
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
		if len(missing) == 1 {
			hint = "set it in Transport.Credentials"
		}
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

// String shows which fields are set.
func (c Credentials) String() string {
	m := c.mask()
	return fmt.Sprintf("ovhauth.Credentials{ApplicationKey:%q ApplicationSecret:%q ConsumerKey:%q AccessToken:%q}",
		m.ApplicationKey, m.ApplicationSecret, m.ConsumerKey, m.AccessToken)
}

// Format prints String under every verb.
func (c Credentials) Format(f fmt.State, _ rune) { io.WriteString(f, c.String()) }

// LogValue logs String.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText writes String, which cannot be read back. To store credentials, store their fields.
func (c Credentials) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// MarshalJSON writes the placeholder "[redacted]" for every field that is set: what it writes can be logged, and cannot be read
// back. To store credentials, store their fields.
func (c Credentials) MarshalJSON() ([]byte, error) {
	type plain Credentials // without this method
	return json.Marshal(plain(c.mask()))
}
