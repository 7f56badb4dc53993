package ovhauth_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"example.com/ovhauth"
)

func TestParseEndpoint(t *testing.T) {
	for _, test := range []struct {
		in   string
		want ovhauth.Endpoint
	}{
		{"ovh-eu", ovhauth.EU},
		{"ovh-ca", ovhauth.CA},
		{"ovh-us", ovhauth.US},
		{"kimsufi-eu", ovhauth.KimsufiEU},
		{"kimsufi-ca", ovhauth.KimsufiCA},
		{"soyoustart-eu", ovhauth.SoYouStartEU},
		{"soyoustart-ca", ovhauth.SoYouStartCA},
		{"runabove-ca", ovhauth.RunAboveCA},
		{" ovh-eu\n", ovhauth.EU},
		{"https://eu.api.ovh.com/1.0", "https://eu.api.ovh.com/1.0"},
		{"HTTPS://EU.API.OVH.COM/1.0/", "https://eu.api.ovh.com/1.0"},
		{"https://eu.api.ovh.com/1.0//", "https://eu.api.ovh.com/1.0"},
		{"https://api.example.com:4242", "https://api.example.com:4242"},
		{"https://gate.example/a%2Fb/1.0", "https://gate.example/a%2Fb/1.0"},
		{"http://LocalHost:8080/1.0", "http://localhost:8080/1.0"},
		{"http://127.0.0.2", "http://127.0.0.2"},
		{"http://[::1]:80", "http://[::1]"},
		{"https://eu.api.ovh.com:443/1.0", "https://eu.api.ovh.com/1.0"},
		{"https://eu.api.ovh.com:/1.0", "https://eu.api.ovh.com/1.0"},
		{"https://eu.api.ovh.com:80/1.0", "https://eu.api.ovh.com:80/1.0"},
		{"https://eu.api.ovh.com", ovhauth.EU},
		{"https://API.eu.ovhcloud.com:443/", "https://api.eu.ovhcloud.com/1.0"},
		{"https://api.ovh.com/v1", "https://api.ovh.com/v1"},
	} {
		if got, err := ovhauth.ParseEndpoint(test.in); got != test.want || err != nil {
			t.Errorf("ParseEndpoint(%q) = %q, %v; want %q", test.in, got, err, test.want)
		}
	}
	for _, test := range []struct {
		in    string
		says  string
		cause error
	}{
		{"", "soyoustart-ca", nil},
		{"ovh-fr", `"ovh-fr" is neither`, nil},
		{"eu.api.ovh.com/1.0", "https://", nil},
		{"ftp://eu.api.ovh.com", "neither", nil},
		{"https://", "neither", nil},
		{"https://:443/1.0", "neither", nil},
		{"https://eu.api.ovh.com/%zz", "neither", nil},
		{"http://eu.api.ovh.com/1.0", "use https", ovhauth.ErrPlainHTTP},
		{"http://localhost.example", "use https", ovhauth.ErrPlainHTTP},
		{"https://user:hunter2@eu.api.ovh.com", "only have a scheme", nil},
		{"https://user:hunter2@eu.api.ovh.com/%zz", "neither", nil},
		{"https://eu.api.ovh.com?x=hunter2", "only have a scheme", nil},
		{"https://eu.api.ovh.com?", "only have a scheme", nil},
		{"https://eu.api.ovh.com#hunter2", "only have a scheme", nil},
		{"https://é.example", "ASCII", nil},
		{"https://[fe80::1%25eth0]", "ASCII", nil},
	} {
		got, err := ovhauth.ParseEndpoint(test.in)
		if err == nil || got != "" || test.cause != nil && !errors.Is(err, test.cause) {
			t.Errorf("ParseEndpoint(%q) = %q, %v", test.in, got, err)
			continue
		}
		if s := err.Error(); !strings.HasPrefix(s, "ovhauth: endpoint ") || !strings.Contains(s, test.says) || strings.Contains(s, "hunter2") {
			t.Errorf("ParseEndpoint(%q) says %q, want %q in it", test.in, s, test.says)
		}
	}
	if _, err := ovhauth.ParseEndpoint("nowhere"); strings.Contains(err.Error(), "runabove") {
		t.Errorf("a closed service is offered: %v", err)
	}
}

func ExampleParseEndpoint() {
	endpoint, _ := ovhauth.ParseEndpoint("ovh-ca")
	fmt.Println(endpoint)
	_, err := ovhauth.ParseEndpoint("ovh-fr")
	fmt.Println(err)
	// Output:
	// https://ca.api.ovh.com/1.0
	// ovhauth: endpoint "ovh-fr" is neither a known name (ovh-eu, ovh-ca, ovh-us, kimsufi-eu, kimsufi-ca, soyoustart-eu, soyoustart-ca) nor an https:// URL
}
