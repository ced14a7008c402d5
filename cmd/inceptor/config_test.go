package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
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

// Every configuration here is wrong, so that nothing starts; what it says
// shows which setting won.
func TestConfigurationSources(t *testing.T) {
	for _, test := range []struct {
		name, file string
		env        map[string]string
		args       []string
		want, not  []string
	}{
		{
			name: "file", file: "kafka:\n  brokers: [from-file]\n  group: g\nmodel.dir: d\n",
			want: []string{`kafka.brokers: "from-file"`}, not: []string{"model.dir"},
		},
		{
			name: "environment over file", file: "kafka.brokers: [from-file]\n",
			env:  map[string]string{"INCEPTOR_KAFKA_BROKERS": "from-environment"},
			want: []string{`"from-environment"`}, not: []string{"from-file"},
		},
		{
			name: "flag over environment", file: "kafka.brokers: [from-file]\n",
			env:  map[string]string{"INCEPTOR_KAFKA_BROKERS": "from-environment"},
			args: []string{"--kafka.brokers", "from-flag,second"},
			want: []string{`"from-flag"`, `"second"`}, not: []string{"from-environment", "from-file"},
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
			name: "number of bytes", file: "kafka.window.total-bytes: 1000\n",
			want: []string{"kafka.window.total-bytes: 1000 is less than 1MiB"},
		},
		{
			name: "time without quotes", file: "kafka.start: 2026-11-29T08:00:00Z\n",
			want: []string{"model.dir"}, not: []string{"kafka.start"},
		},
		{
			name: "example", args: []string{"--config", "../../deploy/inceptor.yaml", "--kafka.output", "a b"},
			want: []string{"1 problem(s)", "kafka.output"},
		},
		{name: "empty file", file: "\n", want: []string{"model.dir"}},
		{name: "variable not set", file: "kafka.group: ${NOT_SET_ANYWHERE}\n", want: []string{"NOT_SET_ANYWHERE", "no default"}},
		{
			name: "unknown keys", file: "kafka:\n  broker: [x]\nmodel:\n  dri: d\nfrobnicate: 1\n",
			want: []string{`"kafka.broker", did you mean "kafka.brokers"?`, `"model.dri", did you mean "model.dir"?`, `unknown key "frobnicate"`},
		},
		{name: "not YAML", file: "a: [\n", want: []string{"yaml"}},
		{name: "wrong type", file: "model.batch.max: many\n", want: []string{"model.batch.max", "many"}},
		{name: "not one of", args: []string{"--kafka.compression", "rar"}, want: []string{"kafka.compression", "rar"}},
		{name: "no number of bytes", args: []string{"--input.max-bytes", "much"}, want: []string{"input.max-bytes", "much"}},
		{name: "unknown flag", args: []string{"--kafka.broker", "x"}, want: []string{"--kafka.broker"}},
		{
			name: "all problems at once", file: "kafka.brokers: [x]\nkafka.output: \"a b\"\nmodel.batch.max: -1\n",
			want: []string{"problem(s); nothing was started", "kafka.brokers", "kafka.output", "model.dir", "model.batch.max"},
		},
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

func TestHelp(t *testing.T) {
	for _, command := range []string{"", "run", "demo", "check", "classify", "inspect", "init", "models", "version"} {
		args := []string{command, "--help"}
		if command == "" {
			args = args[1:]
		}
		code, stdout, stderr := execute(t, args...)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "Usage: inceptor") {
			t.Errorf("inceptor %v: exit status %d\n%s%s", args, code, stdout, stderr)
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
