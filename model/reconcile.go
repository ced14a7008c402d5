package model

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"inceptor/internal/host"
	"inceptor/model/infer"
	"inceptor/savedmodel"
)

// A reconciler decides which versions are loaded, and which of them answer. It follows the
// directory, the state file, and how the versions run. One goroutine uses it, that of
// Manager.Load or Manager.Run: round after round it observes, plans (see plan) and applies. Only
// loads run in the background, one at a time. Other goroutines read published.
type reconciler struct {
	// Set once, by newReconciler.
	log       *slog.Logger
	stateFile *stateFile
	published *published
	loads     *loads
	recent    *images // for the gate agreement; nil: there is no such gate
	memory    func() (available uint64, known bool)

	// Used by its goroutine only.
	state
	report *reporter
	search *precisionSearch
}

func newReconciler(c Config, log *slog.Logger, o Observer, f *stateFile, p *published, l *loads, recent *images) *reconciler {
	r := &reconciler{
		log: log.With("model", c.Name), stateFile: f, published: p, loads: l, recent: recent, memory: host.AvailableMemory,
		state:  state{config: c, versions: map[int64]*versionEntry{}, routes: &routes{}},
		report: newReporter(c.Name, log, o),
	}
	r.search = newPrecisionSearch(r)
	return r
}

// reconcile makes one round, and returns how long the next one may wait at most.
func (r *reconciler) reconcile(ctx context.Context) time.Duration {
	now := time.Now() // before observe, so that no run is missed
	d := r.observe()
	for {
		p := plan(&r.state, d, now)
		switch {
		case p.rollBack != nil:
			r.rollBack(p.rollBack.v, p.rollBack.why)
			d = r.stateFile.now()
		case p.inspect != nil:
			r.inspect(p.inspect, d, now)
		default:
			r.apply(ctx, p, now)
			return p.again
		}
	}
}

// observe reads the state file, and looks at the runs and overdue loads of versions.
func (r *reconciler) observe() decisions {
	d, err := r.stateFile.read()
	r.unreadable = nil
	if unreadable(err) {
		r.unreadable = err
	}
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	r.report.problem("cannot read the state file", reason)
	r.overdueLoads = slices.DeleteFunc(r.overdueLoads, func(l overdueLoad) bool { return isClosed(l.ended) })
	r.health = map[*infer.Version]health{}
	for _, e := range r.versions {
		e.current = false
		if e.overdue != nil && isClosed(e.overdue) {
			e.overdue, e.overdueRun = nil, ""
		}
		if e.leaving != nil && isClosed(e.leaving.Freed()) {
			e.leaving = nil
		}
		if v := e.loaded; v != nil {
			r.health[v] = health{stuck: v.IsStuck(), runs: v.ActiveRuns()}
		}
	}
	if v := r.routes.before; v != nil { // it is unloaded
		r.health[v] = health{stuck: v.IsStuck()}
	}
	if len(r.config.candidates()) > 0 && r.loading == nil {
		r.memoryLeft, r.memoryKnown = r.memory()
	}
	r.judge()
	return d
}

// inspect looks at a version's files, and at how much memory is left.
func (r *reconciler) inspect(e *versionEntry, d decisions, now time.Time) {
	e.current = true
	r.memoryLeft, r.memoryKnown = r.memory()
	files, bytes, last, err := fingerprintOf(e.Dir)
	if err != nil && !isThere(r.config.Dir, e.Folder) { // since the scan
		e.there = false
		return
	}
	// If files of a version that is there cannot be read, a gate tells why.
	if !e.seen || files != e.files {
		since := now
		if !e.seen {
			r.log.Info("version found", "version", e.Version)
			if !r.scanned && last.Before(now) {
				since = last // it was there before this process, and has rested since
			}
		}
		e.changed(files, bytes, since)
	}
	record, rolledBack := d.rollbackOf(e.Version)
	if !rolledBack || e.wait(now, r.quiet, r.config.Poll) > 0 {
		return
	}
	if serving := r.entry(r.routes.stable); record.Digest == "" && (serving == nil || d.forbids(serving) || r.loading != nil) {
		return // reading all files takes long, and what is to serve comes first
	}
	if e.digest == "" {
		if digest, err := savedmodel.Digest(context.Background(), e.Dir); err == nil { // otherwise a gate tells why
			e.digest = digest
		}
	}
	if record.Digest == "" && e.digest != "" {
		digest := e.digest
		r.decide(func(d *decisions) { d.adoptDigest(e.Version, digest) })
	}
}

