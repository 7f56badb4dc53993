package compat

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/go-acme/lego/v3/challenge/dns01"
	legoovh "github.com/go-acme/lego/v3/providers/dns/ovh"
	"github.com/miekg/dns"
	"github.com/ovh/go-ovh/ovh"
)

// nameserver answers on loopback that example.com is a zone: lego asks the DNS where one begins.
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
	if err := dns01.AddRecursiveNameservers([]string{nameserver(t)})(nil); err != nil {
		t.Fatal(err)
	}
	a := newAPI(t)
	deleted := zone(a)
	config := legoovh.NewDefaultConfig()
	config.APIEndpoint = string(a.Endpoint())
	config.ApplicationKey, config.ApplicationSecret, config.ConsumerKey = "unknown", "wrong", "unknown"
	config.HTTPClient = &http.Client{Transport: a.retrying()}
	provider, err := legoovh.NewDNSProviderConfig(config)
	if err != nil {
		t.Fatal(err)
	}

	refused, orphans := 0, 0
	told := func(err error) {
		if refusal, ok := errors.AsType[*ovh.APIError](err); !ok || refusal.Code != http.StatusServiceUnavailable {
			t.Fatal(err)
		}
		refused++
	}
	for i := range rounds {
		token := fmt.Sprint("token", i)
		// A POST for the record, and one to refresh the zone. Either may be answered 503, and lego says so.
		err := provider.Present("www.example.com", token, "key")
		for ; err != nil; err = provider.Present("www.example.com", token, "key") {
			told(err)
			if strings.Contains(err.Error(), "refresh zone") {
				orphans++ // lego does not remember the record that it has just made
			}
		}
		// A DELETE, which is never refused for long, and the refresh.
		if err := provider.CleanUp("www.example.com", token, "key"); err != nil {
			told(err)
		}
	}
	if len(a.records) != rounds+orphans || deleted() != rounds {
		t.Errorf("%d records made, %d deleted; %d rounds, %d orphans", len(a.records), deleted(), rounds, orphans)
	}
	a.checkExchanges(t, refused)
}
