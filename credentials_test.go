package ovhauth

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gopkg.in/ini.v1"
)

// No test of this package may find the credentials of the machine that it runs on.
func init() { defaultConf = []string{filepath.Join(os.TempDir(), "ovhauth-tests", "no-such-file")} }

// confFiles are the default files of a test, in directories of its own.
type confFiles struct{ etc, home, cwd string }

// tokenFor is what the token endpoint of these tests gives to a client.
func tokenFor(clientID, clientSecret string) string { return "token-" + clientID + "-" + clientSecret }

// sentBy returns the authentication that a Transport with the given credentials sends to EU, as credentials.
func sentBy(t *testing.T, p CredentialProvider, e Endpoint) (Credentials, error) {
	t.Helper()
	var sent Credentials
	client := &http.Client{Transport: &Transport{
		Endpoint:    e,
		Credentials: p,
		Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
			if strings.HasSuffix(req.URL.Path, "/oauth2/token") {
				req.ParseForm()
				token := tokenFor(req.PostForm.Get("client_id"), req.PostForm.Get("client_secret"))
				return response(200, `{"access_token":"`+token+`","expires_in":3599}`), nil
			}
			sent = Credentials{
				ApplicationKey: req.Header.Get("X-Ovh-Application"),
				ConsumerKey:    req.Header.Get("X-Ovh-Consumer"),
				AccessToken:    strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "),
			}
			return response(200, "{}"), nil
		}),
	}}
	resp, err := client.Get("/me")
	if err != nil {
		return sent, err
	}
	resp.Body.Close()
	return sent, nil
}

// TestConfigurationMatrix puts each kind of credentials into each place, whole and with each part missing.
func TestConfigurationMatrix(t *testing.T) {
	inSection := func(name string, path func(confFiles) string) func(*testing.T, confFiles, map[string]string) {
		return func(t *testing.T, f confFiles, values map[string]string) { write(t, path(f), section(name, values)) }
	}
	places := []struct {
		name string
		put  func(t *testing.T, f confFiles, values map[string]string)
		hint string // V stands for the missing variables, K for the missing keys
	}{
		{"environment", func(t *testing.T, _ confFiles, values map[string]string) {
			for key, value := range values {
				t.Setenv(variable(key), value)
			}
		}, "set V in the environment"},
		{"system file", inSection("ovh-eu", func(f confFiles) string { return f.etc }), "K in [ovh-eu] of ETC"},
		{"home file", inSection("ovh-eu", func(f confFiles) string { return f.home }), "HOME"},
		{"local file", inSection("ovh-eu", func(f confFiles) string { return f.cwd }), "./ovh.conf"},
		{"section named by URL", inSection(string(EU), func(f confFiles) string { return f.cwd }), "K in [ovh-eu] or [" + string(EU) + "] of "},
		{"profile", func(t *testing.T, f confFiles, values map[string]string) {
			t.Setenv("OVH_PROFILE", "work")
			write(t, f.home, section("profile:work", values)+"endpoint = ovh-eu\n")
		}, "K in [profile:work] of "},
	}
	tests := []struct {
		keys    []string // given; the value of each is its name with "my-" before it
		missing []string
		want    Credentials
	}{
		{[]string{"application_key", "application_secret", "consumer_key"}, nil,
			Credentials{ApplicationKey: "my-application_key", ConsumerKey: "my-consumer_key"}},
		{[]string{"application_secret", "consumer_key"}, []string{"application_key"}, Credentials{}},
		{[]string{"application_key", "consumer_key"}, []string{"application_secret"}, Credentials{}},
		{[]string{"application_key", "application_secret"}, []string{"consumer_key"}, Credentials{}},
		{[]string{"application_key"}, []string{"application_secret", "consumer_key"}, Credentials{}},
		{[]string{"client_id", "client_secret"}, nil, Credentials{AccessToken: tokenFor("my-client_id", "my-client_secret")}},
		{[]string{"client_id"}, []string{"client_secret"}, Credentials{}},
		{[]string{"client_secret"}, []string{"client_id"}, Credentials{}},
		{[]string{"access_token"}, nil, Credentials{AccessToken: "my-access_token"}},
	}
	for _, place := range places {
		for _, test := range tests {
			t.Run(place.name+"/"+strings.Join(test.keys, "+"), func(t *testing.T) {
				f := isolate(t)
				values := map[string]string{}
				for _, key := range test.keys {
					values[key] = "my-" + key
				}
				place.put(t, f, values)
				got, err := sentBy(t, nil, EU)
				if test.missing == nil {
					if err != nil || got != test.want {
						t.Fatalf("got %#v, %v", got, err)
					}
					return
				}
				if !errors.Is(err, ErrMissingCredentials) {
					t.Fatalf("got %v", err)
				}
				verb := "is"
				if len(test.missing) > 1 {
					verb = "are"
				}
				var vars []string
				for _, key := range test.missing {
					vars = append(vars, variable(key))
				}
				hint := strings.NewReplacer("V", strings.Join(vars, " and "), "K", strings.Join(test.missing, " and "),
					"ETC", f.etc, "HOME", f.home).Replace(place.hint)
				for _, part := range []string{": " + strings.Join(test.missing, ", ") + " " + verb + " missing; ", hint} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q lacks %q", err, part)
					}
				}
				if strings.Contains(err.Error(), "my-") {
					t.Errorf("%q quotes a value", err)
				}
			})
		}
	}
}

