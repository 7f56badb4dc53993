package ovhtest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/ovhtest"
)

// says responds with a text.
func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, text+r.PathValue("a")+r.PathValue("b"))
	})
}

func TestHandleReplaces(t *testing.T) {
	s := newServer(t)
	for _, test := range []struct{ pattern, target, want string }{
		{"GET /x", "/1.0/x", "1"},
		{"GET /x", "/1.0/x", "2"},
		{"GET /1.0/x", "/v1/x", "3"},
		{"GET /v1/x", "/1.0/x", "4"},
		{"GET  /x", "/1.0/x", "5"},
		{"GET /v2/x", "/v2/x", "6"},
		{"GET /v2/x", "/v2/x", "7"},
		{"/y/{a}", "/1.0/y/A", "8A"},
		{"/y/{b}", "/1.0/y/B", "9B"}, // by another name
		{"/y/{b...}", "/1.0/y/C", "9C"},
	} {
		s.Handle(test.pattern, says(strings.TrimRight(test.want, "ABC")))
		if got := call(t, s, "GET", test.target, ""); got != test.want {
			t.Errorf("%s after Handle(%q): got %s, want %s", test.target, test.pattern, got, test.want)
		}
	}
	s.Handle("/y/{a}", says("one segment"))
	s.Handle("/y/{$}", says("its end"))
	for target, want := range map[string]string{"/1.0/y/A": "one segmentA", "/1.0/y/": "its end", "/1.0/y/A/B": "9A/B"} {
		if got := call(t, s, "GET", target, ""); got != want {
			t.Errorf("%s, of three patterns: got %s, want %s", target, got, want)
		}
	}
	s.HandleGuest("GET /x", says("guest"))
	if _, got := send(t, plain(t, s, "GET", "/1.0/x", "")); got != "guest" {
		t.Errorf("HandleGuest in place of Handle: got %s, want guest", got)
	}
	s.Handle("GET /x", says("signed"))
	if resp, _ := send(t, plain(t, s, "GET", "/1.0/x", "")); resp.StatusCode != 401 {
		t.Errorf("Handle in place of HandleGuest: got %s, want 401", resp.Status)
	}
}

func TestHandlePanicsLikeServeMux(t *testing.T) {
	s := newServer(t)
	s.Handle("/a/{a}", says("kept"))
	for _, pattern := range []string{"", "GET", "x", "/a/{", "/{a}/b"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Handle(%q) did not panic", pattern)
				}
			}()
			s.Handle(pattern, says(""))
		}()
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("Handle with a nil handler did not panic")
			}
		}()
		s.Handle("/nil", nil)
	}()
	s.Handle("/b", says("added"))
	for target, want := range map[string]string{"/1.0/a/x": "keptx", "/1.0/b": "added"} {
		if got := call(t, s, "GET", target, ""); got != want {
			t.Errorf("%s after the panics: got %s, want %s", target, got, want)
		}
	}
}

func TestGuests(t *testing.T) {
	s := newServer(t)
	s.HandleGuest("GET /order/cart", says("cart"))
	s.HandleGuest("/v2/order/cart", says("cart"))
	id, secret := s.NewServiceAccount(consumerkey.Rule{Method: "GET", Path: "/order/*"})
	_, body := askToken(t, s, id, secret, granted)
	token := decode[map[string]string](t, strings.Replace(body, `"expires_in":3599,`, "", 1))["access_token"]
	with := func(req *http.Request, header, value string) *http.Request {
		req.Header.Set(header, value)
		return req
	}
	guest := func() *http.Request { return plain(t, s, "GET", "/1.0/order/cart", "") }
	wrong := s.Credentials()
	wrong.ApplicationSecret = "wrong"
	for _, test := range []struct {
		name     string
		req      *http.Request
		want     int
		verified bool
	}{
		{"nothing", guest(), 200, false},
		{"below /v2", plain(t, s, "GET", "/v2/order/cart", ""), 200, false},
		{"application key", with(guest(), "X-Ovh-Application", s.Credentials().ApplicationKey), 200, false},
		{"unknown application key", with(guest(), "X-Ovh-Application", "x"), 200, false},
		{"signed", signed(t, s, s.Credentials(), "GET", "/1.0/order/cart", ""), 200, true},
		{"token", with(guest(), "Authorization", "Bearer "+token), 200, true},
		{"wrong signature", signed(t, s, wrong, "GET", "/1.0/order/cart", ""), 400, false},
		{"not granted", signed(t, s, s.NewKey(consumerkey.Rule{Method: "GET", Path: "/me"}), "GET", "/1.0/order/cart", ""), 403, true},
		{"wrong token", with(guest(), "Authorization", "Bearer x"), 401, false},
		{"consumer key without a signature", with(guest(), "X-Ovh-Consumer", s.Credentials().ConsumerKey), 401, false},
		{"another route", plain(t, s, "GET", "/1.0/me", ""), 401, false},
		{"another method", plain(t, s, "POST", "/1.0/order/cart", ""), 401, false},
	} {
		s.Forget()
		resp, body := send(t, test.req)
		x := s.Exchanges()[0]
		if resp.StatusCode != test.want || x.Verified != test.verified || x.Executed != (test.want == 200) {
			t.Errorf("%s: got %s %s, recorded %s; want %d, verified %t", test.name, resp.Status, body, x, test.want, test.verified)
		}
	}
}

