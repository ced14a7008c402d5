package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"inceptor/model/internal/modeltest"
)

func policy(t testing.TB, text string) Policy {
	t.Helper()
	var p Policy
	if err := p.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return p
}

// states lists "version state label" of each version.
func (b *harness) states() []string {
	var list []string
	for _, s := range b.Versions() {
		list = append(list, strings.TrimSpace(fmt.Sprint(s.Version, " ", s.State, " ", s.Label)))
	}
	return list
}

func (b *harness) awaitStates(want ...string) {
	b.Helper()
	b.await(fmt.Sprint(want), func() bool { return slices.Equal(b.states(), want) })
}

func TestPolicies(t *testing.T) {
	for _, test := range []struct {
		policy string
		want   []string
	}{
		{"latest:1", []string{"4 serving stable", "3 closed", "2 closed", "1 closed"}},
		{"latest:2", []string{"4 serving stable", "3 standby", "2 closed", "1 closed"}},
		{"specific:1, 3", []string{"4 closed", "3 serving stable", "2 closed", "1 standby"}},
		{"all", []string{"4 serving stable", "3 standby", "2 standby", "1 standby"}},
	} {
		t.Run(test.policy, func(t *testing.T) {
			b := runTiny(t, modeltest.TinyVersions(t, 1, 2, 3, 4), func(c *Config) { c.Versions = policy(t, test.policy) })
			b.awaitStates(test.want...)
		})
	}
	for _, bad := range []string{"", "latest", "latest:0", "latest:x", "specific:", "specific:-1", "specific:1,,2", "all:1", "newest:1"} {
		var p Policy
		if err := p.UnmarshalText([]byte(bad)); err == nil || !strings.Contains(err.Error(), p.Form()) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// With latest:2, the version before the last is kept, and takes over at once.
func TestLatestMovesOn(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1, 2), func(c *Config) { c.Versions = policy(t, "latest:2") })
	b.awaitStates("2 serving stable", "1 standby")
	b.put(3, modeltest.TinyOf(3))
	b.awaitStates("3 serving stable", "2 standby", "1 closed")
	if _, err := b.Rollback(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.awaitStates("3 rolled-back", "2 serving stable", "1 standby")
}

// A choice by hand holds when higher versions are published, and after a restart.
func TestUse(t *testing.T) {
	base := modeltest.TinyVersions(t, 1, 2)
	t.Run("choose", func(t *testing.T) {
		b := runTiny(t, base)
		b.awaitVersion(2)
		b.must(b.Use(t.Context(), 1))
		b.awaitVersion(1)
		b.put(3, modeltest.TinyOf(3))
		time.Sleep(200 * time.Millisecond)
		if b.serves() != 1 {
			t.Error("a newer version serves, and another was chosen")
		}
		if err := b.Use(t.Context(), 9); !errors.Is(err, ErrUnknownVersion) {
			t.Errorf("version 9: got %v", err)
		}
		b.put(4, modeltest.Tiny{Bias: 4, Broken: "weights"})
		b.must(b.Use(t.Context(), 4)) // nobody has looked at it yet
		b.await("refusal", func() bool { return len(b.refusals(4)) > 0 })
		if b.serves() != 1 {
			t.Error("a version that was refused serves")
		}
		if err := b.Use(t.Context(), 4); !errors.Is(err, ErrFailed) {
			t.Errorf("version 4: got %v", err)
		}
		b.must(b.Use(t.Context(), 1))
	})
	t.Run("restart", func(t *testing.T) {
		b := runTiny(t, base)
		b.awaitVersion(1)
		if s := b.Versions(); !s[len(s)-1].Chosen {
			t.Errorf("got %+v", s)
		}
		b.must(b.UseHighest(t.Context()))
		b.awaitVersion(3)
	})
	t.Run("gone", func(t *testing.T) {
		modeltest.Write(t, filepath.Join(base, stateFileName), []byte(`{"use": 7}`))
		b := runTiny(t, base)
		time.Sleep(200 * time.Millisecond)
		if v := b.serves(); v != none {
			t.Errorf("version 7 was chosen, %d serves", v)
		}
		modeltest.Write(t, filepath.Join(base, stateFileName), []byte(`{"use": 2}`)) // by another process
		b.awaitVersion(2)
		modeltest.Write(t, filepath.Join(base, stateFileName), []byte(`{"use":`))
		time.Sleep(100 * time.Millisecond)
		if b.serves() != 2 {
			t.Error("a file that is no choice changes who serves")
		}
	})
}

// A choice that cannot be written holds, and the error says so.
func TestUseForgotten(t *testing.T) {
	base := modeltest.TinyVersions(t, 1, 2)
	b := runTiny(t, base, func(c *Config) { c.State = filepath.Join(base, "none", "state") })
	b.awaitVersion(2)
	if err := b.Use(t.Context(), 1); !errors.Is(err, ErrForgotten) {
		t.Errorf("got %v", err)
	}
	b.awaitVersion(1)
}

// A rollback goes back to what served before, not to the next lower version, and a newer version is
// taken as always.
func TestRollbackToServed(t *testing.T) {
	t.Run("published together", func(t *testing.T) {
		b := runTiny(t, modeltest.TinyVersions(t, 1))
		b.awaitVersion(1)
		b.put(3, modeltest.TinyOf(3))
		b.awaitVersion(3)
		b.put(2, modeltest.TinyOf(2)) // later, and has never served
		b.await("version 2", func() bool { return len(b.states()) == 3 })
		if v, err := b.Rollback(t.Context(), nil); v != 3 || err != nil {
			t.Fatal(v, err)
		}
		b.awaitVersion(1)
		b.awaitStates("3 rolled-back", "2 rolled-back", "1 serving stable")
		b.await("the digest of version 2", func() bool {
			r, ok := b.stateFile.now().rollbackOf(2)
			return ok && r.Digest != ""
		})
		b.await("one rollback: version 2 never served", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			return slices.Equal(b.rolledBack, []string{CauseByHand})
		})
		b.must(os.RemoveAll(b.dir(2)))
		b.put(2, modeltest.Tiny{Bias: 2, Label: "another"})
		b.awaitVersion(2)
		if v, err := b.Rollback(t.Context(), nil); v != 2 || err != nil {
			t.Fatal(v, err)
		}
		b.put(4, modeltest.TinyOf(4))
		b.awaitVersion(4)
		if v, err := b.Rollback(t.Context(), nil); v != 4 || err != nil {
			t.Fatal(v, err)
		}
		b.awaitVersion(1)
	})
	t.Run("chosen one after the other", func(t *testing.T) {
		b := runTiny(t, modeltest.TinyVersions(t, 1, 2, 3))
		b.awaitVersion(3)
		b.must(b.Use(t.Context(), 1))
		b.awaitVersion(1)
		b.must(b.Use(t.Context(), 2))
		b.awaitVersion(2)
		if v, err := b.Rollback(t.Context(), nil); v != 2 || err != nil {
			t.Fatal(v, err)
		}
		b.awaitVersion(1)
		b.awaitStates("3 closed", "2 rolled-back", "1 serving stable")
		if v, err := b.Rollback(t.Context(), nil); v != 1 || err != nil {
			t.Fatal(v, err)
		}
		b.awaitVersion(3)
	})
	t.Run("a canary was passed over", func(t *testing.T) {
		b := runTiny(t, modeltest.TinyVersions(t, 1), func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 30 })
		b.awaitVersion(1)
		b.put(2, modeltest.TinyOf(2))
		b.awaitStates("2 serving canary", "1 serving stable")
		b.must(b.Use(t.Context(), 1))
		b.awaitStates("2 closed", "1 serving stable")
		b.put(3, modeltest.TinyOf(3))
		b.awaitStates("3 serving canary", "2 closed", "1 serving stable")
		b.must(b.Use(t.Context(), 3))
		b.awaitStates("3 serving stable", "2 closed", "1 closed")
		if v, err := b.Rollback(t.Context(), nil); v != 3 || err != nil {
			t.Fatal(v, err)
		}
		b.awaitStates("3 rolled-back", "2 closed", "1 serving stable")
	})
}

