package redislimit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
	"example.com/ovhauth/redislimit"
)

func TestMain(m *testing.M) {
	if os.Getenv("REDISLIMIT_TEST_REDIS") != "" {
		beMachine()
		return
	}
	os.Exit(m.Run())
}

const (
	machines = 4
	requests = 10 // of each machine
	quota    = 25 // of them all
)

// Machines that are processes of their own send no more than their quota together, and ask for one token.
func TestFleetOfProcesses(t *testing.T) {
	s, api := startRedis(t), ovhtest.NewServer()
	defer api.Close()
	// An answer that takes its time, for others to ask meanwhile.
	api.Inject(ovhtest.Fault{Path: "/auth/oauth2/token", Times: -1, Delay: 200 * time.Millisecond})
	id, secret := api.NewServiceAccount()
	var wg sync.WaitGroup
	var mu sync.Mutex
	sent, held := 0, 0
	for range machines {
		wg.Go(func() {
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), "REDISLIMIT_TEST_REDIS="+s.socket, "REDISLIMIT_TEST_API="+string(api.Endpoint()),
				"REDISLIMIT_TEST_ID="+id, "REDISLIMIT_TEST_SECRET="+secret)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			mu.Lock()
			defer mu.Unlock()
			sent += bytes.Count(out, []byte("sent\n"))
			held += bytes.Count(out, []byte("held back\n"))
		})
	}
	wg.Wait()
	if n := tokensAsked(api); sent != quota || held != machines*requests-quota || len(api.Exchanges())-n != quota || n != 1 {
		t.Errorf("%d sent, %d held back, %d arrived, %d tokens", sent, held, len(api.Exchanges())-n, n)
	}
}

// beMachine is what each process of TestFleetOfProcesses does.
func beMachine() {
	rdb := connect(os.Getenv("REDISLIMIT_TEST_REDIS"))
	defer rdb.Close()
	endpoint, secret := ovhauth.Endpoint(os.Getenv("REDISLIMIT_TEST_API")), os.Getenv("REDISLIMIT_TEST_SECRET")
	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Limiter: &redislimit.Limiter{Redis: rdb, Key: "fleet", Limit: redis_rate.Limit{Rate: 1, Period: never, Burst: quota}},
		Base: &ovhauth.Transport{Endpoint: endpoint, Credentials: &redislimit.TokenCache{
			Redis: rdb, Name: "fleet", Secret: secret,
			Provider: ovhauth.ServiceAccount(endpoint, os.Getenv("REDISLIMIT_TEST_ID"), secret),
		}},
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, "GET", "/me", nil)
			if err != nil {
				panic(err)
			}
			resp, err := client.Do(req)
			switch {
			case err == nil && resp.StatusCode == http.StatusOK:
				resp.Body.Close()
				fmt.Print("sent\n")
			case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
				fmt.Print("held back\n")
			default:
				fmt.Println(resp, err)
			}
		})
	}
	wg.Wait()
}
