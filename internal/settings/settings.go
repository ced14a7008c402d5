// Package settings reads a program's settings from its command line, the environment and a YAML
// file, and describes them: as YAML, as a JSON Schema, as completions for a shell, as a manual
// page.
//
// The program's structs with kong's tags say which settings there are. A setting is a flag whose
// name has a dot: --kafka.group is kafka.group in the file, nested or not, and PREFIX_KAFKA_GROUP
// in the environment. Other flags are options of one command, and are given on the command line
// only.
package settings

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// A Problem is one mistake in a configuration, or a warning about it.
type Problem struct {
	Source       string // a file, a variable or a flag; empty: a default
	Line, Column int    // in a file
	Key          string // the setting
	Text         string // what was there, and what may be
}

// String is SOURCE:LINE:COLUMN: KEY: TEXT, without the secrets of a URL.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Source)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, p.Column)
	}
	if p.Source != "" {
		b.WriteString(": ")
	}
	if p.Key != "" && p.Source != "--"+p.Key {
		b.WriteString(cut(p.Key) + ": ")
	}
	b.WriteString(withoutSecrets(p.Text))
	return b.String()
}

// An Origin says where a value came from. The zero value is the default.
type Origin struct {
	File         string
	Line, Column int
	Variable     string
	Flag         bool // on the command line
}

// A value was given in the file or in the environment.
type value struct {
	origin    Origin
	texts     []string // one, unless it is a list
	list      bool
	key, node *yaml.Node // in the file
	merged    bool       // by <<, so that an explicit one wins
	bad       bool       // it was reported, and the default stands in
}

// Settings are what was given, and what is wrong with it.
type Settings struct {
	// Args are the command line's arguments without the flags of Problems.
	Args []string
	// Problems are all mistakes; nothing should be started with them.
	Problems []Problem
	// Warnings are about what has no effect.
	Warnings []Problem

	app    *kong.Application
	node   *kong.Node // the command
	prefix string
	given  map[string]value // by the setting's name, from file and environment
	flags  map[string]value // from the command line
	bad    map[string]bool  // settings of Problems
	broken bool             // the file could not be read
}

// Read reads the settings of a program. The prefix is that of its variables, such as INCEPTOR. The
// file is what --config or PREFIX_CONFIG names. Read never fails: see Settings.Problems.
func Read(app *kong.Application, prefix string, args, environ []string) *Settings {
	s := &Settings{app: app, prefix: prefix, given: map[string]value{}, flags: map[string]value{}, bad: map[string]bool{}}
	variables := map[string]string{}
	for _, v := range environ {
		name, text, _ := strings.Cut(v, "=")
		variables[name] = text
	}
	s.node = orDefault(s.command(args))
	known := s.known()
	path := s.readArgs(known, args)
	if path == "" {
		path = variables[s.variable("config")]
	}
	if rest, ok := strings.CutPrefix(path, "~/"); ok { // a shell leaves it in --config=~/inceptor.yaml
		if home, err := os.UserHomeDir(); err == nil {
			path = filepath.Join(home, rest)
		}
	}
	if path != "" {
		s.readFile(path, known, variables)
	}
	s.readEnvironment(known, variables)
	for _, p := range s.Problems {
		s.bad[p.Key] = true
	}
	s.Problems = sortProblems(s.Problems)
	return s
}

// Flags returns the settings of a command by name.
func Flags(command *kong.Node) map[string]*kong.Flag {
	flags := map[string]*kong.Flag{}
	for n := command; n != nil; n = n.Parent {
		add(flags, n)
	}
	return flags
}

// add adds the settings of a command that are missing.
func add(flags map[string]*kong.Flag, n *kong.Node) {
	for _, f := range n.Flags {
		if _, have := flags[f.Name]; !have && isSetting(f) {
			flags[f.Name] = f
		}
	}
}

// known returns the settings of all commands by name. Where commands differ in one, that of the
// given command counts.
func (s *Settings) known() map[string]*kong.Flag {
	flags := Flags(s.node)
	_ = kong.Visit(s.app.Node, func(v kong.Visitable, next kong.Next) error {
		if n, ok := v.(*kong.Node); ok {
			add(flags, n)
		}
		return next(nil)
	})
	return flags
}

// command returns the command that the arguments name.
func (s *Settings) command(args []string) *kong.Node {
	node := s.app.Node
	for i := 0; i < len(args) && args[i] != "--"; i++ {
		if strings.HasPrefix(args[i], "-") {
			if f := flagOf(node, args[i]); f != nil && !f.IsBool() && !strings.Contains(args[i], "=") {
				i++ // its value
			}
			continue
		}
		next := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == args[i] })
		if next < 0 {
			break
		}
		node = node.Children[next]
	}
	return node
}

