package infer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"inceptor/internal/host"
	"inceptor/savedmodel"
)

// A Version is one servable in this process: a loaded model with its pipeline. It is closed
// when its last reference is released. Who loads it holds the first one.
type Version struct {
	// Set once, by the load.
	*refCounted
	pipeline
	model    *savedmodel.Model
	run      runner // the warm-up sets its filler
	dir      string // its folder
	observer Observer
	memory   uint64      // bytes that loading and warming up have taken
	idle     *time.Timer // frees the memory of the last runs
	restore  func()      // ends the low priority of a load in the background
	log      *slog.Logger
	// whyFloat32 is why the version was loaded in float32 after it failed in the wanted precision;
	// empty: it did not.
	whyFloat32 string

	// OwnRanges are the ranges that the version brings for int8; nil: it brings none that can be
	// used, or its Loader had no Remembered. Set once, by the load.
	OwnRanges *Calibration

	// Of the goroutine that loads, and only read after it.
	classes int           // 0: unknown before the warm-up, or there are none
	longest time.Duration // run of the warm-up
	samples []sampleImage // that the model accepts, if it takes encoded images

	// Safe for concurrent use.
	stats RunStats
	live  atomic.Bool // its runs count
}

// Stats returns the version's runs since CountRuns.
func (v *Version) Stats() *RunStats { return &v.stats }

// Memory returns how many bytes loading and warming up have taken.
func (v *Version) Memory() uint64 { return v.memory }

// Optimized returns the kernels and the precision of the version's optimized graph; empty: it
// runs as it was exported.
func (v *Version) Optimized() (kernels, precision string) {
	if !v.model.Frozen {
		return "", ""
	}
	return v.model.Kernels.String(), v.model.Precision.String()
}

// WhyNotOptimized returns why the version runs as it was exported, though an optimized graph
// was wanted; empty: it does not, or none was wanted.
func (v *Version) WhyNotOptimized() string { return v.model.WhyNot }

// WhyFloat32 returns why the version runs in float32, though another precision was wanted; empty:
// it does not, or none was wanted.
func (v *Version) WhyFloat32() string { return cmp.Or(v.whyFloat32, v.model.WhyFloat32) }

// Int8 returns the part of the convolutions' multiplications, 0 to 1, that runs in int8.
func (v *Version) Int8() float64 { return v.model.Int8 }

// RestorePriority ends the low priority of a version that was loaded in the background.
func (v *Version) RestorePriority() { v.restore() }

// CountRuns makes runs count in Stats, and for the Observer, from now on. Those of the load do not.
func (v *Version) CountRuns() { v.live.Store(true) }

// An Observer is called about the runs of versions, from many goroutines and while records wait.
// Its methods must not block.
type Observer interface {
	// BatchRun is called after each run of a version that answers.
	BatchRun(version int64, r Run)
	// RunOverdue is called when a run exceeds its limit, and again when it ends after all.
	// Until then it keeps its memory.
	RunOverdue(version int64, ended bool)
}

// runDone counts a run, once the version answers.
func (v *Version) runDone(r Run) {
	if v.live.Load() {
		v.stats.Add(r)
		v.observer.BatchRun(v.info.Version, r)
		v.idle.Reset(idleAfter)
	}
}

// runOverdue reports a run that exceeds its limit, and its end.
func (v *Version) runOverdue(r ActiveRun, ended bool) {
	v.observer.RunOverdue(v.info.Version, ended)
	log := v.log.With("model", v.info.Model, "version", v.info.Version, "images", r.Size, "since", r.Since)
	if ended {
		log.Warn("overdue run ended; its answers are dropped")
		return
	}
	log.Error("run is overdue; its images are tried again, and it keeps its memory until it ends", "after", r.Overdue.After)
}

// idleAfter is how long a version must be idle until the allocator returns the memory of its
// last runs: 170 of 740 MiB, measured with Inception in batches of 8. The next run has to
// allocate it again.
const idleAfter = 10 * time.Second

