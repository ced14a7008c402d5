package infer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decodeYAML reads a version's file into v. Its error names lines and keys, and says what a value
// must be. An empty file leaves v as it is.
func decodeYAML(b []byte, v any) error {
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	err := d.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	wrong := (*yaml.TypeError)(nil)
	if !errors.As(err, &wrong) {
		return err
	}
	lines := make([]string, len(wrong.Errors))
	for i, text := range wrong.Errors {
		lines[i] = unknownKey.ReplaceAllString(text, `there is no key "$1"`)
		lines[i] = keyAgain.ReplaceAllString(lines[i], `the key "$1" is in line $2 already: write both parts under one key`)
		lines[i] = wrongType.ReplaceAllStringFunc(lines[i], func(match string) string {
			part := wrongType.FindStringSubmatch(match)
			return fmt.Sprintf("%s is not %s", part[1], kindOf(part[2]))
		})
	}
	return errors.New(strings.Join(lines, "; "))
}

var (
	unknownKey = regexp.MustCompile(`field (\S+) not found in type \S+`)
	keyAgain   = regexp.MustCompile(`mapping key "(.*)" already defined at line (\d+)`)
	wrongType  = regexp.MustCompile("cannot unmarshal !!\\w+(?: `(.*)`)? into (.+)$")
)

// resolve returns the node that an alias refers to, and any other node itself.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

// scalarOrKeys returns the scalars of a setting that has two forms, by their keys: a scalar alone,
// which is the value of the first key, or a mapping with that key and perhaps the other ones. An
// error says what was wanted.
func scalarOrKeys(node *yaml.Node, want string, known ...string) (map[string]*yaml.Node, error) {
	wrong := func(at *yaml.Node) error { return fmt.Errorf("line %d: %s", at.Line, want) }
	node = resolve(node)
	switch node.Kind {
	case yaml.ScalarNode:
		return map[string]*yaml.Node{known[0]: node}, nil
	case yaml.MappingNode:
	default:
		return nil, wrong(node)
	}
	scalars := make(map[string]*yaml.Node, len(known))
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		switch {
		case !slices.Contains(known, key.Value):
			return nil, wrong(key)
		case value.Kind != yaml.ScalarNode || value.Value == "":
			return nil, wrong(value)
		}
		scalars[key.Value] = value
	}
	if scalars[known[0]] == nil {
		return nil, wrong(node)
	}
	return scalars, nil
}

// kindOf describes a Go type to a person.
func kindOf(goType string) string {
	switch {
	case strings.HasPrefix(goType, "[2]"):
		return "a list of two numbers"
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.Contains(goType, "int"), strings.Contains(goType, "float"):
		return "a number"
	case strings.Contains(goType, "bool"):
		return "true or false"
	case strings.Contains(goType, "string"):
		return "a word"
	}
	return "a list of keys with values"
}

// linesOf returns the line of each key of a file, by its name, such as input.scale; none if the
// file cannot be read.
func linesOf(b []byte) map[string]int {
	lines := map[string]int{}
	var file yaml.Node
	if err := yaml.Unmarshal(b, &file); err == nil && len(file.Content) == 1 {
		addLines(lines, "", file.Content[0])
	}
	return lines
}

func addLines(lines map[string]int, prefix string, node *yaml.Node) {
	if node.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		lines[prefix+key.Value] = key.Line
		addLines(lines, prefix+key.Value+".", value)
	}
}
