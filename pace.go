package ovhauth

import (
	"cmp"
	"container/list"
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"
)

type paceState int

const (
	free  paceState = iota // requests leave as they come; a 429 begins a hold
	held                   // none leaves until the hold is over, then one at a time, as a probe; a granted probe ends it
	paced                  // they leave one by one, at a rate that grows; a 429 begins a hold, a rate far beyond need sets free
)

// pace is how fast requests leave for one host, as 429 responses teach it. The zero value is ready, and safe for concurrent use.
type pace struct {
	mu          sync.Mutex
	state       paceState
	again, anew list.List   // the queue, of *waiter: requests that were sent before go first
	timer       *time.Timer // runs the queue, however many wait

	// A lesson begins with a 429 that is news: one of a request that was sent under the last lesson. What else was under way then
	// says the same thing again, whenever its response comes.
	lesson  int
	heldAt  time.Time // when the hold began, moved on by idle time
	until   time.Time // when it ends, or when another probe leaves if nothing is heard of the last
	probed  time.Time // when the last probe left, zero if none is under way
	probes  int       // that were rejected, in this hold
	unsure  time.Time // since when the API may have had room again
	cost    int       // 429s in this lesson
	tooFast float64   // the rate that was rejected
	grew    bool      // that rate was more than what was known

	// A cycle goes from one granted probe to the next, and shows how many requests are granted in that time.
	since  time.Time     // when it began, zero if requests were free since
	grants int           // in it
	idle   time.Duration // of it, when a request might have left and none was there

	// What is known: the rate is kept for a while and grows slowly then. An unknown one doubles every second.
	rate        float64       // requests a second, 0 if unknown
	flat, scale time.Duration // how long it is kept, and how slowly it grows
	longest     time.Duration // hold: the API's window may be as long
	ramp        time.Time     // when the doubling began
	next        time.Time     // when the next request may leave
}

// The constants, each with the case of bench/quota that shows its reason.
const (
	firstHold   = time.Second            // without Retry-After: a stray 429 must cost little ("one 429 out of the blue")
	longestHold = 30 * time.Second       // between probes: a window's end is not missed by more ("60/min fixed, RA absent")
	minKnown    = 100 * time.Millisecond // the first hold is one interval of a known rate, little for a high one ("100/s bucket of 10"),
	maxKnown    = 15 * time.Second       // and not more than this: a small rate is known badly ("60/min fixed, 20 processes")
	probeWait   = 10 * time.Second       // a probe without a response counts as lost then: responses take less ("60/min fixed, 500 ms")
	timerError  = 20 * time.Millisecond  // what a late timer has missed is made up for; more is idle time (over real sockets)
	// Others may take all of a small quota, so that a probe every 30 s finds none for half an hour ("5/min bucket of 1, 5 processes").
	starving, starvingHold = 5 * time.Minute, 10 * time.Second
	// More turns a call without a deadline away. Two minutes are too short for windows of five, and ten for that same quota.
	maxPatience, maxStarving = 10 * time.Minute, 30 * time.Minute
	grantsPer429             = 40               // requests that a 429 must be worth: 0.025 for each success, half of what is promised ("20/s sliding")
	maxFlat                  = 4 * time.Minute  // or processes that share a quota unevenly stay so ("60/min fixed, 2 processes")
	maxScale                 = time.Minute      // the same, for growing
	minFlat                  = 5 * time.Second  // or the rate follows what a window lets through for a moment ("20/s sliding")
	growth                   = 0.02             // of the rate, times the cube of the time: slow near what is known, fast beyond ("doubled")
	startRate                = 4.0              // of the doubling: 1,000 a second after 8 s ("one 429 out of the blue" may cost 10 s)
	restart                  = 10 * time.Second // idle: the doubling begins anew, or a burst overruns its window ("70 calls every 2 min")
	freeAfter                = 4 * time.Minute  // of doubling: there is no limit to learn. More than the pause of that burst
	freeFactor               = 16               // times the known rate and nobody waits: the client wants less than that ("200 calls every 10 min")
)

// outcome is what came of a request, as a pace sees it.
type outcome int

const (
	lost    outcome = iota // no response
	granted                // a response other than 429
	limited                // 429
)

// waiter is a request in the queue.
type waiter struct {
	left     chan struct{} // closed when it has left the queue; what follows does not change then
	lesson   int           // under which it is sent
	away     string        // the reason if it is not to be sent
	expected time.Duration // how long its turn was expected to take
	deadline time.Time     // zero for none
	queue    *list.List
	place    *list.Element // nil if it is not in the queue
}

