// Package docs has no code: its tests compare the Markdown files of the repository with what there is.
package docs

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.com/ovhauth/ovhtest"
)

// Everything here is relative to the root of the repository.
func TestMain(m *testing.M) {
	if err := os.Chdir(".."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// snippet is a fenced block of a Markdown file.
type snippet struct {
	file, language, text string
	line                 int // of its first line
}

func (s snippet) String() string { return fmt.Sprintf("%s:%d", s.file, s.line) }

// markdown returns the text of each Markdown file of the repository, by its path.
func markdown(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "testdata"):
			return fs.SkipDir
		case filepath.Ext(path) == ".md":
			text, err := os.ReadFile(path)
			texts[filepath.ToSlash(path)] = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

var fence = regexp.MustCompile("(?ms)^( *)```(\\w*)\n(.*?)^ *```$")

// snippets returns the blocks of the Markdown files in one of these languages.
func snippets(t *testing.T, languages ...string) (found []snippet) {
	t.Helper()
	texts := markdown(t)
	for _, file := range slices.Sorted(maps.Keys(texts)) {
		text := texts[file]
		for _, m := range fence.FindAllStringSubmatchIndex(text, -1) {
			if language := text[m[4]:m[5]]; slices.Contains(languages, language) {
				line := 2 + strings.Count(text[:m[0]], "\n")
				found = append(found, snippet{file, language, text[m[6]:m[7]], line})
			}
		}
	}
	return found
}

// given is what the fragments take as given.
const given = `
type (
	Zone   struct{ Name string }
	Domain struct{ Name string }
	Policy struct{ Name string }
	Record struct {
		FieldType, Target string
		TTL               int
	}
	Me struct{ FirstName string }
)
var (
	ctx          context.Context
	client       *http.Client
	server       *ovhtest.Server
	resp         *http.Response
	req          *http.Request
	err          error
	transport    http.RoundTripper
	clientID, clientSecret string
)
func fromVault(context.Context) (ovhauth.Credentials, error) { panic("") }
func use(...any) {}
`

// packages are what snippets may use by its name alone, and the module that has it among its requirements; none has the standard library.
var packages = map[string]struct{ path, module string }{
	"ovhauth":     {"example.com/ovhauth", "."},
	"ovhjson":     {"example.com/ovhauth/ovhjson", "."},
	"consumerkey": {"example.com/ovhauth/consumerkey", "."},
	"ovhtest":     {"example.com/ovhauth/ovhtest", "."},
	"httpmock":    {"github.com/jarcoal/httpmock", "."},
	"redislimit":  {"example.com/ovhauth/redislimit", "redislimit"},
	"redis":       {"github.com/redis/go-redis/v9", "redislimit"},
	"iam":         {"example.com/ovhauth/compat/iam", "compat"},
	"ovh":         {"github.com/ovh/go-ovh/ovh", "compat"},
	"otelhttp":    {"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "compat"},
	"rate":        {"golang.org/x/time/rate", "compat"},

	"bytes": {"bytes", ""}, "context": {"context", ""}, "errors": {"errors", ""}, "fmt": {"fmt", ""}, "io": {"io", ""},
	"http": {"net/http", ""}, "httputil": {"net/http/httputil", ""}, "log": {"log", ""}, "os": {"os", ""}, "slog": {"log/slog", ""},
	"strings": {"strings", ""}, "synctest": {"testing/synctest", ""}, "testing": {"testing", ""}, "time": {"time", ""}, "url": {"net/url", ""},
}

// source makes a file of a snippet: one that is a file itself as it is, declarations and statements with what they need around them.
func (s snippet) source() (text string, whole bool) {
	if strings.HasPrefix(s.text, "package ") || strings.HasPrefix(s.text, "// Command ") {
		return s.text, true
	}
	code := strings.ReplaceAll(s.text, "…", "")
	if !strings.HasPrefix(code, "func ") && !strings.HasPrefix(code, "type ") {
		code = "func _() error {\n" + code + "\nreturn nil\n}\n"
	}
	return code, false
}

// names are those of packages that code uses.
func names(t *testing.T, code string) (used []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+code, parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("%v in\n%s", err, code)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := selector.X.(*ast.Ident); ok && packages[x.Name].path != "" && !slices.Contains(used, x.Name) {
				used = append(used, x.Name)
			}
		}
		return true
	})
	return used
}

// file is a snippet that is ready to be checked.
type file struct {
	snippet
	module string
	ast    *ast.File
	whole  bool
}

