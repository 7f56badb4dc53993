package ovhauth

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"unicode"
)

// Credentials are what the API knows a caller by: three keys that sign each request, or an OAuth2 access token that goes out as
// "Authorization: Bearer". With an AccessToken, the keys are not used, but for the ApplicationKey in [RequestConsumerKey].
//
// Printed, logged or marshalled to JSON, Credentials show which fields are set, and no value. Go's fmt consults no type inside an
// unexported field, nor under %p and a misplaced %w (which go vet reports): there, nothing can hide them.
type Credentials struct {
	ApplicationKey, ApplicationSecret, ConsumerKey string

	AccessToken string
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

// EnvCredentials reads OVH_APPLICATION_KEY, OVH_APPLICATION_SECRET and OVH_CONSUMER_KEY, or OVH_ACCESS_TOKEN, from the
// environment. A complete set is read once and kept. An empty variable is one that is not set.
func EnvCredentials() CredentialProvider {
	return &remembered{read: func(context.Context) (Credentials, error) {
		return Credentials{
			ApplicationKey:    os.Getenv("OVH_APPLICATION_KEY"),
			ApplicationSecret: os.Getenv("OVH_APPLICATION_SECRET"),
			ConsumerKey:       os.Getenv("OVH_CONSUMER_KEY"),
			AccessToken:       os.Getenv("OVH_ACCESS_TOKEN"),
		}, nil
	}}
}

// remembered keeps the first complete set that read returns. Nothing else is remembered: the next request may find what this
// one missed.
type remembered struct {
	read CredentialFunc
	kept atomic.Pointer[Credentials]
}

func (r *remembered) Retrieve(ctx context.Context) (Credentials, error) {
	if c := r.kept.Load(); c != nil {
		return *c, nil
	}
	c, err := r.read(ctx)
	if err == nil {
		if _, incomplete := c.usable(everything); incomplete == nil {
			r.kept.Store(&c)
		}
	}
	return c, err
}

// usable returns c without white space around its keys, or an error that names those that a request needs and c lacks, as
// ovh.conf names them, or that cannot stand in a header.
func (c Credentials) usable(need need) (Credentials, error) {
	var missing []string
	check := func(name string, value *string) error {
		*value = strings.TrimSpace(*value)
		if *value == "" {
			missing = append(missing, name)
		} else if strings.ContainsFunc(*value, unicode.IsControl) {
			return localErrorf("%s has a control character inside, such as a line break; copy it again", name)
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
		verb := "is"
		if len(missing) > 1 {
			verb = "are"
		}
		err = localErrorf("%w: %s %s missing; set Transport.Credentials, or OVH_%s in the environment", ErrMissingCredentials,
			strings.Join(missing, ", "), verb, strings.ToUpper(strings.Join(missing, ", OVH_")))
	}
	return c, err
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
