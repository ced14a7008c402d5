package model

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decodeYAML reads a file of a version into v. Its error has lines and keys, and
// says what a value must be. An empty file says nothing.
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
		lines[i] = keyAgain.ReplaceAllString(lines[i], `the key "$1" is there already, at line $2: write what both have under one`)
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

// kindOf is what a person calls a Go type.
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

// linesOf are the lines of a file's keys, by their names, such as input.scale. A file
// that cannot be read has none.
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
