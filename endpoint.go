package ovhauth

import (
	"cmp"
	"context"
	"net/netip"
	"net/url"
	"os"
	"slices"
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
	// Deprecated: the service is closed.
	RunAboveCA Endpoint = "https://api.runabove.com/1.0"
)

// region is one API: its accounts and keys are the same under each of its hosts.
type region struct {
	name     string // in ovh.conf and OVH_ENDPOINT
	endpoint Endpoint
	tokenURL string   // of its service accounts, as OVHcloud's own clients have it; "" if it has none
	hosts    []string // the first stands for all where they are counted as one
	closed   bool     // whoever owns its hosts tomorrow is not OVHcloud
}

// regions has the old and the new hosts: OVHcloud is moving to ovhcloud.com (https://github.com/ovh/go-ovh/pull/96). When the move
// is done, the constants above change, and nothing else.
var regions = []*region{
	{name: "ovh-eu", endpoint: EU, tokenURL: "https://www.ovh.com/auth/oauth2/token",
		hosts: []string{"eu.api.ovh.com", "api.eu.ovhcloud.com", "api.ovh.com"}},
	{name: "ovh-ca", endpoint: CA, tokenURL: "https://ca.ovh.com/auth/oauth2/token",
		hosts: []string{"ca.api.ovh.com", "api.ca.ovhcloud.com"}},
	{name: "ovh-us", endpoint: US, tokenURL: "https://us.ovhcloud.com/auth/oauth2/token",
		hosts: []string{"api.us.ovhcloud.com"}},
	{name: "kimsufi-eu", endpoint: KimsufiEU, hosts: []string{"eu.api.kimsufi.com"}},
	{name: "kimsufi-ca", endpoint: KimsufiCA, hosts: []string{"ca.api.kimsufi.com"}},
	{name: "soyoustart-eu", endpoint: SoYouStartEU, hosts: []string{"eu.api.soyoustart.com"}},
	{name: "soyoustart-ca", endpoint: SoYouStartCA, hosts: []string{"ca.api.soyoustart.com"}},
	{name: "runabove-ca", endpoint: RunAboveCA, hosts: []string{"api.runabove.com"}, closed: true},
}

// regionsByName and regionsByHost are indexes of regions, and openNames lists the names of those that are not closed.
var (
	regionsByName = map[string]*region{}
	regionsByHost = map[string]*region{}
	openNames     string
)

func init() {
	var open []string
	for _, r := range regions {
		regionsByName[r.name] = r
		for _, host := range r.hosts {
			regionsByHost[host] = r
		}
		if !r.closed {
			open = append(open, r.name)
		}
	}
	openNames = strings.Join(open, ", ")
}

// apiHost is the name under which requests to host, with or without a port, are counted: in lower case, and one for all hosts of
// a region.
func apiHost(host string) string {
	host = strings.ToLower(host)
	if r := regionsByHost[strings.TrimSuffix(host, ":443")]; r != nil {
		return r.hosts[0]
	}
	return host
}

// ParseEndpoint turns a name such as "ovh-eu", or a URL such as "https://eu.api.ovh.com/1.0", into an Endpoint. White space at
// the ends, a trailing slash and the scheme's own port are dropped, and the host is put in lower case. A host of OVHcloud without
// a path gets "/1.0".
//
// The error for an unknown name lists the known names. A URL must be https, unless its host is a loopback address or localhost
// (else the error is [ErrPlainHTTP]), and must have no user, query or fragment.
func ParseEndpoint(nameOrURL string) (Endpoint, error) {
	e, err := parseEndpoint(Endpoint(nameOrURL))
	if err != nil {
		return "", err
	}
	return e.full(), nil
}

// withoutPassword is e for an error or a print. An endpoint that has a user is not valid, and may hold a password.
func (e Endpoint) withoutPassword() string {
	if strings.Contains(string(e), "@") {
		return "…"
	}
	return string(e)
}

// parsedEndpoint is an Endpoint taken apart once, so that routing a request parses nothing. Paths are in their escaped form.
type parsedEndpoint struct {
	scheme string
	host   string  // lower case, with the port unless it is the scheme's own
	base   string  // "/1.0"
	root   string  // base without its version: /1.0/, /v1/ and /v2/ are below it
	region *region // nil for a host that is not OVHcloud's
	file   string  // the configuration file that names it, "" if code, the environment or nobody does

	timePaths       []string // where the time is asked for: below base, /1.0 and /v1
	credentialPaths []string // where consumer keys are asked for
}

var versions = []string{"/1.0", "/v1", "/v2"}

