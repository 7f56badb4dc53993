package ovhtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"example.com/ovhauth/consumerkey"
)

type account struct {
	Nichandle string `json:"nichandle"`
	FirstName string `json:"firstname"`
	Name      string `json:"name"`
	Email     string `json:"email"`
	Country   string `json:"country"`
	Language  string `json:"language"`
}

var jeanne = account{"jd12345-ovh", "Jeanne", "Dupont", "jeanne.dupont@example.com", "FR", "fr_FR"}

func (s *Server) serveRoutes() {
	s.serveBelow("GET /auth/time", open, s.authTime)
	s.serveBelow("POST /auth/credential", open, s.requestCredential)
	s.serveBelow("GET /auth/currentCredential", signed, s.currentCredential)
	s.serveBelow("GET /auth/details", signed, s.details)
	s.serveBelow("POST /auth/logout", signed, s.logout)
	s.serveBelow("GET /me", signed, s.getMe)
	s.serveBelow("PUT /me", signed, s.putMe)
	s.serveBelow("GET /me/api/credential", signed, s.listCredentials)
	s.serveBelow("GET /me/api/credential/{id}", signed, batched(s.getCredential))
	s.serveBelow("PUT /me/api/credential/{id}", signed, s.putCredential)
	s.serveBelow("DELETE /me/api/credential/{id}", signed, s.deleteCredential)
	s.serveBelow("GET /me/api/credential/{id}/application", signed, batched(s.credentialApplication))
	s.serveBelow("GET /me/api/application", signed, s.listApplications)
	s.serveBelow("GET /me/api/application/{id}", signed, batched(s.getApplication))
	s.serveBelow("DELETE /me/api/application/{id}", signed, s.deleteApplication)

	for pattern, h := range map[string]http.HandlerFunc{
		"POST /auth/oauth2/token": s.giveToken,
		"POST /oauth2/token":      s.giveToken, // that of the hosts auth.eu.ovhcloud.com and auth.ca.ovhcloud.com
		"GET /auth/{$}":           s.askUser,
		"POST /auth/{$}":          s.hearUser,
	} {
		s.served.Handle(pattern, route{h, open})
	}
}

// An endpoint computes a response, which is sent as JSON. It is called with the server locked.
type endpoint func(*call, *http.Request) (any, *apiError)

// serveBelow adds a route of the server's own below /1.0 and /v1.
func (s *Server) serveBelow(pattern string, a access, e endpoint) {
	for _, p := range absolute(pattern) {
		s.served.Handle(p, route{s.json(e), a})
	}
}

func (s *Server) json(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callOf(r)
		s.mu.Lock()
		v, rejection := e(c, r)
		body, _ := json.Marshal(v) // of types that cannot fail
		s.mu.Unlock()
		if rejection != nil {
			s.reject(w, c.exchange, rejection)
			return
		}
		w.Write(body)
	})
}

func (s *Server) authTime(c *call, _ *http.Request) (any, *apiError) { return c.now.Unix(), nil }

func (s *Server) requestCredential(c *call, r *http.Request) (any, *apiError) {
	id := r.Header.Get("X-Ovh-Application")
	if id == "" {
		return nil, errNoApplication
	}
	app := s.apps[id]
	if app == nil {
		return nil, errApplicationKey
	}
	var in struct {
		AccessRules []consumerkey.Rule
		Redirection string
		AllowedIPs  []string
	}
	if json.Unmarshal(c.exchange.Body, &in) != nil {
		return nil, errInvalidJSON
	}
	if len(in.AccessRules) == 0 {
		return nil, badRequest("Missing accessRules")
	}
	for _, r := range in.AccessRules {
		if !slices.Contains([]string{"GET", "POST", "PUT", "DELETE"}, r.Method) || r.Path == "" {
			return nil, badRequest("Invalid accessRules")
		}
	}
	if !validRanges(in.AllowedIPs) {
		return nil, badRequest("Invalid allowedIPs")
	}
	k := s.newKey(app, in.AccessRules, pending, c.now)
	k.redirection, k.AllowedIPs = in.Redirection, in.AllowedIPs
	return struct {
		ValidationURL string `json:"validationUrl"`
		ConsumerKey   string `json:"consumerKey"`
		State         string `json:"state"`
	}{s.http.URL + "/auth/?credentialToken=" + k.validationToken, k.consumerKey, k.Status}, nil
}

func (s *Server) currentCredential(c *call, _ *http.Request) (any, *apiError) {
	if c.key == nil {
		return nil, errNotCredential
	}
	return c.key.at(c.now), nil
}

func (s *Server) details(c *call, _ *http.Request) (any, *apiError) {
	identity, rules := "account:"+s.account.Nichandle, []consumerkey.Rule(nil)
	if c.key != nil {
		rules = c.key.Rules
	} else {
		rules = c.service.rules
		identity = "credential:" + s.account.Nichandle + "/oauth2-" + c.clientID
	}
	return struct {
		Account       string             `json:"account"`
		Method        string             `json:"method"`
		User          *string            `json:"user"`
		Roles         []string           `json:"roles"`
		Description   string             `json:"description"`
		Identities    []string           `json:"identities"`
		AllowedRoutes []consumerkey.Rule `json:"allowedRoutes"`
	}{s.account.Nichandle, "account", nil, []string{}, "", []string{"urn:v1:eu:identity:" + identity}, rules}, nil
}

