package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"inceptor/savedmodel"
)

// A version is one servable: a loaded model with its preprocessing, labels and
// batcher. It is closed when the last lease on it, the manager's own
// included, has ended.
type version struct {
	// Set once, by the load.
	*leased
	answerer
	model    *savedmodel.Model
	run      runner   // its signature; the warm-up sets its filler
	decoder  *decoder // nil: the model does not take pixels
	observer Observer
	took     uint64      // bytes of memory, to load and to warm up
	idle     *time.Timer // gives the memory of the last runs back
	raise    func()      // lets it run as others do
	log      *slog.Logger

	// Of the goroutine that loads; read only after that.
	classes int                       // 0: the signature does not say, and it has not warmed up yet, or there are none
	longest time.Duration             // run of the warm-up
	samples []sample                  // made-up ones that the model takes, if it takes encoded images
	remake  func(Preprocessing) error // makes pixels in another way, while no image is under way

	// Safe for concurrent use.
	vitals vitals
	live   atomic.Bool // it has, or had, a label: its runs count
}

// ran follows the batcher's runs, once they are those of a version that
// answers.
func (v *version) ran(r Run) {
	if v.live.Load() {
		v.vitals.add(r)
		v.observer.BatchRun(v.info.Version, r)
		v.idle.Reset(idleAfter)
	}
}

// overdue follows the runs that take too long.
func (v *version) overdue(u underway, ended bool) {
	v.observer.RunOverdue(v.info.Version, ended)
	if ended {
		v.log.Warn("a run that was overdue has ended; its answers are dropped", "model", v.info.Model, "version", v.info.Version,
			"images", u.size, "since", u.since)
		return
	}
	v.log.Error("a run does not end; its images are tried again. It cannot be cancelled, and keeps its memory until it ends",
		"model", v.info.Model, "version", v.info.Version, "images", u.size, "since", u.since, "after", u.overdue.After)
}

// idleAfter is how long nothing must have run until the memory that runs need
// is given back, which the allocator keeps else: 170 of 740 MiB, measured with
// Inception in batches of 8. The next run has to take it anew.
const idleAfter = 10 * time.Second

// close gives its memory back. No image may be under way.
func (v *version) close() error {
	var errs []error
	if v.batcher != nil {
		v.batcher.close()
	}
	v.idle.Stop()
	if v.decoder != nil {
		errs = append(errs, v.decoder.Close())
	}
	if v.model != nil {
		errs = append(errs, v.model.Close())
	}
	return errors.Join(errs...)
}

// free is close at the end of the last lease.
func (v *version) free() {
	if err := v.close(); err != nil {
		v.log.Error("cannot free version", "version", v.info.Version, "err", err)
		return
	}
	v.log.Info("closed", "model", v.info.Model, "version", v.info.Version)
}

// Lanes is how many batches a version runs at a time, if the second one is full.
// Not every operation has work for all processors: two runs take less time than
// one after the other, by 6 % with Inception on two cores. A batch that is not full
// waits for the one before it: side by side, both would take twice as long.
const Lanes = 2

// A loader takes one version through the gates.
type loader struct {
	config   Config
	decoding *decoding // shared with the versions that serve
	at       candidate
	given    Given       // what is said in place of its inceptor.yaml
	files    fingerprint // of it, when it was found at rest
	serving  *version    // what the new one must be compatible with; nil: nothing
	recent   []answered  // images of it
	calm     bool        // images are being answered meanwhile
	log      *slog.Logger
	observer Observer
	took     *Durations
	late     *<-chan struct{}                          // closed when a version was freed whose run hangs at a gate; nil: none does
	gate     *atomic.Pointer[string]                   // that it is at
	bound    func(longest time.Duration) time.Duration // of a run, by the warm-up's
}

// enter notes the gate that the version is at: a panic is its failure.
func (l loader) enter(gate string) { l.gate.Store(&gate) }

// rescue, deferred, makes an error of the gate of a panic.
func (l loader) rescue(err *error) {
	if value := recover(); value != nil {
		*err = atGate(*l.gate.Load(), newPanicError(value))
	}
}

