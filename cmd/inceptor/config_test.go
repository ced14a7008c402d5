package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"inceptor/internal/settings"
	"inceptor/model"
	"inceptor/service"
	"inceptor/service/input"
)

func execute(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(args, &out, &err)
	return code, out.String(), err.String()
}

func configFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "inceptor.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Each bad file in testdata/config has its messages beside it. -update writes them.
func TestBadFiles(t *testing.T) {
	t.Chdir(filepath.Join("testdata", "config"))
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			code, stdout, stderr := execute(t, "run", "--config", file)
			if code != exitUsage || stdout != "" {
				t.Errorf("exit status %d, want %d\n%s", code, exitUsage, stdout)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(stderr), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if stderr != string(want) {
				t.Errorf("printed\n%s\nwant\n%s", stderr, want)
			}
			for _, word := range []string{"json:", "unmarshal", "strconv", "*string", "int64", "[]", "%!", " yaml: "} {
				if strings.Contains(stderr, word) {
					t.Errorf("has a word of Go, %q:\n%s", word, stderr)
				}
			}
		})
	}
}

func TestElevenMistakesAreElevenLines(t *testing.T) {
	_, _, stderr := execute(t, "check", "--config", "testdata/config/eleven-mistakes.yaml")
	lines := strings.Split(strings.TrimSpace(stderr), "\n")[1:]
	if len(lines) != 11 {
		t.Errorf("%d lines, want 11:\n%s", len(lines), stderr)
	}
	for _, line := range lines {
		if !strings.HasPrefix(line, "testdata/config/eleven-mistakes.yaml:") {
			t.Errorf("without its place: %s", line)
		}
	}
}

// Every configuration here is invalid, so that nothing starts. The messages show which setting has
// overridden which.
func TestConfigurationSources(t *testing.T) {
	for _, test := range []struct {
		name, file string
		env        map[string]string
		args       []string
		want, not  []string
	}{
		{
			name: "file", file: "kafka:\n  brokers: [from-file]\n  group: g\nmodel.dir: d\n",
			want: []string{`/inceptor.yaml:2:13: kafka.brokers: "from-file" is not host:port`}, not: []string{"model.dir"},
		},
		{
			name: "environment over file", file: "kafka.brokers: [from-file]\n",
			env:  map[string]string{"INCEPTOR_KAFKA_BROKERS": "from-environment"},
			want: []string{`INCEPTOR_KAFKA_BROKERS: kafka.brokers: "from-environment" is not host:port`}, not: []string{"from-file"},
		},
		{
			name: "flag over environment", file: "kafka.brokers: [from-file]\n",
			env:  map[string]string{"INCEPTOR_KAFKA_BROKERS": "from-environment"},
			args: []string{"--kafka.brokers", "from-flag,second"},
			want: []string{`--kafka.brokers: "from-flag" is not host:port`, `--kafka.brokers: "second"`}, not: []string{"from-environment", "from-file"},
		},
		{
			name: "variable", file: "kafka.brokers: [\"${WHERE}\", \"${ELSEWHERE:nowhere}\"]\n",
			env: map[string]string{"WHERE": "here"}, want: []string{`"here"`, `"nowhere"`},
		},
		{
			name: "variable in place of a number", file: "model.batch.max: ${MANY}\n# not here: ${NOT_SET_ANYWHERE}\n",
			env: map[string]string{"MANY": "2000"}, want: []string{"model.batch.max: 2000 is not"},
		},
		{
			name: "variable that would be a key", file: "kafka.group: ${GROUP}\n",
			env: map[string]string{"GROUP": "g\nkafka.brokers: [x]"}, want: []string{"model.dir"}, not: []string{"kafka.brokers"},
		},
		{
			name: "time without quotes", file: "kafka.start: 2026-11-29T08:00:00Z\n",
			want: []string{"model.dir"}, not: []string{"kafka.start"},
		},
		{
			name: "example", args: []string{"--config", "../../deploy/inceptor.yaml", "--kafka.output", "a b"},
			want: []string{"a mistake; nothing was started", "--kafka.output: "},
		},
		{
			name: "file by variable", env: map[string]string{"INCEPTOR_CONFIG": "testdata/config/list.yaml"},
			want: []string{"testdata/config/list.yaml:1:1: a list"},
		},
		{name: "no such file", args: []string{"--config", "nowhere.yaml"}, want: []string{"nowhere.yaml: cannot be read: no such file"}},
		{name: "empty file", file: "\n", want: []string{"model.dir: must name"}},
		{
			name: "wrong in each source", file: "shutdown.timeout: 20\n",
			env: map[string]string{"INCEPTOR_MODEL_POLL": "5"}, args: []string{"--model.quiet", "2", "--kafka.compression=rar"},
			want: []string{
				`/inceptor.yaml:1:19: shutdown.timeout: "20"; want a time with its unit: 20ms, 20s, 20m or 20h`,
				`INCEPTOR_MODEL_POLL: model.poll: "5"; want a time with its unit: 5ms, 5s, 5m or 5h`,
				`--model.quiet: "2"; want a time with its unit: 2ms, 2s, 2m or 2h`,
				`--kafka.compression: "rar"; want none, gzip, snappy, lz4 or zstd`,
				"5 mistakes",
			},
		},
		{
			name: "a wrong flag and an unknown one", args: []string{"--kafka.broker", "x", "--model.poll", "5"},
			want: []string{"unknown flag --kafka.broker", "--kafka.brokers", "--model.poll: "},
		},
		{name: "no number of bytes", args: []string{"--input.max-bytes", "much"}, want: []string{`--input.max-bytes: "much"; want a number of bytes`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for k, v := range test.env {
				t.Setenv(k, v)
			}
			args := []string{"run"}
			if test.file != "" {
				args = append(args, "--config", configFile(t, test.file))
			}
			code, stdout, stderr := execute(t, append(args, test.args...)...)
			if code != exitUsage {
				t.Errorf("exit status %d, want %d", code, exitUsage)
			}
			for _, want := range test.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("does not tell of %s:\n%s%s", want, stdout, stderr)
				}
			}
			for _, not := range test.not {
				if strings.Contains(stderr, not) {
					t.Errorf("tells of %s:\n%s", not, stderr)
				}
			}
		})
	}
}