func TestPrecedence(t *testing.T) {
	const sa = "client_id = ID\nclient_secret = secret\n"
	tests := []struct {
		name           string
		env            []string // NAME=value, without OVH_
		etc, home, cwd string
		endpoint       Endpoint // "" for EU
		want           Credentials
		wantErr        []string
	}{
		{name: "each key of its own file",
			etc:  "[ovh-eu]\napplication_key = low\napplication_secret = low\nconsumer_key = low\n",
			home: "[ovh-eu]\napplication_secret = AS\nconsumer_key = middle\n",
			cwd:  "[ovh-eu]\nconsumer_key = CK\n",
			want: Credentials{ApplicationKey: "low", ApplicationSecret: "AS", ConsumerKey: "CK"}},
		{name: "variables over files",
			env: []string{"CONSUMER_KEY=mine"}, cwd: keysEU,
			want: Credentials{ApplicationKey: "AK", ApplicationSecret: "AS", ConsumerKey: "mine"}},
		{name: "an empty value is none",
			env: []string{"CONSUMER_KEY= "}, home: keysEU, cwd: "[ovh-eu]\nconsumer_key =\n",
			want: credentialsEU},
		{name: "white space around a variable",
			env:  []string{"APPLICATION_KEY= AK\n", "APPLICATION_SECRET=AS\n", "CONSUMER_KEY=\tCK"},
			want: credentialsEU},
		{name: "keys in the environment, service account in the file",
			env: []string{"APPLICATION_KEY=AK", "APPLICATION_SECRET=AS", "CONSUMER_KEY=CK"}, cwd: "[ovh-eu]\n" + sa,
			want: credentialsEU},
		{name: "token in the environment, keys in the file", env: []string{"ACCESS_TOKEN=T"}, cwd: keysEU,
			want: Credentials{AccessToken: "T"}},
		{name: "the higher kind wins though it is not complete", env: []string{"CLIENT_ID=ID"}, cwd: keysEU,
			wantErr: []string{"client_secret is missing", "OVH_CLIENT_SECRET"}},
		{name: "the higher file decides the kind", home: keysEU, cwd: "[ovh-eu]\naccess_token = T\n",
			want: Credentials{AccessToken: "T"}},
		{name: "a kind that a lower file completes", home: "[ovh-eu]\naccess_token = T\n" + keysEU[len("[ovh-eu]\n"):],
			cwd: "[ovh-eu]\nconsumer_key = mine\n", want: Credentials{ApplicationKey: "AK", ApplicationSecret: "AS", ConsumerKey: "mine"}},
		{name: "two kinds in the environment", env: []string{"APPLICATION_KEY=AK", "CLIENT_ID=ID"},
			wantErr: []string{"the environment", "OVH_APPLICATION_KEY", "OVH_CLIENT_ID"}},
		{name: "two kinds in one section", cwd: keysEU + "access_token = T\n",
			wantErr: []string{"[ovh-eu] of ./ovh.conf", "application_key, access_token"}},
		{name: "the environment is for another endpoint",
			env: []string{"ENDPOINT=ovh-ca", "APPLICATION_KEY=ca", "APPLICATION_SECRET=ca", "CONSUMER_KEY=ca"}, cwd: keysEU,
			want: credentialsEU},
		{name: "the environment is for another endpoint, and there is no file",
			env:     []string{"ENDPOINT=ovh-ca", "APPLICATION_KEY=ca", "APPLICATION_SECRET=ca", "CONSUMER_KEY=ca"},
			wantErr: []string{"missing credentials", "OVH_ENDPOINT to ovh-eu if"}},
		{name: "the environment is for this endpoint, by URL",
			env:  []string{"ENDPOINT=https://EU.api.ovh.com/v1/", "APPLICATION_KEY=AK", "APPLICATION_SECRET=AS", "CONSUMER_KEY=CK"},
			want: credentialsEU},
		{name: "OVH_ENDPOINT is no endpoint", env: []string{"ENDPOINT=ovh-europe", "ACCESS_TOKEN=T"},
			wantErr: []string{`endpoint "ovh-europe"`}},
		{name: "sections of other endpoints", cwd: "[ovh-ca]\naccess_token = T\n" + keysEU, want: credentialsEU},
		{name: "no section of this endpoint", cwd: keysEU, endpoint: CA,
			wantErr: []string{"[ovh-ca]", "https://ca.api.ovh.com/createToken/"}},
		{name: "a URL's section", endpoint: "https://api.example.com:4242",
			cwd: "[https://api.example.com:4242]\n" + keysEU[len("[ovh-eu]\n"):] + "[ovh-eu]\nconsumer_key = eu\n", want: credentialsEU},
		{name: "another path of the same host", endpoint: "https://gw.example/eu/1.0",
			cwd: "[https://gw.example/ca/1.0]\nconsumer_key = ca\n[https://gw.example/eu]\n" + keysEU[len("[ovh-eu]\n"):], want: credentialsEU},
		{name: "another scheme of the same host", endpoint: "https://127.0.0.1:8080/1.0", cwd: "[http://127.0.0.1:8080/1.0]\n" + keysEU[len("[ovh-eu]\n"):],
			wantErr: []string{"missing credentials"}},
		{name: "a known endpoint given as a URL", endpoint: "https://eu.api.ovh.com/v1", cwd: keysEU, want: credentialsEU},
		{name: "the named section goes before the URL's",
			cwd:  "[https://eu.api.ovh.com/1.0]\nconsumer_key = url\napplication_key = AK\n[ovh-eu]\napplication_secret = AS\nconsumer_key = CK\n",
			want: credentialsEU},
		{name: "profile of OVH_PROFILE", env: []string{"PROFILE=work"}, home: keysEU + "[profile:work]\naccess_token = W\n[profile:other]\naccess_token = O\n",
			cwd: "[default]\nprofile = other\n", want: Credentials{AccessToken: "W"}},
		{name: "white space around a profile's name", env: []string{"PROFILE= work\n"}, home: "[profile:work]\naccess_token = W\n",
			want: Credentials{AccessToken: "W"}},
		{name: "profile of [default]", home: keysEU + "[default]\nprofile = work\n[profile:work]\nendpoint = ovh-eu\naccess_token = W\n",
			want: Credentials{AccessToken: "W"}},
		{name: "the profile called default is none", env: []string{"PROFILE=default"},
			home: keysEU + "[default]\nprofile = work\n[profile:work]\naccess_token = W\n", want: credentialsEU},
		{name: "nothing completes a profile", env: []string{"PROFILE=work"}, home: keysEU + "[profile:work]\napplication_key = W\n",
			wantErr: []string{"application_secret, consumer_key are missing", "[profile:work]"}},
		{name: "variables go before a profile", env: []string{"PROFILE=work", "CONSUMER_KEY=mine"},
			home: "[profile:work]\napplication_key = AK\napplication_secret = AS\nconsumer_key = W\n",
			want: Credentials{ApplicationKey: "AK", ApplicationSecret: "AS", ConsumerKey: "mine"}},
		{name: "a profile of another endpoint is passed over", env: []string{"PROFILE=work"},
			home: keysEU + "[profile:work]\nendpoint = ovh-ca\naccess_token = W\n", want: credentialsEU},
		{name: "a profile of no endpoint", env: []string{"PROFILE=work"}, home: "[profile:work]\nendpoint = moon\naccess_token = W\n",
			wantErr: []string{`endpoint "moon"`}},
		{name: "no such profile", env: []string{"PROFILE=play"}, home: keysEU + "[profile:work]\naccess_token = W\n",
			wantErr: []string{"[profile:play]", "OVH_PROFILE"}},
		{name: "a complete environment needs no profile", env: []string{"PROFILE=play", "ACCESS_TOKEN=T"}, want: Credentials{AccessToken: "T"}},
		{name: "no service accounts at Kimsufi", endpoint: KimsufiEU, cwd: "[kimsufi-eu]\n" + sa, wantErr: []string{"kimsufi-eu has no OAuth2"}},
		{name: "a control character inside", env: []string{"APPLICATION_KEY=my\nAK", "APPLICATION_SECRET=AS", "CONSUMER_KEY=CK"},
			wantErr: []string{"application_key has a control character"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := isolate(t)
			for _, assignment := range test.env {
				name, value, _ := strings.Cut(assignment, "=")
				t.Setenv("OVH_"+name, value)
			}
			for path, text := range map[string]string{f.etc: test.etc, f.home: test.home, f.cwd: test.cwd} {
				if text != "" {
					write(t, path, text)
				}
			}
			e := test.endpoint
			if e == "" {
				e = EU
			}
			if test.wantErr != nil {
				_, err := sentBy(t, DefaultCredentials(e), e)
				for _, part := range test.wantErr {
					if err == nil || !strings.Contains(err.Error(), part) || strings.Count(err.Error(), "ovhauth: ") != 1 {
						t.Errorf("error %v lacks %q, or a single prefix", err, part)
					}
				}
				return
			}
			got, err := DefaultCredentials(e).Retrieve(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got, err = got.usable(t.Context(), everything, nil); err != nil || got != test.want {
				t.Errorf("got key %q secret %q consumer %q token %q, %v",
					got.ApplicationKey, got.ApplicationSecret, got.ConsumerKey, got.AccessToken, err)
			}
		})
	}
}

// Of several sections that are named by URLs of one API, it is always the same that counts.
func TestSectionsHaveAnOrder(t *testing.T) {
	isolate(t)
	for _, name := range []string{"https://eu.api.ovh.com/1.0", "https://api.ovh.com/v1", "https://api.eu.ovhcloud.com", "https://api.ovh.com/1.0"} {
		appendTo(t, "ovh.conf", section(name, map[string]string{"access_token": name}))
	}
	for range 20 {
		if c, err := FileCredentials(EU).Retrieve(t.Context()); err != nil || c.AccessToken != "https://api.eu.ovhcloud.com" {
			t.Fatalf("got that of %s, %v; want that of the first in alphabetical order", c.AccessToken, err)
		}
	}
}

func TestSourcesOfEachProvider(t *testing.T) {
	f := isolate(t)
	write(t, f.home, keysEU)
	t.Setenv("OVH_ACCESS_TOKEN", "T")
	mine := filepath.Join(t.TempDir(), "mine.conf")
	write(t, mine, "[default]\nendpoint = ovh-ca\n[ovh-eu]\nconsumer_key = mine\n[ovh-ca]\naccess_token = ca\n")
	t.Setenv("HOME", filepath.Dir(f.home))
	for name, test := range map[string]struct {
		p    CredentialProvider
		want Credentials
	}{
		"default":                  {DefaultCredentials(EU), Credentials{AccessToken: "T"}},
		"environment":              {EnvCredentials(), Credentials{AccessToken: "T"}},
		"default files":            {FileCredentials(EU), credentialsEU},
		"one file":                 {FileCredentials(EU, mine), Credentials{ConsumerKey: "mine"}},
		"two files":                {FileCredentials(EU, "~/.ovh.conf", mine), Credentials{ApplicationKey: "AK", ApplicationSecret: "AS", ConsumerKey: "mine"}},
		"two files, other order":   {FileCredentials(EU, mine, "~/.ovh.conf"), credentialsEU},
		"endpoint of the file":     {FileCredentials("", mine), Credentials{AccessToken: "ca"}},
		"environment, no endpoint": {DefaultCredentials(""), Credentials{AccessToken: "T"}},
	} {
		if got, err := test.p.Retrieve(t.Context()); err != nil || got != test.want {
			t.Errorf("%s: got key %q consumer %q token %q, %v", name, got.ApplicationKey, got.ConsumerKey, got.AccessToken, err)
		}
	}
}

// EnvCredentials opens no file, be it for keys or for the endpoint of a service account.
func TestEnvCredentialsReadsNoFile(t *testing.T) {
	f := isolate(t)
	write(t, f.cwd, "[default]\nendpoint = ovh-ca\n"+keysEU)
	t.Setenv("OVH_CONSUMER_KEY", "mine")
	if got, err := EnvCredentials().Retrieve(t.Context()); err != nil || got != (Credentials{ConsumerKey: "mine"}) {
		t.Errorf("got %v, %v", got, err)
	}
	t.Setenv("OVH_CONSUMER_KEY", "")
	t.Setenv("OVH_CLIENT_ID", "ID")
	t.Setenv("OVH_CLIENT_SECRET", "S")
	asked := ""
	ctx := through(t.Context(), func(req *http.Request) (*http.Response, error) {
		asked = req.URL.Host
		return response(400, ""), nil
	})
	for endpoint, want := range map[string]string{"": "www.ovh.com", "ovh-ca": "ca.ovh.com"} {
		t.Setenv("OVH_ENDPOINT", endpoint)
		if EnvCredentials().Retrieve(ctx); asked != want {
			t.Errorf("OVH_ENDPOINT %q: asked %s for a token, want %s", endpoint, asked, want)
		}
	}
}

func TestPathsAreCopied(t *testing.T) {
	f := isolate(t)
	write(t, f.etc, keysEU)
	paths := []string{f.etc}
	p := FileCredentials(EU, paths...)
	paths[0] = "absent.conf"
	if got, err := p.Retrieve(t.Context()); err != nil || got != credentialsEU {
		t.Errorf("got %v, %v, want the keys of the first path", got, err)
	}
}

func TestDefaultEndpoint(t *testing.T) {
	const broken = "[ovh-eu\n"
	for _, test := range []struct {
		name, env, profile, token, home, cwd string
		want                                 Endpoint // "" for an error
	}{
		{name: "nothing", want: EU},
		{name: "variable", env: " ovh-ca ", cwd: broken, want: CA},
		{name: "blank variable", env: " ", cwd: "[default]\nendpoint = ovh-us\n", want: US},
		{name: "empty in the higher file", home: "[default]\nendpoint = ovh-us\n", cwd: "[default]\nendpoint =\n", want: US},
		{name: "file", cwd: "[default]\nendpoint = ovh-us\n", want: US},
		{name: "higher file", home: "[default]\nendpoint = ovh-us\n", cwd: "[default]\nendpoint = ovh-ca\n", want: CA},
		{name: "URL in the file", cwd: "[default]\nendpoint = https://api.ovh.com/\n", want: "https://api.ovh.com/1.0"},
		{name: "profile", profile: "p", cwd: "[default]\nendpoint = ovh-us\n[profile:p]\nendpoint = ovh-ca\n", want: CA},
		{name: "profile without endpoint", profile: "p", cwd: "[default]\nendpoint = ovh-us\n[profile:p]\nx = y\n", want: US},
		{name: "unknown", cwd: "[default]\nendpoint = mars\n"},
		{name: "broken file", cwd: broken},
		{name: "broken file, complete environment", token: "T", home: "[default]\nendpoint = ovh-us\n", cwd: broken, want: US},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := isolate(t)
			t.Setenv("OVH_ENDPOINT", test.env)
			t.Setenv("OVH_PROFILE", test.profile)
			t.Setenv("OVH_ACCESS_TOKEN", test.token)
			for path, text := range map[string]string{f.home: test.home, f.cwd: test.cwd} {
				if text != "" {
					write(t, path, text)
				}
			}
			asked := ""
			client := &http.Client{Transport: &Transport{
				Credentials: Credentials{AccessToken: "T"},
				Base: roundTripFunc(func(req *http.Request) (*http.Response, error) {
					asked = req.URL.String()
					return response(200, "{}"), nil
				}),
			}}
			resp, err := client.Get("/me")
			if test.want == "" {
				if err == nil {
					t.Errorf("asked %s", asked)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if want := string(test.want) + "/me"; asked != want {
				t.Errorf("asked %s, want %s", asked, want)
			}
		})
	}
}

// TestValues compares what three readers make of a value of ovh.conf. The column of Python was measured with configparser's
// RawConfigParser of 3.11, which is what python-ovh uses; that of go-ovh is what its ini.LooseLoad and Key.String do here.
func TestValues(t *testing.T) {
	const failure = "(error)"
	for _, test := range []struct{ written, python, goOVH string }{
		{`plain`, `plain`, `plain`},
		{`a#b`, `a#b`, `a`},
		{`a #b`, `a #b`, `a`},
		{`a;b`, `a;b`, `a`},
		{`a ; b`, `a ; b`, `a`},
		{`#a`, `#a`, ``},
		{`;a`, `;a`, ``},
		{`a%b`, `a%b`, `a%b`},
		{`%(consumer_key)s`, `%(consumer_key)s`, `CK`},
		{`a\b`, `a\b`, `a\b`},
		{`a\`, `a\`, `aconsumer_key = CK`},
		{`a\n`, `a\n`, `a\n`},
		{`"a"`, `"a"`, `a`},
		{`'a'`, `'a'`, `a`},
		{`"a`, `"a`, `"a`},
		{`""`, `""`, ``},
		{`"a;b"`, `"a;b"`, `"a`},
		{"`a`", "`a`", `a`},
		{"`a", "`a", failure},
		{`"""a"""`, `"""a"""`, `a`},
		{`'\''a'\''`, `'\''a'\''`, `'\''a'\''`},
		{`a=b`, `a=b`, `a=b`},
		{`a:b`, `a:b`, `a:b`},
		{`[a]`, `[a]`, `[a]`},
		{"  a  \t", `a`, `a`},
		{`$HOME`, `$HOME`, `$HOME`},
	} {
		isolate(t)
		text := "[ovh-eu]\napplication_key = " + test.written + "\nconsumer_key = CK\n"
		write(t, "ovh.conf", text)
		got, err := FileCredentials(EU).Retrieve(t.Context())
		if err != nil || got.ApplicationKey != test.python {
			t.Errorf("%s: read as %q, %v; python-ovh reads %q", test.written, got.ApplicationKey, err, test.python)
		}
		goOVH := failure
		if file, err := ini.LooseLoad([]byte(text)); err == nil {
			goOVH = file.Section("ovh-eu").Key("application_key").String()
		}
		if goOVH != test.goOVH {
			t.Errorf("%s: go-ovh reads %q, not %q", test.written, goOVH, test.goOVH)
		}
	}
}

func TestForm(t *testing.T) {
	for name, text := range map[string]string{
		"Windows line ends": "[ovh-eu]\r\naccess_token = T\r\n",
		"byte order mark":   "\ufeff[ovh-eu]\naccess_token = T\n",
		"no last line end":  "[ovh-eu]\naccess_token=T",
		"colon":             "[ovh-eu]\naccess_token: T\n",
		"upper case":        "[ovh-eu]\nAccess_Token = T\n",
		"comments":          "; a = b\n# [x\n[ovh-eu] ; c = d\n  # e\naccess_token = T\n",
		"indented":          "[ovh-eu]\n  access_token = T\n",
		"the last of two":   "[ovh-eu]\naccess_token = x\n[default]\n[ovh-eu]\naccess_token = T\n",
		"other sections":    "[client]\nuser = x\n[ovh-eu]\naccess_token = T\n",
	} {
		isolate(t)
		write(t, "ovh.conf", text)
		if got, err := FileCredentials(EU).Retrieve(t.Context()); err != nil || got.AccessToken != "T" {
			t.Errorf("%s: read %q, %v", name, got.AccessToken, err)
		}
	}
}

func TestQuotesAfterAColon(t *testing.T) {
	isolate(t)
	write(t, "ovh.conf", "[ovh-eu]\naccess_token: `T`\n")
	if got, err := FileCredentials(EU).Retrieve(t.Context()); err != nil || got.AccessToken != "`T`" {
		t.Errorf("got token %q, %v, want it with its quotes", got.AccessToken, err)
	}
}

func TestBrokenFiles(t *testing.T) {
	f := isolate(t)
	broken := filepath.Join(t.TempDir(), "broken.conf")
	write(t, broken, keysEU+"s3cr3t\n[default]\nendpoint = ovh-eu\n")
	for _, test := range []struct {
		name string
		p    CredentialProvider
		want []string
	}{
		{"explicit and absent", FileCredentials(EU, "absent.conf"), []string{"absent.conf", "no such file"}},
		{"explicit and absent, beside a good one", FileCredentials(EU, "absent.conf", f.etc), []string{"absent.conf"}},
		{"no =", FileCredentials(EU, broken), []string{broken + ", line 5: "}},
	} {
		write(t, f.etc, keysEU)
		_, err := test.p.Retrieve(t.Context())
		for _, part := range test.want {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %v lacks %q", test.name, err, part)
			}
		}
		if err != nil && strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: it shows the secret: %v", test.name, err)
		}
	}
	for _, text := range []string{"[ovh-eu", "[]\n", "= s3cr3t", "[ovh-eu]\n\"s3cr3t = x\n"} {
		write(t, broken, "# a comment\n"+text)
		_, err := FileCredentials(EU, broken).Retrieve(t.Context())
		if err == nil || strings.Contains(err.Error(), "s3cr3t") || !strings.Contains(err.Error(), broken+", line ") {
			t.Errorf("%q: got %v, want an error with file and line, without the secret", text, err)
		}
	}
}

