package ovhauth_test

import (
	"fmt"
	"html"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"testing"

	"example.com/ovhauth"
)

// A page that shows the request it rejects does not bring its keys into an error.
func TestErrorsDoNotRepeatKeys(t *testing.T) {
	const (
		ak, ck    = "TDPKJdwZwAQPwKX2", "5mBuy6SUQcRw2ZUxg0cG68BoDKpED4KY"
		signature = "$1$e9556054b6309771395efa467c22e627407461ad"
		token     = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"
		opaque    = "dG9rZW4-b2Y~YW4_YWNjb3VudA=="
		secret    = "9ufkBmLaTQ9nz5yMUlg79taH0GNnzDjk"
	)
	dump := "GET /1.0/me HTTP/1.1\r\nX-Ovh-Application: " + ak + "\r\nx-ovh-consumer: " + ck + "\r\nX-OVH-SIGNATURE: " + signature +
		"\r\nAuthorization: Bearer " + opaque + "\r\n\r\n"
	for _, test := range []struct{ name, body string }{
		{"text", dump},
		{"HTML", "<html><h1>502 Bad Gateway</h1><pre>" + html.EscapeString(dump) + "</pre></html>"},
		{"table", "<tr><td>X-Ovh-Consumer</td><td>" + ck + "</td></tr><tr><td>X-Ovh-Signature</td><td>" + html.EscapeString(signature) + "</td></tr><tr><th>Authorization</th><td>Basic " + secret + "</td>"},
		{"definition list", "<dt>X-Ovh-Application</dt>\n<dd>" + ak + "</dd><dt>Authorization</dt>\n<dd>" + token + "</dd>"},
		{"CGI", "HTTP_X_OVH_CONSUMER=" + ck + "\nHTTP_AUTHORIZATION=Bearer " + opaque},
		{"PHP", "Array ( [X-Ovh-Consumer] => " + ck + " [X-Ovh-Signature] => " + signature + " )"},
		{"Python", `{'X-Ovh-Consumer': '` + ck + `', 'Authorization': 'Bearer ` + opaque + `'}`},
		{"Go", "map[X-Ovh-Application:[" + ak + "] X-Ovh-Consumer:[" + ck + "] X-Ovh-Signature:[" + signature + "]]"},
		{"Go, as source", fmt.Sprintf("%#v", http.Header{"X-Ovh-Consumer": {ck}, "Authorization": {"Bearer " + opaque}})},
		{"PHP var_dump", `array(1) { ["X-Ovh-Consumer"]=> string(32) "` + ck + `" ["Authorization"]=> string(40) "Basic ` + secret + `" }`},
		{"Python bytes", `{b'X-Ovh-Consumer': b'` + ck + `', u'X-Ovh-Application': u'` + ak + `'}`},
		{"pairs", `[('X-Ovh-Consumer', '` + ck + `'), (b'X-Ovh-Application', b'` + ak + `'), ["Authorization", "Basic ` + secret + `"]]`},
		{"names and values", `[{"name":"X-Ovh-Consumer","value":"` + ck + `"},{"key": "Authorization", "value": "Basic ` + secret + `"}]`},
		{"PHP, an array of arrays", `["X-Ovh-Consumer"]=> array(1) { [0]=> string(32) "` + ck + `" }`},
		{"a table in Markdown", `| X-Ovh-Consumer | ` + ck + ` |`},
		{"an encoded blank", `<b>X-Ovh-Consumer:</b>&#32;` + ck + ` X-Ovh-Application:&nbsp;` + ak},
		{"JSON", `{"class":"Server::BadGateway","message":"X-Ovh-Consumer: ` + ck + `, ` + signature + `"}`},
		{"JSON in JSON", `{"message":"{\"X-Ovh-Consumer\": \"` + ck + `\", \"headers\": [\"` + strings.ReplaceAll(signature, "$", `\u0024`) + `\"]}"}`},
		{"the name of a JSON detail", `{"message":"no","details":{"Bearer ` + opaque + `":"x"}}`},
		{"JSON details", `{"message":"no","details":{"X-Ovh-Consumer":"` + ck + `","request":"Bearer ` + opaque + `","headers":{"X-Ovh-Signature":["` + signature + `"]}}}`},
		{"JSON code", `{"errorCode":"` + signature + `","class":"Bearer ` + token + `","message":"` + token + `"}`},
		{"not the form that is expected", `["` + signature + `", {"consumerKey": "` + ck + `", "access_token": "` + opaque + `"}]`},
		{"XML", `<header name="X-Ovh-Consumer" value="` + ck + `"/><header><value>` + ak + `</value><name>X-Ovh-Application</name></header>`},
		{"YAML", "- name: X-Ovh-Consumer\n  value: " + ck},
		{"values before names", `[{"value":"` + ck + `","name":"X-Ovh-Consumer"},{"name":"X-Ovh-Application","type":"string","value":"` + ak + `"}]`},
		{"values before names in details", `{"message":"no","details":{"a":"` + ck + `","b":"X-Ovh-Consumer"}}`},
		{"a firewall", `[data "Matched Data: ` + ck + ` found within REQUEST_HEADERS:X-Ovh-Consumer"]`},
		{"names in entities", "X&#45;Ovh&#x2d;Consumer&#58; " + ck + ` X\u002dOvh\u002dApplication: ` + ak + " X%2DOvh%2DConsumer%253A%2520" + ck},
		{"other arrows", "X-Ovh-Consumer -> " + ck + " X-Ovh-Application\u200b → " + ak + " X-Ovh-Consumer........: " + ck + " X-Ovh-Application, " + ak},
		{"wrapped", "X-Ovh-Consumer: " + ck[:18] + "<wbr>" + ck[18:]},
		{"in words", "The consumer key " + ck + " does not exist for application key '" + ak + "'"},
		{"a signature with odd dollars", `\$1\$` + signature[3:] + " $$1$$" + signature[3:] + " %25241%2524" + signature[3:] + ` \x241\x24` + signature[3:] + " <b>$1$</b>" + signature[3:]},
		{"other notations of tokens", `Bearer: ` + opaque + ` Bearer="` + opaque + `" refresh_token=` + opaque},
		{"a form", "grant_type=client_credentials&client_secret=" + secret + "&scope=all"},
		{"encoded", "signature=" + url.QueryEscape(signature) + "&authorization=" + url.QueryEscape("Bearer "+opaque)},
	} {
		resp := response(502, test.body)
		resp.Request = newRequest(t, "GET", "/me", nil)
		err := ovhauth.CheckResponse(resp)
		text := fmt.Sprintf("%v %#v", err, err)
		for _, key := range []string{ak, ck, ck[:18], ck[18:], "e9556054b6309771395efa467c22e627407461ad", token, opaque, strings.TrimRight(opaque, "="), secret} {
			if strings.Contains(text, key) {
				t.Errorf("%s: %q is in the error; want it cut out of\n%s", test.name, key, text)
			}
		}
		if !strings.Contains(err.Error(), "[redacted]") {
			t.Errorf("%s: %v; want [redacted] where keys were", test.name, err)
		}
	}
}

