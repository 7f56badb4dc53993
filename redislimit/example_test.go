package redislimit_test

import (
	"net/http"
	"os"

	"github.com/redis/go-redis/v9"

	"example.com/ovhauth"
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
