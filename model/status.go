package model

import (
	"cmp"
	"slices"
	"time"
)

// The states of a version that is, or was, in the model's directory.
const (
	StateFound    = "found"     // not tried yet: its files do not rest, or another one is on probation
	StateLoading  = "loading"   // it is going through the gates
	StateServing  = "serving"   // it answers; its label says what
	StateWarm     = "warm"      // loaded, to serve at once when it is needed
	StateRefused  = "refused"   // it did not pass a gate
	StateRejected = "rejected"  // it was taken back
	StateUnloaded = "available" // not loaded: not among model.versions, or lower than the one that serves
)

// A Status tells how one version fares.
type Status struct {
	Version int64     `json:"version"`
	State   string    `json:"state"`
	Label   string    `json:"label,omitempty"`  // of one that serves
	Chosen  bool      `json:"chosen,omitempty"` // by hand, to serve
	Since   time.Time `json:"since,omitzero"`
	Bytes   int64     `json:"bytes,omitempty"`  // of its files, once they were looked at
	Digest  string    `json:"digest,omitempty"` // of its directory, once it was loaded

	// Kernels and Precision are those of the optimized graph of a version that
	// is loaded; empty: it runs as it is.
	Kernels   string `json:"kernels,omitempty"`
	Precision string `json:"precision,omitempty"`

	// Preprocessing is how a version that is loaded makes pixels, if it takes
	// pixels. Assumed tells what of it nothing states, and how to state it.
	Preprocessing *Preprocessing `json:"preprocessing,omitempty"`
	Assumed       string         `json:"assumed,omitempty"`

	Gate   string    `json:"gate,omitempty"`   // that refused it
	Reason string    `json:"reason,omitempty"` // why it was refused or rejected, or waits for the end of another load
	Retry  time.Time `json:"retry,omitzero"`   // when it is tried again although nothing has changed

	// Probation is when it ends, of the version that serves.
	Probation time.Time `json:"probation,omitzero"`
}

// Versions lists the versions of the model, the highest first: those in its
// directory, and those that are loaded, wherever their directory is.
func (m *Manager) Versions() []Status {
	d := m.choice.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Status, 0, len(m.known))
	for _, k := range m.known {
		s := m.status(k, d)
		s.Chosen = d.uses(s.Version)
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(b.Version, a.Version) })
	return list
}

func (m *Manager) status(k *known, d decided) Status {
	s := Status{Version: k.number, Since: k.since, Bytes: k.bytes, Digest: k.digest}
	if k.loaded != nil && k.loaded.model.Frozen {
		s.Kernels, s.Precision = k.loaded.model.Kernels.String(), k.loaded.model.Precision.String()
	}
	if k.loaded != nil {
		s.Preprocessing, s.Assumed = k.loaded.pixels, k.loaded.assumption
	}
	r := m.routes.Load()
	label := r.labelOf(k.loaded)
	switch {
	case label != "":
		s.State, s.Label = StateServing, label
		if late := k.loaded.batcher.hang(); late != nil {
			s.Reason = CauseHangs + ": " + late.Error()
		}
		if label == LabelStable && m.trial != nil {
			s.Probation = m.trial.until
		}
	case k.loaded != nil:
		s.State = StateWarm
	case k == m.loading:
		s.State = StateLoading
	case d.against(k):
		r, _ := d.of(k.number)
		s.State, s.Reason = StateRejected, r.Cause+": "+r.Reason
	case k.hangs():
		s.State, s.Reason = StateRejected, CauseHangs+": "+k.hung+"; it is not loaded again until that run ends"
	case k.refused != nil:
		s.State, s.Retry = StateRefused, k.retry
		s.Gate, s.Reason = k.refused.Gate, k.refused.Err.Error()
	case m.passedOver(k, r, d):
		s.State = StateUnloaded
	default:
		s.State, s.Reason = StateFound, m.lateness()
	}
	return s
}

// passedOver tells whether a version that is not loaded has no turn as things
// are.
func (m *Manager) passedOver(k *known, r *routes, d decided) bool {
	newest := r.beside
	if newest == nil {
		newest = r.stable
	}
	return !m.config.Versions.allows(k.number) ||
		newest != nil && k.number < newest.info.Version ||
		d.Use != nil && !d.uses(k.number) && (!m.config.beside() || !d.mayFollow(k.number))
}