// TestCompleteEnvironment is go-ovh's issue 95: what is broken but not needed is no error.
func TestCompleteEnvironment(t *testing.T) {
	f := isolate(t)
	write(t, f.cwd, "[broken")
	if err := os.Mkdir(f.home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OVH_APPLICATION_KEY", "AK")
	t.Setenv("OVH_APPLICATION_SECRET", "AS")
	if _, err := sentBy(t, nil, ""); err == nil {
		t.Error("no error, with the consumer key missing")
	}
	t.Setenv("OVH_CONSUMER_KEY", "CK")
	if got, err := sentBy(t, nil, ""); err != nil || got.ConsumerKey != "CK" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestNothingFound(t *testing.T) {
	f := isolate(t)
	_, err := sentBy(t, nil, "")
	if !errors.Is(err, ErrMissingCredentials) {
		t.Fatal(err)
	}
	for _, key := range slices.Concat(kinds...) {
		if !strings.Contains(err.Error(), variable(key)) || !strings.Contains(err.Error(), key) {
			t.Errorf("%q does not name %s", err, key)
		}
	}
	for _, part := range []string{f.etc, f.home, f.cwd, "[ovh-eu]", "https://eu.api.ovh.com/createToken/"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not name %s", err, part)
		}
	}
	if n := strings.Count(err.Error(), "ovhauth: "); n != 1 {
		t.Errorf("%q has %d prefixes", err, n)
	}
	if strings.Contains(err.Error(), "skipped") {
		t.Errorf("%q says that files were skipped, want nothing said of those that are absent", err)
	}
	if _, err := sentBy(t, EnvCredentials(), EU); strings.Contains(err.Error(), f.home) {
		t.Errorf("%q names what has nothing to do with it", err)
	}
	if _, err := sentBy(t, nil, "https://api.example.com"); strings.Contains(err.Error(), "createToken") {
		t.Errorf("%q names what has nothing to do with it", err)
	}
	if _, err := sentBy(t, nil, RunAboveCA); strings.Contains(err.Error(), "createToken") {
		t.Errorf("%q sends the reader to a closed service", err)
	}
	write(t, f.cwd, "[default]\nendpoint = https://api.example.com\n")
	if _, err := sentBy(t, nil, ""); strings.Contains(err.Error(), "OVH_") {
		t.Errorf("%q names the environment, whose keys a file's endpoint does not get", err)
	}
	os.Remove(f.cwd)
	if _, err := sentBy(t, FileCredentials(EU), EU); strings.Contains(err.Error(), "OVH_") {
		t.Errorf("%q names what has nothing to do with it", err)
	}
	t.Setenv("OVH_CLIENT_ID", "ID")
	if _, err := sentBy(t, nil, EU); strings.Contains(err.Error(), "createToken") {
		t.Errorf("%q: a service account is not made there", err)
	}
}

func TestWhatIsRemembered(t *testing.T) {
	f := isolate(t)
	p := FileCredentials(EU)
	retrieve := func() string {
		c, err := p.Retrieve(t.Context())
		if err != nil {
			return "error"
		}
		return c.ApplicationKey + c.ConsumerKey + c.AccessToken
	}
	for _, step := range []struct{ file, want string }{
		{"", ""},
		{"[broken", "error"},
		{"[ovh-eu]\napplication_key = AK\n", "AK"},
		{"[ovh-eu]\naccess_token = T\n", "T"},
		{keysEU, "T"}, // what is complete stays
	} {
		if step.file != "" {
			write(t, f.cwd, step.file)
		}
		if got := retrieve(); got != step.want {
			t.Errorf("with %q: %q, want %q", step.file, got, step.want)
		}
	}
	invalidate := p.(interface{ Invalidate(Credentials) }).Invalidate
	if invalidate(Credentials{AccessToken: "another"}); retrieve() != "T" {
		t.Error("the rejection of another token counted")
	}
	if invalidate(Credentials{AccessToken: "T"}); retrieve() != "AKCK" {
		t.Error("a rejected token was not looked up again")
	}
	FileCredentials(EU).(interface{ Invalidate(Credentials) }).Invalidate(Credentials{}) // before the first Retrieve
}

// printed returns v as verbs, slog and JSON print it.
func printed(v any, verbs string) string {
	var b strings.Builder
	for _, verb := range verbs {
		for _, flag := range []string{"", "+", "#"} {
			fmt.Fprintf(&b, "%"+flag+string(verb)+"\n", v)
		}
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("", "v", v)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("", "v", v)
	encoded, _ := json.Marshal(v)
	return b.String() + string(encoded)
}

func TestNothingPrintsASecret(t *testing.T) {
	f := isolate(t)
	const (
		secret = "s3cr3tkey"
		verbs  = "vsqxXdtTbcoOUeEfFgG"
		all    = verbs + "pw" // these two fmt does not leave to a type's own Format
	)
	leaks := func(s string) bool {
		s = strings.ToLower(s)
		return strings.Contains(s, secret) || strings.Contains(s, fmt.Sprintf("%x", secret)) ||
			strings.Contains(s, strings.Trim(fmt.Sprint([]byte(secret)), "[]"))
	}
	write(t, f.cwd, "[ovh-eu]\nclient_id = ID\nclient_secret = "+secret+"\n[ovh-ca]\napplication_key = "+secret+
		"\napplication_secret = "+secret+"\nconsumer_key = "+secret+"\n")
	t.Setenv("OVH_ACCESS_TOKEN", secret)
	for name, p := range map[string]CredentialProvider{
		"service account":           ServiceAccount(EU, "ID", secret),
		"service account in a file": FileCredentials(EU),
		"keys in a file":            FileCredentials(CA),
		"environment":               EnvCredentials(),
		"default":                   DefaultCredentials(EU),
	} {
		if _, err := sentBy(t, p, EU); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s := printed(p, all); leaks(s) {
			t.Errorf("%s: it shows the secret: %s", name, s)
		}
		if s := printed(struct{ P CredentialProvider }{p}, all); leaks(s) {
			t.Errorf("%s in a struct: %s", name, s)
		}
		if s := printed(&Transport{Credentials: p}, all); leaks(s) {
			t.Errorf("%s in a Transport: %s", name, s)
		}
	}
	c := Credentials{ApplicationKey: secret, ApplicationSecret: secret, ConsumerKey: secret, AccessToken: secret}
	if s := printed(c, verbs) + printed(&c, verbs+"p"); leaks(s) {
		t.Errorf("Credentials: %s", s)
	}
	text, _ := c.MarshalText()
	asXML, err := xml.Marshal(c)
	asKey, keyErr := json.Marshal(map[Credentials]int{c: 1})
	if s := c.String() + string(text) + string(asXML) + string(asKey); err != nil || keyErr != nil || leaks(s) || strings.Count(s, redacted) != 16 {
		t.Errorf("as text, XML and a key of JSON: %v, %v: %s", err, keyErr, s)
	}
	transport := &Transport{Credentials: c, Base: roundTripFunc(func(*http.Request) (*http.Response, error) { return response(200, "{}"), nil })}
	retry := &RetryTransport{Base: transport}
	req, _ := http.NewRequest("GET", "https://eu.api.ovh.com/1.0/me", nil)
	if _, err := retry.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	for _, used := range []any{transport, retry} { // by value, which only a mistake prints
		if s := printed(reflect.ValueOf(used).Elem().Interface(), verbs) + printed(used, verbs+"p"); leaks(s) {
			t.Errorf("%T: %s", used, s)
		}
	}
}

// The provider says where its credentials were found, and none of them.
func TestProviderSaysItsSource(t *testing.T) {
	for _, test := range []struct {
		name   string
		env    string // OVH_CONSUMER_KEY
		home   string
		cwd    string
		p      CredentialProvider
		before string
		want   string
	}{
		{name: "environment", env: "CK", p: EnvCredentials(), before: "no credentials yet from the environment", want: "no credentials yet from the environment"},
		{name: "home", home: keysEU, p: DefaultCredentials(EU), want: "[ovh-eu] of ~/.ovh.conf"},
		{name: "URL", cwd: strings.Replace(keysEU, "ovh-eu", "https://api.ovh.com/1.0", 1), p: DefaultCredentials(EU), want: "[https://api.ovh.com/1.0] of ./ovh.conf"},
		{name: "both", env: "CK2", home: keysEU, cwd: "[ovh-eu]\napplication_key = AK2\n", p: DefaultCredentials(EU),
			want: "the environment, [ovh-eu] of ./ovh.conf, [ovh-eu] of ~/.ovh.conf"},
		{name: "not needed", home: keysEU, cwd: keysEU, p: FileCredentials(""), before: "no credentials yet from ./ovh.conf, ~/.ovh.conf, ", want: "[ovh-eu] of ./ovh.conf"},
		{name: "service account", p: ServiceAccount(EU, "my-id", "my-secret"), before: "service account at https://eu.api.ovh.com/1.0", want: "service account at https://eu.api.ovh.com/1.0"},
		{name: "account of no endpoint", p: ServiceAccount("", "my-id", "my-secret"), want: "service account at the default endpoint"},
	} {
		f := isolate(t)
		t.Setenv("OVH_CONSUMER_KEY", test.env)
		write(t, f.home, test.home)
		write(t, f.cwd, test.cwd)
		if got := fmt.Sprint(test.p); !strings.HasPrefix(got, test.before) {
			t.Errorf("%s: before it is used it says %q, want %q", test.name, got, test.before)
		}
		ctx := through(t.Context(), func(*http.Request) (*http.Response, error) { return response(200, `{"access_token":"T"}`), nil })
		if _, err := test.p.Retrieve(ctx); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(test.p); got != test.want {
			t.Errorf("%s: it says %q, want %q", test.name, got, test.want)
		}
	}
}

func TestProviderErrorKeepsItsPrefixAndCause(t *testing.T) {
	cause := errors.New("vault is sealed")
	_, err := sentBy(t, CredentialFunc(func(context.Context) (Credentials, error) { return Credentials{}, cause }), EU)
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "ovhauth: credentials: vault is sealed") {
		t.Errorf("got %v, want the provider's error, with the prefix", err)
	}
}

// The environment is not a file's business, even if it is for the same endpoint.
func TestFileCredentialsLeavesTheEnvironmentAlone(t *testing.T) {
	f := isolate(t)
	for key, value := range map[string]string{"endpoint": "ovh-eu", "application_key": "env", "application_secret": "env", "consumer_key": "env"} {
		t.Setenv(variable(key), value)
	}
	write(t, f.home, section("ovh-eu", map[string]string{"application_key": "file", "application_secret": "file", "consumer_key": "file"}))
	if c, err := FileCredentials(EU).Retrieve(t.Context()); err != nil || c.ApplicationKey != "file" {
		t.Errorf("got application key %q, %v, want that of the file", c.ApplicationKey, err)
	}
}

// Keys and the endpoint that they are for come from the same files.
func TestTransportTakesTheEndpointOfItsFiles(t *testing.T) {
	isolate(t)
	write(t, "mine.conf", "[default]\nendpoint = ovh-ca\n"+section("ovh-ca", map[string]string{"access_token": "ca"})+section("ovh-eu", map[string]string{"access_token": "eu"}))
	transport := &Transport{Credentials: FileCredentials("", "mine.conf"), Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host != "ca.api.ovh.com" || r.Header.Get("Authorization") != "Bearer ca" {
			t.Errorf("%s went to %s", r.Header.Get("Authorization"), r.URL)
		}
		return response(200, ""), nil
	})}
	req, _ := http.NewRequest("GET", "/me", nil)
	if _, err := transport.RoundTrip(req); err != nil {
		t.Errorf("GET /me: %v", err)
	}
}

