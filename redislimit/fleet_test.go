//go:build linux

package redislimit_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/ovhauth"
	"example.com/ovhauth/ovhtest"
	"example.com/ovhauth/redislimit"
)

// roleVariable makes the test binary run as one machine of a fleet. Other variables say how.
const roleVariable = "REDISLIMIT_TEST_ROLE"

// quiet keeps go-redis from writing to the standard error what the tests do to it.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

func TestMain(m *testing.M) {
	redis.SetLogger(quiet{})
	switch os.Getenv(roleVariable) {
	case "":
		os.Exit(m.Run())
	case "fips":
		beFIPS()
	case "caller":
		beCaller()
	case "holder":
		beHolder()
	}
}

// machineProcess is the command that runs one machine.
func machineProcess(t *testing.T, role string, s *server, api *ovhtest.Server, id, secret string, more ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), roleVariable+"="+role, "REDISLIMIT_TEST_REDIS="+s.addr,
		"REDISLIMIT_TEST_API="+string(api.Endpoint()), "REDISLIMIT_TEST_ID="+id, "REDISLIMIT_TEST_SECRET="+secret), more...)
	return cmd
}

func cacheOfProcess() *redislimit.TokenCache {
	endpoint, secret := ovhauth.Endpoint(os.Getenv("REDISLIMIT_TEST_API")), os.Getenv("REDISLIMIT_TEST_SECRET")
	return &redislimit.TokenCache{
		Redis: connect(os.Getenv("REDISLIMIT_TEST_REDIS")), Name: "fleet", Secret: secret,
		Provider: ovhauth.ServiceAccount(endpoint, os.Getenv("REDISLIMIT_TEST_ID"), secret),
	}
}

