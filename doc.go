// Package ovhauth signs requests to the OVHcloud API, so that code keeps its plain [http.Client]:
//
//	client := &http.Client{Transport: &ovhauth.Transport{}}
//	resp, err := client.Get("/me") // GET https://eu.api.ovh.com/1.0/me, signed
//
// There is no client of its own, no request type and no JSON layer. Whatever takes an http.Client or an [http.RoundTripper] is
// signed by it: generated clients, reverse proxies, other SDKs.
//
//	your code ── *http.Client ── Transport ── Base: http.DefaultTransport, otelhttp, a mock
//	                              ├─ Endpoint     where
//	                              ├─ Credentials  who
//	                              └─ Clock        when
//	                                   └── Sign   a pure function of all three
//
// [Transport] is the whole of it; its zero value takes the endpoint and the keys from the environment. An answer other than 2xx
// is no error of the Transport, as little as of net/http: [CheckResponse] turns it into an [APIError] that says what it means.
// [ServerClock] is why a wrong local clock does no harm. Package ovhtest is a server to test against.
package ovhauth
