package redislimit

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

// bubble runs a test in virtual time, and lets what is still under way in the background come to its end.
func bubble(t *testing.T, test func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		test(t)
		time.Sleep(24 * time.Hour)
	})
}

// turns lets some goroutines of each Limiter wait for their turn again and again, and returns when each of its turns was.
func turns(limiters []*Limiter, goroutines int, during time.Duration) [][]time.Time {
	ctx, cancel := context.WithTimeout(context.Background(), during)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	at := make([][]time.Time, len(limiters))
	for i, l := range limiters {
		for range goroutines {
			wg.Go(func() {
				for l.Wait(ctx) == nil {
					mu.Lock()
					at[i] = append(at[i], time.Now().Truncate(time.Microsecond)) // which is what Redis's clock says
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	return at
}

// most returns how many of the times fall into the fullest half-open window of this length.
func most(at []time.Time, window time.Duration) (n int) {
	slices.SortFunc(at, time.Time.Compare)
	for first, i := 0, 0; i < len(at); i++ {
		for at[i].Sub(at[first]) >= window {
			first++
		}
		n = max(n, i-first+1)
	}
	return n
}

func TestNoWindowHasMoreTurnsThanItsLimit(t *testing.T) {
	for _, test := range []struct {
		requests, burst int
		per             time.Duration
		pods            int
	}{
		{60, 0, time.Minute, 20},
		{60, 1, 0, 1},
		{60, 10, time.Minute, 20},
		{7, 0, time.Minute, 3},
		{7, 7, time.Second, 3},
		{200, 0, time.Second, 50},
		{199, 50, time.Second, 50},
		{1, 0, 3 * time.Second, 2},
	} {
		t.Run(fmt.Sprintf("%d in %s, burst %d", test.requests, test.per, test.burst), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := newLuaServer()
				var pods []*Limiter
				for range test.pods {
					pods = append(pods, &Limiter{Redis: server.client(0), Key: "k", Requests: test.requests, Per: test.per, Burst: test.burst})
				}
				per, burst := pods[0].Per, max(1, test.burst)
				if per == 0 {
					per = time.Minute
				}
				var all []time.Time
				for round := range 3 { // with a pause between, after which a burst is allowed
					during := time.Duration(2+round) * per
					got := slices.Concat(turns(pods, 4, during)...)
					if want := 0.97 * float64(test.requests) * float64(during) / float64(per); float64(len(got)) < want {
						t.Errorf("round %d: %d turns in %s, want 97 %% of the limit: %.0f", round, len(got), during, want)
					}
					all = append(all, got...)
					time.Sleep(rand.N(2 * per).Truncate(time.Microsecond)) // Redis's clock has no more
				}
				if got, want := most(all, per), test.requests+burst-1; got > want {
					t.Errorf("%d turns in one %s, want at most %d", got, per, want)
				}
			})
		})
	}
}

// A wait of days is not taken for damage.
func TestAQuotaOfDaysIsKept(t *testing.T) {
	for _, test := range []struct {
		name  string
		given Limiter
		use   func(ctx context.Context, l *Limiter) error
	}{
		{"one in three days", Limiter{Requests: 1, Per: 72 * time.Hour}, func(ctx context.Context, l *Limiter) error { return l.Wait(ctx) }},
		{"one in three days, learned", Limiter{Requests: 1, Per: 72 * time.Hour}, func(ctx context.Context, l *Limiter) error {
			l.Throttled(ctx, 0)
			err := l.Wait(ctx)
			time.Sleep(80 * time.Hour)
			return errors.Join(err, l.Wait(ctx))
		}},
		{"Retry-After of three days", Limiter{}, func(ctx context.Context, l *Limiter) error { l.Throttled(ctx, 72*time.Hour); return nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := &test.given
				l.Redis, l.Key = newLuaServer().client(time.Millisecond), "k"
				if err := test.use(t.Context(), l); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 12*time.Hour)
				defer cancel()
				if err := l.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
					t.Errorf("%v, want context.DeadlineExceeded at once, as the turn is after the deadline of 12 hours", err)
				}
			})
		})
	}
}

