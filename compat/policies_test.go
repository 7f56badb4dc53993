package compat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"

	"example.com/ovhauth/compat/iam"
)

// policies adds the routes of iam/openapi.yaml.
func policies(a *api) {
	var mu sync.Mutex
	all := []iam.Policy{}
	a.Handle("GET /v2/iam/policy", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.RawQuery != "details=true" || r.Header.Get("X-Pagination-Size") != "500" {
			w.WriteHeader(http.StatusBadRequest)
		}
		json.NewEncoder(w).Encode(all)
	}))
	a.Handle("POST /v2/iam/policy", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var in iam.PolicyCreation
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		p := iam.Policy{Id: fmt.Sprint("policy/", len(all)), Name: in.Name, Identities: in.Identities}
		all = append(all, p)
		json.NewEncoder(w).Encode(p)
	}))
	a.Handle("GET /v2/iam/policy/{id}", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range all {
			if p.Id == r.PathValue("id") {
				json.NewEncoder(w).Encode(p)
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"class":"Client::NotFound","message":"There is no such policy"}`)
	}))
}
