package redislimit

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/ovhauth"
)

// TokenCache is an [ovhauth.CredentialProvider] by which all machines with the same Redis, Name and Secret use one access token.
// One of them asks Provider for it, and the others wait meanwhile: the token endpoint hears from one machine at a time. A machine
// that stops before it is done holds them up for 45 s at most. A token that the API refuses is dropped for all, and replaced.
//
// Redis holds a token that works, encrypted (AES-256-GCM) under a key made of Secret: who can read Redis, its dumps or its
// traffic, but does not know Secret, cannot use it. The names of the keys contain Name and a fingerprint of Secret, no part of
// it. Who can write to Redis can have tokens fetched needlessly, and no more.
//
// While Redis does not answer, the token that this machine knows is used until its time is over; then the error matches
// [ErrUnavailable]. Provider is not asked past Redis, lest the whole fleet storms the token endpoint. Errors of Provider are
// returned as they are.
//
// A TokenCache is safe for concurrent use; its fields must not change after the first Retrieve. Printed, it shows its Name alone.
type TokenCache struct {
	Redis redis.UniversalClient // required

	// Name names the account; required. In Redis it is part of "ovhauth:token:…".
	Name string

	// Secret encrypts the token; required, the same on all machines, and not to be guessed: the service account's client secret.
	// After a change of Secret there is a new token.
	Secret string `json:"-"`

	// Provider gives the token: [ovhauth.ServiceAccount]. If it has a method Invalidate(ovhauth.Credentials), it is told of each
	// token that it is to replace. Required.
	Provider ovhauth.CredentialProvider

	// Life is how long a token is shared. 0 means 55 min: OVHcloud's live an hour. If one ends before that, the API's refusal
	// costs each machine one round trip.
	Life time.Duration

	// Timeout bounds one question to Redis. 0 means 2 s.
	Timeout time.Duration

	known atomic.Pointer[token] // what this machine knows; nil for nothing
	queue queue
	last  ovhauth.Credentials // what Provider gave last; whose turn it is may touch it
}

const (
	defaultLife = 55 * time.Minute
	lockLife    = 45 * time.Second       // longer than an ovhauth.ServiceAccount tries
	lookAgain   = 100 * time.Millisecond // while another machine asks for a token
)

var patience = time.Minute // with all the others; a variable for its test

// token is one that may be used until expires.
type token struct {
	value   string
	sealed  string // as Redis has it
	expires time.Time
}

func (t *token) lives() bool { return t != nil && time.Now().Before(t.expires) }

// Format prints the name.
func (c *TokenCache) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "&redislimit.TokenCache{Name:%q}", c.Name)
}

// Retrieve returns the token that this machine knows, or else that of Redis, or else a new one. It gives up after a minute, or
// when ctx ends.
func (c *TokenCache) Retrieve(ctx context.Context) (ovhauth.Credentials, error) {
	t := c.known.Load()
	if !t.lives() {
		err := c.queue.do(ctx, func() (err error) {
			if t = c.known.Load(); !t.lives() {
				t, err = c.find(ctx)
			}
			return err
		})
		if err != nil {
			return ovhauth.Credentials{}, err
		}
	}
	return ovhauth.Credentials{AccessToken: t.value}, nil
}

// Invalidate drops the token that the API has refused, here and in Redis, unless it has been replaced already. Of a Redis that
// does not answer, another attempt drops it.
func (c *TokenCache) Invalidate(refused ovhauth.Credentials) {
	t := c.known.Load()
	if t == nil || t.value != refused.AccessToken || !c.known.CompareAndSwap(t, nil) {
		return
	}
	if v, err := c.vault(); err == nil {
		c.deleteIf(context.Background(), v.key, t.sealed)
	}
}

// find gets the token from Redis, or has Redis choose who fetches one.
func (c *TokenCache) find(ctx context.Context) (t *token, err error) {
	v, err := c.vault()
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeoutCause(ctx, patience, errPatience)
	defer cancel()
	for {
		if t, err = c.load(limited, v); t != nil || err != nil {
			break
		}
		var mine bool
		if mine, t, err = c.fetchAlone(limited, v); mine || err != nil {
			break
		}
		if err = sleep(limited, lookAgain); err != nil {
			break
		}
	}
	if err != nil && ctx.Err() == nil && context.Cause(limited) == errPatience {
		return nil, errPatience
	}
	if err == nil {
		c.known.Store(t)
	}
	return t, err
}

