package testenv

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Names in docs: quoted, and by their form those of Go.
var (
	quoted     = regexp.MustCompile("`([^`]+)`")
	identifier = regexp.MustCompile(`^[A-Za-z]\w*(\.[A-Za-z]\w*)?$`)
	blockStart = regexp.MustCompile(`^(\||- |\d+\. |\*\*… )`)
)

// Every file, package and identifier exists that docs/architecture.md and docs/contributing.md
// name. An identifier stands in a file that is named in the same paragraph, item or row of a table.
func TestCodeInDocs(t *testing.T) {
	files, folders := map[string]bool{}, map[string]bool{}
	for _, path := range tracked(t, "*") {
		files[path] = true
		for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
			folders[dir] = true
		}
	}
	blocks := slices.Concat(pageBlocks(t, "docs/architecture.md"), pageBlocks(t, "docs/contributing.md"))
	for _, block := range blocks {
		declared := map[string]bool{}
		var names []string
		for _, m := range quoted.FindAllStringSubmatch(block, -1) {
			switch name := m[1]; {
			case files[name]:
				if strings.HasSuffix(name, ".go") {
					declarations(t, name, declared)
				}
			case folders[name]:
			case identifier.MatchString(name):
				names = append(names, name)
			case strings.Contains(name, "/") && !strings.HasPrefix(name, "/") && !strings.HasPrefix(name, "go test "):
				t.Errorf("no such file or folder: %s", name)
			}
		}
		for _, name := range names {
			if !declared[name] {
				t.Errorf("%s is in no file that is named beside it: %.60s …", name, block)
			}
		}
	}
}

// The table of packages in docs/architecture.md has every package. Imports go down it, never up.
func TestImportsGoDown(t *testing.T) {
	row := map[string]int{} // by package, or the folder that it is in
	for i, block := range pageBlocks(t, "docs/architecture.md") {
		first, _, _ := strings.Cut(strings.TrimPrefix(block, "| "), " | ")
		for _, m := range quoted.FindAllStringSubmatch(first, -1) {
			if strings.HasPrefix(block, "| `") && !strings.Contains(m[1], ".") {
				row[m[1]] = i
			}
		}
	}
	of := func(dir string) (int, bool) {
		root, _, _ := strings.Cut(dir, "/")
		if root == "bench" || root == "testenv" { // one row for all that is in them
			dir = root
		}
		n, ok := row[dir]
		return n, ok
	}
	for _, path := range tracked(t, "*.go") {
		dir := filepath.Dir(path)
		own, ok := of(dir)
		if !ok {
			t.Errorf("docs/architecture.md does not have the package of %s", path)
			continue
		}
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", path), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range file.Imports {
			name, here := strings.CutPrefix(strings.Trim(s.Path.Value, `"`), "inceptor/")
			if n, _ := of(name); here && n < own {
				t.Errorf("%s imports %s, which is above it in docs/architecture.md", path, name)
			}
		}
	}
}

var (
	drawing     = regexp.MustCompile("(?ms)^```mermaid\n(.*?)^```\n")
	drawnFolder = regexp.MustCompile(`<br/>([a-z/]+)"`)
)

// pageBlocks divides a page into its paragraphs, items and rows. A folder in a drawing is a block
// of its own.
func pageBlocks(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, m := range drawing.FindAllStringSubmatch(string(text), -1) {
		for _, folder := range drawnFolder.FindAllStringSubmatch(m[1], -1) {
			folders = append(folders, "`"+folder[1]+"`")
		}
	}
	return append(folders, blocksOf(drawing.ReplaceAllString(string(text), ""))...)
}

// blocksOf divides Markdown into its paragraphs, items and rows.
func blocksOf(text string) (blocks []string) {
	fresh := true
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			fresh = true
			continue
		}
		if fresh || blockStart.MatchString(line) {
			blocks = append(blocks, "")
		}
		fresh = false
		blocks[len(blocks)-1] += line
	}
	return blocks
}

// declarations adds the names that a file declares: functions, types, values, and methods as
// Type.Method.
func declarations(t *testing.T, path string, names map[string]bool) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", path), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				names[d.Name.Name] = true
			} else {
				names[receiver(d.Recv.List[0].Type)+"."+d.Name.Name] = true
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					names[s.Name.Name] = true
				case *ast.ValueSpec:
					for _, n := range s.Names {
						names[n.Name] = true
					}
				}
			}
		}
	}
}
