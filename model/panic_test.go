package model

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

// A tripwire is a log handler that panics at a message about version 2, as a bug at that point
// would.
type tripwire struct {
	slog.Handler
	at string

	mu   *sync.Mutex
	logs *strings.Builder
}

func newTripwire(at string) tripwire {
	w := tripwire{at: at, mu: &sync.Mutex{}, logs: &strings.Builder{}}
	w.Handler = slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})
	return w
}

func (w tripwire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logs.Write(b)
}

func (w tripwire) Handle(ctx context.Context, r slog.Record) error {
	bad := false
	r.Attrs(func(a slog.Attr) bool {
		bad = bad || a.Key == "version" && a.Value.String() == "2"
		return true
	})
	if bad && r.Message == w.at {
		panic("integer divide by zero")
	}
	return w.Handler.Handle(ctx, r)
}

func (w tripwire) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.logs.String()
}

// A panic in a load is a failure at the gate. The process continues, and so does the version that
// serves. At the start another version serves.
func TestPanicAtGate(t *testing.T) {
	for _, test := range []struct {
		name, at, gate string
		spec           bool
		change         func(*Config)
	}{
		{name: "before it is loaded", at: "reading version", gate: infer.GateRead},
		{name: "loaded", at: "not optimized", gate: infer.GateLoad, spec: true, change: func(c *Config) { c.Optimize = optimizeAuto }},
		{name: "warming up", at: "warming up version", gate: infer.GateWarmUp, spec: true},
		{name: "in place of another one", at: "warming up version", gate: infer.GateWarmUp, spec: true, change: func(c *Config) { c.Copies = copiesOne }},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := modeltest.TinyVersions(t, 1)
			wire := newTripwire(test.at)
			bad := func() { modeltest.TinyOf(2).Write(t, filepath.Join(base, "2")) }
			if !test.spec {
				bad = func() { modeltest.Write(t, filepath.Join(base, "2", "saved_model.pb"), modeltest.TinyOf(2).Bytes(t)) }
			}
			logged := func(m *Manager) {
				m.reconciler.loads.log, m.reconciler.report.log = slog.New(wire), slog.New(wire)
			}
			change := func(c *Config) {
				if test.change != nil {
					test.change(c)
				}
			}
			t.Run("while another serves", func(t *testing.T) {
				b := runTinyOn(t, base, logged, change)
				b.awaitVersion(1)
				bad()
				b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
				b.awaitVersion(1)
			})
			t.Run("at the start", func(t *testing.T) {
				b := runTinyOn(t, base, logged, change)
				b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
				b.awaitVersion(1)
				if got := b.refusals(2); got[0] != test.gate {
					t.Errorf("refused at %v, want %s", got, test.gate)
				}
				if s := b.Versions()[0]; !strings.Contains(s.Reason, "integer divide by zero") {
					t.Errorf("got %+v", s)
				}
			})
			if text := wire.text(); !strings.Contains(text, "stack=") || !strings.Contains(text, "panic_test.go") {
				t.Errorf("the log has no stack: %s", text)
			}
		})
	}
}