var errPatience = errors.New("redislimit: another machine is asking for the access token, and gets none; look at its errors")

// load returns the token that Redis has, nil for none.
func (c *TokenCache) load(ctx context.Context, v *vault) (*token, error) {
	return ask(ctx, c.Timeout, func(ctx context.Context) (*token, error) {
		var value *redis.StringCmd
		var left *redis.DurationCmd
		_, err := c.Redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
			value, left = p.Get(ctx, v.key), p.PTTL(ctx, v.key)
			return nil
		})
		if err != nil && err != redis.Nil {
			return nil, err
		}
		t := &token{sealed: value.Val(), expires: time.Now().Add(left.Val())}
		if t.value = v.open(t.sealed); t.value == "" {
			return nil, nil // there is none, or one that is not ours, to be replaced
		}
		return t, nil
	})
}

// fetchAlone fetches a token if no other machine is doing so.
func (c *TokenCache) fetchAlone(ctx context.Context, v *vault) (mine bool, t *token, err error) {
	lock, id := v.key+":lock", rand.Text()
	mine, err = ask(ctx, c.Timeout, func(ctx context.Context) (bool, error) {
		err := c.Redis.SetArgs(ctx, lock, id, redis.SetArgs{Mode: "NX", TTL: lockLife}).Err()
		if err == redis.Nil {
			return false, nil
		}
		return err == nil, err
	})
	if !mine {
		return false, nil, err
	}
	defer c.deleteIf(context.WithoutCancel(ctx), lock, id)
	if t, err = c.load(ctx, v); t == nil && err == nil { // else another one was just done
		t, err = c.fetch(ctx, v)
	}
	return true, t, err
}

func (c *TokenCache) fetch(ctx context.Context, v *vault) (*token, error) {
	if p, ok := c.Provider.(interface{ Invalidate(ovhauth.Credentials) }); ok {
		p.Invalidate(c.last) // it may keep what was refused elsewhere, or has little life left
	}
	given, err := c.Provider.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	if given.AccessToken == "" {
		return nil, errors.New("redislimit: Provider gave no access token, and a TokenCache shares nothing else; " +
			"use an ovhauth.ServiceAccount")
	}
	c.last = given
	life := cmp.Or(c.Life, defaultLife)
	t := &token{given.AccessToken, v.seal(given.AccessToken), time.Now().Add(life)}
	// If Redis has gone meanwhile, the token is good all the same, for this machine.
	ask(ctx, c.Timeout, func(ctx context.Context) (string, error) {
		return c.Redis.Set(ctx, v.key, t.sealed, life).Result()
	})
	return t, nil
}

var deleteIf = redis.NewScript(`if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0`)

// deleteIf deletes a key if it still has this value. If Redis does not answer, the key lives until its time is over.
func (c *TokenCache) deleteIf(ctx context.Context, key, value string) {
	ask(ctx, c.Timeout, func(ctx context.Context) (any, error) {
		return deleteIf.Run(ctx, c.Redis, []string{key}, value).Result()
	})
}

// vault is where the token is in Redis, and what opens it.
type vault struct {
	key  string
	aead cipher.AEAD
}

func (c *TokenCache) vault() (*vault, error) {
	if c.Redis == nil || c.Name == "" || c.Secret == "" || c.Provider == nil {
		return nil, errors.New("redislimit: a TokenCache needs Redis, Name, Secret and Provider")
	}
	derived, err := hkdf.Key(sha256.New, []byte(c.Secret), nil, "ovhauth/redislimit: token of "+c.Name, 40)
	if err != nil {
		return nil, fmt.Errorf("redislimit: deriving a key from Secret: %w", err)
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return nil, fmt.Errorf("redislimit: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("redislimit: %w", err)
	}
	return &vault{fmt.Sprintf("ovhauth:token:%s:%x", c.Name, derived[32:]), aead}, nil
}

func (v *vault) seal(value string) string { return string(v.aead.Seal(nil, nil, []byte(value), nil)) }

// open returns "" for what was not sealed by the same Secret.
func (v *vault) open(sealed string) string {
	value, err := v.aead.Open(nil, nil, []byte(sealed), nil)
	if err != nil {
		return ""
	}
	return string(value)
}
