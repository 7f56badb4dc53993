package redislimit

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/ovhauth"
)

const (
	fetchTime = 30 * time.Second // the longest that Provider may take
	lockLife  = 5 * time.Second  // its holder prolongs it
	failLife  = 5 * time.Second  // for which all remember that the client was rejected
	patience  = time.Minute      // the longest that one search may take
)

// search gets a token for all callers on this machine that need one. It has a context of its own, so that no caller ends it.
type search struct {
	cache *cache
	c     TokenCache
	vault *vault
	old   *token // to be replaced; nil for none

	done chan struct{} // closed when err is there, and the token in the cache
	err  error

	mu      sync.Mutex
	trouble error // that Redis is in, nil for none
}

func newSearch(ctx context.Context, s *cache, c TokenCache, old *token) *search {
	f := &search{cache: s, c: c, old: old, done: make(chan struct{})}
	detached, cancel := context.WithTimeout(untraced{context.WithoutCancel(ctx)}, patience)
	go func() {
		defer cancel()
		var found *token
		defer func() {
			if r := recover(); r != nil { // in this goroutine it would end the process, and no caller could recover it
				f.err = fmt.Errorf("redislimit: Provider panicked: %v", r)
			}
			s.finish(found, f.err)
			close(f.done)
		}()
		f.err = errors.New("redislimit: Provider ended without a result") // by runtime.Goexit
		found, f.err = f.run(detached)
	}()
	return f
}

// untraced is a context without its httptrace hooks: these belong to one request, and the token is for all.
type untraced struct{ context.Context }

func (u untraced) Value(key any) any {
	value := u.Context.Value(key)
	if _, hooks := value.(*httptrace.ClientTrace); hooks {
		return nil
	}
	return value
}

// wait returns when the search is over, or when this caller cannot wait any longer.
func (f *search) wait(ctx context.Context, timeout time.Duration) error {
	var impatient <-chan time.Time // only without a deadline
	if _, ok := ctx.Deadline(); !ok {
		ticker := time.NewTicker(timeout)
		defer ticker.Stop()
		impatient = ticker.C
	}
	for {
		select {
		case <-f.done:
			return f.err
		case <-ctx.Done():
			if err := f.inTrouble(); err != nil {
				return fmt.Errorf("%w (%w)", err, ctx.Err())
			}
			return ctx.Err()
		case <-impatient:
			if err := f.inTrouble(); err != nil {
				return err
			}
		}
	}
}

func (f *search) inTrouble() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.trouble
}

func (f *search) setTrouble(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.trouble = err
}

// run gets a token. While Redis is in trouble, it waits for it to come back.
func (f *search) run(ctx context.Context) (t *token, err error) {
	if f.vault, err = newVault(f.c.Secret, f.c.Name); err != nil {
		return nil, err
	}
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		t, err = f.get(ctx)
		if !errors.Is(err, ErrUnavailable) || isForbidden(err) {
			break
		}
		f.setTrouble(err)
		if sleep(ctx, pause/2+mathrand.N(pause)) != nil {
			return nil, err
		}
	}
	if err != nil && ctx.Err() != nil {
		return nil, errPatience
	}
	return t, err
}

var errPatience = errors.New("redislimit: another machine is asking for the access token, and gets none; look at its errors")

// get returns the token that is in Redis. If there is none, one machine asks Provider and puts its token there; the others wait.
func (f *search) get(ctx context.Context) (*token, error) {
	id := rand.Text()
	for {
		if t, err := f.load(ctx); t != nil || err != nil {
			return t, err
		}
		mine, err := f.lock(ctx, lockScript, id)
		if err != nil {
			return nil, err
		}
		if mine {
			defer f.c.deleteIf(context.WithoutCancel(ctx), f.vault.lock, id)
			if t, err := f.load(ctx); t != nil || err != nil { // another machine has finished in the meantime
				return t, err
			}
			return f.fetch(ctx, id)
		}
		f.setTrouble(nil)
		if err := sleep(ctx, 50*time.Millisecond+mathrand.N(100*time.Millisecond)); err != nil {
			return nil, err
		}
	}
}

// load returns the token that is in Redis, nil if none there can be used. If the token endpoint has just rejected the client on
// another machine, load returns that as an error.
func (f *search) load(ctx context.Context) (*token, error) {
	type entries struct {
		token, failure string
		left           time.Duration
	}
	e, err := ask(ctx, f.c.Timeout, func(ctx context.Context) (entries, error) {
		var token, failure *redis.StringCmd
		var left *redis.DurationCmd
		// PTTL comes first: if the token is replaced between the commands, its time is taken for too short rather than too long.
		f.c.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			left, token, failure = p.PTTL(ctx, f.vault.key), p.Get(ctx, f.vault.key), p.Get(ctx, f.vault.failure)
			return nil
		})
		for _, cmd := range []redis.Cmder{left, token, failure} {
			// A key that is absent or of another type is no error: it will be replaced.
			if cmd.Err() != nil && cmd.Err() != redis.Nil && !redis.HasErrorPrefix(cmd.Err(), "WRONGTYPE") {
				return entries{}, cmd.Err()
			}
		}
		return entries{token.Val(), failure.Val(), left.Val()}, nil
	})
	if err != nil {
		return nil, err
	}
	if value := f.vault.open(f.vault.key, e.token); value != "" && e.left > 0 && !f.cache.isRejected(value) {
		if f.old == nil || f.old.value != value {
			return newToken(value, e.token, e.left), nil
		}
	}
	if text := f.vault.open(f.vault.failure, e.failure); text != "" {
		return nil, readRejection(text)
	}
	return nil, nil
}