func TestPodsFartherFromRedisGetTheirShare(t *testing.T) {
	for _, requests := range []int{10, 100, 2000} {
		t.Run(fmt.Sprint(requests, " a second"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := newLuaServer()
				var pods []*Limiter
				for i := range 50 {
					latency := 200 * time.Microsecond
					if i < 5 {
						latency += 2 * time.Millisecond
					}
					pods = append(pods, &Limiter{Redis: server.client(latency), Key: "k", Requests: requests, Per: time.Second})
				}
				at := turns(pods, 4, time.Duration(max(1, 2000/requests))*time.Second) // 10 each, if all are equal
				far, all := len(slices.Concat(at[:5]...)), len(slices.Concat(at...))
				if share := float64(far) / float64(all) * 10; share < 0.8 {
					t.Errorf("5 of 50 pods that are 2 ms farther got %d of %d turns, %.0f %% of their share; want 80 %%", far, all, 100*share)
				}
			})
		})
	}
}

func TestATurnTakesFewRoundTrips(t *testing.T) {
	for _, test := range []struct {
		pods, goroutines, requests int
		most                       float64
	}{
		{200, 1, 100, 3},
		{200, 4, 100, 3},
		{50, 1, 1000, 3},
		{1, 64, 5000, 1}, // all of one machine ask together
	} {
		t.Run(fmt.Sprintf("%d pods × %d, %d a second", test.pods, test.goroutines, test.requests), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				server := newLuaServer()
				var pods []*Limiter
				for range test.pods {
					pods = append(pods, &Limiter{Redis: server.client(time.Millisecond), Key: "k", Requests: test.requests, Per: time.Second})
				}
				during := time.Duration(max(1, 1000/test.requests)) * time.Second
				n := len(slices.Concat(turns(pods, test.goroutines, during)...))
				if got := float64(server.asked.Load()) / float64(n); got > test.most || float64(n) < 0.97*during.Seconds()*float64(test.requests) {
					t.Errorf("%d turns, %.2f round trips each; want at most %.0f, and 97 %% of the limit in %s", n, got, test.most, during)
				}
			})
		})
	}
	t.Run("below the limit", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			server := newLuaServer()
			l := &Limiter{Redis: server.client(time.Millisecond), Key: "k", Requests: 10, Per: time.Second}
			for range 100 {
				if err := l.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(100 * time.Millisecond)
			}
			if server.asked.Load() != 100 {
				t.Errorf("%d round trips for 100 turns, want 100", server.asked.Load())
			}
		})
	})
}

// queueUp lets n callers wait, one after the other, and reports each one's turn.
func queueUp(ctx context.Context, l *Limiter, n int, turn func(i int, err error)) {
	for i := range n {
		go func() { turn(i, l.Wait(ctx)) }()
		time.Sleep(time.Millisecond)
	}
}

func TestTurnsComeInTheOrderOfAsking(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		near := &Limiter{Redis: server.client(0), Key: "k", Requests: 1, Per: time.Second}
		far := &Limiter{Redis: server.client(4 * time.Millisecond), Key: "k", Requests: 1, Per: time.Second}
		var mu sync.Mutex
		var got []int
		for i := range 10 {
			go func() {
				if err := []*Limiter{near, far}[i%2].Wait(t.Context()); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, i)
			}()
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(got, want) {
			t.Errorf("turns in the order %v, want %v", got, want)
		}
	})
}

func TestWhoCannotBeServedInTimeIsToldAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		var pods []*Limiter
		for range 50 {
			pods = append(pods, &Limiter{Redis: server.client(time.Millisecond), Key: "quota", Requests: 60})
		}
		go turns(pods, 4, 20*time.Minute) // 200 wait, that is for 200 s
		time.Sleep(10 * time.Minute)
		for _, left := range []time.Duration{time.Second, 30 * time.Second, 190 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), left)
			began := time.Now()
			err := pods[7].Wait(ctx)
			cancel()
			if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnavailable) || took > 10*time.Millisecond ||
				!strings.HasPrefix(err.Error(), `redislimit: the next free turn of quota "quota" is in `) {
				t.Errorf("%v after %s; want an error that says when the next turn is, and matches context.DeadlineExceeded, at once", err, took)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 210*time.Second)
		defer cancel()
		if err := pods[7].Wait(ctx); err != nil {
			t.Errorf("with a deadline behind its turn: %v, want none", err)
		}
		time.Sleep(2 * time.Hour)
	})
}

