package model

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

// impatient sets a short limit for runs.
func impatient(c *Config) {
	c.RunLimit = func(time.Duration) time.Duration { return time.Second }
}

// askInVain classifies an image whose run does not end, until the error says that the version
// hangs.
func (b *harness) askInVain() {
	b.Helper()
	_, err := b.Classify(b.Context(), nil, modeltest.BlackImage)
	if !errors.Is(err, infer.ErrHangs) || !strings.Contains(err.Error(), " hangs: a run of ") {
		b.Errorf("got %v", err)
	}
}

// A version that hangs on probation is rolled back, and the one before answers. That holds also
// if the one before has not run anything, and if the probation is short.
func TestHangOnProbation(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
	}{
		{"swap", func(*Config) {}},
		{"slowdown 0", func(c *Config) { c.Probation.Slowdown = 0 }},
		{"canary", func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 100 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := modeltest.NewFileServer(t)
			b := runTiny(t, modeltest.TinyVersions(t, 1), impatient, onProbation(time.Hour), test.change)
			b.await("version 1", func() bool { return b.published.routes.Load().stable != nil }) // it has run nothing
			b.put(2, modeltest.Tiny{Bias: 2, Needs: f.Path})
			b.await("version 2", func() bool { return b.published.routes.Load().labelOf(b.loadedAs(2)) != "" })
			f.Vanish()
			answered := make(chan infer.Prediction, 1)
			go func() {
				for {
					if p, err := b.Classify(context.Background(), nil, modeltest.BlackImage); err == nil {
						answered <- p
						return
					}
				}
			}()
			if v := b.loadedAs(2); b.published.routes.Load().stable == v { // a canary is judged at any time
				b.await("a run", func() bool { return len(v.ActiveRuns()) > 0 })
				b.endProbation() // a run that began in it prolongs it
			}
			select {
			case p := <-answered:
				if p.Version != 1 {
					t.Errorf("version %d has answered", p.Version)
				}
			case <-time.After(patience):
				t.Fatalf("nobody answers; %v", b.states())
			}
			b.awaitStates("2 rolled-back", "1 serving stable")
			if s := b.Versions()[0]; !strings.HasPrefix(s.Reason, CauseHangs+": ") {
				t.Errorf("reason: %q", s.Reason)
			}
		})
	}
}

// A version that hangs on probation goes on with the lanes that it has left, if the version before
// cannot serve.
func TestHangWithoutWayBack(t *testing.T) {
	f := modeltest.NewFileServer(t)
	b := runTiny(t, modeltest.TinyVersions(t, 1), impatient, onProbation(time.Minute), func(c *Config) { c.Copies = copiesOne })
	b.awaitVersion(1)
	b.must(os.RemoveAll(b.dir(1)))
	modeltest.Write(t, f.Path+"1", nil) // for white images, which do not hang
	b.put(2, modeltest.Tiny{Bias: 2, Needs: f.Path})
	b.awaitVersion(2)
	f.Vanish()
	b.askInVain()
	b.await("the verdict", func() bool { _, bad := b.stateFile.now().rollbackOf(2); return bad })
	for range 20 {
		p, err := b.Classify(b.Context(), nil, modeltest.WhiteImage)
		if err != nil || p.Version != 2 {
			t.Fatalf("got %+v, %v", p, err)
		}
	}
	b.put(3, modeltest.TinyOf(3))
	b.await("version 3", func() bool {
		v := b.published.routes.Load().stable
		return v != nil && v.Info().Version == 3
	})
}

// A version whose golden image hangs fails at that gate, before the run ends. It is tried again
// when the run has ended.
func TestHangAtGate(t *testing.T) {
	f := modeltest.NewFileServer(t)
	f.Suffix = "1"
	modeltest.Write(t, f.Path+f.Suffix, nil)
	f.Vanish()
	b := runTiny(t, modeltest.TinyVersions(t, 1), impatient)
	b.awaitVersion(1)
	staging := filepath.Join(t.TempDir(), "v")
	modeltest.Tiny{Bias: 2, Needs: f.Path, Golden: "- {image: white.bmp, label: label 0, floor: 1}\n"}.Write(t, staging)
	modeltest.Write(t, filepath.Join(staging, "assets.extra/golden/white.bmp"), modeltest.WhiteImage)
	b.must(os.Rename(staging, b.dir(2)))
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	if s := b.Versions()[0]; s.Gate != infer.GateGolden || s.Retry.IsZero() || !strings.Contains(s.Reason, "white.bmp: version 2 hangs: ") {
		t.Errorf("got %+v", s)
	}
	if !b.isOverdue(2) {
		t.Error("it may be loaded again beside the run that hangs")
	}
	b.awaitVersion(1)
	f.Mend()
	b.awaitVersion(2)
}

// loadedAs returns the loaded version of a number; nil: it is not loaded.
func (b *harness) loadedAs(number int64) *infer.Version {
	if e := b.entry(number); e != nil {
		return e.loaded
	}
	return nil
}

