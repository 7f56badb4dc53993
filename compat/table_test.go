package compat

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

// row is a line of docs/clients.md: something that the tests of this package have run.
type row struct {
	Client, Module    string // Module, if it has one of go.mod's, says the version
	Version, Language string
	Wiring            string // how it comes to be signed
	BaseURL, Keys     string // what to configure
	test              string
}

var (
	update  = flag.Bool("update", false, "write docs/clients.md")
	ran     []row
	skipped bool // by a test that has a row
	listing sync.Mutex
)

// listed puts a row into docs/clients.md, if the test passes.
func listed(t *testing.T, r row) {
	r.test, _, _ = strings.Cut(t.Name(), "/")
	t.Cleanup(func() {
		listing.Lock()
		defer listing.Unlock()
		switch {
		case t.Skipped():
			skipped = true
		case !t.Failed():
			ran = append(ran, r)
		}
	})
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if everything := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""; code == 0 && everything {
		if err := compareTable("../docs/clients.md"); err != nil {
			fmt.Println("FAIL:", err)
			code = 1
		}
	}
	removePrograms()
	os.Exit(code)
}

// compareTable compares the table at path with what ran. If a test was skipped, its row may be there all the same.
func compareTable(path string) error {
	want := table()
	if *update {
		return os.WriteFile(path, []byte(want), 0o666)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.Split(string(got), "\n")
	for line := range strings.SplitSeq(want, "\n") {
		if !slices.Contains(lines, line) {
			return fmt.Errorf("%s lacks a line; write it by go test -update:\n%s", path, line)
		}
	}
	if !skipped && string(got) != want {
		return fmt.Errorf("%s has a line too much, or in another order; write it by go test -update", path)
	}
	return nil
}

const tableHead = `# Clients

Each of these was run by the tests of [compat](../compat), as it is, against an API whose clock is an hour ahead and which sends 503
to one request in ten: what it reads never fails, what it writes is executed exactly as often as it is told 200. *The proxy* is
[examples/proxy](../examples/proxy), here at localhost:8080. *Keys* are what to give to a client that wants some; the real ones are
where ovhauth finds them. Written by ` + "`go test -update`" + ` in compat.

| client | language | how it is signed | base URL to configure | keys to configure | tested by |
|---|---|---|---|---|---|
`

func table() string {
	slices.SortFunc(ran, func(a, b row) int {
		return cmp.Or(cmp.Compare(a.Language, b.Language), cmp.Compare(strings.ToLower(a.Client), strings.ToLower(b.Client)),
			cmp.Compare(a.Wiring, b.Wiring))
	})
	var b strings.Builder
	b.WriteString(tableHead)
	for _, r := range ran {
		name := strings.TrimSpace(r.Client + " " + cmp.Or(r.Version, versionOf(r.Module)))
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", name, r.Language, r.Wiring, r.BaseURL, r.Keys, r.test)
	}
	return b.String()
}

// versionOf returns the version of a module that this test is built with.
func versionOf(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, d := range info.Deps {
		if d.Path == module {
			return strings.TrimPrefix(d.Version, "v")
		}
	}
	return ""
}
