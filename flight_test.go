package ovhauth

import (
	"context"
	"errors"
	"net/http/httptrace"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestFlightMakesOneCallForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[int]
		calls := 0
		fn := func(context.Context) (int, error) {
			calls++
			time.Sleep(time.Second)
			return calls, nil
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got, err := f.do(t.Context(), fn); got != 1 || err != nil {
					t.Errorf("got %d, %v, want 1", got, err)
				}
			})
		}
		wg.Wait()
		if got, _ := f.do(t.Context(), fn); got != 2 {
			t.Errorf("after landing: got the value of call %d", got)
		}
	})
}

func TestFlightHandsOutErrors(t *testing.T) {
	var f flight[int]
	cause := errors.New("x")
	if _, err := f.do(t.Context(), func(context.Context) (int, error) { return 0, cause }); err != cause {
		t.Errorf("got %v, want %v", err, cause)
	}
}

func TestFlightOutlivesACallerButNotAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[int]
		var ended error
		fn := func(ctx context.Context) (int, error) {
			select {
			case <-time.After(time.Minute):
			case <-ctx.Done():
				ended = ctx.Err()
			}
			return 1, ended
		}
		first, leaveFirst := context.WithCancel(t.Context())
		second, leaveSecond := context.WithCancel(t.Context())
		left := make(chan error, 2)
		go func() { _, err := f.do(first, fn); left <- err }()
		synctest.Wait()
		go func() { _, err := f.do(second, fn); left <- err }()
		synctest.Wait()

		leaveFirst() // the one that started it
		if err := <-left; err != context.Canceled {
			t.Errorf("the first got %v", err)
		}
		synctest.Wait()
		if ended != nil {
			t.Fatal("the first took the call with it")
		}
		leaveSecond()
		if err := <-left; err != context.Canceled {
			t.Errorf("the second got %v", err)
		}
		synctest.Wait()
		if ended != context.Canceled {
			t.Errorf("the call went on for nobody: %v", ended)
		}
		if got, err := f.do(t.Context(), func(context.Context) (int, error) { return 2, nil }); got != 2 || err != nil {
			t.Errorf("the next got %d, %v", got, err)
		}
	})
}

func TestFlightIsNotJoinedOnceAllHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[int]
		ctx, leave := context.WithCancel(t.Context())
		go f.do(ctx, func(context.Context) (int, error) {
			time.Sleep(time.Second) // heeds no context
			return 1, nil
		})
		synctest.Wait()
		leave()
		synctest.Wait()
		landed := make(chan int)
		go func() {
			got, _ := f.do(t.Context(), func(ctx context.Context) (int, error) {
				time.Sleep(2 * time.Second) // the first lands in the meantime
				return 2, ctx.Err()
			})
			landed <- got
		}()
		time.Sleep(1500 * time.Millisecond)
		if got, err := f.do(t.Context(), func(context.Context) (int, error) { return 3, nil }); got != 2 || err != nil {
			t.Errorf("got %d, %v; the second flight is still under way", got, err)
		}
		if got := <-landed; got != 2 {
			t.Errorf("got %d", got)
		}
	})
}

func TestFlightHasItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f flight[int]
		began := time.Now()
		_, err := f.do(context.Background(), func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		})
		if took := time.Since(began); err != context.DeadlineExceeded || took != 30*time.Second {
			t.Errorf("got %v after %s, want %v after 30 s", err, took, context.DeadlineExceeded)
		}
	})
}

// The hooks of one request must not see the connections of a flight: RetryTransport tells by them whether it was sent.
func TestFlightHasNoTrace(t *testing.T) {
	var f flight[int]
	type key struct{}
	ctx := context.WithValue(httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{}), key{}, "kept")
	f.do(ctx, func(ctx context.Context) (int, error) {
		if httptrace.ContextClientTrace(ctx) != nil {
			t.Error("the hooks are still there")
		}
		if ctx.Value(key{}) != "kept" {
			t.Error("other values are gone")
		}
		return 0, nil
	})
}

// What ends without a result is an error, not a nil one.
func TestFlightGoexit(t *testing.T) {
	var f flight[*int]
	if v, err := f.do(t.Context(), func(context.Context) (*int, error) { runtime.Goexit(); return nil, nil }); v != nil || err == nil {
		t.Errorf("got %v, %v, want no value and an error", v, err)
	}
}
