package ovhauth

import (
	"net/http"
	"net/url"
	"testing"
)

// sameAPI are the hosts of OVHcloud that serve one API.
var sameAPI = [][]string{
	{"eu.api.ovh.com", "api.eu.ovhcloud.com", "api.ovh.com"},
	{"ca.api.ovh.com", "api.ca.ovhcloud.com"},
	{"api.us.ovhcloud.com"},
	{"eu.api.kimsufi.com"},
	{"ca.api.kimsufi.com"},
	{"eu.api.soyoustart.com"},
	{"ca.api.soyoustart.com"},
	{"api.runabove.com"},
}

// Every endpoint owns the URLs of its region's hosts, and of no other region's.
func TestEndpointOwnsItsAliases(t *testing.T) {
	for i, ours := range sameAPI {
		for _, host := range ours {
			e, err := parseEndpoint(Endpoint("https://" + host + "/1.0"))
			if err != nil {
				t.Fatal(err)
			}
			for j, theirs := range sameAPI {
				for _, other := range theirs {
					if got := e.owns(&url.URL{Scheme: "https", Host: other, Path: "/1.0/me"}); got != (i == j) {
						t.Errorf("endpoint at %s owns %s: %t, want %t", host, other, got, i == j)
					}
				}
			}
		}
	}
}

func TestWhatAnEndpointOwns(t *testing.T) {
	for _, test := range []struct {
		endpoint Endpoint
		url      string
		want     bool
	}{
		{EU, "https://API.OVH.com/1.0/me", true},
		{EU, "https://api.ovh.com:443/1.0/me", true},
		{EU, "https://api.eu.ovhcloud.com/console/", true},
		{EU, "https://api.ovh.com:8443/1.0/me", false},
		{EU, "http://api.ovh.com/1.0/me", false},
		{EU, "http://api.ovh.com:443/1.0/me", false},
		{EU, "https://api.ovh.com.evil.example/1.0/me", false},
		{EU, "https://evil.example/api.ovh.com", false},
		{EU, "https://api.ovh.com./1.0/me", false},
		{"https://eu.api.ovh.com:8443/1.0", "https://api.ovh.com/1.0/me", false},
		{"https://eu.api.ovh.com:8443/1.0", "https://eu.api.ovh.com:8443/1.0/me", true},
		{"https://eu.api.ovh.com/other/1.0", "https://api.ovh.com/1.0/me", false},
		{"https://gate.example/1.0", "https://api.ovh.com/1.0/me", false},
	} {
		e, err := parseEndpoint(test.endpoint)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(test.url)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.owns(u); got != test.want {
			t.Errorf("%s owns %s: %t, want %t", test.endpoint, test.url, got, test.want)
		}
	}
}

// Pace and budget count the hosts of one API together, however they are spelled.
func TestAPIHost(t *testing.T) {
	for _, hosts := range sameAPI {
		for _, host := range hosts {
			if got := apiHost(host); got != hosts[0] {
				t.Errorf("%s counts as %s, want %s", host, got, hosts[0])
			}
		}
	}
	for host, want := range map[string]string{
		"API.OVH.com":      "eu.api.ovh.com",
		"api.ovh.com:443":  "eu.api.ovh.com",
		"api.ovh.com:8443": "api.ovh.com:8443",
		"Gate.example":     "gate.example",
		"gate.example:80":  "gate.example:80",
		"127.0.0.1:8080":   "127.0.0.1:8080",
		"":                 "",
	} {
		if got := apiHost(host); got != want {
			t.Errorf("%s counts as %s, want %s", host, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { apiHost("api.ovh.com") }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// A URL at an alias is signed with the host that it names.
func TestAliasIsSignedWithItsOwnHost(t *testing.T) {
	for _, hosts := range sameAPI {
		for _, endpoint := range hosts {
			for _, asked := range hosts {
				var sent *http.Request
				transport := &Transport{Endpoint: Endpoint("https://" + endpoint + "/1.0"), Credentials: credentialsEU,
					Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
						sent = r
						return response(200, "{}"), nil
					})}
				req, _ := http.NewRequest("GET", "https://"+asked+"/1.0/me", nil)
				if _, err := transport.RoundTrip(req); err != nil {
					t.Fatal(err)
				}
				if want := signatureOf(sent, credentialsEU, ""); sent.URL.Host != asked || sent.Header.Get("X-Ovh-Signature") != want {
					t.Errorf("endpoint at %s, URL at %s: sent to %s with signature %q, want %q",
						endpoint, asked, sent.URL.Host, sent.Header.Get("X-Ovh-Signature"), want)
				}
			}
		}
	}
}

// A redirect from one host of a region to another stays signed, and one to another region does not.
func TestRedirectBetweenAliases(t *testing.T) {
	for _, test := range []struct {
		to     string
		signed bool
	}{
		{"https://api.eu.ovhcloud.com/1.0/me", true},
		{"https://api.ovh.com/v1/me", true},
		{"https://api.ca.ovhcloud.com/1.0/me", false},
	} {
		var last *http.Request
		client := &http.Client{Transport: &Transport{Endpoint: EU, Credentials: credentialsEU,
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				if last = r; r.URL.Host == "eu.api.ovh.com" {
					resp := response(307, "")
					resp.Header.Set("Location", test.to)
					return resp, nil
				}
				return response(200, "{}"), nil
			})}}
		resp, err := client.Get("/me")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := last.Header.Get("X-Ovh-Signature") != ""; last.URL.String() != test.to || got != test.signed {
			t.Errorf("redirect to %s: sent to %s, signed %t, want %t", test.to, last.URL, got, test.signed)
		}
	}
}

// /1.0/me is the API's path as every client writes it.
func TestVersionInAPath(t *testing.T) {
	for _, test := range []struct {
		endpoint Endpoint
		path     string
		want     string
		signed   bool
	}{
		{EU, "/1.0/me", "https://eu.api.ovh.com/1.0/me", true},
		{EU, "1.0/me?a=b", "https://eu.api.ovh.com/1.0/me?a=b", true},
		{EU, "/1.0/ip/1.2.3.4%2F29", "https://eu.api.ovh.com/1.0/ip/1.2.3.4%2F29", true},
		{EU, "/1.0/auth/time", "https://eu.api.ovh.com/1.0/auth/time", false},
		{"https://api.ovh.com/v2", "/1.0/auth/time", "https://api.ovh.com/1.0/auth/time", false},
		{"https://api.ovh.com/v1", "/1.0/me", "https://api.ovh.com/1.0/me", true},
		{"https://gate.example/ovh/1.0", "/1.0/me", "https://gate.example/ovh/1.0/me", true},
		{"https://gate.example/ovh", "/1.0/me", "https://gate.example/ovh/1.0/me", true},
		{EU, "/1.0x/me", "https://eu.api.ovh.com/1.0/1.0x/me", true},
		{EU, "/1.0", "https://eu.api.ovh.com/1.0/1.0", true},
		{EU, "/v2", "https://eu.api.ovh.com/1.0/v2", true},
	} {
		var sent *http.Request
		client := &http.Client{Transport: &Transport{Endpoint: test.endpoint, Credentials: credentialsEU,
			Base: roundTripFunc(func(r *http.Request) (*http.Response, error) {
				sent = r
				return response(200, "{}"), nil
			})}}
		resp, err := client.Get(test.path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := sent.Header.Get("X-Ovh-Signature") != ""; sent.URL.String() != test.want || got != test.signed {
			t.Errorf("%s at %s: sent to %s, signed %t; want %s, %t", test.path, test.endpoint, sent.URL, got, test.want, test.signed)
		}
	}
}
