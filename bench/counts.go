package bench

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"

	"example.com/ovhauth"
)

// Allocations counts what ours allocates for one request, the answer of the base included.
func Allocations(c Comparison, count, size float64) []Row {
	n := testing.AllocsPerRun(100, c.Ours)
	return []Row{{Shape: c.Shape, Beside: "allocations", Bound: "≤", Target: count, Value: n}, Allocated(c, size)}
}

// Allocated counts the bytes of the same.
func Allocated(c Comparison, size float64) Row {
	const runs = 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	repeat(c.Ours, runs, 1)
	runtime.ReadMemStats(&after)
	return Row{Shape: c.Shape, Beside: "allocated", Bound: "≤", Target: size, Unit: "B",
		Value: float64((after.TotalAlloc - before.TotalAlloc) / runs)}
}

// Contention has ours sign n times on every core at once, and counts the waits for a lock below our Transport.
func Contention(n int) Row {
	c := signing("GET", nil, 0, 0, 0)
	cores := runtime.GOMAXPROCS(0)
	repeat(c.Ours, n/10+1, cores) // fills the pools
	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	repeat(c.Ours, n, cores)
	var profile bytes.Buffer
	pprof.Lookup("mutex").WriteTo(&profile, 1)
	waits := strings.Count(profile.String(), "example.com/ovhauth.(*Transport).RoundTrip")
	return Row{Shape: "GET on every core at once", Beside: "stacks that waited for a lock", Bound: "≤", Value: float64(waits)}
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
