package redislimit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Those who wait behind one that fails fail with it, unless the failure is that one's own.
func TestQueue(t *testing.T) {
	broken := errors.New("broken")
	for _, test := range []struct{ err, want error }{
		{nil, nil},
		{broken, broken},
		{&tooLate{"k", 1}, nil},
		{context.Canceled, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			var q queue
			busy := make(chan struct{})
			go func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				q.do(ctx, func() error {
					close(busy)
					time.Sleep(time.Second)
					if test.err == context.Canceled {
						cancel()
					}
					return test.err
				})
			}()
			<-busy
			asked := 0
			behind := func() error { return q.do(t.Context(), func() error { asked++; return nil }) }
			if err := behind(); err != test.want || (asked == 0) != (test.want != nil) {
				t.Errorf("behind %v: %v, asked %d times", test.err, err, asked)
			}
			if err := behind(); err != nil {
				t.Errorf("later: %v", err)
			}
		})
	}
}
