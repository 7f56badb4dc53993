package consumerkey_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/consumerkey"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

func TestRules(t *testing.T) {
	for _, test := range []struct {
		name  string
		given []consumerkey.Rule
		want  string
	}{
		{"path", consumerkey.ReadOnly("/domain/zone"), "GET /domain/zone, GET /domain/zone/*"},
		{"root", consumerkey.ReadOnly("/"), "GET /*"},
		{"blank", consumerkey.ReadOnly(""), "GET "},
		{"blank, to write", consumerkey.ReadWrite(" \n"), "GET , POST , PUT , DELETE "},
		{"asterisk and slash at the end", consumerkey.ReadOnly("/me/*/"), "GET /me, GET /me/*"},
		{"root with an asterisk", consumerkey.ReadOnly("/*"), "GET /*"},
		{"white space", consumerkey.ReadOnly(" /me/ "), "GET /me, GET /me/*"},
		{"asterisk at the end", consumerkey.ReadOnly("/me/*"), "GET /me, GET /me/*"},
		{"asterisk and white space", consumerkey.ReadOnly("/me/* "), "GET /me, GET /me/*"},
		{"no slash", consumerkey.ReadOnly("me"), "GET /me, GET /me/*"},
		{"a path twice", consumerkey.ReadOnly("/me", "/ip", "/me/", "/", "/"), "GET /me, GET /me/*, GET /ip, GET /ip/*, GET /*"},
		{"no path", consumerkey.ReadOnly(), ""},
		{"path, to write", consumerkey.ReadWrite("/me"), "GET /me, GET /me/*, POST /me, POST /me/*, PUT /me, PUT /me/*, DELETE /me, DELETE /me/*"},
		{"root, to write", consumerkey.ReadWrite("/"), "GET /*, POST /*, PUT /*, DELETE /*"},
		{"no path, to write", consumerkey.ReadWrite(), ""},
	} {
		var got []string
		for _, r := range test.given {
			got = append(got, r.Method+" "+r.Path)
		}
		if s := strings.Join(got, ", "); s != test.want {
			t.Errorf("%s: got %s, want %s", test.name, s, test.want)
		}
	}
}