func (s snippet) parse(t *testing.T, fset *token.FileSet) file {
	t.Helper()
	code, whole := s.source()
	if !whole {
		code += given
		if strings.Contains(code, "rdb") { // few need a client of redis
			code += "var rdb redis.UniversalClient\n"
		}
		header := []string{"package p"}
		for _, name := range names(t, code) {
			header = append(header, fmt.Sprintf("import %q", packages[name].path))
		}
		code = strings.Join(append(header, code), "\n")
	}
	parsed, err := parser.ParseFile(fset, s.String(), code, parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("%s: %v in\n%s", s, err, code)
	}
	f := file{snippet: s, module: ".", ast: parsed, whole: whole}
	for _, spec := range parsed.Imports {
		for _, p := range packages {
			if spec.Path.Value == strconv.Quote(p.path) && p.module != "" && p.module != "." {
				f.module = p.module
			}
		}
	}
	return f
}

// exports returns the compiled packages that files of a module need, by import path. It fails where the modules are not at hand:
// go test ./... needs no network, so only CI fetches what other modules require.
func exports(module string, files []file) (map[string]string, error) {
	args := []string{"list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}} {{.Export}}{{end}}"}
	for _, f := range files {
		for _, spec := range f.ast.Imports {
			if path := strings.Trim(spec.Path.Value, `"`); !slices.Contains(args, path) {
				args = append(args, path)
			}
		}
	}
	list := exec.Command("go", args...)
	list.Dir = module
	if os.Getenv("CI") == "" {
		list.Env = append(list.Environ(), "GOPROXY=off")
	}
	var complaint bytes.Buffer
	list.Stderr = &complaint
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, &complaint)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, export, _ := strings.Cut(strings.TrimSpace(line), " ")
		found[path] = export
	}
	return found, nil
}

// Every Go snippet of the Markdown files compiles.
func TestSnippetsCompile(t *testing.T) {
	fset := token.NewFileSet()
	byModule := map[string][]file{}
	for _, s := range snippets(t, "go") {
		f := s.parse(t, fset)
		byModule[f.module] = append(byModule[f.module], f)
	}
	for module, files := range byModule {
		t.Run(module, func(t *testing.T) {
			compiled, err := exports(module, files)
			if err != nil && os.Getenv("CI") == "" && module != "." {
				t.Skipf("the requirements of %s are not at hand: %v", module, err)
			}
			if err != nil {
				t.Fatal(err)
			}
			from := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(compiled[path]) })
			for _, f := range files {
				config := types.Config{Importer: from, Error: func(err error) {
					wrong, ok := errors.AsType[types.Error](err)
					if soft := ok && wrong.Soft && !f.whole; !soft { // a fragment need not use what it declares
						t.Errorf("want %s to compile: %v", f.snippet, err)
					}
				}}
				config.Check("p", fset, []*ast.File{f.ast}, nil)
			}
		})
	}
}

// The requirements of other modules are not downloaded.
func TestSnippetsNeedNoNetwork(t *testing.T) {
	asked := false
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = true
		http.NotFound(w, r)
	}))
	defer proxy.Close()
	t.Setenv("CI", "")
	t.Setenv("GOPROXY", proxy.URL)
	t.Setenv("GOMODCACHE", t.TempDir())
	goOVH := program(t, "docs/go-ovh.md", 0).parse(t, token.NewFileSet())
	if _, err := exports(goOVH.module, []file{goOVH}); err == nil || asked {
		t.Errorf("go list in compat, with an empty module cache: error %v, module proxy asked %t; want an error, and nobody asked", err, asked)
	}
}

// notRun are the commands of the Markdown files that .ci/run does not run, and why.
var notRun = map[string]string{
	"go test -run Soak -soak 5m -v .":                  "it takes five minutes; go test ./... runs it for a shorter time",
	"go test -run '^$' -fuzz FuzzWire -fuzztime 30s .": "CI runs every fuzz test, each for FUZZTIME",
	"go test -run TestErrorsReadAsSentences -update .": "it rewrites testdata/errors.txt",
	"(cd bench && go run ./report -short)":             "it takes a minute and asserts nothing; CI runs it with -smoke",
	"(cd bench && go run ./report)":                    "it takes four minutes and rewrites the figures; CI runs it with -smoke",
	"(cd bench && go run ./quota)":                     "it takes minutes and rewrites the picture; CI runs it with -short",
	"(cd compat && go test ./...)":                     "CI runs it with -race",
	"(cd redislimit && go run ./fleet)":                "it takes twenty minutes and writes a picture; CI runs it for seconds",
	"(cd redislimit && go test ./...)":                 "CI runs it with -race",
	".ci/run":                                          "it is what CI runs",
	"FUZZTIME=5s .ci/run":                              "it is what CI runs",
	"go run ./examples/server":                         "it runs until it is stopped; go test ./... runs it for a moment",
	"go run ./examples/proxy":                          "it runs until it is stopped; go test ./... runs it for a moment",
}

