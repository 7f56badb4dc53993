package ovhauth

import (
	"cmp"
	"context"
	"net/netip"
	"net/url"
	"os"
	"strings"
)

// Endpoint is the base URL of one OVHcloud API, such as "https://eu.api.ovh.com/1.0". Accounts, keys and products belong to one
// endpoint: a key made at one is unknown to the others.
type Endpoint string

// The endpoints of OVHcloud and its brands. [ParseEndpoint] knows them by the names that ovh.conf and OVH_ENDPOINT use.
const (
	EU           Endpoint = "https://eu.api.ovh.com/1.0"        // ovh-eu
	CA           Endpoint = "https://ca.api.ovh.com/1.0"        // ovh-ca
	US           Endpoint = "https://api.us.ovhcloud.com/1.0"   // ovh-us
	KimsufiEU    Endpoint = "https://eu.api.kimsufi.com/1.0"    // kimsufi-eu
	KimsufiCA    Endpoint = "https://ca.api.kimsufi.com/1.0"    // kimsufi-ca
	SoYouStartEU Endpoint = "https://eu.api.soyoustart.com/1.0" // soyoustart-eu
	SoYouStartCA Endpoint = "https://ca.api.soyoustart.com/1.0" // soyoustart-ca

	// RunAboveCA is runabove-ca.
	//
	// Deprecated: the service is closed, and nothing answers there.
	RunAboveCA Endpoint = "https://api.runabove.com/1.0"
)

var endpointNames = map[string]Endpoint{
	"ovh-eu":        EU,
	"ovh-ca":        CA,
	"ovh-us":        US,
	"kimsufi-eu":    KimsufiEU,
	"kimsufi-ca":    KimsufiCA,
	"soyoustart-eu": SoYouStartEU,
	"soyoustart-ca": SoYouStartCA,
	"runabove-ca":   RunAboveCA,
}

const livingNames = "ovh-eu, ovh-ca, ovh-us, kimsufi-eu, kimsufi-ca, soyoustart-eu, soyoustart-ca"

// ParseEndpoint turns a name such as "ovh-eu", or a URL such as "https://eu.api.ovh.com/1.0", into an Endpoint. White space at
// the ends, a trailing slash and the scheme's own port are dropped, and the host is put in lower case.
//
// The error for an unknown name lists the names that there are. A URL must be https, unless its host is a loopback address or
// localhost (else the error is [ErrPlainHTTP]), and have no user, query or fragment.
func ParseEndpoint(nameOrURL string) (Endpoint, error) {
	e, err := parseEndpoint(Endpoint(nameOrURL))
	if err != nil {
		return "", err
	}
	return e.full(), nil
}

// parsedEndpoint is an Endpoint taken apart once, so that routing a request parses nothing. Paths are in their escaped form.
type parsedEndpoint struct {
	scheme string
	host   string // lower case, with the port if it was written
	base   string // "/1.0"
	root   string // base without its version: what /v1/ and /v2/ hang under

	timePaths       [2]string // where the time is asked for: below base, and below /v1
	credentialPaths [2]string // where consumer keys are
}

func parseEndpoint(e Endpoint) (*parsedEndpoint, error) {
	s := strings.TrimSpace(string(e))
	if known, ok := endpointNames[s]; ok {
		s = string(known)
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		// What could not be parsed is not repeated when it may hold a password.
		if strings.Contains(s, "@") {
			s = "…"
		}
		return nil, permanentErrorf("endpoint %q is neither a known name (%s) nor an https:// URL", s, livingNames)
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || !plainHost(u.Host) {
		return nil, permanentErrorf("endpoint %s://%s: only scheme, host (in ASCII), port and path may stand in it", u.Scheme, u.Hostname())
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return nil, permanentErrorf("endpoint %s: %w", u, ErrPlainHTTP)
	}
	host := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(u.Host), ":"), ":"+port(u.Scheme, ""))
	p := &parsedEndpoint{scheme: u.Scheme, host: host, base: strings.TrimRight(u.EscapedPath(), "/")}
	p.root = p.base
	for _, version := range []string{"/1.0", "/v1", "/v2"} {
		if root, ok := strings.CutSuffix(p.base, version); ok {
			p.root = root
		}
	}
	p.timePaths = [2]string{p.base + "/auth/time", p.root + "/v1/auth/time"}
	p.credentialPaths = [2]string{p.base + "/auth/credential", p.root + "/v1/auth/credential"}
	return p, nil
}

