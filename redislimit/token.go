package redislimit

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/ovhauth"
)

// TokenCache is an [ovhauth.CredentialProvider] by which all machines with the same Redis, Name and Secret use one access token.
// One of them asks Provider for it, and the others wait meanwhile: only one machine at a time asks the token endpoint. A caller
// stops waiting when its own context ends; the token is fetched all the same, for the others. A machine that is killed while it
// fetches the token holds the others up for 5 s.
//
// A token is replaced before it expires, in the background, when three quarters to nine tenths of its life are over: each machine
// chooses its own moment for that. Until it expires it is used, whatever the token endpoint and Redis do. A token that the API
// rejects is never given again, and is dropped in Redis, unless it has been replaced there already.
//
// If the token endpoint rejects the client, by a status from 400 to 499 other than 408 and 429, all machines know that for 5 s,
// and do not ask again: they return an error that matches [*ovhauth.APIError] as well. Other errors of Provider are returned as they
// are to the callers on that machine; the next machine asks again.
//
// If there is no token yet and Redis is in trouble, Retrieve waits for it to come back until ctx ends, or, if ctx has no deadline,
// for Timeout; then the error matches [ErrUnavailable]. Without Redis, Provider is not asked: the whole fleet would
// ask at once. A Redis that is out of memory or read-only is enough to read a token that is there.
//
// Redis holds a token that works, encrypted (AES-256-GCM) under a key made of Secret: who can read Redis, its dumps or its
// traffic, but does not know Secret, cannot use it. The names of the keys begin with "ovhauth:token:" and contain Name and a
// fingerprint of Secret, no part of it. Who can write to Redis can have tokens fetched needlessly, put an older token back, or keep
// the fleet from getting one; no more.
//
// A TokenCache is safe for concurrent use; its fields must not change after the first Retrieve. A copy has no token at first.
// Printed, logged or marshaled, by value or pointer, it shows its Name alone.
type TokenCache struct {
	Redis redis.UniversalClient // required

	// Name names the account; required.
	Name string

	// Secret encrypts the token; required, the same on all machines, and hard to guess: the service account's client secret.
	// After a change of Secret there is a new token. Under GODEBUG=fips140=only it must have 14 bytes or more.
	Secret string

	// Provider gives the token: [ovhauth.ServiceAccount]. If it has a method Invalidate(ovhauth.Credentials), it is told of each
	// token that it is to replace. It is called in the background, in a context with the values of a caller's and for at most
	// half a minute. Required.
	Provider ovhauth.CredentialProvider

	// Life is how long a token is shared whose Expires is zero. 0 means 55 min: OVHcloud's live an hour.
	Life time.Duration

	// Timeout bounds one round trip to Redis. 0 means 2 s.
	Timeout time.Duration
}

const (
	defaultLife = 55 * time.Minute
	renewPause  = 15 * time.Second // at most, after an attempt to replace a living token that came to nothing
)

// String returns the type and the name.
func (c TokenCache) String() string { return fmt.Sprintf("redislimit.TokenCache{Name:%q}", c.Name) }

// Format prints what String returns, under every verb.
func (c TokenCache) Format(f fmt.State, _ rune) { fmt.Fprint(f, c.String()) }

// MarshalText returns what String does, for encodings and logs. It cannot be read back.
func (c TokenCache) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func (c *TokenCache) check() error {
	if c.Redis == nil || c.Name == "" || c.Secret == "" || c.Provider == nil {
		return errors.New("redislimit: a TokenCache needs Redis, Name, Secret and Provider")
	}
	return nil
}

var caches states[TokenCache, cache]

// cache is what one machine knows. The zero value is ready.
type cache struct {
	mu       sync.Mutex
	known    *token                 // nil for none
	rejected map[[32]byte]time.Time // tokens that the API has rejected, by fingerprint, until they have expired
	search   *search                // under way, nil for none
	last     ovhauth.Credentials    // what Provider gave last; only a search touches it
}

type token struct {
	value          string
	sealed         string // as Redis has it
	renew, expires time.Time
}

func newToken(value, sealed string, left time.Duration) *token {
	now := time.Now().Round(0) // by the wall clock: the monotonic one stands still while a machine is suspended, which no test shows
	early := time.Duration((0.1 + 0.15*rand.Float64()) * float64(left))
	return &token{value, sealed, now.Add(left - early), now.Add(left)}
}

func (t *token) lives() bool { return t != nil && time.Now().Before(t.expires) }

// Retrieve returns the token that this machine knows, or else that of Redis, or else a new one. Its Expires is set.
func (c *TokenCache) Retrieve(ctx context.Context) (ovhauth.Credentials, error) {
	if err := c.check(); err != nil {
		return ovhauth.Credentials{}, err
	}
	s := caches.of(c)
	for {
		t, search := s.use(ctx, *c)
		if t != nil {
			return ovhauth.Credentials{AccessToken: t.value, Expires: t.expires}, nil
		}
		if err := search.wait(ctx, timeoutOf(c.Timeout)); err != nil {
			return ovhauth.Credentials{}, err
		}
	}
}

// Invalidate drops the token that the API has rejected, here and in Redis, unless it has been replaced already.
func (c *TokenCache) Invalidate(rejected ovhauth.Credentials) {
	if rejected.AccessToken == "" || c.check() != nil {
		return
	}
	t := caches.of(c).reject(rejected.AccessToken)
	if t == nil {
		return
	}
	if v, err := newVault(c.Secret, c.Name); err == nil {
		c.deleteIf(context.Background(), v.key, t.sealed)
	}
}

// use returns the token, nil if it has expired, and the search for a new one, nil for none. It starts one if that is necessary.
func (s *cache) use(ctx context.Context, c TokenCache) (*token, *search) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.known
	if !t.lives() {
		t = nil
	}
	if s.search == nil && (t == nil || !time.Now().Before(t.renew)) {
		s.search = newSearch(ctx, s, c, t)
	}
	return t, s.search
}

// reject remembers that a token was rejected. It returns the token if it was the one in use.
func (s *cache) reject(value string) *token {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.rejected, func(_ [32]byte, until time.Time) bool { return !until.After(now) })
	if s.rejected == nil {
		s.rejected = make(map[[32]byte]time.Time)
	}
	t := s.known
	if t == nil || t.value != value {
		s.rejected[sha256.Sum256([]byte(value))] = now.Add(24 * time.Hour)
		return nil
	}
	s.rejected[sha256.Sum256([]byte(value))] = t.expires.Add(time.Hour)
	s.known = nil
	return t
}

func (s *cache) isRejected(value string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, rejected := s.rejected[sha256.Sum256([]byte(value))]
	return rejected
}

// finish ends a search, and keeps the token that it found.
func (s *cache) finish(found *token, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.search = nil
	switch t := s.known; {
	case err == nil:
		if _, rejected := s.rejected[sha256.Sum256([]byte(found.value))]; !rejected { // otherwise those who wait start another search
			s.known = found
		}
	case t.lives():
		later := *t
		pause := min(renewPause, time.Until(t.expires)/4)
		later.renew = time.Now().Round(0).Add(pause/2 + rand.N(max(1, pause/2)))
		s.known = &later
	}
}
