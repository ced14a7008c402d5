package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// A URL is shown, and refused, without its user and query.
func TestSecretsInURLs(t *testing.T) {
	for _, test := range []struct{ name, setting, url, shown string }{
		{"query", "kafka.sasl.oidc.token-url", "https://idp/token?key=goldtrout", `# token-url: https://idp/token?********`},
		{"user", "kafka.sasl.oidc.token-url", "https://me:gold/trout@idp/token", `# token-url: https://********@idp/token`},
		{"both", "kafka.sasl.oidc.token-url", "https://me:goldtrout@idp/token?goldtrout#x", `# token-url: https://********@idp/token?********`},
		{"list", "kafka.brokers", "SASL_SSL://me:goldtrout@a:1,b:2", `# brokers: ['SASL_SSL://********@a:1', 'b:2']`},
		{"number", "kafka.window.records", "http://me:goldtrout-goldtrout-goldtrout-goldtrout-goldtrout@a", `records: "http://********@a"; want`},
		{"address", "fallback.address", "http://me:goldtrout@a", `# address: http://********@a`},
		{"none", "kafka.sasl.oidc.token-url", "https://idp/token", ` token-url: https://idp/token `},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, stdout, stderr := execute(t, "config", "--model.backend", "local-then-remote", "--"+test.setting, test.url)
			if !strings.Contains(stdout+stderr, test.shown) {
				t.Errorf("does not show %s:\n%s%s", test.shown, stdout, stderr)
			}
			if strings.Contains(stdout+stderr, "trout") {
				t.Errorf("shows the secret:\n%s%s", stdout, stderr)
			}
		})
	}
}

// A mistake in the file or a variable stops no command that does not use the settings.
func TestCommandsWithoutSettings(t *testing.T) {
	file := configFile(t, "kafka.window.records: many\nkafka: [\n")
	for _, test := range []struct {
		name string
		args []string
		code int
	}{
		{"version", []string{"version"}, 0},
		{"completion", []string{"completion", "bash"}, 0},
		{"complete", []string{"complete", "--", "ru"}, 0},
		{"help", []string{"help", "run"}, 0},
		{"man", []string{"man"}, 0},
		{"config schema", []string{"config", "schema"}, 0},
		{"inspect", []string{"inspect", t.TempDir()}, exitFailed}, // no model
		{"inspect with a wrong flag", []string{"inspect", "--input.format=foo", t.TempDir()}, exitUsage},
		{"models of an address", []string{"models", "--address", "127.0.0.1:1"}, exitFailed}, // no service
		{"models use of an address", []string{"models", "use", "--http.listen=127.0.0.1:1", "1"}, exitFailed},
		{"models", []string{"models"}, exitUsage},
		{"config", []string{"config"}, exitUsage},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("INCEPTOR_MODEL_POLL", "5")
			t.Setenv("INCEPTOR_CONFIG", file)
			code, stdout, stderr := execute(t, test.args...)
			if code != test.code {
				t.Errorf("exit status %d, want %d\n%s%s", code, test.code, stdout, stderr)
			}
			if code != exitUsage && test.name != "help" && !strings.Contains(stderr, "level=WARN") {
				t.Errorf("no warning of the mistakes:\n%s", stderr)
			}
		})
	}
}

// An explicit setting wins over a merged one, wherever it is.
func TestMergedSettings(t *testing.T) {
	for name, file := range map[string]string{
		"before": "kafka.group: mine\nkafka: {<<: {group: merged, output: merged}}\n",
		"after":  "kafka: {<<: {group: merged, output: merged}}\nkafka.group: mine\n",
		"inside": "kafka: {<<: {group: merged, output: merged}, group: mine}\n",
		"list":   "kafka: {<<: [{group: mine}, {group: merged, output: merged}]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, stdout, stderr := execute(t, "config", "--config", configFile(t, file))
			if !strings.Contains(stdout, " group: mine ") || !strings.Contains(stdout, " output: merged ") || strings.Contains(stderr, "twice") {
				t.Errorf("%s%s", stdout, stderr)
			}
		})
	}
}

// A shell leaves the ~ of --config=~/FILE to the program.
func TestConfigInHome(t *testing.T) {
	t.Setenv("HOME", filepath.Dir(configFile(t, "kafka.group: at-home\n")))
	for _, args := range [][]string{{"--config=~/inceptor.yaml"}, {"--config", "~/inceptor.yaml"}, nil} {
		if args == nil {
			t.Setenv("INCEPTOR_CONFIG", "~/inceptor.yaml")
		}
		_, stdout, stderr := execute(t, append([]string{"config"}, args...)...)
		if !strings.Contains(stdout, "at-home") {
			t.Errorf("%v: %s%s", args, stdout, stderr)
		}
	}
}

// Spaces around the elements of a list are none of theirs.
func TestSpacesInLists(t *testing.T) {
	for name, args := range map[string][]string{
		"flag":        {"--kafka.brokers", "a:1, b:2 "},
		"flag with =": {"--kafka.brokers= a:1 ,b:2"},
		"file":        {"--config", configFile(t, "kafka.brokers: a:1, b:2\n")},
		"variable":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			if args == nil {
				t.Setenv("INCEPTOR_KAFKA_BROKERS", " a:1,\n b:2")
			}
			_, stdout, stderr := execute(t, append([]string{"config"}, args...)...)
			if !strings.Contains(stdout, "brokers: ['a:1', 'b:2']") {
				t.Errorf("%s%s", stdout, stderr)
			}
		})
	}
}

func TestConfigWithoutFile(t *testing.T) {
	code, _, stderr := execute(t, "config", "--config")
	if code != exitUsage || !strings.Contains(stderr, "--config: expected file value but nothing follows") {
		t.Errorf("exit status %d: %s", code, stderr)
	}
}
