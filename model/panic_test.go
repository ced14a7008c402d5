package model

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A tripwire is a log handler that panics at a message about a version, as a
// bug in what is done then would.
type tripwire struct {
	slog.Handler
	at string

	mu   *sync.Mutex
	logs *strings.Builder
}

func newTripwire(at string) tripwire {
	w := tripwire{at: at, mu: &sync.Mutex{}, logs: &strings.Builder{}}
	w.Handler = slog.NewTextHandler(w, nil)
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

// A panic while a version loads refuses the version, at its gate. The process
// lives, and so does what serves; at a start, another version serves.
func TestPanicAtGate(t *testing.T) {
	for _, test := range []struct {
		name, at, gate string
		spec           bool
		change         func(*Config)
	}{
		{name: "before it is loaded", at: "reading", gate: GateRead},
		{name: "loaded", at: "not optimized", gate: GateLoad, spec: true, change: func(c *Config) { c.Optimize = optimizeAuto }},
		{name: "warming up", at: "warming", gate: GateWarmUp, spec: true},
		{name: "in place of another one", at: "warming", gate: GateWarmUp, spec: true, change: func(c *Config) { c.Copies = copiesOne }},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := with(t, 1)
			wire := newTripwire(test.at)
			bad := func() { tinyOf(2).write(t, filepath.Join(base, "2")) }
			if !test.spec {
				bad = func() { write(t, filepath.Join(base, "2", "saved_model.pb"), tinyOf(2).bytes(t)) }
			}
			logged := func(m *Manager) { m.log = slog.New(wire) }
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

// A panic in a batch costs the record that it comes from, and no other.
func TestPanicInBatch(t *testing.T) {
	run := func(batch []item) (scored, error) {
		got := scored{}
		for _, it := range batch {
			if len(it.encoded) > 1 {
				panic("index out of range")
			}
			got.rows = append(got.rows, []float32{float32(it.encoded[0])})
		}
		return got, nil
	}
	b := newBatcher(run, 2, true, Batch{Max: 4}, unwatched{})
	defer b.close()
	var callers sync.WaitGroup
	for i := range byte(40) {
		callers.Go(func() {
			content := []byte{i}
			if i%10 == 7 {
				content = append(content, 0)
			}
			r, err := b.submit(t.Context(), item{encoded: content})
			var guilty *InputError
			switch bad := errors.As(err, &guilty); {
			case bad != (i%10 == 7), bad && guilty.Reason != ReasonPanicked:
				t.Errorf("record %d: %v", i, err)
			case !bad && !slices.Equal(r.scores, []float32{float32(i)}):
				t.Errorf("record %d got %v", i, r.scores)
			}
		})
	}
	callers.Wait()
}

// A panic in a decoder costs its record.
func TestPanicInDecoder(t *testing.T) {
	b := newBatcher(func(batch []item) (scored, error) { return scored{rows: make([][]float32, len(batch))}, nil },
		1, true, Batch{Max: 1}, unwatched{})
	defer b.close()
	a := &answerer{
		content: Rows, decoding: newDecoding(1), batcher: b,
		decode: func(_ context.Context, content []byte, _ Header) (item, error) {
			return item{encoded: content[:9]}, nil
		},
	}
	for range 3 {
		var guilty *InputError
		if _, err := a.classify(t.Context(), []byte("short")); !errors.As(err, &guilty) || guilty.Reason != ReasonPanicked {
			t.Errorf("got %v", err)
		}
		if _, err := a.classify(t.Context(), []byte("long enough")); err != nil {
			t.Error(err)
		}
	}
}
