package testenv

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// A page is what other pages can link to, and what it links to.
type page struct {
	anchors map[string]bool
	links   []string // targets without a scheme, as they are written
	misled  []string // links whose words name another file than they lead to
}

var (
	fileLink   = regexp.MustCompile(`\[([a-z0-9-]+\.md)\]\(([^()\s#]+)`)
	linkTarget = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading    = regexp.MustCompile(`^#{1,6} +(.*)$`)
	pageName   = regexp.MustCompile(`\bdocs/[a-z0-9-]+\.md(#[a-z0-9-]+)?`)
)

// Each relative link in a Markdown file leads to a file that git tracks, and its anchor to a
// heading. So does each page of docs that code, settings and schemas name.
func TestLinks(t *testing.T) {
	files := map[string]bool{}
	for _, name := range tracked(t, "*") {
		for ; name != "."; name = path.Dir(name) {
			files[name] = true
		}
	}
	pages := allPages(t)
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		for _, link := range pages[name].misled {
			t.Errorf("%s: %s): the link leads to another file than it names", name, link)
		}
		for _, link := range pages[name].links {
			if wrong := broken(name, link, files, pages); wrong != "" {
				t.Errorf("%s: %s", name, wrong)
			}
		}
	}
	for _, name := range tracked(t, "*.go", "*.py", "*.sh", "*.yaml", "*.yml", "*.json", "Makefile") {
		if name == "testenv/links_test.go" {
			continue
		}
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, mention := range pageName.FindAllString(string(text), -1) {
			if wrong := broken("README.md", mention, files, pages); wrong != "" {
				t.Errorf("%s: %s", name, wrong)
			}
		}
	}
}

// Links lead from the README to the index of docs, and from there to each page.
func TestEachPageCanBeReached(t *testing.T) {
	pages := allPages(t)
	if !slices.Contains(pages["README.md"].links, "docs/README.md") {
		t.Error("README.md does not link docs/README.md")
	}
	reached, next := map[string]bool{}, []string{"docs/README.md"}
	for len(next) > 0 {
		name := next[0]
		next = next[1:]
		if reached[name] {
			continue
		}
		reached[name] = true
		for _, link := range pages[name].links {
			file, _, _ := strings.Cut(link, "#")
			if to := path.Join(path.Dir(name), file); file != "" && strings.HasPrefix(to, "docs/") {
				next = append(next, to)
			}
		}
	}
	for name := range pages {
		if strings.HasPrefix(name, "docs/") && !reached[name] {
			t.Errorf("no link leads from docs/README.md to %s", name)
		}
	}
}

func TestReadPage(t *testing.T) {
	for name, test := range map[string]struct {
		text                   string
		anchors, links, misled []string
	}{
		"words":            {"# Which *pixels* a model takes?", []string{"which-pixels-a-model-takes"}, nil, nil},
		"signs":            {"## assets.extra/inceptor.yaml, 2026-11-27", []string{"assetsextrainceptoryaml-2026-11-27"}, nil, nil},
		"code and a link":  {"### `run` as [here](x.md)", []string{"run-as-here"}, []string{"x.md"}, nil},
		"twice":            {"# A\n# A", []string{"a", "a-1"}, nil, nil},
		"no space":         {"#A", nil, nil, nil},
		"in code":          {"```sh\n# A [b](c)\n```\n    # D [e](f)\n# G", []string{"g"}, nil, nil},
		"in a code span":   {"`[a](b)` [c](d)", nil, []string{"d"}, nil},
		"other sites":      {"[a](https://b.example/c) [d](mailto:e) [f](#g)", nil, []string{"#g"}, nil},
		"a picture":        {"![a](b.png)", nil, []string{"b.png"}, nil},
		"another file":     {"[a.md](b.md#c)", nil, []string{"b.md#c"}, []string{"[a.md](b.md"}},
		"HTML's own names": {`<a id="old-name"></a>`, []string{"old-name"}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got := readPage(test.text)
			if diff := cmp.Diff(test.anchors, slices.Sorted(maps.Keys(got.anchors))); diff != "" {
				t.Errorf("anchors (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.links, got.links); diff != "" {
				t.Errorf("links (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.misled, got.misled); diff != "" {
				t.Errorf("misled (-want +got):\n%s", diff)
			}
		})
	}
}

// broken says what is wrong with a link on a page, and is empty if nothing is.
func broken(name, link string, files map[string]bool, pages map[string]page) string {
	file, anchor, _ := strings.Cut(link, "#")
	to := name
	if file != "" {
		to = path.Join(path.Dir(name), file)
	}
	switch {
	case !files[to]:
		return fmt.Sprintf("%s: there is no file %s", link, to)
	case anchor != "" && !pages[to].anchors[anchor]:
		return fmt.Sprintf("%s: %s has no heading #%s", link, to, anchor)
	}
	return ""
}

func allPages(t *testing.T) map[string]page {
	t.Helper()
	pages := map[string]page{}
	for _, name := range tracked(t, "*.md") {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		pages[name] = readPage(string(text))
	}
	return pages
}

var (
	codeSpan   = regexp.MustCompile("`[^`\n]*`")
	htmlAnchor = regexp.MustCompile(`<a (?:id|name)="([^"]+)">`)
)

// readPage finds the anchors and links of a page's text, as GitHub makes them.
func readPage(text string) page {
	p := page{anchors: map[string]bool{}}
	for _, line := range proseAndTables(text) {
		if m := heading.FindStringSubmatch(line); m != nil {
			name := slug(m[1])
			for i := 1; p.anchors[name]; i++ {
				name = fmt.Sprintf("%s-%d", slug(m[1]), i)
			}
			p.anchors[name] = true
		}
		for _, m := range htmlAnchor.FindAllStringSubmatch(line, -1) {
			p.anchors[m[1]] = true
		}
	}
	// A link's words may be on two lines.
	prose := codeSpan.ReplaceAllString(strings.Join(proseAndTables(text), "\n"), "`code`")
	for _, m := range fileLink.FindAllStringSubmatch(prose, -1) {
		if path.Base(m[2]) != m[1] {
			p.misled = append(p.misled, m[0])
		}
	}
	for _, m := range linkTarget.FindAllStringSubmatch(prose, -1) {
		if u, err := url.Parse(m[1]); err != nil || u.Scheme == "" {
			p.links = append(p.links, m[1])
		}
	}
	return p
}

// proseAndTables are the lines that are no code.
func proseAndTables(text string) (lines []string) {
	code := false
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(strings.TrimLeft(line, " "), "```"):
			code = !code
		case code, strings.HasPrefix(line, "    "):
		default:
			lines = append(lines, strings.TrimRight(line, "\r\n"))
		}
	}
	return lines
}

// slug is the anchor that GitHub makes of a heading.
func slug(text string) string {
	text = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(text, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(text))
}
