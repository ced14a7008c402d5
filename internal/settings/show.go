package settings

import (
	"bytes"
	"encoding"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// masked stands for the value of a secret.
const masked = "********"

var (
	urlUser  = regexp.MustCompile(`(://)[^\s"]*@`)
	urlQuery = regexp.MustCompile(`(://[^\s"?]*\?)[^\s"]+`)
)

// withoutSecrets masks the user and the query of each URL in a text: they may hold a secret.
func withoutSecrets(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	text = urlUser.ReplaceAllString(text, "${1}"+masked+"@")
	return urlQuery.ReplaceAllString(text, "${1}"+masked)
}

// Show writes the effective settings of a command as YAML, each with where it came from. What it
// writes can be read again as a configuration file. Secrets are not shown: their lines are
// comments.
func (s *Settings) Show(w io.Writer, command *kong.Node) error {
	var out strings.Builder
	var open []string // groups
	for _, flag := range grouped(command) {
		parts := strings.Split(flag.Name, ".")
		groups, key := parts[:len(parts)-1], parts[len(parts)-1]
		for i, group := range groups {
			if i >= len(open) || open[i] != group {
				fmt.Fprintf(&out, "%*s%s:\n", 2*i, "", group)
				open = nil // those below it have ended
			}
		}
		open = groups
		text, err := yamlText(flag.Target)
		if err != nil {
			return fmt.Errorf("%s: %w", flag.Name, err)
		}
		if IsSecret(flag.Value) && !flag.Target.IsZero() {
			key, text = "# "+key, masked
		}
		if shown := withoutSecrets(text); shown != text {
			key, text = "# "+key, shown
		}
		line := fmt.Sprintf("%*s%s: %s", 2*len(groups), "", key, text)
		fmt.Fprintf(&out, "%-40s # %s\n", line, s.Origin(flag.Name).text(flag.Name))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// grouped returns the settings of a command and of those above it, in their order, but each
// outermost group in one piece.
func grouped(command *kong.Node) (flags []*kong.Flag) {
	first := map[string]int{} // the group's first setting
	outermost := func(f *kong.Flag) string { group, _, _ := strings.Cut(f.Name, "."); return group }
	for n := command; n != nil; n = n.Parent {
		for _, f := range n.Flags {
			if !strings.Contains(f.Name, ".") {
				continue
			}
			flags = append(flags, f)
			if _, ok := first[outermost(f)]; !ok {
				first[outermost(f)] = len(flags)
			}
		}
	}
	slices.SortStableFunc(flags, func(a, b *kong.Flag) int { return first[outermost(a)] - first[outermost(b)] })
	return flags
}

// yamlText writes a value, on one line, as the file's reader takes it.
func yamlText(v reflect.Value) (string, error) {
	node := &yaml.Node{Kind: yaml.ScalarNode}
	switch value := v.Interface().(type) {
	case slog.Level:
		node.Value = strings.ToLower(value.String())
	case encoding.TextMarshaler:
		text, err := value.MarshalText()
		if err != nil {
			return "", err
		}
		node.Value = string(text)
	case time.Duration:
		node.Value = value.String()
	case []string:
		node.Kind, node.Style = yaml.SequenceNode, yaml.FlowStyle
		for _, text := range value {
			node.Content = append(node.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text})
		}
	default:
		node.Value = fmt.Sprint(value)
		if v.Kind() == reflect.String {
			node.Tag = "!!str"
			if strings.Contains(node.Value, "\n") {
				node.Style = yaml.DoubleQuotedStyle
			}
		}
	}
	b, err := yaml.Marshal(node)
	return string(bytes.TrimSpace(b)), err
}

// text says where the value of a setting came from.
func (o Origin) text(name string) string {
	switch {
	case o.Flag:
		return "--" + name
	case o.Variable != "":
		return o.Variable
	case o.File != "":
		return fmt.Sprintf("%s:%d", o.File, o.Line)
	}
	return "default"
}
