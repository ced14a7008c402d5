package model

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"inceptor/model/infer"
	"inceptor/model/internal/modeltest"
)

func TestVersions(t *testing.T) {
	base := t.TempDir()
	for v := range int64(3) {
		modeltest.TinyOf(v+1).Write(t, filepath.Join(base, strconv.FormatInt(v+1, 10)))
	}
	b := runTiny(t, base)
	b.awaitVersion(3)
	b.put(10, modeltest.Tiny{Bias: 2, Class: 1})
	b.await("refusal", func() bool { return len(b.refusals(10)) > 0 })
	b.must(os.RemoveAll(b.dir(3)))
	b.await("removal", func() bool { return len(b.Versions()) == 4 && b.scanned(3) })
	states := map[int64]string{}
	for _, s := range b.Versions() {
		states[s.Version] = s.State
		switch s.Version {
		case 10:
			if s.Gate != infer.GateSignature || !strings.Contains(s.Reason, "2 classes") || s.Since.IsZero() || !s.Retry.IsZero() {
				t.Errorf("refused: %+v", s)
			}
		case 3:
			if !strings.HasPrefix(s.Digest, "sha256:") || s.Since.IsZero() {
				t.Errorf("serving: %+v", s)
			}
		}
	}
	want := map[int64]string{10: StateFailed, 3: StateServing, 2: StateClosed, 1: StateClosed}
	if !maps.Equal(states, want) {
		t.Errorf("got %v, want %v", states, want)
	}
}

// Each state follows from the entry of a version and the decisions of the state file.
func TestStates(t *testing.T) {
	at := func(gate string) func(scene, *versionEntry) {
		return func(s scene, e *versionEntry) {
			e.gate = new(atomic.Pointer[string])
			e.gate.Store(&gate)
			s.loading = e
		}
	}
	leaves := func(closed bool) func(scene, *versionEntry) {
		return func(_ scene, e *versionEntry) {
			e.leaving = infer.NewUnloaded(infer.Info{}, 0)
			if closed {
				e.leaving.Release()
				<-e.leaving.Freed()
			}
		}
	}
	for _, test := range []struct {
		name   string
		of3    string // what version 3 is like, while 2 serves
		change func(s scene, e *versionEntry)
		want   string
	}{
		{"new", "new", nil, "found"},
		{"its files do not rest", "fresh", nil, "found"},
		{"a load does not end", "new", func(s scene, _ *versionEntry) { s.describe(t, s.versions[1], "load-overdue") }, "found: a load of version 1 does not end"},
		{"loading", "new", func(s scene, e *versionEntry) { e.gate, s.loading = new(atomic.Pointer[string]), e }, "loading"},
		{"at the gate load", "new", at(infer.GateLoad), "loading"},
		{"at the gate warm-up", "new", at(infer.GateWarmUp), "warming"},
		{"at the gate golden", "new", at(infer.GateGolden), "warming"},
		{"at the gate agreement", "new", at(infer.GateAgreement), "warming"},
		{"loaded again after it has failed", "failed", at(infer.GateRead), "loading"},
		{"loaded", "loaded", nil, "standby"},
		{"canary", "canary", nil, "serving canary"},
		{"shadow", "shadow", nil, "serving shadow"},
		{"canary, rolled back this moment", "canary", func(s scene, e *versionEntry) { s.rolledBack(3, e.digest) }, "serving canary"},
		{"unloaded", "new", leaves(false), "draining"},
		{"unloaded, and freed", "new", leaves(true), "found"},
		{"not chosen, and freed", "new", func(s scene, e *versionEntry) { leaves(true)(s, e); s.Use = new(int64(2)) }, "closed"},
		{"not chosen", "new", func(s scene, _ *versionEntry) { s.Use = new(int64(2)) }, "closed"},
		{"not among model.versions", "new", func(s scene, _ *versionEntry) { s.config.Versions = policy(t, "specific:1,2") }, "closed"},
		{"passed over as a canary", "new", func(s scene, _ *versionEntry) {
			s.config.Rollout, s.Use, s.PassedOver = rolloutCanary, new(int64(2)), new(int64(3))
		}, "closed"},
		{"a canary to be", "new", func(s scene, _ *versionEntry) { s.config.Rollout, s.Use = rolloutCanary, new(int64(2)) }, "found"},
		{"failed", "failed", nil, "failed: no"},
		{"failed, and not chosen", "failed", func(s scene, _ *versionEntry) { s.Use = new(int64(2)) }, "failed: no"},
		{"rolled back", "rolled-back", nil, "rolled-back: slow: it is slow"},
		{"rolled back, and unloaded", "rolled-back", leaves(false), "rolled-back: slow: it is slow"},
		{"rolled back, and failed before", "failed", func(s scene, e *versionEntry) { s.rolledBack(3, e.digest) }, "rolled-back: slow: it is slow"},
		{"rolled back, and its files have changed", "changed", nil, "found"},
		{"hangs, and was unloaded", "stuck-unloaded", nil, "rolled-back: hangs: a run; it is not loaded again until that run ends"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := sceneOf(t, "1 failed", "2 stable", "3 "+test.of3)
			if test.change != nil {
				test.change(s, s.versions[3])
			}
			r := reconciler{state: *s.state, published: newPublished()}
			r.publish()
			got := r.published.snapshot.Load().status(s.versions[3], s.config, *s.decisions)
			text := strings.TrimSpace(got.State + " " + got.Label)
			if got.Reason != "" {
				text += ": " + got.Reason
			}
			if text != test.want {
				t.Errorf("got %q, want %q", text, test.want)
			}
		})
	}
}

