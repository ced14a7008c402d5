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
)

func onProbation(period time.Duration) func(*Config) {
	return func(c *Config) { c.Probation = Probation{Period: period, Errors: 0.1, Slowdown: 2} }
}

// load classifies images, bright ones, until the test ends.
func (b *bench) load() {
	ctx, cancel := context.WithCancel(context.Background())
	var callers sync.WaitGroup
	b.Cleanup(func() { cancel(); callers.Wait() })
	for range 2 {
		callers.Go(func() {
			for ctx.Err() == nil {
				_, _ = b.Classify(ctx, nil, whitePixel) // some fail, and shall
				time.Sleep(time.Millisecond)
			}
		})
	}
}

// What fares worse than the version before is taken back by itself, and the
// version before serves again at once.
func TestProbation(t *testing.T) {
	for _, test := range []struct {
		cause string
		bad   tiny
	}{
		{CauseErrors, tiny{bias: 2, picky: true}},
		{CauseSlow, tiny{bias: 2, slow: 700}},
	} {
		t.Run(test.cause, func(t *testing.T) {
			b := runTiny(t, with(t, 1), onProbation(time.Minute))
			b.awaitVersion(1)
			b.load()
			time.Sleep(200 * time.Millisecond) // to compare with
			b.put(2, test.bad)
			b.awaitStates("2 rejected", "1 serving stable")
			s := b.Versions()[0]
			if !strings.HasPrefix(s.Reason, test.cause+": ") {
				t.Errorf("reason: %q", s.Reason)
			}
			t.Log(s.Reason)
			b.witness.mu.Lock()
			defer b.witness.mu.Unlock()
			if !slices.Equal(b.served, []int64{1, 2, 1}) || !slices.Equal(b.rejected, []string{test.cause}) {
				t.Errorf("served %v, rejected for %v", b.served, b.rejected)
			}
		})
	}
}

// A canary is taken away likewise; what it fails on, the stable version can
// answer.
func TestCanaryTakenBack(t *testing.T) {
	b := runTiny(t, with(t, 1), func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 50 }, onProbation(time.Minute))
	b.awaitVersion(1)
	b.put(2, tiny{bias: 2, picky: true})
	b.awaitStates("2 serving canary", "1 serving stable")
	for i := 0; b.Beside() != "" && i < 2000; i++ {
		_, _ = b.Classify(t.Context(), fmt.Append(nil, i), whitePixel) // some fail, and shall
		time.Sleep(time.Millisecond)
	}
	b.awaitStates("2 rejected", "1 serving stable")
}

// A good version passes: then the one before is unloaded, and the next one
// has its turn.
func TestProbationPassed(t *testing.T) {
	const period = 500 * time.Millisecond
	b := runTiny(t, with(t, 1), onProbation(period), func(c *Config) { c.Probation.Slowdown = 0 }) // runs of microseconds vary
	b.awaitVersion(1)
	b.load()
	b.put(2, tinyOf(2))
	b.awaitStates("2 serving stable", "1 warm")
	begun := time.Now()
	b.put(3, tinyOf(3))
	b.awaitVersion(3)
	if took := time.Since(begun); took < period/2 {
		t.Errorf("version 3 came after %v, during the probation of version 2", took)
	}
	b.awaitStates("3 serving stable", "2 warm", "1 available")
	b.awaitStates("3 serving stable", "2 available", "1 available")
}

// What was chosen by hand is not taken back by itself.
func TestProbationByHand(t *testing.T) {
	base := with(t, 2)
	tiny{bias: 1, slow: 700}.write(t, filepath.Join(base, "1"))
	b := runTiny(t, base, onProbation(400*time.Millisecond))
	b.awaitVersion(2)
	b.load()
	b.must(b.Use(t.Context(), 1))
	b.awaitStates("2 warm", "1 serving stable")
	b.awaitStates("2 available", "1 serving stable")
}

