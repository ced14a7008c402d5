package settings

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// Limits on a configuration file. Aliases can make a small file name very many nodes.
const (
	maxFileBytes = 1 << 20
	maxFileNodes = 10_000
)

// A file reads the settings of one YAML file, with the place of each.
type file struct {
	path   string
	flags  map[string]*kong.Flag // by dotted name
	groups map[string]string     // one setting of each group, by the group's dotted name
	lookup func(string) (string, bool)

	found    map[string]value
	problems []Problem
	warnings []Problem
	nodes    int
	broken   bool // no setting of it could be read
}

// read reads the file. It reports every mistake, and finds the settings without one.
func (f *file) read() {
	document, ok := f.parse()
	if !ok {
		f.broken = true
		return
	}
	if len(document.Content) == 0 {
		return
	}
	root := target(document.Content[0])
	switch {
	case isNull(root):
	case root.Kind != yaml.MappingNode:
		f.broken = true
		f.problem(root, "", kind(root)+"; want settings, such as kafka.group: NAME")
	default:
		f.walk("", root, false)
	}
}

// parse returns the file's document, which is empty if the file is.
func (f *file) parse() (document yaml.Node, ok bool) {
	b, err := readFile(f.path)
	if err != nil {
		f.problems = append(f.problems, Problem{Source: f.path, Text: plain(err)})
		return document, false
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		f.syntax(err, b)
		return document, false
	}
	var second yaml.Node
	switch err := d.Decode(&second); {
	case err == nil:
		f.problem(&second, "", "a second document; want all settings in one, without --- between them")
	case !errors.Is(err, io.EOF): // it may have settings, so those of the first are not all
		f.syntax(err, b)
		return document, false
	}
	return document, true
}

func readFile(path string) ([]byte, error) {
	r, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxFileBytes+1))
	if err == nil && len(b) > maxFileBytes {
		err = fmt.Errorf("larger than %d bytes", maxFileBytes)
	}
	return b, err
}

// plain is an error of the file system without the path, which stands before it already.
func plain(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return "cannot be read: " + path.Err.Error()
	}
	return "cannot be read: " + err.Error()
}

var (
	yamlLine    = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)
	parserError = regexp.MustCompile(`^did not find expected (<|'|key|node content)|^found undefined tag|^found duplicate %`)
	noAnchor    = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)
	tab         = regexp.MustCompile(`^ *\t`)
)

// syntax is the problem of a syntax error. The library names no column.
func (f *file) syntax(err error, content []byte) {
	p := Problem{Source: f.path, Column: 1}
	p.Line, p.Text = yamlError(err, content)
	if m := noAnchor.FindStringSubmatch(strings.TrimPrefix(err.Error(), "yaml: ")); m != nil {
		// The library names neither line nor column, and quotes what may be a password.
		p.Line, p.Column = place(content, "*"+m[1])
		p.Text = "an alias (*…) of nothing; want quotes around a text that begins with *"
	}
	f.problems = append(f.problems, p)
}

// place returns the line and column of a word outside comments, or 1 and 1.
func place(content []byte, word string) (line, column int) {
	at := regexp.MustCompile(`(?:^|[\s,\[{])(` + regexp.QuoteMeta(word) + `)(?:[\s,\]}]|$)`)
	for i, l := range strings.Split(string(content), "\n") {
		if l, _, _ = strings.Cut(" "+l, " #"); l == "" {
			continue
		}
		if found := at.FindStringSubmatchIndex(l); found != nil {
			return i + 1, found[2] // the line has a space more at its beginning
		}
	}
	return 1, 1
}

