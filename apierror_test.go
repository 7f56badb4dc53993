package ovhauth_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/ovhauth"
)

var targets = []error{ovhauth.ErrInvalidSignature, ovhauth.ErrQueryTimeOut, ovhauth.ErrInvalidKey,
	ovhauth.ErrUnknownCredential, ovhauth.ErrInvalidCredential, ovhauth.ErrNotGranted}

// The bodies are those of OVHcloud's public issues and guides.
func TestCheckResponse(t *testing.T) {
	const call = "ovhauth: DELETE /1.0/me: "
	for _, test := range []struct {
		status int
		body   string
		is     error
		want   ovhauth.APIError
		says   string
	}{
		{400, `{"errorCode":"INVALID_SIGNATURE","httpCode":"400 Bad Request","message":"Invalid signature"}`, ovhauth.ErrInvalidSignature,
			ovhauth.APIError{Code: "INVALID_SIGNATURE", Message: "Invalid signature"},
			call + "400 Bad Request: INVALID_SIGNATURE: Invalid signature: the application secret or the consumer key is not the one that belongs to this application key"},
		{400, `{"class":"Client::BadRequest","message":"Invalid signature"}`, ovhauth.ErrInvalidSignature,
			ovhauth.APIError{Class: "Client::BadRequest", Message: "Invalid signature"},
			", or the API could not make sense of the body, such as a list where it expects a number"},
		{400, `{"message":" INVALID signature"}`, ovhauth.ErrInvalidSignature, ovhauth.APIError{Message: " INVALID signature"}, "the application secret or"},
		{400, timeOut, ovhauth.ErrQueryTimeOut, ovhauth.APIError{Code: "QUERY_TIME_OUT", Message: "Query out of time"}, "check this machine's clock"},
		{400, timeOutOnly, ovhauth.ErrQueryTimeOut, ovhauth.APIError{Class: "Client::BadRequest", Message: "Query out of time"}, "check this machine's clock"},
		{403, `{"errorCode":"INVALID_KEY","httpCode":"403 Forbidden","message":"This application key is invalid"}`, ovhauth.ErrInvalidKey,
			ovhauth.APIError{Code: "INVALID_KEY", Message: "This application key is invalid"}, "a key belongs to one endpoint"},
		{403, `{"class":"Client::Forbidden","message":"Invalid application key"}`, ovhauth.ErrInvalidKey,
			ovhauth.APIError{Class: "Client::Forbidden", Message: "Invalid application key"}, "a key belongs to one endpoint"},
		{403, `{"errorCode":"NOT_CREDENTIAL","httpCode":"403 Forbidden","message":"This credential does not exist"}`, ovhauth.ErrUnknownCredential,
			ovhauth.APIError{Code: "NOT_CREDENTIAL", Message: "This credential does not exist"}, "ask for a new one"},
		{403, badKey, ovhauth.ErrInvalidCredential, ovhauth.APIError{Code: "INVALID_CREDENTIAL", Message: "This credential is not valid"}, "not validated yet, was refused or has expired"},
		{403, `{"errorCode":"NOT_GRANTED_CALL","httpCode":"403 Forbidden","message":"This call has not been granted"}`, ovhauth.ErrNotGranted,
			ovhauth.APIError{Code: "NOT_GRANTED_CALL", Message: "This call has not been granted"}, "the consumer key's access rules do not allow DELETE /1.0/me"},
		{403, `{"errorCode":"NOT_GRANTED_CALL","message":"autrement dit"}`, ovhauth.ErrNotGranted,
			ovhauth.APIError{Code: "NOT_GRANTED_CALL", Message: "autrement dit"}, "autrement dit: the consumer key's access rules"},
		{403, `{"message":"This call has not been granted"}`, ovhauth.ErrNotGranted, ovhauth.APIError{Message: "This call has not been granted"}, "access rules"},
		{403, `{"class":"Client::Forbidden","message":"User not granted for this request","details":{"unauthorizedActionsByAuthentication":"","unauthorizedActionsByIAM":"vps:apiovh:reboot"}}`,
			ovhauth.ErrNotGranted, ovhauth.APIError{Class: "Client::Forbidden", Message: "User not granted for this request",
				Details: map[string]string{"unauthorizedActionsByAuthentication": "", "unauthorizedActionsByIAM": "vps:apiovh:reboot"}},
			"no IAM policy of the account allows DELETE /1.0/me to these credentials: unauthorizedActionsByIAM vps:apiovh:reboot"},
		{401, `{"message":"You must login first"}`, nil, ovhauth.APIError{Message: "You must login first"}, "it carried no credentials"},
		{403, `{"errorCode":"MISSING_CREDENTIAL","message":"No credential"}`, nil, ovhauth.APIError{Code: "MISSING_CREDENTIAL", Message: "No credential"},
			"No credential: it carried no credentials, or a consumer key that is not validated yet"},
		{401, `{"message":"You must send your application key to request new credentials"}`, nil,
			ovhauth.APIError{Message: "You must send your application key to request new credentials"}, "the Transport's credentials lack an application key"},
		{403, busy, nil, ovhauth.APIError{Class: "Client::Forbidden::Busy", Message: "An operation is already running"}, "An operation is already running"},
		{404, `{"message":"Got an invalid (or empty) URL"}`, nil, ovhauth.APIError{Message: "Got an invalid (or empty) URL"}, "there is no such path at this endpoint"},
		{400, `{"error":"invalid_client_credentials","error_description":"client secret invalid"}`, nil,
			ovhauth.APIError{Code: "invalid_client_credentials", Message: "client secret invalid"}, "400 Bad Request: invalid_client_credentials: client secret invalid"},
		{400, `{"error":"invalid_key"}`, nil, ovhauth.APIError{Code: "invalid_key"}, "400 Bad Request: invalid_key"}, // of OAuth2
		{403, `{"error":"e","errorCode":"INVALID_KEY","error_description":"d","message":"m"}`, ovhauth.ErrInvalidKey,
			ovhauth.APIError{Code: "INVALID_KEY", Message: "m"}, "INVALID_KEY: m"},
		{409, `{"message":"no","details":{"n":1,"list":["a",{"b":null}],"s":"x","z":null}}`, nil,
			ovhauth.APIError{Message: "no", Details: map[string]string{"n": "1", "list": `["a",{"b":null}]`, "s": "x", "z": ""}}, "no: list"},
		{403, `{"code":42,"queryId":"x","statusCode":200,"message":7,"class":null,"details":"none"}`, nil, ovhauth.APIError{Message: "7"}, "403 Forbidden: 7"},
		{408, "<html><body><h1>408 Request Time-out</h1>\nYour browser didn't send a complete request in time.\n</body></html>", nil,
			ovhauth.APIError{Message: "408 Request Time-out Your browser didn't send a complete request in time."}, "complete request in time."},
		{400, "<h1>Query out of time</h1>", nil, ovhauth.APIError{Message: "Query out of time"}, "400 Bad Request: Query out of time"},
		{502, "", nil, ovhauth.APIError{}, call + "502 Bad Gateway"},
		{500, `["an", "array"]`, nil, ovhauth.APIError{Message: `["an", "array"]`}, "array"},
		{500, "null", nil, ovhauth.APIError{}, "500 Internal Server Error"},
		{460, `{"message":"expired"}`, nil, ovhauth.APIError{Message: "expired"}, call + "460: expired"},
		{302, "", nil, ovhauth.APIError{}, "302 Found"},
		{503, "a\r\nb\x00\x1b[31mc\u2028d", nil, ovhauth.APIError{Message: "a b [31mc d"}, "a b [31mc d"},
		{503, "caf\xe9 \x9b31m \u202eabc", nil, ovhauth.APIError{Message: "caf\uFFFD \uFFFD31m abc"}, "31m abc"},
	} {
		resp := rejected(test.status, test.body, "X-Ovh-Queryid", "EU.ext-3.63ac85b6\r\n.1")
		body := &trackedBody{Reader: resp.Body}
		resp.Body = body
		err := ovhauth.CheckResponse(resp)
		got, ok := errors.AsType[*ovhauth.APIError](err)
		if !ok {
			t.Errorf("%d %s: got %v, want an APIError", test.status, test.body, err)
			continue
		}
		if got.StatusCode != test.status || got.Code != test.want.Code || got.Class != test.want.Class || got.Message != test.want.Message ||
			!maps.Equal(got.Details, test.want.Details) || got.Method != "DELETE" || got.Path != "/1.0/me" || got.QueryID != "EU.ext-3.63ac85b6\r\n.1" {
			t.Errorf("%s: got %#v", test.body, got)
		}
		for _, target := range targets {
			if errors.Is(err, target) != (target == test.is) {
				t.Errorf("%s: errors.Is(%v) = %v", test.body, target, !(target == test.is))
			}
		}
		s := err.Error()
		if !strings.HasPrefix(s, call) || !strings.Contains(s, test.says) || !strings.HasSuffix(s, " (query ID EU.ext-3.63ac85b6 .1)") || strings.ContainsAny(s, "\r\n\x00\x1b") || strings.Contains(s, "hunter2") {
			t.Errorf("%s: says %q, want %q in it", test.body, s, test.says)
		}
		if body.closed != 1 {
			t.Errorf("%s: body closed %d times", test.body, body.closed)
		}
	}
}

