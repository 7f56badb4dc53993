//go:build linux

package redislimit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
	"example.com/ovhauth/redislimit"
)

// A hundred requests of ten machines at once make for one token.
func TestMachinesShareAToken(t *testing.T) {
	rdb, provider := startRedis(t).client(), &source{}
	var wg sync.WaitGroup
	for range 10 {
		c := machine(rdb, provider)
		for range 10 {
			wg.Go(func() {
				if got, err := c.Retrieve(t.Context()); got.AccessToken != "hunter2-1" || err != nil {
					t.Errorf("got %q, %v; want hunter2-1", got.AccessToken, err)
				}
			})
		}
	}
	wg.Wait()
	stats, err := rdb.Info(t.Context(), "commandstats").Result()
	_, stats, _ = strings.Cut(stats, "cmdstat_get:calls=")
	gets := 0
	fmt.Sscan(strings.ReplaceAll(stats, ",", " "), &gets)
	if err != nil || gets == 0 || gets > 200 {
		t.Errorf("%d GETs, %v; want 20 a machine at most, not some for each of 100 requests", gets, err)
	}
	other, changed := machine(rdb, provider), machine(rdb, provider)
	other.Name, changed.Secret = "test", "hunter2-changed"
	retrieve(t, other, "hunter2-2")
	retrieve(t, changed, "hunter2-3")
	retrieve(t, machine(rdb, provider), "hunter2-1")
}

// Redis has neither the token nor the secret, in names or values, and has them not for long.
func TestNothingInRedisCanBeUsed(t *testing.T) {
	rdb := startRedis(t).client()
	retrieve(t, machine(rdb, &source{}), "hunter2-1")
	keys, err := rdb.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 1 || !strings.HasPrefix(keys[0], "ovhauth:token:prod:") || strings.Contains(keys[0], "hunter2") {
		t.Fatalf("the keys in Redis are %q, %v; want one for prod, without a secret", keys, err)
	}
	value, err := rdb.Get(t.Context(), keys[0]).Result()
	if err != nil || value == "" || strings.Contains(value, "hunter2") {
		t.Errorf("the value in Redis is %q, %v; want one without a secret", value, err)
	}
	if left, err := rdb.PTTL(t.Context(), keys[0]).Result(); err != nil || left > 55*time.Minute || left < 50*time.Minute {
		t.Errorf("kept for %s, %v", left, err)
	}
	// What others put there is not taken for a token.
	if err := rdb.Set(t.Context(), keys[0], "forged", 0).Err(); err != nil {
		t.Fatal(err)
	}
	retrieve(t, machine(rdb, &source{given: 1}), "hunter2-2")
}

func TestRejectedTokenIsReplacedOnce(t *testing.T) {
	rdb, provider := startRedis(t).client(), &source{}
	one, two := machine(rdb, provider), machine(rdb, provider)
	retrieve(t, one, "hunter2-1")
	retrieve(t, two, "hunter2-1")
	rejected := ovhauth.Credentials{AccessToken: "hunter2-1"}
	one.Invalidate(rejected)
	retrieve(t, one, "hunter2-2")
	one.Invalidate(rejected) // by a request that was slow
	retrieve(t, one, "hunter2-2")
	two.Invalidate(rejected)
	retrieve(t, two, "hunter2-2")
	retrieve(t, machine(rdb, provider), "hunter2-2")
	if want := []string{"hunter2-1"}; !slices.Equal(provider.dropped, want) {
		t.Errorf("the provider was told of %q, want %q", provider.dropped, want)
	}
}

