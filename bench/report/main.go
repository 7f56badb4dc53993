// Report measures ovhauth beside its peers, prints a table of the ratios, and writes report.json and report.svg.
//
// Contenders take turns, round by round, and each figure is the median of the ratios within a round, with the quartiles: the
// absolute times of a machine that does other things as well mean nothing.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"example.com/ovhauth/bench"
)

func main() {
	short := flag.Bool("short", false, "measure for half a minute, not for three")
	smoke := flag.Bool("smoke", false, "run everything once, judge nothing, write nothing")
	only := flag.String("only", "", "measure only shapes that contain this, and write nothing")
	dir := flag.String("o", ".", "where to write report.json and report.svg")
	stream := flag.String("stream", "", "used by report itself: stream a file to this URL")
	flag.Parse()
	log.SetFlags(0)
	if *stream != "" {
		fmt.Println(bench.Stream(*stream, flag.Arg(0)))
		return
	}
	r := run{only: *only, work: bench.Effort{Slice: time.Millisecond, Rounds: 1001},
		network: bench.Effort{Slice: 20 * time.Millisecond, Rounds: 201},
		file:    64 << 20, fileRounds: 31, stream: 1 << 30, latency: 50 * time.Millisecond, calls: 100, signatures: 200_000}
	switch {
	case *smoke:
		once := bench.Effort{Rounds: 1}
		r = run{only: *only, work: once, network: once,
			file: 1 << 20, fileRounds: 1, stream: 1 << 20, latency: time.Millisecond, calls: 2, signatures: 100}
	case *short:
		r.work.Rounds, r.network.Rounds, r.fileRounds = 201, 41, 7
	}
	r.all()
	if *smoke {
		return
	}
	table(os.Stdout, r.rows)
	if *only == "" {
		data, err := json.MarshalIndent(r.rows, "", "\t")
		check(err)
		check(os.WriteFile(filepath.Join(*dir, "report.json"), append(data, '\n'), 0o644))
		check(os.WriteFile(filepath.Join(*dir, "report.svg"), draw(r.rows), 0o644))
	}
}

type run struct {
	only              string
	work, network     bench.Effort
	file, stream      int64 // bytes
	fileRounds, calls int
	latency           time.Duration
	signatures        int

	rows []bench.Row
}

// step measures one shape, and says so while it does.
func (r *run) step(shape string, measure func() []bench.Row) {
	if !strings.Contains(shape, r.only) {
		return
	}
	log.Printf("%s …", shape)
	for _, row := range measure() {
		log.Printf("    %-26s %s", row.Beside, figure(row, row.Value))
		r.rows = append(r.rows, row)
	}
}

func (r *run) all() {
	for _, c := range bench.Comparisons() {
		r.step(c.Shape, func() []bench.Row {
			rows := r.work.Compare(c)
			switch {
			case c.Shape == "GET":
				rows = append(rows, bench.Allocations(c, 6, 1126)...)
			case strings.HasPrefix(c.Shape, "POST "):
				rows = append(rows, bench.Allocations(c, 8, 1331)...)
			}
			return rows
		})
	}
	r.step("GET on every core at once", func() []bench.Row { return []bench.Row{bench.Contention(r.signatures)} })
	r.step("PUT a 64 MiB file", func() []bench.Row {
		path := sparse(r.file)
		defer os.Remove(path)
		c := bench.File(path)
		rows := bench.Effort{Rounds: r.fileRounds}.Compare(c)
		return append(rows, bench.Allocated(c, 64<<10))
	})
	r.step("stream a 1 GiB file", r.peak)

	loopback, stop := bench.Loopback()
	defer stop()
	for _, c := range loopback {
		r.step(c.Shape, func() []bench.Row { return r.network.Compare(c) })
	}
	r.step("round trips", func() []bench.Row { return bench.RoundTrips(r.latency, r.calls) })
}

// peak has a process of its own stream a file to a server here.
func (r *run) peak() []bench.Row {
	if _, err := os.Stat("/proc/self/status"); err != nil {
		log.Print("    left out: it reads /proc/self/status")
		return nil
	}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) { io.Copy(io.Discard, req.Body) }))
	defer srv.Close()
	self, err := os.Executable()
	check(err)
	path := sparse(r.stream)
	defer os.Remove(path)
	out, err := exec.Command(self, "-stream", srv.URL, path).Output()
	check(err)
	kib, err := strconv.Atoi(strings.TrimSpace(string(out)))
	check(err)
	return []bench.Row{{Shape: "stream a 1 GiB file", Beside: "peak memory grows by", Bound: "≤", Target: 4, Unit: "MiB",
		Value: float64(kib) / 1024}}
}

// sparse makes a file of zeros that takes no room on the disk. The caller removes it.
func sparse(size int64) string {
	f, err := os.CreateTemp("", "ovhauth-bench")
	check(err)
	defer f.Close()
	check(f.Truncate(size))
	return f.Name()
}

// table prints Markdown.
func table(w io.Writer, rows []bench.Row) {
	fmt.Fprintln(w, "| shape | beside | target | measured | quartiles | |\n|---|---|---|---|---|---|")
	for _, r := range rows {
		target, quartiles, verdict := "", "", ""
		if r.Bound != "" {
			target, verdict = r.Bound+" "+figure(r, r.Target), "misses"
			if r.Holds() {
				verdict = "holds"
			}
		}
		if r.Q1 != r.Q3 {
			quartiles = figure(r, r.Q1) + " – " + figure(r, r.Q3)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", r.Shape, r.Beside, target, figure(r, r.Value), quartiles, verdict)
	}
}

// figure writes v in the row's unit: ratios to three digits or so, counts in full.
func figure(r bench.Row, v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if r.Unit == "×" || v != float64(int(v)) {
		s = strconv.FormatFloat(v, 'g', 3, 64)
	}
	return strings.TrimSpace(s + " " + r.Unit)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