func TestCheckResponseLeavesSuccessAlone(t *testing.T) {
	for _, status := range []int{200, 201, 204, 299} {
		body := &trackedBody{Reader: strings.NewReader("whole")}
		resp := rejected(status, "")
		resp.Body = body
		if err := ovhauth.CheckResponse(resp); err != nil || body.closed != 0 {
			t.Errorf("%d: %v, closed %d times", status, err, body.closed)
		}
		if b, _ := io.ReadAll(resp.Body); string(b) != "whole" {
			t.Errorf("%d: %q is left", status, b)
		}
	}
}

// Whatever a Base makes of a response, there is an error that can be read.
func TestCheckResponseOddities(t *testing.T) {
	endless := &zeroReader{left: 1 << 40}
	for name, resp := range map[string]*http.Response{
		"nothing but a status": {StatusCode: 500},
		"GET":                  {StatusCode: 500, Request: &http.Request{}},
		"endless":              {StatusCode: 500, Body: io.NopCloser(endless)},
		"broken":               {StatusCode: 500, Body: io.NopCloser(readerFunc(func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }))},
	} {
		err := ovhauth.CheckResponse(resp)
		if s := fmt.Sprint(err); !strings.Contains(s, ": 500 Internal Server Error") || (name == "GET") != strings.HasPrefix(s, "ovhauth: GET: ") ||
			strings.Contains(s, ": :") || len(s) > 2000 {
			t.Errorf("%s: got %q, want a short text with the status, and the method if it is known", name, s)
		}
	}
	if endless.read > 16<<10 {
		t.Errorf("%d bytes of an endless response read", endless.read)
	}
	long := ovhauth.CheckResponse(rejected(500, "x"+strings.Repeat("é", 2000)))
	if s := long.Error(); len(s) > 1500 || !strings.HasSuffix(s, "é…") {
		t.Errorf("a long message is %d bytes, ends in %q", len(s), s[len(s)-10:])
	}
}

