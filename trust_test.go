package ovhauth

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The endpoints of OVHcloud, which every place may name for all keys, and those of others.
var (
	ofOVH    = []string{"ovh-eu", "https://api.eu.ovhcloud.com", "https://api.ca.ovhcloud.com/v1", "kimsufi-eu"}
	ofOthers = []string{"https://evil.example/1.0", "http://127.0.0.1:8080/1.0", "https://[::1]:8443", "https://eu.api.ovh.com:8443/1.0",
		"https://eu.api.ovh.com/other/1.0", "https://api.ovh.com.evil.example/1.0", "runabove-ca"}
)

// namer is a place that names the endpoint.
type namer struct {
	place string
	put   func(t *testing.T, f confFiles, endpoint string)
	file  func(f confFiles) string // nil for code and environment
}

var namers = []namer{
	{"code", func(*testing.T, confFiles, string) {}, nil},
	{"the environment", func(t *testing.T, _ confFiles, endpoint string) { t.Setenv("OVH_ENDPOINT", endpoint) }, nil},
	{"[default] of the working directory", nameIn("default"), func(f confFiles) string { return f.cwd }},
	{"[default] of the home directory", nameIn("default"), func(f confFiles) string { return f.home }},
	{"[default] of the system", nameIn("default"), func(f confFiles) string { return f.etc }},
	{"a profile of the working directory", nameIn("profile:p"), func(f confFiles) string { return f.cwd }},
	{"a profile of the home directory", nameIn("profile:p"), func(f confFiles) string { return f.home }},
}

// nameIn is for the namers that are files: their put gets confFiles of which all but one path are "".
func nameIn(name string) func(*testing.T, confFiles, string) {
	return func(t *testing.T, f confFiles, endpoint string) {
		appendTo(t, f.etc+f.home+f.cwd, section(name, map[string]string{"endpoint": endpoint}))
	}
}

func (n namer) name(t *testing.T, f confFiles, endpoint string) {
	if n.file != nil {
		f = confFiles{cwd: n.file(f)}
	}
	n.put(t, f, endpoint)
}

func appendTo(t *testing.T, path, text string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	write(t, path, string(before)+text)
}

// holder is a place that holds credentials. put returns Transport.Credentials.
type holder struct {
	place string
	put   func(t *testing.T, f confFiles, n namer, endpoint string, values map[string]string) CredentialProvider
	says  string // in the error, as the place
	own   bool   // its own file says that the keys are for the endpoint
}

var holders = []holder{
	{place: "code", says: "Transport.Credentials", put: func(_ *testing.T, _ confFiles, _ namer, _ string, values map[string]string) CredentialProvider {
		if values["client_id"] != "" {
			return ServiceAccountAt("https://tokens.example/", values["client_id"], values["client_secret"])
		}
		return Credentials{ApplicationKey: values["application_key"], ApplicationSecret: values["application_secret"],
			ConsumerKey: values["consumer_key"], AccessToken: values["access_token"]}
	}},
	{place: "the environment", says: "the environment", put: func(t *testing.T, _ confFiles, _ namer, _ string, values map[string]string) CredentialProvider {
		for key, value := range values {
			t.Setenv(variable(key), value)
		}
		return nil
	}},
	{place: "a profile of the home directory", says: "[profile:p] of ~/.ovh.conf", put: func(t *testing.T, f confFiles, _ namer, _ string, values map[string]string) CredentialProvider {
		t.Setenv("OVH_PROFILE", "p")
		appendTo(t, f.home, section("profile:p", values))
		return nil
	}},
	{place: "a profile that the working directory selects", says: "[profile:p] of ~/.ovh.conf", put: func(t *testing.T, f confFiles, _ namer, _ string, values map[string]string) CredentialProvider {
		appendTo(t, f.cwd, section("default", map[string]string{"profile": "p"}))
		appendTo(t, f.home, section("profile:p", values))
		return nil
	}},
	{place: "a section of the home directory, named by the endpoint", own: true, put: func(t *testing.T, f confFiles, _ namer, endpoint string, values map[string]string) CredentialProvider {
		appendTo(t, f.home, section(endpoint, values))
		return nil
	}},
	{place: "a profile of the home directory with that endpoint", own: true, put: func(t *testing.T, f confFiles, _ namer, endpoint string, values map[string]string) CredentialProvider {
		t.Setenv("OVH_PROFILE", "p")
		appendTo(t, f.home, section("profile:p", values)+"endpoint = "+endpoint+"\n")
		return nil
	}},
	{place: "the naming file", own: true, put: func(t *testing.T, f confFiles, n namer, _ string, values map[string]string) CredentialProvider {
		t.Setenv("OVH_PROFILE", "p")
		appendTo(t, n.file(f), section("profile:p", values))
		return nil
	}},
}

