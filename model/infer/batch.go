package infer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"inceptor/internal/span"
	"inceptor/savedmodel"
)

// More reasons of an InputError, found when the model runs.
const (
	ReasonModelRefused   = "model-refused"        // the model fails on this record, even alone
	ReasonNotFinite      = "not-finite"           // a score is NaN or infinite
	ReasonServerTooLarge = "too-large-for-server" // the model server refuses so large a message
)

// An item is one record on its way through a batcher, which closes it. One of the first four
// fields is set, the same one for all items of a batcher.
type item struct {
	pixels  *savedmodel.Tensor // [1, height, width, 3]
	encoded []byte             // an image or a tf.Example, for a model that takes strings
	plain   []byte             // pixels of [height, width, 3], decoded without TensorFlow
	row     *row
	result  chan result // buffered: the batcher never waits for a caller
	step    span.Span   // of the record, from when it is decoded to its result
}

// A result is the part of a batchResult that belongs to one item.
type result struct {
	scores  []float32
	classes []Class
	arrays  []Array
	version int64
	server  string
	infer   time.Duration // that the whole batch took
	err     error
}

func (it item) close() {
	if it.pixels != nil {
		it.pixels.Close()
	}
	if it.row != nil {
		it.row.close()
	}
}

// A batchFunc runs a batch with a model, in this process or on a model server.
type batchFunc func(ctx context.Context, batch []item) (batchResult, error)

// A batchResult holds what a model has computed for a batch, item by item.
type batchResult struct {
	scores  [][]float32 // nil: the version has none
	classes [][]Class   // of the scores, without these; nil: the index of a score is its class
	arrays  [][]Array   // the outputs that inceptor.yaml lists; nil: it lists none
	version int64       // that has answered; remote.NoVersion: the one that was asked
	server  string      // that has answered; empty: this process
}

// records returns for how many items there is a result.
func (r batchResult) records() int { return max(len(r.scores), len(r.arrays)) }

// floats returns the scores and the floats of the arrays of each item.
func (r batchResult) floats() [][]float32 {
	if r.arrays == nil {
		return r.scores
	}
	all := make([][]float32, r.records())
	for i := range all {
		if r.scores != nil {
			all[i] = slices.Clone(r.scores[i])
		}
		for _, a := range r.arrays[i] {
			for at := 0; a.DType.IsFloat() && at < a.Len(); at++ {
				all[i] = append(all[i], float32(a.Float(at)))
			}
		}
	}
	return all
}

// A batcher runs records that arrive at about the same time together in batches. It has a
// number of lanes, each of which runs one batch at a time. A record that arrives alone runs
// at once. Other records gather while the batch before them runs.
type batcher struct {
	// Set once, by newBatcher.
	config      Batch
	run         batchFunc
	lanes       int
	holdPartial bool // a batch that is not full waits while another one runs
	observer    runObserver

	// Safe for concurrent use.
	queue        chan item     // unbuffered: a record that is ready waits in submit
	gathering    chan struct{} // holds an element while a lane gathers a batch
	running      atomic.Int32  // lanes that run a batch
	overdueLanes atomic.Int32  // those of them whose run is overdue
	runEnded     chan struct{} // signalled at the end of a run, for the lane that gathers
	slots        chan struct{} // holds an element for each record between decoding and its result
	results      sync.Pool     // of channels that receive no more results
	abandoned    chan struct{} // closed when no caller may wait for a result any more
	loops        sync.WaitGroup
	closed       chan struct{} // closed when the lanes have ended
	watcher      sync.WaitGroup

	// Guarded by mu.
	mu         sync.Mutex
	active     []*ActiveRun
	free       []*ActiveRun  // for reuse
	stuck      bool          // every lane has an overdue run
	allOverdue chan struct{} // closed while stuck
}

// A runObserver is called by a batcher, from many goroutines.
type runObserver interface {
	// runDone is called after each run, and when a run becomes overdue.
	runDone(r Run)
	// runOverdue is called when a run becomes overdue, after runDone, and again when it
	// ends after all.
	runOverdue(r ActiveRun, ended bool)
}