func parseEndpoint(e Endpoint) (*parsedEndpoint, error) {
	s := strings.TrimSpace(string(e))
	if r := regionsByName[s]; r != nil {
		s = string(r.endpoint)
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, permanentErrorf("endpoint %q is neither a known name (%s) nor an https:// URL", Endpoint(s).withoutPassword(), openNames)
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || !plainHost(u.Host) {
		return nil, permanentErrorf("endpoint %s://%s: it may only have a scheme, a host (in ASCII), a port and a path", u.Scheme, u.Hostname())
	}
	if u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return nil, permanentErrorf("endpoint %s: %w", u, ErrPlainHTTP)
	}
	p := &parsedEndpoint{scheme: u.Scheme, base: strings.TrimRight(u.EscapedPath(), "/")}
	p.host = strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(u.Host), ":"), ":"+port(u.Scheme, ""))
	p.region = regionsByHost[p.host]
	if p.region != nil && p.base == "" {
		p.base = "/1.0" // without it the API's host serves the web console
	}
	p.root = p.base
	for _, version := range versions {
		if root, ok := strings.CutSuffix(p.base, version); ok {
			p.root = root
		}
	}
	if p.root != "" {
		p.region = nil // another service of the same host
	}
	for _, base := range []string{p.base, p.root + "/1.0", p.root + "/v1"} {
		p.timePaths = append(p.timePaths, base+"/auth/time")
		p.credentialPaths = append(p.credentialPaths, base+"/auth/credential")
	}
	return p, nil
}

// findEndpoint takes e apart. "" is the endpoint that OVH_ENDPOINT names, else that of ovh.conf, here or in paths, else EU.
func findEndpoint(ctx context.Context, e Endpoint, paths ...string) (*parsedEndpoint, error) {
	if e = cmp.Or(e, environmentEndpoint()); e != "" {
		return parseEndpoint(e)
	}
	c, err := readConf(ctx, paths)
	if err != nil && (ctx.Err() != nil || !environmentComplete()) {
		return nil, err
	}
	e, file := c.endpoint()
	parsed, err := parseEndpoint(e)
	if err != nil {
		return nil, permanentErrorf("%s: %w", file, err)
	}
	parsed.file = file
	return parsed, nil
}

// trusted reports whether e may get keys from everywhere: it is OVHcloud's, or code or the environment named it.
func (e *parsedEndpoint) trusted() bool {
	return e.file == "" || e.region != nil && !e.region.closed
}

// distrust says why e, which is not trusted, does not get the credentials that are in holder.
func (e *parsedEndpoint) distrust(holder string) error {
	return permanentErrorf("%s names the endpoint %s, which is not OVHcloud's, and the credentials are those of %s: a file alone cannot send "+
		"them there; to do so, set OVH_ENDPOINT or Transport.Endpoint to that URL", e.file, e.full(), holder)
}

// tokenURL is where e's service accounts get their tokens.
func (e *parsedEndpoint) tokenURL() (string, error) {
	region := regionsByHost[e.host] // also of another service of the same host
	switch {
	case region == nil:
		return e.scheme + "://" + e.host + "/auth/oauth2/token", nil
	case region.tokenURL == "":
		return "", permanentErrorf("%s has no OAuth2 service accounts; use an application key, its secret and a consumer key", e.name())
	}
	return region.tokenURL, nil
}

func environmentEndpoint() Endpoint {
	return Endpoint(strings.TrimSpace(os.Getenv("OVH_ENDPOINT")))
}

func (e *parsedEndpoint) full() Endpoint { return Endpoint(e.scheme + "://" + e.host + e.base) }

// same reports whether other is the same API, in whatever version and under whichever of its hosts.
func (e *parsedEndpoint) same(other *parsedEndpoint) bool {
	if e.region != nil {
		return e.region == other.region
	}
	return e.scheme == other.scheme && e.host == other.host && e.root == other.root
}

// name is what ovh.conf calls the endpoint: a known name, or the URL itself.
func (e *parsedEndpoint) name() string {
	if e.region != nil {
		return e.region.name
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
	return true
}

func isLoopback(hostname string) bool {
	if strings.EqualFold(hostname, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(hostname)
	return err == nil && addr.IsLoopback()
}

// owns reports whether u, an absolute URL, has the endpoint's scheme, host and port, or is at another host of its region.
func (e *parsedEndpoint) owns(u *url.URL) bool {
	if u.Scheme == e.scheme && u.Host == e.host {
		return true
	}
	return u.Scheme == e.scheme && e.hasName(u) && port(u.Scheme, u.Port()) == port(e.scheme, (&url.URL{Host: e.host}).Port())
}

// hasName reports whether u has the name of one of the endpoint's hosts, at whatever scheme and port.
func (e *parsedEndpoint) hasName(u *url.URL) bool {
	if !plainHost(u.Host) {
		return false // only an ASCII name can be equal: Unicode has other letters that fold to an ASCII one
	}
	name := strings.ToLower(u.Hostname())
	if e.region != nil {
		return regionsByHost[name] == e.region
	}
	return name == (&url.URL{Host: e.host}).Hostname()
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
	if hasVersion(path) {
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

// hasVersion reports whether path is below a version of the API, as /1.0/me and /v2/iam are.
func hasVersion(path string) bool {
	return slices.ContainsFunc(versions, func(version string) bool {
		rest, ok := strings.CutPrefix(path, version)
		return ok && strings.HasPrefix(rest, "/")
	})
}