// The Transport's own Endpoint goes before that of the provider.
func TestTransportHasAnEndpointOfItsOwn(t *testing.T) {
	isolate(t)
	t.Setenv("OVH_ACCESS_TOKEN", "T")
	write(t, "ovh.conf", section("ovh-eu", map[string]string{"access_token": "T"}))
	for _, p := range []CredentialProvider{EnvCredentials(), FileCredentials(EU), DefaultCredentials(EU)} {
		asked := ""
		req, _ := http.NewRequest("GET", "/me", nil)
		_, err := (&Transport{Endpoint: CA, Credentials: p, Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
			asked = r.URL.Host
			return response(200, ""), nil
		})}).RoundTrip(req)
		if err != nil || asked != "ca.api.ovh.com" {
			t.Errorf("%v: asked %s, %v; want ca.api.ovh.com", p, asked, err)
		}
	}
}

// A home that is no directory, as service users have it, holds no file; the other places count.
func TestHomeIsNoDirectory(t *testing.T) {
	f := isolate(t)
	t.Setenv("HOME", os.DevNull)
	write(t, f.etc, section("ovh-eu", map[string]string{"access_token": "etc"}))
	if c, err := DefaultCredentials(EU).Retrieve(t.Context()); err != nil || c.AccessToken != "etc" {
		t.Errorf("got token %q, %v, want that of the system's file", c.AccessToken, err)
	}
}