// close frees the version's memory. No record may be under way.
func (v *Version) close() error {
	err := v.pipeline.close()
	v.idle.Stop()
	if v.model != nil {
		err = errors.Join(err, v.model.Close())
	}
	return err
}

// NewUnloaded returns a version that cannot answer, for tests of what decides about versions.
func NewUnloaded(i Info, memory uint64) *Version {
	return &Version{
		pipeline: pipeline{info: i, batcher: &batcher{}}, model: &savedmodel.Model{}, memory: memory,
		refCounted: newRefCounted(func() {}),
	}
}

// free closes the version after its last reference.
func (v *Version) free() {
	if err := v.close(); err != nil {
		v.log.Error("cannot free version; its memory may be lost", "version", v.info.Version, "err", err)
		return
	}
	v.log.Info("version closed", "model", v.info.Model, "version", v.info.Version, "precision", v.precision)
}

// Lanes is how many batches a version runs at a time, if the second one is full. Not every
// operation keeps all processors busy: two runs side by side take 6 % less time than one
// after the other, with Inception on two cores. A batch that is not full waits for the one
// before it, since side by side each would take twice as long.
const Lanes = 2

// A Loader takes one version through its gates. It is for one call of Load.
type Loader struct {
	Options      Options
	Number       int64         // of the version
	Dir          string        // the version's folder
	DecodeLimits *DecodeLimits // shared by all versions of the model
	Serving      *Version      // that the new one must be compatible with; nil: none
	// Agrees is the last gate; nil: there is none.
	Agrees func(context.Context, *Version) error
	// Remembered returns the precision, and the ranges for int8, of files with this digest, in
	// place of those of Options. Nil: those hold.
	Remembered func(digest string) (savedmodel.Precision, *Calibration)
	// Background is how long the load runs with low priority, at most; 0: not at all.
	Background time.Duration

	overrides SpecOverrides // of its inceptor.yaml
	own       *Calibration  // ranges of its own, for these weights; nil: it has none, or they were not looked for

	Log      *slog.Logger
	Observer Observer

	// Where Load leaves its results besides the version. None of them is nil.
	Took *Durations
	Gate *atomic.Pointer[string] // the one that the version is at
	Late *<-chan struct{}        // closed when a refused version with an overdue run was freed; nil: there is none
}

// Enter records the gate that the version is at. A panic is a failure at this gate.
func (l Loader) Enter(gate string) { l.Gate.Store(&gate) }

// rescue, deferred, turns a panic into an error of the gate.
func (l Loader) rescue(err *error) {
	if value := recover(); value != nil {
		*err = AtGate(*l.Gate.Load(), newPanicError(value))
	}
}

// Inspect takes the version through the gates that do not need TensorFlow. Load passes them
// again. The error is a *GateError.
func (l Loader) Inspect(ctx context.Context) error {
	_, err := l.inspect(ctx)
	return err
}

// inspect does the work of Inspect, and returns what the version's files say.
func (l Loader) inspect(ctx context.Context) (c contract, err error) {
	defer l.rescue(&err)
	l.Enter(GateRead)
	l.Log.Debug("reading version", "model", l.Options.Model, "version", l.Number)
	info, err := savedmodel.Inspect(l.Dir)
	if err != nil {
		return contract{}, AtGate(GateRead, err)
	}
	if !info.Complete {
		return contract{}, AtGate(GateComplete, errors.New(strings.Join(info.Missing, "; ")))
	}
	l.Enter(GateComplete)
	if err := checkSums(ctx, l.Dir); err != nil {
		return contract{}, AtGate(GateComplete, err)
	}
	l.Enter(GateSignature)
	if c, err = readContract(l.Dir, l.Options.Session.Tags, l.overrides, l.Options.Content); err != nil {
		return contract{}, err
	}
	l.Enter(GateRead)
	c.digest, err = savedmodel.Digest(ctx, l.Dir)
	return c, AtGate(GateRead, err)
}

