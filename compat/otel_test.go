package compat

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// Above, otelhttp sees calls; below, attempts. Its traceparent goes out with what was signed, and no span shows a key.
func TestOtelHTTP(t *testing.T) {
	for name, test := range map[string]struct {
		wiring, baseURL string
		wrap            func(a *api, otel func(http.RoundTripper) http.RoundTripper) http.RoundTripper
		spans           func(calls, requests int) int
	}{
		"above": {
			wiring: "`otelhttp.NewTransport(transport)`", baseURL: "absolute",
			wrap: func(a *api, otel func(http.RoundTripper) http.RoundTripper) http.RoundTripper {
				return otel(a.retrying())
			},
			spans: func(calls, _ int) int { return calls },
		},
		"below": {
			wiring: "`Transport.Base`", baseURL: "none: `/me`",
			wrap: func(a *api, otel func(http.RoundTripper) http.RoundTripper) http.RoundTripper {
				signer, stack := a.transport(), a.retrying()
				signer.Base, stack.Base = otel(a.base), signer
				return stack
			},
			spans: func(_, requests int) int { return requests },
		},
	} {
		t.Run(name, func(t *testing.T) {
			listed(t, row{
				Client: "otelhttp", Module: "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", Language: "Go",
				Wiring: test.wiring, BaseURL: test.baseURL, Keys: "none",
			})
			a, calls, spans := newAPI(t), 0, tracetest.NewSpanRecorder()
			client := &http.Client{Transport: counted{&calls, test.wrap(a, func(base http.RoundTripper) http.RoundTripper {
				return otelhttp.NewTransport(base,
					otelhttp.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans))),
					otelhttp.WithPropagators(propagation.TraceContext{}))
			})}}
			base := ""
			if test.baseURL == "absolute" {
				base = string(a.Endpoint())
			}
			a.exerciseHTTP(t, client, base)

			exchanges, keys := a.Exchanges(), a.Credentials()
			if want := test.spans(calls, len(exchanges)); len(spans.Ended()) != want || calls == len(exchanges) {
				t.Errorf("%d spans for %d calls and %d requests", len(spans.Ended()), calls, len(exchanges))
			}
			for _, x := range exchanges {
				if x.Header.Get("Traceparent") == "" {
					t.Errorf("no traceparent: %v", x)
				}
			}
			for _, span := range spans.Ended() {
				shown := fmt.Sprint(span.Name(), span.Attributes(), span.Events(), span.Status())
				if strings.Contains(shown, keys.ApplicationKey) || strings.Contains(shown, keys.ConsumerKey) || strings.Contains(shown, "$1$") {
					t.Errorf("a span shows a key: %s", shown)
				}
			}
		})
	}
}

// counted counts calls.
type counted struct {
	calls *int
	http.RoundTripper
}

func (c counted) RoundTrip(req *http.Request) (*http.Response, error) {
	*c.calls++
	return c.RoundTripper.RoundTrip(req)
}
