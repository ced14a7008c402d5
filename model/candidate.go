package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"inceptor/model/infer"
)

// A candidate is the version that serves, in another precision, on its way to serve: see
// precisionRecord.next for its steps. They run in the background, one at a time. Only the
// reconciler's goroutine uses it.
type candidate struct {
	serving *infer.Version // in float32
	step    candidateStep  // that runs
	stop    func()         // ends it soon, unless it is a load
	dropped bool           // the candidate goes when the step ends

	precision string         // of v, or of the step
	v         *infer.Version // nil: not loaded
	progress  *progress      // of the step
}

// loadedAs returns the precision of the version that is loaded; empty: none is.
func (c *candidate) loadedAs() string {
	if c == nil || c.v == nil {
		return ""
	}
	return c.precision
}

// progress says how far a step is.
type progress struct {
	// Set once.
	step      candidateStep
	precision string
	log       *slog.Logger

	far  atomic.Pointer[string] // nil: it has just begun
	told time.Time              // when the log was told last; of the step's goroutine
}

// progressEvery is how often the log is told how far a step is.
const progressEvery = 30 * time.Second

// say tells how far the step is.
func (p *progress) say(format string, args ...any) {
	far := fmt.Sprintf(format, args...)
	p.far.Store(&far)
	if now := time.Now(); now.Sub(p.told) >= progressEvery {
		p.log.Info("trying another precision", "precision", p.precision, "step", p.step, "progress", far)
		p.told = now
	}
}

// String says what is done, and how far that is.
func (p *progress) String() string {
	text := string(p.step) + " " + p.precision
	if far := p.far.Load(); far != nil {
		text += ": " + *far
	}
	return text
}

// A sample is a record of the stream, with the answer that it got.
type sample struct {
	content []byte
	answer  infer.Prediction
}

// A tap hands records of the stream to a step, one at a time: a record that comes while the step is
// at work, or rests, passes by. Safe for concurrent use.
type tap struct {
	user atomic.Pointer[tapUser] // nil: nobody wants records
}

type tapUser struct {
	of      *infer.Version // whose records it wants
	waits   atomic.Bool    // for a record
	samples chan sample
}

// offer hands a copy of a record on that a version has answered, if a step waits for one.
func (t *tap) offer(v *infer.Version, content []byte, p infer.Prediction) {
	u := t.user.Load()
	if u != nil && u.of == v && u.waits.CompareAndSwap(true, false) {
		u.samples <- sample{slices.Clone(content), p} // it has room
	}
}

// open gives records of a version to the caller, until close.
func (t *tap) open(v *infer.Version) *tapUser {
	u := &tapUser{of: v, samples: make(chan sample, 1)}
	t.user.Store(u)
	return u
}

func (t *tap) close(u *tapUser) { t.user.CompareAndSwap(u, nil) }

// A step rests after each record for restFactor times as long as its work, and maxRest at most, so
// that records of the stream rarely share the processors with it.
const (
	restFactor = 4
	maxRest    = time.Second / 2
)

// next waits for a record, after a rest.
func (u *tapUser) next(ctx context.Context, worked time.Duration) (sample, error) {
	if err := rest(ctx, worked); err != nil {
		return sample{}, err
	}
	u.waits.Store(true)
	select {
	case s := <-u.samples:
		return s, nil
	case <-ctx.Done():
		return sample{}, ctx.Err()
	}
}

