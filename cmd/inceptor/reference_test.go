package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"inceptor/internal/settings"
	"inceptor/service"
	"inceptor/testenv"
)

var update = flag.Bool("update", false, "write the parts of docs that are made from the code")

// docs/reference.md is the program's own help.
func TestReference(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Reference\n\nWritten by `go test ./cmd/inceptor -run TestReference -update`. " +
		"A test compares it with the code.\n\n")
	writeSettings(t, &b)
	writeMetrics(&b)

	path := filepath.Join(testenv.Root(t), "docs", "reference.md")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Error("docs/reference.md is not what the code says: run the command in its first lines")
	}
}

// docs/operations.md has a row for each command.
func TestCommandsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(testenv.Root(t), "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	var c cli
	for _, command := range newParser(&c).Model.Children {
		if row := regexp.MustCompile("(?m)^\\| `" + command.Name + "[` ]"); !command.Hidden && !row.Match(doc) {
			t.Errorf("docs/operations.md has no row for %q", command.Name)
		}
	}
}

func writeSettings(t *testing.T, b *strings.Builder) {
	var c cli
	model := newParser(&c).Model
	b.WriteString("## Settings\n\nEach setting is a flag (`--kafka.brokers`), an environment variable " +
		"(`INCEPTOR_KAFKA_BROKERS`) and a\nkey of the YAML file that `--config` names (`kafka.brokers`, nested or not). " +
		"A flag overrides the\nenvironment, the environment overrides the file. In the file, `${VAR}` and `${VAR:default}` are\n" +
		"replaced from the environment. `inceptor config` prints what results, and where each value came\nfrom.\n")
	details := commentsOfFields(t, &c)
	var groups []string
	tables := map[string]*strings.Builder{}
	run := commandNode(model, "run")
	for _, f := range slices.Concat(model.Flags, run.Flags) {
		if !strings.Contains(f.Name, ".") && f.Name != "config" {
			continue
		}
		group := "Common"
		if !settings.IsCommon(f.Value) {
			group = "Advanced: " + f.Group.Title
		}
		if tables[group] == nil {
			groups, tables[group] = append(groups, group), &strings.Builder{}
		}
		def := ""
		if f.HasDefault {
			def = "`" + f.Default + "`"
		}
		help := f.Help
		for _, word := range settings.Choices(f.Value) {
			if !strings.Contains(help, word) {
				help += " One of " + strings.Join(settings.Choices(f.Value), ", ") + "."
				break
			}
		}
		if detail := details[fieldOf(f.Target)]; detail != "" {
			help += " " + detail
		}
		fmt.Fprintf(tables[group], "| `%s` | %s | %s |\n", f.Name, def, strings.ReplaceAll(help, "|", "\\|"))
	}
	slices.SortStableFunc(groups, func(a, b string) int { // common ones first, and the log's last
		place := func(s string) int { return slices.Index([]string{"Common", s, "Advanced: Log"}, s) }
		return place(a) - place(b)
	})
	for _, group := range groups {
		fmt.Fprintf(b, "\n### %s\n\n| setting | default | effect |\n| --- | --- | --- |\n%s", group, tables[group])
	}
}

// A fieldKey tells a field from its own first field, which has the same address.
type fieldKey struct {
	address uintptr
	of      reflect.Type
}

func fieldOf(v reflect.Value) fieldKey { return fieldKey{v.Addr().Pointer(), v.Type()} }

// commentsOfFields returns the comment above each field of a struct and of those in it. It
// continues the field's help.
func commentsOfFields(t *testing.T, c any) map[fieldKey]string {
	comments, root := map[fieldKey]string{}, testenv.Root(t)
	parsed := map[string]map[string]string{} // by package: the comments by TYPE.FIELD
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		dir, ok := strings.CutPrefix(v.Type().PkgPath(), "inceptor/")
		if v.Type().PkgPath() == "main" {
			dir, ok = "cmd/inceptor", true
		}
		if v.Kind() != reflect.Struct || !ok {
			return
		}
		if parsed[dir] == nil {
			parsed[dir] = commentsIn(t, filepath.Join(root, dir))
		}
		for i := range v.NumField() {
			if f := v.Field(i); v.Type().Field(i).IsExported() {
				comments[fieldOf(f)] = parsed[dir][v.Type().Name()+"."+v.Type().Field(i).Name]
				walk(f)
			}
		}
	}
	walk(reflect.ValueOf(c).Elem())
	return comments
}

