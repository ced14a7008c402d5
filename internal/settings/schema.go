package settings

import (
	"encoding/json"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// variableReference matches a text with ${VAR}, which may stand for every value.
const variableReference = `\$\{[A-Za-z_]`

// An object is a part of a JSON Schema. Its keys are written in alphabetical order.
type object = map[string]any

// WriteSchema writes a JSON Schema (draft 2020-12) of the configuration file. Keys may be nested or
// dotted at each level; editors suggest the nested ones.
func WriteSchema(w io.Writer, app *kong.Application, command *kong.Node) error {
	flags := Flags(command)
	definitions := object{}
	for name, flag := range flags {
		definitions[name] = definition(flag)
	}
	groups := Groups(flags)
	names := slices.Sorted(names(flags, groups))
	for group := range groups {
		definitions[group] = below(group+".", names)
	}
	schema := below("", names)
	maps.Copy(schema, object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": definitions,
		"title":       "Settings of " + app.Name,
		"description": `Written by "` + app.Name + ` config schema".`,
	})
	schema["type"] = []string{"object", "null"} // an empty file
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(schema)
}

// below describes a map of settings whose names begin with the prefix.
func below(prefix string, names []string) object {
	properties, dotted := object{}, object{}
	for _, name := range names {
		key, ok := strings.CutPrefix(name, prefix)
		ref := object{"$ref": "#/$defs/" + name}
		switch {
		case !ok || key == "":
		case strings.Contains(key, "."):
			dotted["^"+regexp.QuoteMeta(key)+"$"] = ref
		default:
			properties[key] = ref
		}
	}
	m := object{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
	if len(dotted) > 0 {
		m["patternProperties"] = dotted
	}
	return m
}

// definition describes a setting.
func definition(flag *kong.Flag) object {
	value := valueSchema(flag)
	if flag.IsSlice() {
		value = object{"anyOf": []object{value, {"type": "array", "items": value}}}
	}
	value["description"] = flag.Help
	if flag.HasDefault {
		value["default"] = defaultOf(flag)
	}
	return value
}

func valueSchema(flag *kong.Flag) object {
	t := flag.Target.Type()
	reference := object{"type": "string", "pattern": variableReference}
	number := func(kind string) object {
		return object{"anyOf": []object{{"type": kind}, reference}}
	}
	switch {
	case Choices(flag.Value) != nil:
		return object{"anyOf": []object{{"enum": Choices(flag.Value)}, reference}}
	case t == reflect.TypeFor[time.Duration]():
		return object{"type": "string", "pattern": `^-?([0-9.]+(ns|us|µs|ms|s|m|h))+$|^0$|` + variableReference}
	case reflect.New(t).Type().Implements(reflect.TypeFor[interface{ Form() string }]()):
		return object{"type": []string{"string", "integer"}}
	}
	switch t.Kind() {
	case reflect.Bool:
		return number("boolean")
	case reflect.Int, reflect.Int64:
		return number("integer")
	case reflect.Float64:
		return number("number")
	}
	return object{"type": []string{"string", "number", "boolean"}}
}

// defaultOf returns a default as JSON has it.
func defaultOf(flag *kong.Flag) any {
	switch flag.Target.Kind() {
	case reflect.Bool:
		return flag.Default == "true"
	case reflect.Int, reflect.Float64:
		if n, err := strconv.ParseFloat(flag.Default, 64); err == nil {
			return n
		}
	}
	return flag.Default
}
