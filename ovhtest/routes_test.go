package ovhtest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"example.com/ovhauth/consumerkey"
)

// A credential is what the API shows of a consumer key.
type credential struct {
	CredentialID  int64
	ApplicationID int64
	Status        string
	Rules         []struct{ Method, Path string }
	Creation      time.Time
	Expiration    *time.Time
	LastUse       *time.Time
	AllowedIPs    []string
}

func TestMe(t *testing.T) {
	s := newServer(t)
	before := decode[map[string]string](t, call(t, s, "GET", "/1.0/me", ""))
	if before["nichandle"] == "" || before["firstname"] != "Jeanne" || before["name"] != "Dupont" || before["email"] == "" {
		t.Errorf("got %v, want Jeanne Dupont", before)
	}
	if got := call(t, s, "PUT", "/v1/me", `{"name":"Martin","nichandle":"x"}`); got != "null" {
		t.Errorf("PUT returned %s, want null", got)
	}
	before["name"] = "Martin"
	if got := decode[map[string]string](t, call(t, s, "GET", "/v1/me", "")); !reflect.DeepEqual(got, before) {
		t.Errorf("got %v, want %v", got, before)
	}
}

func TestHead(t *testing.T) {
	s := newServer(t)
	resp, body := send(t, signed(t, s, s.Credentials(), "HEAD", "/1.0/me", ""))
	if resp.StatusCode != 200 || body != "" || resp.ContentLength <= 0 {
		t.Errorf("got %s of length %d: %q, want 200, and a length without a body", resp.Status, resp.ContentLength, body)
	}
}

func TestCredentialLifeCycle(t *testing.T) {
	s := newServer(t)
	k, validationURL := requestKey(t, s, `{
		"accessRules": [{"method":"GET","path":"/me"},{"method":"PUT","path":"/me/*"}],
		"redirection": null,
		"allowedIPs": ["127.0.0.1/32"]}`)
	if token, ok := strings.CutPrefix(validationURL, root(s)+"/auth/?credentialToken="); !ok || len(token) != 64 {
		t.Errorf("validation URL %s, want a token of 64 characters", validationURL)
	}
	s.Validate(k.ConsumerKey)
	current := func() credential {
		_, body := send(t, signed(t, s, k, "GET", "/1.0/auth/currentCredential", ""))
		return decode[credential](t, body)
	}
	got := current()
	target := fmt.Sprint("/1.0/me/api/credential/", got.CredentialID)
	if got.Status != "validated" || got.Expiration != nil || got.LastUse == nil || got.CredentialID == got.ApplicationID ||
		fmt.Sprint(got.Rules, got.AllowedIPs) != "[{GET /me} {PUT /me/*}] [127.0.0.1/32]" {
		t.Errorf("got %+v, want a validated key with the rules and addresses asked for", got)
	}

	if got := call(t, s, "PUT", target, `{"allowedIPs":["192.0.2.1"]}`); got != "null" {
		t.Errorf("PUT returned %s, want null", got)
	}
	if resp, _ := send(t, signed(t, s, k, "GET", "/1.0/me", "")); resp.StatusCode != 403 {
		t.Errorf("from another address: %s, want 403", resp.Status)
	}
	call(t, s, "PUT", target, `{}`)
	if got := decode[credential](t, call(t, s, "GET", target, "")); len(got.AllowedIPs) != 1 {
		t.Errorf("a PUT of nothing left %v, want the one address of before", got.AllowedIPs)
	}
	call(t, s, "PUT", target, `{"allowedIPs":null}`)

	if resp, body := send(t, signed(t, s, k, "POST", "/v1/auth/logout", "")); resp.StatusCode != 200 || body != "null" {
		t.Errorf("logout: %s %s, want 200 null", resp.Status, body)
	}
	if resp, _ := send(t, signed(t, s, k, "GET", "/1.0/me", "")); resp.StatusCode != 403 {
		t.Errorf("after logout: %s, want 403", resp.Status)
	}
	if got := decode[credential](t, call(t, s, "GET", target, "")); got.Status != "expired" || got.Expiration == nil {
		t.Errorf("after logout: %+v, want it expired", got)
	}

	call(t, s, "DELETE", target, "")
	const gone = `{"class":"Client::NotFound","message":"The requested object (credentialId = %d) does not exist"}`
	resp, body := send(t, signed(t, s, s.Credentials(), "GET", target, ""))
	if resp.StatusCode != 404 || body != fmt.Sprintf(gone, got.CredentialID) {
		t.Errorf("after DELETE: %s %s, want 404", resp.Status, body)
	}
	s.Forget()
	send(t, signed(t, s, k, "GET", "/1.0/me", ""))
	if got := s.Exchanges()[0]; got.ErrorCode != "NOT_CREDENTIAL" {
		t.Errorf("after DELETE: %v, want NOT_CREDENTIAL", got)
	}
}