// A provider's error is the provider's own, and the next to ask need not wait.
func TestProviderFails(t *testing.T) {
	rdb, provider := startRedis(t).client(), &source{err: &ovhauth.APIError{StatusCode: 503}}
	c := machine(rdb, provider)
	if _, err := c.Retrieve(t.Context()); err != provider.err {
		t.Errorf("%v, want the provider's own error", err)
	}
	if keys := must[[]string](t)(rdb.Keys(t.Context(), "*").Result()); len(keys) != 0 {
		t.Errorf("%q are left, want nothing", keys)
	}
	provider.change(func() { provider.err = nil })
	retrieve(t, c, "hunter2-1")

	for _, test := range []struct {
		want  string
		given ovhauth.CredentialProvider
	}{
		{"gave no access token", ovhauth.Credentials{ApplicationKey: "hunter2"}},
		{"that has expired", ovhauth.Credentials{AccessToken: "hunter2", Expires: time.Now()}},
		{"Provider panicked: x", ovhauth.CredentialFunc(func(context.Context) (ovhauth.Credentials, error) { panic("x") })},
		{"ended without a result", ovhauth.CredentialFunc(func(context.Context) (ovhauth.Credentials, error) { runtime.Goexit(); panic("") })},
	} {
		c := &redislimit.TokenCache{Redis: rdb, Name: test.want, Secret: "hunter2-secret", Provider: test.given}
		if _, err := c.Retrieve(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "redislimit: Provider ") || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want one that says %q", err, test.want)
		}
	}
}

// That the token endpoint rejects the client is known to all for a few seconds. Other errors are not: they may be over.
func TestARejectionOfTheClientIsShared(t *testing.T) {
	rdb := startRedis(t).client()
	for _, test := range []struct {
		status int
		shared bool
	}{{400, true}, {401, true}, {403, true}, {408, false}, {429, false}, {500, false}, {503, false}} {
		t.Run(fmt.Sprint(test.status), func(t *testing.T) {
			provider := &source{err: &ovhauth.APIError{StatusCode: test.status, Code: "invalid_client"}}
			one, two := machine(rdb, provider), machine(rdb, &source{})
			one.Name, two.Name = t.Name(), t.Name()
			if _, err := one.Retrieve(t.Context()); err != provider.err {
				t.Errorf("where it was found: %v, want the provider's own error", err)
			}
			_, err := two.Retrieve(t.Context())
			if api, ok := errors.AsType[*ovhauth.APIError](err); ok != test.shared || ok && (api.StatusCode != test.status || api.Code != "invalid_client") ||
				ok && strings.Count(err.Error(), "redislimit: ") != 1 {
				t.Errorf("elsewhere: %v, shared: %t, want %t", err, ok, test.shared)
			}
			for _, key := range must[[]string](t)(rdb.Keys(t.Context(), "*:rejected").Result()) {
				if left := must[time.Duration](t)(rdb.PTTL(t.Context(), key).Result()); left <= 0 || left > 5*time.Second {
					t.Errorf("remembered for %s, want 5 s", left)
				}
				if text := must[string](t)(rdb.Get(t.Context(), key).Result()); strings.Contains(text, "invalid_client") {
					t.Errorf("in Redis: %q, want it sealed", text)
				}
				rdb.Del(t.Context(), key)
			}
			three := machine(rdb, &source{})
			three.Name = t.Name() + " later"
			retrieve(t, three, "hunter2-1")
		})
	}
}

// lockOf returns the key that a machine has while it asks for a token.
func lockOf(t *testing.T, rdb *redis.Client) (name string) {
	watch := &source{before: func(ctx context.Context) {
		keys, err := rdb.Keys(ctx, "*:lock").Result()
		if err != nil || len(keys) != 1 {
			t.Fatalf("%q, %v; want one lock", keys, err)
		}
		name = keys[0]
		if left, err := rdb.PTTL(ctx, name).Result(); err != nil || left <= 0 || left > redislimit.LockLife {
			t.Errorf("the lock is for %s, %v; want %s", left, err, redislimit.LockLife)
		}
	}, err: errors.New("no")}
	machine(rdb, watch).Retrieve(t.Context())
	return name
}

