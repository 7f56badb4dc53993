package compat

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
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
}

var (
	update  = flag.Bool("update", false, "write the table of docs/clients.md")
	ran     = map[row][]string{} // the tests of each row
	skipped bool                 // by a test that has a row
	listing sync.Mutex
)

// listed puts rows into docs/clients.md, if the test passes. Tests of the same client share a row.
func listed(t *testing.T, rows ...row) {
	test, _, _ := strings.Cut(t.Name(), "/")
	t.Cleanup(func() {
		listing.Lock()
		defer listing.Unlock()
		switch {
		case t.Skipped():
			skipped = true
		case !t.Failed():
			for _, r := range rows {
				ran[r] = append(ran[r], test)
			}
		}
	})
}

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	selected := flag.Lookup("test.run").Value.String() + flag.Lookup("test.skip").Value.String()
	if code == 0 && selected == "" {
		if err := compareTable("../docs/clients.md"); err != nil {
			fmt.Println("FAIL:", err)
			code = 1
		}
	}
	removePrograms()
	os.Exit(code)
}

// The table stands between these lines of docs/clients.md.
const (
	tableBegin = "<!-- from here on written by go test -update, in compat -->\n"
	tableEnd   = "<!-- up to here -->\n"
)

// compareTable compares the table at path with what ran. If a test was skipped, its row may be there all the same.
func compareTable(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), tableBegin)
	got, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		return fmt.Errorf("%s does not say where the table begins and ends: %q, %q", path, tableBegin, tableEnd)
	}
	want := table()
	if *update && skipped {
		return errors.New("a test was skipped, so the table cannot be written; run compat/install")
	}
	if *update {
		return os.WriteFile(path, []byte(before+tableBegin+want+tableEnd+after), 0o666)
	}
	lines := strings.Split(got, "\n")
	for line := range strings.SplitSeq(want, "\n") {
		if !slices.Contains(lines, line) {
			return fmt.Errorf("%s lacks a line; write it by go test -update:\n%s", path, line)
		}
	}
	if !skipped && got != want {
		return fmt.Errorf("%s has a line too much, or in another order; write it by go test -update", path)
	}
	return nil
}

const tableHead = `| client | language | how it is signed | base URL to configure | keys to configure | tested by |
|---|---|---|---|---|---|
`

func table() string {
	rows := slices.SortedFunc(maps.Keys(ran), func(a, b row) int {
		return cmp.Or(cmp.Compare(a.Language, b.Language), cmp.Compare(strings.ToLower(a.Client), strings.ToLower(b.Client)),
			cmp.Compare(a.Wiring, b.Wiring))
	})
	var b strings.Builder
	b.WriteString(tableHead)
	for _, r := range rows {
		name := strings.TrimSpace(r.Client + " " + cmp.Or(r.Version, versionOf(r.Module)))
		tests := slices.Compact(slices.Sorted(slices.Values(ran[r])))
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | `%s` |\n", name, r.Language, r.Wiring, r.BaseURL, r.Keys, strings.Join(tests, "`, `"))
	}
	return b.String()
}

// versionOf returns the version of a module in go.mod.
func versionOf(module string) string {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		panic(err) // go test needs it, too
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == module {
			return strings.TrimPrefix(fields[1], "v")
		}
	}
	return ""
}
