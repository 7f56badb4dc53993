package redislimit_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
	"example.com/ovhauth/redislimit"
)

// Sixty requests a minute and one access token, for as many machines as run this.
func Example() {
	rdb := redis.NewClient(&redis.Options{Addr: "redis.internal:6379", ContextTimeoutEnabled: true})
	id, secret := os.Getenv("OVH_CLIENT_ID"), os.Getenv("OVH_CLIENT_SECRET")
	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Limiter: &redislimit.Limiter{Redis: rdb, Key: "prod", Requests: 60},
		Base: &ovhauth.Transport{Credentials: &redislimit.TokenCache{
			Redis: rdb, Name: "prod", Secret: secret,
			Provider: ovhauth.ServiceAccount(ovhauth.EU, id, secret),
		}},
	}}
	client.Get("/me")
}

// alone goes on at a rate of its own while the fleet's Limiter cannot reach Redis. It is told of 429s as the Limiter is.
type alone struct {
	*redislimit.Limiter
	pause time.Duration // before each request then
}

func (a alone) Wait(ctx context.Context) error {
	err := a.Limiter.Wait(ctx)
	if !errors.Is(err, redislimit.ErrUnavailable) || ctx.Err() != nil {
		return err
	}
	select {
	case <-time.After(a.pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A machine that would rather send a little than nothing while Redis is away.
func ExampleErrUnavailable() {
	api := ovhtest.NewServer()
	defer api.Close()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialerRetries: 1}) // where no Redis is
	defer rdb.Close()

	limiter := &redislimit.Limiter{Redis: rdb, Key: "prod", Requests: 60, Timeout: 100 * time.Millisecond}
	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Limiter: alone{limiter, 10 * time.Millisecond},
		Base:    api.Client().Transport,
	}}
	resp, err := client.Get("/me")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}