func TestALockThatNobodyHoldsHeals(t *testing.T) {
	const atOnce = redislimit.LockLife - time.Second // on a slow machine, too
	for _, test := range []struct {
		name   string
		damage func(rdb *redis.Client, lock string) error
		within time.Duration
	}{
		{"its machine died", func(rdb *redis.Client, lock string) error {
			return rdb.Set(context.Background(), lock, "another", redislimit.LockLife).Err()
		}, 10 * time.Second},
		{"no end", func(rdb *redis.Client, lock string) error {
			return rdb.Set(context.Background(), lock, "another", 0).Err()
		}, atOnce},
		{"far end", func(rdb *redis.Client, lock string) error {
			return rdb.Set(context.Background(), lock, "another", time.Hour).Err()
		}, atOnce},
		{"another type", func(rdb *redis.Client, lock string) error {
			return rdb.RPush(context.Background(), lock, "another").Err()
		}, atOnce},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rdb := startRedis(t).client()
			if err := test.damage(rdb, lockOf(t, rdb)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			retrieve(t, machine(rdb, &source{}), "hunter2-1")
			if took := time.Since(began); took > test.within {
				t.Errorf("took %s, want %s at most", took, test.within)
			}
		})
	}
}

// So do the other keys.
func TestATokenOfAnotherTypeIsReplaced(t *testing.T) {
	rdb := startRedis(t).client()
	retrieve(t, machine(rdb, &source{}), "hunter2-1")
	key := must[[]string](t)(rdb.Keys(t.Context(), "*").Result())[0]
	for i, damage := range []func() error{
		func() error {
			return errors.Join(rdb.Del(t.Context(), key).Err(), rdb.RPush(t.Context(), key, "x").Err())
		},
		func() error { return rdb.Persist(t.Context(), key).Err() }, // without an end, nobody knows when it expires
		func() error { return rdb.RPush(t.Context(), key+":rejected", "x").Err() },
	} {
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		want := []string{"hunter2-11", "hunter2-21", "hunter2-21"}[i]
		retrieve(t, machine(rdb, &source{given: 10 * (i + 1)}), want)
	}
}

// Without Redis a machine uses what it knows; one that knows nothing does not go past it to the token endpoint.
func TestTokenWithoutRedis(t *testing.T) {
	s := startRedis(t)
	rdb, provider := s.client(), &source{}
	knows, fresh := machine(rdb, provider), machine(rdb, provider)
	knows.Timeout, fresh.Timeout = time.Second, time.Second
	retrieve(t, knows, "hunter2-1")
	s.kill()
	retrieve(t, knows, "hunter2-1")
	unavailable := func(c *redislimit.TokenCache, ctx context.Context, ended error) {
		t.Helper()
		if _, err := c.Retrieve(ctx); !errors.Is(err, redislimit.ErrUnavailable) || ended != nil && !errors.Is(err, ended) || provider.count() != 1 {
			t.Errorf("%v, %d tokens; want ErrUnavailable, %v, and one token", err, provider.count(), ended)
		}
	}
	unavailable(fresh, t.Context(), nil)
	knows.Invalidate(ovhauth.Credentials{AccessToken: "hunter2-1"})
	unavailable(knows, t.Context(), nil)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	unavailable(fresh, ctx, context.DeadlineExceeded)

	// Who has time waits for it.
	started := make(chan struct{})
	time.AfterFunc(time.Second, func() { s.start(); close(started) })
	retrieveIn(t, 30*time.Second, fresh, "hunter2-2")
	<-started
	retrieve(t, knows, "hunter2-2")

	// It stops while the token is on its way, which is used all the same.
	late := machine(rdb, &source{before: func(context.Context) { s.kill() }})
	late.Name = "late"
	retrieve(t, late, "hunter2-1")
}

func retrieveIn(t *testing.T, left time.Duration, c *redislimit.TokenCache, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), left)
	defer cancel()
	if got, err := c.Retrieve(ctx); err != nil || got.AccessToken != want {
		t.Fatalf("%q, %v; want %q", got.AccessToken, err, want)
	}
}

