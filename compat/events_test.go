package compat

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// An observer that counts events for Prometheus. Kinds and reasons come from closed lists, so they can be labels; a path cannot,
// as there is no end of paths.
func Example_prometheus() {
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ovhauth_events_total",
		Help: "What the transports did beyond sending each request once.",
	}, []string{"kind", "reason"})
	registry := prometheus.NewRegistry()
	registry.MustRegister(events)
	count := func(_ context.Context, e ovhauth.Event) {
		events.WithLabelValues(e.Kind.String(), e.Reason).Inc()
	}
	troubledCalls(count)

	families, err := registry.Gather()
	if err != nil {
		log.Fatal(err)
	}
	for _, m := range families[0].GetMetric() {
		fmt.Printf("%s: %g\n", m.GetLabel()[0].GetValue(), m.GetCounter().GetValue())
	}
	// Output:
	// clock corrected: 1
	// credentials replaced: 1
	// retry: 1
	// throttled: 1
}

// An observer that exports events as an OpenTelemetry metric. The context is the request's, so that exemplars lead to its span.
func Example_openTelemetryMetrics() {
	reader := sdkmetric.NewManualReader() // or a periodic one with an exporter
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("example.com/ovhauth")
	events, err := meter.Int64Counter("ovhauth.events",
		metric.WithDescription("What the transports did beyond sending each request once."), metric.WithUnit("{event}"))
	if err != nil {
		log.Fatal(err)
	}
	waits, err := meter.Float64Counter("ovhauth.wait",
		metric.WithDescription("How long requests waited for another attempt, or for their turn."), metric.WithUnit("s"))
	if err != nil {
		log.Fatal(err)
	}
	count := func(ctx context.Context, e ovhauth.Event) {
		attributes := metric.WithAttributes(attribute.String("kind", e.Kind.String()), attribute.String("reason", e.Reason))
		events.Add(ctx, 1, attributes)
		if e.Kind != ovhauth.EventClockCorrected { // whose Wait is how far the clock was moved
			waits.Add(ctx, e.Wait.Seconds(), attributes)
		}
	}
	troubledCalls(count)

	var collected metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &collected); err != nil {
		log.Fatal(err)
	}
	for _, point := range collected.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64]).DataPoints {
		kind, _ := point.Attributes.Value("kind")
		fmt.Printf("%s: %d\n", kind.AsString(), point.Value)
	}
	// Unordered output:
	// clock corrected: 1
	// credentials replaced: 1
	// retry: 1
	// throttled: 1
}

// rotated is a provider whose keys were replaced in the meantime, as a file's or a vault's are.
type rotated struct{ before, now ovhauth.Credentials }

func (r *rotated) Retrieve(context.Context) (ovhauth.Credentials, error) { return r.before, nil }
func (r *rotated) Invalidate(ovhauth.Credentials)                        { r.before = r.now }

// atOnce is a Limiter in the place of the learned rate, which would wait a second after the first 429.
type atOnce struct{}

func (atOnce) Wait(ctx context.Context) error           { return ctx.Err() }
func (atOnce) Throttled(context.Context, time.Duration) {}

// troubledCalls makes four calls that succeed, though not at once: the clock is wrong, then the keys were replaced, then the API is
// overloaded, and then it has a quota.
func troubledCalls(count func(context.Context, ovhauth.Event)) {
	server := ovhtest.NewServer()
	defer server.Close()
	server.SetClock(func() time.Time { return time.Now().Add(time.Hour) })
	keys := &rotated{before: server.Credentials(), now: server.NewKey()}
	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Base:    &ovhauth.Transport{Endpoint: server.Endpoint(), Credentials: keys, OnEvent: count},
		MinWait: time.Millisecond,
		Limiter: atOnce{},
		OnEvent: count,
	}}
	for _, trouble := range []func(){
		func() {},
		func() { server.Revoke(keys.before.ConsumerKey) },
		func() { server.Inject(ovhtest.Fault{Status: http.StatusServiceUnavailable}) },
		func() { server.Inject(ovhtest.Fault{Status: http.StatusTooManyRequests}) },
	} {
		trouble()
		if status, body, err := whole(client.Get("/me")); err != nil || status != http.StatusOK {
			log.Fatal(status, body, err)
		}
	}
}
