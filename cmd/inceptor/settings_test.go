package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"inceptor/testenv"
)

// What config prints says where each value came from, shows no secret, and gives the same settings
// when it is read again.
func TestConfigIsReadAgain(t *testing.T) {
	t.Setenv("INCEPTOR_KAFKA_SASL_PASSWORD", "swordfish")
	t.Setenv("INCEPTOR_MODEL_VERSIONS", "specific:3,5")
	file := configFile(t, "kafka:\n  brokers: [\"a:1\", b:2]\n  group: \"x: # ä\\n\"\nhttp.listen: \"\"\ninput.fetch.hosts: []\n")
	args := []string{"config", "--config", file, "--kafka.start", "2026-11-29T08:00:00Z", "--kafka.client=franz-go",
		"--no-tensorflow.gpu.allow-growth", "--model.dir", "no", "--input.max-bytes", "1024", "--log.level", "error",
		"--kafka.sasl.user", "u", "--kafka.sasl.mechanism", "PLAIN", "--model.backend", "local-then-remote", "--fallback.address", "m:1"}
	code, first, stderr := execute(t, args...)
	if code != 0 || stderr != "" {
		t.Fatalf("exit status %d: %s", code, stderr)
	}
	for _, want := range []string{
		`\n  brokers: \['a:1', 'b:2'\] +# .*/inceptor.yaml:2\n`, `\n  group: "x: # ä\\n" +# .*/inceptor.yaml:3\n`,
		`\n  start: 2026-11-29T08:00:00Z +# --kafka.start\n`, `\n  versions: specific:3,5 +# INCEPTOR_MODEL_VERSIONS\n`,
		`\n    allow-growth: false +# --tensorflow.gpu.allow-growth\n`, `\n  max-bytes: 1KiB +# --input.max-bytes\n`,
		`\n  poll: 5s +# default\n`, `\n  listen: "" +# .*/inceptor.yaml:4\n`, `\n    # password: \*+ +# INCEPTOR_KAFKA_SASL_PASSWORD\n`,
		`\n    hosts: \[\] +# .*/inceptor.yaml:5\n`, `\n  level: error `,
	} {
		if !regexp.MustCompile(want).MatchString(first) {
			t.Errorf("does not have %s", want)
		}
	}
	if strings.Contains(first, "swordfish") {
		t.Error("shows the password")
	}
	code, second, stderr := execute(t, "config", "--config", configFile(t, first))
	if code != 0 || stderr != "" {
		t.Fatalf("exit status %d: %s", code, stderr)
	}
	origin := regexp.MustCompile(` +# .*`)
	if a, b := origin.ReplaceAllString(first, ""), origin.ReplaceAllString(second, ""); a != b {
		t.Errorf("read again:\n%s\nwas\n%s", b, a)
	}
	if t.Failed() {
		t.Log(first)
	}
}

// config shows the settings also if a service would refuse them, and says so.
func TestConfigListsMistakes(t *testing.T) {
	code, stdout, stderr := execute(t, "config", "--kafka.output", "a b")
	if code != exitUsage || !strings.Contains(stdout, "output: a b") || !strings.Contains(stderr, "--kafka.output: ") || !strings.Contains(stderr, "model.dir: ") {
		t.Errorf("exit status %d\n%s%s", code, stdout, stderr)
	}
}

func settingsSchema(t *testing.T) string {
	return filepath.Join(testenv.Root(t), "docs", "schemas", "settings.schema.json")
}

func TestSettingsSchemaIsThatOfTheCode(t *testing.T) {
	code, stdout, stderr := execute(t, "config", "schema")
	if code != 0 || stderr != "" {
		t.Fatalf("exit status %d: %s", code, stderr)
	}
	if *update {
		if err := os.WriteFile(settingsSchema(t), []byte(stdout), 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(settingsSchema(t))
	if err != nil {
		t.Fatal(err)
	}
	if string(file) != stdout {
		t.Errorf("%s is not what the code says: go test ./cmd/inceptor -run SettingsSchema -update", settingsSchema(t))
	}
}

var (
	commentedSetting = regexp.MustCompile(`(?m)^( *)# ( *[a-z-]+:( .*)?)$`)
	fence            = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```")
)

// examples returns the configuration files that the project shows, as YAML, by a name.
func examples(t *testing.T) map[string]string {
	t.Helper()
	root := testenv.Root(t)
	read := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	deployed := read(filepath.Join(root, "deploy", "inceptor.yaml"))
	_, body, _ := strings.Cut(deployed, "\n\nkafka:")
	all := map[string]string{
		"deploy/inceptor.yaml":                         deployed,
		"deploy/inceptor.yaml, with what is commented": commentedSetting.ReplaceAllString("kafka:"+body, "$1$2"),
	}
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, filepath.Join(root, "README.md")) {
		for _, m := range fence.FindAllStringSubmatch(read(page), -1) {
			if !strings.HasPrefix(m[1], "# ") { // the others name the file that they are
				all[filepath.Base(page)+": "+m[1]] = m[1]
			}
		}
	}
	return all
}

func asJSON(t *testing.T, text string) []byte {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	b, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func badFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "config", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The schema takes every example and what config prints, and refuses what the program refuses.
func TestSettingsSchema(t *testing.T) {
	_, printed, _ := execute(t, "config")
	var names []string
	var values [][]byte
	add := func(name, text string) {
		names, values = append(names, name), append(values, asJSON(t, text))
	}
	for name, text := range examples(t) {
		add(name, text)
	}
	for name, text := range map[string]string{
		"inceptor config": printed, "nothing": "", "dotted": "kafka.window.bytes: 1MiB\nkafka: {window.records: 5}\n",
		"variables": "kafka: {window.records: '${N:5}', create-topics: '${C}'}\nmodel.poll: ${P:5s}\nkafka.compression: ${X}\n",
		"numbers":   "kafka: {group: 5, window: {bytes: 1048576}}\nkafka.input: [a, b]\nmodel.canary: 2.5\n",
	} {
		add(name, text)
	}
	good := len(names)
	for _, file := range []string{"durations", "numbers", "choices"} { // each line by itself
		for line := range strings.Lines(badFile(t, file)) {
			// A schema knows no bounds, and YAML has numbers that JSON lacks.
			if !regexp.MustCompile(`/models|: -1m|nan|1e3|9999|kafka.start|model.versions`).MatchString(line) {
				add(file+": "+line, line)
			}
		}
	}
	for _, file := range []string{"kinds", "null", "list", "eleven-mistakes"} {
		add(file, badFile(t, file))
	}
	add("unknown", "kafka: {broker: 'a:1'}")
	add("unknown, dotted", "kafka.broker: a:1")
	for i, wrong := range testenv.Validate(t, settingsSchema(t), values...) {
		if (wrong == "") != (i < good) {
			t.Errorf("%s: %q", names[i], wrong)
		}
	}
}

// The first line of the example names the schema for editors.
func TestExampleNamesItsSchema(t *testing.T) {
	path := filepath.Join(testenv.Root(t), "deploy", "inceptor.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	schema, ok := strings.CutPrefix(first, "# yaml-language-server: $schema=")
	if got := filepath.Join(filepath.Dir(path), schema); !ok || got != settingsSchema(t) {
		t.Errorf("the first line is %q, which names %s", first, got)
	}
}
