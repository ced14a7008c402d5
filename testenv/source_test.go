package testenv

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Bounds on the project's own source, beside those of the linter. They keep files and types small
// enough to be read in one sitting.
const (
	maxLines   = 500 // of a file
	maxColumns = 100 // of a line of prose: comments and Markdown
	maxMethods = 25  // of a type
)

// TestSource holds these bounds, on every file that git tracks.
func TestSource(t *testing.T) {
	methods := map[string]int{}
	for _, path := range tracked(t, "*.go", "*.py", "*.md") {
		text, err := os.ReadFile(filepath.Join("..", path))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("\n<<<<<<< ")) {
			t.Errorf("%s has the marks of a conflict", path)
		}
		if filepath.Ext(path) == ".md" {
			for n, line := range proseOf(text) {
				checkColumns(t, path, n, line)
			}
			continue
		}
		if bytes.Contains(text, []byte("// Code generated ")) {
			continue
		}
		if n := bytes.Count(text, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines, more than %d: divide it", path, n, maxLines)
		}
		if filepath.Ext(path) == ".go" {
			checkGo(t, path, text, methods)
		}
	}
	for name, n := range methods {
		if n > maxMethods {
			t.Errorf("%s has %d methods, more than %d: divide it", name, n, maxMethods)
		}
	}
}

func tracked(t *testing.T, patterns ...string) []string {
	t.Helper()
	list := exec.Command("git", append([]string{"-C", "..", "ls-files", "-z", "--"}, patterns...)...)
	out, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	names := strings.Split(strings.TrimRight(string(out), "\x00"), "\x00")
	if len(names) < 10 {
		t.Fatalf("git tracks %d files only", len(names))
	}
	return names
}

// checkGo looks at comments, and counts the methods of types that are not of tests.
func checkGo(t *testing.T, path string, text []byte, methods map[string]int) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for _, group := range file.Comments {
		for _, comment := range group.List {
			first, last := set.Position(comment.Pos()), set.Position(comment.End())
			if line := lines[first.Line-1]; strings.TrimSpace(line[:first.Column-1]) != "" || strings.HasPrefix(comment.Text, "//go:") {
				continue // it follows code
			}
			for n := first.Line; n <= last.Line; n++ {
				checkColumns(t, path, n, lines[n-1])
			}
		}
	}
	if strings.HasSuffix(path, "_test.go") {
		return
	}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil {
			methods[filepath.Dir(path)+"."+receiver(f.Recv.List[0].Type)]++
		}
	}
}

// receiver is the name of the type in a receiver.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return fmt.Sprintf("%T", e)
}

func checkColumns(t *testing.T, path string, n int, line string) {
	t.Helper()
	if columns := utf8.RuneCountInString(strings.ReplaceAll(line, "\t", "    ")); columns > maxColumns {
		t.Errorf("%s:%d: %d columns, more than %d", path, n, columns, maxColumns)
	}
}

// proseOf are the lines of a Markdown file that can be broken, by their numbers: not those of
// tables, code and lone links.
func proseOf(text []byte) map[int]string {
	prose := map[int]string{}
	code := false
	for i, line := range strings.Split(string(text), "\n") {
		bare := strings.TrimLeft(line, " >-*")
		switch {
		case strings.HasPrefix(bare, "```"):
			code = !code
		case code, strings.HasPrefix(bare, "|"), strings.HasPrefix(line, "    "):
		case !strings.Contains(strings.TrimSpace(bare), " "): // a link, or a path
		default:
			prose[i+1] = line
		}
	}
	return prose
}

func TestProse(t *testing.T) {
	long := strings.Repeat("word ", 30)
	text := "# Title\n" + long + "\n| " + long + "|\n```\n" + long + "\n```\n    " + long + "\n- [" + strings.ReplaceAll(long, " ", "_") + "]\n- " + long + "\n"
	var got []int
	for n, line := range proseOf([]byte(text)) {
		if utf8.RuneCountInString(line) > maxColumns {
			got = append(got, n)
		}
	}
	slices.Sort(got)
	if want := []int{2, 9}; !slices.Equal(got, want) {
		t.Errorf("long lines of prose: %v, want %v", got, want)
	}
}