// join puts a request in the queue, or turns it away at once. Its turn is expected after wait. Another's 429 may turn it away later.
func (p *pace) join(deadline time.Time, again bool) (w *waiter, wait time.Duration, joined bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer == nil {
		p.timer = time.AfterFunc(0, p.wake)
	}
	now, before := time.Now(), float64(p.waiting())
	w = &waiter{left: make(chan struct{}), deadline: deadline, queue: &p.anew}
	if again {
		w.queue, before = &p.again, float64(p.again.Len())
	}
	w.expected = p.expected(now, before)
	if w.away = p.turnsAway(w, now); w.away != "" {
		close(w.left)
		return w, w.expected, false
	}
	w.place, wait = w.queue.PushBack(w), w.expected
	p.run(now)
	return w, wait, true
}

// wait returns when w has left the queue, or the context's error.
func (p *pace) wait(ctx context.Context, w *waiter) error {
	select {
	case <-w.left:
	case <-ctx.Done():
	}
	if ctx.Err() == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.place != nil {
		w.queue.Remove(w.place)
	} else if w.away == "" {
		p.lose(time.Now(), w.lesson)
	}
	return ctx.Err()
}

// report tells the pace what came of a request that was sent under lesson. After is the Retry-After of a 429, 0 for none.
func (p *pace) report(lesson int, came outcome, after time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch came {
	case granted:
		p.grant(now, lesson)
	case limited:
		p.reject(now, lesson, after)
	default:
		p.lose(now, lesson)
	}
}

// isCurrent reports whether there was no news since lesson.
func (p *pace) isCurrent(lesson int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lesson == lesson
}

// isQuiet reports whether nobody waits and no hold is left.
func (p *pace) isQuiet(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waiting() == 0 && (p.state != held || !now.Before(p.until))
}

func (p *pace) waiting() int { return p.again.Len() + p.anew.Len() }

// run lets those leave the queue whose time has come, and sets the timer for the next.
func (p *pace) run(now time.Time) {
	if p.state == paced && p.waiting() <= 1 &&
		(p.rate == 0 && now.Sub(p.since) > freeAfter || p.rate > 0 && p.rateAt(now) > freeFactor*p.rate) {
		p.state, p.since = free, time.Time{}
	}
	for p.waiting() > 0 {
		switch p.state {
		case held:
			if now.Before(p.until) {
				p.timer.Reset(p.until.Sub(now))
				return
			}
			late := now.Sub(p.until)
			p.idle, p.heldAt = p.idle+late, p.heldAt.Add(late)
			p.probed, p.until = now, now.Add(probeWait)
		case paced:
			if now.Before(p.next) {
				p.timer.Reset(p.next.Sub(now))
				return
			}
			if late := now.Sub(p.next); late > timerError {
				p.idle, p.next = p.idle+late, now
				if late > restart {
					p.ramp = now
				}
			}
			p.next = p.next.Add(duration(1 / p.rateAt(now)))
		}
		p.leave(cmp.Or(p.again.Front(), p.anew.Front()).Value.(*waiter), "")
	}
}

// leave takes w out of the queue: to be sent, or turned away for a reason.
func (p *pace) leave(w *waiter, away string) {
	w.queue.Remove(w.place)
	w.place, w.lesson, w.away = nil, p.lesson, away
	close(w.left)
}

func (p *pace) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.run(time.Now())
}

// rateAt is how many requests a second leave, when paced.
func (p *pace) rateAt(now time.Time) float64 {
	if p.rate == 0 {
		return startRate * math.Exp2(min(now.Sub(p.ramp).Seconds(), 20)) // a million a second limits nobody
	}
	x := min(float64(now.Sub(p.since)-p.flat)/float64(p.scale), 100)
	return p.rate * (1 + growth*max(0, x*x*x))
}

// expected is how long the turn of a request is likely to take that has n before it.
func (p *pace) expected(now time.Time, n float64) (wait time.Duration) {
	switch {
	case p.state == free:
		return 0
	case p.state == paced && p.rate == 0: // the doubling, integrated
		t := now.Sub(p.ramp).Seconds()
		return max(0, p.next.Sub(now), duration(math.Log2(math.Exp2(t)+n*math.Ln2/startRate)-t))
	case p.state == paced:
		return max(0, p.next.Sub(now)) + duration(n/p.rateAt(now))
	}
	if wait = max(0, p.until.Sub(now)); !p.probed.IsZero() { // the next one leaves so long after the probe under way is granted
		wait = duration(1 / cmp.Or(p.rate, startRate))
	}
	return wait + duration(n/cmp.Or(p.rate, math.Inf(1)))
}