// A version that was rolled back does not serve again until its files change, not even after a
// restart.
func TestRollback(t *testing.T) {
	base := modeltest.TinyVersions(t, 1, 2)
	t.Run("roll back", func(t *testing.T) {
		b := runTiny(t, base)
		b.awaitVersion(2)
		if v, err := b.Rollback(t.Context(), new(int64(1))); v != 2 || !errors.Is(err, ErrOther) {
			t.Fatalf("version 1 does not serve: got %d, %v", v, err)
		}
		if v, err := b.Rollback(t.Context(), new(int64(2))); v != 2 || err != nil {
			t.Fatal(v, err)
		}
		b.awaitVersion(1)
		b.must(os.Chtimes(b.dir(2), time.Now(), time.Now())) // no change
		time.Sleep(200 * time.Millisecond)
		b.awaitStates("2 rolled-back", "1 serving stable")
		if _, err := b.Rollback(t.Context(), nil); !errors.Is(err, ErrNoWayBack) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("restart", func(t *testing.T) {
		b := runTiny(t, base)
		b.awaitVersion(1)
		b.awaitStates("2 rolled-back", "1 serving stable")
		b.must(os.RemoveAll(b.dir(2)))
		b.put(2, modeltest.Tiny{Bias: 2, Label: "another"})
		b.awaitVersion(2)
	})
	t.Run("insist", func(t *testing.T) {
		b := runTiny(t, base)
		b.awaitVersion(2)
		_, err := b.Rollback(t.Context(), nil)
		b.must(err)
		b.awaitVersion(1)
		b.must(b.Use(t.Context(), 2))
		b.awaitVersion(2)
	})
}

// A canary answers its part of the keys, always the same ones, until it is
// promoted or rolled back.
func TestCanary(t *testing.T) {
	base := modeltest.TinyVersions(t, 1)
	b := runTiny(t, base, func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 30 })
	b.awaitVersion(1)
	b.put(2, modeltest.TinyOf(2))
	b.awaitStates("2 serving canary", "1 serving stable")
	answers := func() map[string]int64 {
		by := map[string]int64{}
		for i := range 400 {
			key := fmt.Sprintf("camera-%d", i)
			p, err := b.Classify(t.Context(), []byte(key), modeltest.BlackImage)
			if err != nil {
				t.Fatal(err)
			}
			if want := map[int64]string{1: LabelStable, 2: LabelCanary}[p.Version]; p.Label != want {
				t.Fatalf("version %d answered as %q", p.Version, p.Label)
			}
			by[key] = p.Version
		}
		return by
	}
	first := answers()
	canary := 0
	for key, v := range answers() {
		if first[key] != v {
			t.Errorf("%s went from version %d to %d", key, first[key], v)
		}
		if v == 2 {
			canary++
		}
	}
	if canary < 80 || canary > 160 {
		t.Errorf("the canary has %d of 400 keys, want about 120", canary)
	}
	if b.Secondary() != LabelCanary {
		t.Errorf("secondary is %q", b.Secondary())
	}

	b.put(3, modeltest.TinyOf(3)) // a better canary
	b.awaitStates("3 serving canary", "2 closed", "1 serving stable")
	if v, err := b.Rollback(t.Context(), nil); v != 3 || err != nil {
		t.Fatal(v, err)
	}
	b.awaitStates("3 rolled-back", "2 serving canary", "1 serving stable")
	b.must(b.Use(t.Context(), 2))
	b.awaitStates("3 rolled-back", "2 serving stable", "1 closed")

	// After a restart, the stable version is what it was.
	b.put(4, modeltest.TinyOf(4))
	b.awaitStates("4 serving canary", "3 rolled-back", "2 serving stable", "1 closed")
	again := runTiny(t, base, func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 30 })
	again.awaitStates("4 serving canary", "3 rolled-back", "2 serving stable", "1 closed")
	again.must(again.UseHighest(t.Context())) // the highest: not as a canary again
	again.awaitStates("4 serving stable", "3 rolled-back", "2 closed", "1 closed")
}