// orDefault is the command that runs where a node is named.
func orDefault(n *kong.Node) *kong.Node {
	if n.DefaultCmd != nil {
		return n.DefaultCmd
	}
	return n
}

// flagOf returns the flag of a command or of those above it that an argument names, or nil.
func flagOf(n *kong.Node, arg string) *kong.Flag {
	name, long := strings.CutPrefix(arg, "--")
	name, _, _ = strings.Cut(name, "=")
	for ; n != nil && long; n = n.Parent {
		for _, f := range n.Flags {
			if f.Name == name || slices.Contains(f.Aliases, name) || f.Tag.Negatable != "" && "no-"+f.Name == name {
				return f
			}
		}
	}
	return nil
}

// readArgs reports the flags with wrong values and removes them. It returns the value of --config.
func (s *Settings) readArgs(known map[string]*kong.Flag, args []string) (config string) {
	node := s.node
	for i := 0; i < len(args); i++ {
		if args[i] == "--" {
			s.Args = append(s.Args, args[i:]...)
			break
		}
		flag := flagOf(node, args[i])
		this := args[i : i+1]
		_, text, has := strings.Cut(args[i], "=")
		if flag != nil && !has && !flag.IsBool() && i+1 < len(args) {
			i++
			this, text, has = args[i-1:i+1], args[i], true
		}
		if flag != nil && has {
			if flag.Name == "config" {
				config = text
			}
			if known[flag.Name] != nil {
				if wrong := mistake(flag.Value, text); wrong != "" {
					s.Problems = append(s.Problems, Problem{Source: "--" + flag.Name, Key: flag.Name, Text: wrong})
					continue
				}
				if flag.IsSlice() {
					begun, _ := strings.CutSuffix(this[len(this)-1], text) // --flag= or nothing
					this = append(slices.Clone(this[:len(this)-1]), begun+trimmed(text))
				}
			}
		}
		if flag != nil {
			s.flags[flag.Name] = value{origin: Origin{Flag: true}, texts: []string{text}}
		}
		s.Args = append(s.Args, this...)
	}
	return config
}

func (s *Settings) readFile(path string, known map[string]*kong.Flag, variables map[string]string) {
	f := file{path: path, flags: known, groups: Groups(known), found: s.given, lookup: func(name string) (string, bool) {
		text, ok := variables[name]
		return text, ok
	}}
	f.read()
	s.Problems = append(s.Problems, f.problems...)
	s.Warnings = append(s.Warnings, f.warnings...)
	s.broken = f.broken
}

// Groups returns the groups of settings by their dotted names, each with one of its settings.
func Groups(flags map[string]*kong.Flag) map[string]string {
	groups := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(flags)) {
		for i, r := range name {
			example, have := groups[name[:i]]
			if r == '.' && (!have || IsCommon(flags[name].Value) && !IsCommon(flags[example].Value)) {
				groups[name[:i]] = name
			}
		}
	}
	return groups
}

// variable is the environment variable of a setting.
func (s *Settings) variable(name string) string {
	return s.prefix + "_" + strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(name))
}

// readEnvironment takes the settings from the environment, and warns of variables that are none.
func (s *Settings) readEnvironment(known map[string]*kong.Flag, variables map[string]string) {
	byVariable := map[string]*kong.Flag{}
	for name, flag := range known {
		byVariable[s.variable(name)] = flag
	}
	var injected []string
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		text := variables[name]
		flag := byVariable[name]
		switch {
		case !strings.HasPrefix(name, s.prefix+"_") || name == s.variable("config"):
		case flag != nil:
			if _, set := s.flags[flag.Name]; set {
				continue // the flag wins
			}
			v := value{origin: Origin{Variable: name}, texts: []string{text}}
			if wrong := mistake(flag.Value, text); wrong != "" {
				s.Problems = append(s.Problems, Problem{Source: name, Key: flag.Name, Text: wrong})
				v.bad = true
			}
			s.given[flag.Name] = v
		case isServiceLink(name, text):
			injected = append(injected, name)
		default:
			s.Warnings = append(s.Warnings, Problem{Source: name,
				Text: "no setting, so the variable has no effect" + guess(name, maps.Keys(byVariable))})
		}
	}
	if len(injected) > 0 {
		s.Warnings = append(s.Warnings, Problem{Source: strings.Join(injected, ", "),
			Text: "no settings, so they have no effect; Kubernetes sets them for a Service of this name (enableServiceLinks: false ends that)"})
	}
}

// isServiceLink tells whether Kubernetes sets such a variable in every container for a Service.
func isServiceLink(name, text string) bool {
	return strings.Contains(name, "_SERVICE_HOST") || strings.Contains(name, "_SERVICE_PORT") ||
		strings.HasSuffix(name, "_PORT") && strings.Contains(text, "://") ||
		strings.Contains(name, "_PORT_") && (strings.Contains(name, "_TCP") || strings.Contains(name, "_UDP"))
}

