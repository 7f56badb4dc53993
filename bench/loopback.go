package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
	"github.com/ovh/go-ovh/ovh"
)

// me is the part of the response to GET /me that is decoded.
type me struct{ Nichandle, Email string }

func respond(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/auth/time") {
		fmt.Fprint(w, time.Now().Unix())
		return
	}
	io.WriteString(w, `{"nichandle":"ab12345-ovh","email":"someone@example.org","country":"FR","language":"fr_FR"}`)
}

// Loopback starts servers and returns the comparisons over them, and what stops them.
func Loopback() (all []Comparison, stop func()) {
	h1 := httptest.NewServer(http.HandlerFunc(respond))
	h2 := httptest.NewUnstartedServer(http.HandlerFunc(respond))
	h2.EnableHTTP2 = true
	h2.StartTLS()
	for _, s := range []struct {
		*httptest.Server
		protocol string
	}{{h1, "HTTP/1.1"}, {h2, "HTTP/2"}} {
		endpoint, base := s.URL+"/1.0", transportTo(s.Server)
		constant := http.Header{"X-Ovh-Application": {keys.ApplicationKey}, "X-Ovh-Consumer": {keys.ConsumerKey},
			"X-Ovh-Timestamp": {"1700000000"}, "X-Ovh-Signature": {"$1$" + strings.Repeat("0", 40)}}
		transport := &ovhauth.Transport{Endpoint: ovhauth.Endpoint(endpoint), Credentials: keys, Base: base}
		for _, goroutines := range []int{1, 32} {
			all = append(all, Comparison{
				Shape:      fmt.Sprintf("requests/s, %s, %d at once", s.protocol, goroutines),
				Goroutines: goroutines,
				Rate:       true,
				Ours:       get(&http.Client{Transport: transport}, endpoint+"/me", nil),
				Peers: []Peer{
					{"a plain client", get(&http.Client{Transport: base}, endpoint+"/me", constant), 0.97},
					{"the baseline", get(&http.Client{Transport: baseline(base)}, endpoint+"/me", nil), 0},
				},
			})
		}
		if s.protocol != "HTTP/1.1" {
			continue
		}
		client := goOVH(endpoint, base)
		all = append(all, Comparison{
			Shape:   "median latency, HTTP/1.1",
			Latency: true,
			Ours:    getMe(&http.Client{Transport: transport}),
			Peers: []Peer{{"go-ovh", func() {
				if err := client.Get("/me", new(me)); err != nil {
					panic(err)
				}
			}, 0.97}},
		}, Comparison{
			Shape: "with http.Client.Timeout",
			Ours:  get(&http.Client{Transport: transport, Timeout: time.Minute}, endpoint+"/me", nil),
			Peers: []Peer{{"an empty wrapper",
				get(&http.Client{Transport: roundTripper(base.RoundTrip), Timeout: time.Minute}, endpoint+"/me", constant), 1.05}},
		})
	}
	return all, func() { h1.Close(); h2.Close() }
}

// transportTo returns a Transport that keeps a connection for each of 32 goroutines.
func transportTo(s *httptest.Server) *http.Transport {
	t := s.Client().Transport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 32
	return t
}

// get asks for url and reads the response.
func get(client *http.Client, url string, header http.Header) func() {
	return func() {
		req := must(http.NewRequest(http.MethodGet, url, nil))
		maps.Copy(req.Header, header)
		resp := must(client.Do(req))
		defer resp.Body.Close()
		must(io.Copy(io.Discard, resp.Body))
	}
}

// getMe does what go-ovh's Get does: it bounds the time, asks, checks the response and decodes it. The bound is a context's
// deadline, as docs/retries.md advises; go-ovh's is http.Client.Timeout.
func getMe(client *http.Client) func() {
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), ovh.DefaultTimeout)
		defer cancel()
		req := must(http.NewRequestWithContext(ctx, http.MethodGet, "/me", nil))
		req.Header.Set("Accept", "application/json")
		resp := must(client.Do(req))
		if err := ovhauth.CheckResponse(resp); err != nil {
			panic(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(new(me)); err != nil {
			panic(err)
		}
	}
}

// distant is a RoundTripper over a network that takes its time. It counts.
type distant struct {
	base    http.RoundTripper
	latency time.Duration
	trips   atomic.Int64
}

func (d *distant) RoundTrip(req *http.Request) (*http.Response, error) {
	d.trips.Add(1)
	time.Sleep(d.latency)
	return d.base.RoundTrip(req)
}

// RoundTrips compares with go-ovh the time to the first response and to the last of some calls, one after the other, over a
// network with latency; with a clock that agrees with the server's and with one that is an hour off. Only requests take their
// time, not the handshakes of TCP and TLS before the first, which both make once.
func RoundTrips(latency time.Duration, calls int) (rows []Row) {
	for _, clock := range []struct {
		name string
		off  time.Duration
	}{{"clock right", 0}, {"clock an hour off", time.Hour}} {
		srv := ovhtest.NewServer()
		defer srv.Close()
		srv.SetClock(func() time.Time { return time.Now().Add(clock.off) })
		c := srv.Credentials()

		ours := &distant{base: new(http.Transport), latency: latency}
		transport := &ovhauth.Transport{Endpoint: srv.Endpoint(), Credentials: c, Base: ours}
		our := watch(ours, getMe(&http.Client{Transport: transport}), calls)

		theirs := &distant{base: new(http.Transport), latency: latency}
		client := must(ovh.NewClient(string(srv.Endpoint()), c.ApplicationKey, c.ApplicationSecret, c.ConsumerKey))
		client.Client.Transport = theirs
		their := watch(theirs, func() {
			if err := client.Get("/me", new(me)); err != nil {
				panic(err)
			}
		}, calls)

		for i, which := range []int{1, calls} {
			shape := fmt.Sprintf("to response %d, %s, %s", which, latency, clock.name)
			least := float64(which) + clock.off.Hours() // a wrong clock costs one, once
			rows = append(rows,
				Row{Shape: shape, Beside: "round trips, ours", Bound: "≤", Target: least, Value: float64(our[i].trips)},
				Row{Shape: shape, Beside: "round trips, go-ovh", Value: float64(their[i].trips)},
				Row{Shape: shape, Beside: "go-ovh's time", Unit: "×", Value: float64(our[i].took) / float64(their[i].took)})
		}
	}
	return rows
}

// reached is how far a series of calls has come.
type reached struct {
	trips int64
	took  time.Duration
}

// watch does the calls and returns where it was after the first and after the last.
func watch(d *distant, do func(), calls int) (at [2]reached) {
	start := time.Now()
	for i := range calls {
		do()
		at[min(i, 1)] = reached{d.trips.Load(), time.Since(start)}
	}
	return at
}
