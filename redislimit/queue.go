package redislimit

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// queue holds the callers that wait on one machine. While there are any, one goroutine asks Redis for all of them. The zero value
// is ready.
type queue struct {
	mu      sync.Mutex
	running bool
	wake    chan struct{}

	waiting []*waiter // in the order in which they came: waiting[i] has tickets[i], and those behind have no ticket yet
	tickets []int64   // sorted; if a waiter leaves, all behind it move up by one ticket, and the last ticket is given back
	back    []int64   // tickets to be given back

	schedule schedule
	asked    time.Time     // when the schedule arrived
	took     time.Duration // the latest round trip

	err   error     // what is wrong with Redis; nil for nothing
	since time.Time // when that began
	retry time.Time
}

type waiter struct {
	deadline time.Time // zero for none
	since    time.Time
	done     chan error // of size one
}

// jump is more than the network's delays can make Redis's clock seem to go forward. If it is more, the clock was set.
const jump = 10 * time.Second

// current is the age up to which a schedule decides that it is somebody's turn. If it is older, Redis is asked again first.
const current = 10 * time.Millisecond

func (q *queue) wait(ctx context.Context, l Limiter) error {
	w := &waiter{since: time.Now(), done: make(chan error, 1)}
	w.deadline, _ = ctx.Deadline()
	q.join(w, l)
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return q.leave(w, ctx.Err())
	}
}

func (q *queue) join(w *waiter, l Limiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, w)
	q.start(l)
}

// start wakes the goroutine, and starts it if there is none. The caller holds q.mu.
func (q *queue) start(l Limiter) {
	if !q.running {
		q.running, q.wake = true, make(chan struct{}, 1)
		go q.run(l, q.wake)
	}
	q.nudge()
}

func (q *queue) nudge() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// leave removes a waiter whose context has ended.
func (q *queue) leave(w *waiter, ended error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.waiting, w); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.trim()
		q.nudge()
	}
	if q.err != nil {
		return fmt.Errorf("%w (%w)", q.err, ended)
	}
	return ended
}

// trim gives back the tickets that have no waiter. The caller holds q.mu.
func (q *queue) trim() {
	if n := len(q.waiting); n < len(q.tickets) {
		q.back = append(q.back, q.tickets[n:]...)
		q.tickets = q.tickets[:n]
	}
}

func (q *queue) run(l Limiter, wake <-chan struct{}) {
	for {
		q.mu.Lock()
		q.admit()
		if len(q.waiting) == 0 && len(q.back) == 0 {
			q.running = false
			q.mu.Unlock()
			return
		}
		sleep := time.Until(q.next())
		if sleep > 0 {
			q.mu.Unlock()
			timer := time.NewTimer(sleep)
			select {
			case <-timer.C:
			case <-wake:
			}
			timer.Stop()
			continue
		}
		fresh, patience := q.fresh()
		gen, back := q.schedule.gen, q.back
		q.back = nil
		q.mu.Unlock()

		began := time.Now()
		schedule, booked, err := l.book(context.Background(), gen, back, patience)

		q.mu.Lock()
		if err != nil {
			q.failed(err, began, l)
		} else {
			q.took = time.Since(began)
			q.learn(schedule, l)
			q.err = nil
			if schedule.gen == q.schedule.gen {
				q.booked(fresh, booked, l)
			}
		}
		q.mu.Unlock()
	}
}

// admit ends the wait of those whose turn it is, if the schedule is current. The caller holds q.mu.
func (q *queue) admit() {
	now := time.Now()
	if now.Sub(q.asked) > current {
		return
	}
	for len(q.tickets) > 0 && !q.schedule.turn(q.tickets[0]).After(now) {
		q.waiting[0].done <- nil
		q.waiting, q.tickets = slices.Delete(q.waiting, 0, 1), q.tickets[1:]
	}
}

// next returns when to ask Redis. The caller holds q.mu.
func (q *queue) next() time.Time {
	switch {
	case q.err != nil:
		return q.retry
	case len(q.waiting) > len(q.tickets) || len(q.back) > 0:
		return time.Time{}
	}
	at := q.schedule.turn(q.tickets[0])
	if again := q.asked.Add(q.schedule.again); q.schedule.again > 0 && again.Before(at) {
		return again
	}
	return at
}

