package ovhauth

import (
	"container/list"
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

// pace is how fast requests leave for one host. It learns from 429 responses alone: the rate at which the API granted requests
// between two of them. The zero value is ready; a pace is safe for concurrent use.
type pace struct {
	mu    sync.Mutex
	state paceState
	timer *time.Timer // runs the queue; there is one, however many wait

	again, fresh list.List // the queue, of *waiter: requests that were sent before go first

	// A lesson begins with each 429 that is news: one of a request that left after the last was learned.
	lesson  int
	heldAt  time.Time // when it began
	until   time.Time // held: when the next probe may leave
	back    time.Time // the earliest time at which the API may have had room again
	probes  int       // refused, of this lesson
	refused int       // all 429s of this lesson
	tooFast float64   // rate that was refused
	grew    bool      // it had grown beyond what is known

	// What is known of the API: the rate, for how long to keep it, and how slowly it grows then.
	rate        float64 // requests per second, 0 for unknown
	flat, scale time.Duration
	plateaus    int // refused in a row

	// A cycle goes from one granted probe to the next.
	since  time.Time     // when it began, zero for never
	grants int           // in it
	idle   time.Duration // of it, in which a request might have left and none was there
	next   time.Time     // paced: when a request may leave
	last   time.Time     // grant
}

type paceState int

const (
	free  paceState = iota // requests leave as they come
	held                   // after a 429 none leaves until the hold is over, and then one at a time, as a probe
	paced                  // after a granted probe they leave one by one, evenly
)

// outcome is what came of a request, as a pace sees it.
type outcome int

const (
	lost    outcome = iota // no response, or one that says nothing about the rate
	granted                // a response other than 429
	limited                // 429
)

// waiter is a request that waits for its turn.
type waiter struct {
	left     chan struct{} // closed when it has left the queue
	lesson   int           // under which it may be sent
	away     string        // the reason, if it may not
	expected time.Duration // the wait that it was turned away for
	deadline time.Time
	queue    *list.List
	place    *list.Element // nil: not in the queue
}

const (
	firstHold     = time.Second
	longestHold   = 30 * time.Second
	patience      = 10 * time.Minute
	deadAfter     = 30 * time.Minute
	probePatience = 10 * time.Second
)

// join puts a request in the queue, or turns it away. The wait is how long it is expected to take.
func (p *pace) join(deadline time.Time, again bool) (w *waiter, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	w = &waiter{left: make(chan struct{}), deadline: deadline, queue: &p.fresh}
	n := p.again.Len()
	if again {
		w.queue = &p.again
	} else {
		n += p.fresh.Len()
	}
	wait = p.expect(now, n)
	if w.away, w.expected = p.turnsAway(w, now, wait), wait; w.away != "" {
		close(w.left)
		return w, wait
	}
	w.place = w.queue.PushBack(w)
	p.run(now)
	return w, wait
}

// turnsAway returns why w should not wait, "" if it may.
func (p *pace) turnsAway(w *waiter, now time.Time, wait time.Duration) string {
	switch {
	case wait <= 0:
		return ""
	case !w.deadline.IsZero():
		if now.Add(wait).Before(w.deadline) {
			return ""
		}
		return ReasonDeadline
	case p.state != held:
		return ""
	case p.back.Sub(now) >= patience: // without the jitter: it is a second less than Retry-After
		return ReasonRetryAfter
	case !p.last.IsZero() && now.Sub(p.last) > deadAfter:
		return ReasonNothingGranted
	}
	return ""
}

// wait waits for w's turn.
func (p *pace) wait(ctx context.Context, w *waiter) error {
	select {
	case <-w.left:
		if ctx.Err() == nil {
			return nil
		}
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.place != nil {
		w.queue.Remove(w.place)
	} else if w.away == "" {
		p.missed(time.Now(), w.lesson)
	}
	return ctx.Err()
}

// report tells the pace what came of a request that was sent under lesson.
func (p *pace) report(lesson int, came outcome, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch came {
	case lost:
		p.missed(now, lesson)
	case granted:
		p.granted(now, lesson)
	case limited:
		p.throttled(now, lesson, after)
	}
}

// current
func (p *pace) isCurrent(lesson int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lesson == lesson
}

func (p *pace) isQuiet(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting() == 0 && (p.state != held || !now.Before(p.until))
}

func every(rate float64) time.Duration { return time.Duration(float64(time.Second) / rate) }

func (p *pace) now(now time.Time) float64 {
	t := now.Sub(p.since)
	if p.rate == 0 {
		return 4 * math.Exp2(min(t.Seconds(), 20))
	}
	if t <= p.flat {
		return p.rate
	}
	x := min((t-p.flat).Seconds()/p.scale.Seconds(), 100)
	return p.rate * (1 + 0.02*x*x*x)
}

func (p *pace) waiting() int { return p.again.Len() + p.fresh.Len() }

// run lets go whom it is time for.
func (p *pace) run(now time.Time) {
	if p.state == paced && p.waiting() <= 1 {
		if p.rate == 0 && now.Sub(p.since) > 90*time.Second || p.rate > 0 && p.now(now) >= 16*p.rate {
			p.state = free
			p.since = time.Time{}
		}
	}
	for p.waiting() > 0 {
		switch p.state {
		case held:
			if now.Before(p.until) {
				p.arm(p.until.Sub(now))
				return
			}
			p.idle += now.Sub(p.until)
			p.until = now.Add(probePatience)
		case paced:
			if p.next.After(now) {
				p.arm(p.next.Sub(now))
				return
			}
			if late := now.Sub(p.next); late > 20*time.Millisecond {
				p.idle += late
				p.next = now
			}
			p.next = p.next.Add(every(p.now(now)))
		}
		p.pop()
	}
}

func (p *pace) pop() {
	q := &p.again
	if q.Len() == 0 {
		q = &p.fresh
	}
	w := q.Remove(q.Front()).(*waiter)
	w.place, w.lesson = nil, p.lesson
	close(w.left)
}

// expect
func (p *pace) expect(now time.Time, n int) time.Duration {
	switch p.state {
	case held:
		wait := max(0, p.until.Sub(now))
		if p.rate > 0 {
			wait += time.Duration(float64(n) / p.rate * 1e9)
		}
		return wait
	case paced:
		return max(0, p.next.Sub(now)) + time.Duration(float64(n)/p.now(now)*1e9)
	}
	return 0
}

func (p *pace) throttled(now time.Time, lesson int, after time.Duration) {
	p.refused++
	if lesson != p.lesson {
		return
	}
	p.lesson++
	if p.state == held {
		p.probes++
	} else {
		p.probes = 0
		p.heldAt = now
		p.tooFast = p.now(now)
		p.grew = p.state == free || now.Sub(p.since) > p.flat
		if p.last.IsZero() {
			p.last = now
		}
	}
	p.state = held
	p.back = now
	after = min(after, 1<<62) // so that the jitter cannot overflow
	first := firstHold
	if p.rate > 0 {
		first = min(max(every(p.rate), 100*time.Millisecond), 15*time.Second)
	}
	hold := min(first<<min(p.probes, 20), time.Duration(30*1e9))
	if now.Sub(p.last) > time.Duration(3600*1e9) {
		hold = min(hold, time.Duration(10*1e9))
	}
	if after > 0 {
		p.back = now.Add(max(0, after-time.Second))
	}
	hold = max(hold, after)
	hold += rand.N(hold / 10)
	p.until = now.Add(hold)
	for _, q := range []*list.List{&p.again, &p.fresh} {
		for e := q.Front(); e != nil; {
			w := e.Value.(*waiter)
			e = e.Next()
			if w.away, w.expected = p.turnsAway(w, now, hold), hold; w.away != "" {
				q.Remove(w.place)
				w.place = nil
				close(w.left)
			}
		}
	}
	p.run(now)
}

func (p *pace) missed(now time.Time, lesson int) {
	if p.state == held && lesson == p.lesson {
		p.until = now
		p.run(now)
	}
}

func (p *pace) granted(now time.Time, lesson int) {
	p.last = now
	if p.state != held || lesson != p.lesson {
		p.grants++
		return
	}
	probed := p.until.Add(-probePatience)
	hold := probed.Sub(p.heldAt)
	gap := probed.Sub(p.back)
	if !p.since.IsZero() {
		p.learn(now, hold, gap)
	}
	p.since, p.next, p.idle, p.grants = now, now, 0, 1
	if p.rate > 0 {
		p.flat = min(max(hold, time.Duration(40*float64(p.refused)/p.rate*1e9), time.Duration(20*float64(min(gap, time.Second)))), time.Duration(600*1e9))
		p.scale = min(max(hold, time.Duration(0.5*float64(p.flat)), time.Second), time.Duration(60*1e9))
		p.next = now.Add(every(p.rate))
	}
	p.refused = 0
	p.state = paced
	p.run(now)
}

func (p *pace) learn(now time.Time, hold, gap time.Duration) {
	took := now.Sub(p.since) - p.idle
	low := float64(p.grants) / took.Seconds()
	high := float64(p.grants+1) / max(took-gap, took/10).Seconds()
	switch {
	case p.rate == 0:
		p.rate = float64(p.grants) / max(took-gap/2, took/10).Seconds()
		if hold < took/2 {
			p.rate = max(p.rate, p.tooFast*0.5)
		}
		p.plateaus = 0
	case !p.grew:
		p.plateaus++
		f := math.Pow(0.95, math.Exp2(min(float64(p.plateaus-1), 10)))
		p.rate = min(max(p.rate*f, low), high)
	case hold.Seconds() > took.Seconds()*0.25:
		p.plateaus = 0
		p.rate = (low + high) / 2
	default:
		p.plateaus = 0
		p.rate = max(p.rate+(p.tooFast-p.rate)*0.333, low)
	}
}

func (p *pace) arm(d time.Duration) {
	if p.timer == nil {
		p.timer = time.AfterFunc(d, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.run(time.Now())
		})
		return
	}
	p.timer.Reset(d)
}
