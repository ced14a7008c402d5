package testenv

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Tiny writes a model that takes hardly any time, with the options of tiny.py, and returns its base
// directory.
func Tiny(tb testing.TB, options ...string) string {
	tb.Helper()
	dir := tb.TempDir()
	tinies.write(tb, append([]string{"--out", dir}, options...))
	return dir
}

// A tinyMaker is tiny.py, started once for all models of a test binary: importing TensorFlow takes
// much longer than writing a model. It ends with the test binary, which then closes its end of the
// pipe.
type tinyMaker struct {
	mu      sync.Mutex // guards the fields below
	options io.Writer
	answers *bufio.Reader
}

var tinies tinyMaker

func (m *tinyMaker) write(tb testing.TB, options []string) {
	tb.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.options == nil {
		m.start(tb)
	}
	line, err := json.Marshal(options)
	if err == nil {
		_, err = m.options.Write(append(line, '\n'))
	}
	answer := ""
	if err == nil {
		answer, err = m.answers.ReadString('\n')
	}
	if answer = strings.TrimSpace(answer); err != nil || answer != "" {
		tb.Fatalf("tiny.py %q: %s %v", options, answer, err)
	}
}

func (m *tinyMaker) start(tb testing.TB) {
	tb.Helper()
	cmd := exec.Command(Python(tb), "-B", filepath.Join(Root(tb), "testenv/tiny.py"), "--stdin")
	options, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	answers, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	m.options, m.answers = options, bufio.NewReader(answers)
}
