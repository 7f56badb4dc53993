package compat

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"example.com/ovhauth/compat/iam"
	"example.com/ovhauth/compat/iam/ogen"
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
		a.Error(w, http.StatusNotFound, "", "Client::NotFound", "There is no such policy")
	}))
}

// policyClient is what both generated clients can do.
type policyClient struct {
	create func(name string) (id string, status int, err error)
	name   func(id string) (string, error)
	count  func() (int, error)
}

// exercisePolicies is exercise for policies. An id has a slash, which stays encoded in the path.
func (a *api) exercisePolicies(t *testing.T, c policyClient) {
	t.Helper()
	made, told := 0, map[int]int{}
	for range rounds {
		id, status, err := c.create("<é>")
		if err != nil {
			t.Fatalf("create: %v", err)
		}
		if told[status]++; status == http.StatusOK {
			made++
			if name, err := c.name(id); err != nil || name != "<é>" {
				t.Fatalf("name of %s: %q, %v; want <é>", id, name, err)
			}
		}
		for range 2 {
			if n, err := c.count(); err != nil || n != made {
				t.Fatalf("the list has %d, %v; want %d", n, err, made)
			}
		}
	}
	if len(told) != 2 {
		t.Errorf("the statuses of POSTs are %v; want some 200, some 503, no other", told)
	}
	a.checkExchanges(t, told[http.StatusServiceUnavailable])
}

func TestOAPICodegen(t *testing.T) {
	listed(t, row{
		Client: "oapi-codegen", Version: "2.8.2", Language: "Go",
		Wiring: "`WithHTTPClient(client)`", BaseURL: "`/v2`", Keys: "none",
	})
	a := newAPI(t)
	policies(a)
	client, err := iam.NewClientWithResponses("/v2", iam.WithHTTPClient(&http.Client{Transport: a.retrying()}))
	if err != nil {
		t.Fatal(err)
	}
	a.exercisePolicies(t, policyClient{
		create: func(name string) (string, int, error) {
			created, err := client.CreatePolicyWithResponse(t.Context(), iam.PolicyCreation{Name: name, Identities: []string{}})
			if err != nil || created.JSON200 == nil {
				return "", created.StatusCode(), err
			}
			return created.JSON200.Id, created.StatusCode(), nil
		},
		name: func(id string) (string, error) {
			one, err := client.GetPolicyWithResponse(t.Context(), id)
			if err != nil || one.JSON200 == nil {
				return "", fmt.Errorf("%v, %w", one, err)
			}
			return one.JSON200.Name, nil
		},
		count: func() (int, error) {
			list, err := client.ListPoliciesWithResponse(t.Context(), &iam.ListPoliciesParams{Details: new(true), XPaginationSize: new(500)})
			if err != nil || list.JSON200 == nil {
				return 0, fmt.Errorf("%v, %w", list, err)
			}
			return len(*list.JSON200), nil
		},
	})
	if none, err := client.GetPolicyWithResponse(t.Context(), "a/b"); err != nil || none.JSON404 == nil {
		t.Errorf("no policy: %v, %v; want a decoded 404", none, err)
	}
}

func TestOgen(t *testing.T) {
	listed(t, row{
		Client: "ogen", Module: "github.com/ogen-go/ogen", Language: "Go",
		Wiring: "`WithClient(client)`", BaseURL: "`/v2`", Keys: "none",
	})
	a := newAPI(t)
	policies(a)
	// ogen reports a status that the document does not have as an error without a type; the response is seen on its way instead.
	last := &lastStatus{base: a.retrying()}
	client, err := ogen.NewClient("/v2", ogen.WithClient(&http.Client{Transport: last}))
	if err != nil {
		t.Fatal(err)
	}
	a.exercisePolicies(t, policyClient{
		create: func(name string) (string, int, error) {
			res, err := client.CreatePolicy(t.Context(), &ogen.PolicyCreation{Name: name, Identities: []string{}})
			if created, ok := res.(*ogen.Policy); ok {
				return created.ID, last.status, err
			}
			if last.status == http.StatusServiceUnavailable {
				err = nil
			}
			return "", last.status, err
		},
		name: func(id string) (string, error) {
			res, err := client.GetPolicy(t.Context(), ogen.GetPolicyParams{PolicyId: id})
			if one, ok := res.(*ogen.Policy); ok {
				return one.Name, err
			}
			return "", fmt.Errorf("%v, %w", res, err)
		},
		count: func() (int, error) {
			list, err := client.ListPolicies(t.Context(),
				ogen.ListPoliciesParams{Details: ogen.NewOptBool(true), XPaginationSize: ogen.NewOptInt(500)})
			if err != nil {
				return 0, err
			}
			return len(list.Response), nil
		},
	})
	if none, err := client.GetPolicy(t.Context(), ogen.GetPolicyParams{PolicyId: "a/b"}); err != nil {
		t.Errorf("no policy: %v", err)
	} else if _, ok := none.(*ogen.Error); !ok {
		t.Errorf("no policy: %T, want the document's Error", none)
	}
}

// lastStatus remembers the status of the last response.
type lastStatus struct {
	base   http.RoundTripper
	status int
}

func (l *lastStatus) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.base.RoundTrip(req)
	if err == nil {
		l.status = resp.StatusCode
	}
	return resp, err
}