// yamlError returns the line and the text of a syntax error.
func yamlError(err error, content []byte) (line int, text string) {
	line, text = 1, err.Error()
	if m := yamlLine.FindStringSubmatch(strings.ReplaceAll(text, "\n", " ")); m != nil {
		text = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	if parserError.MatchString(text) {
		line++ // the library counts these lines from 0
	}
	if strings.Contains(text, "tab character") || strings.Contains(text, "cannot start any token") {
		for i, l := range strings.Split(string(content), "\n") {
			if i+1 >= line && tab.MatchString(l) {
				return i + 1, "not YAML: a tab at the beginning of the line; want spaces"
			}
		}
	}
	if strings.HasPrefix(text, "mapping values are not allowed") {
		text += "; is a space missing after a colon, here or on the line before?"
	}
	if strings.HasSuffix(text, "expected key") {
		text += "; is a line before it indented by fewer spaces?"
	}
	return line, "not YAML: " + text
}

func (f *file) problem(at *yaml.Node, key, text string) {
	f.problems = append(f.problems, Problem{Source: f.path, Line: at.Line, Column: at.Column, Key: key, Text: text})
}

// walk reads the settings of a map, whose keys begin with a prefix. Those of a merged one (<<) do
// not replace others.
func (f *file) walk(prefix string, m *yaml.Node, merged bool) {
	if f.nodes += len(m.Content) + 1; f.nodes > maxFileNodes {
		if !f.broken {
			f.broken = true
			f.problem(m, strings.TrimSuffix(prefix, "."), fmt.Sprintf("more than %d keys and values; want fewer", maxFileNodes))
		}
		return
	}
	seen := map[string]*yaml.Node{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, node := m.Content[i], target(m.Content[i+1])
		if key.Tag == "!!merge" {
			merges = append(merges, m.Content[i+1])
			continue
		}
		name := prefix + key.Value
		if key.Kind != yaml.ScalarNode {
			f.problem(key, strings.TrimSuffix(prefix, "."), kind(key)+" as a key; want a setting's name")
			continue
		}
		if first, twice := seen[key.Value]; twice {
			f.twice(key, name, first)
			continue
		}
		seen[key.Value] = key
		f.entry(name, key, node, merged)
	}
	for _, node := range merges {
		items := []*yaml.Node{node}
		if list := target(node); list.Kind == yaml.SequenceNode {
			items = list.Content
		}
		for _, n := range items {
			f.merge(prefix, n)
		}
	}
}

// merge reads the settings of a merged map. Explicit ones, also later ones, win.
func (f *file) merge(prefix string, n *yaml.Node) {
	if m := target(n); m.Kind != yaml.MappingNode {
		f.problem(n, strings.TrimSuffix(prefix, "."), kind(m)+" to merge (<<); want a map or a list of maps, such as <<: *NAME")
		return
	}
	f.walk(prefix, target(n), true)
}

func (f *file) twice(key *yaml.Node, name string, first *yaml.Node) {
	f.problem(key, name, fmt.Sprintf("given twice; want it once, and it is on line %d already", first.Line))
}

// entry reads one key of a map.
func (f *file) entry(name string, key, node *yaml.Node, merged bool) {
	flag, known := f.flags[name]
	example, group := f.groups[name]
	switch {
	case known:
		if first, twice := f.found[name]; twice && (merged || !first.merged) {
			if !merged {
				f.twice(key, name, first.key)
			}
			return
		}
		f.found[name] = value{key: key, merged: merged, bad: true} // until it is known to be good
		f.setting(flag, name, key, node)
	case group && node.Kind == yaml.MappingNode:
		f.walk(name+".", node, merged)
	case group && isNull(node):
		f.warnings = append(f.warnings, Problem{Source: f.path, Line: key.Line, Column: key.Column, Key: name,
			Text: "nothing below it, so it has no effect"})
	case group:
		f.problem(node, name, kind(node)+"; want settings below it, such as "+example)
	case strings.Contains(name, ":"): // what follows may be a password
		before, _, _ := strings.Cut(name, ":")
		f.problem(key, before, "no space after the colon; want KEY: VALUE")
	default:
		f.problem(key, name, "no setting"+guess(name, names(f.flags, f.groups)))
	}
}

// names lists the keys of both maps.
func names[A, B any](a map[string]A, b map[string]B) iter.Seq[string] {
	return slices.Values(slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b)))
}

// setting reads the value of a setting.
func (f *file) setting(flag *kong.Flag, name string, key, node *yaml.Node) {
	merged := f.found[name].merged
	var texts []string
	switch {
	case isNull(node):
		f.problem(key, name, "nothing (null); want "+want(flag.Value, "")+standard(flag))
		return
	case node.Kind == yaml.MappingNode, node.Kind == yaml.SequenceNode && !flag.IsSlice():
		f.problem(node, name, kind(node)+"; want "+want(flag.Value, ""))
		return
	case node.Kind == yaml.SequenceNode:
		for _, item := range node.Content {
			item = target(item)
			if item.Kind != yaml.ScalarNode || isNull(item) {
				f.problem(item, name, kind(item)+" in the list; want texts")
				return
			}
			text, ok := f.text(name, item)
			if !ok {
				return
			}
			texts = append(texts, text)
		}
	default:
		text, ok := f.text(name, node)
		if !ok {
			return
		}
		if wrong := mistake(flag.Value, text); wrong != "" {
			f.problem(node, name, wrong)
			return
		}
		texts = []string{text}
	}
	f.found[name] = value{
		origin: Origin{File: f.path, Line: node.Line, Column: node.Column},
		texts:  texts, list: node.Kind == yaml.SequenceNode, key: key, node: node, merged: merged,
	}
}

// standard says how to get the default of a setting.
func standard(flag *kong.Flag) string {
	if flag.Default == "" {
		return ", or no such line"
	}
	return ", or no such line for the default, " + flag.Default
}

// text returns a scalar with its ${VAR} replaced. A variable cannot add keys.
func (f *file) text(name string, n *yaml.Node) (string, bool) {
	if n.Style&yaml.TaggedStyle != 0 && !strings.HasPrefix(n.Tag, "!!") {
		f.problem(n, name, "a tag (!…); want quotes around a text that begins with !")
		return "", false
	}
	text, missing := expand(n.Value, f.lookup)
	for _, ref := range missing {
		f.problem(n, name, ref+" is not set; want the variable, or a default as in "+strings.TrimSuffix(ref, "}")+":DEFAULT}")
	}
	return text, len(missing) == 0
}

var reference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(:[^}]*)?\}`)

// expand replaces ${VAR} and ${VAR:default}. It returns the references to variables that are not
// set and have no default.
func expand(text string, lookup func(string) (string, bool)) (expanded string, missing []string) {
	expanded = reference.ReplaceAllStringFunc(text, func(ref string) string {
		parts := reference.FindStringSubmatch(ref)
		if value, ok := lookup(parts[1]); ok {
			return value
		}
		if parts[2] == "" {
			missing = append(missing, ref)
		}
		return strings.TrimPrefix(parts[2], ":")
	})
	return expanded, missing
}

// target is the node that an alias stands for.
func target(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// kind says what a node is.
func kind(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a map"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case isNull(n):
		return "nothing (null)"
	}
	return "a single value"
}