// look passes the gates that need no TensorFlow. Its error is a *GateError.
func (l loader) look(ctx context.Context) (seen look, err error) {
	defer l.rescue(&err)
	l.enter(GateRead)
	l.log.Info("reading", "model", l.config.Name, "version", l.at.number)
	info, err := savedmodel.Inspect(l.at.dir)
	if err != nil {
		return look{}, atGate(GateRead, err)
	}
	if !info.Complete {
		return look{}, atGate(GateComplete, errors.New(strings.Join(info.Missing, "; ")))
	}
	l.enter(GateComplete)
	if err := checkSums(ctx, l.at.dir); err != nil {
		return look{}, atGate(GateComplete, err)
	}
	l.enter(GateSignature)
	if seen, err = lookInto(l.at.dir, l.config.Session.Tags, l.given); err != nil {
		return look{}, err
	}
	if _, err := seen.contract(seen.graph.Signatures, l.config.Content); err != nil {
		return look{}, atGate(GateSignature, err) // before another version is unloaded for this one
	}
	l.enter(GateRead)
	seen.digest, err = savedmodel.Digest(ctx, l.at.dir)
	return seen, atGate(GateRead, err)
}

// load takes the version through all gates, after which it can serve. Its
// error is a *GateError.
func (l loader) load(ctx context.Context) (v *version, err error) {
	work := func() { v, err = l.run(ctx) }
	raise := func() {}
	before := privateMemory()
	if l.calm {
		raise = calmly(l.config.Gate.Timeout/4, l.log, work)
	} else {
		work()
	}
	if err != nil {
		raise() // what all sessions share may have begun with this one
		return nil, err
	}
	v.raise = raise
	v.took = max(before, privateMemory()) - before
	savedmodel.TrimMemory() // what loading has left behind
	v.leased = newLeased(v.free)
	return v, nil
}

// run is load without regard for others.
func (l loader) run(ctx context.Context) (v *version, err error) {
	defer l.rescue(&err)
	seen, err := l.look(ctx)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, atGate(GateTimeout, err)
	}
	return l.inPrecision(ctx, seen)
}

// open loads a version that has been looked at, in the session's precision if
// that is to be had, and takes it through the other gates. It returns in which
// precision that was done, also with an error.
func (l loader) open(ctx context.Context, seen look) (v *version, p savedmodel.Precision, err error) {
	v = &version{
		answerer: answerer{
			info: Info{l.config.Name, l.at.number, seen.digest}, backend: BackendLocal,
			content: l.config.Content, labels: seen.labels, topK: seen.spec.TopK,
			maxPixels: l.config.MaxPixels,
			decoding:  l.decoding,
		},
		observer: l.observer,
		log:      l.log,
		idle:     time.AfterFunc(idleAfter, savedmodel.TrimMemory),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.discard(v))
			v = nil
		}
	}()
	defer l.rescue(&err)
	l.enter(GateLoad)
	start := time.Now()
	session := l.config.Session
	session.Tags = seen.graph.Tags
	if v.model, err = savedmodel.Load(ctx, l.at.dir, session); err != nil {
		return v, p, atGate(GateLoad, err)
	}
	l.took.Load = time.Since(start)
	if v.model.Frozen {
		l.log.Info("optimized", "model", v.info.Model, "version", v.info.Version, "kernels", v.model.Kernels, "precision", v.model.Precision)
	} else if v.model.WhyNot != "" {
		l.log.Info("not optimized", "model", v.info.Model, "version", v.info.Version, "reason", v.model.WhyNot)
	}
	if v.model.WhyFloat32 != "" {
		l.tellFloat32(v.model.WhyFloat32)
	}
	p = v.model.Precision
	v.precision = p.String()
	return v, p, l.prepare(ctx, v, seen)
}

// discard closes a version that was refused. If a run of it hangs, it does not
// wait for that: the gate is to tell its reason now.
func (l loader) discard(v *version) error {
	if v.batcher == nil || v.batcher.hang() == nil {
		return caught(v.close)
	}
	freed := make(chan struct{})
	*l.late = freed
	go func() {
		defer close(freed)
		if err := caught(v.close); err != nil {
			l.log.Error("cannot free version", "version", v.info.Version, "err", err)
		}
	}()
	return nil
}