// The status says what Use and Rollback would accept.
func TestCanUseAndRollBack(t *testing.T) {
	for _, test := range []struct {
		name          string
		of1, of3      string // what versions 1 and 3 are like, while 2 serves
		use, rollBack string // versions
	}{
		{"a version before", "new", "new", "321", "2"},
		{"no version before", "gone", "new", "321", ""},
		{"one before, which has failed", "failed", "new", "32", ""},
		{"one before, which is tried again", "failed-again", "new", "321", "2"},
		{"one before, which was rolled back", "rolled-back", "new", "321", ""},
		{"one above, which has failed", "new", "failed", "21", "2"},
		{"one above, which is loaded", "failed", "loaded", "32", "2"},
		{"a canary", "failed", "canary", "32", "3"},
		{"a shadow", "new", "shadow", "321", "3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := sceneOf(t, "1 "+test.of1, "2 stable", "3 "+test.of3)
			r := reconciler{state: *s.state, published: newPublished()}
			r.publish()
			now := r.published.snapshot.Load()
			use, rollBack := "", ""
			for i := range now.versions {
				status := now.status(&now.versions[i], s.config, *s.decisions)
				if status.CanUse {
					use += strconv.FormatInt(status.Version, 10)
				}
				if status.CanRollBack {
					rollBack += strconv.FormatInt(status.Version, 10)
				}
				if usable := r.usable(status.Version) == nil; usable != status.CanUse {
					t.Errorf("version %d: CanUse is %v, and usable %v", status.Version, status.CanUse, usable)
				}
			}
			if use != test.use || rollBack != test.rollBack {
				t.Errorf("use %q, roll back %q; want %q, %q", use, rollBack, test.use, test.rollBack)
			}
		})
	}
}

// The slowdown is told while there is a version to compare with, and enough runs.
func TestSlowdown(t *testing.T) {
	runs := func(n int, took time.Duration) *infer.RunStats {
		s := &infer.RunStats{}
		for range n {
			s.Add(infer.Run{Size: 1, Took: took})
		}
		return s
	}
	for _, test := range []struct {
		name      string
		v, before *infer.RunStats
		want      float64
	}{
		{"twice as long", runs(20, 20), runs(20, 10), 2},
		{"half as long", runs(20, 10), runs(20, 20), 0.5},
		{"few runs", runs(leastRuns-1, 20), runs(20, 10), 0},
		{"few runs before", runs(20, 20), runs(leastEach-1, 10), 0},
		{"no runs", runs(0, 0), runs(0, 0), 0},
	} {
		if got, _ := slowdown(test.v, test.before); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// scanned tells whether a scan has found that a version is gone.
func (b *harness) scanned(gone int64) bool {
	e := b.entry(gone)
	return e == nil || !e.there
}