func TestListCredentials(t *testing.T) {
	s := newServer(t)
	own := decode[credential](t, call(t, s, "GET", "/1.0/auth/currentCredential", ""))
	other := s.NewApplication()
	_, body := send(t, signed(t, s, other, "GET", "/1.0/auth/currentCredential", ""))
	others := decode[credential](t, body)
	expired := s.NewKey()
	_, body = send(t, signed(t, s, expired, "GET", "/1.0/auth/currentCredential", ""))
	third := decode[credential](t, body)
	s.Expire(expired.ConsumerKey)

	ofOwn, ofOther := fmt.Sprint("?applicationId=", own.ApplicationID), fmt.Sprint("?applicationId=", others.ApplicationID)
	for query, want := range map[string]string{
		"":                          fmt.Sprintf("[%d,%d,%d]", own.CredentialID, others.CredentialID, third.CredentialID),
		"?status=validated":         fmt.Sprintf("[%d,%d]", own.CredentialID, others.CredentialID),
		"?status=expired":           fmt.Sprintf("[%d]", third.CredentialID),
		"?status=refused":           "[]",
		ofOwn:                       fmt.Sprintf("[%d,%d]", own.CredentialID, third.CredentialID),
		ofOther + "&status=expired": "[]",
	} {
		if got := call(t, s, "GET", "/1.0/me/api/credential"+query, ""); got != want {
			t.Errorf("%q: got %s, want %s", query, got, want)
		}
	}
	s.Refuse(expired.ConsumerKey)
	if got, want := call(t, s, "GET", "/1.0/me/api/credential?status=refused", ""), fmt.Sprintf("[%d]", third.CredentialID); got != want {
		t.Errorf("refused after it expired: got %s, want %s", got, want)
	}
}

func TestApplications(t *testing.T) {
	s := newServer(t)
	other := s.NewApplication()
	ids := decode[[]int64](t, call(t, s, "GET", "/1.0/me/api/application", ""))
	if len(ids) != 2 || ids[0] >= ids[1] {
		t.Fatalf("got %v, want two in ascending order", ids)
	}
	target := fmt.Sprint("/1.0/me/api/application/", ids[1])
	got := decode[map[string]any](t, call(t, s, "GET", target, ""))
	if got["applicationKey"] != other.ApplicationKey || got["applicationId"] != float64(ids[1]) ||
		got["status"] != "active" || got["name"] == nil || got["description"] == nil || len(got) != 5 {
		t.Errorf("got %v, want the other application, without its secret", got)
	}
	_, body := send(t, signed(t, s, other, "GET", "/1.0/auth/currentCredential", ""))
	credentialTarget := fmt.Sprint("/1.0/me/api/credential/", decode[credential](t, body).CredentialID)
	if got := call(t, s, "GET", credentialTarget+"/application", ""); got != call(t, s, "GET", target, "") {
		t.Errorf("the credential is of application %s, want the same application", got)
	}

	call(t, s, "DELETE", target, "")
	for _, target := range []string{target, credentialTarget, credentialTarget + "/application", "/1.0/me/api/application/x"} {
		if resp, _ := send(t, signed(t, s, s.Credentials(), "GET", target, "")); resp.StatusCode != 404 {
			t.Errorf("after DELETE: %s is %s, want 404", target, resp.Status)
		}
	}
	s.Forget()
	send(t, signed(t, s, other, "GET", "/1.0/me", ""))
	if got := s.Exchanges()[0]; got.ErrorCode != "INVALID_KEY" {
		t.Errorf("after DELETE: %v, want INVALID_KEY", got)
	}
	call(t, s, "DELETE", fmt.Sprint("/1.0/me/api/application/", ids[0]), "")
	s.NewKey() // of an application that is gone: of no use, but no panic
}