// apply does what is planned, and reports it.
func (r *reconciler) apply(ctx context.Context, p actions, now time.Time) {
	for _, one := range p.problems {
		r.report.problem(one.what, one.reason)
	}
	if p.desired != nil {
		r.report.observer.VersionDesired(*p.desired)
	}
	for _, e := range p.cleared {
		r.log.Info("files changed since the rollback; the version may be tried again", "version", e.Version)
		r.decide(func(d *decisions) { d.clearRollback(e.Version) })
	}
	if p.step == stepAdopt {
		r.search.adopt()
	}
	r.route(p, now)
	r.keep(p)
	for _, e := range p.unload {
		r.unload(e)
	}
	for _, e := range p.release {
		r.search.release(e)
	}
	if p.drop {
		r.search.drop()
	}
	if ctx.Err() == nil {
		for _, f := range p.fail {
			r.fail(f.entry, f.err)
		}
		if p.load != nil {
			r.load(ctx, p)
		}
		if p.step != stepNone && p.step != stepAdopt {
			r.search.begin(ctx, p.step, p.precision)
		}
	}
	r.search.settle()
	r.publish()
	r.report.unproven(r.unproven())
}

// route puts the plan's routes and probation into force.
func (r *reconciler) route(p actions, now time.Time) {
	old, next := r.routes, p.routes
	if p.probation != nil && p.probation != r.probation {
		p.routes.stable.Stats().Forget() // runs before the probation do not count
	}
	r.routes, r.probation = next, p.probation
	if next == old {
		return
	}
	if next.secondary != old.secondary && next.secondary != nil {
		r.begin(next.secondary, next.label, now)
	}
	before := old.serving()
	if next.stable != nil && next.stable != before {
		r.begin(next.stable, LabelStable, now)
	}
	r.publish()
	if r.resume != nil {
		close(r.resume) // after publish: records that waited read the new routes
		r.resume = nil
	}
	if next.secondary != old.secondary && next.secondary != nil {
		r.log.Info("version serving as secondary", "version", next.secondary.Info().Version, "label", next.label)
	}
	if next.stable != before {
		r.report.serving(next.stable, false)
	}
	if next.stable != nil {
		r.noteServing(next.stable.Info().Version)
	}
	if next.stable != nil {
		r.published.served()
	}
}

// begin prepares a version to answer. A shadow stays in the lowest scheduling class.
func (r *reconciler) begin(v *infer.Version, label string, now time.Time) {
	if label != LabelShadow {
		v.RestorePriority()
	}
	v.CountRuns()
	r.entry(v).since = now
}

// keep writes to the state file what the plan says about the stable version.
func (r *reconciler) keep(p actions) {
	switch {
	case p.choose != nil:
		r.decide(func(d *decisions) {
			if d.Use == nil {
				d.Use = p.choose
			}
		})
	case p.served != nil:
		r.decide(func(d *decisions) {
			if d.uses(*p.served) {
				d.served()
			}
		})
	}
	if p.passed {
		r.log.Info("version passed its probation", "version", r.routes.stable.Info().Version)
	}
}

// decide changes the state file. If that cannot be written, the change holds until a restart.
func (r *reconciler) decide(how func(*decisions)) {
	if err := r.stateFile.change(how); err != nil {
		r.log.Warn("cannot write the state file", "err", err)
	}
}

// load starts the load of a version. The observer is told first, so that it knows which version to
// blame for a crash.
func (r *reconciler) load(ctx context.Context, p actions) {
	if p.noRoom != nil {
		r.log.Info("no memory for a second version; unloading the serving one first", "version", p.load.Version, "reason", p.noRoom)
	}
	r.log.Info("loading version", "version", p.load.Version)
	l := r.loads.prepare(p.load)
	l.Serving = r.routes.stable // its labels are compared
	if l.Serving != nil && p.replaces == nil {
		l.Background = r.config.Gate.Timeout / 4
	}
	// An older version, or one that was chosen by hand, need not agree with the one that serves.
	if r.recent != nil && l.Serving != nil && p.load.Version > l.Serving.Info().Version && !r.stateFile.now().uses(p.load.Version) {
		if recent := r.recent.list(); len(recent) > 0 {
			l.Agrees = func(ctx context.Context, v *infer.Version) error {
				return checkAgreement(ctx, v, recent, r.config.Gate.Agreement)
			}
		}
	}
	r.loading, r.replaces, p.load.gate = p.load, p.replaces, l.Gate
	r.publish()
	r.report.unproven(r.unproven())
	r.loads.start(ctx, loadResult{entry: p.load, load: l, replaces: p.replaces})
}

// unload releases a version. It is freed when its last run has released it too.
func (r *reconciler) unload(e *versionEntry) {
	v := e.loaded
	if v == nil {
		return
	}
	e.loaded, e.leaving = nil, v
	r.search.release(e)
	if overdue := v.OverdueRun(); overdue != nil {
		e.overdue, e.overdueRun = v.Freed(), overdue.Error()
	}
	r.log.Info("draining version", "version", e.Version)
	r.loads.free(v)
}