// What has no effect is told, and nothing is refused for it.
func TestConfigurationWarnings(t *testing.T) {
	for _, test := range []struct {
		name, file string
		env        map[string]string
		args       []string
		want       []string // all warnings, without the file's folder
	}{
		{
			name: "variables", env: map[string]string{"INCEPTOR_KAFKA_BROKER": "a:1", "INCEPTOR_FROBNICATE": "1", "INCEPTOR_DRY_RUN": "1"},
			want: []string{
				"INCEPTOR_DRY_RUN: no setting, so the variable has no effect",
				"INCEPTOR_FROBNICATE: no setting, so the variable has no effect",
				"INCEPTOR_KAFKA_BROKER: no setting, so the variable has no effect (did you mean INCEPTOR_KAFKA_BROKERS?)",
			},
		},
		{
			name: "Kubernetes", env: map[string]string{
				"INCEPTOR_PORT": "tcp://10.0.0.1:8080", "INCEPTOR_SERVICE_HOST": "10.0.0.1", "INCEPTOR_SERVICE_PORT_HTTP": "8080",
				"INCEPTOR_PORT_8080_TCP": "tcp://10.0.0.1:8080", "INCEPTOR_PORT_8080_TCP_PROTO": "tcp",
			},
			want: []string{"INCEPTOR_PORT, INCEPTOR_PORT_8080_TCP, INCEPTOR_PORT_8080_TCP_PROTO, INCEPTOR_SERVICE_HOST, INCEPTOR_SERVICE_PORT_HTTP: " +
				"no settings, so they have no effect; Kubernetes sets them for a Service of this name (enableServiceLinks: false ends that)"},
		},
		{
			name: "file", file: "kafka:\n  transaction.interval: 1s\n  sasl:\nmodel:\n  canary: 20\nfallback.address: a:1\n",
			want: []string{
				"inceptor.yaml:2:25: kafka.transaction.interval: no effect: kafka.delivery is not exactly_once",
				"inceptor.yaml:3:3: kafka.sasl: nothing below it, so it has no effect",
				"inceptor.yaml:5:11: model.canary: no effect: model.rollout is not canary",
				"inceptor.yaml:6:19: fallback.address: no effect: model.backend is local",
			},
		},
		{name: "example", args: []string{"--config", "../../deploy/inceptor.yaml"}},
		{name: "defaults", file: "kafka.transaction.interval: 100ms\nmodel.canary: 10\n"},
		{name: "flag", args: []string{"--kafka.on-error-after=1m"}, want: []string{"--kafka.on-error-after: no effect: kafka.on-error is retry"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for k, v := range test.env {
				t.Setenv(k, v)
			}
			args := append([]string{"run", "--model.dir", "d"}, test.args...)
			if test.file != "" {
				args = append(args, "--config", configFile(t, test.file))
			}
			var c cli
			parser := newParser(&c)
			given := settings.Read(parser.Model, variablePrefix, args, os.Environ())
			if err := given.Apply(parser); err != nil {
				t.Fatal(err)
			}
			if _, err := parser.Parse(given.Args); err != nil {
				t.Fatal(err)
			}
			validate(&c.Run, given)
			if len(given.Problems) > 0 {
				t.Errorf("refused: %v", given.Problems)
			}
			var got []string
			for _, w := range given.Warnings {
				text := w.String()
				if i := strings.LastIndex(text, "/inceptor.yaml"); i >= 0 {
					text = text[i+1:]
				}
				got = append(got, text)
			}
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("warnings:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// The help of a command fits on a screen of 80 columns and 60 lines; --help-all has every setting.
func TestHelp(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	for _, command := range []string{"", "run", "demo", "check", "classify", "inspect", "init", "models", "config", "version"} {
		args := []string{command, "--help"}
		if command == "" {
			args = args[1:]
		}
		code, stdout, stderr := execute(t, args...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "Usage: inceptor") {
			t.Errorf("inceptor %v: exit status %d\n%s%s", args, code, stdout, stderr)
		}
		if n := strings.Count(stdout, "\n"); n > 60 {
			t.Errorf("inceptor %v: %d lines, want 60 at most\n%s", args, n, stdout)
		}
	}
	for _, command := range []string{"run", "demo", "check"} {
		_, short, _ := execute(t, command, "--help")
		code, all, stderr := execute(t, command, "--help-all")
		if code != 0 || stderr != "" {
			t.Errorf("%s --help-all: exit status %d\n%s", command, code, stderr)
		}
		if !strings.Contains(short, "    inceptor "+command+" --") || !strings.Contains(short, "--help-all") || strings.Contains(short, "model.poll") {
			t.Errorf("%s --help has no example, does not name --help-all or has an advanced setting:\n%s", command, short)
		}
		var c cli
		for name := range settings.Flags(commandNode(newParser(&c).Model, command)) {
			if !strings.Contains(all, name) {
				t.Errorf("%s --help-all lacks %s", command, name)
			}
		}
	}
	if code, _, stderr := execute(t, "frobnicate"); code != exitUsage || !strings.Contains(stderr, "frobnicate") {
		t.Errorf("unknown command: exit status %d: %s", code, stderr)
	}
	if code, _, stderr := execute(t); code != exitUsage || !strings.Contains(stderr, "--help") {
		t.Errorf("no command: exit status %d: %s", code, stderr)
	}
}

func TestInspect(t *testing.T) {
	code, stdout, stderr := execute(t, "inspect", t.TempDir())
	if code != exitFailed || !strings.Contains(stdout+stderr, "saved_model.pb") {
		t.Errorf("empty folder: exit status %d\n%s%s", code, stdout, stderr)
	}
}

// No setting's name is the beginning of another's, part by part: in a file, a key has either a
// value or keys below it.
func TestNoSettingIsAPrefix(t *testing.T) {
	var c cli
	flags := settings.Flags(commandNode(newParser(&c).Model, "run"))
	if len(flags) < 50 {
		t.Errorf("only %d settings", len(flags))
	}
	for group := range settings.Groups(flags) {
		if flags[group] != nil {
			t.Errorf("%s is a setting and a group", group)
		}
	}
}

// Every name that has no effect beside others is that of a setting or group.
func TestWithoutEffectNamesSettings(t *testing.T) {
	var c cli
	flags := settings.Flags(commandNode(newParser(&c).Model, "run"))
	groups := settings.Groups(flags)
	remote := service.Config{Model: model.Config{Backend: model.OnlyRemote, Optimize: "off"}}
	exactly := service.Config{Kafka: service.Kafka{Delivery: "exactly_once", OnError: "retry"}}
	for _, config := range []service.Config{{}, remote, exactly, {Input: input.Config{Format: input.Example}}} {
		for name := range config.WithoutEffect() {
			group, isGroup := strings.CutSuffix(name, ".")
			if flags[name] == nil && (!isGroup || groups[group] == "") {
				t.Errorf("no setting or group is named %s", name)
			}
		}
	}
}
