package bench

import (
	"bytes"
	"crypto/sha1"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

// Comparison is one shape of work, done by us and by others.
type Comparison struct {
	Shape         string
	Ours          func()
	Goroutines    int  // at once; 0 means 1
	Latency       bool // compares the median time of one call, not the time of all
	Times         bool // shows the median time of each contender, too
	Rate          bool // the ratio is that of calls per second, and at least the target
	Peers         []Peer
	Allocs, Bytes float64 // that one call of ours may allocate; 0 means that nobody counts
}

func (c Comparison) contenders() []Peer {
	return append([]Peer{{Name: "ours", Do: c.Ours}}, c.Peers...)
}

// Peer is another way to do the same work.
type Peer struct {
	Name   string
	Do     func()
	Target float64 // of the ratio of our time to the peer's, or of our rate to its; 0 means none: it is shown for comparison
}

const (
	meURL = "https://eu.api.ovh.com/1.0/me"
	kib   = 1 << 10
	mib   = 1 << 20
)

// payload is JSON of about n bytes, without a blank, as json.Marshal writes it.
func payload(n int) json.RawMessage {
	return json.RawMessage(`{"description":"` + strings.Repeat("x", max(0, n-len(`{"description":""}`))) + `"}`)
}

// newRequest makes a request as a caller does, with the headers that go-ovh's NewRequest sets.
func newRequest(method, url string, body []byte) *http.Request {
	var reader io.Reader // nil, not a nil *bytes.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req := must(http.NewRequest(method, url, reader))
	if body != nil {
		req.Header.Set("Content-Type", "application/json;charset=utf-8")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "github.com/ovh/go-ovh")
	return req
}

// send gives the same request to rt again and again. The bases here leave its body unread.
func send(rt http.RoundTripper, req *http.Request) func() {
	return func() { must(rt.RoundTrip(req)) }
}

// Comparisons are all that need no network.
func Comparisons() []Comparison {
	return []Comparison{
		signing("GET", nil, 1.1, 0.2),
		signing("POST 1 KiB", payload(kib), 1.1, 0),
		signing("POST 64 KiB", payload(64*kib), 1.05, 0),
		signing("POST 1 MiB", payload(mib), 1.05, 0),
		building("GET", nil, 0.75),
		building("POST 1 KiB", payload(kib), 0.28),
		building("POST 64 KiB", payload(64*kib), 0.09),
		building("POST 1 MiB", payload(mib), 0.1),
		building("POST a struct", aRecord, 0.9),
		repeating("GET", nil, 1),
		repeating("POST 1 KiB", payload(kib), 0.6),
		repeating("POST 1 MiB", payload(mib), 0.01),
	}
}

// signing compares RoundTrippers over a base that does nothing but respond. There is no target beside x/oauth2 and ghinstallation,
// which hash nothing.
func signing(shape string, body []byte, besideBaseline, besideAWS float64) Comparison {
	method, _, _ := strings.Cut(shape, " ")
	req := newRequest(method, meURL, body)
	allocs, bytes := 6.0, 1126.0 // 1.1 KiB
	if body != nil {
		allocs, bytes = 8, 1331 // 1.3 KiB
	}
	return Comparison{Shape: shape, Allocs: allocs, Bytes: bytes, Ours: send(signed(noop), req), Peers: []Peer{
		{"the baseline", send(baseline(noop), req), besideBaseline},
		{"x/oauth2", send(bearer(noop), req), 0},
		{"sigv4", send(aws(noop), req), besideAWS},
		{"ghinstallation", send(github(noop), req), 0},
	}}
}

// building compares with go-ovh's NewRequest, which builds and signs at once. Ours gets the path alone, as go-ovh does, the same
// bytes and headers, and goes through Transport to a base that does nothing. So do the others, but with the whole URL.
func building(shape string, body any, target float64) Comparison {
	method, _, _ := strings.Cut(shape, " ")
	ok := must(noop(newRequest(method, meURL, nil)))
	base := roundTripper(func(*http.Request) (*http.Response, error) { return ok, nil }) // go-ovh makes no response either
	build := func(rt http.RoundTripper, url string) func() {
		return func() {
			data, ready := body.(json.RawMessage)
			if !ready && body != nil {
				data = must(json.Marshal(body))
			}
			must(rt.RoundTrip(newRequest(method, url, data)))
		}
	}
	client := goOVH("ovh-eu", apiTime)
	return Comparison{Shape: "build and sign: " + shape, Times: true, Ours: build(signed(base), "/me"), Peers: []Peer{
		{"go-ovh", func() { must(client.NewRequest(method, "/me", body, true)) }, target},
		{"the baseline", build(baseline(base), meURL), 0},
		{"sigv4", build(aws(base), meURL), 0},
		{"x/oauth2", build(bearer(base), meURL), 0},
	}}
}

// record is a small body: what POST /domain/zone/{zoneName}/record takes.
type record struct {
	FieldType string `json:"fieldType"`
	SubDomain string `json:"subDomain"`
	Target    string `json:"target"`
	TTL       int    `json:"ttl"`
}

var aRecord = record{FieldType: "A", SubDomain: "www", Target: "192.0.2.1", TTL: 3600}

// repeating compares what would send again, and has no need to.
func repeating(shape string, body []byte, target float64) Comparison {
	method, _, _ := strings.Cut(shape, " ")
	rt, peer := retrying(noop), hashicorp(noop)
	// A new body each time: go-retryablehttp reads it to its end.
	with := func(rt http.RoundTripper) func() {
		req := newRequest(method, meURL, body)
		return func() {
			again := new(*req)
			if again.GetBody != nil {
				again.Body = must(again.GetBody())
			}
			must(rt.RoundTrip(again))
		}
	}
	return Comparison{Shape: "nothing to retry: " + shape, Ours: with(rt), Peers: []Peer{{"go-retryablehttp", with(peer), target}}}
}

// File compares signing a file that GetBody opens with reading it once and hashing it.
func File(path string) Comparison {
	info := must(os.Stat(path))
	rt := signed(noop)
	buf := make([]byte, 32*kib)
	return Comparison{
		Shape: "PUT a 64 MiB file",
		Bytes: 64 * kib,
		Ours:  func() { must(rt.RoundTrip(fileRequest(meURL, path, info.Size()))) },
		Peers: []Peer{{"hashing it", func() {
			f := must(os.Open(path))
			defer f.Close()
			must(io.CopyBuffer(sha1.New(), struct{ io.Reader }{f}, buf))
		}, 1.05}},
	}
}

func fileRequest(url, path string, size int64) *http.Request {
	open := func() (io.ReadCloser, error) { return os.Open(path) }
	req := must(http.NewRequest(http.MethodPut, url, must(open())))
	req.GetBody, req.ContentLength = open, size
	return req
}

// repeat does f n times in each of so many goroutines.
func repeat(f func(), n, goroutines int) {
	var wg sync.WaitGroup
	for range goroutines - 1 {
		wg.Go(func() {
			for range n {
				f()
			}
		})
	}
	for range n {
		f()
	}
	wg.Wait()
}
