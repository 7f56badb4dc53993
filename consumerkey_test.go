package ovhauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

func TestAccessRules(t *testing.T) {
	for _, test := range []struct {
		got  []ovhauth.AccessRule
		want string
	}{
		{ovhauth.ReadOnly("/domain/zone"), "GET /domain/zone, GET /domain/zone/*"},
		{ovhauth.ReadOnly("/"), "GET /*"},
		{ovhauth.ReadOnly(""), "GET "},
		{ovhauth.ReadWrite(" \n"), "GET , POST , PUT , DELETE "},
		{ovhauth.ReadOnly("/me/*/"), "GET /me, GET /me/*"},
		{ovhauth.ReadOnly("/*"), "GET /*"},
		{ovhauth.ReadOnly(" /me/ "), "GET /me, GET /me/*"},
		{ovhauth.ReadOnly("/me/*"), "GET /me, GET /me/*"},
		{ovhauth.ReadOnly("/me/* "), "GET /me, GET /me/*"},
		{ovhauth.ReadOnly("me"), "GET /me, GET /me/*"},
		{ovhauth.ReadOnly("/me", "/ip", "/me/", "/", "/"), "GET /me, GET /me/*, GET /ip, GET /ip/*, GET /*"},
		{ovhauth.ReadOnly(), ""},
		{ovhauth.ReadWrite("/me"), "GET /me, GET /me/*, POST /me, POST /me/*, PUT /me, PUT /me/*, DELETE /me, DELETE /me/*"},
		{ovhauth.ReadWrite("/"), "GET /*, POST /*, PUT /*, DELETE /*"},
		{ovhauth.ReadWrite(), ""},
	} {
		var got []string
		for _, r := range test.got {
			got = append(got, r.Method+" "+r.Path)
		}
		if s := strings.Join(got, ", "); s != test.want {
			t.Errorf("got %s, want %s", s, test.want)
		}
	}
}

// A path that a setting left blank does not open the account.
func TestBlankRulesAreRefused(t *testing.T) {
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: shared, Base: baseOf(func(*http.Request) (*http.Response, error) {
		t.Error("sent")
		return nil, io.EOF
	})}}
	for _, rules := range [][]ovhauth.AccessRule{ovhauth.ReadOnly(""), ovhauth.ReadWrite("/me", " "), {{Method: "GET", Path: "me"}}, {{Path: "/me"}}} {
		if _, err := ovhauth.RequestConsumerKey(t.Context(), client, ovhauth.ConsumerKeyRequest{AccessRules: rules}); err == nil || !strings.Contains(err.Error(), "access rule") {
			t.Errorf("%v: %v", rules, err)
		}
	}
}

// baseOf is the API below a Transport.
type baseOf func(*http.Request) (*http.Response, error)

func (b baseOf) RoundTrip(req *http.Request) (*http.Response, error) { return b(req) }

// clientOf signs for EU by an application with a consumer key, if any, and sends to b.
func clientOf(consumerKey string, b baseOf) *http.Client {
	return &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    ovhauth.EU,
		Credentials: ovhauth.Credentials{ApplicationKey: "AK", ApplicationSecret: "AS", ConsumerKey: consumerKey},
		Base:        b,
	}}
}