func TestShareIsEven(t *testing.T) {
	const keys = 20_000
	for _, format := range []string{"%d", "camera-%d", "ImageInputTopic-0-%d", "%08d"} {
		under := 0
		for i := range keys {
			if percentOf(fmt.Appendf(nil, format, i)) < 5 {
				under++
			}
		}
		if part := 100 * float64(under) / keys; part < 4.5 || part > 5.5 {
			t.Errorf("%q: 5 %% of the keys are %.2f %%", format, part)
		}
	}
}

// A shadow answers no record, but can be asked by its label.
func TestShadow(t *testing.T) {
	b := runTiny(t, modeltest.TinyVersions(t, 1), func(c *Config) { c.Rollout = rolloutShadow })
	b.awaitVersion(1)
	if _, err := b.ClassifyAs(t.Context(), LabelShadow, modeltest.BlackImage); !errors.Is(err, ErrNoVersion) {
		t.Errorf("no shadow: got %v", err)
	}
	b.put(2, modeltest.TinyOf(2))
	b.awaitStates("2 serving shadow", "1 serving stable")
	for i := range 50 {
		if p, err := b.Classify(t.Context(), fmt.Append(nil, i), modeltest.BlackImage); err != nil || p.Version != 1 {
			t.Fatal(p, err)
		}
	}
	p, err := b.ClassifyAs(t.Context(), LabelShadow, modeltest.BlackImage)
	if err != nil || p.Version != 2 || p.Label != LabelShadow {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := b.ClassifyAs(t.Context(), LabelCanary, modeltest.BlackImage); !errors.Is(err, ErrNoVersion) {
		t.Errorf("no canary: got %v", err)
	}
	b.must(b.Use(t.Context(), 2))
	b.awaitStates("2 serving stable", "1 closed")
}

func TestChoiceFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	ours, theirs := newStateFile(Config{State: path}), newStateFile(Config{State: path})
	if d, err := ours.read(); err != nil || d.Use != nil {
		t.Fatal(d, err)
	}
	if err := ours.change(func(d *decisions) { d.use(3, 3) }); err != nil {
		t.Fatal(err)
	}
	if err := theirs.change(func(d *decisions) { d.addRollback(4, rollbackRecord{"sha256:x", CauseSlow, "it is slow"}) }); err != nil {
		t.Fatal(err)
	}
	d, err := ours.read()
	if r, ok := d.rollbackOf(4); err != nil || !d.uses(3) || !ok || r.Cause != CauseSlow {
		t.Errorf("got %+v, %v", d, err)
	}
	var kept map[string]any
	if b, err := os.ReadFile(path); err != nil || json.Unmarshal(b, &kept) != nil {
		t.Errorf("%v: %s", err, b)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".inceptor-*")); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	for _, bad := range []string{"{", `{"use": -1}`, `{"use": "x"}`} {
		modeltest.Write(t, path, []byte(bad))
		if d, err := ours.read(); err == nil || !d.uses(3) {
			t.Errorf("%s: got %+v, %v", bad, d, err)
		}
	}
}
