package redislimit

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// driver calls the script as one machine with one caller does, and measures what the script has to learn from.
type driver struct {
	t     *testing.T
	l     *Limiter
	s     schedule
	probe time.Time // when the latest probe was sent
	since int       // turns since then
}

func newDriver(t *testing.T, requests int) *driver {
	return &driver{t: t, l: &Limiter{Redis: newLuaServer().client(0), Key: "k", Requests: requests}}
}

// turns takes n turns, one after the other, and asks again when each comes.
func (d *driver) turns(n int) {
	d.t.Helper()
	for range n {
		d.since++
		s, k, err := d.l.book(d.t.Context(), d.s.gen, nil, []int64{1e12})
		if err == nil {
			time.Sleep(time.Until(s.turn(k[0])))
			d.s, _, err = d.l.book(d.t.Context(), s.gen, nil, nil)
		}
		if err != nil || k[0] >= d.s.from && time.Until(d.s.turn(k[0])) > time.Microsecond {
			d.t.Fatalf("%v; the turn of ticket %d has moved by %s, want it now", err, k[0], time.Until(d.s.turn(k[0])))
		}
	}
}

// refuse has the API respond 429, and returns for how long nothing is sent then.
func (d *driver) refuse(after time.Duration) (hold time.Duration) {
	d.t.Helper()
	var err error
	if d.s, err = d.l.teach(d.t.Context(), after); err != nil {
		d.t.Fatal(err)
	}
	return time.Until(d.s.at)
}

// probes sends the request that ends a hold, and the next one, which shows that it was granted.
func (d *driver) probes() {
	d.t.Helper()
	d.turns(1)
	d.probe, d.since = time.Now(), 0
	d.turns(1)
}

// cycle is refused, which ends a cycle that began with the latest probe, and probes again. It returns how many requests that cycle
// was granted, in which time, and for which part of it the quota may have been back.
func (d *driver) cycle(after time.Duration) (n int, took, gap time.Duration) {
	d.t.Helper()
	began, n, hold := d.probe, d.since, d.refuse(after) // the probe was granted, and the last one was not
	d.probes()
	return n, d.probe.Sub(began), hold - max(0, after-time.Second)
}

func (d *driver) want(what string, got, want time.Duration) {
	d.t.Helper()
	if off := math.Abs(float64(got - want)); off > 2000 && off > 0.005*float64(want) {
		d.t.Errorf("%s: %s, want %s", what, got, want)
	}
}

// within clamps a space to what n grants in this time leave possible.
func within(space time.Duration, n int, took, gap time.Duration) time.Duration {
	return max((took-gap)/time.Duration(n+1), min(took/time.Duration(n), space))
}

