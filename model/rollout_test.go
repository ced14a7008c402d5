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
)

func policy(t testing.TB, text string) Policy {
	t.Helper()
	var p Policy
	if err := p.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return p
}

// with puts versions into a new base directory.
func with(t testing.TB, versions ...int64) string {
	t.Helper()
	base := t.TempDir()
	for _, v := range versions {
		tinyOf(v).write(t, filepath.Join(base, fmt.Sprint(v)))
	}
	return base
}

// states lists "version state label" of each version.
func (b *bench) states() []string {
	var list []string
	for _, s := range b.Versions() {
		list = append(list, strings.TrimSpace(fmt.Sprint(s.Version, " ", s.State, " ", s.Label)))
	}
	return list
}

func (b *bench) awaitStates(want ...string) {
	b.Helper()
	b.await(fmt.Sprint(want), func() bool { return slices.Equal(b.states(), want) })
}

func TestPolicies(t *testing.T) {
	for _, test := range []struct {
		policy string
		want   []string
	}{
		{"latest:1", []string{"4 serving stable", "3 available", "2 available", "1 available"}},
		{"latest:2", []string{"4 serving stable", "3 warm", "2 available", "1 available"}},
		{"specific:1, 3", []string{"4 available", "3 serving stable", "2 available", "1 warm"}},
		{"all", []string{"4 serving stable", "3 warm", "2 warm", "1 warm"}},
	} {
		t.Run(test.policy, func(t *testing.T) {
			b := runTiny(t, with(t, 1, 2, 3, 4), func(c *Config) { c.Versions = policy(t, test.policy) })
			b.awaitStates(test.want...)
		})
	}
	for _, bad := range []string{"", "latest", "latest:0", "latest:x", "specific:", "specific:-1", "specific:1,,2", "all:1", "newest:1"} {
		var p Policy
		if err := p.UnmarshalText([]byte(bad)); !errors.Is(err, errPolicy) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// With latest:2, the version before the last is kept, and takes over at once.
func TestLatestMovesOn(t *testing.T) {
	b := runTiny(t, with(t, 1, 2), func(c *Config) { c.Versions = policy(t, "latest:2") })
	b.awaitStates("2 serving stable", "1 warm")
	b.put(3, tinyOf(3))
	b.awaitStates("3 serving stable", "2 warm", "1 available")
	if _, err := b.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.awaitStates("3 rejected", "2 serving stable", "1 warm")
}

// A choice by hand holds, whatever comes, and after a restart.
func TestUse(t *testing.T) {
	base := with(t, 1, 2)
	t.Run("choose", func(t *testing.T) {
		b := runTiny(t, base)
		b.awaitVersion(2)
		b.must(b.Use(t.Context(), 1))
		b.awaitVersion(1)
		b.put(3, tinyOf(3))
		time.Sleep(200 * time.Millisecond)
		if b.serves() != 1 {
			t.Error("a newer version serves, and another was chosen")
		}
		if err := b.Use(t.Context(), 9); !errors.Is(err, ErrUnknownVersion) {
			t.Errorf("version 9: got %v", err)
		}
		b.put(4, tiny{bias: 4, broken: "weights"})
		b.must(b.Use(t.Context(), 4)) // nobody has looked at it yet
		b.await("refusal", func() bool { return len(b.refusals(4)) > 0 })
		if b.serves() != 1 {
			t.Error("a version that was refused serves")
		}
		if err := b.Use(t.Context(), 4); !errors.Is(err, ErrRefused) {
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
		write(t, filepath.Join(base, choiceFile), []byte(`{"use": 7}`))
		b := runTiny(t, base)
		time.Sleep(200 * time.Millisecond)
		if v := b.serves(); v != none {
			t.Errorf("version 7 was chosen, %d serves", v)
		}
		write(t, filepath.Join(base, choiceFile), []byte(`{"use": 2}`)) // by another process
		b.awaitVersion(2)
		write(t, filepath.Join(base, choiceFile), []byte(`{"use":`))
		time.Sleep(100 * time.Millisecond)
		if b.serves() != 2 {
			t.Error("a file that is no choice changes who serves")
		}
	})
}

// Where the choice cannot be kept, it holds, and that is told.
func TestUseForgotten(t *testing.T) {
	base := with(t, 1, 2)
	b := runTiny(t, base, func(c *Config) { c.State = filepath.Join(base, "none", "state") })
	b.awaitVersion(2)
	if err := b.Use(t.Context(), 1); !errors.Is(err, ErrForgotten) {
		t.Errorf("got %v", err)
	}
	b.awaitVersion(1)
}

// A version that was rolled back is not taken again, after a restart neither,
// until it changes.
func TestRollback(t *testing.T) {
	base := with(t, 1, 2)
	t.Run("roll back", func(t *testing.T) {
		b := runTiny(t, base)
		b.awaitVersion(2)
		if v, err := b.Rollback(t.Context()); v != 2 || err != nil {
			t.Fatal(v, err)
		}
		b.awaitVersion(1)
		b.must(os.Chtimes(b.dir(2), time.Now(), time.Now())) // no change
		time.Sleep(200 * time.Millisecond)
		b.awaitStates("2 rejected", "1 serving stable")
		if _, err := b.Rollback(t.Context()); !errors.Is(err, ErrNoWayBack) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("restart", func(t *testing.T) {
		b := runTiny(t, base)
		b.awaitVersion(1)
		b.awaitStates("2 rejected", "1 serving stable")
		b.must(os.RemoveAll(b.dir(2)))
		b.put(2, tiny{bias: 2, label: "another"})
		b.awaitVersion(2)
	})
	t.Run("insist", func(t *testing.T) {
		b := runTiny(t, base)
		b.awaitVersion(2)
		_, err := b.Rollback(t.Context())
		b.must(err)
		b.awaitVersion(1)
		b.must(b.Use(t.Context(), 2))
		b.awaitVersion(2)
	})
}

// A canary answers its part of the keys, always the same ones, until it is
// promoted or rolled back.
func TestCanary(t *testing.T) {
	base := with(t, 1)
	b := runTiny(t, base, func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 30 })
	b.awaitVersion(1)
	b.put(2, tinyOf(2))
	b.awaitStates("2 serving canary", "1 serving stable")
	answers := func() map[string]int64 {
		by := map[string]int64{}
		for i := range 400 {
			key := fmt.Sprintf("camera-%d", i)
			p, err := b.Classify(t.Context(), []byte(key), blackPixel)
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
	if b.Beside() != LabelCanary {
		t.Errorf("beside is %q", b.Beside())
	}

	b.put(3, tinyOf(3)) // a better canary
	b.awaitStates("3 serving canary", "2 available", "1 serving stable")
	if v, err := b.Rollback(t.Context()); v != 3 || err != nil {
		t.Fatal(v, err)
	}
	b.awaitStates("3 rejected", "2 serving canary", "1 serving stable")
	b.must(b.Use(t.Context(), 2))
	b.awaitStates("3 rejected", "2 serving stable", "1 available")

	// After a restart, the stable version is what it was.
	b.put(4, tinyOf(4))
	b.awaitStates("4 serving canary", "3 rejected", "2 serving stable", "1 available")
	again := runTiny(t, base, func(c *Config) { c.Rollout, c.Canary = rolloutCanary, 30 })
	again.awaitStates("4 serving canary", "3 rejected", "2 serving stable", "1 available")
	again.must(again.UseHighest(t.Context())) // the highest: not as a canary again
	again.awaitStates("4 serving stable", "3 rejected", "2 available", "1 available")
}

func TestShareIsEven(t *testing.T) {
	const keys = 20_000
	for _, format := range []string{"%d", "camera-%d", "ImageInputTopic-0-%d", "%08d"} {
		under := 0
		for i := range keys {
			if share(fmt.Appendf(nil, format, i)) < 5 {
				under++
			}
		}
		if part := 100 * float64(under) / keys; part < 4.5 || part > 5.5 {
			t.Errorf("%q: 5 %% of the keys are %.2f %%", format, part)
		}
	}
}

// A shadow answers nobody, but can be asked.
func TestShadow(t *testing.T) {
	b := runTiny(t, with(t, 1), func(c *Config) { c.Rollout = rolloutShadow })
	b.awaitVersion(1)
	if _, err := b.ClassifyAs(t.Context(), LabelShadow, blackPixel); !errors.Is(err, ErrNoVersion) {
		t.Errorf("no shadow: got %v", err)
	}
	b.put(2, tinyOf(2))
	b.awaitStates("2 serving shadow", "1 serving stable")
	for i := range 50 {
		if p, err := b.Classify(t.Context(), fmt.Append(nil, i), blackPixel); err != nil || p.Version != 1 {
			t.Fatal(p, err)
		}
	}
	p, err := b.ClassifyAs(t.Context(), LabelShadow, blackPixel)
	if err != nil || p.Version != 2 || p.Label != LabelShadow {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := b.ClassifyAs(t.Context(), LabelCanary, blackPixel); !errors.Is(err, ErrNoVersion) {
		t.Errorf("no canary: got %v", err)
	}
	b.must(b.Use(t.Context(), 2))
	b.awaitStates("2 serving stable", "1 available")
}

func TestChoiceFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	ours, theirs := newChoice(Config{State: path}), newChoice(Config{State: path})
	if d, err := ours.read(); err != nil || d.Use != nil {
		t.Fatal(d, err)
	}
	if err := ours.change(func(d *decided) { d.use(3, 3) }); err != nil {
		t.Fatal(err)
	}
	if err := theirs.change(func(d *decided) { d.reject(4, rejected{"sha256:x", CauseSlow, "it is slow"}) }); err != nil {
		t.Fatal(err)
	}
	d, err := ours.read()
	if r, ok := d.of(4); err != nil || !d.uses(3) || !ok || r.Cause != CauseSlow {
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
		write(t, path, []byte(bad))
		if d, err := ours.read(); err == nil || !d.uses(3) {
			t.Errorf("%s: got %+v, %v", bad, d, err)
		}
	}
}
