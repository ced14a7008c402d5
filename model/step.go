package model

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// A plan says which versions should be loaded, and what for.
type plan struct {
	stable *known   // nil: none can be loaded
	beside *known   // canary or shadow
	spares []*known // that the policy keeps
	again  time.Duration
}

// all are the versions that should be loaded, the most urgent first.
func (p plan) all() []*known {
	list := make([]*known, 0, 2+len(p.spares))
	for _, k := range append([]*known{p.stable, p.beside}, p.spares...) {
		if k != nil {
			list = append(list, k)
		}
	}
	return list
}

// step does what there is to be done, and returns when to look again at the
// latest. A load is started at most once at a time; what it brings is for a
// later step.
func (m *Manager) step(ctx context.Context, quiet time.Duration) time.Duration {
	d, err := m.choice.read()
	m.notice(err)
	if m.judge() {
		d = m.choice.now()
	}
	if unreadable(err) && m.resume == nil {
		// What serves goes on, and images that wait for a version get it. No
		// other version serves: it may be the one that was taken back.
		m.tellTried()
		return m.pace()
	}
	p := m.plan(quiet, d)
	m.route(p, d)
	m.keepStable(d)
	m.sweep(p)
	if m.loading == nil && ctx.Err() == nil {
		m.loadNext(ctx, p)
	}
	m.tellTried()
	return p.again
}

// notice tells, once, that the choice cannot be read, or can be again.
func (m *Manager) notice(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	m.note("choice cannot be read", text)
	if unreadable(err) {
		m.unread.Store(&err)
	} else {
		m.unread.Store(nil)
	}
}

// unknown is why no version may begin to serve; nil: nothing speaks against it.
func (m *Manager) unknown() error {
	if err := m.unread.Load(); err != nil {
		return fmt.Errorf("nothing new serves until it can be read: %w", *err)
	}
	return nil
}

// pace is when to look again while nothing is to be done.
func (m *Manager) pace() time.Duration {
	if m.trial != nil || m.routes.Load().beside != nil {
		return min(m.config.Poll, judgeEvery)
	}
	return m.config.Poll
}

// tellTried tells the observer which version has yet to prove itself.
func (m *Manager) tellTried() {
	var tried *int64
	r := m.routes.Load()
	switch {
	case m.loading != nil:
		tried = &m.loading.number
	case r.beside != nil:
		tried = &r.beside.info.Version
	case m.trial != nil && r.stable != nil:
		tried = &r.stable.info.Version
	case len(m.late) > 0:
		tried = &m.late[0].number
	}
	switch {
	case tried == nil && m.tried != nil:
		m.observer.VersionTried(0, false)
	case tried != nil && (m.tried == nil || *m.tried != *tried):
		m.observer.VersionTried(*tried, true)
	}
	m.tried = tried
}

// plan decides what should be loaded by what there is. It prefers a higher
// version, but one that serves to one that has yet to pass.
func (m *Manager) plan(quiet time.Duration, d decided) plan {
	p := plan{again: m.pace()}
	// ready tells whether a version is loaded, or may be tried now.
	ready := func(k *known) bool {
		if k.loaded != nil {
			return !d.against(k) && !k.loaded.batcher.isStuck()
		}
		if k == m.loading || !k.there {
			return k == m.loading
		}
		wait := m.rest(k, quiet, d)
		if wait > 0 {
			p.again = min(p.again, wait)
		}
		return wait <= 0
	}
	order := m.order()
	if len(order) > 0 {
		desired := order[0].number
		if d.Use != nil {
			desired = *d.Use
		}
		m.observer.VersionDesired(desired)
	}
	serving := m.servingKnown()
	good := serving != nil && !d.against(serving) && !serving.hangs()
	if slices.ContainsFunc(order, func(k *known) bool { return d.uses(k.number) && k.hangs() }) {
		d.Use = nil // any other one is better, until its runs end
	}
	if m.config.beside() && serving == nil && !slices.ContainsFunc(order, func(k *known) bool { return d.uses(k.number) }) {
		d.Use = nil // the version that was stable is no more
	}
	if serving == nil {
		// What a load has just brought serves first, whatever came meanwhile.
		if p.stable = ofLoaded(order, d); p.stable != nil {
			p.again = 0
			return p
		}
	}
	for _, k := range order {
		if d.Use != nil && !d.uses(k.number) {
			continue
		}
		newer := d.Use == nil && serving != nil && k.number > serving.number
		if newer && m.config.beside() && good {
			continue // it comes beside first
		}
		if newer && m.trial != nil && good {
			continue // one after the other
		}
		if ready(k) {
			p.stable = k
			break
		}
	}
	missing := ""
	if d.Use != nil && p.stable == nil && serving == nil {
		missing = fmt.Sprintf("version %d was chosen by hand and cannot be loaded, and no other one is taken", *d.Use)
	}
	m.note("nothing serves", missing)
	if p.stable == nil && serving != nil {
		p.stable = serving // whatever else: it goes on
	}
	if serving == nil {
		return p // first things first
	}
	if m.config.beside() {
		for _, k := range order {
			if k.number > p.stable.number && d.mayFollow(k.number) && ready(k) {
				p.beside = k
				break
			}
		}
	}
	for _, k := range order {
		if len(p.spares) == m.config.Versions.spares() {
			break
		}
		if k != p.stable && k != p.beside && ready(k) {
			p.spares = append(p.spares, k)
		}
	}
	return p
}

