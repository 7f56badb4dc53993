package ovhauth_test

import (
	"bytes"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"example.com/ovhauth"
)

// idle responds at once and leaves the body unread.
var idle = baseFunc(func(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
})

// The response of idle counts too: one allocation, of 144 bytes.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, and empties every sync.Pool")
	}
	sign := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: testKeys, Base: idle}
	blanks := ovhauth.Credentials{ApplicationKey: "a\n", ApplicationSecret: "s\n", ConsumerKey: "c\n"}
	untrimmed := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: blanks, Base: idle}
	retry := &ovhauth.RetryTransport{Base: idle}
	for _, test := range []struct {
		name   string
		rt     http.RoundTripper
		method string
		url    string
		size   int
		count  float64
		bytes  uint64
	}{
		{"GET", sign, http.MethodGet, "https://eu.api.ovh.com/1.0/me", 0, 6, 1126},
		{"GET by keys that are to be trimmed", untrimmed, http.MethodGet, "https://eu.api.ovh.com/1.0/me", 0, 6, 1126},
		{"GET with a query", sign, http.MethodGet, "https://eu.api.ovh.com/1.0/me?a=b", 0, 7, 1280},
		{"GET with a long query", sign, http.MethodGet, "https://eu.api.ovh.com/1.0/me?a=" + strings.Repeat("b", 200), 0, 8, 1800},
		{"relative GET", sign, http.MethodGet, "/me", 0, 7, 1280},
		{"POST 1 KiB", sign, http.MethodPost, "https://eu.api.ovh.com/1.0/me", 1 << 10, 6, 1126},
		{"POST 64 KiB", sign, http.MethodPost, "https://eu.api.ovh.com/1.0/me", 64 << 10, 6, 1126},
		{"POST 1 MiB", sign, http.MethodPost, "https://eu.api.ovh.com/1.0/me", 1 << 20, 6, 1126},
		{"retryable GET", retry, http.MethodGet, "https://eu.api.ovh.com/1.0/me", 0, 1, 160},
		{"retryable POST 1 KiB", retry, http.MethodPost, "https://eu.api.ovh.com/1.0/me", 1 << 10, 9, 1024},
		{"retryable POST 1 MiB", retry, http.MethodPost, "https://eu.api.ovh.com/1.0/me", 1 << 20, 9, 1024},
	} {
		t.Run(test.name, func(t *testing.T) {
			body := bytes.NewReader(bytes.Repeat([]byte{'x'}, test.size))
			req := newRequest(t, test.method, test.url, body)
			req.Header.Set("Accept", "application/json")
			once := func() {
				if _, err := test.rt.RoundTrip(req); err != nil {
					t.Error(err)
				}
			}
			if n := testing.AllocsPerRun(100, once); n > test.count {
				t.Errorf("%v allocations, want at most %v", n, test.count)
			}
			const runs = 100
			if n := allocated(func() {
				for range runs {
					once()
				}
			}) / runs; n > test.bytes {
				t.Errorf("%d bytes allocated, want at most %d", n, test.bytes)
			}
		})
	}
}

func TestSignAllocatesWhatItReturns(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, and empties every sync.Pool")
	}
	body, now := make([]byte, 1<<20), time.Now()
	once := func() { ovhauth.Sign(testKeys, http.MethodPut, "https://eu.api.ovh.com/1.0/me", body, now) }
	if n := testing.AllocsPerRun(100, once); n > 1 {
		t.Errorf("%v allocations, want the signature's alone", n)
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it would empty sync.Pools
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))  // as testing.AllocsPerRun does
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// However long a body with GetBody is, only a buffer's worth of it is ever held, while it is hashed and while it is sent.
func TestBytesHeldWhileStreaming(t *testing.T) {
	size := int64(1 << 30)
	if testing.Short() || raceEnabled {
		size = 64 << 20 // SHA-1 takes a while under the race detector
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(io.LimitReader(zeros{}, size)), nil }
	req := newRequest(t, http.MethodPut, "/me", nil)
	req.Body, _ = open()
	req.GetBody, req.ContentLength = open, size
	sent := int64(0)
	rt := &ovhauth.Transport{Endpoint: ovhauth.EU, Credentials: testKeys, Base: baseFunc(func(req *http.Request) (*http.Response, error) {
		sent, _ = io.Copy(io.Discard, req.Body)
		return response(http.StatusOK, ""), nil
	})}
	n := allocated(func() {
		if _, err := rt.RoundTrip(req); err != nil {
			t.Error(err)
		}
	})
	if most := uint64(64 << 10); n > most || sent != size {
		t.Errorf("%d bytes allocated for a body of %d, want at most %d; %d sent", n, size, most, sent)
	}
}
