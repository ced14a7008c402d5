package stream

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// handlerGrace is how long Await waits: handlers must return soon after their
// context has ended, and what they use is closed after it.
const handlerGrace = 5 * time.Second

// maxSpare is how many goroutines may wait for their next record: what a few
// batches release at once.
const maxSpare = 1000

// A Worker calls the handler for the records in flight, each until there is
// an answer. Safe for concurrent use.
type Worker struct {
	handler Handler
	cfg     Config
	trouble *Trouble

	tasks    chan task // to goroutines that wait for one
	spare    atomic.Int64
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
func NewWorker(h Handler, cfg Config, trouble *Trouble) *Worker {
	return &Worker{handler: h, cfg: cfg, trouble: trouble, tasks: make(chan task)}
}

// Begin starts to work on a record. It is finished when the handler has an
// answer, and dropped when work ends, or when the handler fails while the
// partition drains: what cannot be handled now is not worth holding a
// rebalance or a stop back, for it comes again. finished, if not nil, is
// called after either.
func (w *Worker) Begin(work context.Context, draining <-chan struct{}, s *Slot, finished func()) {
	w.handlers.Add(1)
	t := task{work, draining, s, finished}
	select {
	case w.tasks <- t:
	default:
		go w.run(t)
	}
}

// run works on one record after the other. The stack of a new goroutine grows,
// and is copied, several times on the way into a model, which took a tenth of
// the processor time of cheap ones; so goroutines are used again.
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
	pause := backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: 10 * time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	r := s.Record
	var failing time.Time // since when; zero: not at all
	for {
		outputs, err := w.handler(work, r)
		if err != nil && failing.IsZero() {
			failing = time.Now()
		}
		if err != nil && work.Err() == nil && w.cfg.GivenUp != nil {
			if instead, ok := w.cfg.GivenUp(r, time.Since(failing), err); ok {
				outputs, err = instead, nil
			}
		}
		if err == nil {
			if !failing.IsZero() {
				w.cfg.Observer.Retrying(r.Source(), Handling, nil)
				w.trouble.Worked("handle")
			}
			s.Done(outputs)
			return
		}
		if work.Err() != nil {
			s.Drop()
			return
		}
		w.cfg.Observer.Retrying(r.Source(), Handling, err)
		w.trouble.Failed("handle", err, "topic", r.Topic, "partition", r.Partition, "offset", r.Offset)
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

// Await waits, not for long, for handlers whose records were dropped. Nothing
// may begin after it.
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
		w.cfg.Log.Warn("handlers do not return", "after", handlerGrace)
	}
}