// fresh returns those without a ticket, and how many µs each can wait. The caller holds q.mu.
func (q *queue) fresh() (fresh []*waiter, patience []int64) {
	fresh = slices.Clone(q.waiting[len(q.tickets):])
	for _, w := range fresh {
		left := int64(math.MaxInt64 / 1_000_000)
		if !w.deadline.IsZero() {
			left = max(0, time.Until(w.deadline)-q.margin()).Microseconds()
		}
		patience = append(patience, left)
	}
	return fresh, patience
}

// margin is the time that a caller needs between its turn and its deadline: Redis is asked once more when the turn comes.
func (q *queue) margin() time.Duration { return 2*q.took + 5*time.Millisecond }

// booked gives the waiters in fresh what Redis has booked for them, one each. The caller holds q.mu.
func (q *queue) booked(fresh []*waiter, booked []int64, l Limiter) {
	for i, k := range booked {
		if k >= 0 {
			q.tickets = append(q.tickets, k)
		} else {
			q.turnAway(fresh[i], time.Duration(-k-1)*time.Microsecond, l)
		}
	}
	slices.Sort(q.tickets)
	q.trim()
}

func (q *queue) turnAway(w *waiter, wait time.Duration, l Limiter) {
	if i := slices.Index(q.waiting, w); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		w.done <- &tooLate{l.Key, wait}
	}
}

// learn takes over a schedule. The caller holds q.mu.
func (q *queue) learn(s schedule, l Limiter) {
	old := q.schedule
	if s.now < old.now && s.sent.Before(q.asked) {
		return // two commands at once, and the response to the earlier one came last. Otherwise Redis's clock was set back
	}
	jumped := time.Duration(s.now-old.now)*time.Microsecond-time.Since(q.asked) > jump // and turned all tickets into past ones
	q.schedule, q.asked = s, time.Now()
	switch {
	case len(q.tickets) == 0:
	case s.gen != old.gen, jumped:
		q.tickets = nil // Redis has forgotten them; they are booked anew, in the same order
	case s.lesson == old.lesson && q.err == nil:
		// Without a new lesson turns never become later. If they seem to, the network was slow or Redis's clock was set back:
		// the earlier time is the right one.
		if late := s.turn(q.tickets[0]).Sub(old.turn(q.tickets[0])); late > 0 {
			q.schedule.at = s.at.Add(-late)
		}
	default:
		// Tickets that were due when a 429 came are void, and so are those that were due during an outage: all of them would be used
		// at once now. Their waiters take the next ones, and the last waiters book again.
		q.tickets = slices.DeleteFunc(q.tickets, func(k int64) bool { return k < s.from || q.err != nil && s.turn(k).Before(s.sent) })
		for i, w := range slices.Backward(q.waiting[:len(q.tickets)]) {
			if at := s.turn(q.tickets[i]); !w.deadline.IsZero() && at.Add(q.margin()).After(w.deadline) {
				q.turnAway(w, max(0, time.Until(at)), l)
			}
		}
		q.trim()
	}
}

// failed returns err to the waiters that cannot wait until Redis is back. The caller holds q.mu.
func (q *queue) failed(err error, began time.Time, l Limiter) {
	now := time.Now()
	if q.err == nil {
		q.since = began
	}
	q.err = err
	q.retry = now.Add(rand.N(min(250*time.Millisecond, 20*time.Millisecond+now.Sub(q.since))))
	forbidden := isForbidden(err)
	for i, w := range slices.Backward(q.waiting) {
		if i < len(q.tickets) && q.schedule.turn(q.tickets[i]).After(now) {
			continue // its turn is still to come, and Redis may be back by then
		}
		held := w.since
		if i < len(q.tickets) {
			held = q.since
		}
		if forbidden || w.deadline.IsZero() && now.Sub(held) >= timeoutOf(l.Timeout) {
			if i < len(q.tickets) { // its turn is over; those behind keep theirs
				q.tickets = slices.Delete(q.tickets, i, i+1)
			}
			q.waiting = slices.Delete(q.waiting, i, i+1)
			w.done <- err
		}
	}
}

// throttled reports a 429 to Redis, even if ctx ends meanwhile.
func (q *queue) throttled(ctx context.Context, l Limiter, retryAfter time.Duration) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s, err := l.teach(context.WithoutCancel(ctx), retryAfter)
		if err != nil {
			return
		}
		q.mu.Lock()
		defer q.mu.Unlock()
		q.learn(s, l)
		if q.running {
			q.nudge()
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