func TestBadRequests(t *testing.T) {
	s := newServer(t)
	current := decode[credential](t, call(t, s, "GET", "/1.0/auth/currentCredential", ""))
	me := fmt.Sprint("/1.0/me/api/credential/", current.CredentialID)
	const rules = `"accessRules":[{"method":"GET","path":"/"}]`
	for _, test := range []struct{ method, target, body, want string }{
		{"PUT", "/1.0/me", `{'name':'x'}`, "Invalid JSON received"},
		{"PUT", me, `{"allowedIPs":`, "Invalid JSON received"},
		{"PUT", me, `{"allowedIPs":["127.0.0.1","x"]}`, "Invalid allowedIPs"},
		{"POST", "/1.0/auth/credential", ``, "Invalid JSON received"},
		{"POST", "/1.0/auth/credential", `{}`, "Missing accessRules"},
		{"POST", "/1.0/auth/credential", `{"accessRules":[{"method":"PATCH","path":"/"}]}`, "Invalid accessRules"},
		{"POST", "/1.0/auth/credential", `{"accessRules":[{"method":"GET"}]}`, "Invalid accessRules"},
		{"POST", "/1.0/auth/credential", `{` + rules + `,"allowedIPs":["x"]}`, "Invalid allowedIPs"},
	} {
		resp, body := send(t, signed(t, s, s.Credentials(), test.method, test.target, test.body))
		if want := `{"class":"Client::BadRequest","message":"` + test.want + `"}`; resp.StatusCode != 400 || body != want {
			t.Errorf("%s %s %s: got %s %s, want %s", test.method, test.target, test.body, resp.Status, body, want)
		}
	}
}

func TestRequestCredentialNeedsItsApplicationKey(t *testing.T) {
	s := newServer(t)
	req := plain(t, s, "POST", "/v1/auth/credential/", `{"accessRules":[{"method":"GET","path":"/me"}]}`)
	req.Header.Set("X-Ovh-Application", "0123456789ABCDEF")
	if resp, body := send(t, req); resp.StatusCode != 403 || !strings.Contains(body, "Invalid application key") {
		t.Errorf("got %s %s, want 403", resp.Status, body)
	}
	req = plain(t, s, "POST", "/v1/auth/credential/", `{"accessRules":[{"method":"GET","path":"/me"}]}`)
	req.Header.Set("X-Ovh-Application", s.Credentials().ApplicationKey)
	if resp, body := send(t, req); resp.StatusCode != 200 {
		t.Errorf("got %s %s, want 200", resp.Status, body)
	}
}

func TestUnknownConsumerKey(t *testing.T) {
	s := newServer(t)
	s.Revoke("x") // there is none: nothing to do
	for name, f := range map[string]func(string){"Validate": s.Validate, "Refuse": s.Refuse, "Expire": s.Expire} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			f("x")
		}()
	}
}