func scaled(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

// What the script makes of each 429, by the formulas that the comments of limit.lua speak of.
func TestWhatA429Teaches(t *testing.T) {
	for _, test := range []struct {
		name     string
		requests int
		run      func(d *driver)
	}{
		{"holds are doubled until a probe is granted", 0, func(d *driver) {
			for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
				d.want("hold", d.refuse(0), want*time.Second)
				d.want("ask again", d.s.again, want*time.Second+500*time.Millisecond)
				d.turns(1)
			}
		}},
		{"the longest Retry-After counts", 0, func(d *driver) {
			d.want("hold", d.refuse(time.Second), time.Second)
			first := d.s.lesson
			d.want("hold", d.refuse(10*time.Second), 10*time.Second)
			d.want("hold", d.refuse(5*time.Second), 10*time.Second)
			if d.s.lesson != first+1 {
				d.t.Errorf("lesson %d, then %d, want one more for the turns that were moved", first, d.s.lesson)
			}
		}},
		{"a hold that nobody waited for ends with a probe", 0, func(d *driver) {
			d.refuse(0)
			time.Sleep(10 * time.Second)
			began := time.Now()
			d.turns(1)
			d.want("the probe", time.Since(began), 0)
			d.turns(1)
			d.want("the next", time.Since(began), 500*time.Millisecond)
		}},
		{"slow start", 0, func(d *driver) {
			d.refuse(0)
			d.probes()
			for range 20 {
				d.turns(1)
				d.want("space", d.s.space, scaled(250*time.Millisecond, math.Exp2(-time.Since(d.probe).Seconds())))
				d.want("ask again", d.s.again, 250*time.Millisecond)
			}
		}},
		{"slow start goes on after a pause", 0, func(d *driver) {
			d.refuse(0)
			d.probes()
			d.turns(4)
			before := d.s.space
			time.Sleep(5 * time.Minute)
			d.turns(1)
			if d.s.space < 9*before/10 {
				d.t.Errorf("space %s, and %s after a pause, want nearly the same", before, d.s.space)
			}
		}},
		{"refused in slow start", 0, func(d *driver) {
			d.refuse(0)
			d.probes()
			d.turns(30)
			n, took, gap := d.cycle(0)
			d.want("space", d.s.space, (took-gap/2)/time.Duration(n))
		}},
		{"refused early in slow start, with Retry-After", 0, func(d *driver) {
			d.refuse(0)
			d.probes()
			d.turns(3)
			n, took, gap := d.cycle(10 * time.Second)
			d.want("the last second of Retry-After", gap, time.Second)
			d.want("space", d.s.space, (took-gap/2)/time.Duration(n))
		}},
		{"refused in slow start with a pause", 0, func(d *driver) {
			d.refuse(0)
			d.probes()
			d.turns(9)
			idle := 5*time.Second - d.s.space
			time.Sleep(5 * time.Second)
			d.turns(10)
			n, took, gap := d.cycle(0)
			d.want("space", d.s.space, (took-idle-gap/2)/time.Duration(n))
		}},
		{"refused again and again at the learned rate", 0, func(d *driver) {
			d.refuse(0)
			d.probes()
			d.turns(10)
			d.cycle(0)
			for _, factor := range []float64{0.95, 0.95 * 0.95, math.Pow(0.95, 4)} {
				before := d.s.space
				d.turns(12)
				n, took, gap := d.cycle(0)
				d.want("space", d.s.space, within(scaled(before, 1/factor), n, took, gap))
			}
		}},
		{"refused at once", 0, func(d *driver) { // fewer than ten turns are no cycle of their own
			d.refuse(0)
			d.probes()
			began := d.probe
			d.turns(10)
			granted, _, _ := d.cycle(0)
			for i, after := range []time.Duration{0, 0, time.Minute} {
				before := d.s.space
				d.turns(4)
				n, _, gap := d.cycle(after)
				granted += n
				if after == 0 {
					d.want("hold", gap, max(before, 250*time.Millisecond)<<(i+1)) // as of probes that are refused
				}
				d.want("space", d.s.space, within(before, granted, d.probe.Sub(began), gap))
			}
			if d.s.space < time.Second {
				d.t.Errorf("space %s, want what the minute allows", d.s.space)
			}
		}},
		{"holds at a learned rate", 0, func(d *driver) {
			d.refuse(0)
			d.probes()
			d.turns(2)
			d.cycle(5 * time.Minute) // so few are granted that another refusal says little
			d.turns(11)
			d.want("hold", d.refuse(0), 15*time.Second)
		}},
		{"a slow rate grows after ten minutes", 0, func(d *driver) {
			d.refuse(0)
			d.probes()
			d.turns(2)
			d.cycle(2 * time.Minute)
			known := d.s.space
			for time.Since(d.probe) < 10*time.Minute {
				d.want("space", d.s.space, known)
				d.turns(1)
			}
			d.turns(4)
			if d.s.space >= known {
				d.t.Errorf("space %s, want less than %s", d.s.space, known)
			}
		}},
		{"sixteen times the rate is no limit", 0, func(d *driver) {
			d.refuse(0)
			d.probes()
			d.turns(10)
			d.cycle(0)
			for began := time.Now(); d.s.gen != 0; d.turns(1) {
				if time.Since(began) > 5*time.Minute {
					d.t.Fatalf("space %s, want none after five minutes", d.s.space)
				}
			}
			time.Sleep(time.Minute)
			if d.turns(1); d.s.gen != 0 {
				d.t.Error("there is a limit again, want none until the next 429")
			}
		}},
		{"a turn that is over is not booked again", 0, func(d *driver) {
			d.refuse(0)
			d.probes() // with ticket 1, and as the rate grew meanwhile, the turns of tickets behind it came nearer
			if _, k, err := d.l.book(d.t.Context(), d.s.gen, []int64{1}, []int64{1e12}); err != nil || k[0] != 2 {
				d.t.Errorf("ticket %v, %v; want 2", k, err)
			}
		}},
		{"the rate of Requests is where it begins and ends", 60, func(d *driver) {
			d.want("hold", d.refuse(0), time.Second)
			d.probes()
			d.want("space", d.s.space, scaled(time.Second, 1/0.95))
			for began := time.Now(); d.s.space > time.Second; d.turns(1) {
				if time.Since(began) > 5*time.Minute {
					d.t.Fatalf("space %s after five minutes, want a second again", d.s.space)
				}
			}
		}},
		{"refused while the rate grows", 0, func(d *driver) {
			d.refuse(0)
			d.probes()
			d.turns(10)
			d.cycle(0)
			d.turns(12)
			d.cycle(0)
			d.turns(12)
			_, _, hold := d.cycle(0)
			known := d.s.space
			flat := max(hold, 40*known, 20*hold)
			scale := max(flat/2, time.Second)
			for time.Since(d.probe) < flat {
				d.want("space", d.s.space, known)
				d.want("ask again", d.s.again, 0)
				d.turns(1)
			}
			for time.Since(d.probe) < flat+3*scale {
				d.turns(1)
			}
			x := (time.Since(d.probe) - flat).Seconds() / scale.Seconds()
			pace := d.s.space
			d.want("space", pace, scaled(known, 1/(1+0.02*x*x*x)))
			d.want("ask again", d.s.again, scale/2)
			n, took, gap := d.cycle(0)
			mean := time.Duration(2 / (1/float64(known) + 1/float64(pace)))
			d.want("space", d.s.space, within(mean, n, took, gap))
			known = d.s.space // and the row of refusals at the learned rate begins anew
			d.turns(12)
			n, took, gap = d.cycle(0)
			d.want("space", d.s.space, within(scaled(known, 1/0.95), n, took, gap))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) { test.run(newDriver(t, test.requests)) })
		})
	}
}

// What is known is kept over a pause: the first requests after it leave at the learned rate, not in a burst.
func TestAPauseTeachesNothing(t *testing.T) {
	for _, pause := range []time.Duration{10 * time.Second, time.Minute, 4 * time.Minute, 9 * time.Minute} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rate known %t", pause, known), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					l := &Limiter{Redis: newLuaServer().client(time.Millisecond), Key: "k"}
					learned := func() int { // a 429, and what is granted in the three seconds after the first probes
						l.Throttled(t.Context(), 0)
						return len(slices.Concat(turns([]*Limiter{l}, 20, 3*time.Second)...))
					}
					n := learned()
					if known {
						n = learned()
					}
					time.Sleep(pause)
					// In slow start, the rate goes on to double each second.
					if got := len(slices.Concat(turns([]*Limiter{l}, 20, time.Second)...)); got > 2*n {
						t.Errorf("%d turns in the second after the pause, want no more than before: %d in 3 s", got, n)
					}
				})
			})
		}
	}
}
