package stream

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// handlerGrace is how long Await waits: handlers must return soon after their
// context has ended, and what they use is closed after it.
const handlerGrace = 5 * time.Second

// A Worker calls the handler for the records in flight, each until there is
// an answer. Safe for concurrent use.
type Worker struct {
	Handler Handler
	Config  Config
	Trouble *Trouble

	handlers sync.WaitGroup
}

// Begin starts to work on a record. It is finished when the handler has an
// answer, and dropped when work ends, or when the handler fails while the
// partition drains: what cannot be handled now is not worth holding a
// rebalance or a stop back, for it comes again. finished, if not nil, is
// called after either. For all records of a flight, the other arguments must
// be the same.
func (w *Worker) Begin(work context.Context, draining <-chan struct{}, s *Slot, finished func()) {
	if s.work == nil { // else the slot was used before
		s.work = func() {
			defer w.handlers.Done()
			w.handle(work, draining, s)
			if finished != nil {
				finished()
			}
		}
	}
	w.handlers.Add(1)
	go s.work()
}

func (w *Worker) handle(work context.Context, draining <-chan struct{}, s *Slot) {
	pause := backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: 10 * time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	r := s.Record
	var failing time.Time // since when; zero: not at all
	for {
		outputs, err := w.Handler(work, r)
		if err != nil && failing.IsZero() {
			failing = time.Now()
		}
		if err != nil && work.Err() == nil && w.Config.GivenUp != nil {
			if instead, ok := w.Config.GivenUp(r, time.Since(failing), err); ok {
				outputs, err = instead, nil
			}
		}
		if err == nil {
			if !failing.IsZero() {
				w.Config.Observer.Retrying(r.Partition, nil)
				w.Trouble.Worked("handle")
			}
			s.Done(outputs)
			return
		}
		if work.Err() != nil {
			s.Drop()
			return
		}
		w.Config.Observer.Retrying(r.Partition, err)
		w.Trouble.Failed("handle", err, "topic", r.Topic, "partition", r.Partition, "offset", r.Offset)
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

// Await waits, not for long, for handlers whose records were dropped.
func (w *Worker) Await() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.handlers.Wait()
	}()
	select {
	case <-ended:
	case <-time.After(handlerGrace):
		w.Config.Log.Warn("handlers do not return", "after", handlerGrace)
	}
}
