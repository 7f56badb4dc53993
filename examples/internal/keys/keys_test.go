package keys_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/ovhauth"
	"example.com/ovhauth/examples/internal/keys"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

const page = "https://page.example/"

// alone lets a test see no keys but those that it sets.
func alone(t *testing.T) (home string) {
	home = t.TempDir()
	t.Chdir(t.TempDir())
	t.Setenv("HOME", home)
	t.Setenv("USERPROFILE", home) // on Windows
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "OVH_") {
			t.Setenv(name, "")
		}
	}
	return home
}

func TestFind(t *testing.T) {
	api := ovhtest.NewServer()
	defer api.Close()
	c := api.Credentials()
	conf := "[default]\nendpoint=" + string(api.Endpoint()) + "\n[" + string(api.Endpoint()) + "]\napplication_key=" + c.ApplicationKey +
		"\napplication_secret=" + c.ApplicationSecret + "\nconsumer_key=" + c.ConsumerKey + "\n"
	for _, test := range []struct {
		name, conf string
		env        map[string]string
		own        bool // a server of its own
		want       string
	}{
		{"nothing", "", nil, true, page},
		{"an endpoint alone", "", map[string]string{"OVH_ENDPOINT": "ovh-eu"}, true, page},
		{"the environment", "", map[string]string{"OVH_ENDPOINT": string(api.Endpoint()), "OVH_APPLICATION_KEY": c.ApplicationKey,
			"OVH_APPLICATION_SECRET": c.ApplicationSecret, "OVH_CONSUMER_KEY": c.ConsumerKey}, false, "Keys: the environment.\n"},
		{"a file", conf, nil, false, ".ovh.conf.\n"},
		{"an application alone", "", map[string]string{"OVH_APPLICATION_KEY": c.ApplicationKey, "OVH_APPLICATION_SECRET": c.ApplicationSecret}, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			home := alone(t)
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			if test.conf != "" {
				if err := os.WriteFile(filepath.Join(home, ".ovh.conf"), []byte(test.conf), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var out strings.Builder
			transport, server, err := keys.Find(t.Context(), &out, page)
			if err != nil {
				t.Fatal(err)
			}
			if (server != nil) != test.own || !strings.Contains(out.String(), test.want) {
				t.Errorf("own server: %v, said %q; want %v, %q", server, &out, test.own, test.want)
			}
			for _, secret := range []string{c.ApplicationKey, c.ApplicationSecret, c.ConsumerKey} {
				if strings.Contains(out.String(), secret) {
					t.Errorf("said %q, which has a key in it", &out)
				}
			}
			if server != nil {
				defer server.Close()
			}
			if strings.HasPrefix(test.name, "an application") {
				return
			}
			if _, err := ovhjson.Get[any](t.Context(), &http.Client{Transport: transport}, "/me"); err != nil {
				t.Errorf("GET /me: %v, want no error", err)
			}
		})
	}
}

func TestFindReportsWhatIsWrong(t *testing.T) {
	alone(t)
	t.Setenv("OVH_ENDPOINT", "ovh-europe")
	if transport, server, err := keys.Find(t.Context(), new(strings.Builder), page); transport != nil || server != nil || err == nil {
		t.Errorf("got %v, %v, %v; want an error", transport, server, err)
	}
	t.Setenv("OVH_ENDPOINT", string(ovhauth.EU))
	t.Setenv("OVH_ACCESS_TOKEN", "a")
	t.Setenv("OVH_APPLICATION_KEY", "b")
	if transport, server, err := keys.Find(t.Context(), new(strings.Builder), page); transport != nil || server != nil || err == nil {
		t.Errorf("got %v, %v, %v; want an error", transport, server, err)
	}
}
