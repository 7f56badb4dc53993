package compat

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/go-acme/lego/v5/challenge/dns01"
	legoovh "github.com/go-acme/lego/v5/providers/dns/ovh"
	"github.com/miekg/dns"
	"github.com/ovh/go-ovh/ovh"
)

// nameserver says on loopback that example.com is a zone: lego asks the DNS where one begins.
func nameserver(t *testing.T) (address string) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		m := new(dns.Msg).SetReply(question)
		if q := question.Question[0]; q.Name == "example.com." && q.Qtype == dns.TypeSOA {
			header := dns.RR_Header{Name: q.Name, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60}
			m.Answer = []dns.RR{&dns.SOA{Hdr: header, Ns: "ns.example.com.", Mbox: "root.example.com.", Refresh: 3600}}
		} else {
			m.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(m)
	})}
	done := make(chan error)
	go func() { done <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return conn.LocalAddr().String()
}

// zone adds the routes that lego calls beyond recordPath, and tells how many records were deleted.
func zone(a *api) (deleted func() int) {
	n := 0
	a.Handle("POST /domain/zone/example.com/refresh", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	a.Handle("DELETE /domain/zone/example.com/record/{id}", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		n++
	}))
	return func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return n
	}
}

// lego's provider takes an http.Client in its Config, and gives it to the go-ovh inside. Its own keys are asked for, and not used.
func TestLego(t *testing.T) {
	listed(t, row{
		Client: "lego", Module: "github.com/go-acme/lego/v5", Language: "Go",
		Wiring: "`HTTPClient` of `ovh.Config`", BaseURL: "`APIEndpoint` as ever: `ovh-eu`", Keys: "any three",
	})
	previous := dns01.DefaultClient()
	dns01.SetDefaultClient(dns01.NewClient(&dns01.Options{RecursiveNameservers: []string{nameserver(t)}}))
	t.Cleanup(func() { dns01.SetDefaultClient(previous) })
	a := newAPI(t)
	deleted := zone(a)
	config := legoovh.NewDefaultConfig()
	config.APIEndpoint = string(a.Endpoint())
	config.ApplicationKey, config.ApplicationSecret, config.ConsumerKey = "any", "any", "any"
	config.HTTPClient = &http.Client{Transport: a.retrying()}
	provider, err := legoovh.NewDNSProviderConfig(config)
	if err != nil {
		t.Fatal(err)
	}

	failed, orphans := 0, 0
	told := func(err error) {
		if e, ok := errors.AsType[*ovh.APIError](err); !ok || e.Code != http.StatusServiceUnavailable {
			t.Fatalf("%v; want nothing but 503", err)
		}
		failed++
	}
	for i := range rounds {
		token := fmt.Sprint("token", i)
		// A POST for the record, and one to refresh the zone. The response to either may be 503, and lego says so.
		err := provider.Present(t.Context(), "www.example.com", token, "key")
		for ; err != nil; err = provider.Present(t.Context(), "www.example.com", token, "key") {
			told(err)
			if strings.Contains(err.Error(), "refresh zone") {
				orphans++ // lego does not remember the record that it has just made
			}
		}
		// A DELETE, which is sent again after a 503, and the refresh.
		if err := provider.CleanUp(t.Context(), "www.example.com", token, "key"); err != nil {
			told(err)
		}
	}
	if len(a.records) != rounds+orphans || deleted() != rounds {
		t.Errorf("%d records made, %d deleted; want %d, of which %d are orphans, and %d", len(a.records), deleted(), rounds+orphans,
			orphans, rounds)
	}
	a.checkExchanges(t, failed)
}
