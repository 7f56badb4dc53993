package ovhtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Dialect is one of the two forms that the API gives its error answers.
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
}

var (
	errLogin             = &apiError{401, "", "You must login first"}
	errInvalidKey        = &apiError{403, "INVALID_KEY", "This application key is invalid"}
	errQueryTimeOut      = &apiError{400, "QUERY_TIME_OUT", "Query out of time"}
	errInvalidSignature  = &apiError{400, "INVALID_SIGNATURE", "Invalid signature"}
	errNotCredential     = &apiError{403, "NOT_CREDENTIAL", "This credential does not exist"}
	errInvalidCredential = &apiError{403, "INVALID_CREDENTIAL", "This credential is not valid"}
	errForbiddenIP       = &apiError{403, "FORBIDDEN", "This call is forbidden from your IP address"}
	errNotGranted        = &apiError{403, "NOT_GRANTED_CALL", "This call has not been granted"}
	errApplicationKey    = &apiError{403, "", "Invalid application key"}
	errNoRoute           = &apiError{404, "", "Got an invalid (or empty) URL"}
	errTooLarge          = &apiError{413, "", "Request entity too large"}
	errTooMany           = &apiError{429, "TOO_MANY_REQUESTS", "Too many requests"}
	errInvalidJSON       = &apiError{400, "", "Invalid JSON received"}
)

func badRequest(message string) *apiError { return &apiError{400, "", message} }

func noObject(kind, id string) *apiError {
	return &apiError{404, "", fmt.Sprintf("The requested object (%s = %s) does not exist", kind, id)}
}

func (e *apiError) class() string {
	return "Client::" + strings.ReplaceAll(http.StatusText(e.status), " ", "")
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
			Class   string `json:"class"`
			Message string `json:"message"`
		}{e.class(), e.message}
	}
	b, _ := json.Marshal(v) // strings cannot fail
	return b
}

// refuse answers e to the request of c.
func (s *Server) refuse(w http.ResponseWriter, c *call, e *apiError) {
	s.mu.Lock()
	c.exchange.ErrorCode = e.code
	if e.code == "" {
		c.exchange.ErrorCode = e.class()
	}
	body := e.body(s.dialect)
	s.mu.Unlock()
	w.WriteHeader(e.status)
	w.Write(body)
}