func newBatcher(run batchFunc, lanes int, holdPartial bool, c Batch, o runObserver) *batcher {
	b := &batcher{
		config: c, run: run, lanes: lanes, holdPartial: holdPartial, observer: o,
		queue: make(chan item), gathering: make(chan struct{}, 1), runEnded: make(chan struct{}, 1),
		abandoned: make(chan struct{}), closed: make(chan struct{}), allOverdue: make(chan struct{}),
		slots: make(chan struct{}, 2*c.Max*lanes), // for the batch that runs and the next one
	}
	b.results.New = func() any { return make(chan result, 1) }
	for range lanes {
		b.loops.Go(b.loop)
	}
	return b
}

// close ends the batcher. No caller may be in submit.
func (b *batcher) close() {
	close(b.queue)
	b.loops.Wait()
	close(b.closed)
	b.watcher.Wait()
}

// ErrAbandoned is the result of records whose run does not end. Another version may answer
// them.
var ErrAbandoned = errors.New("the version was rolled back, since a run of it does not end")

// errRecovering is the result of a record that meets a stuck batcher at the moment in which
// one of its runs ends.
var errRecovering = errors.New("the version did not answer for a while")

// Abandon makes every record under way, and each one after, fail with ErrAbandoned. It is called
// once.
func (b *batcher) Abandon() { close(b.abandoned) }

// submit hands an item over and waits for its result.
func (b *batcher) submit(ctx context.Context, it item) (result, error) {
	it.result = b.results.Get().(chan result)
	select {
	case b.queue <- it:
	case <-b.whileStuck():
		it.close()
		if overdue := b.OverdueRun(); overdue != nil {
			return result{}, fmt.Errorf("%w: %s", ErrHangs, overdue.Error()) // not of the item's own run
		}
		return result{}, errRecovering
	case <-ctx.Done():
		it.close()
		return result{}, ctx.Err()
	case <-b.abandoned:
		it.close()
		return result{}, ErrAbandoned
	}
	select {
	case r := <-it.result:
		b.results.Put(it.result)
		return r, r.err
	case <-b.abandoned:
		return result{}, ErrAbandoned
	case <-ctx.Done(): // the item still runs, and nobody reads its result
		return result{}, ctx.Err()
	}
}

// loop is one lane.
func (b *batcher) loop() {
	batch, most := make([]item, 0, b.config.Max), b.config.Max
	for {
		b.gathering <- struct{}{}
		first, ok := <-b.queue
		if ok {
			batch = b.gather(append(batch[:0], first), most)
			b.running.Add(1)
		}
		<-b.gathering
		if !ok {
			return
		}
		start := time.Now()
		b.answer(batch, batch)
		b.running.Add(-1)
		b.signalRunEnded()
		most = b.adapt(most, len(batch), time.Since(start))
		for i := range batch {
			batch[i].close()
			batch[i] = item{}
		}
	}
}

// signalRunEnded wakes the lane that gathers.
func (b *batcher) signalRunEnded() {
	select {
	case b.runEnded <- struct{}{}:
	default: // the signal is pending
	}
}

// adapt returns how large the next batch may be, after one of this size took this long. A run
// may take half of the latency budget, since a record may have to wait for the run before its
// own. The size grows by one and shrinks by a factor, as in Clipper (Crankshaw et al., NSDI
// 2017).
func (b *batcher) adapt(most, size int, took time.Duration) int {
	switch {
	case b.config.LatencyBudget == 0:
		return most
	case took > b.config.LatencyBudget/2:
		return max(1, size*3/4)
	case size == most:
		return min(most+1, b.config.Max)
	}
	return most
}

