package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"inceptor/model/infer"
	"inceptor/testenv"
)

// A specKey is a key of a version's inceptor.yaml, as the tags of infer.Spec describe it.
type specKey struct {
	name, meaning, none string
	enum                []string
	of                  reflect.Type
	inner               []specKey // of a key with keys of its own
}

// specKeys returns the keys of a struct.
func specKeys(t *testing.T, of reflect.Type) (list []specKey) {
	t.Helper()
	for f := range of.Fields() {
		if !f.IsExported() {
			continue
		}
		k := specKey{name: f.Tag.Get("yaml"), meaning: f.Tag.Get("help"), none: f.Tag.Get("default"), of: f.Type}
		if words := f.Tag.Get("enum"); words != "" {
			k.enum = strings.Split(words, ",")
		}
		if _, ok := specTypes[f.Type]; !ok {
			k.inner = specKeys(t, f.Type)
		}
		if k.name == "" || k.inner == nil && (k.meaning == "" || k.none == "") {
			t.Errorf("%v.%s has no tags yaml, default and help", of, f.Name)
		}
		list = append(list, k)
	}
	return list
}

// specTypes are the schemas of the keys' types.
var specTypes = map[reflect.Type]map[string]any{
	reflect.TypeFor[string]():   {"type": "string"},
	reflect.TypeFor[[]string](): {"type": "array", "items": map[string]any{"type": "string"}},
	reflect.TypeFor[int]():      {"type": "integer"},
	reflect.TypeFor[*float64](): {"type": "number"},
	reflect.TypeFor[*bool]():    {"type": "boolean"},
	reflect.TypeFor[[2]int]():   {"type": "array", "items": map[string]any{"type": "integer", "minimum": 1}, "minItems": 2, "maxItems": 2},
	reflect.TypeFor[*infer.PerChannel](): anyOf(channelNumber, map[string]any{
		"type": "array", "items": channelNumber, "minItems": 3, "maxItems": 3,
	}),
	reflect.TypeFor[map[string]infer.Value](): {"type": "object", "additionalProperties": anyOf(scalar, map[string]any{"type": "array", "items": scalar})},
	reflect.TypeFor[infer.Labels](): anyOf(map[string]any{"type": "string"}, map[string]any{
		"type": "object", "additionalProperties": false, "required": []string{"file"},
		"properties": map[string]any{
			"file": map[string]any{"type": "string"}, "offset": map[string]any{"type": "integer"}, "names": map[string]any{"type": "string"},
		},
	}),
	reflect.TypeFor[infer.Output](): anyOf(map[string]any{"type": "string"}, map[string]any{
		"type": "object", "additionalProperties": false,
		"properties": map[string]any{"scores": map[string]any{"type": "string"}, "classes": map[string]any{"type": "string"}},
	}),
}

func anyOf(schemas ...any) map[string]any { return map[string]any{"anyOf": schemas} }

var (
	channelNumber = anyOf(map[string]any{"type": "number"}, map[string]any{"type": "string", "pattern": `^ *[-+0-9.eE]+ */ *[-+0-9.eE]+ *$`})
	scalar        = map[string]any{"type": []string{"number", "string", "boolean"}}
)

var (
	code = regexp.MustCompile(`(^|[ (])'([^']+)'`) // as tags have it
	link = regexp.MustCompile(`\[[^\]]*\]\(([^#)]*)#[^)]*\)`)
)

// TestSpecTable compares the table of inceptor.yaml's keys with the code.
func TestSpecTable(t *testing.T) {
	var b strings.Builder
	b.WriteString("| key | default | meaning |\n| --- | --- | --- |\n")
	var rows func(prefix string, keys []specKey)
	rows = func(prefix string, keys []specKey) {
		for _, k := range keys {
			if k.inner != nil {
				rows(prefix+k.name+".", k.inner)
				continue
			}
			inMarkdown := func(text string) string {
				return strings.ReplaceAll(code.ReplaceAllString(text, "$1`$2`"), "|", "\\|")
			}
			fmt.Fprintf(&b, "| `%s%s` | %s | %s |\n", prefix, k.name, inMarkdown(k.none), inMarkdown(k.meaning))
		}
	}
	rows("", specKeys(t, reflect.TypeFor[infer.Spec]()))

	path := filepath.Join(testenv.Root(t), "docs", "models.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?m)^\| key \| default \| meaning \|\n(\|.*\n)+`)
	if !table.Match(text) {
		t.Fatal("docs/models.md has no table of keys")
	}
	want := table.ReplaceAllLiteral(text, []byte(b.String()))
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
	} else if !bytes.Equal(text, want) {
		t.Error("the table of keys in docs/models.md is not what the code says: run go test ./cmd/inceptor -run TestSpec -update")
	}
}

// TestSpecSchema compares the schema of inceptor.yaml with the code, and tries it.
func TestSpecSchema(t *testing.T) {
	var object func(keys []specKey) map[string]any
	object = func(keys []specKey) map[string]any {
		properties := map[string]any{}
		for _, k := range keys {
			if k.inner != nil {
				properties[k.name] = object(k.inner)
				continue
			}
			text := code.ReplaceAllString(k.meaning+" Default: "+k.none+".", "$1$2")
			text = link.ReplaceAllStringFunc(text, func(l string) string {
				return "docs/" + cmp.Or(link.FindStringSubmatch(l)[1], "models.md")
			})
			one := maps.Clone(specTypes[k.of])
			one["description"] = text
			if k.enum != nil {
				one["enum"] = k.enum
			}
			properties[k.name] = one
		}
		return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	}
	schema := object(specKeys(t, reflect.TypeFor[infer.Spec]()))
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["$id"] = "urn:inceptor:inceptor.yaml"
	schema["title"] = "assets.extra/inceptor.yaml of a version"
	schema["description"] = "Written by `go test ./cmd/inceptor -run TestSpec -update`; a test compares it with the code. docs/models.md says more of each key."
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(schema); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(testenv.Root(t), "docs", "schemas", "inceptor-yaml.schema.json")
	if *update {
		if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Fatalf("the schema is not what the code says (%v): run go test ./cmd/inceptor -run TestSpec -update", err)
	}

	files := []struct {
		text string
		fits bool
	}{
		{"{}", true},
		{"input: {crop: 0.875, fit: pad, resize: bicubic, channels: bgr, scale: 1/255, mean: [0.4, 1/2, 0.5], std: 0.2, size: [2, 3]}", true},
		{"{signature: s, inputs: {a: 1, b: [x, y]}, output: {scores: a, classes: b}, labels: l.txt, top_k: 7}", true},
		{"output: scores", true},
		{"{tags: [serve, gpu], labels: {file: l.txt, offset: -1, names: n.txt}}", true},
		{"tags: []", true},
		{"tags: serve", false},
		{"labels: {offset: 1}", false},
		{"input: {fit: cover}", false},
		{"input: {krop: 0.875}", false},
		{"input: {mean: [1, 2]}", false},
		{"input: {scale: half}", false},
		{"input: {align_corners: 1}", false},
		{"top_k: many", false},
	}
	values := make([][]byte, len(files))
	for i, f := range files {
		var v any
		if err := yaml.Unmarshal([]byte(f.text), &v); err != nil {
			t.Fatal(err)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		values[i] = b
	}
	for i, wrong := range testenv.Validate(t, path, values...) {
		if (wrong == "") != files[i].fits {
			t.Errorf("%s: %q", files[i].text, wrong)
		}
	}
}
