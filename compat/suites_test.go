package compat

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	_ "github.com/hashicorp/go-hclog"                   // for go-retryablehttp's tests
	_ "github.com/maxatome/go-testdeep/helpers/tdsuite" // for go-ovh's tests
)

// suite runs the tests that a module has of one of its packages, and returns the output of each that failed, by its name. It runs
// them on a copy, where edit has changed one file, and added is the text of another.
func suite(t *testing.T, module, pkg, file string, edit func(source string) string, added string) (failed map[string]string) {
	t.Helper()
	var source struct{ Dir string }
	if err := json.Unmarshal(goCommand(t, ".", "list", "-m", "-json", module), &source); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(source.Dir, pkg))); err != nil {
		t.Fatal(err)
	}
	rewrite(t, filepath.Join(dir, file), filepath.Join(dir, file), edit)
	if err := os.WriteFile(filepath.Join(dir, "added_test.go"), []byte(added), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	rewrite(t, "go.mod", filepath.Join(dir, "go.mod"), func(source string) string {
		return strings.NewReplacer("=> ..", "=> "+root, "ovhauth/compat", "ovhauth/suite").Replace(source)
	})
	rewrite(t, "go.sum", filepath.Join(dir, "go.sum"), func(source string) string { return source })

	failed = map[string]string{}
	outputs, passed := map[string]string{}, 0
	lines := bufio.NewScanner(bytes.NewReader(goCommand(t, dir, "test", "-json", "-vet=off", "-trimpath")))
	for lines.Scan() {
		var event struct{ Action, Test, Output string }
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		outputs[event.Test] += event.Output
		switch {
		case event.Action == "build-output":
			t.Errorf("%s does not build: %s", dir, event.Output)
		case event.Action == "pass" && event.Test != "":
			passed++
		case event.Action == "fail":
			failed[event.Test] = outputs[event.Test]
		}
	}
	if passed == 0 {
		t.Fatalf("no test of %s passed: %v", module, failed)
	}
	delete(failed, "") // the package's, which has failed if one of its tests has
	for name := range failed {
		if parent, _, ok := strings.Cut(name, "/"); ok {
			delete(failed, parent) // likewise
		}
	}
	return failed
}

// goCommands run one at a time, so that what they have in common is built once.
var goCommands sync.Mutex

// goCommand returns what the go command writes; it may have failed then, as go test -json says for itself.
func goCommand(t *testing.T, dir string, arguments ...string) []byte {
	t.Helper()
	goCommands.Lock()
	defer goCommands.Unlock()
	cmd := exec.Command("go", arguments...)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "OVH_") })
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	output, err := cmd.Output()
	if err != nil && len(output) == 0 {
		t.Fatalf("%v: %v\n%s", cmd, err, &complaint)
	}
	return output
}

