package model

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"inceptor/model/infer"
	"inceptor/savedmodel"
)

// A stepResult is the result of a step of a candidate.
type stepResult struct {
	c       *candidate
	load    gateResult                            // of stepLoad
	learned func(precisionRecord) precisionRecord // changes what is known; nil: nothing is learned
	err     error
}

// A precisionSearch finds the precision in which the version that serves runs best, and keeps what
// is known of it. Only the reconciler's goroutine uses it.
type precisionSearch struct {
	*state // the reconciler's

	// Set once, by newPrecisionSearch.
	log     *slog.Logger
	loads   *loads
	report  *reporter
	publish func()
	folder  *precisionFolder
	tap     *tap
	steps   chan stepResult // one element at most, since one step runs at a time
}

// newPrecisionSearch returns the search of a reconciler, of which all other parts are set.
func newPrecisionSearch(r *reconciler) *precisionSearch {
	return &precisionSearch{
		state: &r.state, log: r.log, loads: r.loads, report: r.report, publish: r.publish,
		folder: r.loads.precisions, tap: &tap{}, steps: make(chan stepResult, 1),
	}
}

// nowLoaded notes which version is loaded for an entry, and what is remembered of its precisions.
func (p *precisionSearch) nowLoaded(e *versionEntry, v *infer.Version) {
	e.loaded = v
	_, e.precision = v.Optimized()
	wanted := p.config.candidates()
	if len(wanted) == 0 {
		return
	}
	var err error
	e.precisions, err = p.folder.read(v.Info().Digest)
	p.problem(err)
	if own := v.OwnRanges; own != nil {
		e.precisions.Calibration = own
	}
	if known := e.precisions.opens(wanted); known != "" && e.precision != known {
		p.keep(e, e.precisions.decided(known, verdictRefused, v.WhyFloat32()))
	}
}

// remembered returns the precision and the ranges to open the version in dir in, by its digest. It
// is called by loads. Without ranges a version begins in float32.
func (f *precisionFolder) remembered(c Config, dir string) func(digest string) (savedmodel.Precision, *infer.Calibration) {
	return func(digest string) (savedmodel.Precision, *infer.Calibration) {
		r, err := f.read(digest)
		if known := r.opens(c.candidates()); err == nil && known != "" { // the reconciler tells an error
			return sessionPrecision(known), r.Calibration
		}
		if own, err := infer.ReadCalibration(dir); own == nil && err == nil {
			return savedmodel.PrecisionFloat32, nil
		}
		return sessionPrecision(c.Precision), nil
	}
}

// keep keeps what is known of a version's precisions.
func (p *precisionSearch) keep(e *versionEntry, known precisionRecord) {
	e.precisions = known
	p.problem(p.folder.write(known))
}

func (p *precisionSearch) problem(err error) {
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	p.report.problem("cannot keep what is known of precisions; it is found out again after a restart", reason)
}

// begin starts a step for the version that serves.
func (p *precisionSearch) begin(ctx context.Context, step candidateStep, precision string) {
	c, e := p.candidate, p.entry(p.routes.stable)
	if c == nil {
		c = &candidate{serving: p.routes.stable}
		p.candidate = c
	}
	if c.v != nil && c.precision != precision {
		p.loads.freeQuietly(c.v)
		c.v = nil
	}
	c.step, c.precision = step, precision
	c.progress = &progress{step: step, precision: precision, log: p.log.With("version", e.Version)}
	if step != stepCalibrate && e.precisions.Trying != precision { // calibrating runs float32
		known := e.precisions
		known.Trying = precision
		p.keep(e, known)
	}
	p.report.unproven(p.unproven())
	p.publish()
	work := p.work(ctx, c, e)
	limited, stop := context.WithCancel(ctx)
	c.stop = stop
	for _, v := range []*infer.Version{c.serving, c.v} {
		if v != nil {
			v.Retain() // the reconciler keeps it too, now
		}
	}
	serving, v := c.serving, c.v
	p.loads.retired.Go(func() {
		o := work(limited)
		o.c = c
		serving.Release()
		if v != nil {
			v.Release()
		}
		p.steps <- o
	})
}

