package flight

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/outage"
)

// handlerGrace is how long Await waits. Handlers must return soon after their context has ended,
// and what they use is closed afterwards.
const handlerGrace = 5 * time.Second

// maxSpare is how many goroutines may wait for their next record: as many as a few batches
// release at once.
const maxSpare = 1000

// A Worker calls the handler for each record in flight until there is an answer. Safe for
// concurrent use.
type Worker struct {
	// Set once.
	handler stream.Handler
	cfg     stream.Config
	outages *outage.Log

	tasks    chan task    // to goroutines that wait for one
	spare    atomic.Int64 // of these goroutines
	handlers sync.WaitGroup
}

// A task is one record to work on.
type task struct {
	work     context.Context //nolint:containedctx // it goes with the record to another goroutine
	draining <-chan struct{}
	slot     *Slot
	finished func()
}

// NewWorker returns a Worker. cfg is what Checked returned.
func NewWorker(h stream.Handler, cfg stream.Config, outages *outage.Log) *Worker {
	return &Worker{handler: h, cfg: cfg, outages: outages, tasks: make(chan task)}
}

// Begin starts to work on a record. The slot is done when the handler has an answer. It is
// dropped when work ends, or when the handler fails while the partition drains: such a record
// comes again, and need not hold back a rebalance or a stop. finished, if not nil, is called
// after either.
func (w *Worker) Begin(work context.Context, draining <-chan struct{}, s *Slot, finished func()) {
	w.handlers.Add(1)
	t := task{work, draining, s, finished}
	select {
	case w.tasks <- t:
	default:
		go w.run(t)
	}
}

// run works on one record after the other. A new goroutine's stack grows, and is copied, several
// times on the way into a model. That took a tenth of the processor time of cheap models, so
// goroutines are reused.
func (w *Worker) run(t task) {
	for {
		w.handle(t.work, t.draining, t.slot)
		if t.finished != nil {
			t.finished()
		}
		w.handlers.Done()
		if w.spare.Add(1) > maxSpare {
			w.spare.Add(-1)
			return
		}
		var ok bool
		if t, ok = <-w.tasks; !ok {
			return
		}
		w.spare.Add(-1)
	}
}

func (w *Worker) handle(work context.Context, draining <-chan struct{}, s *Slot) {
	pause := retry.NewBackoff(100*time.Millisecond, 10*time.Second)
	r := s.Record
	var failing time.Time // since when; zero: it has not failed
	for {
		outputs, err := w.handler(work, r)
		if err != nil && failing.IsZero() {
			failing = time.Now()
		}
		if err != nil && work.Err() == nil && w.cfg.OnFailure != nil {
			if replacement, ok := w.cfg.OnFailure(work, r, time.Since(failing), err); ok {
				outputs, err = replacement, nil
			}
		}
		if err == nil {
			if !failing.IsZero() {
				w.cfg.Observer.Retrying(r.Source(), stream.Handling, nil)
				w.outages.Recovered("handle")
			}
			s.Done(outputs)
			return
		}
		if work.Err() != nil {
			s.Drop()
			return
		}
		w.cfg.Observer.Retrying(r.Source(), stream.Handling, err)
		w.outages.Failed("handle", err, "topic", r.Topic, "partition", r.Partition, "offset", r.Offset)
		t := time.NewTimer(pause.NextBackOff())
		select {
		case <-t.C:
		case <-draining:
			t.Stop()
			s.Drop()
			return
		case <-work.Done():
			t.Stop()
			s.Drop()
			return
		}
	}
}

// Await waits for the handlers whose records were dropped, for handlerGrace at most. Nothing may
// begin after it.
func (w *Worker) Await() {
	defer close(w.tasks)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.handlers.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(handlerGrace):
		w.cfg.Log.Warn("handlers do not return; stopping without them", "after", handlerGrace)
	}
}