func answerWith(status int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func TestRequestConsumerKey(t *testing.T) {
	for _, test := range []struct {
		r    ovhauth.ConsumerKeyRequest
		want string
	}{
		{ovhauth.ConsumerKeyRequest{}, `{"accessRules":[{"method":"GET","path":"/*"}]}`},
		{ovhauth.ConsumerKeyRequest{AccessRules: []ovhauth.AccessRule{{"GET", "/me"}, {"PUT", "/me"}}, Redirection: "https://app.example/",
			AllowedIPs: []string{"192.0.2.0/24"}},
			`{"accessRules":[{"method":"GET","path":"/me"},{"method":"PUT","path":"/me"}],"redirection":"https://app.example/","allowedIPs":["192.0.2.0/24"]}`},
	} {
		var sent string
		var header http.Header
		client := clientOf("", func(req *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(req.Body)
			sent, header = req.Method+" "+req.URL.String()+" "+string(body), req.Header
			if err != nil {
				return nil, err
			}
			return answerWith(200, `{"validationUrl":"https://eu.api.ovh.com/auth/?credentialToken=tok","consumerKey":"CK","state":"pendingValidation"}`)
		})
		key, err := ovhauth.RequestConsumerKey(t.Context(), client, test.r)
		if err != nil {
			t.Fatal(err)
		}
		if want := "POST https://eu.api.ovh.com/1.0/auth/credential " + test.want; sent != want {
			t.Errorf("sent %s, want %s", sent, want)
		}
		if header.Get("X-Ovh-Application") != "AK" || header.Get("X-Ovh-Signature") != "" || !strings.HasPrefix(header.Get("Content-Type"), "application/json") {
			t.Errorf("header %v", header)
		}
		if key.ConsumerKey != "CK" || key.State != "pendingValidation" || key.ValidationURL != "https://eu.api.ovh.com/auth/?credentialToken=tok" {
			t.Errorf("got %s", key)
		}
	}
	for _, test := range []struct {
		status     int
		body, want string
	}{
		{403, `{"class":"Client::Forbidden","message":"Invalid application key"}`, "this endpoint does not know the application key"},
		{200, `null`, "lacks consumerKey"},
		{200, `{"consumerKey":"CK"}`, "lacks consumerKey"},
		{200, `{"validationUrl":"https://x"}`, "lacks consumerKey"},
		{200, `<html>`, "reading the answer to POST /auth/credential"},
	} {
		key, err := ovhauth.RequestConsumerKey(t.Context(), clientOf("", func(*http.Request) (*http.Response, error) {
			return answerWith(test.status, test.body)
		}), ovhauth.ConsumerKeyRequest{})
		if key != nil || err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %s, %v", test.body, key, err)
		}
	}
}

func TestCredentialJSON(t *testing.T) {
	const whole = `{"credentialId":9007199254740993,"applicationId":7,"status":"validated","ovhSupport":false,
		"rules":[{"method":"GET","path":"/me"}],"allowedIPs":["192.0.2.0/24"],"creation":"2015-04-14T16:09:44+02:00",
		"expiration":"2015-04-15T16:09:44+02:00","lastUse":"2015-04-14T16:10:00+02:00"}`
	at := func(s string) time.Time {
		when, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	var c ovhauth.Credential
	if err := json.Unmarshal([]byte(whole), &c); err != nil {
		t.Fatal(err)
	}
	if c.ID != 9007199254740993 || c.ApplicationID != 7 || c.Status != "validated" || !c.Creation.Equal(at("2015-04-14T14:09:44Z")) ||
		!c.Expiration.Equal(at("2015-04-15T14:09:44Z")) || !c.LastUse.Equal(at("2015-04-14T14:10:00Z")) ||
		!reflect.DeepEqual(c.Rules, []ovhauth.AccessRule{{Method: "GET", Path: "/me"}}) || !reflect.DeepEqual(c.AllowedIPs, []string{"192.0.2.0/24"}) {
		t.Errorf("%+v", c)
	}
	c = ovhauth.Credential{}
	if err := json.Unmarshal([]byte(`{"credentialId":1,"expiration":null,"lastUse":null,"allowedIPs":null}`), &c); err != nil {
		t.Fatal(err)
	}
	if c.Expiration != nil || c.LastUse != nil || c.AllowedIPs != nil {
		t.Errorf("%+v", c)
	}
}

const (
	shown          = `{"credentialId":1,"status":"`
	notValid       = `{"errorCode":"INVALID_CREDENTIAL","httpCode":"403 Forbidden","message":"This credential is not valid"}`
	notValidClass  = `{"class":"Client::Forbidden","message":"This credential is not valid"}`
	doesNotExist   = `{"errorCode":"NOT_CREDENTIAL","httpCode":"403 Forbidden","message":"This credential does not exist"}`
	internalErrors = `{"class":"Server::InternalServerError","message":"Internal server error"}`
)

func TestAwaitValidation(t *testing.T) {
	type answers []string // each a status and a body; the last is repeated
	for _, test := range []struct {
		name  string
		every time.Duration
		answers
		asked int
		took  time.Duration
		want  error // what the error matches; nil for none
		text  string
	}{
		{"validated at once", time.Second, answers{"200 " + shown + `validated"}`}, 1, 0, nil, ""},
		{"refused by the API for a while", time.Second, answers{"403 " + notValid, "403 " + notValidClass, "200 " + shown + `validated"}`}, 3, 2 * time.Second, nil, ""},
		{"shown as pending for a while", time.Minute, answers{"200 " + shown + `pendingValidation"}`, "200 " + shown + `validated"}`}, 2, time.Minute, nil, ""},
		{"no interval", 0, answers{"403 " + notValid, "200 " + shown + `validated"}`}, 2, 5 * time.Second, nil, ""},
		{"negative interval", -time.Second, answers{"403 " + notValid, "200 " + shown + `validated"}`}, 2, 5 * time.Second, nil, ""},
		{"revoked", time.Second, answers{"403 " + notValid, "403 " + doesNotExist}, 2, time.Second, ovhauth.ErrUnknownCredential, ""},
		{"shown as refused", time.Second, answers{"200 " + shown + `refused"}`}, 1, 0, ovhauth.ErrInvalidCredential, `"refused"`},
		{"shown as expired", time.Second, answers{"200 " + shown + `expired"}`}, 1, 0, ovhauth.ErrInvalidCredential, `"expired"`},
		{"another error", time.Second, answers{"500 " + internalErrors}, 1, 0, errAny, "Internal server error"},
		{"never", 7 * time.Second, answers{"403 " + notValid}, 9, time.Minute, context.DeadlineExceeded, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				client := clientOf("CK", func(req *http.Request) (*http.Response, error) {
					if req.Method != "GET" || req.URL.String() != string(ovhauth.EU)+"/auth/currentCredential" || req.Header.Get("X-Ovh-Consumer") != "CK" {
						t.Errorf("asked %s %s by %q", req.Method, req.URL, req.Header.Get("X-Ovh-Consumer"))
					}
					now := test.answers[min(asked, len(test.answers)-1)]
					asked++
					status := map[byte]int{'2': 200, '4': 403, '5': 500}[now[0]]
					return answerWith(status, now[4:])
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Nanosecond)
				defer cancel()
				if test.want == context.DeadlineExceeded {
					ctx, cancel = context.WithTimeout(ctx, time.Minute)
					defer cancel()
				}
				began := time.Now()
				err := ovhauth.AwaitValidation(ctx, client, test.every)
				if took := time.Since(began); asked != test.asked || took != test.took {
					t.Errorf("asked %d times in %s", asked, took)
				}
				switch test.want {
				case nil, context.DeadlineExceeded:
					if err != test.want {
						t.Errorf("got %v", err)
					}
				default:
					if test.want != errAny && !errors.Is(err, test.want) || err == nil || !strings.Contains(err.Error(), test.text) ||
						strings.Count(err.Error(), "ovhauth: ") != 1 {
						t.Errorf("got %v", err)
					}
				}
			})
		})
	}
}

