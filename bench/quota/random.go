package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Random makes APIs that nobody has seen, of three requests a minute and process or more: they keep a stack from being tuned to the
// table.
func Random(seed uint64, n int) (all []Scenario) {
	rng := rand.New(rand.NewPCG(seed, seed))
	pick := func(s ...string) string { return s[rng.IntN(len(s))] }
	for len(all) < n {
		per := []time.Duration{time.Second, 10 * time.Second, time.Minute, time.Minute, 5 * time.Minute}[rng.IntN(5)]
		n := math.Round(math.Exp(math.Log(5) + rng.Float64()*math.Log(100)))
		q := Q{Kind: pick("fixed", "sliding", "bucket"), N: n, Per: per, Phase: time.Duration(rng.Float64() * float64(per))}
		if q.Kind == "bucket" {
			q.Burst = max(1, math.Round(n*rng.Float64()))
		}
		after := []RetryAfter{Absent, Absent, Ceil, Nearest, Short, One}[rng.IntN(6)]
		s := Scenario{Quota: q, RetryAfter: after,
			Latency: time.Duration(math.Exp(rng.Float64()*math.Log(100))*5) * time.Millisecond, Jitter: rng.Float64() * 0.8,
			Procs: []int{1, 1, 1, 2, 5}[rng.IntN(5)], Workers: []int{1, 8, 64, 200}[rng.IntN(4)],
			Calls: max(1000, int(n*(20+40*rng.Float64())))}
		s.Name = fmt.Sprintf("%v per %s %s (burst %v), RA %s, %s ±%.0f %%, %d × %d, %d calls",
			n, per, q.Kind, q.Burst, s.RetryAfter, s.Latency, 100*s.Jitter, s.Procs, s.Workers, s.Calls)
		if n/per.Minutes()/float64(s.Procs) >= 3 {
			all = append(all, s)
		}
	}
	return all
}
