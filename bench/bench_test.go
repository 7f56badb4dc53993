package bench

import (
	"bytes"
	"net/http"
	"testing"
)

func BenchmarkAll(b *testing.B) {
	for _, c := range Comparisons() {
		for _, p := range c.contenders() {
			b.Run(c.Shape+"/"+p.Name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					p.Do()
				}
			})
		}
	}
}

// BenchmarkParallel is for -cpu 1,2.
func BenchmarkParallel(b *testing.B) {
	for _, p := range Comparisons()[0].contenders() {
		b.Run(p.Name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p.Do()
				}
			})
		})
	}
}

// The baseline is one only if it signs as we do.
func TestBaselineSigns(t *testing.T) {
	var seen http.Header
	base := roundTripper(func(req *http.Request) (*http.Response, error) {
		seen = req.Header
		return noop(req)
	})
	for _, body := range [][]byte{nil, payload(kib)} {
		for {
			req := newRequest(http.MethodPut, meURL+"?a=b", body)
			send(baseline(base), req)()
			theirs := seen
			send(signed(base), req)()
			if theirs.Get("X-Ovh-Timestamp") != seen.Get("X-Ovh-Timestamp") {
				continue // a new second
			}
			var a, b bytes.Buffer
			theirs.Write(&a)
			seen.Write(&b)
			if a.String() != b.String() {
				t.Errorf("baseline:\n%s\nours:\n%s", &a, &b)
			}
			break
		}
	}
}
