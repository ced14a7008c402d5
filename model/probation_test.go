package model

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

func onProbation(period time.Duration) func(*Config) {
	return func(c *Config) { c.Probation = Probation{Period: period, Errors: 0.1, Slowdown: 2} }
}

// load classifies images, bright ones, until the test ends. It is one at a time, so that runs of
// one kind can be compared with each other.
func (b *harness) load() {
	ctx, cancel := context.WithCancel(context.Background())
	var caller sync.WaitGroup
	b.Cleanup(func() { cancel(); caller.Wait() })
	caller.Go(func() {
		for ctx.Err() == nil {
			_, _ = b.Classify(ctx, nil, modeltest.WhiteImage) // some fail, and shall
			time.Sleep(time.Millisecond)
		}
	})
}

// endProbation lets the time of the probation be up now, if there is one.
func (b *harness) endProbation() {
	b.Helper()
	b.must(b.ask(b.Context(), func() error {
		if p := b.reconciler.probation; p != nil {
			p.until = time.Now()
		}
		return nil
	}))
}

// A version that is worse than the one before is rolled back by itself, and the one before serves
// again at once.
func TestProbation(t *testing.T) {
	for _, test := range []struct {
		cause    string
		bad      modeltest.Tiny
		slowdown float64 // runs of microseconds vary: it plays no part where it is not the cause
	}{
		{CauseErrors, modeltest.Tiny{Bias: 2, Picky: true}, 0},
		{CauseSlow, modeltest.Tiny{Bias: 2, Slow: 700}, 2},
	} {
		t.Run(test.cause, func(t *testing.T) {
			b := runTiny(t, modeltest.TinyVersions(t, 1), onProbation(time.Hour), func(c *Config) { c.Probation.Slowdown = test.slowdown })
			b.awaitVersion(1)
			b.load()
			v := b.published.routes.Load().stable
			b.await("runs to compare with", func() bool {
				_, runs := v.Stats().Medians()
				return runs[infer.RunKind{Size: 1}] >= leastEach
			})
			b.put(2, test.bad)
			b.awaitStates("2 rolled-back", "1 serving stable")
			s := b.Versions()[0]
			if !strings.HasPrefix(s.Reason, test.cause+": ") {
				t.Errorf("reason: %q", s.Reason)
			}
			t.Log(s.Reason)
			b.awaitServed(1, 2, 1)
			b.mu.Lock()
			defer b.mu.Unlock()
			if !slices.Equal(b.rolledBack, []string{test.cause}) {
				t.Errorf("rejected for %v", b.rolledBack)
			}
		})
	}
}

// A canary is rolled back likewise; the stable version can answer the records on which it fails.
func TestCanaryTakenBack(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1), func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 50 }, onProbation(time.Minute))
	b.awaitVersion(1)
	b.put(2, modeltest.Tiny{Bias: 2, Picky: true})
	b.awaitStates("2 serving canary", "1 serving stable")
	i := 0
	b.await("its rollback", func() bool {
		_, _ = b.Classify(t.Context(), fmt.Append(nil, i), modeltest.WhiteImage) // some fail, and shall
		i++
		return b.Secondary() == ""
	})
	b.awaitStates("2 rolled-back", "1 serving stable")
}

// When a good version passes its probation, the one before is unloaded, and the next one may be
// loaded.
func TestProbationPassed(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1), onProbation(time.Hour), func(c *Config) { c.Probation.Slowdown = 0 }) // runs of microseconds vary
	b.awaitVersion(1)
	b.load()
	b.put(2, modeltest.TinyOf(2))
	b.awaitStates("2 serving stable", "1 standby")
	b.put(3, modeltest.TinyOf(3))
	b.awaitStates("3 found", "2 serving stable", "1 standby")
	time.Sleep(2 * b.config.Quiet) // in which it would be loaded
	if got := b.states()[0]; got != "3 found" {
		t.Errorf("%s, during the probation of version 2", got)
	}
	b.endProbation()
	b.awaitStates("3 serving stable", "2 standby", "1 closed")
	b.endProbation()
	b.awaitStates("3 serving stable", "2 closed", "1 closed")
}

// A version that was chosen by hand is not rolled back by itself.
func TestProbationByHand(t *testing.T) {
	base := modeltest.TinyVersions(t, 2)
	modeltest.Tiny{Bias: 1, Slow: 700}.Write(t, filepath.Join(base, "1"))
	b := runTiny(t, base, onProbation(time.Hour))
	b.awaitVersion(2)
	b.load()
	v := b.published.routes.Load().stable
	b.await("runs to compare with", func() bool {
		_, runs := v.Stats().Medians()
		return runs[infer.RunKind{Size: 1}] >= leastEach
	})
	b.must(b.Use(t.Context(), 1))
	b.awaitStates("2 standby", "1 serving stable")
	v = b.published.routes.Load().stable
	b.await("runs that are slow", func() bool { ratio, _ := slowdown(v.Stats(), b.loadedAs(2).Stats()); return ratio > 2 })
	b.endProbation()
	b.awaitStates("2 closed", "1 serving stable")
}

