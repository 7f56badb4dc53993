package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
)

// overSockets makes calls by 64 goroutines over real connections, in real time, to servers that grant n per period. It returns what came
// of it for HTTP/1.1 and HTTP/2.
func overSockets(calls, n int, per time.Duration) (all []socketRun) {
	for _, start := range []func() *ovhtest.Server{ovhtest.NewServer, ovhtest.NewTLSServer} {
		server := start()
		server.LimitRate(n, per, "1")
		base := &http.Transport{MaxIdleConnsPerHost: 64, ForceAttemptHTTP2: true}
		if certificate := server.Certificate(); certificate != nil {
			base.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
			base.TLSClientConfig.RootCAs.AddCert(certificate)
		}
		all = append(all, callOverSockets(server, base, calls))
		base.CloseIdleConnections()
		server.Close()
	}
	return all
}

// socketRun is what came of calls over real sockets.
type socketRun struct {
	Protocol           string
	Failed, Rejections int
	First              string // failure
	Took               time.Duration
}

func (r socketRun) String() string {
	return fmt.Sprintf("%s: %d failed, %d 429s, %s %s", r.Protocol, r.Failed, r.Rejections, r.Took.Round(100*time.Millisecond), r.First)
}

func callOverSockets(server *ovhtest.Server, network http.RoundTripper, calls int) (r socketRun) {
	var rejections, failed atomic.Int64
	var protocol, first atomic.Value
	counting := roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := network.RoundTrip(req)
		if err == nil {
			protocol.Store(resp.Proto)
			if resp.StatusCode == http.StatusTooManyRequests {
				rejections.Add(1)
			}
		}
		return resp, err
	})
	client := &http.Client{Transport: &ovhauth.RetryTransport{Base: &ovhauth.Transport{
		Endpoint: server.Endpoint(), Credentials: server.Credentials(), Base: counting}}}
	began := time.Now()
	var left atomic.Int64
	left.Store(int64(calls))
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				resp, err := client.Get("/me")
				if err == nil {
					resp.Body.Close()
				}
				if err != nil || resp.StatusCode != http.StatusOK {
					failed.Add(1)
					first.CompareAndSwap(nil, cmp.Or(fmt.Sprint(err), "a response"))
				}
			}
		})
	}
	wg.Wait()
	r = socketRun{Took: time.Since(began), Failed: int(failed.Load()), Rejections: int(rejections.Load())}
	r.Protocol, _ = protocol.Load().(string)
	r.First, _ = first.Load().(string)
	return r
}