// beCaller makes so many calls at once, and prints a line for each: "sent", "held back" or what else came of it.
func beCaller() {
	number := func(name string) int {
		n, err := strconv.Atoi(os.Getenv("REDISLIMIT_TEST_" + name))
		if err != nil {
			panic(err)
		}
		return n
	}
	cache := cacheOfProcess()
	limiter := &redislimit.Limiter{Redis: cache.Redis, Key: "fleet", Requests: number("REQUESTS"), Burst: number("BURST"),
		Per: time.Duration(number("PER")) * time.Second}
	client := &http.Client{Transport: &ovhauth.RetryTransport{
		Limiter: limiter, Base: &ovhauth.Transport{Endpoint: ovhauth.Endpoint(os.Getenv("REDISLIMIT_TEST_API")), Credentials: cache},
	}}
	var wg sync.WaitGroup
	for range number("CALLS") {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
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

// fleet runs so many callers, does something meanwhile, and returns how many lines of each kind they printed.
func fleet(t *testing.T, machines int, command func() *exec.Cmd, meanwhile func()) map[string]int {
	var mu sync.Mutex
	lines := map[string]int{}
	var wg sync.WaitGroup
	for range machines {
		wg.Go(func() {
			out, err := command().CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			mu.Lock()
			defer mu.Unlock()
			for line := range bytes.Lines(out) {
				lines[strings.TrimSpace(string(line))]++
			}
		})
	}
	meanwhile()
	wg.Wait()
	return lines
}

// Machines that are processes of their own send no more than their quota together, and ask for one token.
func TestFleetOfProcesses(t *testing.T) {
	s, api := startRedis(t), ovhtest.NewServer()
	defer api.Close()
	// A response that takes its time, for others to ask meanwhile.
	api.Inject(ovhtest.Fault{Path: "/auth/oauth2/token", Times: -1, Delay: 200 * time.Millisecond})
	id, secret := api.NewServiceAccount()
	got := fleet(t, 4, func() *exec.Cmd {
		return machineProcess(t, "caller", s, api, id, secret, "REDISLIMIT_TEST_REQUESTS=1", "REDISLIMIT_TEST_PER=3600",
			"REDISLIMIT_TEST_BURST=25", "REDISLIMIT_TEST_CALLS=10")
	}, func() {})
	n := tokensAsked(api)
	if want := (map[string]int{"sent": 25, "held back": 15}); fmt.Sprint(got) != fmt.Sprint(want) || len(api.Exchanges())-n != 25 || n != 1 {
		t.Errorf("%v, %d arrived, %d tokens; want %v, 25 and 1", got, len(api.Exchanges())-n, n, want)
	}
}

// No call with a deadline of 30 s is lost to a Redis that is away for 3 s.
func TestAFleetOutlastsARestart(t *testing.T) {
	s, api := startRedis(t), ovhtest.NewServer()
	defer api.Close()
	id, secret := api.NewServiceAccount()
	got := fleet(t, 20, func() *exec.Cmd {
		return machineProcess(t, "caller", s, api, id, secret, "REDISLIMIT_TEST_REQUESTS=40", "REDISLIMIT_TEST_PER=1",
			"REDISLIMIT_TEST_BURST=1", "REDISLIMIT_TEST_CALLS=10")
	}, func() {
		eventually(t, func() error {
			if n := len(api.Exchanges()); n < 20 {
				return fmt.Errorf("only %d requests arrived", n)
			}
			return nil
		})
		s.kill()
		time.Sleep(3 * time.Second)
		s.start()
	})
	if want := (map[string]int{"sent": 200}); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A client that the token endpoint rejects is rejected once, and 50 machines know.
func TestARejectedClientIsRejectedOnce(t *testing.T) {
	s, api := startRedis(t), ovhtest.NewServer()
	defer api.Close()
	api.Inject(ovhtest.Fault{Path: "/auth/oauth2/token", Times: -1, Delay: 100 * time.Millisecond})
	id, secret := api.NewServiceAccount()
	began := time.Now()
	got := fleet(t, 50, func() *exec.Cmd {
		return machineProcess(t, "caller", s, api, id, secret+"x", "REDISLIMIT_TEST_REQUESTS=1000", "REDISLIMIT_TEST_PER=1",
			"REDISLIMIT_TEST_BURST=1000", "REDISLIMIT_TEST_CALLS=1")
	}, func() {})
	took, asked := time.Since(began), tokensAsked(api)
	t.Logf("50 processes took %s, the token endpoint was asked %d times", took, asked)
	// It may be asked again after each 5 s, on a machine that takes so long to start them all.
	if most := 1 + int(took/(5*time.Second)); asked > most {
		t.Errorf("the token endpoint was asked %d times in %s, want %d", asked, took, most)
	}
	failed := 0
	for line, n := range got {
		if !strings.Contains(line, "invalid_client_credentials") || strings.Contains(line, secret) || strings.Contains(line, id) {
			t.Errorf("%q, want the token endpoint's code and no secret", line)
		}
		failed += n
	}
	if failed != 50 {
		t.Errorf("%d calls failed, want 50", failed)
	}
}

// beHolder takes the lock to ask for a token, prints a line when it has it, and never gets the token.
func beHolder() {
	cache := cacheOfProcess()
	cache.Provider = ovhauth.CredentialFunc(func(context.Context) (ovhauth.Credentials, error) {
		fmt.Println("asking")
		select {}
	})
	cache.Retrieve(context.Background())
}

// A machine that is killed while it asks for a token holds the others up for ten seconds at most; while it lives, it may take longer.
func TestAKilledMachineHoldsNobodyUp(t *testing.T) {
	s, api := startRedis(t), ovhtest.NewServer()
	defer api.Close()
	holder := machineProcess(t, "holder", s, api, "id", "hunter2-secret")
	out, err := holder.StdoutPipe()
	if err == nil {
		err = holder.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	bufio.NewReader(out).ReadString('\n')
	provider := &source{}
	other := machine(s.client(), provider)
	other.Name = "fleet"
	ctx, cancel := context.WithTimeout(t.Context(), redislimit.LockLife+2*time.Second)
	defer cancel()
	if _, err := other.Retrieve(ctx); err == nil {
		t.Errorf("the lock of a machine that lives was over within %s", redislimit.LockLife+2*time.Second)
	}
	holder.Process.Kill()
	holder.Wait()
	killed := time.Now()
	retrieve(t, other, "hunter2-1")
	if took := time.Since(killed); took > 10*time.Second {
		t.Errorf("it took %s, want 10 s at most", took)
	} else {
		t.Logf("it took %s", took)
	}
}