func TestTokenEndpoint(t *testing.T) {
	s := newServer(t)
	id, secret := s.NewServiceAccount()
	for _, test := range []struct {
		name, user, password, form string
		status                     int
		want                       string
	}{
		{"in params", "", "", granted + "&client_id=" + id + "&client_secret=" + secret,
			200, `"token_type":"Bearer","expires_in":3599,"scope":"all"}`},
		{"basic", id, secret, granted,
			200, `{"access_token":"`},
		{"unknown client", "x", secret, granted,
			400, `{"error":"invalid_client","error_description":"ovhcloud oauth2 client does not exists"}`},
		{"wrong secret", id, "x", granted,
			400, `{"error":"invalid_client_credentials","error_description":"client secret invalid"}`},
		{"no client", "", "", granted,
			400, `{"error":"invalid_client",`},
		{"other grant", id, secret, "grant_type=password&scope=all",
			400, `{"error":"unsupported_grant_type",`},
		{"no scope", id, secret, "grant_type=client_credentials",
			400, `{"error":"invalid_scope",`},
	} {
		resp, body := askToken(t, s, test.user, test.password, test.form)
		if resp.StatusCode != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: got %s %s, want %d %s", test.name, resp.Status, body, test.status, test.want)
		}
	}
	if got := s.Exchanges()[2]; got.ErrorCode != "invalid_client" {
		t.Errorf("recorded %v, want invalid_client", got)
	}
}

func TestToken(t *testing.T) {
	s := newServer(t)
	now := time.Unix(1457018875, 0)
	s.SetClock(func() time.Time { return now })
	id, secret := s.NewServiceAccount()
	newToken := func() string {
		_, body := askToken(t, s, id, secret, granted)
		return decode[map[string]any](t, body)["access_token"].(string)
	}
	get := func(method, target, token string) (int, string) {
		req := plain(t, s, method, target, "")
		req.Header.Set("Authorization", "Bearer "+token)
		resp, body := send(t, req)
		return resp.StatusCode, body
	}
	token := newToken()
	if status, body := get("GET", "/1.0/me", token); status != 200 {
		t.Errorf("got %d %s, want 200", status, body)
	}
	if got := s.Exchanges()[1]; !got.Verified {
		t.Errorf("recorded %v, want it verified", got)
	}
	identity := `["urn:v1:eu:identity:credential:jd12345-ovh/oauth2-` + id + `"]`
	if _, body := get("GET", "/1.0/auth/details", token); !strings.Contains(body, identity) {
		t.Errorf("details: %s, want the account in it", body)
	}
	for _, call := range []string{"GET /1.0/auth/currentCredential", "POST /1.0/auth/logout"} {
		method, target, _ := strings.Cut(call, " ")
		if status, body := get(method, target, token); status != 403 || !strings.Contains(body, "NOT_CREDENTIAL") {
			t.Errorf("%s: %d %s, want 403 NOT_CREDENTIAL", call, status, body)
		}
	}
	now = now.Add(3598 * time.Second)
	if status, _ := get("GET", "/1.0/me", token); status != 200 {
		t.Errorf("before its expiration: %d, want 200", status)
	}
	now = now.Add(time.Second)
	if status, body := get("GET", "/1.0/me", token); status != 401 || !strings.Contains(body, "You must login first") {
		t.Errorf("after its expiration: %d %s, want 401", status, body)
	}
	first, second := newToken(), newToken()
	s.RevokeTokens()
	for _, token := range []string{first, second} {
		if status, _ := get("GET", "/1.0/me", token); status != 401 {
			t.Errorf("revoked: %d, want 401", status)
		}
	}
	if status, _ := get("GET", "/1.0/me", newToken()); status != 200 {
		t.Errorf("a token given since: %d, want 200", status)
	}
}

func TestDetails(t *testing.T) {
	s := newServer(t)
	k := s.NewKey(consumerkey.Rule{Method: "GET", Path: "/me"})
	_, body := send(t, signed(t, s, k, "GET", "/1.0/auth/details", ""))
	const want = `{"account":"jd12345-ovh","method":"account","user":null,"roles":[],"description":"",` +
		`"identities":["urn:v1:eu:identity:account:jd12345-ovh"],"allowedRoutes":[{"method":"GET","path":"/me"}]}`
	if body != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
}

