package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inceptor/internal/settings"
)

func TestVersionAndHelpCommand(t *testing.T) {
	if code, stdout, stderr := execute(t, "--version"); code != 0 || stdout != "inceptor "+version+"\n" || stderr != "" {
		t.Errorf("--version: exit status %d: %q, %q", code, stdout, stderr)
	}
	_, want, _ := execute(t, "models", "use", "--help")
	if code, stdout, stderr := execute(t, "help", "models", "use"); code != 0 || stdout != want || stderr != "" {
		t.Errorf("help models use: exit status %d\n%s%s", code, stdout, stderr)
	}
	if code, _, stderr := execute(t, "help", "frobnicate"); code != exitUsage || !strings.Contains(stderr, "frobnicate") {
		t.Errorf("help frobnicate: exit status %d: %s", code, stderr)
	}
}

func TestComplete(t *testing.T) {
	for _, test := range []struct {
		words string   // with | between them
		want  []string // without descriptions
	}{
		{"mo", []string{"models"}},
		{"models|", []string{"list", "use", "rollback"}},
		{"config|s", []string{"show", "schema"}},
		{"run|--kafka.comp", []string{"--kafka.compression"}},
		{"run|--kafka.compression|", []string{"none", "gzip", "snappy", "lz4", "zstd"}},
		{"run|--kafka.compression|z", []string{"zstd"}},
		{"run|--kafka.compression=z", []string{"--kafka.compression=zstd"}},
		{"--log.level|d", []string{"debug"}},
		{"run|--log.level|debug|--input.format|tens", []string{"tensor-json"}},
		{"run|--kafka.create-topics=", []string{"--kafka.create-topics=true", "--kafka.create-topics=false"}},
		{"run|--config|x", []string{settings.CompleteFiles}},
		{"run|--config=x", []string{settings.CompleteFiles}},
		{"classify|", []string{settings.CompleteFiles}},
		{"help|cl", []string{"classify"}},
		{"completion|z", []string{"zsh"}},
		{"config|--model.di", []string{"--model.dir"}},
		{"run|--kafka.group|", nil},
		{"frobnicate", nil},
		{"run|--frobnicate=", nil},
	} {
		t.Run(test.words, func(t *testing.T) {
			args := append([]string{"complete", "--"}, strings.Split(test.words, "|")...)
			code, stdout, stderr := execute(t, args...)
			var got []string
			for line := range strings.Lines(stdout) {
				word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
				got = append(got, word)
			}
			if code != 0 || stderr != "" || !slices.Equal(got, test.want) {
				t.Errorf("exit status %d: %q %s, want %q", code, got, stderr, test.want)
			}
		})
	}
	// After --, the common settings come, and the advanced ones once they are begun.
	_, common, _ := execute(t, "complete", "--", "run", "--")
	_, kafka, _ := execute(t, "complete", "--", "run", "--kafka")
	if !strings.Contains(common, "--kafka.brokers\t") || strings.Contains(common, "--kafka.rack\t") || !strings.Contains(kafka, "--kafka.rack\t") {
		t.Errorf("after --:\n%s\nafter --kafka:\n%s", common, kafka)
	}
}

