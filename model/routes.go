package model

import (
	"hash/fnv"

	"inceptor/model/infer"
)

// The labels of versions that serve, like TensorFlow Serving's version labels.
const (
	LabelStable = "stable" // answers all keys, except a canary's
	LabelCanary = "canary" // answers a part of the keys
	LabelShadow = "shadow" // gets the stable version's records too; its answers are only compared
)

// The values of Config.Rollout.
const (
	rolloutSwap   = "swap"
	rolloutCanary = "canary"
	rolloutShadow = "shadow"
)

// routes say which version answers a record. They are replaced, never changed.
type routes struct {
	stable    *infer.Version // nil: no version serves
	secondary *infer.Version // canary or shadow; nil: there is none
	label     string         // of secondary
	canary    float64        // percentage of the keys that secondary answers

	// While version coming takes the place of another one.
	paused <-chan struct{} // not nil: records wait. Closed when coming serves, or the version before again
	coming int64
	before *infer.Version // served before the pause, and is unloaded
}

// pick returns the version that answers records of this key, and its label.
func (r *routes) pick(key []byte) (*infer.Version, string) {
	if r.canary > 0 && r.secondary != nil && percentOf(key) < r.canary {
		return r.secondary, LabelCanary
	}
	return r.stable, LabelStable
}

// percentOf maps a key to a number from 0 to 100. The keys are spread evenly, and every process
// maps a key to the same number.
func percentOf(key []byte) float64 {
	h := fnv.New32a()
	_, _ = h.Write(key) // never fails
	// FNV's high bits hardly depend on the last bytes of a short key.
	x := h.Sum32()
	x ^= x >> 16
	x *= 0x85ebca6b
	x ^= x >> 13
	return float64(x) / (1 << 32) * 100
}

// labelOf returns the label of a version; empty: it has none.
func (r *routes) labelOf(v *infer.Version) string {
	switch v {
	case nil:
		return ""
	case r.stable:
		return LabelStable
	case r.secondary:
		return r.label
	}
	return ""
}

// serving returns the version that serves or, in a pause, that served before it; nil: none.
func (r *routes) serving() *infer.Version {
	if r.paused != nil {
		return r.before
	}
	return r.stable
}
