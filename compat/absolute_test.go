package compat

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// A Transport makes relative URLs absolute. What stands above it and looks at the URL needs absolute ones from the caller.
func TestWhatLooksAtURLsNeedsAbsoluteOnes(t *testing.T) {
	for _, test := range []struct {
		name  string
		works func(t *testing.T, a *api, base string) bool // with URLs that begin with base
	}{
		{"httputil.DumpRequestOut", func(t *testing.T, _ *api, base string) bool {
			_, err := httputil.DumpRequestOut(newRequest(t, "GET", base+"/me", nil), true)
			return err == nil
		}},
		{"a cookie jar", func(t *testing.T, a *api, base string) bool {
			a.Handle("GET /cookie", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.SetCookie(w, &http.Cookie{Name: "a", Value: "b"})
			}))
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			do(t, &http.Client{Transport: a.retrying(), Jar: jar}, newRequest(t, "GET", base+"/cookie", nil))
			absolute, err := url.Parse(string(a.Endpoint()) + "/cookie")
			if err != nil {
				t.Fatal(err)
			}
			return len(jar.Cookies(absolute)) == 1
		}},
		{"attributes of an otelhttp above", func(t *testing.T, a *api, base string) bool {
			spans := tracetest.NewSpanRecorder()
			provider := trace.NewTracerProvider(trace.WithSpanProcessor(spans))
			above := otelhttp.NewTransport(a.retrying(), otelhttp.WithTracerProvider(provider))
			do(t, &http.Client{Transport: above}, newRequest(t, "GET", base+"/me", nil)).Body.Close()
			for _, attribute := range spans.Ended()[0].Attributes() {
				if attribute.Key == "server.address" {
					return attribute.Value.AsString() == "127.0.0.1"
				}
			}
			return false
		}},
		{"a websocket", func(t *testing.T, a *api, base string) bool {
			a.addKinds(t)
			conn, _, err := websocket.Dial(t.Context(), strings.Replace(base, "http://", "ws://", 1)+"/socket",
				&websocket.DialOptions{HTTPClient: &http.Client{Transport: a.retrying()}})
			if err != nil {
				return false
			}
			defer conn.CloseNow()
			if err := conn.Write(t.Context(), websocket.MessageText, []byte("ping")); err != nil {
				t.Fatal(err)
			}
			_, got, err := conn.Read(t.Context())
			return err == nil && string(got) == "ping"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAPI(t)
			if !test.works(t, a, string(a.Endpoint())) {
				t.Error("it does not work with an absolute URL")
			}
			if test.works(t, a, "") {
				t.Error("it works with a relative URL; the README says that it does not")
			}
		})
	}
}
