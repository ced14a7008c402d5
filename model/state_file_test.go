package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

// Processes that change the file at the same moment lose nothing.
func TestChoiceIsShared(t *testing.T) {
	const processes, changes = 2, 100
	path := filepath.Join(t.TempDir(), "state.json")
	var running sync.WaitGroup
	for p := range processes {
		c := newStateFile(Config{State: path})
		running.Go(func() {
			for i := range changes {
				err := c.change(func(d *decisions) { d.addRollback(int64(1000*p+i), rollbackRecord{Digest: fmt.Sprint(i)}) })
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	d, err := readStateFile(path)
	if err != nil || len(d.RolledBack) != processes*changes {
		t.Errorf("%d of %d rejections are kept; %v", len(d.RolledBack), processes*changes, err)
	}
}

// A process that is stopped in the middle of a change does not block others for long. Their changes
// hold, and are written later.
func TestChoiceIsLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	unlock, err := lockStateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	c := newStateFile(Config{State: path})
	if err := c.change(func(d *decisions) { d.use(3, 3) }); !errors.Is(err, ErrForgotten) || !strings.Contains(err.Error(), "another process has held") {
		t.Errorf("got %v", err)
	}
	if !c.now().uses(3) {
		t.Error("the change does not hold")
	}
	unlock()
	c.retry = time.Time{}
	if d, err := c.read(); err != nil || !d.uses(3) {
		t.Errorf("got %+v, %v", d, err)
	}
	if d, err := readStateFile(path); err != nil || !d.uses(3) {
		t.Errorf("the file has %+v, %v", d, err)
	}
}

// A file that cannot be read is left as it is. Changes are added once it can be read.
func TestChoiceUnreadable(t *testing.T) {
	for _, test := range []struct{ name, content string }{
		{"cut off", "{\n  \"use\": 1,\n  \"rejected\": {\"2\": {\"dig"},
		{"empty", ""},
		{"no version", `{"use": -1}`},
		{"no version before", `{"use": 1, "before": {"use": -1}}`},
		{"no version passed over", `{"use": 1, "passed_over": -1}`},
		{"no version passed over before", `{"use": 1, "before": {"passed_over": -2}}`},
		{"no number", `{"use": "x"}`},
		{"two in one", `{"use": 1}{"use": 2}`},
		{"too large", `{"rejected": {` + strings.Repeat(" ", maxStateFileBytes) + `}}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.json")
			modeltest.Write(t, path, []byte(test.content))
			c := newStateFile(Config{State: path})
			if _, err := c.read(); !unreadable(err) || !strings.Contains(err.Error(), "mend the file, or remove it") {
				t.Errorf("read: got %v", err)
			}
			if err := c.change(func(d *decisions) { d.addRollback(4, rollbackRecord{Cause: CauseSlow}) }); !errors.Is(err, ErrForgotten) {
				t.Errorf("change: got %v", err)
			}
			if _, ok := c.now().rollbackOf(4); !ok {
				t.Error("the change does not hold")
			}
			if b, err := os.ReadFile(path); err != nil || string(b) != test.content {
				t.Errorf("the file was changed; %v: %.100s", err, b)
			}
			modeltest.Write(t, path, []byte(`{"use": 2}`)) // somebody mends it
			c.retry = time.Time{}
			_, _ = c.read()
			d, err := readStateFile(path)
			if _, ok := d.rollbackOf(4); err != nil || !ok || !d.uses(2) {
				t.Errorf("the file has %+v, %v", d, err)
			}
		})
	}
}

// The file is bounded, so that it can always be read again.
func TestChoiceIsBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	c := newStateFile(Config{State: path})
	err := c.change(func(d *decisions) {
		for v := range int64(3 * maxRolledBack) {
			d.addRollback(v, rollbackRecord{strings.Repeat("d", 71), CauseErrors, strings.Repeat("\x00", 10_000)})
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	d, err := readStateFile(path)
	if _, newest := d.rollbackOf(3*maxRolledBack - 1); err != nil || len(d.RolledBack) != maxRolledBack || !newest {
		t.Errorf("%d rejections, %v", len(d.RolledBack), err)
	}
}

// While the state file cannot be read, no new version serves, and the one that serves goes on.
func TestUnreadableChoice(t *testing.T) {
	const cut = "{\n  \"use\": 1,\n  \"rejected\": {\"2\": {\"dig"
	base := modeltest.TinyVersions(t, 1, 2)
	path := filepath.Join(base, stateFileName)
	modeltest.Write(t, path, []byte(cut))

	looking, err := New(tinyConfig(base), slog.New(slog.DiscardHandler), Unobserved{})
	if err != nil {
		t.Fatal(err)
	}
	defer looking.Close()
	if err := looking.Load(t.Context()); !errors.Is(err, ErrNoVersion) || !strings.Contains(err.Error(), path) {
		t.Errorf("load: got %v", err)
	}

	b := runTiny(t, base)
	b.await("the reason", func() bool {
		_, err := b.Serving()
		return errors.Is(err, ErrNoVersion) && strings.Contains(err.Error(), "nothing new serves until it can be read") &&
			strings.Contains(err.Error(), path)
	})
	if err := b.Use(t.Context(), 2); !errors.Is(err, ErrUnreadable) {
		t.Errorf("use: got %v", err)
	}
	if v := b.serves(); v != none {
		t.Errorf("version %d serves", v)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != cut {
		t.Errorf("the file was changed: %s, %v", content, err)
	}
	modeltest.Write(t, path, []byte(`{"use": 1}`))
	b.awaitVersion(1)

	modeltest.Write(t, path, []byte(cut))
	b.put(3, modeltest.TinyOf(3))
	b.await("the reason", func() bool { return b.published.snapshot.Load().unknown() != nil })
	for range 20 { // a step each
		b.must(b.ask(t.Context(), func() error { return nil }))
	}
	if v := b.serves(); v != 1 {
		t.Errorf("version %d serves", v)
	}
	if _, err := b.Serving(); err != nil {
		t.Errorf("it serves: %v", err)
	}
	b.must(os.Remove(path))
	b.awaitVersion(3)
}

// A choice outlives the process, also if its version fails or is deleted.
func TestDecided(t *testing.T) {
	number := func(v int64) *int64 { return &v }
	old := decisions{chosen: chosen{Use: number(2)}}
	for _, test := range []struct {
		name string
		from decisions
		do   func(*decisions)
		want decisions
	}{
		{"use", decisions{}, func(d *decisions) { d.use(3, 3) },
			decisions{chosen: chosen{Use: number(3)}, Before: &chosen{}}},
		{"use 0", decisions{}, func(d *decisions) { d.use(0, 0) },
			decisions{chosen: chosen{Use: number(0)}, Before: &chosen{}}},
		{"use an older one", old, func(d *decisions) { d.use(1, 3) },
			decisions{chosen: chosen{Use: number(1), PassedOver: number(3)}, Before: &old.chosen}},
		{"use, and it serves", old, func(d *decisions) { d.use(1, 3); d.served() },
			decisions{chosen: chosen{Use: number(1), PassedOver: number(3)}}},
		{"use, and it is refused", old, func(d *decisions) { d.use(1, 3); d.unchoose(1) }, old},
		{"use another before it serves", old, func(d *decisions) { d.use(1, 3); d.use(3, 3); d.unchoose(3) }, old},
		{"what had served is refused", old, func(d *decisions) { d.unchoose(2) }, decisions{}},
		{"another is refused", old, func(d *decisions) { d.unchoose(3) }, old},
		{"use highest", old, func(d *decisions) { d.use(1, 3); d.useHighest() }, decisions{}},
		{"rolled back", old, func(d *decisions) { d.rollBack(2, rollbackRecord{Cause: CauseSlow}) },
			decisions{RolledBack: map[string]rollbackRecord{"2": {Cause: CauseSlow}}}},
		{"the one before is rolled back", old, func(d *decisions) { d.use(3, 3); d.rollBack(2, rollbackRecord{Cause: CauseSlow}); d.unchoose(3) },
			decisions{RolledBack: map[string]rollbackRecord{"2": {Cause: CauseSlow}}}},
		{"rolled back before it serves", old, func(d *decisions) { d.use(5, 5); d.rollBack(5, rollbackRecord{Cause: CauseCrash}) },
			decisions{chosen: old.chosen, RolledBack: map[string]rollbackRecord{"5": {Cause: CauseCrash}}}},
		{"rolled back before it serves, as the one before", old, func(d *decisions) {
			d.use(5, 5)
			d.rollBack(2, rollbackRecord{Cause: CauseSlow})
			d.rollBack(5, rollbackRecord{Cause: CauseCrash})
		}, decisions{RolledBack: map[string]rollbackRecord{"2": {Cause: CauseSlow}, "5": {Cause: CauseCrash}}}},
		{"use what was rolled back", decisions{RolledBack: map[string]rollbackRecord{"2": {}}}, func(d *decisions) { d.use(2, 2); d.served() }, old},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.json")
			c := newStateFile(Config{State: path})
			if err := c.change(func(d *decisions) { *d = test.from.changed() }); err != nil {
				t.Fatal(err)
			}
			if err := c.change(test.do); err != nil {
				t.Fatal(err)
			}
			got, err := readStateFile(path)
			if len(got.RolledBack) == 0 {
				got.RolledBack = nil
			}
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v; %v", got, test.want, err)
			}
		})
	}
}

// Files of earlier releases are read.
func TestChoiceOfBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	modeltest.Write(t, path, []byte(`{"use": 3, "rejected": {"4": {"digest": "sha256:x", "cause": "slow", "reason": "it is slow"}}}`))
	d, err := readStateFile(path)
	if r, ok := d.rollbackOf(4); err != nil || !d.uses(3) || d.Before != nil || !d.mayFollow(4) || !ok || r.Digest != "sha256:x" {
		t.Errorf("got %+v, %v", d, err)
	}
}

// After a restart between the choice of a version and its failure, the same version serves as
// without the restart.
func TestRestartBeforeRefusal(t *testing.T) {
	for _, test := range []struct {
		name, state string
		want        int64
	}{
		{"another was chosen before", `{"use": 3, "before": {"use": 1}}`, 1},
		{"none was chosen before", `{"use": 3, "before": {}}`, 2},
		{"nobody knows", `{"use": 3}`, 2},
		{"0 was chosen before", `{"use": 3, "before": {"use": 0}}`, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			base := modeltest.TinyVersions(t, 0, 1, 2)
			modeltest.Tiny{Broken: "weights"}.Write(t, filepath.Join(base, "3"))
			modeltest.Write(t, filepath.Join(base, stateFileName), []byte(test.state))
			b := runTiny(t, base)
			b.awaitVersion(test.want)
			if got := b.refusals(3); len(got) != 1 {
				t.Errorf("refusals: %v", got)
			}
			looking, err := New(tinyConfig(base), slog.New(slog.DiscardHandler), Unobserved{})
			if err != nil {
				t.Fatal(err)
			}
			defer looking.Close()
			modeltest.Write(t, filepath.Join(base, stateFileName), []byte(test.state))
			if err := looking.Load(t.Context()); err != nil {
				t.Error(err)
			} else if info, _ := looking.Serving(); info.Version != test.want {
				t.Errorf("who only looks gets version %d", info.Version)
			}
		})
	}
}

// Versions does not wait while a failed choice is taken back in the file, which another process may
// hold.
func TestUnchooseHoldsNobodyUp(t *testing.T) {
	w := &witness{}
	m, err := New(tinyConfig(t.TempDir()), slog.New(slog.DiscardHandler), w)
	if err != nil {
		t.Fatal(err)
	}
	k := &versionEntry{Folder: infer.Folder{Version: 3}}
	m.reconciler.versions[3] = k
	if err := m.stateFile.change(func(d *decisions) { d.use(3, 3) }); err != nil {
		t.Fatal(err)
	}
	m.stateFile.mu.Lock() // as a change does that waits
	arrived, listed := make(chan struct{}), make(chan []Status, 1)
	go func() {
		defer close(arrived)
		m.reconciler.received(context.Background(), loadResult{entry: k, gateResult: gateResult{err: infer.AtGate(infer.GateLoad, errors.New("no"))}})
	}()
	go func() {
		for len(w.refusals(3)) == 0 {
			time.Sleep(time.Millisecond)
		}
		listed <- m.Versions()
	}()
	select {
	case list := <-listed:
		if len(list) != 1 || list[0].State != StateFailed {
			t.Errorf("got %+v", list)
		}
	case <-time.After(patience):
		t.Error("it waits for the file")
	}
	m.stateFile.mu.Unlock()
	<-arrived
	if d := m.stateFile.now(); d.Use != nil {
		t.Errorf("still chosen: %d", *d.Use)
	}
}

// Version 0 is a version like any other.
func TestVersionZero(t *testing.T) {
	for _, rollout := range []string{rolloutSwap, rolloutCanary, rolloutShadow} {
		t.Run(rollout, func(t *testing.T) {
			base := modeltest.TinyVersions(t, 0)
			path := filepath.Join(base, stateFileName)
			change := func(c *Config) { c.Rollout, c.Canary = rollout, 50 }
			b := runTiny(t, base, change)
			b.awaitVersion(0)
			if v, ok := b.Wanted(); v != 0 || !ok {
				t.Errorf("wanted: %d, %v", v, ok)
			}
			b.must(b.Use(t.Context(), 0))
			b.await("the choice", func() bool { d := b.stateFile.now(); return d.uses(0) && d.Before == nil })
			before, err := os.Stat(path)
			b.must(err)
			for range 20 { // a step each
				b.must(b.ask(t.Context(), func() error { return nil }))
			}
			after, err := os.Stat(path)
			b.must(err)
			if !os.SameFile(before, after) {
				t.Error("the file is written again and again")
			}
			b.put(1, modeltest.TinyOf(1))
			if rollout == rolloutSwap {
				b.awaitStates("1 closed", "0 serving stable")
			} else {
				b.awaitStates("1 serving "+rollout, "0 serving stable")
			}
			again := runTiny(t, base, change)
			again.await("version 0", func() bool { s := again.published.routes.Load().stable; return s != nil })
			if info, err := again.Serving(); err != nil || info.Version != 0 {
				t.Errorf("after a restart: %v, %v", info, err)
			}
			b.must(b.UseHighest(t.Context()))
			b.await("version 1", func() bool { return b.published.routes.Load().stable.Info().Version == 1 })
		})
	}
}

// After a choice by hand, no higher version that was there becomes a canary or shadow by itself.
// A newer one does.
func TestChosenAwayFrom(t *testing.T) {
	for _, rollout := range []string{rolloutCanary, rolloutShadow} {
		t.Run(rollout, func(t *testing.T) {
			base := modeltest.TinyVersions(t, 1, 2, 3)
			change := func(c *Config) { c.Rollout, c.Canary, c.Quiet = rollout, 50, 0 }
			b := runTiny(t, base, change)
			b.awaitStates("3 serving stable", "2 closed", "1 closed")
			b.must(b.Use(t.Context(), 1))
			b.awaitStates("3 closed", "2 closed", "1 serving stable")
			b.put(4, modeltest.TinyOf(4))
			b.awaitStates("4 serving "+rollout, "3 closed", "2 closed", "1 serving stable")
			b.must(b.Use(t.Context(), 1)) // the new one neither
			b.awaitStates("4 closed", "3 closed", "2 closed", "1 serving stable")
			again := runTiny(t, base, change)
			again.awaitStates("4 closed", "3 closed", "2 closed", "1 serving stable")
			b.put(5, modeltest.Tiny{Broken: "weights"})
			b.must(b.Use(t.Context(), 5))
			b.await("refusal", func() bool { return len(b.refusals(5)) == 1 })
			b.awaitStates("5 failed", "4 closed", "3 closed", "2 closed", "1 serving stable")
			b.must(b.Use(t.Context(), 2))
			b.awaitStates("5 failed", "4 closed", "3 closed", "2 serving stable", "1 closed")
			b.must(b.UseHighest(t.Context()))
			b.await("a newer version", func() bool { return b.published.routes.Load().secondary != nil })
		})
	}
}
