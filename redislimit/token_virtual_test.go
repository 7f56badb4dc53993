package redislimit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/ovhauth"
)

// tokens is a provider that gives hunter2-1, hunter2-2, …, and counts how often it is asked.
type tokens struct {
	life time.Duration // 0: it does not say

	mu           sync.Mutex
	asked, given int
	before       func(ctx context.Context) error // what happens first; nil for nothing
}

func (p *tokens) Retrieve(ctx context.Context) (ovhauth.Credentials, error) {
	p.mu.Lock()
	p.asked++
	before := p.before
	p.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return ovhauth.Credentials{}, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.given++
	c := ovhauth.Credentials{AccessToken: fmt.Sprint("hunter2-", p.given)}
	if p.life > 0 {
		c.Expires = time.Now().Add(p.life)
	}
	return c, nil
}

func (p *tokens) fail(before func(ctx context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before = before
}

func (p *tokens) counts() (asked, given int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked, p.given
}

func machine(server *luaServer, p *tokens) *TokenCache {
	return &TokenCache{Redis: server.client(time.Millisecond), Name: "prod", Secret: "hunter2-secret", Provider: p}
}

func retrieve(t *testing.T, c *TokenCache, want string) {
	t.Helper()
	if got, err := c.Retrieve(t.Context()); err != nil || got.AccessToken != want {
		t.Fatalf("%q, %v; want %q", got.AccessToken, err, want)
	}
}

// A token is replaced while the old one lives: nobody waits, nobody fails, and the fleet asks for one at a time.
func TestATokenIsRenewedInTheBackground(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server, provider := newLuaServer(), &tokens{life: time.Hour}
		provider.fail(func(context.Context) error { time.Sleep(10 * time.Second); return nil }) // so slow
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				c := machine(server, provider)
				for second := range 3 * 60 * 60 {
					began := time.Now()
					got, err := c.Retrieve(t.Context())
					if took := time.Since(began); took > 0 && second > 0 || err != nil || !time.Now().Before(got.Expires) {
						t.Errorf("%v after %s, a token until %s; want one that lives, at once", err, took, got.Expires)
					}
					time.Sleep(time.Second)
				}
			})
		}
		wg.Wait()
		// One after 45 minutes, and each 45 minutes later at the earliest.
		if asked, given := provider.counts(); asked != 4 || given != 4 {
			t.Errorf("%d tokens in three hours, asked for %d times; want 4", given, asked)
		}
	})
}

// While the old token lives, neither an endpoint that fails nor one that hangs is noticed.
func TestALivingTokenServesWhateverTheEndpointDoes(t *testing.T) {
	for _, test := range []struct {
		name string
		does func(ctx context.Context) error
	}{
		{"fails", func(context.Context) error { return errors.New("503") }},
		{"rejects the client", func(context.Context) error { return &ovhauth.APIError{StatusCode: 400} }},
		{"hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				provider := &tokens{life: time.Hour}
				c := machine(newLuaServer(), provider)
				retrieve(t, c, "hunter2-1")
				provider.fail(test.does)
				for range 60*60 - 1 {
					began := time.Now()
					retrieve(t, c, "hunter2-1")
					if took := time.Since(began); took > 0 {
						t.Errorf("a call took %s, want none to wait", took)
					}
					time.Sleep(time.Second)
				}
				// From 45 to 54 minutes on, with pauses of 7.5 to 15 s: long enough to spare the endpoint, short enough to find it well again.
				if asked, _ := provider.counts(); asked < 1+6*60/45 || asked > 1+15*60/7 {
					t.Errorf("asked %d times, want at most each 7.5 s of the last quarter, and at least each 45 s of the last 6 minutes", asked)
				}
				provider.fail(nil)
				time.Sleep(time.Minute)
				retrieve(t, c, "hunter2-2")
			})
		})
	}
}

func TestATokenIsReplacedAtTheEndOfItsLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		provider := &tokens{}
		c := machine(newLuaServer(), provider)
		c.Life = 20 * time.Minute
		retrieve(t, c, "hunter2-1")
		time.Sleep(c.Life - time.Second)
		retrieve(t, c, "hunter2-1") // and is renewed meanwhile
		time.Sleep(2 * c.Life)
		retrieve(t, c, "hunter2-3")
	})
}

func TestWaitingForAnotherMachineEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server, provider := newLuaServer(), &tokens{}
		v, err := newVault("hunter2-secret", "prod")
		if err != nil {
			t.Fatal(err)
		}
		held, release := context.WithCancel(t.Context())
		go func() { // another machine asks for a token, and gets none
			for held.Err() == nil {
				server.change(func() { server.set(v.lock, "another", lockLife) })
				time.Sleep(lockLife / 4)
			}
		}()
		time.Sleep(time.Millisecond)

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(5*time.Second, cancel)
		c := machine(server, provider)
		began := time.Now()
		if _, err := c.Retrieve(ctx); err != context.Canceled || time.Since(began) != 5*time.Second {
			t.Errorf("by its context: %v after %s, want context.Canceled after 5 s", err, time.Since(began))
		}
		began = time.Now()
		other := machine(server, provider)
		_, err = other.Retrieve(t.Context())
		if took := time.Since(began); err == nil || !strings.HasPrefix(err.Error(), "redislimit: another machine") || took.Round(time.Second) != time.Minute {
			t.Errorf("by itself: %v after %s, want an error that says who is asking, after a minute", err, took)
		}
		if asked, _ := provider.counts(); asked != 0 {
			t.Errorf("asked the provider %d times, want never", asked)
		}
		release()
		retrieve(t, c, "hunter2-1")
	})
}
