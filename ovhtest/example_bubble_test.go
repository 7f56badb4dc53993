package ovhtest_test

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhjson"
	"example.com/ovhauth/ovhtest"
)

var t *testing.T // that of a test function

// A minute of waiting takes no time: in a bubble of testing/synctest, time passes when everybody sleeps.
func ExampleNewPipeServer() {
	synctest.Test(t, retriesAfterAMinute)
}

func retriesAfterAMinute(t *testing.T) {
	server := ovhtest.NewPipeServer()
	defer server.Close()
	server.Inject(ovhtest.Fault{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"60"}}})

	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Base:    &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: server.Credentials(), Base: server.Transport()},
		MaxWait: 2 * time.Minute,
	}}
	began := time.Now()
	me, err := ovhjson.Get[struct{ FirstName string }](t.Context(), client, "/me")
	if err != nil || me.FirstName != "Jeanne" {
		t.Errorf("got %v, %v; want Jeanne", me, err)
	}
	if waited := time.Since(began); waited < time.Minute {
		t.Errorf("waited %s, want a minute", waited)
	}
}
