package ovhtest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Dialect is one of the two forms that the API gives its errors.
type Dialect int

const (
	// ErrorCodes is the older form, {"errorCode":"INVALID_KEY","httpCode":"403 Forbidden","message":"…"}. Errors of which no
	// code is known, as 404, have the other form all the same.
	ErrorCodes Dialect = iota
	// Classes is the newer form, {"class":"Client::Forbidden","message":"…"}.
	Classes
)

type apiError struct {
	status  int
	code    string // "": none is known
	message string
	class   string            // "": that of the status
	details map[string]string // of the newer form alone
}

var (
	errLogin             = &apiError{status: 401, message: "You must login first"}
	errInvalidKey        = &apiError{status: 403, code: "INVALID_KEY", message: "This application key is invalid"}
	errQueryTimeOut      = &apiError{status: 400, code: "QUERY_TIME_OUT", message: "Query out of time"}
	errInvalidSignature  = &apiError{status: 400, code: "INVALID_SIGNATURE", message: "Invalid signature"}
	errNotCredential     = &apiError{status: 403, code: "NOT_CREDENTIAL", message: "This credential does not exist"}
	errInvalidCredential = &apiError{status: 403, code: "INVALID_CREDENTIAL", message: "This credential is not valid"}
	errForbiddenIP       = &apiError{status: 403, code: "FORBIDDEN", message: "This call is forbidden from your IP address"}
	errNotGranted        = &apiError{status: 403, code: "NOT_GRANTED_CALL", message: "This call has not been granted"}
	errApplicationKey    = &apiError{status: 403, message: "Invalid application key"}
	errNoApplication     = &apiError{status: 401, message: "You must send your application key to request new credentials"}
	errNoRoute           = &apiError{status: 404, message: "Got an invalid (or empty) URL"}
	errTooLarge          = &apiError{status: 413, message: "Request entity too large"}
	errTooMany           = &apiError{status: 429, code: "TOO_MANY_REQUESTS", message: "Too many requests"}
	errInvalidJSON       = &apiError{status: 400, message: "Invalid JSON received"}
)

func badRequest(message string) *apiError { return &apiError{status: 400, message: message} }

func noObject(kind, id string) *apiError {
	return &apiError{status: 404, message: fmt.Sprintf("The requested object (%s = %s) does not exist", kind, id)}
}

// notGrantedByIAM is the rejection of a service account. The name of the action is made up of the path: the API's own list of
// actions has other ones.
func notGrantedByIAM(r *http.Request) *apiError {
	service, rest, _ := strings.Cut(strings.Trim(apiPath(r), "/"), "/")
	verb := map[string]string{"POST": "create", "PUT": "edit", "PATCH": "edit", "DELETE": "delete"}[r.Method]
	action := service + ":apiovh:" + strings.TrimPrefix(rest+"/"+cmp.Or(verb, "get"), "/")
	return &apiError{status: 403, message: "User not granted for this request",
		details: map[string]string{"unauthorizedActionsByAuthentication": "", "unauthorizedActionsByIAM": action}}
}

func (e *apiError) className() string {
	side := "Client::"
	if e.status >= 500 {
		side = "Server::"
	}
	return cmp.Or(e.class, side+strings.ReplaceAll(http.StatusText(e.status), " ", ""))
}

func (e *apiError) body(d Dialect) []byte {
	var v any
	if d == ErrorCodes && e.code != "" {
		v = struct {
			Code    string `json:"errorCode"`
			HTTP    string `json:"httpCode"`
			Message string `json:"message"`
		}{e.code, fmt.Sprintf("%d %s", e.status, http.StatusText(e.status)), e.message}
	} else {
		v = struct {
			Class   string            `json:"class"`
			Message string            `json:"message"`
			Details map[string]string `json:"details,omitempty"`
		}{e.className(), e.message, e.details}
	}
	b, _ := json.Marshal(v) // strings cannot fail
	return b
}

// Error is for handlers: it writes an error of the API in the dialect in use, as SetDialect says. code is the errorCode of the
// older form ("" writes the newer form whatever the dialect); class is that of the newer form ("" makes one of status, as
// "Client::NotFound").
func (s *Server) Error(w http.ResponseWriter, status int, code, class, message string) {
	x := new(Exchange) // of a writer that is not the server's
	for inner := w; inner != nil; {
		if rec, ok := inner.(*recorder); ok {
			x = rec.x
			break
		}
		outer, ok := inner.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		inner = outer.Unwrap()
	}
	s.reject(w, x, &apiError{status: status, code: code, class: class, message: message})
}

// reject responds with e to the request of x.
func (s *Server) reject(w http.ResponseWriter, x *Exchange, e *apiError) {
	s.mu.Lock()
	x.ErrorCode = cmp.Or(e.code, e.className())
	body := e.body(s.dialect)
	s.mu.Unlock()
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(e.status)
	w.Write(body)
}
