package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"inceptor/savedmodel"
)

// A trial is the probation of the version that serves.
type trial struct {
	before *version // stays loaded until then, if there was room
	until  time.Time
	judged bool // else only the way back is kept open
}

// newTrial begins the probation of a version, if there is one. What was
// chosen by hand is not taken back by itself.
func (m *Manager) newTrial(before, v *version, d decided) *trial {
	if before == nil || before.info.Version == v.info.Version || m.config.Probation.Period == 0 {
		return nil
	}
	if _, bad := d.of(before.info.Version); bad {
		return nil // there is no way back to that one
	}
	if before.batcher.isStuck() {
		return nil // nor to one that hangs
	}
	v.vitals.forget()
	return &trial{before, time.Now().Add(m.config.Probation.Period), !d.uses(v.info.Version)}
}

// over tells whether a probation has been passed: its time is up, and every run
// that began in it has ended. One that hangs has yet to be found overdue. If the
// version is not judged, nothing comes of that, and an overdue run does not count.
func (t *trial) over(now time.Time, runs []underway) bool {
	return now.After(t.until) && !slices.ContainsFunc(runs, func(u underway) bool {
		return !u.since.After(t.until) && (t.judged || u.overdue == nil)
	})
}

// judge takes back what fares badly: the version that serves, on probation,
// and a canary or shadow at any time. It tells whether it did.
func (m *Manager) judge() bool {
	r := m.routes.Load()
	if v := r.beside; v != nil && r.stable != nil {
		p, runs := m.config.Probation, v.batcher.underway()
		if r.label == LabelShadow {
			p.Slowdown, runs = 0, nil // it gets what time is left
		}
		if bad := p.verdict(&v.vitals, &r.stable.vitals, runs); bad != nil {
			m.reject(v, *bad)
			return true
		}
	}
	if t := m.trial; t != nil && t.judged && r.stable != nil {
		if bad := m.config.Probation.verdict(&r.stable.vitals, &t.before.vitals, r.stable.batcher.underway()); bad != nil {
			m.reject(r.stable, *bad)
			return true
		}
	}
	return false
}

// reject takes a version back until its files change. If the one before is
// still loaded, it serves from now on. If nothing can serve in its place, it
// goes on until another version is loaded.
func (m *Manager) reject(v *version, why verdict) {
	if !m.withdraw(v) && why.cause == CauseHangs {
		defer v.batcher.abandon() // another version answers its images
	}
	// The routes come first: the file may be locked.
	m.takeBack(v.info.Version, v.info.Digest, why)
}

// withdraw lets the version before answer in place of one, if it is loaded. It
// tells whether that one goes on.
func (m *Manager) withdraw(v *version) (goesOn bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known[v.info.Version].since = time.Now()
	r := m.routes.Load()
	next := *r
	switch {
	case v == r.beside:
		next.beside, next.label, next.canary = nil, "", 0
	case v == r.stable && m.trial != nil && m.isLoaded(m.trial.before):
		next.stable = m.trial.before
		m.log.Info("serving", "model", m.config.Name, "version", next.stable.info.Version, "digest", next.stable.info.Digest, "again", true)
		m.observer.VersionServing(next.stable.info.Version, true)
		m.known[next.stable.info.Version].since = time.Now()
	}
	if v == r.stable {
		m.trial = nil
	}
	m.routes.Store(&next)
	return next.labelOf(v) != ""
}

// Blame takes a version back because native code crashed the process while it
// was new. It tells whether it did: not if there is no other version. To be
// called before Run.
func (m *Manager) Blame(version int64) bool {
	candidates, err := scan(m.config.Dir)
	if err != nil {
		return false
	}
	var guilty *candidate
	for i, c := range candidates {
		if c.number == version {
			guilty = &candidates[i]
		}
	}
	if guilty == nil || len(candidates) == 1 {
		return false
	}
	digest, err := savedmodel.Digest(context.Background(), guilty.dir)
	if err != nil {
		m.log.Warn("a version that crashed the process cannot be taken back", "version", version, "err", err)
		return false
	}
	m.takeBack(version, digest, verdict{CauseCrash, "native code crashed the process while it was loaded or on probation"})
	return true
}