var inline = regexp.MustCompile("`(go [^`]+)`") // a command within a sentence

// Every command of the Markdown files is run by CI, or named above.
func TestCommandsAreRun(t *testing.T) {
	ci, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	commands := snippets(t, "sh")
	for file, text := range markdown(t) {
		for _, m := range inline.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			commands = append(commands, snippet{file: file, text: m[1]})
		}
	}
	seen := map[string]bool{}
	for _, s := range commands {
		for line := range strings.Lines(strings.ReplaceAll(s.text, "\\\n", "")) {
			command, _, _ := strings.Cut(line, "#")
			command = strings.TrimSpace(command)
			seen[command] = true
			if command != "" && notRun[command] == "" && !strings.Contains(string(ci), command) {
				t.Errorf("%s: want %q in .ci/run or in notRun", s, command)
			}
		}
	}
	for command := range notRun {
		if !seen[command] {
			t.Errorf("%q is in notRun, and in no Markdown file", command)
		}
	}
}

// program is the nth Go snippet of a Markdown file.
func program(t *testing.T, file string, nth int) snippet {
	t.Helper()
	all := slices.DeleteFunc(snippets(t, "go"), func(s snippet) bool { return s.file != file })
	return all[nth]
}

// saying is a handler whose response is always the same.
func saying(body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
}

// The programs of the Markdown files, run as they stand.
func TestProgramsRun(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles programs")
	}
	server := ovhtest.NewServer()
	defer server.Close()
	server.Handle("GET /domain/zone", saying(`["example.ovh","example.com"]`))
	server.Handle("POST /domain/zone/example.ovh/record", saying(`{"id":7,"fieldType":"A","target":"192.0.2.1"}`))
	server.Handle("/domain/zone/example.ovh/record/7", saying("null"))
	server.HandleGuest("POST /order/cart", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"cartId":"of a guest: %t"}`, r.Header.Get("X-Ovh-Signature") == "")
	}))
	keys := server.Credentials()
	for _, test := range []struct {
		program snippet
		want    string
	}{
		{program(t, "README.md", 0), "Jeanne <nil>\n"},
		{program(t, "docs/go-ovh.md", 1), "example.ovh\nexample.com\ncart of a guest: true\n"},
	} {
		path := filepath.Join(t.TempDir(), "main.go")
		if err := os.WriteFile(path, []byte(test.program.text), 0o600); err != nil {
			t.Fatal(err)
		}
		run := exec.Command("go", "run", path)
		run.Env = append(os.Environ(), "OVH_ENDPOINT="+string(server.Endpoint()), "OVH_APPLICATION_KEY="+keys.ApplicationKey,
			"OVH_APPLICATION_SECRET="+keys.ApplicationSecret, "OVH_CONSUMER_KEY="+keys.ConsumerKey)
		out, err := run.CombinedOutput()
		if string(out) != test.want || err != nil {
			t.Errorf("%s prints %q, %v; want %q", test.program, out, err, test.want)
		}
	}
}

// Whoever comes from go-ovh writes no more lines.
func TestPortIsNoLonger(t *testing.T) {
	theirs, ours := program(t, "docs/go-ovh.md", 0), program(t, "docs/go-ovh.md", 1)
	if was, is := strings.Count(theirs.text, "\n"), strings.Count(ours.text, "\n"); is > was {
		t.Errorf("the program has %d lines, with go-ovh %d; want no more", is, was)
	}
}

// changing is what a program prints differently each time: ports, keys, times and IDs.
var changing = regexp.MustCompile(`127\.0\.0\.1:\d+|[A-Z0-9]{4,}…|\$1\$[0-9a-f]+…|\d{10}|EU\.ext-[\w.]+`)

// What the README shows is what go run ./examples/me prints at its end.
func TestREADMEOutput(t *testing.T) {
	if testing.Short() {
		t.Skip("it compiles a program")
	}
	program := filepath.Join(t.TempDir(), "me.exe")
	if out, err := exec.Command("go", "build", "-o", program, "./examples/me").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := exec.Command(program)
	run.Dir = t.TempDir() // where there is no ovh.conf
	run.Env = []string{"HOME=" + run.Dir, "SYSTEMROOT=" + os.Getenv("SYSTEMROOT")}
	out, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	shown := slices.DeleteFunc(snippets(t, ""), func(s snippet) bool { return s.file != "README.md" })[0]
	got, want := changing.ReplaceAllString(string(out), "*"), changing.ReplaceAllString(shown.text, "*")
	if !strings.HasSuffix(got, want) {
		t.Errorf("go run ./examples/me prints\n%s\nwant it to end as %s has it:\n%s", got, shown, want)
	}
}

// The README is one page: so many words outside code blocks, and each page of docs linked once.
func TestREADMEIsOnePage(t *testing.T) {
	texts := markdown(t)
	prose := fence.ReplaceAllString(texts["README.md"], "")
	if words := len(strings.Fields(prose)); words > 1300 {
		t.Errorf("the README has %d words outside code blocks, want at most 1300", words)
	}
	for file := range texts {
		if link := "](" + file + ")"; strings.HasPrefix(file, "docs/") && strings.Count(prose, link) != 1 {
			t.Errorf("the README links %s %d times, want once", file, strings.Count(prose, link))
		}
	}
}

var (
	link = regexp.MustCompile(`\]\(([^):]+)\)`)
	span = regexp.MustCompile("`[^`]*`") // of code
)