// rewrite writes what edit makes of the file from to the file to.
func rewrite(t *testing.T, from, to string, edit func(source string) string) {
	t.Helper()
	source, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	os.Chmod(to, 0o600) // the module cache is read-only, and so are copies of it
	if err := os.WriteFile(to, []byte(edit(string(source))), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replaced is strings.Replace that must find what it replaces, as often as it says.
func replaced(t *testing.T, source, old, new string, times int) string {
	t.Helper()
	if n := strings.Count(source, old); n != times {
		t.Fatalf("%q is %d times in the source, want %d", old, n, times)
	}
	return strings.ReplaceAll(source, old, new)
}

// goOVHSetup stands in for httpmock.Activate in go-ovh's tests. The keys are those of the tests, and the clock is the one that
// they set, so that each signature must come out as go-ovh makes it.
const goOVHSetup = `package ovh

import (
	"net/http"
	"time"

	"github.com/jarcoal/httpmock"

	"example.com/ovhauth"
)

func activate() {
	httpmock.Activate()
	signer := &ovhauth.Transport{
		Endpoint: ovhauth.EU,
		Credentials: ovhauth.Credentials{
			ApplicationKey: MockApplicationKey, ApplicationSecret: MockApplicationSecret, ConsumerKey: MockConsumerKey,
		},
		Clock: ovhauth.ClockFunc(func() time.Time { return getLocalTime() }),
		Base:  httpmock.DefaultTransport,
	}
	http.DefaultTransport = %s
}
`

// What go-ovh's own tests expect is what our transports do. The exceptions are listed, with what the test then says.
func TestGoOVHsOwnTests(t *testing.T) {
	listed(t, goOVHRow)
	// httpmock writes out the status text, since a version later than the one that go-ovh names. The test has it without.
	statusText := map[string]string{"TestOAuth2_503": "503 Service Unavailable"}
	for _, test := range []struct {
		name, transport string
		differs         map[string]string
	}{
		{"without ours", "signer.Base", statusText},
		// go-ovh fetches a token for GET /v1/auth/time and sends it along. Ours sends no authentication to /auth/time, as the API
		// wants none there; elsewhere it puts that of its own Credentials in the place of the client's.
		{"over Transport", "signer", with(statusText, "TestOAuth2_OK", `"Bearer cccccccccccccccc"`)},
		{"over RetryTransport", "&ovhauth.RetryTransport{Base: signer, MinWait: time.Millisecond}",
			with(statusText, "TestOAuth2_OK", `"Bearer cccccccccccccccc"`)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			failed := suite(t, "github.com/ovh/go-ovh", "ovh", "ovh_test.go", func(source string) string {
				return replaced(t, source, "httpmock.Activate()", "activate()", 5)
			}, fmt.Sprintf(goOVHSetup, test.transport))
			compareSuite(t, failed, test.differs)
		})
	}
}

// with returns a copy of m with one more entry.
func with(m map[string]string, key, value string) map[string]string {
	m = maps.Clone(m)
	m[key] = value
	return m
}

// compareSuite checks that the tests that failed are those that differ, and that each says so in its output.
func compareSuite(t *testing.T, failed, differs map[string]string) {
	t.Helper()
	for name, output := range failed {
		if expected, ok := differs[name]; !ok || !strings.Contains(output, expected) {
			t.Errorf("%s fails, and is not listed as one that says %q:\n%s", name, expected, output)
		}
	}
	for name := range differs {
		if failed[name] == "" {
			t.Errorf("%s passes; it is listed as one that fails", name)
		}
	}
}

// go-retryablehttp's own tests, also those of schemes, headers and TLS, with our CheckRetry in the place of its default policy.
func TestRetryableHTTPsOwnTests(t *testing.T) {
	listed(t, retryableRow)
	t.Parallel()
	failed := suite(t, "github.com/hashicorp/go-retryablehttp", ".", "client.go", func(source string) string {
		source = replaced(t, source, "defaultRetryWaitMin = 1 * time.Second", "defaultRetryWaitMin = time.Millisecond", 1)
		return replaced(t, source, "func DefaultRetryPolicy(", "func itsRetryPolicy(", 1)
	}, `package retryablehttp

import "example.com/ovhauth"

var DefaultRetryPolicy CheckRetry = ovhauth.CheckRetry
`)
	compareSuite(t, failed, map[string]string{
		// A POST that met 500 may have been executed. It is not sent again: its response is returned, and there is no error.
		"TestClient_Do_fails/default_retry_policy":                     `giving up after 3 attempt(s)", got: <nil>`,
		"TestClient_Do_fails/default_retry_policy_url_with_basic_auth": `giving up after 3 attempt(s)", got: <nil>`,
		// A response and an error at once are what net/http returns when CheckRedirect rejects a redirect, which it would do again.
		// It is also what go-retryablehttp has after the error of a ResponseHandler, so such an attempt is not repeated.
		"TestClient_Do_WithResponseHandler/handler_always_fails_in_a_retryable_way": "expected 6 attempts, got 2",
		"TestClient_Do_WithResponseHandler/handler_succeeds_on_second_attempt":      "expected 4 attempts, got 2",
		"TestClient_Do_WithPrepareRetry/handler_always_fails_in_a_retryable_way":    "expected 6 attempts, got 2",
		"TestClient_Do_WithPrepareRetry/handler_succeeds_on_second_attempt":         "expected 4 attempts, got 2",
		// CheckRetry itself never returns an error, so the caller gets that of the attempt, which wraps the context's.
		"TestClient_RequestWithContext": ": context canceled, got: GET",
	})
}
