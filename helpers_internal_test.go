package ovhauth

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// isolate gives the test an environment without credentials and empty places for ovh.conf.
func isolate(t *testing.T) confFiles {
	t.Helper()
	for _, key := range append(slices.Concat(kinds...), "endpoint", "profile") {
		t.Setenv(variable(key), "")
	}
	dir := t.TempDir()
	f := confFiles{filepath.Join(dir, "etc.conf"), filepath.Join(dir, "home", ".ovh.conf"), "./ovh.conf"}
	for _, sub := range []string{"home", "cwd"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", filepath.Dir(f.home))
	t.Chdir(filepath.Join(dir, "cwd"))
	was := defaultConf
	t.Cleanup(func() { defaultConf = was })
	defaultConf = []string{f.etc, "~/.ovh.conf", f.cwd}
	return f
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// section is the text of a section of ovh.conf.
func section(name string, values map[string]string) string {
	lines := []string{"[" + name + "]"}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		lines = append(lines, key+" = "+values[key])
	}
	return strings.Join(lines, "\n") + "\n"
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func response(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status,
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       io.NopCloser(strings.NewReader(body)),
	}
}

// signatureOf is the signature that req has to carry.
func signatureOf(req *http.Request, c Credentials, body string) string {
	at, _ := strconv.ParseInt(req.Header.Get("X-Ovh-Timestamp"), 10, 64)
	return Sign(c, req.Method, req.URL.String(), []byte(body), time.Unix(at, 0))
}

const keysEU = "[ovh-eu]\napplication_key = AK\napplication_secret = AS\nconsumer_key = CK\n"

var credentialsEU = Credentials{ApplicationKey: "AK", ApplicationSecret: "AS", ConsumerKey: "CK"}

// hookedContext calls functions at points of a lookup.
type hookedContext struct {
	context.Context
	afterReading func()
	onErr        func(call int)
	onDone       func()
	calls        int
}

func (c *hookedContext) Value(key any) any {
	if hook := c.afterReading; hook != nil && key == (listenerKey{}) {
		c.afterReading = nil
		hook()
	}
	return c.Context.Value(key)
}

func (c *hookedContext) Err() error {
	if c.calls++; c.onErr != nil {
		c.onErr(c.calls)
	}
	return c.Context.Err()
}

func (c *hookedContext) Done() <-chan struct{} {
	if c.onDone != nil {
		c.onDone()
	}
	return c.Context.Done()
}

// through is a context in which a service account sends by base, as a Transport gives it.
func through(ctx context.Context, base roundTripFunc) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Transport: base})
}

// tokens is a token endpoint that numbers its tokens.
func tokens(given *atomic.Int32, life int) roundTripFunc {
	return func(*http.Request) (*http.Response, error) {
		return response(200, fmt.Sprintf(`{"access_token":"T%d","expires_in":%d}`, given.Add(1), life)), nil
	}
}
