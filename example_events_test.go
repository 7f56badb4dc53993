package ovhauth_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// What a Transport and a RetryTransport do beyond sending a request once. Here it is counted, in a program by a metrics library.
func ExampleEvent() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	server.SetClock(func() time.Time { return time.Now().Add(time.Hour) })
	server.Inject(ovhtest.Fault{Status: http.StatusServiceUnavailable})

	counts := map[string]int{} // of a single goroutine; else it would need a lock
	count := func(ctx context.Context, e ovhauth.Event) { counts[e.Kind.String()]++ }
	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Base:    &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: server.Credentials(), OnEvent: count},
		OnEvent: count,
		MinWait: time.Millisecond, // for this example
	}}
	resp, err := client.Get("/me")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status, counts)
	// Output: 200 OK map[clock corrected:1 retry:1]
}

// A Logger is told of the same events, by the same words. It takes the place of an observer where nothing is counted.
func ExampleTransport_logger() {
	server := ovhtest.NewServer() // in place of the real API
	defer server.Close()
	server.SetClock(func() time.Time { return time.Now().Add(time.Hour) })

	steady := func(groups []string, a slog.Attr) slog.Attr { // what is different each time
		switch {
		case a.Key == slog.TimeKey:
			return slog.Attr{}
		case a.Key == "wait":
			return slog.Duration(a.Key, a.Value.Duration().Round(time.Minute))
		}
		return a
	}
	client := &http.Client{Transport: &ovhauth.Transport{
		Endpoint:    server.Endpoint(),
		Credentials: server.Credentials(),
		Logger:      slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: steady})),
	}}
	resp, err := client.Get("/me")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	// Output: level=INFO msg="ovhauth: clock corrected" method=GET path=/me attempt=1 status=400 wait=1h0m0s reason="query time out"
}