// Without a home directory there is no file in it: one in a directory that is called "~" is somebody else's.
func TestNoHome(t *testing.T) {
	isolate(t)
	t.Setenv("HOME", "")
	if err := os.Mkdir("~", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, "~/.ovh.conf", keysEU)
	if c, err := DefaultCredentials(EU).Retrieve(t.Context()); err != nil || c != (Credentials{}) {
		t.Errorf("got %v, %v, want no credentials", c, err)
	}
	if c, err := FileCredentials(EU, "~/absent.conf", "./~/.ovh.conf").Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "~/absent.conf") {
		t.Errorf("below it: got %v, %v, want an error that names the file", c, err)
	}
	if c, err := FileCredentials(EU, "./~/.ovh.conf").Retrieve(t.Context()); err != nil || c != credentialsEU {
		t.Errorf("named explicitly: got %v, %v, want its keys", c, err)
	}
}

// A line with a bracket in its name opens no quotes that swallow the next ones.
func TestBracketsInNames(t *testing.T) {
	for _, quote := range []string{`"""`, "`"} {
		sections, broken := parseConf([]byte("[ovh-eu]\nnote[1] = " + quote + "\naccess_token = T\nother = x" + quote + "\n"))
		if broken != 0 || sections["ovh-eu"]["access_token"] != "T" {
			t.Errorf("%s: %v, line %d", quote, sections, broken)
		}
	}
}