func TestVerdict(t *testing.T) {
	p := Probation{Errors: 0.1, Slowdown: 2}
	runs := func(n, size int, took time.Duration) *infer.RunStats {
		v := &infer.RunStats{}
		for range n {
			v.Add(infer.Run{Size: size, Took: took})
		}
		return v
	}
	shared := func(n, size int, took time.Duration) *infer.RunStats {
		v := &infer.RunStats{}
		for range n {
			v.Add(infer.Run{Size: size, Took: took, Shared: true})
		}
		return v
	}
	failing := func(images, failed int) *infer.RunStats {
		v := &infer.RunStats{}
		v.Add(infer.Run{Size: images, Failed: failed, Err: errors.New("x")})
		return v
	}
	for _, test := range []struct {
		name      string
		v, before *infer.RunStats
		runs      []infer.ActiveRun
		want      string
	}{
		{"nothing known", &infer.RunStats{}, &infer.RunStats{}, nil, ""},
		{"as fast", runs(20, 1, 10), runs(20, 1, 10), nil, ""},
		{"slow", runs(20, 1, 21), runs(20, 1, 10), nil, CauseSlow},
		{"too few runs", runs(9, 1, 100), runs(20, 1, 10), nil, ""},
		{"other batches", runs(20, 8, 100), runs(20, 1, 10), nil, ""},
		{"with other runs at the same time", shared(20, 1, 100), runs(20, 1, 10), nil, ""},
		{"slow with other runs at the same time", shared(20, 1, 21), shared(20, 1, 10), nil, CauseSlow},
		{"few failures", failing(4, 4), runs(20, 1, 10), nil, ""},
		{"failures", failing(20, 5), runs(20, 1, 10), nil, CauseErrors},
		{"rare failures", failing(200, 5), runs(20, 1, 10), nil, ""},
		{"failures as before", failing(20, 5), failing(200, 40), nil, ""},
		{"more failures than before", failing(20, 10), failing(200, 40), nil, CauseErrors},
		{"a long run", runs(20, 1, time.Second), runs(20, 1, time.Second), []infer.ActiveRun{{Size: 1, Took: 9 * time.Second}}, ""},
		{"a run far too long", runs(20, 1, time.Second), runs(20, 1, time.Second), []infer.ActiveRun{{Size: 1, Took: 11 * time.Second}}, CauseHangs},
		{"a long run of a size that is new", runs(20, 1, time.Second), runs(20, 1, time.Second), []infer.ActiveRun{{Size: 2, Took: 29 * time.Second}}, ""},
		{"an overdue run of a size that is new", runs(20, 1, time.Second), runs(20, 1, time.Second), []infer.ActiveRun{{Size: 2, Took: 31 * time.Second, Overdue: &infer.OverdueError{}}}, CauseHangs},
		{"an overdue run, and failures", failing(20, 5), runs(20, 1, time.Second), []infer.ActiveRun{{Size: 2, Overdue: &infer.OverdueError{}}}, CauseHangs},
	} {
		got := p.verdict(test.v, test.before, test.runs)
		if (got == nil) != (test.want == "") || got != nil && got.cause != test.want {
			t.Errorf("%s: got %+v, want %q", test.name, got, test.want)
		}
	}
	off := Probation{Errors: 1}
	if got := off.verdict(runs(20, 1, 1000), runs(20, 1, 10), nil); got != nil {
		t.Errorf("slowdown 0: got %+v", got)
	}
	if got := off.verdict(runs(20, 1, 10), runs(20, 1, 10), []infer.ActiveRun{{Size: 1, Took: 29 * time.Second}}); got != nil {
		t.Errorf("slowdown 0, a long run: got %+v", got)
	}
	if got := off.verdict(runs(20, 1, 10), runs(20, 1, 10), []infer.ActiveRun{{Size: 1, Overdue: &infer.OverdueError{}}}); got == nil {
		t.Error("slowdown 0, an overdue run: no verdict")
	}
	if got := off.verdict(failing(20, 20), runs(20, 1, 10), nil); got != nil {
		t.Errorf("errors 1: got %+v", got)
	}
}

// Images that wait for a run that does not end are answered by the version
// before.
func TestHangingVersion(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1), onProbation(time.Minute))
	b.awaitVersion(1)
	b.put(2, modeltest.Tiny{Bias: 2, Slow: 4000})
	b.await("version 2", func() bool { return b.published.routes.Load().stable.Info().Version == 2 })
	v := b.published.routes.Load().stable
	answered := make(chan int64)
	go func() { answered <- b.serves() }()
	b.await("a run", func() bool { return len(v.ActiveRuns()) > 0 })
	b.must(b.ask(t.Context(), func() error {
		b.reconciler.rollBack(v, verdict{CauseHangs, "it took ages"})
		return nil
	}))
	if got := <-answered; got != 1 {
		t.Errorf("version %d answered", got)
	}
}

