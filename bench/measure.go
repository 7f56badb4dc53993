package bench

import (
	"math"
	"slices"
	"time"
)

// Row is a line of the report: a ratio of ours to a peer's, or a count of ours.
type Row struct {
	Shape  string
	Beside string  // the peer, or what is counted
	Bound  string  // "≤" or "≥" Target; "" if the row is there for comparison only
	Target float64 `json:",omitzero"`
	Unit   string  // "×" is a ratio
	Value  float64 // the median, of a ratio
	Q1, Q3 float64 `json:",omitzero"` // the quartiles of a ratio
}

// Holds reports whether the target is reached.
func (r Row) Holds() bool {
	switch r.Bound {
	case "≤":
		return r.Value <= r.Target
	case "≥":
		return r.Value >= r.Target
	}
	return true
}

// Effort is how long to measure.
type Effort struct {
	Slice  time.Duration // that one contender works in one round
	Rounds int
}

// Compare has ours and every peer work in turn, round by round, and returns the medians of the ratios of their times in the same
// round. A machine that is slow for a second is so for all of them.
func (e Effort) Compare(c Comparison) []Row {
	contenders := []func(){c.Ours}
	for _, p := range c.Peers {
		contenders = append(contenders, p.Do)
	}
	goroutines := max(1, c.Goroutines)
	counts := make([]int, len(contenders))
	for i, do := range contenders {
		counts[i] = e.count(do, goroutines)
	}
	ratios := make([][]float64, len(contenders))
	times := make([]float64, len(contenders))
	for round := range e.Rounds {
		for turn := range contenders {
			i := (round + turn) % len(contenders) // nobody is always first after the same other
			if c.Latency {
				times[i] = latency(contenders[i], counts[i])
			} else {
				start := time.Now()
				repeat(contenders[i], counts[i], goroutines)
				times[i] = float64(time.Since(start)) / float64(counts[i])
			}
		}
		for i := range contenders {
			ratio := times[0] / times[i]
			if c.Rate {
				ratio = 1 / ratio
			}
			ratios[i] = append(ratios[i], ratio)
		}
	}
	var rows []Row
	for i, p := range c.Peers {
		slices.Sort(ratios[i+1])
		row := Row{Shape: c.Shape, Beside: p.Name, Target: p.Target, Unit: "×",
			Value: quantile(ratios[i+1], 0.5), Q1: quantile(ratios[i+1], 0.25), Q3: quantile(ratios[i+1], 0.75)}
		switch {
		case p.Target == 0:
		case c.Rate:
			row.Bound = "≥"
		default:
			row.Bound = "≤"
		}
		rows = append(rows, row)
	}
	return rows
}

// count is how often do fits into a slice, at least once, by the fastest of a few tries: others slow it down, nobody makes it
// faster.
func (e Effort) count(do func(), goroutines int) int {
	n := 1
	for e.Slice > 0 {
		fastest := time.Duration(math.MaxInt64)
		for range 3 {
			start := time.Now()
			repeat(do, n, goroutines)
			fastest = min(fastest, time.Since(start))
		}
		if fastest*2 > e.Slice {
			return n
		}
		n *= 2
	}
	return n
}

// latency is the median time of one of n calls.
func latency(do func(), n int) float64 {
	times := make([]float64, n)
	for i := range times {
		start := time.Now()
		do()
		times[i] = float64(time.Since(start))
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
