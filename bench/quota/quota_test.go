package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each protocol takes a second or two. Nothing but the number of failures is judged: the machine may be slow.
func TestOverSocketsNoneFails(t *testing.T) {
	for i, r := range overSockets(40, 30, time.Second) {
		if want := []string{"HTTP/1.1", "HTTP/2.0"}[i]; r.Failed != 0 || r.Protocol != want || r.Rejections == 0 {
			t.Errorf("%s: want %s, none failed, and some 429s", r, want)
		}
	}
}

func TestBrokenPromisesAreFound(t *testing.T) {
	s := Scenario{Name: "given", Quota: perMin("fixed", 60)}
	ideal := Result{OK: 1000, Busy: 1000 * time.Second}
	good := Result{OK: 1000, Busy: 1100 * time.Second, Rejected: 80, Late: 49}
	late, slow, failing := good, good, good
	late.Late, slow.Busy, failing.Unexcused = 51, 1161*time.Second, 1
	stray := Result{OK: 1000, Busy: 1011 * time.Second, Rejected: 1}
	for _, c := range []struct {
		name  string
		s     Scenario
		given Result
		want  int // broken promises
	}{
		{"all reached", s, good, 0},
		{"too many 429s", s, late, 1},
		{"more 429s without Retry-After", Scenario{Quota: s.Quota, RetryAfter: Absent}, late, 0},
		{"too slow", s, slow, 1},
		{"a failed call", s, failing, 1},
		{"a stray 429 that costs too much", Scenario{SpuriousAt: 1}, stray, 1},
		{"slower without any 429", Scenario{}, Result{OK: 1000, Busy: 1010 * time.Second}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			if text, broken := judge([]measured{{c.s, []Result{c.given}, ideal}}); len(broken) != c.want {
				t.Errorf("%d broken promises %q, want %d:\n%s", len(broken), broken, c.want, text)
			}
		})
	}
}

// The peers are models or other people's code: what is known of them must come out.
func TestPeersFailAsTheyAreKnownTo(t *testing.T) {
	s := Scenario{Quota: perMin("fixed", 60), RetryAfter: Absent}
	for _, c := range []struct {
		stack     int
		low, high int // failed calls
	}{{0, 0, 0}, {1, 940, 940}, {2, 600, 900}, {3, 150, 400}, {4, 0, 0}, {5, 0, 0}} {
		if r := Run(t, s, &stacks[c.stack]); r.Failed < c.low || r.Failed > c.high {
			t.Errorf("%s: %d calls failed, want %d to %d", stacks[c.stack].Name, r.Failed, c.low, c.high)
		}
	}
}

// Each constant of the pace names the scenario that shows its reason.
func TestConstantsNameScenarios(t *testing.T) {
	source, err := os.ReadFile("../../pace.go")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(source), "// The constants")
	text, _, _ = strings.Cut(text, "\n)")
	names := regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(text, -1)
	if len(names) < 10 {
		t.Errorf("%d scenarios are named, want at least 10", len(names))
	}
	for _, name := range names {
		if !slices.ContainsFunc(Scenarios, func(s Scenario) bool { return strings.Contains(s.Name, name[1]) }) {
			t.Errorf("pace.go names %q, want a part of a scenario's name", name[1])
		}
	}
}
