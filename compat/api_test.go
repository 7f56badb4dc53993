// Package compat runs clients that others wrote, as they are, through ovhauth's transports. It is a module of its own, so that
// what they need is not needed by who uses ovhauth.
package compat

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// api is an API on a bad day: its clock is an hour ahead of ours, and one request in ten gets the response 503: at random, but the
// same one in every run.
type api struct {
	*ovhtest.Server
	base *http.Transport // reaches it

	mu      sync.Mutex
	records []string // bodies of POST /domain/zone/example.com/record
}

func newAPI(t *testing.T) *api { return badDay(t, ovhtest.NewServer()) }

// newTLSAPI is newAPI for clients that speak https alone.
func newTLSAPI(t *testing.T) *api { return badDay(t, ovhtest.NewTLSServer()) }

func badDay(t *testing.T, server *ovhtest.Server) *api {
	a := &api{Server: server, base: &http.Transport{}}
	t.Cleanup(a.Close)
	t.Cleanup(a.base.CloseIdleConnections)
	a.SetClock(func() time.Time { return time.Now().Add(time.Hour) })
	chance, arrived, unlucky := rand.New(rand.NewPCG(1, 1)), 0, 0
	a.InjectFunc(func(*http.Request) *ovhtest.Fault {
		a.mu.Lock()
		defer a.mu.Unlock()
		if arrived%10 == 0 {
			unlucky = arrived + chance.IntN(10)
		}
		arrived++
		if arrived-1 == unlucky {
			return &ovhtest.Fault{Status: http.StatusServiceUnavailable}
		}
		return nil
	})
	a.Handle("POST "+recordPath, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		a.records = append(a.records, string(body))
		fmt.Fprintf(w, `{"id":%d}`, len(a.records))
	}))
	return a
}

// transport signs for the API.
func (a *api) transport() *ovhauth.Transport {
	return &ovhauth.Transport{Endpoint: a.Endpoint(), Credentials: a.Credentials(), Base: a.base}
}

// retrying is the whole stack, which waits no longer than a test can.
func (a *api) retrying() *ovhauth.RetryTransport {
	return &ovhauth.RetryTransport{Base: a.transport(), MinWait: time.Millisecond}
}

const (
	record     = `{"fieldType":"TXT","target":"é"}`
	recordPath = "/domain/zone/example.com/record"
	rounds     = 30
)

// exercise has a client GET /me and POST record to recordPath. What it reads must never fail. What it writes must be executed if
// it is told 200, and must not be if it is told 503: nobody but the caller may decide to repeat it.
func (a *api) exercise(t *testing.T, read func() (body string, err error), write func() (status int, err error)) {
	t.Helper()
	told := map[int]int{}
	for range rounds {
		for range 2 {
			if body, err := read(); err != nil || !strings.Contains(body, "Jeanne") {
				t.Fatalf("GET /me: %q, %v; want a body with Jeanne", body, err)
			}
		}
		status, err := write()
		if err != nil {
			t.Fatalf("POST %s: %v", recordPath, err)
		}
		told[status]++
	}
	if len(told) != 2 {
		t.Errorf("the statuses of POSTs are %v; want some 200, some 503, no other", told)
	}
	a.checkRecords(t, told[http.StatusOK])
	a.checkExchanges(t, told[http.StatusServiceUnavailable])
}

// checkRecords checks that want records were made, and each as it was sent, however its client writes an é in JSON.
func (a *api) checkRecords(t *testing.T, want int) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.records) != want {
		t.Errorf("%d records made, want %d: one for each POST that was told 200", len(a.records), want)
	}
	var sent, arrived map[string]string
	if err := json.Unmarshal([]byte(record), &sent); err != nil {
		t.Fatal(err)
	}
	for _, got := range a.records {
		clear(arrived)
		if err := json.Unmarshal([]byte(got), &arrived); err != nil || !reflect.DeepEqual(arrived, sent) {
			t.Errorf("record %s arrived as %s", record, got)
		}
	}
}

// checkExchanges checks that the bad day was one, that one request was sent with a wrong time and all others were signed well, and
// that of the requests with the response 503 only POSTs were not sent again.
func (a *api) checkExchanges(t *testing.T, failedWrites int) {
	t.Helper()
	late, failed, repeated := 0, 0, 0
	for i, x := range a.Exchanges() {
		switch {
		case x.ErrorCode == "QUERY_TIME_OUT":
			late++
		case strings.HasSuffix(x.URL, "/auth/time"):
		case !x.Verified:
			t.Errorf("request %d is not signed well: %v", i, x)
		}
		switch {
		case x.Status != http.StatusServiceUnavailable:
		case x.Method == http.MethodPost:
			failed++
		default:
			repeated++
		}
	}
	if late != 1 {
		t.Errorf("%d requests were sent with a wrong time, want 1", late)
	}
	if repeated == 0 || failed == 0 || failed != failedWrites {
		t.Errorf("the API sent 503 to %d GETs and %d POSTs, and the client was told of %d; want some, some, and all POSTs",
			repeated, failed, failedWrites)
	}
}
