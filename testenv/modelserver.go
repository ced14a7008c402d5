package testenv

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// A ModelServer is a model server of a test.
type ModelServer struct {
	*Serving
	tb testing.TB
}

// StartServing serves every version in the base directory dir under a name, and waits until the
// server answers. The end of the test stops it. Options are those of serving.py. The test is
// skipped if a Python package is missing.
func StartServing(tb testing.TB, name, dir string, options ...string) *ModelServer {
	tb.Helper()
	python := setUp(tb, ".tools/venv/bin/python")
	find := "import importlib.util as u, sys; sys.exit(u.find_spec('tensorflow_serving') is None)"
	if err := exec.Command(python, "-B", "-c", find).Run(); err != nil {
		tb.Skip("the Python package tensorflow-serving-api is missing: run `make setup`")
	}
	s, err := RunServing(tb.Context(), Root(tb), filepath.Join(tb.TempDir(), "log"), name, dir, options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Kill)
	return &ModelServer{s, tb}
}

// Restart starts a killed server again and waits until it answers.
func (m *ModelServer) Restart() {
	m.tb.Helper()
	if err := m.Serving.Restart(m.tb.Context()); err != nil {
		m.tb.Fatal(err)
	}
}

// Freeze stops the server's process: connections stay open, but nothing answers.
func (m *ModelServer) Freeze() { m.signal(syscall.SIGSTOP) }

// Thaw resumes a frozen server.
func (m *ModelServer) Thaw() { m.signal(syscall.SIGCONT) }

func (m *ModelServer) signal(s syscall.Signal) {
	m.tb.Helper()
	if err := m.Signal(s); err != nil {
		m.tb.Fatal(err)
	}
}
