//go:build linux

package redislimit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/ovhauth"
	"example.com/ovhauth/redislimit"
)

var _ ovhauth.Limiter = &redislimit.Limiter{}

// hurry is a context with a deadline, long before the next turn of a quota of one an hour.
func hurry(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// hourly is a quota that has no further turn while a test runs, once its burst is used.
func hourly(rdb redis.UniversalClient, key string, burst int) *redislimit.Limiter {
	return &redislimit.Limiter{Redis: rdb, Key: key, Requests: 1, Per: time.Hour, Burst: burst}
}

// takeAll takes turns until there are none, and returns how many there were.
func takeAll(t *testing.T, l *redislimit.Limiter) (n int) {
	t.Helper()
	for ; ; n++ {
		if err := l.Wait(hurry(t)); errors.Is(err, context.DeadlineExceeded) {
			return n
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestLimitersShareAQuota(t *testing.T) {
	rdb := startRedis(t).client()
	one, two, other := hourly(rdb, "quota", 5), hourly(rdb, "quota", 5), hourly(rdb, "other", 5)
	for range 3 {
		if err := one.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n, m := takeAll(t, two), takeAll(t, other); n != 2 || m != 5 {
		t.Errorf("after 3 of 5 there are %d left, and %d of another quota; want 2 and 5", n, m)
	}
	keys := must[[]string](t)(rdb.Keys(t.Context(), "*").Result())
	for _, key := range keys {
		if !strings.HasPrefix(key, "ovhauth:limit:") {
			t.Errorf("key %q, want one that begins with ovhauth:limit:", key)
		}
	}
}

// The script is the same as in virtual time; this shows that a real Redis runs it the same.
func TestARealRedisKeepsTheLimit(t *testing.T) {
	s := startRedis(t)
	var wg sync.WaitGroup
	start := time.Now()
	for range 5 {
		l := &redislimit.Limiter{Redis: s.client(), Key: "k", Requests: 100, Per: time.Second}
		for range 20 {
			wg.Go(func() {
				if err := l.Wait(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if took := time.Since(start); took < 989*time.Millisecond {
		t.Errorf("100 turns at 100 a second took %s, want 990 ms or more", took)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	l := hourly(startRedis(t).client(), "k", 1)
	takeAll(t, l)
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for range 3 {
		go func() { errs <- l.Wait(ctx) }()
	}
	cancel()
	for range 3 {
		if err := <-errs; err != context.Canceled {
			t.Errorf("%v, want context.Canceled", err)
		}
	}
}

// A 429 is news to the whole fleet, whatever becomes of the call that met it.
func TestThrottledOutlivesItsCaller(t *testing.T) {
	l := &redislimit.Limiter{Redis: startRedis(t).client(), Key: "k"}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	l.Throttled(ended, time.Hour)
	eventually(t, func() error {
		if err := l.Wait(hurry(t)); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%v, want context.DeadlineExceeded, as nothing is sent for an hour", err)
		}
		return nil
	})
}

// After FLUSHALL, SCRIPT FLUSH, a key of another type or a restart, those who wait get turns of the new quota, and no burst.
func TestDataIsLostOrDamaged(t *testing.T) {
	for _, test := range []struct {
		name   string
		damage func(s *server, rdb *redis.Client) error
	}{
		{"FLUSHALL", func(s *server, rdb *redis.Client) error { return rdb.FlushAll(context.Background()).Err() }},
		{"SCRIPT FLUSH", func(s *server, rdb *redis.Client) error { return rdb.ScriptFlush(context.Background()).Err() }},
		{"restart", func(s *server, _ *redis.Client) error { s.kill(); s.start(); return nil }},
		{"list", func(_ *server, rdb *redis.Client) error {
			rdb.Del(context.Background(), "ovhauth:limit:k")
			return rdb.RPush(context.Background(), "ovhauth:limit:k", "x").Err()
		}},
		{"hash", func(_ *server, rdb *redis.Client) error {
			rdb.Del(context.Background(), "ovhauth:limit:k")
			return rdb.HSet(context.Background(), "ovhauth:limit:k", "x", "y").Err()
		}},
		{"text", func(_ *server, rdb *redis.Client) error {
			return rdb.Set(context.Background(), "ovhauth:limit:k", "nonsense", 0).Err()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			rdb := s.client()
			l := &redislimit.Limiter{Redis: rdb, Key: "k", Requests: 20, Per: time.Second}
			var got atomic.Int64
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var wg sync.WaitGroup
			began := time.Now()
			for range 40 {
				wg.Go(func() {
					if err := l.Wait(ctx); err != nil {
						t.Error(err)
					}
					got.Add(1)
				})
			}
			for got.Load() < 10 {
				time.Sleep(time.Millisecond)
			}
			if err := test.damage(s, rdb); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
			if took := time.Since(began); took < 1850*time.Millisecond || took > 10*time.Second {
				t.Errorf("40 turns at 20 a second took %s, want about 1.95 s", took)
			}
		})
	}
}

// A Redis that takes connections and does not respond costs all who wait one Timeout, not one after the other each.
func TestRedisHangs(t *testing.T) {
	s := startRedis(t)
	var asked atomic.Int64
	slow := redis.NewClient(&redis.Options{Network: "unix", Addr: s.addr, ReadTimeout: time.Minute}) // and heeds no deadline
	defer slow.Close()
	slow.AddHook(counting(&asked))
	l := &redislimit.Limiter{Redis: slow, Key: "k", Requests: 1000, Per: time.Second, Burst: 1000, Timeout: time.Second}
	if err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	asked.Store(0)
	s.hang()
	defer s.resume()
	errs := make(chan error)
	for range 20 {
		go func() { errs <- l.Wait(t.Context()) }()
	}
	for range 20 {
		if err := <-errs; !errors.Is(err, redislimit.ErrUnavailable) || !strings.Contains(err.Error(), "no response within 1s") {
			t.Errorf("%v, want ErrUnavailable that says for how long", err)
		}
	}
	if n := asked.Load(); n > 10 { // one, unless some came after the second was over
		t.Errorf("Redis was asked %d times, want all to ask together", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { errs <- l.Wait(ctx) }()
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("canceled meanwhile: %v, want context.Canceled", err)
	}
}

func TestRealTroubleIsNamed(t *testing.T) {
	for _, test := range []struct {
		name, want string
		args       []string
		client     func(s *server) *redis.Client
	}{
		{"out of memory", "out of memory", []string{"--maxmemory", "1", "--maxmemory-policy", "noeviction"}, (*server).client},
		{"read-only", "read-only", []string{"--replicaof", "127.0.0.1 1"}, (*server).client},
		{"no password", "password", []string{"--requirepass", "x"}, (*server).client},
		{"no permission for EVAL", "permission", []string{"--user", "default", "on", "nopass", "~*", "+@all", "-eval"}, (*server).client},
		{"no permission for SET", "permission", []string{"--user", "default", "on", "nopass", "~*", "+@all", "-set"}, (*server).client},
		{"no permission for the key", "permission", []string{"--user", "default", "on", "nopass", "~x", "+@all"}, (*server).client},
		{"unreachable", "unreachable", nil, func(s *server) *redis.Client { s.kill(); return s.client() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := hourly(test.client(startRedis(t, test.args...)), "k", 1)
			l.Timeout = time.Second
			if err := l.Wait(t.Context()); !errors.Is(err, redislimit.ErrUnavailable) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want ErrUnavailable that says %q", err, test.want)
			} else {
				t.Log(err)
			}
		})
	}
}

// minimalACL is what the package's documentation says is enough.
func minimalACL(t *testing.T) []string {
	t.Helper()
	source := must[[]byte](t)(os.ReadFile("redislimit.go"))
	_, acl, found := strings.Cut(string(source), "ACL SETUSER ovhauth ")
	acl, _, _ = strings.Cut(acl, "\n")
	if !found {
		t.Fatal("the package's documentation has no ACL")
	}
	return strings.Fields(acl)
}

func TestTheMinimalACLIsEnough(t *testing.T) {
	s := startRedis(t)
	args := []any{"ACL", "SETUSER", "ovhauth"}
	for _, word := range minimalACL(t) {
		args = append(args, word)
	}
	if err := s.client().Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	var denied []string
	limited := redis.NewClient(&redis.Options{Network: "unix", Addr: s.addr, Username: "ovhauth", Password: "password"})
	defer limited.Close()
	useAll(t, limited)
	log := must[[]*redis.ACLLogEntry](t)(s.client().ACLLog(t.Context(), 100).Result())
	for _, entry := range log {
		if !strings.HasPrefix(entry.Object, "client") { // go-redis introduces itself, and can do without
			denied = append(denied, entry.Reason+" "+entry.Object)
		}
	}
	if denied != nil {
		t.Errorf("denied: %q, want nothing", denied)
	}
}

// useAll has a Limiter and a TokenCache do all they can.
func useAll(t *testing.T, rdb redis.UniversalClient) {
	t.Helper()
	l := &redislimit.Limiter{Redis: rdb, Key: "all", Requests: 1000}
	for range 2 {
		if err := l.Wait(hurry(t)); err != nil {
			t.Fatal(err)
		}
	}
	learned := &redislimit.Limiter{Redis: rdb, Key: "learned"}
	learned.Throttled(t.Context(), time.Millisecond)
	if err := learned.Wait(hurry(t)); err != nil {
		t.Fatal(err)
	}
	provider := &source{}
	c := machine(rdb, provider)
	retrieve(t, c, "hunter2-1")
	retrieve(t, machine(rdb, provider), "hunter2-1")
	c.Invalidate(ovhauth.Credentials{AccessToken: "hunter2-1"})
	retrieve(t, c, "hunter2-2")
	retrieve(t, machine(rdb, provider), "hunter2-2")
}

// FIPS 140 forbids SHA-1, and a package that hashes its scripts panics when it is imported.
func TestWorksUnderFIPS(t *testing.T) {
	s := startRedis(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only", roleVariable+"=fips", "REDISLIMIT_TEST_REDIS="+s.addr)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "done\n" {
		t.Errorf("%v, %s; want done", err, out)
	}
}

func beFIPS() {
	rdb := connect(os.Getenv("REDISLIMIT_TEST_REDIS"))
	l := &redislimit.Limiter{Redis: rdb, Key: "k"}
	l.Throttled(context.Background(), time.Millisecond)
	c := machine(rdb, &source{})
	_, err := c.Retrieve(context.Background())
	if err = errors.Join(l.Wait(context.Background()), err); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("done")
}

func TestLimiterSaysWhatItNeeds(t *testing.T) {
	rdb := connect("nowhere")
	defer rdb.Close()
	for _, l := range []*redislimit.Limiter{
		{},
		{Key: "k", Requests: 1},
		{Redis: rdb, Requests: 1},
		{Redis: rdb, Key: "k", Requests: -1},
		{Redis: rdb, Key: "k", Per: -1},
		{Redis: rdb, Key: "k", Burst: -1},
	} {
		if err := l.Wait(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "redislimit: a Limiter") {
			t.Errorf("%+v: %v, want an error that says what it needs", *l, err)
		}
		l.Throttled(t.Context(), time.Second) // and does nothing
	}
}
