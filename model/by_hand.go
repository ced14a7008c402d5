package model

import (
	"context"
	"errors"
	"fmt"

	"inceptor/model/infer"
	"inceptor/savedmodel"
)

// Errors of Use and Rollback.
var (
	ErrUnknownVersion = errors.New("no such version")
	ErrFailed         = errors.New("version has failed a gate")
	ErrNoWayBack      = errors.New("no version to go back to")
	ErrUnreadable     = errors.New("what was chosen before cannot be read")
	ErrOther          = errors.New("another version would be rolled back")
)

// Use chooses the version that serves, now and after a restart, even if there is a higher one. It
// returns before the version serves, since that may have to be loaded. A version that was rolled
// back is tried again. No version that is there now becomes a canary or shadow by itself any
// more. The error is ErrUnknownVersion, ErrFailed, ErrUnreadable, ErrForgotten or that of ctx.
// Run must be running.
func (m *Manager) Use(ctx context.Context, version int64) error {
	return m.ask(ctx, func() error { return m.reconciler.use(version) })
}

// UseHighest lets the highest version that passes its gates serve, as if none had been chosen. A
// canary or shadow serves at once. The error is ErrUnreadable, ErrForgotten or that of ctx. Run
// must be running.
func (m *Manager) UseHighest(ctx context.Context) error {
	return m.ask(ctx, m.reconciler.useHighest)
}

// Rollback goes back from the version that serves to the one that served before, which may have to
// be loaded. If there is a canary or shadow, it takes that away, and the stable version goes on.
// What is left is rolled back until its files change; so are the versions between the two, which
// would otherwise serve next. If none is known to have served before, the highest other version
// serves. It returns the number of the version that was rolled back. If only is not nil, no other
// version than that is rolled back. The error is ErrNoVersion, ErrNoWayBack, ErrOther or that of
// ctx. Run must be running.
func (m *Manager) Rollback(ctx context.Context, only *int64) (version int64, err error) {
	err = m.ask(ctx, func() (err error) {
		version, err = m.reconciler.rollBackNewest(only)
		return err
	})
	return version, err
}

// ask lets Run call a function between two rounds, and returns its error.
func (m *Manager) ask(ctx context.Context, what func() error) error {
	done := make(chan error, 1)
	select {
	case m.asked <- func() { done <- what() }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *reconciler) use(version int64) error {
	if err := r.stateFile.readable(); err != nil {
		return err
	}
	if candidates, err := scan(r.config.Dir); err == nil { // it may have been published just now
		r.remember(candidates)
	}
	if err := r.usable(version); err != nil {
		return fmt.Errorf("version %d: %w", version, err)
	}
	r.log.Info("version chosen by hand", "version", version)
	highest := version
	if order := r.order(); len(order) > 0 {
		highest = order[0].Version
	}
	return r.stateFile.change(func(d *decisions) { d.use(version, highest) })
}

func (r *reconciler) useHighest() error {
	if v := r.routes.secondary; v != nil { // without a choice it would become canary or shadow again
		return r.use(v.Info().Version)
	}
	if err := r.stateFile.readable(); err != nil {
		return err
	}
	r.log.Info("highest version chosen by hand")
	return r.stateFile.change((*decisions).useHighest)
}

func (r *reconciler) rollBackNewest(only *int64) (version int64, err error) {
	v := r.routes.secondary
	if v == nil {
		v = r.routes.stable
	}
	if v == nil {
		return 0, ErrNoVersion
	}
	version = v.Info().Version
	if only != nil && *only != version {
		return version, fmt.Errorf("version %d: %w: version %d", *only, ErrOther, version)
	}
	if v == r.routes.stable && !r.wayBack(version, r.stateFile.now()) {
		return version, fmt.Errorf("version %d: %w", version, ErrNoWayBack)
	}
	if t := r.probation; t != nil && t.ofPrecision(v) { // it would only change its precision
		r.probation = nil
	}
	d := r.stateFile.now()
	before := r.servedBefore(version, d)
	onlyStable := v == r.routes.stable
	r.rollBack(v, verdict{CauseByHand, "somebody asked for it"})
	if before == nil || !onlyStable {
		return version, nil
	}
	higher := r.higher(before.Version, version, r.stateFile.now())
	if d.uses(version) { // it was chosen, and so is the one before
		if len(higher) > 0 {
			passedOver := before.Version // not one that may still become a canary or shadow
			for _, e := range higher {
				if e.Version < version || !d.mayFollow(e.Version) {
					passedOver = max(passedOver, e.Version)
				}
			}
			r.decide(func(d *decisions) { d.use(before.Version, passedOver) })
		}
		return version, nil
	}
	why := fmt.Sprintf("passed over when version %d was rolled back to version %d", version, before.Version)
	passedOver := map[int64]rollbackRecord{}
	for _, e := range higher {
		if e.Version > version {
			continue // it is newer, and may serve once it has passed its gates
		}
		passedOver[e.Version] = rollbackRecord{e.digest, CauseByHand, why} // see inspect for the digest
		r.log.Info("version passed over, since a lower one serves by a rollback by hand", "version", e.Version)
	}
	if len(passedOver) > 0 {
		r.decide(func(d *decisions) {
			for n, record := range passedOver {
				d.rollBack(n, record)
			}
		})
	}
	return version, nil
}

// usable returns why a version may not be chosen by hand; nil: it may.
func (s *state) usable(version int64) error {
	e := s.versions[version]
	switch {
	case e == nil:
		return ErrUnknownVersion
	case !s.config.Versions.allows(version):
		return fmt.Errorf("%w that model.versions allows", ErrUnknownVersion)
	case e.failedForGood():
		return fmt.Errorf("%w: %w", ErrFailed, e.failed)
	}
	return nil
}

// Blame rolls a version back because native code crashed the process while it was unproven. If
// another precision of it was being tried, that is refused, and the version is not rolled back. It
// tells whether it did either: not if there is no other version. It must be called before Run.
func (m *Manager) Blame(version int64) bool {
	candidates, err := scan(m.config.Dir)
	if err != nil {
		return false
	}
	var guilty *infer.Folder
	for i, c := range candidates {
		if c.Version == version {
			guilty = &candidates[i]
		}
	}
	if guilty == nil {
		return false
	}
	digest, err := savedmodel.Digest(context.Background(), guilty.Dir)
	if err == nil && m.reconciler.search.blame(version, digest) {
		return true
	}
	if len(candidates) == 1 {
		return false
	}
	if err != nil {
		m.log.Warn("cannot roll back the version that crashed the process", "version", version, "err", err)
		return false
	}
	m.reconciler.recordRollBack(version, digest, verdict{CauseCrash, "native code crashed the process while it was being loaded, on probation, a canary or a shadow"})
	return true
}