// lockScript takes the lock if nobody has it. A lock of another type, without an expiry, or with one too far away is ignored.
const lockScript = `
local holder = redis.pcall('GET', KEYS[1])
if type(holder) == 'string' then
  local left = redis.call('PTTL', KEYS[1])
  if left >= 0 and left <= tonumber(ARGV[2]) then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`

// prolongScript prolongs the lock, if it is still ours.
const prolongScript = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`

func (f *search) lock(ctx context.Context, script, id string) (mine bool, err error) {
	return ask(ctx, f.c.Timeout, func(ctx context.Context) (bool, error) {
		return f.c.Redis.Eval(ctx, script, []string{f.vault.lock}, id, lockLife.Milliseconds()).Bool()
	})
}

// keepLock prolongs the lock until ctx ends.
func (f *search) keepLock(ctx context.Context, id string) {
	for sleep(ctx, lockLife/4) == nil {
		f.lock(ctx, prolongScript, id)
	}
}

// fetch asks Provider. The lock is ours.
func (f *search) fetch(ctx context.Context, id string) (*token, error) {
	f.setTrouble(nil)
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	go f.keepLock(ctx, id)
	if p, ok := f.c.Provider.(interface{ Invalidate(ovhauth.Credentials) }); ok {
		p.Invalidate(f.cache.last) // it may have kept a token that was rejected on another machine, or that expires soon
	}
	given, err := f.c.Provider.Retrieve(ctx)
	if err != nil {
		f.shareRejection(ctx, err)
		return nil, err
	}
	f.cache.last = given
	left := time.Until(given.Expires)
	if given.Expires.IsZero() {
		if left = f.c.Life; left <= 0 {
			left = defaultLife
		}
	}
	switch {
	case given.AccessToken == "":
		return nil, errors.New("redislimit: Provider gave no access token, and a TokenCache shares nothing else; " +
			"use an ovhauth.ServiceAccount")
	case left <= 0:
		return nil, errors.New("redislimit: Provider gave an access token that has expired; check this machine's clock")
	case f.cache.isRejected(given.AccessToken):
		return nil, errors.New("redislimit: Provider gave an access token again that the API has rejected; " +
			"it needs a method Invalidate(ovhauth.Credentials) that makes it give another")
	}
	t := newToken(given.AccessToken, f.vault.seal(f.vault.key, given.AccessToken), left)
	// If Redis has gone meanwhile, the token is good all the same, for this machine.
	f.c.set(ctx, f.vault.key, t.sealed, left)
	return t, nil
}

func (c *TokenCache) set(ctx context.Context, key, value string, life time.Duration) {
	ask(ctx, c.Timeout, func(ctx context.Context) (string, error) {
		return c.Redis.Set(ctx, key, value, max(time.Millisecond, life.Truncate(time.Millisecond))).Result()
	})
}

const deleteScript = `if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`

// deleteIf deletes a key if it still has this value. If Redis does not respond, the key lives until its time is over.
func (c *TokenCache) deleteIf(ctx context.Context, key, value string) {
	ask(ctx, c.Timeout, func(ctx context.Context) (any, error) {
		return c.Redis.Eval(ctx, deleteScript, []string{key}, value).Result()
	})
}

// rejection is how the token endpoint rejected the client on one machine, as the others read it from Redis.
type rejection struct {
	Status              int
	Code, QueryID, Path string
	Text                string
}

func (f *search) shareRejection(ctx context.Context, err error) {
	api, ok := errors.AsType[*ovhauth.APIError](err)
	if !ok || api.StatusCode/100 != 4 || api.StatusCode == http.StatusRequestTimeout || api.StatusCode == http.StatusTooManyRequests {
		return
	}
	text, err := json.Marshal(rejection{api.StatusCode, api.Code, api.QueryID, api.Path, strings.TrimPrefix(err.Error(), "ovhauth: ")})
	if err == nil {
		f.c.set(ctx, f.vault.failure, f.vault.seal(f.vault.failure, string(text)), failLife)
	}
}

func readRejection(text string) error {
	var r rejection
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return fmt.Errorf("redislimit: another machine was rejected by the token endpoint, and does not say how: %w", err)
	}
	return &sharedRejection{r.Text, &ovhauth.APIError{
		StatusCode: r.Status, Code: r.Code, QueryID: r.QueryID, Method: http.MethodPost, Path: r.Path,
	}}
}

type sharedRejection struct {
	text string
	api  *ovhauth.APIError
}

func (e *sharedRejection) Error() string {
	return "redislimit: the token endpoint rejected the client of another machine a moment ago, which is the same here: " + e.text
}

func (e *sharedRejection) Unwrap() error { return e.api }

// sleep waits for d, and returns ctx.Err() if ctx ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
