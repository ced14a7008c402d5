package model

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

// With model.copies one, images wait while a version takes another one's place, and none fails.
func TestOneCopy(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1), func(c *Config) { c.Copies = copiesOne })
	b.awaitVersion(1)
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var most atomic.Int64
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				begun := time.Now()
				b.serves()
				most.Store(max(most.Load(), int64(time.Since(begun))))
			}
		})
	}
	loadedAtOnce := func() (n int) {
		for _, s := range b.Versions() {
			if s.State == StateServing || s.State == StateStandby {
				n++
			}
		}
		return n
	}
	for v := int64(2); v <= 6; v++ {
		b.put(v, modeltest.TinyOf(v))
		b.await("swap", func() bool {
			if n := loadedAtOnce(); n > 1 {
				t.Errorf("%d versions are loaded", n)
			}
			return b.serves() == v
		})
	}
	// If a version fails after the old one was unloaded, the old one is loaded again.
	b.put(7, modeltest.Tiny{Bias: 7, Golden: "- {image: black.bmp, label: other, floor: 0}\n"})
	b.await("refusal", func() bool { return len(b.refusals(7)) > 0 })
	b.awaitVersion(6)
	// A version that fails before its load causes no pause.
	modeltest.Write(t, filepath.Join(b.dir(8), "saved_model.pb"), nil)
	b.await("refusal", func() bool { return len(b.refusals(8)) > 0 })
	if b.serves() != 6 {
		t.Error("version 6 does not serve any more")
	}
	cancel()
	load.Wait()
	t.Logf("an image waited for %v at most", time.Duration(most.Load()))
}

// A version that is published while images wait does not prolong that: the one they wait for
// answers first.
func TestOneCopyOvertaken(t *testing.T) {
	f := modeltest.NewFileServer(t)
	b := runTiny(t, modeltest.TinyVersions(t, 1), func(c *Config) { c.Copies = copiesOne })
	b.awaitVersion(1)
	f.Vanish() // the load waits for it
	b.put(2, modeltest.Tiny{Bias: 2, Needs: f.Path})
	b.await("pause", func() bool { return b.published.routes.Load().paused != nil })
	modeltest.Write(t, filepath.Join(b.dir(7), "saved_model.pb"), []byte("half a model"))
	answered := make(chan int64)
	go func() { answered <- b.serves() }() // once the pause is over
	f.Mend()
	if v := <-answered; v != 2 {
		t.Errorf("version %d serves", v)
	}
	b.await("refusal", func() bool { return len(b.refusals(7)) > 0 })
	b.awaitVersion(2)
}

// A run that does not end does not make records wait forever.
func TestOneCopyHanging(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1), func(c *Config) { c.Copies, c.Gate.Timeout = copiesOne, 8*time.Second })
	b.awaitVersion(1)
	v, _, err := b.published.acquire(t.Context(), nil) // as an image that is not answered
	b.must(err)
	defer v.Release()
	b.put(2, modeltest.TinyOf(2))
	b.awaitVersion(2)
}

// A choice by hand whose version fails after the old one was unloaded is taken back.
func TestOneCopyChoice(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 3), func(c *Config) { c.Copies = copiesOne })
	b.awaitVersion(3)
	b.put(2, modeltest.Tiny{Bias: 2, Golden: "- {image: black.bmp, label: other, floor: 0}\n"})
	b.await("found", func() bool { return len(b.Versions()) == 2 })
	b.must(b.Use(t.Context(), 2))
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	b.awaitVersion(3)
	if d := b.stateFile.now(); d.Use != nil {
		t.Errorf("still chosen: %d", d.Use)
	}
}

// If the old one cannot be loaded again either, the next good one serves.
func TestOneCopyNoWayBack(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1), func(c *Config) { c.Copies = copiesOne })
	b.awaitVersion(1)
	b.must(os.RemoveAll(b.dir(1)))
	b.put(2, modeltest.Tiny{Bias: 2, Golden: "- {image: black.bmp, label: other, floor: 0}\n"})
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	b.await("nothing serves", func() bool { _, err := b.Serving(); return err != nil })
	b.put(3, modeltest.TinyOf(3))
	b.awaitVersion(3)
}

// If the load of the old one is overdue, no second load of it begins.
func TestOneCopyLateWayBack(t *testing.T) {
	f := modeltest.NewFileServer(t)
	base := t.TempDir()
	modeltest.Tiny{Bias: 1, Needs: f.Path}.Write(t, filepath.Join(base, "1"))
	b := runTiny(t, base, func(c *Config) { c.Copies, c.Gate.Timeout = copiesOne, 8*time.Second })
	b.awaitVersion(1)
	f.Vanish()
	b.put(2, modeltest.Tiny{Bias: 2, Golden: "- {image: black.bmp, label: other, floor: 0}\n"})
	b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
	if !b.isOverdue(1) {
		t.Error("version 1 may be loaded a second time")
	}
	f.Mend()
	b.awaitVersion(1)
}

// With model.copies one, a version on probation is rolled back the same way.
func TestOneCopyProbation(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1), func(c *Config) { c.Copies = copiesOne }, onProbation(time.Minute))
	b.awaitVersion(1)
	b.load()
	b.put(2, modeltest.Tiny{Bias: 2, Picky: true})
	b.awaitStates("2 rolled-back", "1 serving stable")
}

// Without memory for two, a version takes the other one's place or, if that is not allowed, fails
// until there is memory.
func TestRoom(t *testing.T) {
	var left atomic.Uint64
	left.Store(1 << 40)
	tight := func(m *Manager) {
		m.reconciler.memory = func() (uint64, bool) { return left.Load(), true }
		m.reconciler.cost = 1000
	}
	t.Run("auto", func(t *testing.T) {
		b := runTinyOn(t, modeltest.TinyVersions(t, 1), tight, func(c *Config) { c.Copies = copiesAuto })
		b.awaitVersion(1)
		b.put(2, modeltest.TinyOf(2))
		b.awaitVersion(2)
		if b.paused() != 0 {
			t.Error("it paused, and there was room")
		}
		left.Store(100)
		b.put(3, modeltest.TinyOf(3))
		b.awaitVersion(3)
		if b.paused() != 1 {
			t.Error("it did not pause, and there was no room")
		}
	})
	t.Run("two", func(t *testing.T) {
		left.Store(100)
		b := runTinyOn(t, modeltest.TinyVersions(t, 1), tight, func(c *Config) { c.Copies = copiesTwo })
		b.awaitVersion(1)
		b.put(2, modeltest.TinyOf(2))
		b.await("refusal", func() bool { return len(b.refusals(2)) > 0 })
		if s := b.Versions()[0]; s.Gate != infer.GateMemory || s.Retry.IsZero() || !strings.Contains(s.Reason, "MiB") {
			t.Errorf("got %+v", s)
		}
		left.Store(1 << 40)
		b.awaitVersion(2)
	})
}
