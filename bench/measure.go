package bench

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"
)

// Row is a line of the report: a ratio of ours to a peer's, a contender's time, or a count of ours.
type Row struct {
	Shape     string
	Beside    string  // the peer, the contender, or what is counted
	Bound     string  // "≤" or "≥" Target; "" if the row is there for comparison only
	Target    float64 // means nothing without Bound
	Unit      string  // "×" is a ratio, "µs" the time of a call
	Value     float64 // the median, of a ratio and of a time
	Q1, Q3    float64 `json:",omitzero"` // the quartiles of a ratio: how far its rounds lie apart
	Low, High float64 `json:",omitzero"` // where the median of ever more rounds would lie, with 95 % confidence
}

// Verdict says whether the target is reached, as far as the rounds can tell.
func (r Row) Verdict() string {
	holds := r.Value <= r.Target
	switch {
	case r.Bound == "":
		return ""
	case r.Low < r.Target && r.Target < r.High:
		return "on the line"
	case r.Bound == "≥":
		holds = r.Value >= r.Target
	}
	if holds {
		return "holds"
	}
	return "misses"
}

// ratio is the row of what was measured in rounds.
func ratio(shape, beside string, rounds []float64) Row {
	slices.Sort(rounds)
	n := float64(len(rounds))
	within := math.Sqrt(n) / n // of the median, in ranks: 1.96 standard deviations of a binomial distribution
	return Row{Shape: shape, Beside: beside, Unit: "×", Value: quantile(rounds, 0.5), Q1: quantile(rounds, 0.25),
		Q3: quantile(rounds, 0.75), Low: quantile(rounds, max(0, 0.5-within)), High: quantile(rounds, min(1, 0.5+within))}
}

// Effort is how long to measure.
type Effort struct {
	Slice  time.Duration // that one contender works in one round; 0 means one call
	Rounds int
}

// Compare has ours and every peer work in turn, round by round, and returns the medians of the ratios of their times in the same
// round. A machine that is slow for a second is so for all of them.
func (e Effort) Compare(c Comparison) (rows []Row) {
	goroutines := max(1, c.Goroutines)
	var works []func() float64
	for _, p := range c.contenders() {
		n := e.count(p.Do, goroutines)
		works = append(works, func() float64 {
			if c.Latency {
				return latency(p.Do, n)
			}
			return timed(p.Do, n, goroutines)
		})
	}
	times := e.rounds(works)
	for i, p := range c.Peers {
		var ratios []float64
		for _, round := range times {
			if c.Rate {
				ratios = append(ratios, round[i+1]/round[0])
			} else {
				ratios = append(ratios, round[0]/round[i+1])
			}
		}
		row := ratio(c.Shape, p.Name, ratios)
		if row.Target = p.Target; p.Target != 0 {
			row.Bound = "≤"
			if c.Rate {
				row.Bound = "≥"
			}
		}
		rows = append(rows, row)
	}
	if c.Times {
		for i, p := range c.contenders() {
			rows = append(rows, Row{Shape: c.Shape, Beside: p.Name, Unit: "µs", Value: median(times, i) / 1e3})
		}
	}
	return rows
}

// median is that of one of the works, in rounds.
func median(rounds [][]float64, work int) float64 {
	var times []float64
	for _, round := range rounds {
		times = append(times, round[work])
	}
	slices.Sort(times)
	return quantile(times, 0.5)
}

// Scaling has ours and every peer work on one core and on two, and returns how many times the calls per second of the one the
// two make. What shares nothing comes close to 2; what allocates shares the collector.
func (e Effort) Scaling(c Comparison) (rows []Row) {
	for _, p := range c.contenders() {
		n := e.count(p.Do, 1)
		on := func(cores int) func() float64 {
			return func() float64 {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
				return timed(p.Do, n, cores) / float64(cores)
			}
		}
		var ratios []float64
		for _, round := range e.rounds([]func() float64{on(1), on(2)}) {
			ratios = append(ratios, round[0]/round[1])
		}
		rows = append(rows, ratio(c.Shape+": calls/s on two cores", "one core, "+p.Name, ratios))
	}
	return rows
}

// rounds returns what each of works measured, by round.
func (e Effort) rounds(works []func() float64) [][]float64 {
	all := make([][]float64, e.Rounds)
	for i := range all {
		all[i] = make([]float64, len(works))
		for _, turn := range rand.Perm(len(works)) { // nobody is always next after the same other
			all[i][turn] = works[turn]()
		}
	}
	return all
}

// timed is the time, in nanoseconds, of each of n calls, if so many goroutines make n each.
func timed(do func(), n, goroutines int) float64 {
	start := time.Now()
	repeat(do, n, goroutines)
	return float64(time.Since(start)) / float64(n)
}

// count is how often do fits into more than half of a slice, at least once, by the fastest of a few tries: others slow it down,
// nobody makes it faster.
func (e Effort) count(do func(), goroutines int) int {
	n := 1
	for e.Slice > 0 {
		fastest := min(timed(do, n, goroutines), timed(do, n, goroutines), timed(do, n, goroutines))
		if fastest*float64(n)*2 > float64(e.Slice) {
			return n
		}
		n *= 2
	}
	return n
}

// latency is the median time, in nanoseconds, of one of n calls.
func latency(do func(), n int) float64 {
	times := make([]float64, n)
	for i := range times {
		times[i] = timed(do, 1, 1)
	}
	slices.Sort(times)
	return quantile(times, 0.5)
}

// quantile interpolates in what is sorted.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i == len(sorted)-1 {
		return sorted[i]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}