func (s *Server) logout(c *call, _ *http.Request) (any, *apiError) {
	if c.key == nil {
		return nil, errNotCredential
	}
	c.key.expire(c.now)
	return nil, nil
}

func (s *Server) getMe(*call, *http.Request) (any, *apiError) { return s.account, nil }

func (s *Server) putMe(c *call, _ *http.Request) (any, *apiError) {
	a := s.account
	if json.Unmarshal(c.exchange.Body, &a) != nil {
		return nil, errInvalidJSON
	}
	a.Nichandle = s.account.Nichandle
	s.account = a
	return nil, nil
}

func (s *Server) listCredentials(c *call, r *http.Request) (any, *apiError) {
	status, app := r.URL.Query().Get("status"), r.URL.Query().Get("applicationId")
	found := map[int64]any{}
	for _, k := range s.keys {
		shown := k.at(c.now)
		if (status == "" || status == shown.Status) && (app == "" || app == strconv.FormatInt(shown.ApplicationID, 10)) {
			found[shown.ID] = shown
		}
	}
	return list(c, r, found)
}

func (s *Server) getCredential(c *call, r *http.Request) (any, *apiError) {
	k, e := s.keyOf(r)
	if e != nil {
		return nil, e
	}
	return k.at(c.now), nil
}

func (s *Server) putCredential(c *call, r *http.Request) (any, *apiError) {
	k, e := s.keyOf(r)
	if e != nil {
		return nil, e
	}
	in := struct{ AllowedIPs []string }{k.AllowedIPs}
	if json.Unmarshal(c.exchange.Body, &in) != nil {
		return nil, errInvalidJSON
	}
	if !validRanges(in.AllowedIPs) {
		return nil, badRequest("Invalid allowedIPs")
	}
	k.AllowedIPs = in.AllowedIPs
	return nil, nil
}

func (s *Server) deleteCredential(_ *call, r *http.Request) (any, *apiError) {
	k, e := s.keyOf(r)
	if e != nil {
		return nil, e
	}
	delete(s.keys, k.consumerKey)
	return nil, nil
}

func (s *Server) credentialApplication(_ *call, r *http.Request) (any, *apiError) {
	k, e := s.keyOf(r)
	if e != nil {
		return nil, e
	}
	return k.app, nil
}

// keyOf finds the consumer key whose credential ID is in the path of r.
func (s *Server) keyOf(r *http.Request) (*key, *apiError) {
	id := r.PathValue("id")
	for _, k := range s.keys {
		if strconv.FormatInt(k.ID, 10) == id {
			return k, nil
		}
	}
	return nil, noObject("credentialId", id)
}

func (s *Server) listApplications(c *call, r *http.Request) (any, *apiError) {
	found := map[int64]any{}
	for _, app := range s.apps {
		found[app.ID] = app
	}
	return list(c, r, found)
}

func (s *Server) getApplication(_ *call, r *http.Request) (any, *apiError) {
	id := r.PathValue("id")
	for _, app := range s.apps {
		if strconv.FormatInt(app.ID, 10) == id {
			return app, nil
		}
	}
	return nil, noObject("applicationId", id)
}

func (s *Server) deleteApplication(c *call, r *http.Request) (any, *apiError) {
	found, e := s.getApplication(c, r)
	if e != nil {
		return nil, e
	}
	app := found.(*application)
	delete(s.apps, app.Key)
	maps.DeleteFunc(s.keys, func(_ string, k *key) bool { return k.app == app })
	return nil, nil
}

// giveToken is the OAuth2 token endpoint; it has errors of its own form.
func (s *Server) giveToken(w http.ResponseWriter, r *http.Request) {
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	reject := func(code, description string) {
		s.locked(func() { callOf(r).exchange.ErrorCode = code })
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"error":%q,"error_description":%q}`, code, description)
	}
	var account serviceAccount
	s.locked(func() {
		if known := s.services[id]; known != nil {
			account = *known
		}
	})
	switch {
	case r.PostFormValue("grant_type") != "client_credentials":
		reject("unsupported_grant_type", "grant type must be client_credentials")
	case account.secret == "":
		reject("invalid_client", "ovhcloud oauth2 client does not exists") // sic
	case secret != account.secret:
		reject("invalid_client_credentials", "client secret invalid")
	case r.PostFormValue("scope") != "all":
		reject("invalid_scope", "scope must be all")
	default:
		t := random(64)
		s.locked(func() { s.tokens[t] = token{id, callOf(r).now.Add(tokenLife)} })
		fmt.Fprintf(w, `{"access_token":%q,"token_type":"Bearer","expires_in":%d,"scope":"all"}`, t, int(tokenLife.Seconds()))
	}
}
