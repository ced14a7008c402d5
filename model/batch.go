package model

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

	"inceptor/savedmodel"
)

// More reasons of an InputError, found when the model runs.
const (
	ReasonModelRefused   = "model-refused"        // the model fails on this record, alone too
	ReasonNotFinite      = "not-finite"           // its scores are not all numbers
	ReasonServerTooLarge = "too-large-for-server" // the model server does not take so large a message
)

// An item is what one record feeds, on its way through a batcher, which closes
// it. One of the first four fields is set, the same for all items of a batcher.
type item struct {
	pixels  *savedmodel.Tensor // [1, height, width, 3]
	encoded []byte             // image or tf.Example, for a model that takes strings
	plain   []byte             // pixels of [height, width, 3], where there is no TensorFlow to hold them
	row     *row
	result  chan result // buffered: the batcher never waits for a caller
}

type result struct {
	scores  []float32
	classes []Class // as in scored
	arrays  []Array // as in scored
	version int64   // as in scored
	server  string
	infer   time.Duration
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

// A batchFunc runs a batch, here or elsewhere.
type batchFunc func(batch []item) (scored, error)

// scored is what a batch got, for each item.
type scored struct {
	rows    [][]float32 // scores; nil: the version has none
	classes [][]Class   // those of the scores, without them; nil: a score's place is its class
	arrays  [][]Array   // the outputs that inceptor.yaml lists; nil: it lists none
	version int64       // that gave them; remote.NoVersion: the one that was asked
	server  string      // that gave them; empty: this process
}

// records is how many items got something.
func (s scored) records() int { return max(len(s.rows), len(s.arrays)) }

// numbers are the scores and the floats of the arrays of each item.
func (s scored) numbers() [][]float32 {
	if s.arrays == nil {
		return s.rows
	}
	all := make([][]float32, s.records())
	for i := range all {
		if s.rows != nil {
			all[i] = slices.Clone(s.rows[i])
		}
		for _, a := range s.arrays[i] {
			for at := 0; a.DType.IsFloat() && at < a.Len(); at++ {
				all[i] = append(all[i], float32(a.Float(at)))
			}
		}
	}
	return all
}

// A batcher joins the items that are ready and runs them together, as many
// batches at a time as it has lanes. An item that comes alone runs at once:
// company gathers while the batch before it runs, and only a delay makes
// anybody wait for more.
type batcher struct {
	// Set once, by newBatcher.
	Batch
	run      batchFunc
	places   int  // lanes
	patient  bool // a batch that is not full does not begin while another one runs
	observer runObserver

	bound time.Duration // that a run may take; set once, by bind; of the goroutine that watches

	// Safe for concurrent use.
	queue     chan item     // unbuffered: what is ready waits with its sender
	turn      chan struct{} // held by the lane that gathers a batch
	running   atomic.Int32  // lanes
	late      atomic.Int32  // of them, with a run that is overdue
	ended     chan struct{} // signalled when one has ended its run, for the one that gathers
	lanes     sync.WaitGroup
	abandoned chan struct{} // closed when nobody shall wait for it any more
	limit     chan struct{} // a place for each decoded image that waits for a batch
	results   sync.Pool     // of channels that nobody will send to any more
	closed    chan struct{} // closed when the lanes have ended
	watching  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	runs    []*underway
	spare   []*underway   // to be used again
	stuck   bool          // every lane has a run that is overdue
	allLate chan struct{} // closed while that is so
}

// A runObserver is told of the runs of a batcher.
type runObserver interface {
	ran(r Run)
	// overdue is called when a run takes longer than it may, after ran, and
	// again when it ends after all.
	overdue(u underway, ended bool)
}

func newBatcher(run batchFunc, lanes int, patient bool, c Batch, o runObserver) *batcher {
	b := &batcher{
		Batch: c, run: run, places: lanes, patient: patient, observer: o,
		queue: make(chan item), turn: make(chan struct{}, 1), ended: make(chan struct{}, 1),
		abandoned: make(chan struct{}), closed: make(chan struct{}), allLate: make(chan struct{}),
		// One batch that runs and the next one, ready.
		limit: make(chan struct{}, 2*c.Max*lanes),
	}
	b.results.New = func() any { return make(chan result, 1) }
	for range lanes {
		b.lanes.Go(b.loop)
	}
	return b
}

// close ends the batcher; nobody may be calling submit.
func (b *batcher) close() {
	close(b.queue)
	b.lanes.Wait()
	close(b.closed)
	b.watching.Wait()
}

// errAbandoned is the result of items whose run hangs. Another version may
// answer them.
var errAbandoned = errors.New("the version was taken back, since its run does not end")

// errEnded is the result of items that came while every lane was overdue, when
// one of them ends at this very moment.
var errEnded = errors.New("the version did not answer for a while")

// abandon lets nobody wait for results any more; to be called once.
func (b *batcher) abandon() { close(b.abandoned) }

// submit hands an item over and waits for its result.
func (b *batcher) submit(ctx context.Context, it item) (result, error) {
	it.result = b.results.Get().(chan result)
	select {
	case b.queue <- it:
	case <-b.blocked():
		it.close()
		if late := b.hang(); late != nil {
			return result{}, fmt.Errorf("%w: %s", ErrHangs, late.Error()) // not of its own run
		}
		return result{}, errEnded
	case <-ctx.Done():
		it.close()
		return result{}, ctx.Err()
	case <-b.abandoned:
		it.close()
		return result{}, errAbandoned
	}
	select {
	case r := <-it.result:
		b.results.Put(it.result)
		return r, r.err
	case <-b.abandoned:
		return result{}, errAbandoned
	case <-ctx.Done(): // the batcher goes on with the item, for nobody
		return result{}, ctx.Err()
	}
}

func (b *batcher) loop() {
	batch, most := make([]item, 0, b.Max), b.Max
	for {
		b.turn <- struct{}{}
		first, ok := <-b.queue
		if ok {
			batch = b.collect(append(batch[:0], first), most)
			b.running.Add(1)
		}
		<-b.turn
		if !ok {
			return
		}
		start := time.Now()
		b.answer(batch, batch)
		b.running.Add(-1)
		b.signalEnded()
		most = b.adapt(most, len(batch), time.Since(start))
		for i := range batch {
			batch[i].close()
			batch[i] = item{}
		}
	}
}

// signalEnded wakes the lane that gathers.
func (b *batcher) signalEnded() {
	select {
	case b.ended <- struct{}{}:
	default: // it is signalled already
	}
}

// adapt is how large a batch may be after one of a size took that long: a run
// may take half of the latency budget, since an image may have to wait for the
// run before its own. Additive increase, multiplicative decrease, as in Clipper
// (Crankshaw et al., NSDI 2017).
func (b *batcher) adapt(most, size int, took time.Duration) int {
	switch {
	case b.LatencyBudget == 0:
		return most
	case took > b.LatencyBudget/2:
		return max(1, size*3/4)
	case size == most:
		return min(most+1, b.Max)
	}
	return most
}

// collect adds to the batch what is ready, and what comes within the delay.
// Who can come at once, may come first, as long as anybody does: company would not
// gather during runs of a few microseconds.
func (b *batcher) collect(batch []item, most int) []item {
	yielded := 0 // when the batch was of that size
	var late <-chan time.Time
	if b.Delay > 0 {
		timer := time.NewTimer(b.Delay)
		defer timer.Stop()
		late = timer.C
	}
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
		var ended <-chan struct{}
		if b.patient && b.running.Load() > b.late.Load() {
			ended = b.ended
		}
		if late == nil && ended == nil {
			return batch
		}
		select {
		case it, ok := <-b.queue:
			if !ok {
				return batch
			}
			batch = append(batch, it)
		case <-late:
			late = nil // once more for what is ready, then go
		case <-ended:
		}
	}
	return batch
}