// asCommand returns a folder with the program, under its name, of the code that is tested.
func asCommand(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script := "#!/bin/sh\n" + asProgram + `=1 exec "` + self + `" "$@"` + "\n"
	if err := os.WriteFile(filepath.Join(dir, "inceptor"), []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	return dir
}

// The script is run by bash as bash runs it for a key: with the words cut at = and :.
func TestCompletionInBash(t *testing.T) {
	dir := asCommand(t)
	if err := os.WriteFile(filepath.Join(dir, "settings.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ words, want string }{
		{`inceptor mod`, "models"},
		{`inceptor run --kafka.delivery ex`, "exactly_once"},
		{`inceptor run --kafka.delivery = ex`, "exactly_once"},
		{`inceptor run --config set`, "settings.yaml"},
		{`inceptor run --config = set`, "settings.yaml"},
		{`inceptor run --kafka.brokers a : 1 --kafka.comp`, "--kafka.compression"},
	} {
		words := strings.Fields(test.words)
		script := `source <(inceptor completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _inceptor; printf '%s\n' "${COMPREPLY[@]}"`
		cmd := exec.Command("bash", append([]string{"-c", script, "bash"}, words...)...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != test.want {
			t.Errorf("%s: %v: %q, want %q", test.words, err, got, test.want)
		}
	}
}

// The program is called as it was typed: it need not be in PATH.
func TestCompletionOutsidePath(t *testing.T) {
	dir := asCommand(t)
	for _, shell := range []struct{ name, script string }{
		{"bash", `source <(./inceptor completion bash); COMP_WORDS=("$1" mod); COMP_CWORD=1; _inceptor; printf '%s\n' "${COMPREPLY[@]}"`},
		{"zsh", `compdef() { :; }; _describe() { print -r -- ${found%%:*}; }; source <(./inceptor completion zsh); words=("$1" mod); CURRENT=2; _inceptor`},
		{"fish", `./inceptor completion fish | source; complete -C "$argv[2] mod" | string split -f 1 \t`},
	} {
		path, err := exec.LookPath(shell.name)
		if err != nil && shell.name != "bash" {
			continue
		}
		for _, typed := range []string{"./inceptor", "~/inceptor", dir + "/inceptor"} {
			cmd := exec.Command(path, "-c", shell.script, shell.name, typed) //nolint:gosec // a shell of this machine
			if shell.name == "fish" {
				cmd = exec.Command(path, "--no-config", "-c", shell.script, shell.name, typed) //nolint:gosec // the same
			}
			cmd.Dir, cmd.Env = dir, append(os.Environ(), "HOME="+dir)
			if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "models" {
				t.Errorf("%s, %s: %v: %q, want models", shell.name, typed, err, out)
			}
		}
	}
}

// Every script is one that its shell can read, where that is installed.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range settings.Shells {
		code, script, stderr := execute(t, "completion", shell)
		if code != 0 || stderr != "" || !strings.Contains(script, "inceptor") && shell != "powershell" || strings.Contains(script, "PROGRAM") {
			t.Errorf("%s: exit status %d\n%s%s", shell, code, script, stderr)
		}
		if path, err := exec.LookPath(shell); err == nil && shell != "powershell" {
			cmd := exec.Command(path, "-n")
			cmd.Stdin = strings.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s: %v\n%s", shell, err, out)
			}
		}
	}
	if code, _, stderr := execute(t, "completion", "csh"); code != exitUsage || !strings.Contains(stderr, "csh") {
		t.Errorf("csh: exit status %d: %s", code, stderr)
	}
}

// The manual page has every command and setting, and groff finds nothing wrong with it.
func TestManual(t *testing.T) {
	code, page, stderr := execute(t, "man")
	if code != 0 || stderr != "" {
		t.Fatalf("exit status %d: %s", code, stderr)
	}
	for _, want := range []string{".SH NAME\ninceptor \\- classify a Kafka topic", ".SS models use", `.B \-\-kafka.window.total\-bytes=0`, ".SH SETTINGS: MODEL"} {
		if !strings.Contains(page, want) {
			t.Errorf("lacks %q", want)
		}
	}
	for line := range strings.Lines(page) {
		if macro, _, _ := strings.Cut(line, " "); strings.HasPrefix(line, ".") && !slices.Contains([]string{".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".RS", ".RE", ".nf", ".fi"}, strings.TrimSpace(macro)) {
			t.Errorf("an unknown macro: %s", line)
		}
	}
	if groff, err := exec.LookPath("groff"); err == nil {
		cmd := exec.Command(groff, "-ww", "-man", "-Tascii", "-z")
		cmd.Stdin = strings.NewReader(page)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("groff: %v\n%s", err, out)
		}
	}
}