// isOverdue tells whether a load or a run of a version is known to be overdue.
func (b *harness) isOverdue(number int64) bool {
	e := b.entry(number)
	return e != nil && e.overdue != nil && !isClosed(e.overdue)
}

// entry returns the published entry of a version; nil: there is none.
func (b *harness) entry(number int64) *versionEntry {
	for _, e := range b.published.snapshot.Load().versions {
		if e.Version == number {
			return &e
		}
	}
	return nil
}

// If the only version hangs, Classify and Serving say so. When its runs have ended, it answers
// again.
func TestOnlyVersionHangs(t *testing.T) {
	f := modeltest.NewFileServer(t)
	base := t.TempDir()
	modeltest.Tiny{Bias: 2, Needs: f.Path}.Write(t, filepath.Join(base, "2"))
	b := runTiny(t, base, impatient)
	b.awaitVersion(2)
	f.Vanish()
	for range infer.Lanes + 2 {
		b.askInVain()
	}
	_, err := b.Serving()
	if !errors.Is(err, infer.ErrHangs) || !strings.Contains(err.Error(), "version 2 hangs: a run of 1 images, begun at 20") {
		t.Errorf("serving: got %v", err)
	}
	if s := b.Versions()[0]; s.State != StateServing || !strings.HasPrefix(s.Reason, CauseHangs+": ") {
		t.Errorf("got %+v", s)
	}
	if n := b.overdueRuns(); n != infer.Lanes {
		t.Errorf("%d runs are overdue", n)
	}
	f.Mend()
	b.await("the end of the runs", func() bool { _, err := b.Serving(); return err == nil && b.overdueRuns() == 0 })
	b.awaitVersion(2)
}

// A version whose lanes are all blocked is replaced by another one, newer or older, even if it was
// chosen by hand. It is not loaded again until its runs have ended.
func TestAnotherVersionAfterHang(t *testing.T) {
	for _, test := range []struct {
		name   string
		others []int64
		come   int64
		change func(*Config)
		byHand bool
		want   int64
	}{
		{name: "an older one", others: []int64{1}, want: 1},
		{name: "an older one is loaded", others: []int64{1}, want: 1, change: func(c *Config) { c.Versions = Policy{latest: 2} }},
		{name: "a new one", come: 3, want: 3},
		{name: "a new one, in one copy's memory", come: 3, want: 3, change: func(c *Config) { c.Copies = copiesOne }},
		{name: "chosen by hand", others: []int64{3}, byHand: true, want: 3},
		{name: "with canaries", come: 3, want: 3, change: func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 10 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := modeltest.NewFileServer(t)
			base := modeltest.TinyVersions(t, test.others...)
			modeltest.Tiny{Bias: 2, Needs: f.Path}.Write(t, filepath.Join(base, "2"))
			change := func(c *Config) {
				c.Quiet = 0 // version 2 is there from the start: it is not on probation
				c.Probation.Period = time.Minute
				if test.change != nil {
					test.change(c)
				}
			}
			b := runTiny(t, base, impatient, change)
			b.await("a version", func() bool { return b.published.routes.Load().stable != nil })
			if test.byHand {
				b.must(b.Use(t.Context(), 2))
			}
			b.awaitVersion(2)
			f.Vanish()
			var callers sync.WaitGroup
			for range infer.Lanes {
				callers.Go(b.askInVain)
				b.await("a run", func() bool { v := b.loadedAs(2); return v == nil || len(v.ActiveRuns()) > 0 })
			}
			callers.Wait()
			_, _ = b.Classify(t.Context(), nil, modeltest.BlackImage) // both lanes, if they have shared a batch
			if test.come > 0 {
				b.put(test.come, modeltest.TinyOf(test.come))
			}
			b.await("another version", func() bool {
				p, err := b.Classify(t.Context(), nil, modeltest.BlackImage)
				return err == nil && p.Version == test.want
			})
			if info, err := b.Serving(); err != nil || info.Version != test.want {
				t.Errorf("got %v, %v", info, err)
			}
			for _, s := range b.Versions() {
				if s.Version == 2 && (s.State != StateRolledBack || !strings.Contains(s.Reason, "until that run ends")) {
					t.Errorf("got %+v", s)
				}
			}
			f.Mend()
			b.await("the end of the runs", func() bool { return b.overdueRuns() == 0 })
			if test.want < 2 || test.byHand {
				b.awaitVersion(2)
			}
		})
	}
}

// Close does not wait forever.
func TestCloseWhileVersionHangs(t *testing.T) {
	f := modeltest.NewFileServer(t)
	base := t.TempDir()
	modeltest.Tiny{Bias: 2, Needs: f.Path}.Write(t, filepath.Join(base, "2"))
	b := runTiny(t, base, impatient)
	b.awaitVersion(2)
	f.Vanish()
	b.askInVain()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = b.ask(context.Background(), func() error { b.Close(); return nil }) // Run does nothing meanwhile
	}()
	select {
	case <-closed:
	case <-time.After(patience):
		t.Error("it waits")
	}
}