// Load takes the version through all gates, after which it can serve. The error is a
// *GateError.
func (l Loader) Load(ctx context.Context) (v *Version, err error) {
	work := func() { v, err = l.run(ctx) }
	restore := func() {}
	before := host.PrivateMemory()
	if l.Background > 0 {
		restore = host.LoadInBackground(l.Background, l.Log, work)
	} else {
		work()
	}
	if err != nil {
		restore() // for threads that all sessions share, which this load may have started
		return nil, err
	}
	v.restore = restore
	v.memory = max(before, host.PrivateMemory()) - before
	savedmodel.TrimMemory() // that only the load needed
	v.refCounted = newRefCounted(v.free)
	return v, nil
}

// run does the work of Load on the thread's own priority.
func (l Loader) run(ctx context.Context) (v *Version, err error) {
	defer l.rescue(&err)
	c, err := l.inspect(ctx)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, AtGate(GateTimeout, err)
	}
	if l.Remembered != nil {
		l.Options.Session.Precision, l.Options.Calibration = l.Remembered(c.digest)
		l.own = l.ownRanges(ctx)
	}
	v, err = l.inPrecision(ctx, c)
	if err == nil {
		v.OwnRanges = l.own
	}
	return v, err
}

// open loads an inspected version, in the session's precision if possible, and takes it
// through the gates after that. It returns the precision, with an error too.
func (l Loader) open(ctx context.Context, c contract) (v *Version, p savedmodel.Precision, err error) {
	v = &Version{
		pipeline: pipeline{
			options: l.Options, info: Info{l.Options.Model, l.Number, c.digest}, backend: BackendLocal,
			sig: c.signature, labels: c.labels, decodeLimits: l.DecodeLimits,
		},
		dir:      l.Dir,
		observer: l.Observer,
		log:      l.Log,
		idle:     time.AfterFunc(idleAfter, savedmodel.TrimMemory),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.discard(v))
			v = nil
		}
	}()
	defer l.rescue(&err)
	l.Enter(GateLoad)
	start := time.Now()
	session := l.Options.Session
	session.Tags, session.Signature = c.graph.Tags, c.Signature
	if v.model, err = savedmodel.Load(ctx, l.Dir, session); err != nil {
		return v, p, AtGate(GateLoad, err)
	}
	l.Took.Load = time.Since(start)
	if v.model.Frozen {
		log := l.Log.With("model", v.info.Model, "version", v.info.Version, "kernels", v.model.Kernels, "precision", v.model.Precision)
		if v.model.Int8 > 0 {
			log = log.With("int8_multiplications", fmt.Sprintf("%.1f %%", 100*v.model.Int8))
		}
		log.Info("optimized")
	} else if v.model.WhyNot != "" {
		l.Log.Info("not optimized", "model", v.info.Model, "version", v.info.Version, "reason", v.model.WhyNot)
	}
	if why := v.model.WhyFloat32; why != "" && l.Options.NoFallback {
		return v, p, AtGate(GateLoad, fmt.Errorf("it cannot run in %v: %s", session.Precision, why))
	} else if why != "" {
		l.tellFloat32(session.Precision, why)
	}
	p = v.model.Precision
	v.precision = p.String()
	return v, p, l.prepare(ctx, v, c)
}

// discard closes a refused version. It does not wait for an overdue run, so that the gate
// can report its reason now.
func (l Loader) discard(v *Version) error {
	if v.batcher == nil || v.OverdueRun() == nil {
		return recoverPanic(v.close)
	}
	freed := make(chan struct{})
	*l.Late = freed
	go func() {
		defer close(freed)
		if err := recoverPanic(v.close); err != nil {
			l.Log.Error("cannot free version; its memory may be lost", "version", v.info.Version, "err", err)
		}
	}()
	return nil
}

