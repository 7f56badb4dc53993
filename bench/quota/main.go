// Quota shows, in virtual time, how ovhauth and other ways to call an API cope with a rate limit that nobody told them. It prints a
// table of all scenarios, which of the promises about rate limits are reached, and writes the picture docs/quota.svg.
//
//	go run ./quota                     # everything
//	go run ./quota -only 60/min        # the scenarios whose name contains this
//	go run ./quota -short              # for CI: ovhauth alone, and 20 random APIs that are always the same
//	go run ./quota -waiters            # what ten thousand waiting calls cost
//	go run ./quota -sockets            # real time, real connections
//
// It exits with 1 if ovhauth breaks a promise.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// shortSeed makes 20 random APIs whose figures lie well within the bounds: CI is to find what gets worse. Whether the promise holds,
// 300 fresh ones show.
const shortSeed = 6

func main() {
	testing.Init()
	short := flag.Bool("short", false, "only ovhauth, and 20 random APIs that are always the same")
	only := flag.String("only", "", "only scenarios whose name contains this, no random APIs, and no picture")
	random := flag.Int("random", -1, "only so many random APIs; 0: only the picture; by default 300 beside all else")
	seed := flag.Uint64("seed", 0, "of the random APIs; 0 means a fresh one")
	picture := flag.String("o", "../docs/quota.svg", "where to write the picture")
	waiting := flag.Bool("waiters", false, "measure only what waiting calls cost")
	sockets := flag.Bool("sockets", false, "measure only over real sockets")
	flag.Parse()
	switch {
	case *waiting:
		inTest(func(t *testing.T) { fmt.Print(waiters(t)) })
	case *sockets:
		inTest(func(t *testing.T) {
			for _, r := range overSockets(2000, 20, time.Second) {
				if fmt.Println(r); r.Failed > 0 {
					t.Error("a call failed")
				}
			}
		})
	}
	p := plan{scenarios: Scenarios, stacks: stacks, repeat: 5, again: 1, random: 300, seed: *seed, picture: *picture}
	if *short {
		p = plan{scenarios: Scenarios, stacks: stacks[:1], repeat: 3, again: 3, random: 20, seed: cmp.Or(*seed, shortSeed)}
	}
	switch {
	case *only != "":
		p.random, p.picture = 0, ""
		p.scenarios = slices.DeleteFunc(slices.Clone(p.scenarios), func(s Scenario) bool { return !strings.Contains(s.Name, *only) })
	case *random >= 0:
		if p.scenarios, p.random = nil, *random; *random > 0 {
			p.picture = ""
		}
	}
	if p.seed == 0 {
		p.seed = rand.Uint64N(1e6) + 1
	}
	inTest(p.run)
}

// inTest runs f with a testing.T, which testing/synctest asks for, and exits.
func inTest(f func(*testing.T)) {
	all := func(string, string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "quota", F: f}}, nil, nil)
}

// plan is what one run of the program does.
type plan struct {
	scenarios []Scenario
	stacks    []Stack
	repeat    int // runs of ours for each scenario, of which the median counts
	again     int // the same for each random API
	random    int
	seed      uint64
	picture   string // a file; "" for none
}

func (p plan) run(t *testing.T) {
	var broken []string
	if len(p.scenarios) > 0 {
		fmt.Println(header(p.stacks))
		rows := table(t, "scenario", p.scenarios, p.stacks, p.repeat, true)
		text, b := judge(rows)
		fmt.Println("\nThe promises, by ovhauth:\n" + text)
		broken = append(broken, b...)
	}
	if p.random > 0 {
		fmt.Printf("Random APIs, -seed %d\n", p.seed)
		text, b := judgeRandom(table(t, "random", Random(p.seed, p.random), p.stacks[:1], p.again, false))
		fmt.Print(text)
		broken = append(broken, b...)
	}
	if p.picture != "" {
		if err := os.WriteFile(p.picture, picture(t), 0o644); err != nil {
			t.Error(err)
		}
	}
	if len(p.scenarios) > 0 && len(p.stacks) > 1 && p.random > 0 {
		fmt.Print("\n5. what a waiting call costs\n" + waiters(t))
	}
	for _, b := range broken {
		t.Error(b)
	}
}

// table runs every stack on every scenario, the first one as often as repeat says, and returns what the first made of them. It prints the
// rows in order, if it is to show them.
func table(t *testing.T, name string, scenarios []Scenario, stacks []Stack, repeat int, show bool) []measured {
	found := make([]measured, len(scenarios))
	rows := make([]chan string, len(scenarios))
	for i := range rows {
		rows[i] = make(chan string, 1)
	}
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		for _, row := range rows {
			if text := <-row; show {
				fmt.Println(text)
			}
		}
	}()
	t.Run(name, func(t *testing.T) {
		for i, s := range scenarios {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				ideal := Run(t, s, nil)
				m := measured{s: s, ideal: ideal}
				for range repeat {
					m.runs = append(m.runs, Run(t, s, &stacks[0]))
				}
				// Much is chance, as how two processes share a quota. A few runs that break a promise are looked at again, by many.
				if _, broken := judge([]measured{m}); len(broken) > 0 && show {
					for range 15 * repeat {
						m.runs = append(m.runs, Run(t, s, &stacks[0]))
					}
				}
				var row strings.Builder
				row.WriteString("| " + s.Name + " |" + cell(m.typical(), ideal))
				for _, stack := range stacks[1:] {
					row.WriteString(cell(Run(t, s, &stack), ideal))
				}
				found[i] = m
				rows[i] <- row.String() + notes(m.typical())
			})
		}
	})
	<-printed
	return found
}
