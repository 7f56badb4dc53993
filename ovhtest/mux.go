package ovhtest

import (
	"maps"
	"net/http"
	"regexp"
	"strings"
)

// access is what a route asks of a request.
type access int

const (
	signed access = iota // a valid signature or token of a key that may make the call
	guest                // no authentication, or what signed asks for
	open                 // nothing
)

type route struct {
	http.Handler
	access
}

// mounted is a route under its pattern of http.ServeMux.
type mounted struct {
	pattern string
	route
}

// Handle adds a route: a pattern of http.ServeMux relative to the base, "GET /domain/zone/{zone}", which responds below /1.0 and
// /v1 ("GET /1.0/domain/zone/{zone}" is the same); or one that begins with /v2/, which stands at the host's root. It takes
// precedence over a route of the server's own, but for those that need no signature: without them no client
// could get a key. A second Handle or HandleGuest of a pattern replaces the first.
//
// h is called for requests that have a valid signature or token of a key that may make them. It gets the request as the client
// sent it, the body already read and readable again; only where a trailing slash kept the path from matching, URL.Path and
// RawPath lack it. Its response is declared JSON unless it says otherwise; Error writes one of the API's errors. Handle panics
// where http.ServeMux does: on a malformed pattern, one that conflicts with an earlier one, or a nil handler.
func (s *Server) Handle(pattern string, h http.Handler) { s.handle(pattern, route{h, signed}) }

// HandleGuest is Handle for a route that takes requests without authentication, too: those that have no Authorization, consumer
// key or signature. Whether X-Ovh-Application is there does not matter. A request that has one of them must be valid.
func (s *Server) HandleGuest(pattern string, h http.Handler) { s.handle(pattern, route{h, guest}) }

func (s *Server) handle(pattern string, r route) {
	if r.Handler == nil {
		panic("ovhtest: nil handler")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.routes)
	if all == nil {
		all = map[string]mounted{}
	}
	for _, p := range absolute(pattern) {
		all[wildcard.ReplaceAllString(strings.Join(strings.Fields(p), " "), "{")] = mounted{p, r}
	}
	mux := http.NewServeMux() // of its own: http.ServeMux forgets nothing
	for _, m := range all {
		mux.Handle(m.pattern, m.route)
	}
	s.routes, s.added = all, mux
}

// wildcard is the name in a {wildcard}, which does not count when patterns are compared.
var wildcard = regexp.MustCompile(`\{[^}.$]*`)

// absolute returns the patterns at the host's root of one that is relative to the base.
func absolute(pattern string) []string {
	before, path, ok := strings.Cut(pattern, "/")
	if !ok || strings.HasPrefix(path, "v2/") {
		return []string{pattern}
	}
	for _, version := range []string{"1.0/", "v1/"} {
		if rest, ok := strings.CutPrefix(path, version); ok {
			path = rest
			break
		}
	}
	return []string{before + "/1.0/" + path, before + "/v1/" + path}
}

// find looks for the route of r, a second time without a trailing slash. It returns the mux that has it and the request to give
// that mux. The redirects and the 405 of ServeMux count as nothing found.
func (s *Server) find(r *http.Request) (mux *http.ServeMux, match *http.Request, a access) {
	s.mu.Lock()
	added := s.added
	s.mu.Unlock()
	tries := []*http.Request{r}
	if strings.HasSuffix(r.URL.EscapedPath(), "/") {
		trimmed, u := *r, *r.URL
		u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
		trimmed.URL = &u
		tries = append(tries, &trimmed)
	}
	for _, match := range tries {
		own, isOwn := routeOf(s.served, match)
		if isOwn && own.access == open {
			return s.served, match, open
		}
		if other, ok := routeOf(added, match); ok {
			return added, match, other.access
		}
		if isOwn {
			return s.served, match, own.access
		}
	}
	return nil, nil, signed
}

func routeOf(mux *http.ServeMux, r *http.Request) (route, bool) {
	h, _ := mux.Handler(r)
	found, ok := h.(route)
	return found, ok
}

// isGuest reports whether r has no authentication. An application key says who made the client, not in whose name it calls.
func isGuest(r *http.Request) bool {
	for _, name := range []string{"Authorization", "X-Ovh-Consumer", "X-Ovh-Signature"} {
		if _, ok := r.Header[name]; ok {
			return false
		}
	}
	return true
}

// apiPath is the path of a request as access rules see it: as it was sent, without base and query.
func apiPath(r *http.Request) string {
	path, _, _ := strings.Cut(strings.TrimPrefix(r.RequestURI, "http://"+r.Host), "?")
	for _, base := range []string{"/1.0/", "/v1/"} {
		if rest, ok := strings.CutPrefix(path, base); ok {
			return "/" + rest
		}
	}
	return path
}