// ofLoaded is the version to serve among those that are loaded, if any is: the
// one chosen by hand before the highest.
func ofLoaded(order []*known, d decided) *known {
	var best *known
	for _, k := range order {
		if k.loaded != nil && !d.against(k) && (best == nil || d.uses(k.number)) {
			best = k
		}
	}
	return best
}

func (m *Manager) servingKnown() *known {
	if v := m.routes.Load().stable; v != nil {
		return m.known[v.info.Version]
	}
	return nil
}

// route lets those answer that are loaded and should.
func (m *Manager) route(p plan, d decided) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.routes.Load()
	if old.paused != nil && m.loading != nil {
		return // in place of what served
	}
	next := routes{stable: old.stable, beside: old.beside, label: old.label, canary: old.canary}
	if p.stable != nil && p.stable.loaded != nil {
		next.stable = p.stable.loaded
	}
	switch {
	case p.beside != nil && p.beside.loaded != nil:
		next.beside, next.label = p.beside.loaded, m.config.Rollout
	case p.beside == nil || old.beside == next.stable:
		next.beside = nil
	}
	if next.beside == nil {
		next.label, next.canary = "", 0
	}
	if next.label == LabelCanary {
		next.canary = m.config.Canary
	}
	if next == *old {
		return
	}
	m.routes.Store(&next)
	before := old.stable
	if old.paused != nil {
		before = old.before
		close(m.resume)
		m.resume = nil
	}
	if next.beside != old.beside && next.beside != nil {
		m.begin(next.beside, next.label)
		m.log.Info("serving beside", "model", m.config.Name, "version", next.beside.info.Version, "label", next.label)
	}
	if next.stable == before {
		return
	}
	if next.stable == nil {
		m.observer.VersionServing(0, false)
		return
	}
	m.begin(next.stable, LabelStable)
	m.trial = m.newTrial(before, next.stable, d)
	m.log.Info("serving", "model", m.config.Name, "version", next.stable.info.Version, "digest", next.stable.info.Digest)
	m.observer.VersionServing(next.stable.info.Version, true)
	if before == nil {
		m.once.Do(func() { close(m.ready) })
	}
}

// keepStable notes which version is stable while a newer one may answer beside
// it, else a restart would find that one first; and that what was chosen by
// hand serves.
func (m *Manager) keepStable(d decided) {
	k := m.servingKnown()
	if k == nil || d.against(k) {
		return
	}
	version := k.number
	switch {
	case m.config.beside() && d.Use == nil:
		m.decide(func(d *decided) {
			if d.Use == nil {
				d.Use = &version
			}
		})
	case d.uses(version) && d.Before != nil:
		m.decide(func(d *decided) {
			if d.uses(version) {
				d.served()
			}
		})
	}
}

// begin lets a version answer. A shadow is left what others do not need.
func (m *Manager) begin(v *version, label string) {
	if label != LabelShadow {
		v.raise()
	}
	v.live.Store(true)
	m.known[v.info.Version].since = time.Now()
}

// decide changes the choice, and says if it cannot be kept.
func (m *Manager) decide(how func(*decided)) {
	if err := m.choice.change(how); err != nil {
		m.log.Warn("choice is not kept", "err", err)
	}
}

// sweep unloads what has no use any more.
func (m *Manager) sweep(p plan) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.routes.Load()
	if m.trial != nil && m.trial.over(time.Now(), r.stable.batcher.underway()) {
		m.log.Info("passed its probation", "model", m.config.Name, "version", r.stable.info.Version)
		m.trial = nil
	}
	for _, k := range m.known {
		v := k.loaded
		if v == nil || r.labelOf(v) != "" || k == p.stable || k == p.beside || slices.Contains(p.spares, k) {
			continue
		}
		if m.trial != nil && m.trial.before == v {
			continue
		}
		m.unload(k)
	}
}