// Keys go only where their own source may send them: every place that can name an endpoint, every endpoint and alias, every place
// that can hold credentials, and every kind of credentials.
func TestKeysGoOnlyWhereTheirSourceMaySendThem(t *testing.T) {
	sets := []map[string]string{
		{"application_key": "s3cr3t-ak", "application_secret": "s3cr3t-as", "consumer_key": "s3cr3t-ck"},
		{"access_token": "s3cr3t-token"},
		{"client_id": "s3cr3t-id", "client_secret": "s3cr3t-secret"},
	}
	f := isolate(t)
	for _, endpoint := range slices.Concat(ofOVH, ofOthers) {
		for _, n := range namers {
			for _, h := range holders {
				for _, values := range sets {
					switch account := values["client_id"] != ""; {
					case account && (endpoint == "kimsufi-eu" || endpoint == "runabove-ca"): // which have none
						continue
					case h.place == "the naming file" && n.file == nil:
						continue
					case strings.HasPrefix(h.place, "a section") && strings.HasPrefix(n.place, "a profile"): // which replaces sections
						continue
					}
					t.Run(endpoint+"/named by "+n.place+"/credentials in "+h.place, func(t *testing.T) {
						for _, path := range []string{f.etc, f.home, f.cwd} {
							os.Remove(path)
						}
						n.name(t, f, endpoint)
						if strings.HasPrefix(n.place, "a profile") {
							t.Setenv("OVH_PROFILE", "p")
						}
						transport := &Transport{Credentials: h.put(t, f, n, endpoint, values)}
						if n.place == "code" {
							transport.Endpoint = Endpoint(endpoint)
						}
						allowed := slices.Contains(ofOVH, endpoint) || n.file == nil || h.own ||
							n.file(f) == f.home && strings.Contains(h.says, "~/.ovh.conf")
						checkSent(t, transport, f, n, h, Endpoint(endpoint), allowed)
					})
				}
			}
		}
	}
}

// checkSent sends a request, and looks where what it carries goes.
func checkSent(t *testing.T, transport *Transport, f confFiles, n namer, h holder, endpoint Endpoint, allowed bool) {
	t.Helper()
	e, err := parseEndpoint(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	tokens, _ := e.tokenURL()
	var hosts []string
	transport.Base = roundTripFunc(func(r *http.Request) (*http.Response, error) {
		hosts = append(hosts, r.URL.Host)
		if r.Method == "POST" {
			if got := r.URL.String(); got != tokens && got != "https://tokens.example/" {
				t.Errorf("the client secret went to %s, want %s", got, tokens)
			}
			return response(200, `{"access_token":"s3cr3t-new","expires_in":3600}`), nil
		}
		if r.Header.Get("X-Ovh-Signature") == "" && r.Header.Get("Authorization") == "" {
			t.Error("the request carries no credentials")
		}
		return response(200, "{}"), nil
	})
	req, _ := http.NewRequest("GET", "/me", nil)
	resp, err := transport.RoundTrip(req)
	if allowed {
		if err != nil || resp.StatusCode != 200 || hosts[len(hosts)-1] != e.host {
			t.Errorf("got %v, sent to %q; want it sent to %s", err, hosts, e.host)
		}
		return
	}
	if err == nil || len(hosts) != 0 {
		t.Fatalf("sent to %q, %v; want an error, and nothing sent", hosts, err)
	}
	for _, part := range []string{n.file(f), string(e.full()), h.says} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
	if strings.Contains(err.Error(), "s3cr3t") || !isPermanent(err) {
		t.Errorf("%q shows a secret, or would be retried", err)
	}
}

// A profile's own endpoint says where its keys may go, whatever [default] of the same file says.
func TestKeysOfAProfileThatNamesItsEndpoint(t *testing.T) {
	f := isolate(t)
	t.Setenv("OVH_PROFILE", "work")
	write(t, f.home, "[default]\nendpoint = ovh-eu\n[profile:work]\nendpoint = https://gate.example/1.0\naccess_token = W\n")
	asked := ""
	req, _ := http.NewRequest("GET", "/me", nil)
	_, err := (&Transport{Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
		asked = r.URL.Host + " " + r.Header.Get("Authorization")
		return response(200, ""), nil
	})}).RoundTrip(req)
	if want := "gate.example Bearer W"; err != nil || asked != want {
		t.Errorf("asked %q, %v; want %q", asked, err, want)
	}
}