// turnsAway returns the reason for which w should not wait, "" if it may.
func (p *pace) turnsAway(w *waiter, now time.Time) string {
	switch bounded := !w.deadline.IsZero(); {
	case bounded && w.expected > 0 && !now.Add(w.expected).Before(w.deadline):
		return ReasonDeadline
	case bounded, w.expected <= 0, p.state != held:
		return ""
	case p.unsure.Sub(now) >= maxPatience: // a second less than Retry-After, and without the jitter
		return ReasonRetryAfter
	case now.Sub(p.heldAt) > maxStarving:
		return ReasonNothingGranted
	}
	return ""
}

// reject is a 429: it begins a hold, or a longer one, if it is news.
func (p *pace) reject(now time.Time, lesson int, after time.Duration) {
	p.cost++
	if lesson != p.lesson {
		return
	}
	p.lesson++
	p.probes++
	if p.state != held {
		p.probes, p.heldAt, p.tooFast, p.grew = 0, now, p.rateAt(now), now.Sub(p.since) > p.flat
	}
	hold, most := firstHold, longestHold
	if p.rate > 0 {
		hold = min(max(duration(1/p.rate), minKnown), maxKnown)
	}
	if now.Sub(p.heldAt) > starving {
		most = starvingHold
	}
	hold = max(min(hold<<min(p.probes, 10), most), min(after, 24*time.Hour)) // Retry-After may be centuries, and overflow
	hold += rand.N(hold / 10)                                                // processes that were rejected together come back apart
	p.state, p.until, p.probed = held, now.Add(hold), time.Time{}
	p.unsure = now.Add(max(0, after-time.Second)) // Retry-After is rounded up to whole seconds
	p.review(now, hold, p.tooFast)
	p.run(now)
}

// review turns away those in the queue who would come too late if the first left after wait, and the others at rate.
func (p *pace) review(now time.Time, wait time.Duration, rate float64) {
	for _, queue := range []*list.List{&p.again, &p.anew} {
		for e := queue.Front(); e != nil; {
			w := e.Value.(*waiter)
			e, w.expected = e.Next(), wait
			if away := p.turnsAway(w, now); away != "" {
				p.leave(w, away)
			} else {
				wait += duration(1 / rate)
			}
		}
	}
}

// lose is a request without a response. If it was the probe, another may leave.
func (p *pace) lose(now time.Time, lesson int) {
	if p.state == held && lesson == p.lesson {
		p.until, p.probed = now, time.Time{}
		p.run(now)
	}
}

// grant is a response other than 429. If it is the probe's, the hold is over and a cycle begins.
func (p *pace) grant(now time.Time, lesson int) {
	if p.state != held || lesson != p.lesson {
		p.grants++
		return
	}
	p.probed = cmp.Or(p.probed, now) // one that was taken for lost
	hold, gap := p.probed.Sub(p.heldAt), p.probed.Sub(p.unsure)
	least := hold
	if p.rate > 0 {
		least = max(hold, minFlat, 20*min(gap, time.Second)) // a second lost to rounding is one of twenty ("20/s sliding")
	}
	p.longest = max(p.longest, hold)
	if !p.since.IsZero() {
		p.learn(now, hold.Seconds(), gap.Seconds())
	}
	p.since, p.ramp, p.next, p.idle, p.grants = now, now, now, 0, 1
	if p.rate > 0 {
		p.flat = min(max(least, duration(grantsPer429*float64(p.cost)/p.rate)), maxFlat)
		p.scale = min(max(hold, p.flat/2, p.longest/4, time.Second), maxScale)
		p.next = now.Add(duration(1 / p.rate))
		p.review(now, p.next.Sub(now), p.rate)
	}
	p.state, p.cost, p.probed = paced, 0, time.Time{}
	p.run(now)
}

// learn sets the rate after a cycle that ended in a hold, in the last gap seconds of which the API may have had room again.
func (p *pace) learn(now time.Time, hold, gap float64) {
	took, n := (now.Sub(p.since) - p.idle).Seconds(), float64(p.grants)
	low, high := n/took, (n+1)/max(took-gap, took/10) // the API's rate is between, if its window is not longer than the cycle
	switch {
	case p.rate == 0:
		p.rate = n / max(took-gap/2, took/10)
		if hold < took/2 { // the window is shorter than the cycle: a window of one second rejects at 1.4 times its rate
			p.rate = max(p.rate, 0.7*p.tooFast)
		}
	case !p.grew: // what was known is too much: by a twentieth, or by more if the rejection came early
		p.rate = min(max(p.rate*min(0.95, (n+3)/(n+4)), low), high)
	case hold > took/20: // the window was used up before its end: the cycle has measured it
		p.rate = (low + high) / 2
	default: // a window much shorter than the cycle was overrun
		p.rate = max(low, p.rate+(p.tooFast-p.rate)/4)
	}
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
