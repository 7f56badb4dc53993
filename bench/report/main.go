// Report measures ovhauth beside its peers and prints a table of the ratios. It writes report.json and report.svg, and the picture
// and the table of docs/performance.md.
//
// Contenders take turns, round by round, and a ratio is the median of those within a round, with an interval for that median: the
// absolute times of a machine that does other things as well mean nothing. Counts are of one run.
package main

import (
	"bytes"
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
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/ovhauth/bench"
)

func main() {
	short := flag.Bool("short", false, "measure for a minute, not for four, and write nothing")
	smoke := flag.Bool("smoke", false, "run everything once, judge nothing, write nothing")
	only := flag.String("only", "", "measure only shapes that contain this, and write nothing")
	dir := flag.String("o", ".", "where to write report.json and report.svg")
	docs := flag.String("docs", "../docs", "where performance.md is, and performance.svg is to be")
	draw := flag.Bool("draw", false, "measure nothing: make the pictures and the table of report.json again")
	stream := flag.String("stream", "", "used by report itself: stream a file to this URL")
	flag.Parse()
	log.SetFlags(0)
	if *stream != "" {
		fmt.Println(bench.Stream(*stream, flag.Arg(0)))
		return
	}
	if *draw {
		var found report
		data, err := os.ReadFile(filepath.Join(*dir, "report.json"))
		check(err)
		check(json.Unmarshal(data, &found))
		found.write(*dir, *docs)
		return
	}
	r := run{only: *only, work: bench.Effort{Slice: 20 * time.Millisecond, Rounds: 151},
		network: bench.Effort{Slice: 20 * time.Millisecond, Rounds: 501},
		file:    64 << 20, fileRounds: 31, stream: 1 << 30, latency: 50 * time.Millisecond, calls: 100, signatures: 100_000}
	switch {
	case *smoke:
		once := bench.Effort{Rounds: 1}
		r = run{only: *only, work: once, network: once,
			file: 1 << 20, fileRounds: 1, stream: 1 << 20, latency: time.Millisecond, calls: 2, signatures: 100}
	case *short:
		r.work.Rounds, r.network.Rounds, r.fileRounds = 31, 61, 7
	}
	r.all()
	found := report{time.Now().UTC().Format(time.DateOnly), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, processor(), r.rows}
	if *smoke {
		found.table(io.Discard)
		found.draw()
		found.bars()
		return
	}
	found.table(os.Stdout)
	if *only == "" && !*short {
		found.write(*dir, *docs)
	}
}

// write writes what is kept of a run.
func (r report) write(dir, docs string) {
	data, err := json.MarshalIndent(r, "", "\t")
	check(err)
	check(os.WriteFile(filepath.Join(dir, "report.json"), append(data, '\n'), 0o644))
	check(os.WriteFile(filepath.Join(dir, "report.svg"), r.draw(), 0o644))
	check(os.WriteFile(filepath.Join(docs, "performance.svg"), r.bars(), 0o644))
	page := filepath.Join(docs, "performance.md")
	text, err := os.ReadFile(page)
	check(err)
	text, err = r.intoPage(text)
	check(err)
	check(os.WriteFile(page, text, 0o644))
}

const (
	beginTable = "<!-- go run ./report writes from here -->\n"
	endTable   = "<!-- to here -->\n"
)

// intoPage returns a page with a table of what has a target between its two marks.
func (r report) intoPage(page []byte) ([]byte, error) {
	before, rest, begins := bytes.Cut(page, []byte(beginTable))
	_, after, ends := bytes.Cut(rest, []byte(endTable))
	if !begins || !ends {
		return nil, fmt.Errorf("the page lacks the marks %q and %q", beginTable, endTable)
	}
	var b bytes.Buffer
	b.Write(before)
	fmt.Fprintf(&b, "%s\nMeasured on %s with %s on %s, %s.\n\n", beginTable, r.Date, r.Go, r.Platform, r.Processor)
	aimed := r
	aimed.Rows = slices.DeleteFunc(slices.Clone(r.Rows), func(row bench.Row) bool { return row.Bound == "" })
	aimed.table(&b)
	b.WriteString("\n" + endTable)
	b.Write(after)
	return b.Bytes(), nil
}

// report is what was found, and where.
type report struct {
	Date, Go, Platform, Processor string
	Rows                          []bench.Row
}

// processor is what Linux calls it.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	_, name, _ := strings.Cut(string(info), "model name")
	name, _, _ = strings.Cut(name, "\n")
	return strings.Trim(name, "\t :")
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
			if c.Allocs > 0 {
				rows = append(rows, bench.Allocations(c)...)
			}
			return rows
		})
	}
	r.step("GET on two cores", func() []bench.Row {
		c := bench.Comparisons()[0]
		c.Peers = c.Peers[:1]
		return r.work.Scaling(c)
	})
	r.step("GET on every core at once", func() []bench.Row { return bench.Contention(r.signatures) })
	r.step("PUT a 64 MiB file", func() []bench.Row {
		path := sparse(r.file)
		defer os.Remove(path)
		c := bench.File(path)
		rows := bench.Effort{Rounds: r.fileRounds}.Compare(c)
		return append(rows, bench.Allocated(c))
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
func (r report) table(w io.Writer) {
	fmt.Fprintln(w, "| shape | beside | target | measured | 95 % interval | quartiles | |\n|---|---|---|---|---|---|---|")
	for _, row := range r.Rows {
		target, interval, quartiles := "", "", ""
		if row.Bound != "" {
			target = row.Bound + " " + figure(row, row.Target)
		}
		if row.High != 0 {
			interval = figure(row, row.Low) + " – " + figure(row, row.High)
			quartiles = figure(row, row.Q1) + " – " + figure(row, row.Q3)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n",
			row.Shape, row.Beside, target, figure(row, row.Value), interval, quartiles, row.Verdict())
	}
}

// figure writes v in the row's unit: to three digits or so, what is whole or more than 1000 in full.
func figure(r bench.Row, v float64) string {
	s := strconv.FormatFloat(v, 'g', 3, 64)
	if v >= 1000 || v == float64(int(v)) {
		s = strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strings.TrimSpace(s + " " + r.Unit)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