// takeBack notes that a version is not to serve until its files change.
func (m *Manager) takeBack(version int64, digest string, why verdict) {
	m.log.Error("taken back", "model", m.config.Name, "version", version, "cause", why.cause, "reason", why.reason)
	m.observer.VersionRejected(version, why.cause)
	m.decide(func(d *decided) { d.takeBack(version, rejected{digest, why.cause, why.reason}) })
}

func (m *Manager) isLoaded(v *version) bool {
	k := m.known[v.info.Version]
	return k != nil && k.loaded == v
}

// Errors of Use and Rollback.
var (
	ErrUnknownVersion = errors.New("no such version")
	ErrRefused        = errors.New("version was refused")
	ErrNoWayBack      = errors.New("no version to go back to")
	ErrUnreadable     = errors.New("what was chosen before cannot be read")
)

// Use lets a version serve, now and after a restart, whatever else is there. It
// returns before that: the version may have to be loaded. A version that was
// taken back is tried again. No version that is there becomes a canary or
// shadow by itself any more. Its error is ErrUnknownVersion, ErrRefused,
// ErrUnreadable, ErrForgotten or that of ctx. Run must be running.
func (m *Manager) Use(ctx context.Context, version int64) error {
	return m.ask(ctx, func() error { return m.use(version) })
}

// UseHighest lets the highest version serve that passes its gates, as if none
// had been chosen. A canary or shadow serves at once. Its error is
// ErrUnreadable, ErrForgotten or that of ctx. Run must be running.
func (m *Manager) UseHighest(ctx context.Context) error {
	return m.ask(ctx, func() error {
		if v := m.routes.Load().beside; v != nil { // which would begin beside again
			return m.use(v.info.Version)
		}
		if err := m.readable(); err != nil {
			return err
		}
		m.log.Info("chosen by hand: the highest version", "model", m.config.Name)
		return m.choice.change((*decided).useHighest)
	})
}

func (m *Manager) use(version int64) error {
	if err := m.readable(); err != nil {
		return err
	}
	if err := m.usable(version); err != nil {
		return fmt.Errorf("version %d: %w", version, err)
	}
	m.log.Info("chosen by hand", "model", m.config.Name, "version", version)
	highest := version
	if order := m.order(); len(order) > 0 {
		highest = order[0].number
	}
	return m.choice.change(func(d *decided) { d.use(version, highest) })
}

// readable fails where it is not known what was chosen: a change that cannot be
// added to it is not made.
func (m *Manager) readable() error {
	if _, err := m.choice.read(); unreadable(err) {
		return fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return nil
}

func (m *Manager) usable(version int64) error {
	if candidates, err := scan(m.config.Dir); err == nil { // it may just have come
		m.remember(candidates)
	}
	k := m.known[version]
	switch {
	case k == nil:
		return ErrUnknownVersion
	case !m.config.Versions.allows(version):
		return fmt.Errorf("%w that model.versions allows", ErrUnknownVersion)
	case k.refused != nil && k.retry.IsZero():
		return fmt.Errorf("%w: %w", ErrRefused, k.refused)
	}
	return nil
}

// Rollback takes the newest version back that answers, until its files change:
// the canary or shadow if there is one, else the one that serves; then the
// version before serves, which may have to be loaded. It returns the number of
// the version that goes. Its error is ErrNoVersion, ErrNoWayBack or that of
// ctx. Run must be running.
func (m *Manager) Rollback(ctx context.Context) (version int64, err error) {
	err = m.ask(ctx, func() error {
		r := m.routes.Load()
		v := r.beside
		if v == nil {
			v = r.stable
		}
		if v == nil {
			return ErrNoVersion
		}
		version = v.info.Version
		if v == r.stable && !m.wayBack(version) {
			return fmt.Errorf("version %d: %w", version, ErrNoWayBack)
		}
		m.reject(v, verdict{CauseByHand, "rolled back by hand"})
		return nil
	})
	return version, err
}

// wayBack tells whether there is a version that may serve in place of another.
func (m *Manager) wayBack(version int64) bool {
	d := m.choice.now()
	for _, k := range m.known {
		if k.number != version && !d.against(k) && m.config.Versions.allows(k.number) &&
			(k.loaded != nil || k.number < version && k.there && (k.refused == nil || !k.retry.IsZero())) {
			return true
		}
	}
	return false
}