var errAny = errors.New("any")

// A context that ends while the API is being asked is told by its own error, not by what the connection made of it.
func TestAwaitValidationEndsInTheMiddle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := ovhauth.AwaitValidation(ctx, clientOf("CK", func(*http.Request) (*http.Response, error) {
		cancel()
		return nil, errors.New("connection reset")
	}), time.Hour)
	if err != context.Canceled {
		t.Error(err)
	}
}

func TestClientWithoutTransport(t *testing.T) {
	client := &http.Client{}
	_, requested := ovhauth.RequestConsumerKey(t.Context(), client, ovhauth.ConsumerKeyRequest{})
	_, current := ovhauth.CurrentCredential(t.Context(), client)
	for _, err := range []error{requested, current, ovhauth.Logout(t.Context(), client), ovhauth.AwaitValidation(t.Context(), client, 0)} {
		if err == nil || !strings.Contains(err.Error(), "client must use an ovhauth.Transport") {
			t.Error(err)
		}
	}
}

// TestLifeOfAConsumerKey asks for a key, validates it on the page that a user would see, uses, lists and revokes it.
func TestLifeOfAConsumerKey(t *testing.T) {
	srv := ovhtest.NewServer()
	defer srv.Close()
	ctx := t.Context()
	app := srv.Credentials()
	app.ConsumerKey = ""
	client := func(c ovhauth.Credentials) *http.Client {
		return &http.Client{Transport: &ovhauth.Transport{Endpoint: srv.Endpoint(), Credentials: c}}
	}
	pending, err := ovhauth.RequestConsumerKey(ctx, client(ovhauth.Credentials{ApplicationKey: app.ApplicationKey}), ovhauth.ConsumerKeyRequest{
		AccessRules: append(ovhauth.ReadOnly("/me"), ovhauth.AccessRule{Method: "DELETE", Path: "/me/api/credential/*"}),
		AllowedIPs:  []string{"127.0.0.0/8", "::1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	app.ConsumerKey = pending.ConsumerKey
	mine := client(app)
	if _, err := ovhauth.CurrentCredential(ctx, mine); !errors.Is(err, ovhauth.ErrInvalidCredential) {
		t.Fatalf("before its validation: %v", err)
	}

	waiting := make(chan error)
	go func() { waiting <- ovhauth.AwaitValidation(ctx, mine, time.Millisecond) }()
	page, err := http.PostForm(pending.ValidationURL, url.Values{"decision": {"authorize"}, "validity": {"24h"}})
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}

	current, err := ovhauth.CurrentCredential(ctx, mine)
	if err != nil || current.Status != "validated" || len(current.Rules) != 3 || len(current.AllowedIPs) != 2 ||
		current.Expiration == nil || current.Expiration.Sub(current.Creation).Round(time.Hour) != 24*time.Hour {
		t.Fatalf("%+v, %v", current, err)
	}
	get := func(method, path string, out any) error {
		req, err := http.NewRequestWithContext(ctx, method, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := mine.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if err := ovhauth.CheckResponse(resp); err != nil {
			return err
		}
		defer resp.Body.Close()
		return json.NewDecoder(resp.Body).Decode(out)
	}
	var me struct{ FirstName string }
	if err := get("GET", "/me", &me); err != nil || me.FirstName == "" {
		t.Errorf("%+v, %v", me, err)
	}
	if err := get("PUT", "/me", nil); !errors.Is(err, ovhauth.ErrNotGranted) {
		t.Errorf("what the rules do not allow: %v", err)
	}
	var ids []json.Number
	if err := get("GET", "/me/api/credential?status=validated", &ids); err != nil {
		t.Fatal(err)
	}
	listed := false
	for _, id := range ids {
		var c ovhauth.Credential
		if err := get("GET", "/me/api/credential/"+id.String(), &c); err != nil {
			t.Fatal(err)
		}
		if c.ID == current.ID {
			listed = true
			if c.LastUse == nil || c.ApplicationID != current.ApplicationID || !reflect.DeepEqual(c.Rules, current.Rules) {
				t.Errorf("listed as %+v", c)
			}
			if err := get("DELETE", "/me/api/credential/"+id.String(), new(any)); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	if !listed {
		t.Errorf("%d is not among %s", current.ID, ids)
	}
	if err := ovhauth.AwaitValidation(ctx, mine, time.Millisecond); !errors.Is(err, ovhauth.ErrUnknownCredential) {
		t.Errorf("after its revocation: %v", err)
	}
}

func TestLogout(t *testing.T) {
	srv := ovhtest.NewServer()
	defer srv.Close()
	if err := ovhauth.Logout(t.Context(), srv.Client()); err != nil {
		t.Fatal(err)
	}
	if _, err := ovhauth.CurrentCredential(t.Context(), srv.Client()); !errors.Is(err, ovhauth.ErrInvalidCredential) {
		t.Errorf("after it: %v", err)
	}
	if err := ovhauth.Logout(t.Context(), srv.Client()); !errors.Is(err, ovhauth.ErrInvalidCredential) {
		t.Errorf("once more: %v", err)
	}
}

// TestServiceAccount goes to the token endpoint of ovhtest through the Transport's Base.
func TestServiceAccount(t *testing.T) {
	srv := ovhtest.NewServer()
	defer srv.Close()
	id, secret := srv.NewServiceAccount()
	var asked []string
	client := func(secret string) *http.Client {
		return &http.Client{Transport: &ovhauth.Transport{
			Endpoint:    srv.Endpoint(),
			Credentials: ovhauth.ServiceAccount(srv.Endpoint(), id, secret),
			Base: baseOf(func(req *http.Request) (*http.Response, error) {
				asked = append(asked, req.URL.Path)
				return http.DefaultTransport.RoundTrip(req)
			}),
		}}
	}
	mine := client(secret)
	for _, want := range []string{"/auth/oauth2/token /1.0/me", "/1.0/me", "/1.0/me /auth/oauth2/token /1.0/me"} {
		asked = nil
		resp, err := mine.Get("/me")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := strings.Join(asked, " "); resp.StatusCode != 200 || got != want {
			t.Errorf("%s by %s, want %s", resp.Status, got, want)
		}
		if want == "/1.0/me" {
			srv.RevokeTokens()
		}
	}
	_, err := client("wrong").Get("/me")
	if api, ok := errors.AsType[*ovhauth.APIError](err); !ok || api.StatusCode != 400 || api.Code != "invalid_client_credentials" {
		t.Errorf("with a wrong secret: %v", err)
	}
	if _, err := ovhauth.CurrentCredential(t.Context(), mine); !errors.Is(err, ovhauth.ErrUnknownCredential) {
		t.Errorf("a token's credential: %v", err) // as ovhtest has it
	}
}
