package ovhtest

import (
	_ "embed"
	"html/template"
	"net/http"
	"time"
)

//go:embed validation.html
var validationHTML string

var validationPage = template.Must(template.New("validation").Parse(validationHTML))

// askUser serves the page of a validation URL.
func (s *Server) askUser(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	k := s.keyToValidate(r)
	s.mu.Unlock()
	s.showPage(w, r, k)
}

// hearUser takes what the user chose on that page.
func (s *Server) hearUser(w http.ResponseWriter, r *http.Request) {
	now := callOf(r).now
	validity, err := time.ParseDuration(r.PostFormValue("validity"))
	if err != nil || validity < 0 {
		http.Error(w, "The validity must be a duration, as 24h, or 0 for ever", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	k := s.keyToValidate(r)
	decided := k != nil && k.Status == pending
	if decided {
		k.Status = refused
		if r.PostFormValue("decision") == "authorize" {
			k.Status = validated
			if until := now.Add(validity).Truncate(time.Second); validity > 0 {
				k.Expiration = &until
			}
		}
	}
	s.mu.Unlock()
	if decided && k.redirection != "" {
		http.Redirect(w, r, k.redirection, http.StatusSeeOther)
		return
	}
	s.showPage(w, r, k)
}

// keyToValidate is the key whose validation URL r asks for, or nil. The server is locked.
func (s *Server) keyToValidate(r *http.Request) *key {
	for _, k := range s.keys {
		if k.validationToken == r.URL.Query().Get("credentialToken") {
			return k
		}
	}
	return nil
}

func (s *Server) showPage(w http.ResponseWriter, r *http.Request, k *key) {
	if k == nil {
		http.Error(w, "There is no such validation request", http.StatusNotFound)
		return
	}
	s.mu.Lock()
	data := struct {
		App         application
		Credential  credential
		Redirection string
	}{*k.app, k.at(callOf(r).now), k.redirection}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	validationPage.Execute(w, data)
}
