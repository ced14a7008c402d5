package model

import (
	"fmt"
	"slices"
	"time"

	"inceptor/model/infer"
)

// actions are what a plan says to do, in the order of the fields.
type actions struct {
	// If one of these is set, nothing else is. Do it, then plan again.
	rollBack *rollBack
	inspect  *versionEntry // look at its files, and at the memory that is left

	problems []problem
	desired  *int64          // the version that should serve; nil: there is none
	cleared  []*versionEntry // their files changed since the rollback, which goes from the state file

	// The versions that should be loaded, and what for.
	stable    *versionEntry   // nil: none can be
	secondary *versionEntry   // canary or shadow; nil: none
	standby   []*versionEntry // kept loaded, as model.versions says

	routes    *routes    // from now on
	probation *probation // of the version that serves from now on; nil: it is not on probation
	passed    bool       // the version that serves has passed its probation
	// Write to the state file that this version is chosen: it is stable, and after a restart its
	// canary or shadow would serve in its place, since that is higher.
	choose *int64
	// Write to the state file that the chosen version has served, so that the choice before it, to
	// which a failed choice goes back, can go.
	served *int64

	unload   []*versionEntry
	fail     []failure
	load     *versionEntry // nil: nothing is loaded now
	replaces *versionEntry // is unloaded first, and load takes its place; nil: none
	noRoom   error         // how much memory is lacking, if replaces is set; nil: model.copies is one

	// The version that serves, in another precision.
	drop      bool          // end the candidate
	step      candidateStep // to begin; stepAdopt: routes and probation are already of the candidate
	precision string        // of the step
	// Release what these versions ran in before.
	release []*versionEntry

	again time.Duration // until the next round, at the latest
}

// A rollBack says which version is rolled back, and why.
type rollBack struct {
	v   *infer.Version
	why verdict
}

// A failure says which version fails without a load, and why.
type failure struct {
	entry *versionEntry
	err   error
}

// A problem is logged once, until its reason changes. With an empty reason it is over.
type problem struct{ what, reason string }

// plan says what to do next. It only reads its arguments: the state, which observe has filled in,
// the decisions of the state file, and the time.
func plan(s *state, d decisions, now time.Time) actions {
	p := planner{s: s, d: d, now: now, actions: actions{routes: s.routes, probation: s.probation, again: s.pace()}}
	if p.rollBack = s.guilty(); p.rollBack != nil {
		return p.actions
	}
	if s.unreadable != nil && s.routes.paused == nil {
		// The version that serves goes on, and records that wait get it. No other version may
		// serve: it may be the one that was rolled back.
		return p.actions
	}
	p.want()
	if p.inspect != nil {
		return actions{inspect: p.inspect}
	}
	p.route()
	p.keepStable()
	p.endProbation()
	p.sweep()
	p.loadNext()
	p.tryPrecision()
	return p.actions
}

// A planner makes one plan, rule by rule. Not for concurrent use.
type planner struct {
	s   *state
	d   decisions
	now time.Time
	actions
}

// guilty returns the version to roll back, and why: a canary or shadow at any time, or the
// version that serves, on probation. Nil: none.
func (s *state) guilty() *rollBack {
	if v := s.routes.secondary; v != nil && s.health[v].fault != nil {
		return &rollBack{v, *s.health[v].fault}
	}
	if v := s.routes.stable; v != nil && s.probation != nil && s.health[v].fault != nil {
		return &rollBack{v, *s.health[v].fault}
	}
	return nil
}

// want decides which versions should be loaded: the highest ones. The version that serves goes on
// until a higher one has passed its gates.
func (p *planner) want() {
	order := p.s.order()
	if len(order) > 0 {
		p.desired = new(order[0].Version)
		if p.d.Use != nil {
			p.desired = p.d.Use
		}
	}
	use, serving := p.use(order), p.s.entry(p.s.routes.stable)
	if serving == nil {
		// A version that was just loaded serves first, even if a higher one was published
		// meanwhile.
		if p.stable = p.loadedOf(order, use); p.stable != nil {
			p.again = 0
			return
		}
	}
	p.stable = p.best(order, use, serving)
	missing := ""
	if use != nil && p.stable == nil && serving == nil {
		missing = fmt.Sprintf("version %d was chosen by hand and cannot be loaded, and no other one is taken", *use)
	}
	p.problems = append(p.problems, problem{"nothing serves", missing})
	if serving == nil {
		return // a version that serves comes first
	}
	if p.stable == nil {
		p.stable = serving // no other version can serve: it goes on
	}
	if p.s.config.hasSecondary() {
		for _, e := range order {
			if e.Version > p.stable.Version && p.d.mayFollow(e.Version) && p.ready(e) {
				p.secondary = e
				break
			}
		}
	}
	for _, e := range order {
		if len(p.standby) == p.s.config.Versions.standby() {
			break
		}
		if e != p.stable && e != p.secondary && p.ready(e) {
			p.standby = append(p.standby, e)
		}
	}
}

// use returns the version that was chosen by hand, if the choice applies now; nil: the highest
// version is to serve.
func (p *planner) use(order []*versionEntry) *int64 {
	chosen := slices.IndexFunc(order, func(e *versionEntry) bool { return p.d.uses(e.Version) })
	switch {
	case chosen >= 0 && p.s.hangs(order[chosen]):
		return nil // any other one is better, until its runs end
	case chosen < 0 && p.s.config.hasSecondary() && p.s.routes.stable == nil:
		return nil // the version that was stable is gone
	}
	return p.d.Use
}

