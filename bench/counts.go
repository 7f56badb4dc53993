package bench

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"

	"example.com/ovhauth"
)

// Allocations counts what ours allocates for one call, the response of the base included.
func Allocations(c Comparison) []Row {
	n := testing.AllocsPerRun(100, c.Ours)
	return []Row{{Shape: c.Shape, Beside: "allocations", Bound: "≤", Target: c.Allocs, Value: n}, Allocated(c)}
}

// Allocated counts the bytes of the same.
func Allocated(c Comparison) Row {
	const runs = 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	repeat(c.Ours, runs, 1)
	runtime.ReadMemStats(&after)
	return Row{Shape: c.Shape, Beside: "allocated", Bound: "≤", Target: c.Bytes, Unit: "B",
		Value: float64((after.TotalAlloc - before.TotalAlloc) / runs)}
}

// Contention has ours, and ghinstallation, which takes a lock for each request, work n times on every core at once, and counts the
// places in the code that waited for a lock. Without ghinstallation's, ours would say nothing.
func Contention(n int) []Row {
	row := func(beside string, rt http.RoundTripper) Row {
		return Row{Shape: "GET on every core at once", Beside: "places that wait for a lock, " + beside, Value: float64(contended(rt, n))}
	}
	ours, theirs := row("ours", retrying(signed(noop))), row("ghinstallation", github(noop))
	if theirs.Value > 0 {
		ours.Bound = "≤"
	}
	return []Row{ours, theirs}
}

func contended(rt http.RoundTripper, n int) (places int) {
	cores := runtime.GOMAXPROCS(0)
	do := send(rt, newRequest(http.MethodGet, meURL, nil))
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // after each collection, a sync.Pool locks once for each core
	repeat(do, n/10+1, cores)                        // fills the pools
	before := lockWaits()
	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	repeat(do, n, cores)
	return lockWaits() - before
}

// lockWaits counts the stacks in the mutex profile that let go of a lock that somebody waited for. The runtime's own locks are no
// Mutex: every program that allocates waits for them now and then.
func lockWaits() int {
	var profile bytes.Buffer
	pprof.Lookup("mutex").WriteTo(&profile, 1)
	stacks := 0
	for stack := range strings.SplitSeq(profile.String(), "\n\n") {
		if strings.Contains(stack, "Mutex).") && strings.Contains(stack, ").RoundTrip") {
			stacks++
		}
	}
	return stacks
}

var highWater = regexp.MustCompile(`VmHWM:\s*(\d+) kB`)

// Stream sends a file to url, signed, and returns by how many KiB the peak of the process's memory has grown. It needs Linux, and
// a process of its own, whose peak has not been reached before.
func Stream(url, path string) int {
	rt := &ovhauth.Transport{Endpoint: ovhauth.Endpoint(url), Credentials: keys}
	put := func(req *http.Request) {
		resp := must(rt.RoundTrip(req))
		defer resp.Body.Close()
		must(io.Copy(io.Discard, resp.Body))
	}
	peak := func() int {
		status := must(os.ReadFile("/proc/self/status"))
		return must(strconv.Atoi(string(highWater.FindSubmatch(status)[1])))
	}
	put(newRequest(http.MethodPut, "/file", payload(kib))) // so that what is made once is made
	before := peak()
	put(fileRequest("/file", path, must(os.Stat(path)).Size()))
	return peak() - before
}