// gather adds to the batch the items that are ready. It yields the processor as long as that brings
// more items: after runs of a few microseconds no callers would be ready otherwise.
func (b *batcher) gather(batch []item, most int) []item {
	yielded := 0 // the size of the batch at the last yield
	for len(batch) < most {
		select {
		case it, ok := <-b.queue:
			if !ok {
				return batch
			}
			batch = append(batch, it)
			continue
		default:
		}
		if n := len(batch); n > yielded {
			yielded = n
			runtime.Gosched()
			continue
		}
		var runEnded <-chan struct{}
		if b.holdPartial && b.running.Load() > b.overdueLanes.Load() {
			runEnded = b.runEnded
		}
		if runEnded == nil {
			return batch
		}
		select {
		case it, ok := <-b.queue:
			if !ok {
				return batch
			}
			batch = append(batch, it)
		case <-runEnded:
		}
	}
	return batch
}

// answer runs the batch and sends each item its result. If the batch fails because of its
// content, answer runs its halves, until the bad record is alone, so that all others are
// answered. The items of waiting are the batch and those that run after it. If the run
// becomes overdue, the callers of all of them have got that error, and answer returns false.
func (b *batcher) answer(batch, waiting []item) bool {
	active := b.begin(len(batch), waiting)
	ctx, step := startRun(batch)
	start := time.Now()
	got, err := b.runSafely(ctx, batch)
	step.End(err)
	ended := b.end(active)
	run := Run{Size: len(batch), Most: b.config.Max, Took: time.Since(start), Err: err, Shared: ended.shared}
	if ended.Overdue != nil {
		return false
	}

	var guilty *InputError
	err = blameInput(err, ReasonModelRefused)
	if errors.As(err, &guilty) && len(batch) > 1 {
		run.Halved = true
		b.observer.runDone(run)
		half := len(batch) / 2
		return b.answer(batch[:half], waiting) && b.answer(batch[half:], waiting[half:])
	}
	results := make([]result, len(batch))
	for i := range batch {
		r := &results[i]
		r.infer, r.err, r.version, r.server = run.Took, err, got.version, got.server
		if err == nil {
			r.err = r.setFrom(got, i)
		}
		if r.err != nil {
			run.Failed++
		}
	}
	b.observer.runDone(run) // before the results, so that a caller who has one finds it counted
	for i, it := range batch {
		it.result <- results[i]
	}
	return true
}

// setFrom copies the result of item i of a batch. Its error says why that cannot be answered.
func (r *result) setFrom(got batchResult, i int) error {
	if got.scores != nil {
		r.scores = got.scores[i]
	}
	if got.classes != nil {
		r.classes = got.classes[i]
	}
	if got.arrays != nil {
		r.arrays = got.arrays[i]
	}
	if at := indexNotFinite(r.scores); at >= 0 {
		return &InputError{Reason: ReasonNotFinite, Err: fmt.Errorf("score of class %d is %v", at, r.scores[at])}
	}
	return checkArrays(r.arrays)
}

// runSafely runs a batch, and turns a panic into an error that blames the batch.
func (b *batcher) runSafely(ctx context.Context, batch []item) (got batchResult, err error) {
	defer Recovered(&err)
	return b.run(ctx, batch)
}

// startRun starts the step of a run, for those of its records that are traced. The context is for
// the run; only the step can end it.
func startRun(batch []item) (context.Context, span.Span) {
	if !slices.ContainsFunc(batch, func(it item) bool { return it.step.Recorded() }) {
		return context.Background(), span.Span{}
	}
	steps := make([]span.Span, len(batch))
	for i, it := range batch {
		steps[i] = it.step
	}
	ctx, run := span.Join("run", steps)
	run.Set(attribute.Int("inceptor.batch.size", len(batch)))
	return ctx, run
}

// indexNotFinite returns the index of the first score that is NaN or infinite; -1: none is.
func indexNotFinite(scores []float32) int {
	for i, s := range scores {
		if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			return i
		}
	}
	return -1
}

// unobservedRuns is a runObserver that does nothing.
type unobservedRuns struct{}

func (unobservedRuns) runDone(Run)                {}
func (unobservedRuns) runOverdue(ActiveRun, bool) {}