// To read a token, a Redis is good enough that is full, or a replica.
func TestATokenIsReadFromAFullRedisAndAReplica(t *testing.T) {
	s := startOnPort(t, "--repl-diskless-sync-delay", "0")
	provider := &source{}
	retrieve(t, machine(s.client(), provider), "hunter2-1")
	host, port, _ := net.SplitHostPort(s.addr)
	replica := startRedis(t, "--replicaof", host+" "+port)
	eventually(t, func() error {
		if n, err := replica.client().DBSize(t.Context()).Result(); err != nil || n != 1 {
			return fmt.Errorf("%d keys have arrived, %v", n, err)
		}
		return nil
	})
	retrieve(t, machine(replica.client(), provider), "hunter2-1")
	if err := s.client().ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	retrieve(t, machine(s.client(), provider), "hunter2-1")
	for _, test := range []struct {
		rdb  *redis.Client
		want string
	}{{replica.client(), "read-only"}, {s.client(), "out of memory"}} {
		other := machine(test.rdb, provider)
		other.Name, other.Timeout = "other", time.Second
		if _, err := other.Retrieve(t.Context()); !errors.Is(err, redislimit.ErrUnavailable) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want ErrUnavailable that says %q", err, test.want)
		}
	}
}

// A token endpoint that takes longer than any caller has: all but the first get a token, and it is asked once.
func TestNoCallerEndsTheFetchForTheOthers(t *testing.T) {
	rdb, api := startRedis(t).client(), ovhtest.NewServer()
	defer api.Close()
	api.Inject(ovhtest.Fault{Path: "/auth/oauth2/token", Times: -1, Delay: 1200 * time.Millisecond})
	id, secret := api.NewServiceAccount()
	c := &redislimit.TokenCache{Redis: rdb, Name: "prod", Secret: secret, Provider: ovhauth.ServiceAccount(api.Endpoint(), id, secret)}
	client := &http.Client{Transport: &ovhauth.Transport{Endpoint: api.Endpoint(), Credentials: c}}
	var succeeded atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				req := must[*http.Request](t)(http.NewRequestWithContext(ctx, "GET", "/me", nil))
				if resp, err := client.Do(req); err == nil {
					resp.Body.Close()
					succeeded.Add(1)
				} else if !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	t.Logf("%d of 150 succeed, %d tokens are asked for", succeeded.Load(), tokensAsked(api))
	if n, m := succeeded.Load(), tokensAsked(api); n < 147 || m != 1 {
		t.Errorf("%d of 150 succeed, %d tokens are asked for; want 147 and 1", n, m)
	}
}

// Once one machine finds that a token is rejected, no machine gets it again, even where it is still stored.
func TestARejectedTokenIsNeverGivenAgain(t *testing.T) {
	for _, machines := range []int{1, 4} {
		rdb, api := startRedis(t).client(), ovhtest.NewServer()
		defer api.Close()
		rdb.AddHook(farther(time.Millisecond))
		id, secret := api.NewServiceAccount()
		var clients []*http.Client
		for range machines {
			clients = append(clients, &http.Client{Transport: &ovhauth.Transport{Endpoint: api.Endpoint(), Credentials: &redislimit.TokenCache{
				Redis: rdb, Name: "prod", Secret: secret, Provider: ovhauth.ServiceAccount(api.Endpoint(), id, secret),
			}}})
		}
		const revocations, calls = 30, 16
		var failed atomic.Int64
		get := func(client *http.Client) {
			resp, err := client.Get("/me")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				failed.Add(1)
			}
		}
		get(clients[0])
		for range revocations {
			api.RevokeTokens()
			var wg sync.WaitGroup
			for i := range calls {
				wg.Go(func() { get(clients[i%machines]) })
			}
			wg.Wait()
		}
		t.Logf("%d machines: %d of %d calls get 401, %d tokens are asked for", machines, failed.Load(), revocations*calls, tokensAsked(api))
		if n, m := failed.Load(), tokensAsked(api); n != 0 || m != 1+revocations {
			t.Errorf("%d machines: %d of %d calls get 401, %d tokens are asked for; want none and %d", machines, n, revocations*calls, m, 1+revocations)
		}
	}
}

func TestAProviderThatGivesARejectedTokenIsToldSo(t *testing.T) {
	rdb := startRedis(t).client()
	stubborn := machine(rdb, &source{})
	stubborn.Name, stubborn.Provider = "stubborn", ovhauth.Credentials{AccessToken: "hunter2-1"}
	retrieve(t, stubborn, "hunter2-1")
	stubborn.Invalidate(ovhauth.Credentials{AccessToken: "hunter2-1"})
	if got, err := stubborn.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "again that the API has rejected") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%q, %v; want an error that says so", got.AccessToken, err)
	}
}