// A service account of code asks no token endpoint that only a file names.
func TestServiceAccountOfAFileNamedHost(t *testing.T) {
	f := isolate(t)
	write(t, f.cwd, "[default]\nendpoint = https://evil.example/1.0\n")
	_, err := ServiceAccount("", "ID", "secret").Retrieve(through(t.Context(), func(r *http.Request) (*http.Response, error) {
		t.Errorf("the secret went to %s", r.URL)
		return response(400, ""), nil
	}))
	if err == nil || !strings.Contains(err.Error(), f.cwd) || !strings.Contains(err.Error(), "ServiceAccount") {
		t.Errorf("got %v, want an error that names %s and ServiceAccount", err, f.cwd)
	}
}

// The keys of the naming file would serve, but those of the environment take precedence.
func TestEnvironmentIsNotPassedOver(t *testing.T) {
	f := isolate(t)
	write(t, f.cwd, "[default]\nendpoint = https://gate.example/1.0\n[https://gate.example/1.0]\naccess_token = T\n")
	t.Setenv("OVH_CONSUMER_KEY", "CK")
	if c, err := DefaultCredentials("").Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "those of the environment") {
		t.Errorf("got %v, %v; want an error that names the environment", c, err)
	}
}

// The endpoint that a Transport has found in a file stays the one that its keys are looked up for: a file that changes in between
// must not get the keys of another endpoint sent to the first.
func TestEndpointAndKeysStayTogether(t *testing.T) {
	for name, provider := range map[string]CredentialProvider{"default": nil, "DefaultCredentials": DefaultCredentials("")} {
		f := isolate(t)
		t.Setenv("OVH_ACCESS_TOKEN", "s3cr3t")
		write(t, f.cwd, "[default]\nendpoint = https://evil.example/1.0\n")
		transport := &Transport{Credentials: provider, Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			t.Errorf("%s: %s went to %s", name, r.Header.Get("Authorization"), r.URL)
			return response(200, "{}"), nil
		})}
		for range 2 {
			req, _ := http.NewRequest("GET", "/me", nil)
			if _, err := transport.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "evil.example") {
				t.Errorf("%s: got %v, want an error that names evil.example", name, err)
			}
			write(t, f.cwd, "")
		}
	}
}

// Several paths given in code are files like the default ones.
func TestGivenFilesAreNotTrustedMore(t *testing.T) {
	isolate(t)
	dir := t.TempDir()
	low, high := filepath.Join(dir, "low.conf"), filepath.Join(dir, "high.conf")
	write(t, low, section("profile:p", map[string]string{"access_token": "s3cr3t"}))
	write(t, high, "[default]\nprofile = p\n"+section("profile:p", map[string]string{"endpoint": "https://evil.example/1.0"}))
	_, err := FileCredentials("", low, high).Retrieve(t.Context())
	if err == nil || !strings.Contains(err.Error(), high+" names") || !strings.Contains(err.Error(), "[profile:p] of "+low) {
		t.Errorf("got %v, want an error that names %s and %s", err, high, low)
	}
	if c, err := FileCredentials("https://evil.example/1.0", low, high).Retrieve(t.Context()); err != nil || c.AccessToken != "s3cr3t" {
		t.Errorf("with the endpoint named in code: %v; want the token", err)
	}
}