// A caller asks Redis once more when its turn comes, and needs the time for that before its deadline.
func TestATurnNeedsAMargin(t *testing.T) {
	for _, test := range []struct {
		turn, deadline time.Duration
		want           error
	}{
		{time.Second, time.Second + 8*time.Millisecond, context.DeadlineExceeded}, // a round trip takes 10 ms
		{time.Second, time.Second + 40*time.Millisecond, nil},
		{0, 12 * time.Millisecond, nil}, // it is sure as soon as Redis responds
	} {
		bubble(t, func(t *testing.T) {
			l := &Limiter{Redis: newLuaServer().client(10 * time.Millisecond), Key: "k", Requests: 1, Per: 5 * time.Second}
			if err := l.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(l.Per - test.turn - 5*time.Millisecond) // of which half a round trip has passed
			ctx, cancel := context.WithTimeout(t.Context(), test.deadline)
			defer cancel()
			began := time.Now()
			err := l.Wait(ctx)
			took := time.Since(began)
			if !errors.Is(err, test.want) || test.want != nil && took > 10*time.Millisecond {
				t.Errorf("a turn in %s, a deadline in %s: %v after %s, want %v, at once if it is an error", test.turn, test.deadline, err, took, test.want)
			}
		})
	}
}

func TestATurnThatIsGivenUpGoesToAnother(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		one := &Limiter{Redis: server.client(time.Millisecond), Key: "k", Requests: 1, Per: time.Second}
		two := &Limiter{Redis: server.client(time.Millisecond), Key: "k", Requests: 1, Per: time.Second}
		began := time.Now()
		got := make(map[string]time.Duration)
		var mu sync.Mutex
		note := func(name string, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				got[name+": "+err.Error()] = 0
				return
			}
			got[name] = time.Since(began).Round(100 * time.Millisecond)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go queueUp(t.Context(), one, 2, func(i int, err error) { note(fmt.Sprint("early ", i), err) }) // now, 1 s
		time.Sleep(10 * time.Millisecond)
		go queueUp(ctx, one, 3, func(i int, err error) { note("gone", err) }) // 2 s, 3 s, 4 s
		time.Sleep(10 * time.Millisecond)
		go queueUp(t.Context(), one, 2, func(i int, err error) { note(fmt.Sprint("late ", i), err) }) // 5 s, 6 s
		time.Sleep(10 * time.Millisecond)
		cancel()
		time.Sleep(10 * time.Millisecond)
		go queueUp(t.Context(), two, 2, func(i int, err error) { note(fmt.Sprint("other ", i), err) })
		time.Sleep(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		want := map[string]time.Duration{
			"early 0": 0, "early 1": time.Second, "gone: context canceled": 0,
			"late 0": 2 * time.Second, "late 1": 3 * time.Second, // moved up
			"other 0": 4 * time.Second, "other 1": 5 * time.Second, // what they had before
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("turns %v\nwant  %v", got, want)
		}
	})
}

// A turn that comes back from another machine goes to the one here who has waited longest.
func TestATurnThatComesBackMovesAllUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		one := &Limiter{Redis: server.client(time.Millisecond), Key: "k", Requests: 1, Per: time.Second}
		two := &Limiter{Redis: server.client(time.Millisecond), Key: "k", Requests: 1, Per: time.Second}
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		go queueUp(ctx, two, 2, func(int, error) {}) // now, 1 s
		time.Sleep(10 * time.Millisecond)
		got := make(chan string, 3)
		note := func(i int, err error) {
			got <- fmt.Sprintf("%d after %s, %v", i, time.Since(began).Round(100*time.Millisecond), err)
		}
		go queueUp(t.Context(), one, 2, note) // 2 s, 3 s
		time.Sleep(10 * time.Millisecond)
		cancel()
		time.Sleep(10 * time.Millisecond)
		go queueUp(t.Context(), one, 1, func(_ int, err error) { note(2, err) }) // books 1 s
		for _, want := range []string{"0 after 1s, <nil>", "1 after 2s, <nil>", "2 after 3s, <nil>"} {
			if got := <-got; got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	})
}

