package credential

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A File returns the last good content of its file, and logs each change and fault once.
func TestFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first\n")
	var log bytes.Buffer
	f, err := Password(slog.New(slog.NewTextHandler(&log, nil)), "kafka.sasl.password-file", file)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name   string
		change func()
		want   string
		log    string // in the one line that is written; empty: none is
	}{
		{"as it was", func() {}, "first", ""},
		{"another one of the same length", func() { write("other\n") }, "other", "level=INFO msg=\"credential has changed"},
		{"empty", func() { write("") }, "other", "level=WARN"},
		{"still empty", func() {}, "other", ""},
		{"gone", func() { _ = os.Remove(file) }, "other", "no such file"},
		{"too large", func() { write(strings.Repeat("x", maxFile+1)) }, "other", "is larger than 4194304 bytes"},
		{"back", func() { write("other\r\n") }, "other", "can be read again"},
		{"by rename", func() {
			if err := os.WriteFile(file+".new", []byte("renamed"), 0o600); err != nil {
				t.Fatal(err)
			}
			_ = os.Rename(file+".new", file)
		}, "renamed", "has changed"},
	} {
		t.Run(step.name, func(t *testing.T) {
			log.Reset()
			step.change()
			if got := f.Value(); got != step.want {
				t.Errorf("got %q, want %q", got, step.want)
			}
			if n := strings.Count(log.String(), "\n"); step.log == "" && n > 0 || step.log != "" && (n != 1 || !strings.Contains(log.String(), step.log)) {
				t.Errorf("log %q, want %q", log.String(), step.log)
			}
			if strings.Contains(log.String(), step.want) && step.want != "" {
				t.Errorf("the password is in the log: %q", log.String())
			}
		})
	}
	if _, err := Password(nil, "kafka.sasl.password-file", file+".none"); err == nil || !strings.HasPrefix(err.Error(), "kafka.sasl.password-file: open ") {
		t.Errorf("no file at the start: %v", err)
	}
}