// wrapper is a ResponseWriter of somebody's middleware.
type wrapper struct{ http.ResponseWriter }

func (w wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// opaque is one that hides what it wraps.
type opaque struct{ http.ResponseWriter }

func TestError(t *testing.T) {
	s := newServer(t)
	for _, test := range []struct {
		name                 string
		status               int
		code, class, message string
		older, newer         string
		recorded             string
	}{
		{"code and class", 409, "CONFLICT", "Client::Conflict::Busy", "Busy",
			`{"errorCode":"CONFLICT","httpCode":"409 Conflict","message":"Busy"}`, `{"class":"Client::Conflict::Busy","message":"Busy"}`, "CONFLICT"},
		{"class alone", 403, "", "Client::Forbidden::Busy", "Busy",
			`{"class":"Client::Forbidden::Busy","message":"Busy"}`, `{"class":"Client::Forbidden::Busy","message":"Busy"}`, "Client::Forbidden::Busy"},
		{"neither", 500, "", "", "Internal server error",
			`{"class":"Server::InternalServerError","message":"Internal server error"}`, `{"class":"Server::InternalServerError","message":"Internal server error"}`, "Server::InternalServerError"},
	} {
		for dialect, want := range []string{ovhtest.ErrorCodes: test.older, ovhtest.Classes: test.newer} {
			for writer, wrap := range map[string]func(http.ResponseWriter) http.ResponseWriter{
				"the server's": func(w http.ResponseWriter) http.ResponseWriter { return w },
				"wrapped":      func(w http.ResponseWriter) http.ResponseWriter { return wrapper{wrapper{w}} },
				"hidden":       func(w http.ResponseWriter) http.ResponseWriter { return opaque{w} },
			} {
				s.SetDialect(ovhtest.Dialect(dialect))
				s.Handle("GET /x", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", "text/plain")
					s.Error(wrap(w), test.status, test.code, test.class, test.message)
				}))
				s.Forget()
				resp, body := send(t, signed(t, s, s.Credentials(), "GET", "/1.0/x", ""))
				if resp.StatusCode != test.status || body != want || resp.Header.Get("Content-Type") != "application/json; charset=utf-8" {
					t.Errorf("%s, writer %s: got %s %s of type %s, want %d %s", test.name, writer, resp.Status, body, resp.Header.Get("Content-Type"), test.status, want)
				}
				recorded := test.recorded
				if writer == "hidden" {
					recorded = ""
				}
				if x := s.Exchanges()[0]; x.ErrorCode != recorded {
					t.Errorf("%s, writer %s: recorded %q, want %q", test.name, writer, x.ErrorCode, recorded)
				}
			}
		}
	}
}

// An error that a fault keeps back is recorded all the same.
func TestErrorBehindACut(t *testing.T) {
	s := newServer(t)
	s.Handle("GET /x", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Error(w, 500, "", "", "Oops") }))
	s.Inject(ovhtest.Fault{Cut: ovhtest.CutAfterExecution})
	if _, err := client.Do(signed(t, s, s.Credentials(), "GET", "/1.0/x", "")); !isCut(err) {
		t.Errorf("got %v, want a lost connection", err)
	}
	if x := s.Exchanges()[0]; x.ErrorCode != "Server::InternalServerError" || x.Status != 0 {
		t.Errorf("recorded %s with %q, want the error, and no status", x, x.ErrorCode)
	}
}

