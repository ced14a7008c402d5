package main

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// maxConfigBytes bounds a configuration file.
const maxConfigBytes = 1 << 20

// settings are the values of a configuration file, by dotted name. They give
// way to the environment and to the command line.
type settings map[string]any

// loadConfig is a kong.ConfigurationLoader for YAML.
func loadConfig(r io.Reader) (kong.Resolver, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxConfigBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxConfigBytes {
		return nil, fmt.Errorf("larger than %d bytes", maxConfigBytes)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(b, &document); err != nil {
		return nil, err
	}
	if err := expandScalars(&document, os.LookupEnv); err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := document.Decode(&tree); err != nil {
		return nil, err
	}
	s := settings{}
	s.flatten("", tree)
	return s, nil
}

// flatten turns nested maps into dotted names.
func (s settings) flatten(prefix string, tree map[string]any) {
	for key, value := range tree {
		if sub, ok := value.(map[string]any); ok {
			s.flatten(prefix+key+".", sub)
			continue
		}
		s[prefix+key] = value
	}
}

var reference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(:[^}]*)?\}`)

// expandScalars expands the values of a document, not its comments, and not so
// that a variable could add keys.
func expandScalars(n *yaml.Node, lookup func(string) (string, bool)) error {
	var errs []error
	if n.Kind == yaml.ScalarNode && strings.Contains(n.Value, "${") {
		value, err := expand(n.Value, lookup)
		if err != nil {
			return fmt.Errorf("line %d: %w", n.Line, err)
		}
		n.Value = value
		if n.Style == 0 {
			n.Tag = "" // not quoted: it may have become a number
		}
	}
	for _, child := range n.Content {
		errs = append(errs, expandScalars(child, lookup))
	}
	return errors.Join(errs...)
}

// expand replaces ${VAR} and ${VAR:default}; a variable that is not set and
// has no default is an error.
func expand(text string, lookup func(string) (string, bool)) (string, error) {
	var errs []error
	out := reference.ReplaceAllStringFunc(text, func(ref string) string {
		parts := reference.FindStringSubmatch(ref)
		if value, ok := lookup(parts[1]); ok {
			return value
		}
		if parts[2] == "" {
			errs = append(errs, fmt.Errorf("%s: the variable is not set and has no default", ref))
		}
		return strings.TrimPrefix(parts[2], ":")
	})
	return out, errors.Join(errs...)
}

// Validate implements kong.Resolver: it reports every key that is no setting.
func (s settings) Validate(a *kong.Application) error {
	known := map[string]bool{}
	collectFlags(a.Node, known)
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if known[key] {
			continue
		}
		err := fmt.Errorf("config: unknown key %q", key)
		if near := nearest(key, known); near != "" {
			err = fmt.Errorf("%w, did you mean %q?", err, near)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func collectFlags(n *kong.Node, into map[string]bool) {
	for _, f := range n.Flags {
		into[f.Name] = true
	}
	for _, child := range n.Children {
		collectFlags(child, into)
	}
}

// Resolve implements kong.Resolver.
func (s settings) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, env := range flag.Envs {
		if _, set := os.LookupEnv(env); set {
			return nil, nil // the environment wins
		}
	}
	value, ok := s[flag.Name]
	if !ok {
		return nil, nil
	}
	// kong gives a setting with a text form, such as 32MiB, only strings.
	if number, ok := value.(int); ok && flag.Target.CanAddr() {
		if _, text := flag.Target.Addr().Interface().(encoding.TextUnmarshaler); text {
			return strconv.Itoa(number), nil
		}
	}
	return value, nil
}

// nearest is the known name that takes the fewest edits to come to from name,
// if they are few.
func nearest(name string, known map[string]bool) string {
	best, least := "", len(name)/3+1
	for candidate := range known {
		d := distance(name, candidate)
		if d < least || d == least && best != "" && candidate < best {
			best, least = candidate, d
		}
	}
	return best
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