// lateClient is a connection whose responses take longer on their way back.
type lateClient struct {
	*luaClient
	by atomic.Int64
}

func (c *lateClient) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	by := time.Duration(c.by.Load())
	defer time.Sleep(by)
	return c.luaClient.Eval(ctx, script, keys, args...)
}

// What Redis said before a 429 does not count if it arrives after what it said of the 429.
func TestAResponseThatIsOvertakenIsOld(t *testing.T) {
	bubble(t, func(t *testing.T) {
		client := &lateClient{luaClient: newLuaServer().client(0)}
		l := &Limiter{Redis: client, Key: "k", Requests: 10, Per: time.Second}
		began := time.Now()
		got := make(chan time.Duration, 3)
		wait := func() {
			if err := l.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			got <- time.Since(began)
		}
		wait()
		go wait() // in 100 ms
		time.Sleep(95 * time.Millisecond)
		client.by.Store(int64(20 * time.Millisecond))
		go wait() // in 200 ms
		time.Sleep(time.Millisecond)
		client.by.Store(0)
		l.Throttled(t.Context(), 5*time.Second)
		<-got
		if first := <-got; first < 5*time.Second {
			t.Errorf("a turn after %s, want none before the hold of 5 s is over", first)
		}
		<-got
	})
}

// Tickets of a state that has been lost meanwhile do not count either.
func TestATicketOfALostStateIsBookedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		client := &lateClient{luaClient: server.client(0)}
		l := &Limiter{Redis: client, Key: "k", Requests: 60}
		queueUp(t.Context(), l, 4, func(int, error) {}) // 0 s to 3 s
		time.Sleep(2500 * time.Millisecond)
		client.by.Store(int64(20 * time.Millisecond))
		done := make(chan time.Duration)
		began := time.Now()
		go func() {
			if err := l.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			done <- time.Since(began)
		}()
		time.Sleep(time.Millisecond)
		server.change(func() { clear(server.values) })
		client.by.Store(0)
		l.Throttled(t.Context(), time.Second)
		if took := <-done; took > 2500*time.Millisecond {
			t.Errorf("a turn after %s, want the second one after the hold of a second", took)
		}
	})
}

// Throttled waits for Redis until its context ends, or for Timeout.
func TestThrottledDoesNotWaitForever(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := &Limiter{Redis: newLuaServer().client(time.Minute), Key: "k"}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		for _, test := range []struct {
			ctx  context.Context
			want time.Duration
		}{{ctx, 100 * time.Millisecond}, {t.Context(), defaultTimeout}} {
			began := time.Now()
			l.Throttled(test.ctx, time.Second)
			if took := time.Since(began); took != test.want {
				t.Errorf("it took %s, want %s", took, test.want)
			}
		}
	})
}

func TestManyWhoGiveUpWasteNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		var pods []*Limiter
		for range 10 {
			pods = append(pods, &Limiter{Redis: server.client(time.Millisecond), Key: "k", Requests: 10, Per: time.Second})
		}
		stop, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var impatient sync.WaitGroup
		var theirs atomic.Int64
		for _, l := range pods {
			for range 4 {
				impatient.Go(func() {
					for stop.Err() == nil {
						// Not with stop's deadline: towards it, every call would be an error at once, thousands of times.
						ctx, cancel := context.WithCancel(t.Context())
						time.AfterFunc(rand.N(time.Second), cancel)
						if l.Wait(ctx) == nil && stop.Err() == nil {
							theirs.Add(1)
						}
						cancel()
					}
				})
			}
		}
		n := len(slices.Concat(turns(pods, 4, 20*time.Second)...))
		impatient.Wait()
		if all := n + int(theirs.Load()); all < 97*200/100 {
			t.Errorf("%d turns in 20 s, want 97 %% of 200", all)
		}
	})
}