// A path that a setting left blank does not open the account.
func TestBlankRulesAreRejected(t *testing.T) {
	client := clientOf("CK", func(*http.Request) (*http.Response, error) {
		t.Error("a request was sent")
		return nil, io.EOF
	})
	for _, rules := range [][]consumerkey.Rule{consumerkey.ReadOnly(""), consumerkey.ReadWrite("/me", " "), {{Method: "GET", Path: "me"}}, {{Path: "/me"}}} {
		_, err := consumerkey.Request(t.Context(), client, consumerkey.Options{Rules: rules})
		if err == nil || !strings.HasPrefix(err.Error(), "consumerkey: the rule ") {
			t.Errorf("%v: got %v, want an error that names the rule", rules, err)
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

func respondWith(status int, body string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}, nil
}

func TestRequest(t *testing.T) {
	const granted = `{"validationUrl":"https://eu.api.ovh.com/auth/?credentialToken=tok","consumerKey":"CK","state":"pendingValidation"}`
	for _, test := range []struct {
		name  string
		given consumerkey.Options
		want  string
	}{
		{"no options", consumerkey.Options{}, `{"accessRules":[{"method":"GET","path":"/*"}]}`},
		{"all options", consumerkey.Options{Rules: []consumerkey.Rule{{"GET", "/me"}, {"PUT", "/me"}}, Redirection: "https://app.example/",
			AllowedIPs: []string{"192.0.2.0/24"}},
			`{"accessRules":[{"method":"GET","path":"/me"},{"method":"PUT","path":"/me"}],"redirection":"https://app.example/","allowedIPs":["192.0.2.0/24"]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := clientOf("", func(req *http.Request) (*http.Response, error) {
				body, err := io.ReadAll(req.Body)
				sent, want := req.Method+" "+req.URL.String()+" "+string(body), "POST https://eu.api.ovh.com/1.0/auth/credential "+test.want
				if sent != want || err != nil {
					t.Errorf("sent %s, %v; want %s", sent, err, want)
				}
				if h := req.Header; h.Get("X-Ovh-Application") != "AK" || h.Get("X-Ovh-Signature") != "" || !strings.HasPrefix(h.Get("Content-Type"), "application/json") {
					t.Errorf("header %v; want the application key alone, and JSON", h)
				}
				return respondWith(200, granted)
			})
			key, err := consumerkey.Request(t.Context(), client, test.given)
			if err != nil {
				t.Fatal(err)
			}
			if want := (consumerkey.Pending{"CK", "pendingValidation", "https://eu.api.ovh.com/auth/?credentialToken=tok"}); *key != want {
				t.Errorf("got %s, want what the response says", key)
			}
		})
	}
}

func TestRequestErrors(t *testing.T) {
	for _, test := range []struct {
		name       string
		status     int
		body, want string
	}{
		{"rejection", 403, `{"class":"Client::Forbidden","message":"Invalid application key"}`, "this endpoint does not know the application key"},
		{"null", 200, `null`, "consumerkey: the response to POST /auth/credential lacks consumerKey"},
		{"no URL", 200, `{"consumerKey":"CK"}`, "consumerkey: the response to POST /auth/credential lacks consumerKey"},
		{"no key", 200, `{"validationUrl":"https://x"}`, "consumerkey: the response to POST /auth/credential lacks consumerKey"},
		{"HTML", 200, `<html>`, `consumerkey: POST /auth/credential: reading the response of type ""`},
		{"longer than 1 MiB", 200, strings.Repeat(" ", 1<<20) + `{"consumerKey":"CK","validationUrl":"https://x"}`, "consumerkey: the response to POST /auth/credential lacks"},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, err := consumerkey.Request(t.Context(), clientOf("", func(*http.Request) (*http.Response, error) {
				return respondWith(test.status, test.body)
			}), consumerkey.Options{})
			if key != nil || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, %v; want an error with %s", key, err, test.want)
			}
			if _, ok := err.(*ovhauth.APIError); ok != (test.status != 200) {
				t.Errorf("got a %T; want an *APIError for a rejection, and for nothing else", err)
			}
		})
	}
}

// All the ways in which fmt, slog, encoding/json, encoding/xml and a test diff show a pending key.
func TestPendingPrintsNoSecret(t *testing.T) {
	const secret = "hunter2"
	key := consumerkey.Pending{ConsumerKey: secret + "c", State: "pendingValidation", ValidationURL: "https://x.example/auth/?credentialToken=" + secret + "u"}
	for _, v := range []any{key, &key, []consumerkey.Pending{key}, map[string]*consumerkey.Pending{"k": &key}, struct{ P any }{key}} {
		shown := map[string]string{}
		for _, flag := range []string{"", "+", "#", "-20.3"} {
			for _, verb := range "vsqxXdtTbcoOUeEfFgG" {
				format := "%" + flag + string(verb)
				shown[format] = fmt.Sprintf(format, v)
			}
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("", "v", v)
		shown["slog"] = log.String()
		encoded, err := json.Marshal(v)
		shown["json"] = fmt.Sprint(string(encoded), err)
		encoded, _ = xml.Marshal(v)
		shown["xml"] = string(encoded)
		for how, s := range shown {
			if strings.Contains(s, secret) || strings.Contains(strings.ToLower(s), fmt.Sprintf("%x", secret)) || strings.Contains(s, strings.Trim(fmt.Sprint([]byte(secret)), "[]")) {
				t.Errorf("%T by %s: %s; want no secret", v, how, s)
			}
		}
	}
	const want = `consumerkey.Pending{ConsumerKey:"[redacted]" State:"pendingValidation" ValidationURL:"https://x.example/auth/?[redacted]"}`
	text, err := key.MarshalText()
	for how, got := range map[string]string{"String": key.String(), "MarshalText": string(text), "LogValue": key.LogValue().String(), "Sprint": fmt.Sprint(key)} {
		if got != want || err != nil {
			t.Errorf("%s: got %s, %v; want %s", how, got, err, want)
		}
	}
	if got := fmt.Sprint(consumerkey.Pending{}); got != `consumerkey.Pending{ConsumerKey:"" State:"" ValidationURL:""}` {
		t.Errorf("got %s; want that no key is there", got)
	}
	if b, err := json.Marshal(key); err != nil || string(b) != `{"ConsumerKey":"[redacted]","State":"pendingValidation","ValidationURL":"https://x.example/auth/?[redacted]"}` {
		t.Errorf("JSON: got %s, %v; want it redacted", b, err)
	}
}

func TestInfoJSON(t *testing.T) {
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
	var c consumerkey.Info
	if err := json.Unmarshal([]byte(whole), &c); err != nil {
		t.Fatal(err)
	}
	if c.ID != 9007199254740993 || c.ApplicationID != 7 || c.Status != "validated" || !c.Creation.Equal(at("2015-04-14T14:09:44Z")) ||
		!c.Expiration.Equal(at("2015-04-15T14:09:44Z")) || !c.LastUse.Equal(at("2015-04-14T14:10:00Z")) ||
		!reflect.DeepEqual(c.Rules, []consumerkey.Rule{{Method: "GET", Path: "/me"}}) || !reflect.DeepEqual(c.AllowedIPs, []string{"192.0.2.0/24"}) {
		t.Errorf("got %+v, want what the JSON says", c)
	}
	c = consumerkey.Info{}
	if err := json.Unmarshal([]byte(`{"credentialId":1,"expiration":null,"lastUse":null,"allowedIPs":null}`), &c); err != nil {
		t.Fatal(err)
	}
	if c.Expiration != nil || c.LastUse != nil || c.AllowedIPs != nil {
		t.Errorf("got %+v, want nil for each null", c)
	}
}

const (
	shown          = `200 {"credentialId":1,"status":"`
	notValid       = `403 {"errorCode":"INVALID_CREDENTIAL","httpCode":"403 Forbidden","message":"This credential is not valid"}`
	notValidClass  = `403 {"class":"Client::Forbidden","message":"This credential is not valid"}`
	missing        = `403 {"errorCode":"MISSING_CREDENTIAL","httpCode":"403 Forbidden","message":"No credential"}`
	login          = `401 {"class":"Client::Unauthorized","message":"You must login first"}`
	doesNotExist   = `403 {"errorCode":"NOT_CREDENTIAL","httpCode":"403 Forbidden","message":"This credential does not exist"}`
	notGranted     = `403 {"errorCode":"NOT_GRANTED_CALL","httpCode":"403 Forbidden","message":"This call has not been granted"}`
	internalErrors = `500 {"class":"Server::InternalServerError","message":"Internal server error"}`
)

func TestAwait(t *testing.T) {
	type responses []string // each a status and a body; the last is repeated
	for _, test := range []struct {
		name  string
		every time.Duration
		responses
		asked int
		took  time.Duration
		is    error  // what the error matches
		want  string // the error, or what is in it; "" for none
	}{
		{"validated at once", time.Second, responses{shown + `validated"}`}, 1, 0, nil, ""},
		{"rejected by the API for a while", time.Second, responses{notValid, notValidClass, shown + `validated"}`}, 3, 2 * time.Second, nil, ""},
		{"missing for a while", time.Second, responses{missing, shown + `validated"}`}, 2, time.Second, nil, ""},
		{"401 for a while", time.Second, responses{login, login, shown + `validated"}`}, 3, 2 * time.Second, nil, ""},
		{"shown as pending for a while", time.Minute, responses{shown + `pendingValidation"}`, shown + `validated"}`}, 2, time.Minute, nil, ""},
		{"no interval", 0, responses{notValid, shown + `validated"}`}, 2, 5 * time.Second, nil, ""},
		{"negative interval", -time.Second, responses{notValid, shown + `validated"}`}, 2, 5 * time.Second, nil, ""},
		{"revoked", time.Second, responses{notValid, doesNotExist}, 2, time.Second, ovhauth.ErrUnknownCredential, "does not exist"},
		{"not granted", time.Second, responses{notGranted}, 1, 0, ovhauth.ErrNotGranted, "not been granted"},
		{"shown as refused", time.Second, responses{shown + `refused"}`}, 1, 0, ovhauth.ErrInvalidCredential, `consumerkey: the key's status is "refused"`},
		{"shown as expired", time.Second, responses{shown + `expired"}`}, 1, 0, ovhauth.ErrInvalidCredential, `consumerkey: the key's status is "expired"`},
		{"an empty response", time.Second, responses{`200 null`}, 1, 0, nil, "consumerkey: the response to GET /auth/currentCredential lacks status"},
		{"another error", time.Second, responses{internalErrors}, 1, 0, nil, "Internal server error"},
		{"never", 7 * time.Second, responses{notValid}, 9, time.Minute, context.DeadlineExceeded, "consumerkey: the key is not validated yet: context deadline exceeded"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				client := clientOf("CK", func(req *http.Request) (*http.Response, error) {
					if req.Method != "GET" || req.URL.String() != string(ovhauth.EU)+"/auth/currentCredential" || req.Header.Get("X-Ovh-Consumer") != "CK" {
						t.Errorf("sent %s %s by %q, want GET of the current key by itself", req.Method, req.URL, req.Header.Get("X-Ovh-Consumer"))
					}
					next := test.responses[min(asked, len(test.responses)-1)]
					asked++
					status, body, _ := strings.Cut(next, " ")
					code, _ := strconv.Atoi(status)
					return respondWith(code, body)
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if test.is != context.DeadlineExceeded {
					ctx = t.Context()
				}
				began := time.Now()
				err := consumerkey.Await(ctx, client, test.every)
				if took := time.Since(began); asked != test.asked || took != test.took {
					t.Errorf("asked %d times in %s, want %d in %s", asked, took, test.asked, test.took)
				}
				if (err == nil) != (test.want == "") || test.is != nil && !errors.Is(err, test.is) || err != nil && !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, want %q that matches %v", err, test.want, test.is)
				}
			})
		})
	}
}

// A context that ends while the API is being asked is told by its own error, not by what the connection made of it.
func TestAwaitEndsInTheMiddle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := consumerkey.Await(ctx, clientOf("CK", func(*http.Request) (*http.Response, error) {
		cancel()
		return nil, errors.New("connection reset")
	}), time.Hour)
	if want := "consumerkey: the key is not validated yet: context canceled"; !errors.Is(err, context.Canceled) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestErrorsHaveThePackagesName(t *testing.T) {
	own := errors.New("no route to host")
	broken := clientOf("CK", func(*http.Request) (*http.Response, error) { return nil, own })
	for _, test := range []struct {
		name, want string
		client     *http.Client
		is         error
	}{
		{"no Transport of ours", "the client must use an ovhauth.Transport, which knows the endpoint", &http.Client{}, nil},
		{"no connection", "no route to host", broken, own},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := t.Context()
			_, requested := consumerkey.Request(ctx, test.client, consumerkey.Options{})
			_, current := consumerkey.Current(ctx, test.client)
			for call, err := range map[string]error{
				"POST /auth/credential":       requested,
				"GET /auth/currentCredential": errors.Join(current, consumerkey.Await(ctx, test.client, 0)),
				"POST /auth/logout":           consumerkey.Logout(ctx, test.client),
			} {
				for line := range strings.Lines(err.Error()) {
					if got, want := strings.TrimSpace(line), "consumerkey: "+call+": "+test.want; got != want {
						t.Errorf("got %s, want %s", got, want)
					}
				}
				if test.is != nil && !errors.Is(err, test.is) {
					t.Errorf("%v does not match what is behind it", err)
				}
			}
		})
	}
	var none context.Context
	if err := consumerkey.Logout(none, broken); err == nil || err.Error() != "consumerkey: POST /auth/logout: net/http: nil Context" {
		t.Errorf("a request that cannot be made: got %v, want an error that says why", err)
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
	pending, err := consumerkey.Request(ctx, client(ovhauth.Credentials{ApplicationKey: app.ApplicationKey}), consumerkey.Options{
		Rules:      append(consumerkey.ReadOnly("/me"), consumerkey.Rule{Method: "DELETE", Path: "/me/api/credential/*"}),
		AllowedIPs: []string{"127.0.0.0/8", "::1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	app.ConsumerKey = pending.ConsumerKey
	mine := client(app)
	if _, err := consumerkey.Current(ctx, mine); !errors.Is(err, ovhauth.ErrInvalidCredential) {
		t.Fatalf("before its validation: %v, want ErrInvalidCredential", err)
	}

	waiting := make(chan error)
	go func() { waiting <- consumerkey.Await(ctx, mine, time.Millisecond) }()
	page, err := http.PostForm(pending.ValidationURL, url.Values{"decision": {"authorize"}, "validity": {"24h"}})
	if err != nil {
		t.Fatal(err)
	}
	page.Body.Close()
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}

	current, err := consumerkey.Current(ctx, mine)
	if err != nil || current.Status != "validated" || len(current.Rules) != 3 || len(current.AllowedIPs) != 2 ||
		current.Expiration == nil || current.Expiration.Sub(current.Creation).Round(time.Hour) != 24*time.Hour {
		t.Fatalf("got %+v, %v; want the key as it was asked for, valid for a day", current, err)
	}
	me, err := ovhjson.Get[struct{ FirstName string }](ctx, mine, "/me")
	if err != nil || me.FirstName == "" {
		t.Errorf("what the rules allow: %+v, %v; want a name", me, err)
	}
	if _, err := ovhjson.Put[any](ctx, mine, "/me", nil); !errors.Is(err, ovhauth.ErrNotGranted) {
		t.Errorf("what the rules do not allow: %v, want ErrNotGranted", err)
	}
	ids, err := ovhjson.Get[[]int64](ctx, mine, "/me/api/credential?status=validated")
	if err != nil || !slices.Contains(ids, current.ID) {
		t.Fatalf("listed: %v, %v; want %d among them", ids, err, current.ID)
	}
	path := fmt.Sprint("/me/api/credential/", current.ID)
	listed, err := ovhjson.Get[consumerkey.Info](ctx, mine, path)
	if err != nil || listed.LastUse == nil || listed.ApplicationID != current.ApplicationID || !reflect.DeepEqual(listed.Rules, current.Rules) {
		t.Errorf("listed as %+v, %v; want %+v", listed, err, current)
	}
	if _, err := ovhjson.Delete[any](ctx, mine, path); err != nil {
		t.Fatal(err)
	}
	if err := consumerkey.Await(ctx, mine, time.Millisecond); !errors.Is(err, ovhauth.ErrUnknownCredential) {
		t.Errorf("after its revocation: %v, want ErrUnknownCredential", err)
	}
}

func TestLogout(t *testing.T) {
	srv := ovhtest.NewServer()
	defer srv.Close()
	if err := consumerkey.Logout(t.Context(), srv.Client()); err != nil {
		t.Fatal(err)
	}
	if _, err := consumerkey.Current(t.Context(), srv.Client()); !errors.Is(err, ovhauth.ErrInvalidCredential) {
		t.Errorf("after it: %v, want ErrInvalidCredential", err)
	}
	if err := consumerkey.Logout(t.Context(), srv.Client()); !errors.Is(err, ovhauth.ErrInvalidCredential) {
		t.Errorf("once more: %v, want ErrInvalidCredential", err)
	}
}