// work returns what the candidate's step does, in a goroutine of its own, until the context that it
// gets ends. A load ends with running alone: given up, it would keep its memory.
func (p *precisionSearch) work(running context.Context, c *candidate, e *versionEntry) func(context.Context) stepResult {
	w := stepWork{serving: c.serving, v: c.v, tap: p.tap, progress: c.progress}
	precision := c.precision
	switch c.step {
	case stepCalibrate:
		records := p.config.Calibration.Records
		p.log.Info("calibrating another precision on records; the version that serves goes on", "version", e.Version, "precision", precision, "records", records)
		l := p.prepareIn(c, e, precisionFloat32)
		l.Options.Batch.Max = 1
		return func(ctx context.Context) stepResult {
			if err := infer.CheckInt8(w.serving); err != nil {
				return stepResult{err: &refusal{err}}
			}
			o := p.loads.gates(running, l)
			if w.v = o.v; o.err != nil {
				return stepResult{load: o, err: o.err}
			}
			defer func() {
				w.v.Release()
				<-w.v.Freed()
			}()
			ranges, err := w.calibrate(ctx, records)
			return stepResult{err: err, learned: func(known precisionRecord) precisionRecord {
				known.Calibration = ranges
				return known
			}}
		}
	case stepLoad:
		p.log.Info("loading version in another precision", "version", e.Version, "precision", precision)
		l := p.prepareIn(c, e, precision)
		return func(context.Context) stepResult {
			o := p.loads.gates(running, l)
			return stepResult{load: o, err: o.err}
		}
	case stepMeasure:
		c.v.RestorePriority()
		return func(ctx context.Context) stepResult {
			took, float32, err := w.measure(ctx)
			return stepResult{err: err, learned: func(known precisionRecord) precisionRecord {
				return known.measured(precision, took, float32)
			}}
		}
	}
	p.log.Info("comparing answers in another precision; the version that serves goes on", "version", e.Version, "precision", precision)
	least := min(max(infer.LeastAgreement, p.config.Gate.Agreement), mostAgreement)
	return func(ctx context.Context) stepResult {
		a, verdict, err := w.compare(ctx, least, func(a infer.Agreement) { p.report.observer.PrecisionCompared(precision, a.Records, a.Same) })
		return stepResult{err: err, learned: func(known precisionRecord) precisionRecord {
			if verdict == infer.Agrees {
				return known.decided(precision, verdictAgrees, a.String())
			}
			return known.disagrees(precision, a.String())
		}}
	}
}

// prepareIn makes a load of the version that serves, in a precision and in the background.
func (p *precisionSearch) prepareIn(c *candidate, e *versionEntry, precision string) load {
	l := p.loads.prepare(e)
	l.Serving, l.Background = c.serving, p.config.Gate.Timeout/4
	l.Options.Session.Precision, l.Options.Calibration, l.Remembered = sessionPrecision(precision), e.precisions.Calibration, nil
	l.Options.NoFallback = true
	return l
}

// mostAgreement is the most that mostCompared records can show.
const mostAgreement = 0.998

// retryPrecisionAfter is the pause after a step that failed through a fault of the machine.
const retryPrecisionAfter = time.Minute

// done takes the result of a step.
func (p *precisionSearch) done(ctx context.Context, o stepResult) {
	c := o.c
	c.stop()
	c.step, c.stop = stepNone, nil
	e := p.entry(c.serving)
	if o.load.overdue != nil {
		p.overdueLoads = append(p.overdueLoads, overdueLoad{c.serving.Info().Version, o.load.overdue})
	}
	if v := o.load.v; v != nil {
		c.v = v
	}
	gate := (*infer.GateError)(nil)
	switch {
	case c.dropped || ctx.Err() != nil:
		p.drop()
	case o.err == nil && o.learned != nil:
		before := e.precisions.Calibration
		p.keep(e, o.learned(e.precisions))
		if c.v != nil && e.precisions.Calibration != before { // it has other ranges
			p.loads.freeQuietly(c.v)
			c.v = nil
		}
		p.report.decided(e, c.precision)
	case errors.As(o.err, new(*refusal)), errors.As(o.err, &gate) && !gate.Transient():
		p.keep(e, e.precisions.decided(c.precision, verdictRefused, o.err.Error()))
		p.report.decided(e, c.precision)
	case o.err != nil:
		p.log.Warn("cannot try another precision now; trying again later", "version", e.Version, "precision", c.precision, "err", o.err, "after", retryPrecisionAfter)
		p.retryPrecision = time.Now().Add(retryPrecisionAfter)
		p.drop()
	}
}

