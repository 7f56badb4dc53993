package main

import (
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/ovhauth"
)

var stacks = []Stack{
	{"ovhauth", func(base http.RoundTripper) http.RoundTripper { return &ovhauth.RetryTransport{Base: base} }},
}

func main() {
	testing.Init()
	only := flag.String("only", "", "")
	random := flag.Int("random", 0, "")
	seed := flag.Uint64("seed", 1, "")
	repeat := flag.Int("repeat", 1, "")
	flag.Parse()
	scenarios := Scenarios
	if *random > 0 {
		scenarios = Random(*seed, *random)
	}
	scenarios = slices.DeleteFunc(slices.Clone(scenarios), func(s Scenario) bool { return !strings.Contains(s.Name, *only) })
	var mu sync.Mutex
	fmt.Println(Header)
	type point struct{ time, late float64; name string }
	var points []point
	testing.Main(func(pat, str string) (bool, error) { return true, nil }, []testing.InternalTest{{Name: "quota", F: func(t *testing.T) {
		t.Run("all", func(t *testing.T) {
			for _, s := range scenarios {
				t.Run(s.Name, func(t *testing.T) {
					t.Parallel()
					ideal := Run(t, s, nil)
					for range *repeat {
						for _, stack := range stacks {
							r := Run(t, s, &stack)
							mu.Lock()
							fmt.Println(Row(s, stack.Name, r, ideal))
							points = append(points, point{r.Busy.Seconds() / ideal.Busy.Seconds(), float64(r.Late) / float64(max(1, r.OK)), s.Name})
							mu.Unlock()
						}
					}
				})
			}
		})
		for _, by := range []func(point) float64{func(p point) float64 { return p.time }, func(p point) float64 { return p.late }} {
			slices.SortFunc(points, func(a, b point) int { if by(a) < by(b) { return -1 }; return 1 })
			n := len(points)
			if n == 0 { return }
			fmt.Printf("median %.3f  p90 %.3f max %.3f %s\n", by(points[n/2]), by(points[n*9/10]), by(points[n-1]), points[n-1].name)
		}
	}}}, nil, nil)
}