// received takes the result of a load.
func (r *reconciler) received(ctx context.Context, o loadResult) {
	if o.inspected {
		o.inspected = false
		r.pause(ctx, o)
		return
	}
	e := o.entry
	r.loading, r.replaces = nil, nil
	e.overdue, e.overdueRun = o.overdue, ""
	if o.restored != nil {
		r.search.nowLoaded(o.replaces, o.restored)
	}
	if o.overdue != nil {
		r.overdueLoads = append(r.overdueLoads, overdueLoad{e.Version, o.overdue})
	}
	if o.wayBackOverdue != nil {
		o.replaces.overdue, o.replaces.overdueRun = o.wayBackOverdue, ""
		r.overdueLoads = append(r.overdueLoads, overdueLoad{o.replaces.Version, o.wayBackOverdue})
	}
	switch {
	case o.v != nil:
		e.digest, e.since, e.failed = o.v.Info().Digest, time.Now(), nil
		r.search.nowLoaded(e, o.v)
		r.learn(e)
		if o.replaces != nil {
			o.took.Pause = time.Since(o.paused)
		}
		r.publish()
		r.report.loaded(e.Version, o.took)
	case ctx.Err() == nil:
		r.fail(e, o.err)
		r.unchoose(e)
	}
}

// fail records and reports that a version has failed.
func (r *reconciler) fail(e *versionEntry, err error) {
	e.fail(err, time.Now())
	r.publish()
	r.report.failed(e, err)
}

// unchoose takes back the choice by hand of a version that has failed for good. The choice before
// it holds again, since otherwise nothing would serve after a restart.
func (r *reconciler) unchoose(e *versionEntry) {
	if !e.retry.IsZero() || errors.Is(e.failed, savedmodel.ErrNoRuntime) || !r.stateFile.now().uses(e.Version) {
		return
	}
	r.decide(func(d *decisions) { d.unchoose(e.Version) })
	again := "the highest"
	if use := r.stateFile.now().Use; use != nil {
		again = strconv.FormatInt(*use, 10)
	}
	r.log.Warn("chosen version failed; the choice before it holds again", "version", e.Version, "again", again)
}

// pause begins to replace the version that serves by one that has passed the gates that need no
// memory. Records wait from here on.
func (r *reconciler) pause(ctx context.Context, o loadResult) {
	old, paused := r.routes, make(chan struct{})
	o.paused = time.Now()
	r.log.Info("pausing records to replace a version", "version", o.replaces.Version, "for", o.entry.Version)
	r.resume, r.probation = paused, nil
	r.routes = &routes{paused: paused, coming: o.entry.Version, before: old.stable}
	var leaving []*infer.Version
	for _, e := range r.versions {
		if e.loaded != nil {
			leaving = append(leaving, e.loaded)
			r.unload(e)
		}
	}
	r.publish()
	r.report.serving(nil, false)
	r.loads.startReplace(ctx, o, r.loads.prepare(o.replaces), leaving)
}

// rollBack rolls a version back until its files change. If the version before is still loaded, it
// serves from now on. If no other version can serve, this one goes on until another one is
// loaded.
func (r *reconciler) rollBack(v *infer.Version, why verdict) {
	if t := r.probation; t != nil && t.ofPrecision(v) && v == r.routes.stable {
		r.search.revert(v, why)
		return
	}
	if !r.withdraw(v) && why.cause == CauseHangs {
		defer v.Abandon() // another version answers its records
	}
	// The routes change first, since the state file may be locked for a while.
	r.recordRollBack(v.Info().Version, v.Info().Digest, why)
}

// recordRollBack writes to the state file that a version is not to serve until its files change.
func (r *reconciler) recordRollBack(version int64, digest string, why verdict) {
	r.report.rolledBack(version, why)
	r.decide(func(d *decisions) { d.rollBack(version, rollbackRecord{digest, why.cause, why.reason}) })
}

// withdraw takes the label from a version, and gives it to the version before, if that is loaded.
// It tells whether v goes on, since no other version can answer.
func (r *reconciler) withdraw(v *infer.Version) (goesOn bool) {
	next, before, now := *r.routes, (*infer.Version)(nil), time.Now()
	if t := r.probation; v == next.stable && t != nil && r.isLoaded(t.before) {
		before = t.before
		next.stable = before
		r.entry(before).since = now
	}
	switch v {
	case r.routes.secondary:
		next.secondary, next.label, next.canary = nil, "", 0
	case r.routes.stable:
		r.probation = nil
	}
	r.routes = &next
	r.entry(v).since = now
	r.publish()
	if before != nil {
		r.report.serving(before, true)
		r.noteServing(before.Info().Version)
	}
	return next.labelOf(v) != ""
}

// publish lets other goroutines read the state as it is now.
func (r *reconciler) publish() {
	all := make([]versionEntry, 0, len(r.versions))
	for _, e := range r.versions {
		all = append(all, *e)
	}
	slices.SortFunc(all, func(a, b versionEntry) int { return cmp.Compare(b.Version, a.Version) })
	s := &snapshot{versions: all, routes: r.routes, waits: r.waits(), unreadable: r.unreadable, served: r.served}
	if r.candidate != nil {
		s.trying = r.candidate.progress
	}
	if r.loading != nil {
		s.loading = new(r.loading.Version)
	}
	if r.probation != nil {
		s.probation = r.probation.until
	}
	s.slowdown = map[*infer.Version]float64{}
	for v, h := range r.health {
		s.slowdown[v] = h.slowdown
	}
	r.published.snapshot.Store(s)
	r.published.routes.Store(r.routes)
}