func TestValidationPage(t *testing.T) {
	const rules = `{"accessRules":[{"method":"GET","path":"/me&*"}],"allowedIPs":["127.0.0.1"]`
	now := time.Unix(1457018875, 0)
	for _, test := range []struct {
		name, redirection, form string
		status                  int
		text                    string // on the page then shown
		after                   time.Duration
		code                    string // of a call after that time
	}{
		{"authorize", "", "decision=authorize&validity=24h", 200, "validated", 24*time.Hour - 1, "Client::NotFound"},
		{"validity ends", "", "decision=authorize&validity=24h", 200, "validated", 24 * time.Hour, "INVALID_CREDENTIAL"},
		{"for ever", "", "decision=authorize&validity=0", 200, "validated", 1e5 * time.Hour, "Client::NotFound"},
		{"refuse", "", "decision=refuse&validity=24h", 200, "refused", 0, "INVALID_CREDENTIAL"},
		{"authorize and return", "https://x.example/?a=b", "decision=authorize&validity=0", 303, "", 0, "Client::NotFound"},
		{"refuse and return", "https://x.example/", "decision=refuse&validity=0", 303, "", 0, "INVALID_CREDENTIAL"},
		{"bad validity", "", "decision=authorize&validity=x", 400, "validity", 0, "INVALID_CREDENTIAL"},
		{"negative validity", "", "decision=authorize&validity=-1h", 400, "validity", 0, "INVALID_CREDENTIAL"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t)
			clock := now
			s.SetClock(func() time.Time { return clock })
			k, validationURL := requestKey(t, s, rules+`,"redirection":"`+test.redirection+`"}`)
			target := strings.TrimPrefix(validationURL, root(s))
			resp, page := send(t, plain(t, s, "GET", target, ""))
			for _, want := range []string{"GET /me&amp;*", "127.0.0.1", "Authorize", "Refuse", "Unlimited", test.redirection} {
				if !strings.Contains(page, want) {
					t.Errorf("the page lacks %q: %s", want, page)
				}
			}
			if got := resp.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
				t.Errorf("Content-Type %q, want HTML in UTF-8", got)
			}
			req := plain(t, s, "POST", target, test.form)
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, page = send(t, req)
			location := resp.Header.Get("Location")
			if resp.StatusCode != test.status || location != test.redirection || !strings.Contains(page, test.text) {
				t.Errorf("got %s, location %q: %s; want what the table says", resp.Status, location, page)
			}
			clock = clock.Add(test.after)
			s.Forget()
			send(t, signedAt(t, s, k, clock, "GET", "/1.0/me&x", ""))
			if got := s.Exchanges()[0]; got.ErrorCode != test.code {
				t.Errorf("then %v, want %s", got, test.code)
			}
		})
	}
}

func TestValidationIsFinal(t *testing.T) {
	s := newServer(t)
	k, validationURL := requestKey(t, s, `{"accessRules":[{"method":"GET","path":"/*"}],"redirection":"https://x.example/"}`)
	s.Refuse(k.ConsumerKey)
	resp, err := http.PostForm(validationURL, url.Values{"decision": {"authorize"}, "validity": {"0"}})
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !strings.Contains(string(page), "refused") || strings.Contains(string(page), "Authorize") {
		t.Errorf("got %s %s, want 200, refused", resp.Status, page)
	}
	for _, method := range []string{"GET", "POST"} {
		req := plain(t, s, method, "/auth/?credentialToken=x", "validity=0")
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if resp, _ := send(t, req); resp.StatusCode != 404 {
			t.Errorf("%s of an unknown token: %s, want 404", method, resp.Status)
		}
	}
}
