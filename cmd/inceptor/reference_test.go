package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"inceptor/service"
	"inceptor/testenv"
)

var update = flag.Bool("update", false, "write what docs has of the code anew")

// The reference is what the program says of itself.
func TestReference(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Reference\n\nWritten by `go test ./cmd/inceptor -run TestReference -update`; a test compares it with the code.\n\n")
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

func writeSettings(t *testing.T, b *strings.Builder) {
	var c cli
	parser, err := kong.New(&c, kong.Name("inceptor"), kong.DefaultEnvars("INCEPTOR"), kong.Configuration(loadConfig))
	if err != nil {
		t.Fatal(err)
	}
	b.WriteString("## Settings of `inceptor run`\n\nEach is a flag, `--kafka.brokers`, a variable in the environment, `INCEPTOR_KAFKA_BROKERS`, " +
		"and a key in the file that `--config` names, `kafka.brokers`.\nA flag wins over the environment, the environment over the file.\n\n")
	b.WriteString("| setting | default | effect |\n| --- | --- | --- |\n")
	i := slices.IndexFunc(parser.Model.Children, func(n *kong.Node) bool { return n.Name == "run" })
	for _, f := range slices.Concat(parser.Model.Flags, parser.Model.Children[i].Flags) {
		if f.Name == "help" {
			continue
		}
		def := ""
		if f.HasDefault {
			def = "`" + f.Default + "`"
		}
		help := strings.NewReplacer("${enum}", strings.ReplaceAll(f.Enum, ",", ", "), "$$", "$", "|", "\\|", "\n", " ").Replace(f.Help)
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", f.Name, def, help)
	}
}

func writeMetrics(b *strings.Builder) {
	b.WriteString("\n## Metrics\n\nOn `/metrics`, beside those of Go and of the process.\n\n| metric | what it is |\n| --- | --- |\n")
	described := recorder{}
	service.NewMetrics(described)
	described.MustRegister(buildInfo(), service.NewModelInfo(nil))
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

// A recorder is a registry that keeps names and help texts only.
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
		_ = r.Register(c) // it has no errors
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
	for _, dir := range []string{"model", "service", "service/input"} {
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
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(table, -1) {
		told[m[1]] = true
	}
	if d := cmp.Diff(found, told); d != "" || len(found) < 20 {
		t.Errorf("%d reasons in the code; in the document (-want +got):\n%s", len(found), d)
	}
}
