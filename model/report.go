package model

import (
	"context"
	"log/slog"
	"time"

	"inceptor/model/infer"
)

// A reporter tells the log and the observer what becomes of versions. Only its reconciler's
// goroutine uses it.
type reporter struct {
	// Set once.
	log      *slog.Logger
	observer Observer

	lastUnproven *int64            // that the observer was told; nil: none
	reasons      map[string]string // the last reason of each problem
}

func newReporter(model string, log *slog.Logger, o Observer) *reporter {
	return &reporter{log: log.With("model", model), observer: o, reasons: map[string]string{}}
}

// problem logs a problem once, until its reason changes. An empty reason: it is over.
func (r *reporter) problem(what, reason string) {
	if reason != "" && reason != r.reasons[what] {
		r.log.Warn(what, "reason", reason)
	}
	r.reasons[what] = reason
}

// serving reports that a version serves; nil: none serves any more. again means that it had served
// before the version that was rolled back.
func (r *reporter) serving(v *infer.Version, again bool) {
	if v == nil {
		r.observer.VersionServing(0, false)
		r.observer.PrecisionServing("")
		return
	}
	args := []any{"version", v.Info().Version, "digest", v.Info().Digest}
	_, precision := v.Optimized()
	if precision != "" {
		args = append(args, "precision", precision)
	}
	r.observer.PrecisionServing(precision)
	if again {
		args = append(args, "again", true)
	}
	r.log.Info("version serving", args...)
	r.observer.VersionServing(v.Info().Version, true)
}

func (r *reporter) loaded(version int64, took infer.Durations) {
	r.observer.VersionLoaded(version, took)
	r.log.Info("version passed its gates", "version", version,
		"load", took.Load.Round(time.Millisecond), "warm_up", took.WarmUp.Round(time.Millisecond), "took", took.Gates.Round(time.Millisecond))
}

func (r *reporter) failed(e *versionEntry, err error) {
	r.observer.VersionFailed(e.Version, e.failed.Gate)
	infer.LogPanic(r.log, err, "version", e.Version, "gate", e.failed.Gate)
	r.log.Error("version failed", "version", e.Version, "gate", e.failed.Gate, "err", e.failed.Err, "again", !e.retry.IsZero())
}

func (r *reporter) rolledBack(version int64, why verdict) {
	level := slog.LevelError
	if why.cause == CauseByHand { // somebody has asked for it
		level = slog.LevelInfo
	}
	r.log.Log(context.Background(), level, "version rolled back", "version", version, "cause", why.cause, "reason", why.reason)
	r.observer.VersionRolledBack(version, why.cause)
}

// decided reports the verdict on a precision of a version, if there is one.
func (r *reporter) decided(e *versionEntry, precision string) {
	c := e.precisions.Candidates[precision]
	if c.Verdict == verdictRefused {
		r.log.Info("precision refused; the version does not run in it", "version", e.Version, "precision", precision, "reason", c.Reason)
	}
	if c.Verdict != "" {
		r.observer.PrecisionDecided(precision, c.Verdict)
	}
}

// unproven tells the observer which version is unproven, if it is another one than before; nil:
// none.
func (r *reporter) unproven(version *int64) {
	switch {
	case version == nil && r.lastUnproven != nil:
		r.observer.VersionUnproven(0, false)
	case version != nil && (r.lastUnproven == nil || *r.lastUnproven != *version):
		r.observer.VersionUnproven(*version, true)
	}
	r.lastUnproven = version
}