func rest(ctx context.Context, worked time.Duration) error {
	select {
	case <-time.After(min(restFactor*worked, maxRest)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A stepWork is what a step needs. It belongs to the step's goroutine.
type stepWork struct {
	serving  *infer.Version // in float32
	v        *infer.Version // in the candidate's precision; nil: not loaded yet
	tap      *tap
	progress *progress
}

// A refusal is an error that holds for the version's files, and not only for now.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

// calibrate measures the ranges for int8 on records of the version's own, and then on records of
// the stream. v is in float32, too: what it needs to calibrate is freed with it. Records that it
// cannot answer do not count.
func (w stepWork) calibrate(ctx context.Context, records int) (*infer.Calibration, error) {
	calibrator, err := w.v.NewCalibrator(ctx)
	if err != nil {
		return nil, err
	}
	done, err := calibrator.AddOwn(ctx, records)
	if err != nil {
		return nil, err
	}
	u := w.tap.open(w.serving)
	defer w.tap.close(u)
	for worked := time.Duration(0); done < records; {
		w.progress.say("%d of %d records", done, records)
		s, err := u.next(ctx, worked)
		if err != nil {
			return nil, err
		}
		start := time.Now()
		err = calibrator.Add(ctx, s.content)
		worked = time.Since(start)
		switch {
		case err == nil:
			done++
		case !errors.As(err, new(*infer.InputError)):
			return nil, err
		}
		if worked > starved {
			w.v.RestorePriority()
		}
	}
	return new(calibrator.Calibration()), nil
}

// starved is how long one record may take in the lowest scheduling class. If it takes longer, the
// processors have hardly any time left for that class.
const starved = 2 * time.Second

// measureRounds is how often each precision is timed.
const measureRounds = 9

// measure returns the shortest time of a record in the candidate and in float32, which run in turn:
// other work on the machine only makes a run longer.
func (w stepWork) measure(ctx context.Context) (took, float32 time.Duration, err error) {
	u := w.tap.open(w.serving)
	defer w.tap.close(u)
	s, err := u.next(ctx, 0) // some models take no made-up record
	var times [2][]time.Duration
	for range measureRounds {
		for i, v := range []*infer.Version{w.v, w.serving} {
			var one time.Duration
			if err == nil {
				one, err = timeOne(ctx, v, s.content)
				times[i] = append(times[i], one)
			}
			if err == nil {
				err = rest(ctx, one)
			}
		}
	}
	if err != nil {
		return 0, 0, err
	}
	return slices.Min(times[0]), slices.Min(times[1]), nil
}

// timeOne returns how long a run with one made-up record takes or, where the model takes none, with
// this one.
func timeOne(ctx context.Context, v *infer.Version, record []byte) (time.Duration, error) {
	batch, err := v.NewTestBatch(ctx, 1, nil)
	if errors.Is(err, infer.ErrMadeUp) {
		batch, err = v.NewTestBatch(ctx, 1, [][]byte{record})
	}
	if err != nil {
		return 0, err
	}
	defer batch.Close()
	start := time.Now()
	err = batch.Run()
	return time.Since(start), err
}

// mostCompared is how many records are compared at most before a precision is refused.
const mostCompared = 2000

// compare compares the candidate's answers with those that records of the stream got, until it is
// decided whether they agree. A record that the candidate cannot answer counts as different.
func (w stepWork) compare(ctx context.Context, least float64, seen func(infer.Agreement)) (infer.Agreement, infer.Verdict, error) {
	u := w.tap.open(w.serving)
	defer w.tap.close(u)
	var (
		a      infer.Agreement
		worked time.Duration
	)
	for {
		w.progress.say("%d records, %d with the same best class", a.Records, a.Same)
		s, err := u.next(ctx, worked)
		if err != nil {
			return a, infer.Open, err
		}
		start := time.Now()
		p, err := w.v.Classify(ctx, s.content)
		worked = time.Since(start)
		switch {
		case ctx.Err() != nil:
			return a, infer.Open, ctx.Err()
		case errors.As(err, new(*infer.OverdueError)):
			return a, infer.Open, &refusal{err}
		case err != nil:
			a.Records++ // and is not the same
		default:
			if _, ok := a.Add(s.answer, p); !ok {
				return a, infer.Open, &refusal{errors.New("its answers have no scores to compare")}
			}
		}
		if worked > starved {
			w.v.RestorePriority()
		}
		seen(a)
		if v := a.Decided(least, mostCompared); v != infer.Open {
			return a, v, nil
		}
	}
}
