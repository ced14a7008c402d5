package service

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"inceptor/service/stream"
	"inceptor/testenv"
)

func schemaFile(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(testenv.Root(t), "docs", "schemas", name)
}

// closed is a copy of a schema that allows no key but those it describes.
func closed(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	var shut func(v any)
	shut = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, inner := range v {
				shut(inner)
			}
			_, whole := v["required"] // the others are conditions
			if _, ok := v["properties"].(map[string]any); ok && whole {
				v["additionalProperties"] = false
			}
		case []any:
			for _, inner := range v {
				shut(inner)
			}
		}
	}
	shut(schema)
	if b, err = json.Marshal(schema); err != nil {
		t.Fatal(err)
	}
	strict := filepath.Join(t.TempDir(), "closed.json")
	if err := os.WriteFile(strict, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return strict
}

// without is a JSON object without a key, for each key of it and of the object
// at each key.
func without(t *testing.T, object []byte) (shorter [][]byte) {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(object, &all); err != nil {
		t.Fatal(err)
	}
	var cut func(m map[string]any)
	cut = func(m map[string]any) {
		for key, value := range m {
			delete(m, key)
			b, err := json.Marshal(all)
			if err != nil {
				t.Fatal(err)
			}
			shorter = append(shorter, b)
			m[key] = value
			if inner, ok := value.(map[string]any); ok && key != "outputs" {
				cut(inner)
			}
		}
	}
	cut(all)
	return shorter
}

// Every answer is as its schema says, with all of its keys and no other. A
// reader's copy of the schema takes an answer that has grown.
func TestAnswerSchema(t *testing.T) {
	file := schemaFile(t, "answer.schema.json")
	var values, short [][]byte
	for _, kind := range kinds() {
		r := kind.of(t)
		values = append(values, r.Value)
		short = append(short, without(t, r.Value)...)
	}
	for i, wrong := range testenv.Validate(t, closed(t, file), values...) {
		if wrong != "" {
			t.Errorf("%s: %s\n%s", kinds()[i].name, wrong, values[i])
		}
	}
	for i, wrong := range testenv.Validate(t, file, short...) {
		if wrong == "" {
			t.Errorf("a key may be missing: %s", short[i])
		}
	}
	whole := string(values[0])
	grown := strings.Replace(strings.Replace(whole, `{"id"`, `{"new":1,"id"`, 1), `"image":{`, `"image":{"new":1,`, 1)
	if wrong := testenv.Validate(t, file, []byte(grown))[0]; wrong != "" {
		t.Errorf("an answer that has grown is refused: %s", wrong)
	}
	other := [][]byte{
		[]byte(strings.Replace(whole, `"version":3`, `"version":"3"`, 1)),
		[]byte(strings.Replace(whole, `"version_label":"stable"`, `"version_label":""`, 1)),
		[]byte(strings.Replace(whole, `"score":0.9997`, `"score":null`, 1)),
		[]byte(strings.Replace(whole, `"source":null`, `"source":"elsewhere"`, 1)),
		[]byte(grown),
	}
	for i, wrong := range testenv.Validate(t, closed(t, file), other...) {
		if wrong == "" {
			t.Errorf("this is taken: %s", other[i])
		}
	}
}

// Every dead letter has the headers that its schema says.
func TestDeadLetterSchema(t *testing.T) {
	h := newHandler(t, fakeModel{})
	in := record([]byte("\x00"))
	in.Headers = append(in.Headers, header(headerReplays, "2"))
	handled, err := h.handle(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	k := Kafka{OnError: onErrorDeadLetter, OnErrorAfter: time.Minute}
	givenUp, _ := h.onFailure(k)(t.Context(), in, time.Hour, errors.New("no version is serving"))
	letters := append(append(handled, givenUp...), h.replaceUnread(1000)(stream.Batch{Topic: "in", Partition: 2, First: 7, Last: 9})...)
	for _, source := range []stream.Record{in, {Topic: "in", Partition: 2, Offset: 9}} {
		source.Headers = sendersHeaders(source.Headers)
		letter := deadLetter(source, "dead", ReasonRefused, errors.New("too large"))
		for range 3 {
			letters = append(letters, letter)
			if letter, err = h.replaceRefused(source, letter, errors.New("too large")); err != nil {
				break
			}
		}
	}
	keyless, err := h.replaceRefused(in, stream.Record{Topic: "dead", Headers: handled[0].Headers}, stream.ErrKeyless)
	if err != nil {
		t.Fatal(err)
	}
	letters = append(letters, keyless)
	var values [][]byte
	for _, letter := range letters {
		headers := map[string]string{}
		for _, h := range letter.Headers {
			if strings.HasPrefix(h.Key, headerPrefix) {
				headers[h.Key] = string(h.Value)
			}
		}
		b, err := json.Marshal(headers)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, b)
	}
	file := schemaFile(t, "dead-letter.schema.json")
	for i, wrong := range testenv.Validate(t, closed(t, file), values...) {
		if wrong != "" {
			t.Errorf("%s\n%s", wrong, values[i])
		}
	}
	all := string(slices.Concat(values...))
	var schema struct{ Properties map[string]any }
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	for key := range schema.Properties {
		if !strings.Contains(all, fmt.Sprintf("%q:", key)) {
			t.Errorf("no dead letter has %s", key)
		}
	}
	first := string(values[0])
	other := [][]byte{
		[]byte(strings.Replace(first, `"inceptor-offset":"4711"`, `"inceptor-offset":"-1"`, 1)),
		[]byte(strings.Replace(first, `"inceptor-id"`, `"inceptor-new"`, 1)),
		[]byte(strings.Replace(first, `{`, `{"inceptor-truncated-key":"1",`, 1)),
	}
	for i, wrong := range testenv.Validate(t, file, other...) {
		if wrong == "" {
			t.Errorf("this is taken: %s", other[i])
		}
	}
}

var keyOfTable = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|")

var example = regexp.MustCompile("(?s)```json\n(\\{\"id\".*?)```")

// The page about answers lists their keys in the order that they have, and the
// examples are answers.
func TestAnswerDocs(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(testenv.Root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var examples [][]byte
	for _, name := range []string{"README.md", "docs/answers.md"} {
		found := example.FindSubmatch(read(name))
		if found == nil {
			t.Fatalf("%s has no example", name)
		}
		examples = append(examples, bytes.ReplaceAll(found[1], []byte("\n"), nil))
	}
	for i, wrong := range testenv.Validate(t, closed(t, schemaFile(t, "answer.schema.json")), examples...) {
		if wrong != "" {
			t.Errorf("%s\n%s", wrong, examples[i])
		}
	}
	var told []string
	for _, match := range keyOfTable.FindAllSubmatch(read("docs/answers.md"), -1) {
		told = append(told, string(match[1]))
	}
	var keys []string
	for f := range reflect.TypeFor[Answer]().Fields() {
		keys = append(keys, f.Tag.Get("json"))
	}
	if diff := cmp.Diff(keys, told); diff != "" {
		t.Errorf("docs/answers.md (-answer +docs):\n%s", diff)
	}
}
