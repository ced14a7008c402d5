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
)

// A load that does not end in time is refused and told. The version that serves goes on, and no
// other one is loaded until the load has ended, whatever becomes of its files.
func TestLateLoad(t *testing.T) {
	f := newFileServer(t)
	b := runTiny(t, with(t, 1), func(c *Config) { c.Gate.Timeout = 4 * time.Second })
	b.awaitVersion(1)
	f.vanish() // the warm-up's run waits for it
	b.put(2, tiny{bias: 2, needs: f.name})
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	s := b.Versions()[0]
	if want := "not done after 4s: a call into TensorFlow does not end, at the gate warm-up; it keeps about "; s.Gate != GateTimeout || !strings.HasPrefix(s.Reason, want) {
		t.Errorf("got %+v", s)
	}
	if late := b.overdueLoads(); !slices.Equal(late, []int64{2}) {
		t.Errorf("loads of %v are overdue", late)
	}
	waits := func() bool {
		s := b.Versions()[0]
		return s.Version == 3 && s.State == StateFound && s.Reason == "a load of version 2 does not end"
	}
	b.put(3, tinyOf(3))
	b.await("the wait of version 3", waits)
	b.must(os.RemoveAll(b.dir(2)))
	b.put(2, tinyOf(2))
	for range 3 { // between two scans
		b.must(b.ask(t.Context(), func() error { return nil }))
	}
	if !waits() || b.serves() != 1 {
		t.Errorf("%v, and version %d serves", b.states(), b.serves())
	}
	f.mend()
	b.awaitVersion(3)
	b.await("the end of the load", func() bool { return len(b.overdueLoads()) == 0 })
}

// A load is late only if it does not end soon after its time, which all but calls into TensorFlow
// do.
func TestLoadEndsInTime(t *testing.T) {
	openLibrary(t)
	dir := t.TempDir()
	tinyOf(1).write(t, dir)
	write(t, filepath.Join(dir, "assets/large"), make([]byte, 1<<20))
	c := testConfig(dir)
	c.Gate.Timeout = time.Nanosecond
	w := &witness{}
	m, err := New(c, slog.New(slog.DiscardHandler), w)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p := m.gates(t.Context(), loader{config: c, decoding: m.decoding, at: candidate{1, dir}, log: m.log, observer: w, bound: m.bound})
	gate := (*GateError)(nil)
	if !errors.As(p.err, &gate) || gate.Gate != GateTimeout || gate.Error() != "timeout: not done after 1ns" {
		t.Errorf("got %v", p.err)
	}
	if p.late != nil || len(w.overdueLoads()) > 0 {
		t.Errorf("it is late: %v", w.overdueLoads())
	}
}
