package ovhauth

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Before the first 429 and the first retry no request waits for a lock.
func TestNoLockBeforeTheFirst429(t *testing.T) {
	rt := &RetryTransport{Base: silence{}}
	rt.hosts.adding.Lock()
	defer rt.hosts.adding.Unlock()
	done := make(chan error)
	go func() {
		req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://eu.api.ovh.com/1.0/me", nil)
		_, err := rt.RoundTrip(req)
		done <- err
	}()
	if err := <-done; err != nil || rt.hosts.all.Load() != nil {
		t.Errorf("error %v, hosts %v; want neither", err, rt.hosts.all.Load())
	}
}

// What happened to one host costs requests to another nothing: no lock, and no copy of the list of hosts.
func TestNoLockForAHostWithoutA429(t *testing.T) {
	rt := &RetryTransport{Base: silence{}}
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "https://eu.api.ovh.com/1.0/me", nil)
	ask := func() { rt.RoundTrip(req) }
	before := testing.AllocsPerRun(100, ask)
	for i := range 100 {
		rt.hosts.get(fmt.Sprint("other", i), true).paceOrNew()
	}
	if after := testing.AllocsPerRun(100, ask); after != before {
		t.Errorf("%v allocations once other hosts are known, want %v as before", after, before)
	}
}

// Of several first 429s all teach the same pace.
func TestFirst429sShareOnePace(t *testing.T) {
	for range 2000 {
		h := new(host)
		var paces [4]*pace
		var wg sync.WaitGroup
		for i := range paces {
			wg.Go(func() { paces[i] = h.paceOrNew() })
		}
		wg.Wait()
		for i, p := range paces {
			if p != h.pace.Load() {
				t.Fatalf("429 number %d taught another pace, want the host's", i)
			}
		}
	}
}

// A host that is asked for again and again is not forgotten; one that holds requests is not either.
func TestWhichHostsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all hosts
		asked, idle, held := all.get("asked", true), all.get("idle", true), all.get("held", true)
		held.paceOrNew().report(0, limited, time.Hour)
		for range 3 {
			time.Sleep(forgetAfter/2 + time.Second)
			all.get("asked", false)
		}
		all.get("another", true)
		for name, want := range map[string]*host{"asked": asked, "idle": nil, "held": held} {
			if got := all.get(name, false); got != want {
				t.Errorf("%s: %p, want %p", name, got, want)
			}
		}
		if idle == nil {
			t.Error("get made no host, want one")
		}
	})
}