// drop ends the candidate, at once or when its step has ended.
func (p *precisionSearch) drop() {
	c := p.candidate
	if c == nil {
		return
	}
	if c.step != stepNone {
		c.dropped = true
		c.stop()
		return
	}
	if c.v != nil {
		p.loads.freeQuietly(c.v)
	}
	p.candidate = nil
}

// adopt lets the candidate serve in place of the version in float32, which stays for the probation.
func (p *precisionSearch) adopt() {
	c := p.candidate
	e := p.entry(c.serving)
	e.before, e.loaded, e.precision = e.loaded, c.v, c.precision
	p.candidate = nil
	p.log.Info("another precision serves", "version", e.Version, "precision", e.precision, "reason", e.precisions.Candidates[e.precision].Reason)
}

// revert lets the version serve in float32 again, and refuses the precision that it is on probation
// for.
func (p *precisionSearch) revert(v *infer.Version, why verdict) {
	e, next := p.entry(v), *p.routes
	next.stable = e.before
	p.routes, p.probation = &next, nil
	e.loaded, e.before, e.since = e.before, nil, time.Now()
	refused := e.precision
	e.precision, e.precisions = precisionFloat32, e.precisions.decided(refused, verdictRefused, why.cause+": "+why.reason)
	p.publish()
	p.log.Error("precision rolled back; the version serves in float32 again", "version", e.Version, "precision", refused, "cause", why.cause, "reason", why.reason)
	p.report.serving(e.loaded, true)
	p.keep(e, e.precisions)
	p.report.observer.PrecisionDecided(refused, verdictRefused)
	if overdue := v.OverdueRun(); overdue != nil {
		e.overdue, e.overdueRun = v.Freed(), overdue.Error()
	}
	p.loads.freeQuietly(v)
	if why.cause == CauseHangs {
		v.Abandon() // float32 answers its records
	}
}

// release frees what a version has run in before.
func (p *precisionSearch) release(e *versionEntry) {
	if e.before != nil {
		p.loads.freeQuietly(e.before)
		e.before = nil
	}
}

// settle notes that no precision of the version that serves is being tried.
func (p *precisionSearch) settle() {
	e := p.entry(p.routes.stable)
	if e == nil || e.precisions.Trying == "" || p.candidate != nil || p.probation != nil {
		return
	}
	known := e.precisions
	known.Trying = ""
	p.keep(e, known)
}

// blame refuses the precision that was being tried when native code crashed the process. It
// tells whether there was one.
func (p *precisionSearch) blame(version int64, digest string) bool {
	known, err := p.folder.read(digest)
	tried := known.Trying
	if err != nil || tried == "" {
		return false
	}
	known.Trying = ""
	const reason = CauseCrash + ": native code crashed the process while it was loaded, compared or on probation"
	known = known.decided(tried, verdictRefused, reason)
	p.log.Error("precision refused", "version", version, "precision", tried, "reason", reason)
	p.problem(p.folder.write(known))
	return true
}

// abandon gives up the candidate when the reconciler ends. Its step is freed when it ends.
func (p *precisionSearch) abandon() {
	if c := p.candidate; c != nil && c.step != stepNone {
		p.drop()
		p.loads.retired.Go(func() {
			o := <-p.steps
			for _, v := range []*infer.Version{o.load.v, c.v} {
				if v != nil {
					v.Release()
					<-v.Freed()
				}
			}
		})
		p.candidate = nil
	}
	p.drop()
	p.probation = nil // what serves is as good as proven: it did not crash
	p.settle()
}
