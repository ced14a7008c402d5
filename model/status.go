package model

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"inceptor/model/infer"
)

// A Status describes one version.
type Status struct {
	Version int64     `json:"version"`
	State   string    `json:"state"`
	Label   string    `json:"label,omitempty"`  // of one that serves
	Chosen  bool      `json:"chosen,omitempty"` // by hand, to serve
	Since   time.Time `json:"since,omitzero"`
	Bytes   int64     `json:"bytes,omitempty"`  // of its files, once they were looked at
	Digest  string    `json:"digest,omitempty"` // of its directory, once it was loaded

	// Kernels and Precision are those of the optimized graph of a loaded version; empty: it runs
	// as exported.
	Kernels   string `json:"kernels,omitempty"`
	Precision string `json:"precision,omitempty"`

	// Trying says what is done to run the version that serves in another precision, and how far
	// that is. WhyPrecision is why it runs in this one, once that is decided.
	Trying       string `json:"trying,omitempty"`
	WhyPrecision string `json:"precision_reason,omitempty"`

	// Preprocessing is how a loaded version makes pixels, if it takes pixels. Assumed says what of
	// it is assumed, and how to state it.
	Preprocessing *infer.Preprocessing `json:"preprocessing,omitempty"`
	Assumed       string               `json:"assumed,omitempty"`

	Gate   string    `json:"gate,omitempty"`   // that it did not pass, such as infer.GateLoad
	Reason string    `json:"reason,omitempty"` // why it failed or was rolled back, or waits for the end of another load
	Retry  time.Time `json:"retry,omitzero"`   // when it is tried again although nothing has changed

	// Probation is when the probation of the version that serves ends; zero: it has none.
	Probation time.Time `json:"probation,omitzero"`

	// Slowdown is how many times as long its runs take as those of the version that it is compared
	// with; 0: it is compared with none, or there were too few runs.
	Slowdown float64 `json:"slowdown,omitempty"`

	Memory      uint64 `json:"-"` // bytes that loading and warming up a loaded version has taken
	CanUse      bool   `json:"-"` // Use takes it
	CanRollBack bool   `json:"-"` // Rollback rolls it back
}

// Versions lists the versions of the model, the highest first: those in its directory, and those
// that are loaded, even if their folder is gone.
func (m *Manager) Versions() []Status {
	s, d := m.published.snapshot.Load(), m.stateFile.now()
	list := make([]Status, len(s.versions))
	for i := range s.versions {
		list[i] = s.status(&s.versions[i], m.config, d)
	}
	return list
}

// status returns the status of one version. Here alone a state gets its name.
func (s *snapshot) status(e *versionEntry, c Config, d decisions) Status {
	t := Status{Version: e.Version, Chosen: d.uses(e.Version), Since: e.since, Bytes: e.bytes, Digest: e.digest}
	if v := e.loaded; v != nil {
		t.Kernels, t.Precision = v.Optimized()
		t.Preprocessing, t.Assumed = v.Preprocessing(), v.Assumed()
		t.Memory, t.Slowdown = v.Memory(), s.slowdown[v]
	}
	t.CanUse = s.unreadable == nil && c.Versions.allows(e.Version) && !e.failedForGood()
	decided, rolledBack := d.rollbackOf(e.Version)
	label := s.routes.labelOf(e.loaded)
	switch {
	case label != "":
		t.State, t.Label = StateServing, label
		t.CanRollBack = s.canRollBack(e, c, d)
		if overdue := e.loaded.OverdueRun(); overdue != nil {
			t.Reason = CauseHangs + ": " + overdue.Error()
		}
		if label == LabelStable {
			t.Probation, t.WhyPrecision = s.probation, e.whyPrecision(c)
			if s.trying != nil {
				t.Trying = s.trying.String()
			}
		}
	case e.loaded != nil:
		t.State = StateStandby
	case s.loading != nil && *s.loading == e.Version:
		t.State = e.loadState()
	case rolledBack && d.forbids(e):
		t.State, t.Reason = StateRolledBack, decided.Cause+": "+decided.Reason
	case e.overdueRun != "" && e.overdue != nil:
		t.State, t.Reason = StateRolledBack, CauseHangs+": "+e.overdueRun+"; it is not loaded again until that run ends"
	case e.failed != nil:
		t.State, t.Retry = StateFailed, e.retry
		t.Gate, t.Reason = e.failed.Gate, e.failed.Err.Error()
	case e.leaving != nil && !isClosed(e.leaving.Freed()):
		t.State = StateDraining
	case s.routes.passOver(e.Version, c, d):
		t.State = StateClosed
	default:
		t.State, t.Reason = StateFound, s.waits
	}
	return t
}

// canRollBack tells whether Rollback rolls a version back that has a label: the canary or shadow,
// or else the stable one if another version may serve then.
func (s *snapshot) canRollBack(e *versionEntry, c Config, d decisions) bool {
	if s.routes.secondary != nil {
		return e.loaded == s.routes.secondary
	}
	return slices.ContainsFunc(s.versions, func(other versionEntry) bool { return other.mayReplace(e.Version, s.served, c, d) })
}

// whyPrecision returns why a version runs in its precision; empty: that is not decided yet, or no
// other one was to be tried.
func (e *versionEntry) whyPrecision(c Config) string {
	switch known := e.precisions; {
	case len(c.candidates()) == 0:
		return ""
	case e.precision == "":
		return "it runs as it was exported: " + e.loaded.WhyNotOptimized()
	case e.precision != precisionFloat32:
		return known.Candidates[e.precision].Reason
	default:
		return known.why(c.candidates())
	}
}

// noVersion returns why no version serves after Load has tried all.
func (s *snapshot) noVersion(c Config, d decisions) error {
	errs := []error{ErrNoVersion}
	for i := range s.versions {
		e := &s.versions[i]
		if !c.Versions.allows(e.Version) {
			continue
		}
		switch status := s.status(e, c, d); status.State {
		case StateFailed:
			errs = append(errs, fmt.Errorf("version %d: %w", e.Version, e.failed))
		case StateRolledBack:
			errs = append(errs, fmt.Errorf("version %d was rolled back: %s", e.Version, status.Reason))
		}
	}
	if d.Use != nil {
		errs = append(errs, fmt.Errorf("version %d was chosen by hand, and no other one is taken", *d.Use))
	}
	if err := s.unknown(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// loadState returns the state of a version that is being loaded, by its gate.
func (e *versionEntry) loadState() string {
	if gate := e.gate.Load(); gate != nil && (*gate == infer.GateWarmUp || *gate == infer.GateGolden || *gate == infer.GateAgreement) {
		return StateWarming
	}
	return StateLoading
}

// passOver tells whether a version that is not loaded has no turn now.
func (r *routes) passOver(version int64, c Config, d decisions) bool {
	newest := r.secondary
	if newest == nil {
		newest = r.stable
	}
	return !c.Versions.allows(version) ||
		newest != nil && version < newest.Info().Version ||
		d.Use != nil && !d.uses(version) && (!c.hasSecondary() || !d.mayFollow(version))
}
