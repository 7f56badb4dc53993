package ovhauth_test

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

var update = flag.Bool("update", false, "write testdata/errors.txt anew")

// Every error that this package can make, to be read aloud: testdata/errors.txt has them all, as they stand in the source, without
// the prefix that permanentErrorf adds. A new or changed one shows there, in the diff of the change that makes it.
func TestErrorsReadAsSentences(t *testing.T) {
	var all []string
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) > 0 {
				if text := errorText(call); text != "" {
					all = append(all, text)
				}
			}
			return true
		})
	}
	slices.Sort(all)
	all = slices.Compact(all)
	for _, text := range all {
		sentence := strings.TrimPrefix(text, "ovhauth: ")
		first := []rune(sentence)[0]
		acronym := len(sentence) > 1 && unicode.IsUpper([]rune(sentence)[1]) // "URL …", "GODEBUG=…"
		if unicode.IsUpper(first) && !acronym && !strings.HasPrefix(sentence, "Base ") || strings.HasSuffix(text, ".") || strings.ContainsAny(text, "\r\n") {
			t.Errorf("%q does not begin in lower case, or ends in a full stop, or has a line break", text)
		}
	}
	const golden = "testdata/errors.txt"
	got := strings.Join(all, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil || got != strings.ReplaceAll(string(want), "\r\n", "\n") {
		t.Errorf("%s is not what the source says (%v): read the new errors aloud, then run go test -run %s -update .\n%s", golden, err, t.Name(), got)
	}
}

// errorText is the text of the error that call makes, if it makes one.
func errorText(call *ast.CallExpr) string {
	var name string
	switch f := call.Fun.(type) {
	case *ast.Ident:
		name = f.Name
	case *ast.SelectorExpr:
		if x, ok := f.X.(*ast.Ident); ok {
			name = x.Name + "." + f.Sel.Name
		}
	}
	if name != "permanentErrorf" && name != "errors.New" && name != "fmt.Errorf" {
		return ""
	}
	return literal(call.Args[0])
}

// literal joins the string literals that + joins in the source.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := strconv.Unquote(e.Value)
		return text
	case *ast.BinaryExpr:
		return literal(e.X) + literal(e.Y)
	}
	return ""
}