func TestTheTokensOwnExpiryIsKept(t *testing.T) {
	rdb := startRedis(t).client()
	for _, test := range []struct{ given, life, want time.Duration }{
		{0, 0, 55 * time.Minute},
		{0, time.Minute, time.Minute},
		{10 * time.Minute, 0, 10 * time.Minute},
		{10 * time.Minute, time.Minute, 10 * time.Minute},
		{24 * time.Hour, 0, 24 * time.Hour},
	} {
		one, two := machine(rdb, &source{life: test.given}), machine(rdb, &source{})
		one.Name = fmt.Sprint(test)
		two.Name, one.Life, two.Life = one.Name, test.life, test.life
		for _, c := range []*redislimit.TokenCache{one, two} {
			got, err := c.Retrieve(t.Context())
			if off := time.Until(got.Expires) - test.want; err != nil || off > 0 || off < -5*time.Second {
				t.Errorf("given %s, Life %s: expires in %s, %v; want %s", test.given, test.life, time.Until(got.Expires), err, test.want)
			}
		}
	}
}

func TestTokenCacheShowsNothing(t *testing.T) {
	c := machine(redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", Password: "hunter2"}), &source{})
	l := &redislimit.Limiter{Redis: c.Redis, Key: "k"}
	real := machine(startRedis(t).client(), &source{})
	retrieve(t, real, "hunter2-1")
	var shown []string
	for _, v := range []any{c, *c, real, *real, struct{ C redislimit.TokenCache }{*real}, struct{ C *redislimit.TokenCache }{real}, []any{*real}, l, *l} {
		b, err := json.Marshal(v)
		shown = append(shown, string(b), fmt.Sprint(err))
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t"} {
			shown = append(shown, fmt.Sprintf(verb, v))
		}
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		shown = append(shown, log.String())
	}
	b, err := xml.Marshal(*real)
	shown = append(shown, string(b), fmt.Sprint(err), real.String())
	for _, s := range shown {
		if strings.Contains(strings.ToLower(s), "hunter2") || strings.Contains(strings.ToLower(s), fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("shows a secret: %s", s)
		}
	}
	if got, want := fmt.Sprintf("%+v", *real), `redislimit.TokenCache{Name:"prod"}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestTokenCacheSaysWhatItNeeds(t *testing.T) {
	rdb, provider := connect("nowhere"), &source{}
	defer rdb.Close()
	for _, c := range []*redislimit.TokenCache{
		{},
		{Name: "n", Secret: "s", Provider: provider},
		{Redis: rdb, Secret: "s", Provider: provider},
		{Redis: rdb, Name: "n", Provider: provider},
		{Redis: rdb, Name: "n", Secret: "s"},
	} {
		if _, err := c.Retrieve(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "redislimit: a TokenCache needs") {
			t.Error(err)
		}
	}
}

// A token that the API rejects costs no request an error, and the fleet one new token.
func TestFleetOutlivesItsToken(t *testing.T) {
	rdb, api := startRedis(t).client(), ovhtest.NewServer()
	defer api.Close()
	id, secret := api.NewServiceAccount()
	var fleet []*http.Client
	for range 3 {
		fleet = append(fleet, &http.Client{Transport: &ovhauth.Transport{Endpoint: api.Endpoint(), Credentials: &redislimit.TokenCache{
			Redis: rdb, Name: "prod", Secret: secret, Provider: ovhauth.ServiceAccount(api.Endpoint(), id, secret),
		}}})
	}
	for round := range 3 {
		for _, client := range fleet {
			resp, err := client.Get("/me")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("got %s, want 200", resp.Status)
			}
		}
		if n := tokensAsked(api); n != round+1 {
			t.Errorf("%d tokens in round %d", n, round)
		}
		api.RevokeTokens()
	}
}

func tokensAsked(api *ovhtest.Server) (n int) {
	for _, x := range api.Exchanges() {
		if strings.HasSuffix(x.URL, "/auth/oauth2/token") {
			n++
		}
	}
	return n
}