// prepare takes a loaded version through the gates after that of the load.
func (l Loader) prepare(ctx context.Context, v *Version, c contract) error {
	if err := l.setUp(v, c); err != nil {
		return err
	}
	l.Enter(GateWarmUp)
	l.Log.Debug("warming up version", "model", v.info.Model, "version", v.info.Version)
	start := time.Now()
	var err error
	if l.Took.PerImage, err = v.warmUp(ctx, l.Dir); err != nil {
		return AtGate(GateWarmUp, c.Labels.addHint(lostVariable(err), c.suggest))
	}
	l.Took.WarmUp = time.Since(start)
	v.limitRuns(l.Options.runLimit(v.longest))
	if err := v.compatible(l.Serving); err != nil { // its classes may be known only now
		return AtGate(GateSignature, err)
	}
	l.Enter(GateGolden)
	if err := v.passGolden(ctx, l.Dir); err != nil {
		return AtGate(GateGolden, err)
	}
	if v.model.Precision == savedmodel.PrecisionInt8 { // golden images may have decided only now how pixels are made
		if err := l.Options.Calibration.checkPixels(v.preprocessing); err != nil {
			return AtGate(GateGolden, err)
		}
	}
	v.reportPreprocessing(l.Dir, l.Log)
	l.Enter(GateAgreement)
	if l.Agrees == nil {
		return nil
	}
	return AtGate(GateAgreement, l.Agrees(ctx, v))
}

// setUp makes the pipeline that runs a loaded version.
func (l Loader) setUp(v *Version, c contract) error {
	log := l.Log.With("model", v.info.Model, "version", v.info.Version)
	l.Enter(GateSignature)
	if c.training != nil {
		log.Warn(asInTraining, "operations", c.training)
	}
	v.classes = c.classes
	if err := v.compatible(l.Serving); err != nil {
		return AtGate(GateSignature, err)
	}
	run, err := v.model.SignatureFunction(c.Signature, c.inputs(), c.outputs())
	if err != nil {
		return AtGate(GateSignature, err)
	}
	v.run = newRunner(c.signature, run.Run)
	l.Enter(GateLoad)
	switch {
	case c.content == Rows:
		v.decode = newRowReader(c.feeds).item
	case c.pixels != nil:
		if c.contradiction != "" {
			log.Warn("inceptor.yaml contradicts the model and is followed: scores are wrong if the model is right",
				"file", specPath(l.Dir), "contradiction", c.contradiction)
		}
		if err := v.setPreprocessing(*c.pixels); err != nil {
			return AtGate(GateLoad, fmt.Errorf("decoder: %w", err))
		}
	}
	if c.batch > 1 {
		log.Info("every run takes a batch of one size: fewer records are filled up with copies, and take as long",
			"records", c.batch)
	}
	runBatch := func(_ context.Context, items []item) (batchResult, error) { return v.run.batch(items) } // with the warm-up's filler
	v.batcher = newBatcher(runBatch, Lanes, true, c.batchConfig(l.Options.Batch), v)
	return nil
}

// compatible checks that v has as many classes as the version that serves, as far as both
// are known.
func (v *Version) compatible(serving *Version) error {
	const mixed = "it has %s, and version %d, which serves, has %s: answers would have something else in place of predictions"
	switch {
	case serving == nil:
		return nil
	case !v.hasScores() && serving.hasScores():
		return fmt.Errorf(mixed, "no classes, but arrays alone", serving.info.Version, "some")
	case v.hasScores() && !serving.hasScores():
		return fmt.Errorf(mixed, "classes", serving.info.Version, "none, but arrays alone")
	case v.classes == serving.classes || v.classes == 0 || serving.classes == 0:
		return nil
	}
	return fmt.Errorf("%d classes, version %d, which serves, has %d", v.classes, serving.info.Version, serving.classes)
}