// What only speaks of keys is left alone.
func TestErrorsKeepTheirWords(t *testing.T) {
	for _, words := range []string{
		"This application key is invalid", "This credential does not exist", "Authorization required", "consumer_key is missing",
		"the headers X-Ovh-Consumer, X-Ovh-Timestamp, X-Ovh-Signature, Authorization, or none",
		"6f1d4a3c-0b5e-4b43-8f57-0a8a11d0b0f2 has no applicationKey, see unauthorizedActionsByAuthentication",
		"project 7c1c9e0b5e4b438f570a8a11d0b0f2aa was not found",
		"You must send your application key to request new credentials", "the bearer of this message", "price: 1$ or 2$",
		"An operation is already running for this service: 6f1d4a3c-0b5e-4b43-8f57-0a8a11d0b0f2. Please retry later.",
	} {
		resp := response(400, `{"message":"`+words+`"}`)
		if err := ovhauth.CheckResponse(resp); words != "the bearer of this message" && !strings.Contains(err.Error(), words) {
			t.Errorf("%v; want %q in it", err, words)
		}
	}
}

// A trace of the caller's sees that the headers were written, and none of the keys in them.
func TestTraceSeesNoKeys(t *testing.T) {
	for _, keys := range []ovhauth.Credentials{shared, {AccessToken: "hunter2-token"}} {
		seen, got := map[string][]string{}, false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			WroteHeaderField: func(name string, values []string) { seen[name] = values },
			GotConn:          func(httptrace.GotConnInfo) { got = true },
		})
		base := baseFunc(func(r *http.Request) (*http.Response, error) {
			trace := httptrace.ContextClientTrace(r.Context())
			for name, values := range r.Header {
				trace.WroteHeaderField(name, values)
				trace.WroteHeaderField(strings.ToLower(name), values) // as HTTP/2 writes them
			}
			trace.GotConn(httptrace.GotConnInfo{})
			return response(200, "{}"), nil
		})
		req := newRequest(t, "GET", "/me", nil).WithContext(ctx)
		req.Header.Set("X-Other", "shown")
		if _, err := (&ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: keys, Base: base}).RoundTrip(req); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(seen)
		for _, secret := range []string{shared.ApplicationKey, shared.ConsumerKey, "$1$", "hunter2"} {
			if strings.Contains(text, secret) {
				t.Errorf("the hook saw %s; want no key in it", text)
			}
		}
		if got != true || seen["X-Other"][0] != "shown" || len(seen) < 4 {
			t.Errorf("the hooks saw %s, GotConn %v; want every header and hook, other values untouched", text, got)
		}
	}
}