// Links within the repository, and tests that are named as evidence, exist.
func TestMarkdownPointsAtWhatThereIs(t *testing.T) {
	tests := testNames(t)
	for file, text := range markdown(t) {
		text = fence.ReplaceAllString(text, "")
		for _, m := range link.FindAllStringSubmatch(span.ReplaceAllString(text, "code"), -1) {
			path, _, _ := strings.Cut(m[1], "#")
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), cmp.Or(path, "."))); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			}
		}
		for _, name := range regexp.MustCompile(`\b(?:(?:Test|Example|Fuzz|Benchmark)[A-Z]|Example_)\w+\b`).FindAllString(text, -1) {
			if !tests[name] {
				t.Errorf("%s names %s, which does not exist", file, name)
			}
		}
	}
}

// testNames are the tests of all modules.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (\w+)\(`).FindAllSubmatch(text, -1) {
			found[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The kinds, reasons and attributes of events in docs/production.md, by which people make their metrics, are those of event.go.
func TestEventsAreDocumented(t *testing.T) {
	source, err := os.ReadFile("event.go")
	if err != nil {
		t.Fatal(err)
	}
	page := markdown(t)["docs/production.md"]
	all := func(text, pattern string) (found []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			found = append(found, m[1])
		}
		slices.Sort(found)
		return slices.Compact(found)
	}
	reasons := strings.Join(all(page, "(?m)^\\| `[a-z ]+` \\| (`.+`) \\|$"), " ")
	for _, test := range []struct {
		name      string
		got, want []string
	}{
		{"kinds, by level", all(page, "(?m)^\\| `([a-z ]+)` \\| (?:Debug|Info) \\|"), all(string(source), `Event\w+: +"(.+?)"`)},
		{"kinds, by reason", all(page, "(?m)^\\| `([a-z ]+)` \\| `"), all(string(source), `Event\w+: +"(.+?)"`)},
		{"reasons", all(reasons, "`(.+?)`"), all(string(source), `Reason\w+ += "(.+?)"`)},
		{"attributes", all(all(page, `Its attributes are ([^;.]+)`)[0], "`(.+?)`"), all(string(source), `slog\.(?:String|Int|Duration)\("(\w+)"`)},
	} {
		if len(test.want) == 0 || !slices.Equal(test.got, test.want) {
			t.Errorf("docs/production.md has the %s\n%q\nwant those of event.go\n%q", test.name, test.got, test.want)
		}
	}
}

// What the package cannot promise is said where users look.
func TestWhatCannotBePromisedIsSaid(t *testing.T) {
	texts := markdown(t)
	for _, file := range []string{"README.md", "SECURITY.md"} {
		text := strings.Join(strings.Fields(strings.ReplaceAll(texts[file], "*", "")), " ")
		for _, words := range []string{"Whoever sees the headers of a signed request can use", "another body", "A Base that follows redirects", "HTTP cache"} {
			if !strings.Contains(text, words) {
				t.Errorf("%s does not say %q", file, words)
			}
		}
	}
	if want := "`WithRedactedHeaders`"; !strings.Contains(texts["SECURITY.md"], want) {
		t.Errorf("SECURITY.md does not name %s", want)
	}
}

// stopping are words that make a reader stop: words of nobody's field, of another language's grammar, or of one's own.
var stopping = regexp.MustCompile(`(?i)\b(answer(s|ed|ing)?|refus(e|es|ed|al|als|ing)|mend(s|ed|ing)?|lest|held by|the floor|as little as|authoris\w+|of each time that)\b`)

func TestMarkdownIsPlain(t *testing.T) {
	for file, text := range markdown(t) {
		for number, line := range strings.Split(text, "\n") {
			if word := stopping.FindString(line); word != "" {
				t.Errorf("%s:%d: want another word than %q", file, number+1, word)
			}
		}
	}
}
