// Package compat runs clients that others wrote, as they are, through ovhauth's transports. It is a module of its own, so that
// what they need is not needed by who uses ovhauth.
package compat

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// api is an API on a bad day: its clock is an hour ahead of ours, and of each ten requests it answers one 503: at random, but the
// same at every run.
type api struct {
	*ovhtest.Server
	base *http.Transport

	mu      sync.Mutex
	records []string // bodies of POST /domain/zone/example.com/record
}

func newAPI(t *testing.T) *api {
	a := &api{Server: ovhtest.NewServer(), base: &http.Transport{}}
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
	a.Handle("POST /domain/zone/example.com/record", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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
				t.Fatalf("read %q, %v", body, err)
			}
		}
		status, err := write()
		if err != nil {
			t.Fatal(err)
		}
		told[status]++
	}
	if len(told) != 2 || len(a.records) != told[http.StatusOK] {
		t.Errorf("told %v, %d records made", told, len(a.records))
	}
	for _, got := range a.records {
		if got != record {
			t.Errorf("record %s arrived as %s", record, got)
		}
	}
	a.checkExchanges(t, told[http.StatusServiceUnavailable])
}

// checkExchanges checks that the bad day was one, that one request was sent too late and all others were signed well, and that
// only POSTs were told 503: what else was answered so has been sent again.
func (a *api) checkExchanges(t *testing.T, writesRefused int) {
	t.Helper()
	late, refused, repeated := 0, 0, 0
	for i, x := range a.Exchanges() {
		switch {
		case x.ErrorCode == "QUERY_TIME_OUT":
			late++
		case strings.HasSuffix(x.URL, "/auth/time"):
		case !x.Verified:
			t.Errorf("request %d: %v", i, x)
		}
		switch {
		case x.Status != http.StatusServiceUnavailable:
		case x.Method == http.MethodPost:
			refused++
		default:
			repeated++
		}
	}
	if late != 1 || repeated == 0 || refused != writesRefused || writesRefused == 0 {
		t.Errorf("%d requests out of time; answered 503 and repeated: %d, and not: %d, of which the client was told %d",
			late, repeated, refused, writesRefused)
	}
}