func TestVerdict(t *testing.T) {
	p := Probation{Errors: 0.1, Slowdown: 2}
	runs := func(n, size int, took time.Duration) *vitals {
		v := &vitals{}
		for range n {
			v.add(Run{Size: size, Took: took})
		}
		return v
	}
	shared := func(n, size int, took time.Duration) *vitals {
		v := &vitals{}
		for range n {
			v.add(Run{Size: size, Took: took, shared: true})
		}
		return v
	}
	failing := func(images, failed int) *vitals {
		v := &vitals{}
		v.add(Run{Size: images, Failed: failed, Err: errors.New("x")})
		return v
	}
	for _, test := range []struct {
		name      string
		v, before *vitals
		runs      []underway
		want      string
	}{
		{"nothing known", &vitals{}, &vitals{}, nil, ""},
		{"as fast", runs(20, 1, 10), runs(20, 1, 10), nil, ""},
		{"slow", runs(20, 1, 21), runs(20, 1, 10), nil, CauseSlow},
		{"too few runs", runs(9, 1, 100), runs(20, 1, 10), nil, ""},
		{"other batches", runs(20, 8, 100), runs(20, 1, 10), nil, ""},
		{"beside others", shared(20, 1, 100), runs(20, 1, 10), nil, ""},
		{"slow beside others", shared(20, 1, 21), shared(20, 1, 10), nil, CauseSlow},
		{"few failures", failing(4, 4), runs(20, 1, 10), nil, ""},
		{"failures", failing(20, 5), runs(20, 1, 10), nil, CauseErrors},
		{"rare failures", failing(200, 5), runs(20, 1, 10), nil, ""},
		{"failures as before", failing(20, 5), failing(200, 40), nil, ""},
		{"more failures than before", failing(20, 10), failing(200, 40), nil, CauseErrors},
		{"a long run", runs(20, 1, time.Second), runs(20, 1, time.Second), []underway{{size: 1, took: 9 * time.Second}}, ""},
		{"a run far too long", runs(20, 1, time.Second), runs(20, 1, time.Second), []underway{{size: 1, took: 11 * time.Second}}, CauseHangs},
		{"a long run of a size that is new", runs(20, 1, time.Second), runs(20, 1, time.Second), []underway{{size: 2, took: 29 * time.Second}}, ""},
		{"an overdue run of a size that is new", runs(20, 1, time.Second), runs(20, 1, time.Second), []underway{{size: 2, took: 31 * time.Second, overdue: &OverdueError{}}}, CauseHangs},
		{"an overdue run, and failures", failing(20, 5), runs(20, 1, time.Second), []underway{{size: 2, overdue: &OverdueError{}}}, CauseHangs},
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
	if got := off.verdict(runs(20, 1, 10), runs(20, 1, 10), []underway{{size: 1, took: 29 * time.Second}}); got != nil {
		t.Errorf("slowdown 0, a long run: got %+v", got)
	}
	if got := off.verdict(runs(20, 1, 10), runs(20, 1, 10), []underway{{size: 1, overdue: &OverdueError{}}}); got == nil {
		t.Error("slowdown 0, an overdue run: no verdict")
	}
	if got := off.verdict(failing(20, 20), runs(20, 1, 10), nil); got != nil {
		t.Errorf("errors 1: got %+v", got)
	}
}

// Images that wait for a run that does not end are answered by the version
// before.
func TestHangingVersion(t *testing.T) {
	b := runTiny(t, with(t, 1), onProbation(time.Minute))
	b.awaitVersion(1)
	b.put(2, tiny{bias: 2, slow: 4000})
	b.await("version 2", func() bool { return b.routes.Load().stable.info.Version == 2 })
	v := b.routes.Load().stable
	answered := make(chan int64)
	go func() { answered <- b.serves() }()
	b.await("a run", func() bool { return len(v.batcher.underway()) > 0 })
	b.must(b.ask(t.Context(), func() error {
		b.reject(v, verdict{CauseHangs, "it took ages"})
		return nil
	}))
	if got := <-answered; got != 1 {
		t.Errorf("version %d answered", got)
	}
}

// A version that answers the last images otherwise than the one that serves
// does not pass, if that is asked.
func TestAgreement(t *testing.T) {
	b := runTiny(t, with(t, 1), func(c *Config) { c.Gate.Agreement, c.Gate.Images = 0.9, 10 })
	b.awaitVersion(1)
	for range 20 {
		b.serves()
	}
	if n := len(b.recent.list()); n != 10 {
		t.Errorf("%d images are kept, want 10", n)
	}
	b.put(2, tiny{bias: 2, label: "other"})
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	if s := b.Versions()[0]; s.Gate != GateAgreement || !strings.Contains(s.Reason, "0 of the last 10") || !strings.Contains(s.Reason, "other 2.0000") {
		t.Errorf("got %+v", s)
	}
	b.put(3, tinyOf(3))
	b.awaitVersion(3)
}

func TestImagesAreBounded(t *testing.T) {
	s := &images{most: 100}
	p := Prediction{Classes: []Class{{Label: "x"}}}
	for range 20 {
		s.add(make([]byte, 10<<20), p)
	}
	s.add(make([]byte, maxImageBytes+1), p)
	if n := len(s.list()); n != 6 || s.bytes != 60<<20 {
		t.Errorf("%d images, %d bytes", n, s.bytes)
	}
}

// rejections notes whether a version answered when it was said to be rejected.
type rejections struct {
	Observer
	m        *Manager
	answered atomic.Bool
}

func (r *rejections) VersionRejected(version int64, cause string) {
	if s := r.m.routes.Load().stable; s != nil && s.info.Version == version {
		r.answered.Store(true)
	}
	r.Observer.VersionRejected(version, cause)
}

// A version that is taken back stops answering before that is written: another
// process may hold the file.
func TestTakenBackBeforeItIsWritten(t *testing.T) {
	var seen *rejections
	b := runTinyOn(t, with(t, 1), func(m *Manager) {
		seen = &rejections{Observer: m.observer, m: m}
		m.observer = seen
	}, onProbation(time.Minute))
	b.awaitVersion(1)
	b.put(2, tinyOf(2))
	b.awaitVersion(2)
	if v, err := b.Rollback(t.Context()); v != 2 || err != nil {
		t.Fatalf("got %d, %v", v, err)
	}
	if seen.answered.Load() {
		t.Error("version 2 still answered while it was being written that it is taken back")
	}
	b.awaitStates("2 rejected", "1 serving stable")
}

// The version that was new when native code crashed is taken back at the next
// start, if there is another one.
func TestBlame(t *testing.T) {
	base := with(t, 1)
	b := runTiny(t, base, onProbation(300*time.Millisecond))
	b.awaitVersion(1)
	b.put(2, tinyOf(2))
	b.awaitVersion(2)
	b.await("end of probation", func() bool {
		b.witness.mu.Lock()
		defer b.witness.mu.Unlock()
		return slices.Equal(b.witness.tried, []int64{1, none, 2, none})
	})

	again := runTinyOn(t, base, func(m *Manager) {
		if !m.Blame(2) || m.Blame(3) {
			t.Error("version 2 is there, and 3 is not")
		}
	})
	again.awaitVersion(1)
	if s := again.Versions()[0]; s.State != StateRejected || !strings.Contains(s.Reason, "crashed the process") {
		t.Errorf("got %+v", s)
	}
	alone := runTinyOn(t, with(t, 5), func(m *Manager) {
		if m.Blame(5) {
			t.Error("there is no other version")
		}
	})
	alone.awaitVersion(5)
}