// A byte order mark belongs to no name.
func TestByteOrderMark(t *testing.T) {
	sections, broken := parseConf([]byte("\uFEFF[profile:work]\naccess_token = T\n"))
	if broken != 0 || sections["profile:work"]["access_token"] != "T" {
		t.Errorf("%q, line %d", sections, broken)
	}
}

// A blank access token is none.
func TestBlankToken(t *testing.T) {
	c, err := Credentials{ApplicationKey: "a", ApplicationSecret: "s", ConsumerKey: "c", AccessToken: " \n"}.usable(t.Context(), everything, nil)
	if err != nil || c.AccessToken != "" {
		t.Errorf("got token %q, %v, want none", c.AccessToken, err)
	}
}

// The same API on its scheme's own port is the same API, above all for where a secret is sent.
func TestOwnPortIsTheSameEndpoint(t *testing.T) {
	isolate(t)
	if e, err := parseEndpoint("https://eu.api.ovh.com:443/1.0"); err != nil || e.region != regionsByName["ovh-eu"] {
		t.Errorf("region %v, %v, want ovh-eu", e.region, err)
	}
	t.Setenv("OVH_ENDPOINT", "https://eu.api.ovh.com:443/1.0")
	t.Setenv("OVH_ACCESS_TOKEN", "env")
	if c, err := DefaultCredentials(EU).Retrieve(t.Context()); err != nil || c.AccessToken != "env" {
		t.Errorf("got token %q, %v, want that of the environment", c.AccessToken, err)
	}
}
