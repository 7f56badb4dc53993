package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A promise is what the rate that 429 responses teach is to reach. The numbers are those of the documentation.
type promise struct {
	number int
	text   string
	over   func(Scenario, Result, Result) (over float64, note string) // of its bound: more than 1 is broken. 0: does not concern the row
}

var promises = []promise{
	{1, "no call fails, except for its own deadline or where nothing is granted", func(s Scenario, r, _ Result) (float64, string) {
		return 0.01 + 2*float64(r.Unexcused), fmt.Sprintf("%d failed", r.Unexcused)
	}},
	{2, "1.00 × the time without a 429; a stray 429 costs ten seconds at most", func(s Scenario, r, ideal Result) (float64, string) {
		lost := r.Busy - ideal.Busy
		switch {
		case s.SpuriousAt > 0:
			return float64(lost) / float64(10*time.Second), fmt.Sprintf("a stray 429 cost %s", lost.Round(100*time.Millisecond))
		case r.Rejected == 0:
			return 0.01 + float64(lost)/float64(ideal.Busy)*1000, fmt.Sprintf("%.3f × the time", ratio(r, ideal))
		}
		return 0, ""
	}},
	{3, "time ≤ 1.10 × ideal + one window (1.25 × with windows of a second, several processes, a quota that changes)", overTime},
	{4, "avoidable 429s per success ≤ 0.05 (0.10 without Retry-After, with small quotas and bursts; 0.30 with several processes)", overLate},
}

func ratio(r, ideal Result) float64 { return r.Busy.Seconds() / ideal.Busy.Seconds() }

// hasRate reports whether a rate is promised: not without a quota, and not for less than three requests a minute and process.
func (s Scenario) hasRate() bool {
	return s.hasQuota() && !s.Hopeless && s.Deadline == 0 && s.share() >= 3/minute.Seconds()-1e-9
}

func overTime(s Scenario, r, ideal Result) (float64, string) {
	s = s.fill()
	if !s.hasRate() {
		return 0, ""
	}
	window, factor := max(s.Quota.Per, s.RouteQuota.Per), 1.10
	if window < 10*time.Second || s.Procs > 1 || s.ChangeAt > 0 {
		factor = 1.25
	}
	bound := factor*ideal.Busy.Seconds() + window.Seconds()
	return r.Busy.Seconds() / bound, fmt.Sprintf("%.2f × ideal, of %.2f allowed", ratio(r, ideal), bound/ideal.Busy.Seconds())
}

func overLate(s Scenario, r, _ Result) (float64, string) {
	s = s.fill()
	if !s.hasRate() {
		return 0, ""
	}
	bound := 0.05
	switch {
	case s.Procs > 1:
		bound = 0.30
	case s.RetryAfter == Absent, max(s.Quota.N, s.RouteQuota.N) < 20, s.Burst < s.Calls:
		bound = 0.10
	}
	return r.late() / bound, fmt.Sprintf("%.3f, of %.2f allowed", r.late(), bound)
}

// measured is what our stack made of one scenario, in one run or several.
type measured struct {
	s     Scenario
	runs  []Result
	ideal Result
}

// typical has the medians of the runs, and the failures of the worst.
func (m measured) typical() Result {
	by := func(key func(Result) float64) []Result {
		return slices.SortedFunc(slices.Values(m.runs), func(a, b Result) int { return cmp.Compare(key(a), key(b)) })
	}
	last, middle := len(m.runs)-1, len(m.runs)/2
	r := by(func(r Result) float64 { return float64(r.Busy) })[middle]
	r.Late = by(func(r Result) float64 { return float64(r.Late) })[middle].Late
	r.Unexcused = by(func(r Result) float64 { return float64(r.Unexcused) })[last].Unexcused
	return r
}

// judge says, for each promise, whether the rows reach it, the worst of them, and the worst of all single runs. It returns the broken
// promises.
func judge(rows []measured) (text string, broken []string) {
	var b strings.Builder
	for _, p := range promises {
		var worst float64
		var name, note, single string
		var worstRun float64
		var concerned int
		var failing []string
		for _, m := range rows {
			over, what := p.over(m.s, m.typical(), m.ideal)
			if over == 0 {
				continue
			}
			if concerned++; over > worst {
				worst, name, note = over, m.s.Name, what
			}
			for _, r := range m.runs {
				if run, what := p.over(m.s, r, m.ideal); run > worstRun {
					worstRun, single = run, m.s.Name+": "+what
				}
			}
			if over > 1 {
				failing = append(failing, fmt.Sprintf("   %s: %s\n", m.s.Name, what))
			}
		}
		if concerned == 0 {
			continue
		}
		verdict := "reached"
		if len(failing) > 0 {
			verdict = fmt.Sprintf("NOT REACHED in %d of %d rows", len(failing), concerned)
			broken = append(broken, fmt.Sprintf("promise %d: %s: %s", p.number, name, note))
		}
		fmt.Fprintf(&b, "%d. %s: %s\n   worst of %d rows: %s: %s\n   worst single run: %s\n", p.number, p.text, verdict, concerned,
			name, note, single)
		if len(failing) > 1 {
			b.WriteString("   all that break it:\n" + strings.Join(failing, ""))
		}
	}
	return b.String(), broken
}

// judgeRandom does the same for the promise about unseen APIs.
func judgeRandom(rows []measured) (text string, broken []string) {
	if len(rows) == 0 {
		return "", nil
	}
	failed := 0
	var times, lates []float64
	for _, m := range rows {
		r := m.typical()
		failed += r.Unexcused
		times = append(times, ratio(r, m.ideal))
		lates = append(lates, r.late())
	}
	check := func(what string, values []float64, q, bound float64) string {
		slices.Sort(values)
		v := values[int(q*float64(len(values)-1)+0.5)]
		if v > bound {
			broken = append(broken, fmt.Sprintf("promise 6: %s %.3f, want at most %.2f", what, v, bound))
		}
		return fmt.Sprintf("   %s %.3f (≤ %.2f)\n", what, v, bound)
	}
	if failed > 0 {
		broken = append(broken, fmt.Sprintf("promise 6: %d calls failed", failed))
	}
	text = fmt.Sprintf("   failed %d (0)\n", failed) + check("time, median", times, 0.5, 1.05) + check("time, 90 %", times, 0.9, 1.20) +
		check("avoidable 429s per success, median", lates, 0.5, 0.03) + check("avoidable 429s per success, 90 %", lates, 0.9, 0.08)
	slices.SortFunc(rows, func(a, b measured) int { return cmp.Compare(ratio(b.typical(), b.ideal), ratio(a.typical(), a.ideal)) })
	for _, m := range rows[:min(3, len(rows))] {
		text += fmt.Sprintf("   slowest: %s: %.2f ×\n", m.s.Name, ratio(m.typical(), m.ideal))
	}
	verdict := "reached"
	if len(broken) > 0 {
		verdict = "NOT REACHED"
	}
	return fmt.Sprintf("6. %d random APIs of 3 a minute and process or more: %s\n%s", len(rows), verdict, text), broken
}