// findEndpoint takes e apart. "" is the endpoint that OVH_ENDPOINT names, else that of ovh.conf, here or in paths, else EU.
func findEndpoint(ctx context.Context, e Endpoint, paths ...string) (*parsedEndpoint, error) {
	if e == "" {
		e = environmentEndpoint()
	}
	if e == "" {
		c, err := readConf(confPaths(paths))
		if err != nil && !environmentComplete() {
			return nil, err
		}
		e = c.endpoint()
	}
	return parseEndpoint(e)
}

func environmentEndpoint() Endpoint {
	return Endpoint(strings.TrimSpace(os.Getenv("OVH_ENDPOINT")))
}

func (e *parsedEndpoint) full() Endpoint { return Endpoint(e.scheme + "://" + e.host + e.base) }

// same reports whether other is the same API, in whatever version.
func (e *parsedEndpoint) same(other *parsedEndpoint) bool {
	return e.host == other.host && e.root == other.root
}

// name is what ovh.conf calls the endpoint: a known name, or the URL itself.
func (e *parsedEndpoint) name() string {
	for name := range endpointNames {
		if known, err := parseEndpoint(Endpoint(name)); err == nil && known.same(e) {
			return name
		}
	}
	return string(e.full())
}

// plainHost reports whether host goes over the wire as it is written. Anything else net/http rewrites (a Unicode name, an IPv6
// zone) or drops (what no Host header may hold), and what was signed would not be what was sent.
func plainHost(host string) bool {
	for i := range len(host) {
		switch c := host[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~:[]", c) >= 0:
		default:
			return false
		}
	}
	return host != ""
}

func isLoopback(hostname string) bool {
	if strings.EqualFold(hostname, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(hostname)
	return err == nil && addr.IsLoopback()
}

// owns reports whether u, an absolute URL, has the endpoint's scheme, host and port.
func (e *parsedEndpoint) owns(u *url.URL) bool {
	if u.Scheme == e.scheme && u.Host == e.host {
		return true
	}
	return u.Scheme == e.scheme && e.hasName(u) && port(u.Scheme, u.Port()) == port(e.scheme, (&url.URL{Host: e.host}).Port())
}

// hasName reports whether u has the endpoint's host name, at whatever scheme and port.
func (e *parsedEndpoint) hasName(u *url.URL) bool {
	// Only an ASCII name can be equal: Unicode has other letters that fold to an ASCII one.
	return plainHost(u.Host) && strings.EqualFold(u.Hostname(), (&url.URL{Host: e.host}).Hostname())
}

func port(scheme, port string) string {
	switch {
	case port != "":
		return port
	case scheme == "https":
		return "443"
	default:
		return "80"
	}
}

// absolute puts the absolute form of u, a URL without a host, into abs, and returns its RequestURI.
func (e *parsedEndpoint) absolute(u, abs *url.URL) (target string) {
	path := u.EscapedPath()
	if path != "" && path[0] != '/' {
		path = "/" + path
	}
	base := e.base
	if strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/v2/") {
		base = e.root
	}
	*abs = *u
	abs.Scheme, abs.Host = e.scheme, e.host
	abs.RawPath = base + path // kept verbatim: an encoded slash in /ip/{block} must stay one
	abs.Path, _ = url.PathUnescape(abs.RawPath)
	target = cmp.Or(abs.RawPath, "/")
	if abs.ForceQuery || abs.RawQuery != "" {
		target += "?" + abs.RawQuery
	}
	return target
}