func TestA429MovesTheTurnsThatAreHandedOut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		var pods []*Limiter
		for range 5 {
			pods = append(pods, &Limiter{Redis: server.client(time.Millisecond), Key: "k", Requests: 10, Per: time.Second})
		}
		var at [][]time.Time
		done := make(chan struct{})
		began := time.Now()
		go func() { at = turns(pods, 4, 30*time.Second); close(done) }()
		time.Sleep(2 * time.Second)
		pods[0].Throttled(t.Context(), 5*time.Second)
		told := time.Since(began)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
		defer cancel()
		if err := pods[1].Wait(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > told+10*time.Millisecond {
			t.Errorf("a deadline within the hold: %v after %s, want context.DeadlineExceeded at once", err, time.Since(began)-told)
		}
		<-done
		var held, after int
		for _, turn := range slices.Concat(at...) {
			switch since := turn.Sub(began) - told; {
			case since > current && since < 5*time.Second-time.Millisecond: // half a round trip
				held++
			case since > 7*time.Second && since <= 27*time.Second:
				after++
			}
		}
		if held != 0 || after < 160 || after >= 200 {
			t.Errorf("%d turns within the hold, %d in 20 s behind it; want none, and somewhat less than the limit of 200", held, after)
		}
	})
}

// Whoever cannot wait for the end of the hold leaves at once, and another machine gets the turn at once.
func TestA429FreesTheTurnsOfThoseWhoCannotWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		one := &Limiter{Redis: server.client(time.Millisecond), Key: "k", Requests: 60}
		two := &Limiter{Redis: server.client(time.Millisecond), Key: "k", Requests: 60}
		go queueUp(t.Context(), one, 2, func(int, error) {}) // now, 1 s
		time.Sleep(10 * time.Millisecond)
		failed := make(chan error)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		go func() { failed <- one.Wait(ctx) }() // 2 s
		time.Sleep(10 * time.Millisecond)
		began := time.Now()
		one.Throttled(t.Context(), 10*time.Second)
		if err := <-failed; !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 2*time.Millisecond {
			t.Errorf("%v after %s, want context.DeadlineExceeded at once", err, time.Since(began))
		}
		time.Sleep(10 * time.Millisecond)
		if err := two.Wait(t.Context()); err != nil || time.Since(began) > 11500*time.Millisecond {
			t.Errorf("%v after %s, want the second turn after the hold, after 11 s", err, time.Since(began))
		}
	})
}

func TestTheRateComesBackToItsLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := &Limiter{Redis: newLuaServer().client(time.Millisecond), Key: "k", Requests: 10, Per: time.Second, Burst: 5}
		l.Throttled(t.Context(), time.Second)
		turns([]*Limiter{l}, 20, 5*time.Minute)
		if n := len(turns([]*Limiter{l}, 20, 10*time.Second)[0]); n < 97 || n > 101 {
			t.Errorf("%d turns in 10 s, five minutes after a 429; want the limit of 100", n)
		}
		time.Sleep(time.Second)
		began := time.Now()
		for range 5 {
			if err := l.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 10*time.Millisecond {
			t.Errorf("5 turns after a pause took %s, want them at once, as Burst says", took)
		}
	})
}

func TestNothingIsLimitedBeforeTheFirst429(t *testing.T) {
	bubble(t, func(t *testing.T) {
		server := newLuaServer()
		l := &Limiter{Redis: server.client(time.Millisecond), Key: "k"}
		for range 1000 {
			if err := l.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		var keys int
		server.change(func() { keys = len(server.values) })
		if took := server.asked.Load(); took != 1000 || keys != 0 {
			t.Errorf("%d round trips, %d keys; want one a request, and none", took, keys)
		}
		l.Throttled(t.Context(), 10*time.Second)
		began := time.Now()
		if err := l.Wait(t.Context()); err != nil || time.Since(began) < 10*time.Second {
			t.Errorf("%v after %s, want a turn after the Retry-After of 10 s", err, time.Since(began))
		}
		time.Sleep(11 * time.Minute) // and it is forgotten
		began = time.Now()
		for range 100 {
			if err := l.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took > 200*time.Millisecond {
			t.Errorf("100 requests after a pause of 11 minutes took %s, want no limit", took)
		}
	})
}
