package model

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

// A load that does not end in time fails and is reported. The version that serves goes on. No other
// version is loaded until the load has ended, even if its files change.
func TestLateLoad(t *testing.T) {
	f := modeltest.NewFileServer(t)
	b := runTiny(t, modeltest.TinyVersions(t, 1), func(c *Config) { c.Gate.Timeout = 8 * time.Second })
	b.awaitVersion(1)
	f.Vanish() // the warm-up's run waits for it
	b.put(2, modeltest.Tiny{Bias: 2, Needs: f.Path})
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	s := b.Versions()[0]
	if want := "not done after 8s: a call into TensorFlow does not end, at the gate warm-up; it keeps about "; s.Gate != infer.GateTimeout || !strings.HasPrefix(s.Reason, want) {
		t.Errorf("got %+v", s)
	}
	if overdue := b.overdueLoads(); !slices.Equal(overdue, []int64{2}) {
		t.Errorf("loads of %v are overdue", overdue)
	}
	waits := func() bool {
		s := b.Versions()[0]
		return s.Version == 3 && s.State == StateFound && s.Reason == "a load of version 2 does not end"
	}
	b.put(3, modeltest.TinyOf(3))
	b.await("the wait of version 3", waits)
	b.must(os.RemoveAll(b.dir(2)))
	b.put(2, modeltest.TinyOf(2))
	for range 3 { // between two scans
		b.must(b.ask(t.Context(), func() error { return nil }))
	}
	if !waits() || b.serves() != 1 {
		t.Errorf("%v, and version %d serves", b.states(), b.serves())
	}
	f.Mend()
	b.awaitVersion(3)
	b.await("the end of the load", func() bool { return len(b.overdueLoads()) == 0 })
}

// A load is overdue only if it does not end soon after its timeout. All but calls into TensorFlow
// do.
func TestLoadEndsInTime(t *testing.T) {
	modeltest.OpenLibrary(t)
	dir := t.TempDir()
	modeltest.TinyOf(1).Write(t, dir)
	modeltest.Write(t, filepath.Join(dir, "assets/large"), make([]byte, 1<<20))
	c := testConfig(dir)
	c.Gate.Timeout = time.Nanosecond
	w := &witness{}
	m, err := New(c, slog.New(slog.DiscardHandler), w)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	l := m.reconciler.loads
	p := l.gates(t.Context(), l.prepare(&versionEntry{Folder: infer.Folder{Version: 1, Dir: dir}}))
	gate := (*infer.GateError)(nil)
	if !errors.As(p.err, &gate) || gate.Gate != infer.GateTimeout || gate.Error() != "timeout: not done after 1ns" {
		t.Errorf("got %v", p.err)
	}
	if p.overdue != nil || len(w.overdueLoads()) > 0 {
		t.Errorf("it is overdue: %v", w.overdueLoads())
	}
}
