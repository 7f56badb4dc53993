package ovhauth

import (
	"context"
	"errors"
	"net/http/httptrace"
	"sync"
	"time"
)

// flightTimeout is what a call that nobody's context bounds may take.
const flightTimeout = 30 * time.Second

// flight makes one call for all who ask while it is under way. No caller's cancellation ends it for the others, each can leave
// when its own context ends, and when the last has left it is canceled, which singleflight cannot do. The zero value is ready.
type flight[T any] struct {
	mu  sync.Mutex
	now *flightCall[T]
}

type flightCall[T any] struct {
	waiting int
	cancel  context.CancelFunc
	done    chan struct{} // closed when value and err are there
	value   T
	err     error
	panic   any // what fn panicked with
}

func (f *flight[T]) do(ctx context.Context, fn func(context.Context) (T, error)) (T, error) {
	f.mu.Lock()
	c := f.now
	if c == nil {
		shared, cancel := context.WithTimeout(untraced{context.WithoutCancel(ctx)}, flightTimeout)
		c = &flightCall[T]{cancel: cancel, done: make(chan struct{})}
		f.now = c
		go func() {
			defer func() {
				c.panic = recover() // here it would end the process, whatever the callers recover
				f.mu.Lock()
				f.land(c)
				f.mu.Unlock()
				close(c.done)
			}()
			c.err = errors.New("ovhauth: the call that this request waited for ended without a result") // by runtime.Goexit
			c.value, c.err = fn(shared)
		}()
	}
	c.waiting++
	f.mu.Unlock()

	select {
	case <-c.done:
		if c.panic != nil {
			panic(c.panic)
		}
		return c.value, c.err
	case <-ctx.Done():
		f.mu.Lock()
		if c.waiting--; c.waiting == 0 {
			f.land(c)
		}
		f.mu.Unlock()
		var zero T
		return zero, ctx.Err()
	}
}

// land ends a call, so that the next to ask starts another. The caller holds f.mu.
func (f *flight[T]) land(c *flightCall[T]) {
	c.cancel()
	if f.now == c {
		f.now = nil
	}
}

// untraced is a context without its httptrace hooks: they follow one request, and the connections that a flight, a provider or a
// clock makes are not that one's.
type untraced struct{ context.Context }

func (u untraced) Value(key any) any {
	value := u.Context.Value(key)
	if _, hooks := value.(*httptrace.ClientTrace); hooks {
		return nil
	}
	return value
}