func (l loader) prepare(ctx context.Context, v *version, seen look) error {
	c := l.config
	l.enter(GateSignature)
	sig, err := seen.contract(v.model.Signatures, c.Content)
	if err != nil {
		return atGate(GateSignature, err)
	}
	if sig.training != nil {
		l.log.Warn(asInTraining, "model", v.info.Model, "version", v.info.Version, "operations", sig.training)
	}
	v.classes = sig.classes
	v.bound(sig.signature)
	if err := v.compatible(l.serving); err != nil {
		return atGate(GateSignature, err)
	}
	run, err := v.model.SignatureFunction(sig.Signature, sig.inputs(), sig.outputs())
	if err != nil {
		return atGate(GateSignature, err)
	}
	v.run = newRunner(sig.signature, run.Run)
	l.enter(GateLoad)
	switch {
	case sig.content == Rows:
		v.decode = newRowReader(sig.feeds).item
	case sig.pixels != nil:
		if sig.contradiction != "" {
			l.log.Warn("inceptor.yaml contradicts the model, and holds: scores are wrong if the model is right",
				"model", v.info.Model, "version", v.info.Version, "file", filepath.Join(l.at.dir, specFile), "contradiction", sig.contradiction)
		}
		v.remake = func(p Preprocessing) error { return v.convert(p, sig.dtype, c) }
		if err := v.remake(*sig.pixels); err != nil {
			return atGate(GateLoad, fmt.Errorf("decoder: %w", err))
		}
	}
	if sig.batch > 1 {
		l.log.Info("every run takes a batch of one size: fewer records are filled up with copies, and take as long",
			"model", v.info.Model, "version", v.info.Version, "records", sig.batch)
	}
	runs := func(items []item) (scored, error) { return v.run.batch(items) } // with the filler that the warm-up finds
	v.batcher = newBatcher(runs, Lanes, true, sig.batching(c.Batch), v)
	l.enter(GateWarmUp)
	l.log.Info("warming", "model", v.info.Model, "version", v.info.Version)
	start := time.Now()
	if l.took.Each, err = v.warmUp(ctx, l.at.dir, sig.signature); err != nil {
		return atGate(GateWarmUp, sig.Labels.mend(lostVariable(err), seen.offer().write))
	}
	l.took.WarmUp = time.Since(start)
	v.batcher.bind(l.bound(v.longest))
	if err := v.compatible(l.serving); err != nil { // it may have told its classes only now
		return atGate(GateSignature, err)
	}
	l.enter(GateGolden)
	if err := v.passGolden(ctx, l.at.dir, v.remake); err != nil {
		return atGate(GateGolden, err)
	}
	v.note(l.at.dir, l.log)
	l.enter(GateAgreement)
	if l.serving != nil && len(l.recent) > 0 {
		return atGate(GateAgreement, v.checkAgreement(ctx, l.recent, c.Gate.Agreement))
	}
	return nil
}

// convert makes pixels for the model as p says. No image may be under way.
func (v *version) convert(p Preprocessing, dtype savedmodel.DataType, c Config) error {
	d, err := newDecoder(p, dtype, c.Decode == decodeFast, c.Session)
	if err != nil {
		return err
	}
	if v.decoder != nil {
		err = v.decoder.Close()
	}
	v.decoder, v.decode, v.pixels = d, d.item, &p
	return err
}

// compatible checks that v has as many classes as the version that serves, as
// far as that is known.
func (v *version) compatible(serving *version) error {
	const none = "it has %s, and version %d, which serves, has %s: answers would have something else in place of predictions"
	switch {
	case serving == nil:
		return nil
	case !v.scores && serving.scores:
		return fmt.Errorf(none, "no classes, but arrays alone", serving.info.Version, "some")
	case v.scores && !serving.scores:
		return fmt.Errorf(none, "classes", serving.info.Version, "none, but arrays alone")
	case v.classes == serving.classes || v.classes == 0 || serving.classes == 0:
		return nil
	}
	return fmt.Errorf("%d classes, version %d, which serves, has %d", v.classes, serving.info.Version, serving.classes)
}