// sortProblems orders problems: those of the file by line, then the others.
func sortProblems(problems []Problem) []Problem {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		switch {
		case (a.Line > 0) != (b.Line > 0):
			return cmp.Compare(b.Line, a.Line)
		case a.Line == 0:
			return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Key, b.Key))
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Key, b.Key))
	})
	return slices.Compact(problems) // an alias is read at each of its places
}

// Apply makes a parser take what was given.
func (s *Settings) Apply(parser *kong.Kong) error { return kong.Resolvers(s).Apply(parser) }

// Validate implements kong.Resolver.
func (*Settings) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver.
func (s *Settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	v, ok := s.given[flag.Name]
	switch {
	case !ok || v.bad || !isSetting(flag):
		return nil, nil
	case v.list:
		items := make([]any, len(v.texts))
		for i, text := range v.texts {
			items[i] = text
		}
		return items, nil
	case flag.IsSlice() && strings.TrimSpace(v.texts[0]) == "":
		return []any{}, nil
	case flag.IsSlice():
		return trimmed(v.texts[0]), nil
	}
	return v.texts[0], nil
}

// Origin says where the value of a setting came from.
func (s *Settings) Origin(name string) Origin {
	return s.value(name).origin
}

func (s *Settings) value(name string) value {
	if v, ok := s.flags[name]; ok {
		return v
	}
	return s.given[name]
}

// Warn warns of settings that have no effect beside others. The reasons are by a setting's name or,
// with a dot at its end, a group's. A setting that was given its default is not told. The parser
// must have set the values.
func (s *Settings) Warn(reasons map[string]string) {
	for name, flag := range Flags(s.node) {
		if v := s.value(name); v.origin == (Origin{}) || v.bad || isDefault(flag) {
			continue
		}
		for _, of := range slices.Sorted(maps.Keys(reasons)) {
			if of == name || strings.HasSuffix(of, ".") && strings.HasPrefix(name, of) {
				s.Warnings = append(s.Warnings, s.at(name, "no effect: "+reasons[of]))
				break
			}
		}
	}
	s.Warnings = sortProblems(s.Warnings)
}

// Tolerate makes the mistakes outside the command line warnings.
func (s *Settings) Tolerate() {
	var kept []Problem
	for _, p := range s.Problems {
		if strings.HasPrefix(p.Source, "--") {
			kept = append(kept, p)
			continue
		}
		s.Warnings = append(s.Warnings, p)
	}
	s.Problems, s.Warnings = kept, sortProblems(s.Warnings)
}

// Add adds problems that the program has found in the values. Each names a setting first. Those of
// settings with a mistake are only its consequence, and are left out.
func (s *Settings) Add(problems []error) {
	if s.broken {
		return // most of them would be consequences
	}
	for _, err := range problems {
		if p := s.place(err.Error()); !s.bad[p.Key] {
			s.Problems = append(s.Problems, p)
		}
	}
	s.Problems = sortProblems(s.Problems)
}

// isDefault tells whether a setting's value is its default.
func isDefault(flag *kong.Flag) bool {
	standard := reflect.New(flag.Target.Type()).Elem()
	if flag.HasDefault {
		scan := kong.ScanFromTokens(kong.Token{Type: kong.FlagValueToken, Value: flag.Default})
		if err := flag.Mapper.Decode(&kong.DecodeContext{Value: flag.Value, Scan: scan}, standard); err != nil {
			return false
		}
	}
	want, err1 := yamlText(standard)
	got, err2 := yamlText(flag.Target)
	return err1 == nil && err2 == nil && want == got
}

// place returns the problem of a text "KEY: TEXT", with the source of the value.
func (s *Settings) place(text string) Problem {
	key, rest, _ := strings.Cut(text, ":")
	if strings.Contains(key, " ") { // "KEY and KEY: TEXT"
		key, _, _ = strings.Cut(text, " ")
		rest = text
	}
	p := s.at(key, strings.TrimSpace(rest))
	for _, word := range strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == ',' || r == ':' }) {
		if p.Source == "" { // a default, which does not go with a setting that was given
			other := s.at(word, "")
			p.Source, p.Line, p.Column = other.Source, other.Line, other.Column
		}
	}
	return p
}

// at is a problem of a setting, at its source.
func (s *Settings) at(key, text string) Problem {
	p := Problem{Key: key, Text: text}
	v := s.value(key)
	switch {
	case v.origin.Flag:
		p.Source = "--" + key
	case v.node != nil:
		p.Source, p.Line, p.Column = v.origin.File, v.node.Line, v.node.Column
		for _, item := range v.node.Content {
			if strings.Contains(text, fmt.Sprintf("%q", target(item).Value)) {
				p.Line, p.Column = item.Line, item.Column
			}
		}
	default:
		p.Source = v.origin.Variable
	}
	return p
}
