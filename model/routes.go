package model

import (
	"context"
	"hash/fnv"
)

// The labels of versions that answer, as TensorFlow Serving's version labels.
const (
	LabelStable = "stable" // answers, but for what a canary takes
	LabelCanary = "canary" // answers a part of the keys
	LabelShadow = "shadow" // answers beside the stable one, to be compared
)

// The values of Config.Rollout.
const (
	rolloutSwap   = "swap"
	rolloutCanary = "canary"
	rolloutShadow = "shadow"
)

// routes say who answers. They are never changed, only replaced.
type routes struct {
	stable *version // nil: nobody serves
	beside *version // canary or shadow; nil: there is none
	label  string   // of beside
	canary float64  // percentage of the keys that beside answers

	paused <-chan struct{} // not nil: closed when coming is loaded, or what was there before again
	coming int64
	before *version // that served before the pause, and is closed
}

// pick is the version that answers images of this key, with its label.
func (r *routes) pick(key []byte) (*version, string) {
	if r.canary > 0 && r.beside != nil && share(key) < r.canary {
		return r.beside, LabelCanary
	}
	return r.stable, LabelStable
}

// share maps a key to a percentage, evenly and everywhere alike.
func share(key []byte) float64 {
	h := fnv.New32a()
	_, _ = h.Write(key) // it has no errors
	// FNV's high bits hardly depend on the last bytes of a short key.
	x := h.Sum32()
	x ^= x >> 16
	x *= 0x85ebca6b
	x ^= x >> 13
	return float64(x) / (1 << 32) * 100
}

// acquire leases the version that answers the key; drop ends the lease. It
// waits while there is a pause.
func (m *Manager) acquire(ctx context.Context, key []byte) (*version, string, error) {
	for {
		r := m.routes.Load()
		if r.paused != nil {
			select {
			case <-r.paused:
				continue
			case <-ctx.Done():
				return nil, "", ctx.Err()
			}
		}
		v, label := r.pick(key)
		if v == nil {
			return nil, "", ErrNoVersion
		}
		if v.retain() {
			return v, label, nil
		}
	}
}

// acquireLabel leases the version that has a label. It does not wait.
func (m *Manager) acquireLabel(label string) (*version, error) {
	r := m.routes.Load()
	v := r.stable
	if label != LabelStable {
		v = r.beside
		if r.label != label {
			v = nil
		}
	}
	if v == nil || !v.retain() {
		return nil, ErrNoVersion
	}
	return v, nil
}

// labelOf is the label that a version has, if any.
func (r *routes) labelOf(v *version) string {
	switch v {
	case nil:
		return ""
	case r.stable:
		return LabelStable
	case r.beside:
		return r.label
	}
	return ""
}