// answer runs the batch and sends each item its result. A batch that fails
// because of its content is halved until the guilty item is alone, so that
// it costs nobody but itself an answer. waiting are the batch and the items
// that run after it. If a run is overdue, the callers of all of them get that
// error, and answer returns false.
func (b *batcher) answer(batch, waiting []item) bool {
	u := b.begin(len(batch), waiting)
	start := time.Now()
	got, err := b.runSafely(batch)
	was := b.end(u)
	run := Run{Size: len(batch), Took: time.Since(start), Err: err, shared: was.shared}
	if was.overdue != nil {
		return false
	}

	var guilty *InputError
	err = blame(err, ReasonModelRefused)
	if errors.As(err, &guilty) && len(batch) > 1 {
		run.Halved = true
		b.observer.ran(run)
		half := len(batch) / 2
		return b.answer(batch[:half], waiting) && b.answer(batch[half:], waiting[half:])
	}
	results := make([]result, len(batch))
	for i := range batch {
		r := &results[i]
		r.infer, r.err, r.version, r.server = run.Took, err, got.version, got.server
		if err == nil {
			r.err = r.take(got, i)
		}
		if r.err != nil {
			run.Failed++
		}
	}
	b.observer.ran(run) // before the results: whoever has one finds it counted
	for i, it := range batch {
		it.result <- results[i]
	}
	return true
}

// take takes what item i of a batch got, and checks that it can be answered.
func (r *result) take(got scored, i int) error {
	if got.rows != nil {
		r.scores = got.rows[i]
	}
	if got.classes != nil {
		r.classes = got.classes[i]
	}
	if got.arrays != nil {
		r.arrays = got.arrays[i]
	}
	if at := notFinite(r.scores); at >= 0 {
		return &InputError{Reason: ReasonNotFinite, Err: fmt.Errorf("score of class %d is %v", at, r.scores[at])}
	}
	return checkArrays(r.arrays)
}

// runSafely makes a panic an error that blames the batch.
func (b *batcher) runSafely(batch []item) (got scored, err error) {
	defer Recovered(&err)
	return b.run(batch)
}

func notFinite(scores []float32) int {
	for i, s := range scores {
		if math.IsNaN(float64(s)) || math.IsInf(float64(s), 0) {
			return i
		}
	}
	return -1
}