func TestRulesOfServiceAccounts(t *testing.T) {
	s := newServer(t)
	const denied = `{"class":"Client::Forbidden","message":"User not granted for this request","details":{"unauthorizedActionsByAuthentication":"","unauthorizedActionsByIAM":"%"}}`
	for _, test := range []struct {
		name         string
		rules        []consumerkey.Rule
		call, action string
	}{
		{"no rules", nil, "PUT /me", ""},
		{"granted", consumerkey.ReadOnly("/me"), "GET /me", ""},
		{"its details", consumerkey.ReadOnly("/me"), "GET /auth/details", ""},
		{"another method", consumerkey.ReadOnly("/me"), "PUT /me", "me:apiovh:edit"},
		{"another path", consumerkey.ReadOnly("/me"), "POST /vps/x/reboot", "vps:apiovh:x/reboot/create"},
		{"a method that is no other's", consumerkey.ReadOnly("/me"), "PATCH /me", "me:apiovh:edit"},
		{"a path that is not there", consumerkey.ReadOnly("/me"), "GET /nothing/", "nothing:apiovh:get"},
		{"another method of a path below", consumerkey.ReadOnly("/me"), "DELETE /me/api/credential/7", "me:apiovh:api/credential/7/delete"},
	} {
		for _, dialect := range []ovhtest.Dialect{ovhtest.ErrorCodes, ovhtest.Classes} {
			s.SetDialect(dialect)
			s.Forget()
			id, secret := s.NewServiceAccount(test.rules...)
			_, token := askToken(t, s, id, secret, granted)
			method, path, _ := strings.Cut(test.call, " ")
			req := plain(t, s, method, "/1.0"+path, "{}")
			req.Header.Set("Authorization", "Bearer "+decode[struct {
				Token string `json:"access_token"`
			}](t, token).Token)
			resp, body := send(t, req)
			want := 200
			if test.action != "" {
				want = 403
			}
			if resp.StatusCode != want || want == 403 && body != strings.Replace(denied, "%", test.action, 1) {
				t.Errorf("%s: got %s %s, want %d with %q", test.name, resp.Status, body, want, test.action)
			}
			if strings.Contains(test.call, "details") && !strings.Contains(body, `"allowedRoutes":[{"method":"GET","path":"/me"},{"method":"GET","path":"/me/*"}]`) {
				t.Errorf("%s: got %s, want its rules in it", test.name, body)
			}
			if x := s.Exchanges()[1]; !x.Verified || x.Executed != (want == 200) {
				t.Errorf("%s: recorded %s, want it verified, and executed if granted", test.name, x)
			}
		}
	}
}

// The rules are the server's own, whatever becomes of the caller's slice.
func TestRulesAreCopied(t *testing.T) {
	s := newServer(t)
	rules := consumerkey.ReadOnly("/x")
	k := s.NewKey(rules...)
	rules[0].Path = "/me"
	if resp, _ := send(t, signed(t, s, k, "GET", "/1.0/me", "")); resp.StatusCode != 403 {
		t.Errorf("got %s, want 403", resp.Status)
	}
}

func TestRotateSecret(t *testing.T) {
	s := newServer(t)
	id, old := s.NewServiceAccount()
	_, body := askToken(t, s, id, old, granted)
	token := decode[struct {
		Token string `json:"access_token"`
	}](t, body).Token
	fresh := s.RotateSecret(id)
	if resp, body := askToken(t, s, id, old, granted); resp.StatusCode != 400 || !strings.Contains(body, "invalid_client_credentials") {
		t.Errorf("the old secret: %s %s, want 400", resp.Status, body)
	}
	if resp, body := askToken(t, s, id, fresh, granted); resp.StatusCode != 200 {
		t.Errorf("the new secret: %s %s, want 200", resp.Status, body)
	}
	req := plain(t, s, "GET", "/1.0/me", "")
	req.Header.Set("Authorization", "Bearer "+token)
	if resp, body := send(t, req); resp.StatusCode != 200 {
		t.Errorf("a token of the old secret: %s %s, want 200", resp.Status, body)
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown service account did not panic")
		}
	}()
	s.RotateSecret("x")
}

// The token endpoint of the hosts that OVHcloud moves to.
func TestTokenEndpointAtAuthHosts(t *testing.T) {
	s := newServer(t)
	id, secret := s.NewServiceAccount()
	if _, err := ovhauth.ServiceAccount(ovhauth.Endpoint(root(s)+"/1.0"), id, secret).Retrieve(t.Context()); err != nil {
		t.Errorf("/auth/oauth2/token: %v, want a token", err)
	}
	req := plain(t, s, "POST", "/oauth2/token", granted)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(id, secret)
	if resp, body := send(t, req); resp.StatusCode != 200 || !strings.Contains(body, "access_token") {
		t.Errorf("/oauth2/token: %s %s, want a token", resp.Status, body)
	}
}