// With model.gate.agreement, a version that answers the last images differently from the one that
// serves fails.
func TestAgreement(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1), func(c *Config) { c.Gate.Agreement = 0.9 })
	b.awaitVersion(1)
	for range 40 {
		b.serves()
	}
	if n := len(b.recent.list()); n != maxImages {
		t.Errorf("%d images are kept, want %d", n, maxImages)
	}
	b.put(2, modeltest.Tiny{Bias: 2, Label: "other"})
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	if s := b.Versions()[0]; s.Gate != infer.GateAgreement || !strings.Contains(s.Reason, "0 of the last 32") || !strings.Contains(s.Reason, "other 2.0000") {
		t.Errorf("got %+v", s)
	}
	b.put(3, modeltest.TinyOf(3))
	b.awaitVersion(3)
}

func TestImagesAreBounded(t *testing.T) {
	s := &images{}
	p := infer.Prediction{Classes: []infer.Class{{Label: "x"}}}
	for range 20 {
		s.add(make([]byte, 10<<20), p)
	}
	s.add(make([]byte, maxImageBytes+1), p)
	if n := len(s.list()); n != 6 || s.bytes != 60<<20 {
		t.Errorf("%d images, %d bytes", n, s.bytes)
	}
}

// rejections records whether a version still answered when its rollback was reported.
type rejections struct {
	Observer
	m        *Manager
	answered atomic.Bool
}

func (r *rejections) VersionRolledBack(version int64, cause string) {
	if s := r.m.published.routes.Load().stable; s != nil && s.Info().Version == version {
		r.answered.Store(true)
	}
	r.Observer.VersionRolledBack(version, cause)
}

// A version that is rolled back stops answering before the state file is written, since another
// process may hold that.
func TestTakenBackBeforeItIsWritten(t *testing.T) {
	var seen *rejections
	b := runTinyOn(t, modeltest.TinyVersions(t, 1), func(m *Manager) {
		report := m.reconciler.report
		seen = &rejections{Observer: report.observer, m: m}
		report.observer = seen
	}, onProbation(time.Minute))
	b.awaitVersion(1)
	b.put(2, modeltest.TinyOf(2))
	b.awaitVersion(2)
	if v, err := b.Rollback(t.Context(), nil); v != 2 || err != nil {
		t.Fatalf("got %d, %v", v, err)
	}
	if seen.answered.Load() {
		t.Error("version 2 still answered while it was being written that it is rolled back")
	}
	b.awaitStates("2 rolled-back", "1 serving stable")
}

// A version that was unproven when native code crashed is rolled back at the next start, if there
// is another one.
func TestBlame(t *testing.T) {
	base := modeltest.TinyVersions(t, 1)
	b := runTiny(t, base, onProbation(300*time.Millisecond))
	b.awaitVersion(1)
	b.put(2, modeltest.TinyOf(2))
	b.awaitVersion(2)
	b.await("end of probation", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return slices.Equal(b.unproven, []int64{1, none, 2, none})
	})

	again := runTinyOn(t, base, func(m *Manager) {
		if !m.Blame(2) || m.Blame(3) {
			t.Error("version 2 is there, and 3 is not")
		}
	})
	again.awaitVersion(1)
	if s := again.Versions()[0]; s.State != StateRolledBack || !strings.Contains(s.Reason, "crashed the process") {
		t.Errorf("got %+v", s)
	}
	alone := runTinyOn(t, modeltest.TinyVersions(t, 5), func(m *Manager) {
		if m.Blame(5) {
			t.Error("there is no other version")
		}
	})
	alone.awaitVersion(5)
}

// A probation is not over while a run that began in it is active.
func TestProbationOver(t *testing.T) {
	until := time.Now()
	goesOn := infer.ActiveRun{Since: until.Add(-time.Second)}
	isOverdue := infer.ActiveRun{Since: until.Add(-time.Second), Overdue: &infer.OverdueError{}}
	for _, test := range []struct {
		name   string
		judged bool
		now    time.Duration // after until
		runs   []infer.ActiveRun
		want   bool
	}{
		{"too early", true, -1, nil, false},
		{"time is up", true, 1, nil, true},
		{"a run goes on", true, time.Minute, []infer.ActiveRun{goesOn}, false},
		{"a run of afterwards", true, time.Minute, []infer.ActiveRun{{Since: until.Add(time.Second)}}, true},
		{"both", true, time.Minute, []infer.ActiveRun{{Since: until.Add(time.Second)}, {Since: until}}, false},
		{"a run is overdue", true, time.Minute, []infer.ActiveRun{isOverdue}, false},
		{"by hand, a run goes on", false, time.Minute, []infer.ActiveRun{goesOn}, false},
		{"by hand, a run is overdue", false, time.Minute, []infer.ActiveRun{isOverdue}, true},
		{"by hand, both", false, time.Minute, []infer.ActiveRun{isOverdue, goesOn}, false},
	} {
		tr := &probation{until: until, judged: test.judged}
		if got := tr.over(until.Add(test.now), test.runs); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}
