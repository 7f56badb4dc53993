package redislimit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
	"example.com/ovhauth/redislimit"
)

// source is a provider that counts what it gives: token-1, token-2, …
type source struct {
	mu      sync.Mutex
	given   int
	err     error
	before  func(ctx context.Context)
	dropped []string
}

func (s *source) Retrieve(ctx context.Context) (ovhauth.Credentials, error) {
	if s.before != nil {
		s.before(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return ovhauth.Credentials{}, s.err
	}
	s.given++
	return ovhauth.Credentials{AccessToken: fmt.Sprint("hunter2-", s.given)}, nil
}

func (s *source) Invalidate(c ovhauth.Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.AccessToken != "" {
		s.dropped = append(s.dropped, c.AccessToken)
	}
}

func machine(rdb redis.UniversalClient, s *source) *redislimit.TokenCache {
	return &redislimit.TokenCache{Redis: rdb, Name: "prod", Secret: "hunter2-secret", Provider: s}
}

func retrieve(t *testing.T, c *redislimit.TokenCache, want string) {
	t.Helper()
	got, err := c.Retrieve(t.Context())
	if err != nil || got != (ovhauth.Credentials{AccessToken: want}) {
		t.Fatalf("%q, %v; want %q", got.AccessToken, err, want)
	}
}

// A hundred requests of ten machines at once make for one token.
func TestMachinesShareAToken(t *testing.T) {
	rdb, provider := startRedis(t).client(), &source{}
	var wg sync.WaitGroup
	for range 10 {
		c := machine(rdb, provider)
		for range 10 {
			wg.Go(func() {
				if got, err := c.Retrieve(t.Context()); got.AccessToken != "hunter2-1" || err != nil {
					t.Errorf("%q, %v", got.AccessToken, err)
				}
			})
		}
	}
	wg.Wait()
	stats, err := rdb.Info(t.Context(), "commandstats").Result()
	_, stats, _ = strings.Cut(stats, "cmdstat_get:calls=")
	gets := 0
	fmt.Sscan(strings.ReplaceAll(stats, ",", " "), &gets)
	if err != nil || gets == 0 || gets >= 100 {
		t.Errorf("%d GETs by 100 requests of ten machines, %v", gets, err)
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
		t.Fatalf("%q, %v", keys, err)
	}
	value, err := rdb.Get(t.Context(), keys[0]).Result()
	if err != nil || value == "" || strings.Contains(value, "hunter2") {
		t.Errorf("%q, %v", value, err)
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

func TestRefusedTokenIsReplacedOnce(t *testing.T) {
	rdb, provider := startRedis(t).client(), &source{}
	one, two := machine(rdb, provider), machine(rdb, provider)
	retrieve(t, one, "hunter2-1")
	retrieve(t, two, "hunter2-1")
	refused := ovhauth.Credentials{AccessToken: "hunter2-1"}
	one.Invalidate(refused)
	retrieve(t, one, "hunter2-2")
	one.Invalidate(refused) // by a request that was slow
	retrieve(t, one, "hunter2-2")
	two.Invalidate(refused)
	retrieve(t, two, "hunter2-2")
	retrieve(t, machine(rdb, provider), "hunter2-2")
	if want := []string{"hunter2-1"}; !slices.Equal(provider.dropped, want) {
		t.Errorf("the provider was told of %q, want %q", provider.dropped, want)
	}
}

func TestTokenIsReplacedAtTheEndOfItsLife(t *testing.T) {
	c := machine(startRedis(t).client(), &source{})
	c.Life = 20 * time.Millisecond
	retrieve(t, c, "hunter2-1")
	for {
		got, err := c.Retrieve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got.AccessToken == "hunter2-2" {
			break
		}
	}
}

// A provider's error is the provider's own, and the next to ask need not wait.
func TestProviderFails(t *testing.T) {
	rdb, provider := startRedis(t).client(), &source{err: &ovhauth.APIError{StatusCode: 400}}
	c := machine(rdb, provider)
	if _, err := c.Retrieve(t.Context()); err != provider.err {
		t.Error(err)
	}
	if keys, err := rdb.Keys(t.Context(), "*").Result(); err != nil || len(keys) != 0 {
		t.Errorf("%q, %v", keys, err)
	}
	provider.err = nil
	retrieve(t, c, "hunter2-1")

	keys := &redislimit.TokenCache{Redis: rdb, Name: "keys", Secret: "s", Provider: ovhauth.Credentials{ApplicationKey: "hunter2"}}
	if _, err := keys.Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "Provider gave no access token") {
		t.Error(err)
	}
}

// lockOf makes it look as if another machine were fetching a token.
func lockOf(t *testing.T, rdb *redis.Client, life time.Duration) {
	var name string
	watch := &source{before: func(ctx context.Context) {
		keys, err := rdb.Keys(ctx, "*:lock").Result()
		if err != nil || len(keys) != 1 {
			t.Fatalf("%q, %v", keys, err)
		}
		name = keys[0]
		if left, err := rdb.PTTL(ctx, name).Result(); err != nil || left <= 30*time.Second || left > 45*time.Second {
			t.Errorf("the lock is for %s, %v", left, err)
		}
	}, err: errors.New("no")}
	machine(rdb, watch).Retrieve(t.Context())
	if err := rdb.Set(t.Context(), name, "another", life).Err(); err != nil {
		t.Fatal(err)
	}
}

// A machine that dies while it fetches a token holds up the others for as long as its lock lives.
func TestDeadMachine(t *testing.T) {
	rdb, provider := startRedis(t).client(), &source{}
	lockOf(t, rdb, 200*time.Millisecond)
	retrieve(t, machine(rdb, provider), "hunter2-1")
}

func TestWaitingForAnotherMachineEnds(t *testing.T) {
	rdb, provider := startRedis(t).client(), &source{}
	lockOf(t, rdb, time.Hour)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := machine(rdb, provider).Retrieve(ctx)
		failed <- err
	}()
	cancel()
	if err := <-failed; err != context.Canceled {
		t.Errorf("by its context: %v", err)
	}
	defer redislimit.SetPatience(time.Second)()
	if _, err := machine(rdb, provider).Retrieve(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "redislimit: another machine") {
		t.Errorf("by itself: %v", err)
	}
	if provider.given != 0 {
		t.Errorf("asked the provider %d times", provider.given)
	}
}

// Without Redis a machine uses what it knows; one that knows nothing does not go past it to the token endpoint.
func TestTokenWithoutRedis(t *testing.T) {
	s := startRedis(t)
	rdb, provider := s.client(), &source{}
	knows, fresh := machine(rdb, provider), machine(rdb, provider)
	retrieve(t, knows, "hunter2-1")
	s.kill()
	retrieve(t, knows, "hunter2-1")
	if _, err := fresh.Retrieve(t.Context()); !errors.Is(err, redislimit.ErrUnavailable) || provider.given != 1 {
		t.Errorf("%v, %d given", err, provider.given)
	}
	knows.Invalidate(ovhauth.Credentials{AccessToken: "hunter2-1"})
	if _, err := knows.Retrieve(t.Context()); !errors.Is(err, redislimit.ErrUnavailable) || provider.given != 1 {
		t.Errorf("refused: %v, %d given", err, provider.given)
	}
	s.start()
	retrieve(t, fresh, "hunter2-2")
	retrieve(t, knows, "hunter2-2")

	// It stops while the token is on its way, which is used all the same.
	late := machine(rdb, &source{before: func(context.Context) { s.kill() }})
	late.Name = "late"
	retrieve(t, late, "hunter2-1")
}

func TestTokenCacheShowsNothing(t *testing.T) {
	c := machine(startRedis(t).client(), &source{})
	retrieve(t, c, "hunter2-1")
	b, err := json.Marshal(struct{ Name, Secret any }{c.Name, c})
	shown := []string{string(b), fmt.Sprint(err)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		shown = append(shown, fmt.Sprintf(verb, c), fmt.Sprintf(verb, struct{ C any }{c}))
	}
	for _, s := range shown {
		if strings.Contains(s, "hunter2") || strings.Contains(s, fmt.Sprintf("%x", "hunter2")) {
			t.Error(s)
		}
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

// A token that the API refuses costs no request an error, and the fleet one new token.
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
				t.Error(resp.Status)
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