func ExampleCheckResponse() {
	resp := response(403, `{"errorCode":"NOT_GRANTED_CALL","message":"This call has not been granted"}`, "X-Ovh-Queryid", "EU.ext-1.2.3")
	resp.Request, _ = http.NewRequest("DELETE", "/me", nil) // resp came from client.Do of this request

	err := ovhauth.CheckResponse(resp)
	fmt.Println(err)
	if errors.Is(err, ovhauth.ErrNotGranted) {
		fmt.Println("ask for a consumer key with more rights")
	}
	if e, ok := errors.AsType[*ovhauth.APIError](err); ok {
		fmt.Println(e.StatusCode, e.QueryID)
	}
	// Output:
	// ovhauth: DELETE /me: 403 Forbidden: NOT_GRANTED_CALL: This call has not been granted: the consumer key's access rules do not allow DELETE /me (query ID EU.ext-1.2.3)
	// ask for a consumer key with more rights
	// 403 EU.ext-1.2.3
}

// What a response declares itself to be does not decide how it is read, and Retry-After is kept.
func TestCheckResponseReadsJSONOfAnyTypeAndRetryAfter(t *testing.T) {
	now := time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name       string
		headers    []string
		retryAfter time.Duration
	}{
		{"text/plain", []string{"Content-Type", "text/plain"}, 0},
		{"no type, seconds", []string{"Retry-After", "90"}, 90 * time.Second},
		{"a date", []string{"Date", now.Format(http.TimeFormat), "Retry-After", now.Add(time.Minute).Format(http.TimeFormat)}, time.Minute},
		{"a date in the past", []string{"Date", now.Format(http.TimeFormat), "Retry-After", now.Add(-time.Minute).Format(http.TimeFormat)}, 0},
		{"nonsense", []string{"Retry-After", "soon"}, 0},
	} {
		err := ovhauth.CheckResponse(response(403, `{"errorCode":"NOT_GRANTED_CALL","message":"This call has not been granted"}`, test.headers...))
		e, ok := errors.AsType[*ovhauth.APIError](err)
		if !ok || e.Code != "NOT_GRANTED_CALL" || e.RetryAfter != test.retryAfter {
			t.Errorf("%s: got %#v, want code NOT_GRANTED_CALL and RetryAfter %v", test.name, err, test.retryAfter)
		}
	}
}