// loadedOf returns the version to serve of those that are loaded: the one that was chosen by
// hand, or else the highest. Nil: none is loaded.
func (p *planner) loadedOf(order []*versionEntry, use *int64) *versionEntry {
	var best *versionEntry
	for _, e := range order {
		if e.loaded != nil && !p.d.forbids(e) && (best == nil || use != nil && *use == e.Version) {
			best = e
		}
	}
	return best
}

// best returns the version that should be stable; nil: there is none that is loaded or may be.
func (p *planner) best(order []*versionEntry, use *int64, serving *versionEntry) *versionEntry {
	good := serving != nil && !p.d.forbids(serving) && !p.s.hangs(serving)
	for _, e := range order {
		if use != nil && *use != e.Version {
			continue
		}
		newer := use == nil && serving != nil && e.Version > serving.Version
		if newer && good && (p.s.config.hasSecondary() || p.s.probation != nil) {
			continue // it is a canary or shadow first, or waits for the end of the probation
		}
		if p.ready(e) {
			return e
		}
	}
	return nil
}

// ready tells whether a version is loaded, or may be loaded now. It sets inspect if that depends on
// its files, and they were not looked at in this round.
func (p *planner) ready(e *versionEntry) bool {
	switch {
	case e.loaded != nil:
		return !p.d.forbids(e) && !p.s.health[e.loaded].stuck
	case e == p.s.loading:
		return true
	case !e.current:
		if p.inspect == nil {
			p.inspect = e
		}
		return false
	}
	if wait := e.wait(p.now, p.s.quiet, p.s.config.Poll); wait > 0 {
		p.again = min(p.again, wait)
		return false
	}
	r, rolledBack := p.d.rollbackOf(e.Version)
	switch {
	case rolledBack && r.holds(e.digest):
		return false
	case rolledBack && e.digest != "": // without one the files cannot be read, and a gate tells why
		p.cleared = append(p.cleared, e)
	}
	return true
}

// route decides which of the loaded versions answer. While one version takes the place of another,
// nothing changes.
func (p *planner) route() {
	old := p.s.routes
	if old.paused != nil && p.s.loading != nil {
		return
	}
	next := routes{stable: old.stable, secondary: old.secondary, label: old.label, canary: old.canary}
	if p.stable != nil && p.stable.loaded != nil {
		next.stable = p.stable.loaded
	}
	switch {
	case p.secondary != nil && p.secondary.loaded != nil:
		next.secondary, next.label = p.secondary.loaded, p.s.config.Rollout
	case p.secondary == nil || old.secondary == next.stable:
		next.secondary = nil
	}
	if next.secondary == nil {
		next.label, next.canary = "", 0
	}
	if next.label == LabelCanary {
		next.canary = p.s.config.Canary
	}
	if next == *old {
		return
	}
	p.routes = &next
	if before := old.serving(); next.stable != nil && next.stable != before {
		p.probation = p.newProbation(before, next.stable)
	}
}

// newProbation returns the probation of a version that begins to serve; nil: it has none, since
// there is no version to go back to. A version that was chosen by hand is not judged.
func (p *planner) newProbation(before, v *infer.Version) *probation {
	period := p.s.config.Probation.Period
	if before == nil || before.Info().Version == v.Info().Version || period == 0 || p.s.health[before].stuck {
		return nil
	}
	if _, rolledBack := p.d.rollbackOf(before.Info().Version); rolledBack {
		return nil
	}
	return &probation{before, p.now.Add(period), !p.d.uses(v.Info().Version)}
}

// keepStable decides what the state file has to say about the stable version: see choose and
// served.
func (p *planner) keepStable() {
	e := p.s.entry(p.routes.stable)
	switch {
	case e == nil || p.d.forbids(e):
	case p.s.config.hasSecondary() && p.d.Use == nil:
		p.choose = new(e.Version)
	case p.d.uses(e.Version) && p.d.Before != nil:
		p.served = new(e.Version)
	}
}

func (p *planner) endProbation() {
	if p.probation != nil && p.probation.over(p.now, p.s.health[p.routes.stable].runs) {
		p.probation, p.passed = nil, true
	}
}

// sweep unloads versions that are not needed any more.
func (p *planner) sweep() {
	for _, e := range p.s.order() {
		if e.before != nil && (p.probation == nil || p.probation.before != e.before) {
			p.release = append(p.release, e)
		}
		switch {
		case e.loaded == nil, p.routes.labelOf(e.loaded) != "":
		case e == p.stable, e == p.secondary, slices.Contains(p.standby, e):
		case p.probation != nil && p.probation.before == e.loaded:
		default:
			p.unload = append(p.unload, e)
		}
	}
}

// loadNext loads the most urgent version that should be loaded and is not, one at a time.
func (p *planner) loadNext() {
	if p.s.loading != nil {
		return
	}
	waits := p.s.waits()
	p.problems = append(p.problems, problem{"no version can be loaded now", waits})
	if waits != "" {
		return
	}
	serving := p.s.entry(p.routes.stable)
	for _, e := range append([]*versionEntry{p.stable, p.secondary}, p.standby...) {
		if e == nil || e.loaded != nil {
			continue
		}
		if serving == nil {
			p.load = e
			return
		}
		noRoom, copies := p.s.lacksRoom(e), p.s.config.Copies
		switch {
		case e == p.stable && (copies == copiesOne || noRoom != nil && copies == copiesAuto):
			p.load, p.replaces, p.noRoom = e, serving, noRoom
			return
		case noRoom == nil:
			p.load = e
			return
		}
		p.fail = append(p.fail, failure{e, infer.AtGate(infer.GateMemory, noRoom)})
	}
}