// commentsIn returns the comments above the fields of a package's structs, by TYPE.FIELD.
func commentsIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	comments := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(source, func(n ast.Node) bool {
			named, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if s, ok := named.Type.(*ast.StructType); ok {
				for _, field := range s.Fields.List {
					for _, name := range field.Names {
						comments[named.Name.Name+"."+name.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
					}
				}
			}
			return true
		})
	}
	return comments
}

// Every setting and option says what it does in one line. Details are in the comment above the
// field, which reference.md has.
func TestHelpIsOneLine(t *testing.T) {
	var c cli
	_ = kong.Visit(newParser(&c).Model.Node, func(v kong.Visitable, next kong.Next) error {
		switch v := v.(type) {
		case *kong.Value:
			if n := len([]rune(v.Help)); n < 5 || n > 100 || strings.Contains(v.Help, "\n") {
				t.Errorf("%s: %d columns: %s", v.Summary(), n, v.Help)
			}
		case *kong.Node:
			if n := len([]rune(v.Help)); v.Parent != nil && (n < 5 || n > 100) {
				t.Errorf("%s: %d columns: %s", v.Name, n, v.Help)
			}
		}
		return next(nil)
	})
}

func writeMetrics(b *strings.Builder) {
	b.WriteString("\n## Metrics\n\nServed on `/metrics`, with those of Go and of the process.\n\n| metric | meaning |\n| --- | --- |\n")
	described := recorder{}
	service.NewMetrics(described)
	described.MustRegister(buildInfo(), service.NewModelInfo(nil), service.NewMemory(nil))
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range described {
			if !yield(n) {
				return
			}
		}
	}) {
		fmt.Fprintf(b, "| `%s` | %s |\n", name, described[name])
	}
}

// A recorder is a registry that keeps only names and help texts.
type recorder map[string]string

var fqName = regexp.MustCompile(`fqName: "([^"]*)", help: "([^"]*)".*variableLabels: \{([^}]*)\}`)

func (r recorder) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 10)
	c.Describe(descs)
	close(descs)
	for d := range descs {
		m := fqName.FindStringSubmatch(d.String())
		name := m[1]
		if m[3] != "" {
			name += "{" + m[3] + "}"
		}
		r[name] = m[2]
	}
	return nil
}

func (r recorder) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		_ = r.Register(c) // it never fails
	}
}

func (recorder) Unregister(prometheus.Collector) bool { return false }

// The reasons in docs/dead-letters.md are those that the code can give.
func TestReasonsAreDocumented(t *testing.T) {
	root := testenv.Root(t)
	doc, err := os.ReadFile(filepath.Join(root, "docs", "dead-letters.md"))
	if err != nil {
		t.Fatal(err)
	}
	reason := regexp.MustCompile(`(?m)^\s*(?:const )?\w+\s+(?:Reason\s+)?= "([a-z]+(?:-[a-z]+)*)"(?:\s*//.*)?$`)
	found := map[string]bool{}
	for _, dir := range []string{"model/infer", "service", "service/input"} {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range reason.FindAllStringSubmatch(string(source), -1) {
				if strings.HasPrefix(m[1], "inceptor-") {
					continue // a header
				}
				if !strings.Contains(m[0], "Reason") && dir != "service/input" {
					continue
				}
				found[m[1]] = true
			}
		}
	}
	_, table, _ := strings.Cut(string(doc), "\n## Reasons\n")
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(table, -1) {
		documented[m[1]] = true
	}
	if d := cmp.Diff(found, documented); d != "" || len(found) < 20 {
		t.Errorf("%d reasons in the code; in the document (-want +got):\n%s", len(found), d)
	}
}
