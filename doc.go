// Package ovhauth signs requests to the OVHcloud API, so that code keeps its plain [http.Client]:
//
//	client := &http.Client{Transport: &ovhauth.RetryTransport{Base: &ovhauth.Transport{}}}
//	resp, err := client.Get("/me") // GET https://eu.api.ovh.com/1.0/me, signed
//
// The package has no client type and no request type. It signs for whatever takes an http.Client or an
// [http.RoundTripper]: generated clients, reverse proxies, other SDKs.
//
//	your code ── *http.Client ── RetryTransport ── Transport ── Base: http.DefaultTransport, otelhttp, a mock
//	                              again? how fast?  ├─ Endpoint     where
//	                                                ├─ Credentials  who
//	                                                └─ Clock        when
//	                                                     └── Sign   a pure function of all three
//
// [Transport] signs. Its zero value takes the endpoint and the keys from the environment and from ovh.conf (see
// [DefaultCredentials]). It sends a request a second time only to correct clock skew or to replace rejected credentials.
// [RetryTransport] stands above it, so that every attempt is signed anew with the time it is sent at. It retries what is safe to
// repeat, and learns from 429 responses how fast to send. Both report what they do as an [Event].
//
// A response other than 2xx is no error of a transport, as with net/http: [CheckResponse] turns it into an [APIError] that says
// what it means. Package ovhjson speaks JSON over such a client, and walks through long lists. Package consumerkey asks for keys,
// [ServiceAccount] uses OAuth2, and package ovhtest is a server to test against.
package ovhauth
