package main

import (
	"fmt"
	"net/http"
)

// wire is a Base that shows what it sends and what comes back. It is below the signing, so it sees the keys, and masks them.
type wire struct{ http.RoundTripper }

func (w wire) RoundTrip(req *http.Request) (*http.Response, error) {
	fmt.Println(req.Method, req.URL)
	for _, name := range []string{"X-Ovh-Application", "X-Ovh-Consumer", "X-Ovh-Timestamp", "X-Ovh-Signature", "Authorization"} {
		if value := req.Header.Get(name); value != "" {
			if name != "X-Ovh-Timestamp" {
				value = mask(value)
			}
			fmt.Printf("  %s: %s\n", name, value)
		}
	}
	resp, err := w.RoundTripper.RoundTrip(req)
	if err == nil {
		fmt.Println(resp.Proto, resp.Status)
		fmt.Println("  X-Ovh-Queryid:", resp.Header.Get("X-Ovh-Queryid"))
	}
	return resp, err
}

// mask leaves enough of a key to tell two apart.
func mask(key string) string {
	return key[:min(len(key)/4, 7)] + "…"
}
