package model

import (
	"slices"
	"time"

	"inceptor/model/infer"
)

// A probation is the time after a switch in which the new version is compared with the one before.
type probation struct {
	before *infer.Version // stays loaded until the probation ends, if there was room
	until  time.Time
	// false: the version was chosen by hand. The one before stays loaded, but nothing is rolled
	// back by itself.
	judged bool
}

// over tells whether a probation has been passed: its time is up, and every run that began in it
// has ended. A probation is not over while such a run goes on, since that may turn out to hang.
// If the version is not judged, a run that is overdue does not prolong it.
func (t *probation) over(now time.Time, runs []infer.ActiveRun) bool {
	return now.After(t.until) && !slices.ContainsFunc(runs, func(u infer.ActiveRun) bool {
		return !u.Since.After(t.until) && (t.judged || u.Overdue == nil)
	})
}

// ofPrecision tells whether the version on probation is compared with itself in another precision.
func (t *probation) ofPrecision(v *infer.Version) bool {
	return v != nil && t.before.Info().Version == v.Info().Version
}
