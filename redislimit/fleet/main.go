// Fleet measures a redislimit.Limiter: many pods, some of them farther from Redis, take their turns from one quota in a real
// redis-server, which it starts on a socket of its own; then a fleet that knows no quota learns one from an API on loopback.
//
//	go run ./fleet            # some twenty minutes, as it learns 60 requests a minute; ends with two tables, and writes fleet.svg
//	go run ./fleet -window 6s # four minutes, as it learns 60 in 6 s, which the waits of seconds fit less well
//
// Pods are goroutines with clients of their own. A pod's distance is what every one of its commands waits for before it is sent,
// on top of what the socket takes.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"log"
	"os"
	"sync"
	"time"
)

// setting is one row of the first table.
type setting struct {
	pods, goroutines int
	requests         int           // a second
	every            time.Duration // that each goroutine asks; 0: again at once
	far              int           // of the pods
	distance         time.Duration // of the far ones, beyond the near ones' 200 µs
}

var settings = []setting{
	{pods: 1, goroutines: 64, requests: 100},
	{pods: 50, goroutines: 1, requests: 19, far: 5, distance: time.Millisecond},
	{pods: 50, goroutines: 4, requests: 100, far: 5, distance: 2 * time.Millisecond},
	{pods: 200, goroutines: 1, requests: 100, far: 20, distance: 2 * time.Millisecond},
	{pods: 200, goroutines: 4, requests: 1000, far: 20, distance: 2 * time.Millisecond},
	{pods: 50, goroutines: 64, requests: 5000, far: 5, distance: 2 * time.Millisecond},
	{pods: 50, goroutines: 1, requests: 100, every: time.Second, far: 5, distance: 2 * time.Millisecond}, // half of the limit
}

func main() {
	seconds := flag.Int("seconds", 20, "that each setting is measured for")
	window := flag.Duration("window", time.Minute, "of the quota of 60 that is learned")
	calls := flag.Int("calls", 1000, "that are made meanwhile; 0 for not at all")
	picture := flag.String("svg", "fleet.svg", "the file that the picture is written to")
	flag.Parse()
	if err := run(*seconds, *window, *calls, *picture); err != nil {
		log.Fatal(err)
	}
}

func run(seconds int, window time.Duration, calls int, picture string) error {
	server, err := startRedis()
	if err != nil {
		return err
	}
	defer server.stop()
	var results []result
	for _, s := range settings {
		r, err := measure(server, s, time.Duration(seconds)*time.Second)
		if err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%s: %.0f %% of the limit\n", s, 100*r.used)
		results = append(results, r)
	}
	var lessons []lesson
	if calls > 0 {
		lessons = []lesson{{retryAfter: "1"}, {retryAfter: ""}}
		var wg sync.WaitGroup
		for i := range lessons { // side by side, as most of it is waiting
			wg.Go(func() { lessons[i] = learn(server, window, calls, lessons[i].retryAfter) })
		}
		wg.Wait()
	}
	printTables(results, lessons)
	return os.WriteFile(picture, []byte(draw(results)), 0o644)
}

func printTables(results []result, lessons []lesson) {
	fmt.Println("| pods × goroutines | limit | far pods | turns | of the limit | most in any second, as the pods see it | far pods' share |" +
		" round trips a turn | Redis CPU a turn |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|")
	for _, r := range results {
		far, share := "none", "–"
		if r.far > 0 {
			far, share = fmt.Sprintf("%d by %s", r.far, r.distance), fmt.Sprintf("%.0f %%", 100*r.share)
		}
		fmt.Printf("| %d × %d | %d/s | %s | %d | %.0f %% | %d | %s | %.2f | %s |\n",
			r.pods, r.goroutines, r.requests, far, r.turns, 100*r.used, r.most, share, r.trips, r.cpu.Round(time.Microsecond))
	}
	if len(lessons) == 0 {
		return
	}
	fmt.Println("\n| pods × goroutines | unknown quota | Retry-After | calls | failed | 429s | avoidable 429s per success |" +
		" time ÷ ideal |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, l := range lessons {
		fmt.Printf("| %d × %d | 60 in %s, sliding | %s | %d | %d | %d | %.3f | %.2f |\n",
			learners, learnerGoroutines, l.window, cmp.Or(l.retryAfter, "none"), l.calls, l.failed, l.rejected, float64(l.avoidable)/float64(l.calls-l.failed), l.took.Seconds()/l.ideal.Seconds())
	}
}

func (s setting) String() string {
	text := fmt.Sprintf("%d × %d, %d/s", s.pods, s.goroutines, s.requests)
	if s.far > 0 {
		text += fmt.Sprintf(", %d farther by %s", s.far, s.distance)
	}
	if s.every > 0 {
		text += ", below it"
	}
	return text
}
