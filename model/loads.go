package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"inceptor/internal/host"
	"inceptor/model/infer"
)

// A gateResult is the result of taking a version through its gates.
type gateResult struct {
	v       *infer.Version // nil: it has failed, or was only inspected
	took    infer.Durations
	overdue <-chan struct{} // not nil: the load, or a run of it, is overdue; closed when all is freed
	err     error
}

// A load takes one version through the gates, with the files as they were found.
type load struct {
	infer.Loader
	files fingerprint // when they had rested
}

// A loadResult is the result of a load.
type loadResult struct {
	gateResult
	entry *versionEntry
	load  load

	// Only if the version replaces another one.
	replaces  *versionEntry
	inspected bool           // the gates that need no memory are passed; nothing is loaded yet
	paused    time.Time      // when records began to wait
	restored  *infer.Version // the version that was replaced, loaded again; nil: it was not
	// Not nil: that load is overdue; closed when all is freed.
	wayBackOverdue <-chan struct{}
}

// loads takes versions through their gates, and frees them, in goroutines of its own. Safe for
// concurrent use.
type loads struct {
	// Set once.
	config       Config
	options      infer.Options // of each version
	log          *slog.Logger
	observer     Observer
	decodeLimits *infer.DecodeLimits
	precisions   *precisionFolder

	results chan loadResult // one element at most, since one load runs at a time
	retired sync.WaitGroup  // running loads, and versions that are being freed
}

func newLoads(c Config, log *slog.Logger, o Observer, d *infer.DecodeLimits) *loads {
	return &loads{config: c, options: c.Options(), log: log, observer: o, decodeLimits: d, precisions: newPrecisionFolder(c), results: make(chan loadResult, 1)}
}

// prepare makes a load of a version. It begins with start or startReplace.
func (m *loads) prepare(e *versionEntry) load {
	l := load{files: e.files, Loader: infer.Loader{
		Options: m.options, Number: e.Version, Dir: e.Dir, DecodeLimits: m.decodeLimits,
		Log: m.log, Observer: m.observer, Gate: new(atomic.Pointer[string]),
	}}
	if len(m.config.candidates()) > 0 {
		l.Remembered = m.precisions.remembered(m.config, e.Dir)
	}
	return l
}

// start takes a version through its gates; the result comes by results. If it replaces another one,
// start only asks the gates that need no memory: see replace.
func (m *loads) start(ctx context.Context, o loadResult) {
	m.retired.Go(func() {
		if o.replaces != nil {
			o.err = o.load.Inspect(ctx)
			o.inspected = o.err == nil
		} else {
			o.gateResult = m.gates(ctx, o.load)
		}
		m.results <- o
	})
}

// free releases a version, and reports when its last runs have ended and it is freed.
func (m *loads) free(v *infer.Version) {
	since := time.Now()
	m.retired.Go(func() {
		v.Release()
		<-v.Freed()
		m.observer.VersionClosed(v.Info().Version, time.Since(since))
	})
}

// freeQuietly is free for a version whose number goes on to serve, in another precision.
func (m *loads) freeQuietly(v *infer.Version) {
	m.retired.Go(func() {
		v.Release()
		<-v.Freed()
	})
}

// freeNext frees the result of the load that is running.
func (m *loads) freeNext() {
	m.retired.Go(func() {
		o := <-m.results
		for _, v := range []*infer.Version{o.v, o.restored} {
			if v != nil {
				v.Release()
				<-v.Freed()
			}
		}
	})
}

// wait waits until all loads have ended and all versions are freed; false: not within this time.
func (m *loads) wait(most time.Duration) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.retired.Wait()
	}()
	select {
	case <-done:
		return true
	case <-time.After(most):
		return false
	}
}

// gracePeriod is how long after model.gate.timeout a load may still return by itself. All but calls
// into TensorFlow stop at the timeout.
const gracePeriod = time.Second

// gates takes a version through its gates within model.gate.timeout. A call into TensorFlow
// cannot be interrupted: if one does not return in time, its result is freed later.
func (m *loads) gates(ctx context.Context, l load) gateResult {
	start, before := time.Now(), host.PrivateMemory()
	within, cancel := context.WithTimeout(ctx, m.config.Gate.Timeout)
	defer cancel()
	l.Enter(infer.GateRead)
	results := make(chan gateResult, 1)
	go func() {
		var p gateResult
		l.Took, l.Late = &p.took, &p.overdue
		if p.v, p.err = l.Load(within); p.err == nil {
			if p.err = l.unchanged(); p.err != nil {
				p.v.Release()
				<-p.v.Freed()
				p.v = nil
			}
		}
		p.took.Gates = time.Since(start)
		results <- p
	}()
	timeout := fmt.Errorf("not done after %v", m.config.Gate.Timeout)
	var p gateResult
	select {
	case p = <-results:
	case <-ctx.Done():
		return gateResult{overdue: m.freeOverdue(results), err: infer.AtGate(infer.GateTimeout, ctx.Err())}
	case <-time.After(m.config.Gate.Timeout + gracePeriod):
		held := max(before, host.PrivateMemory()) - before
		timeout = fmt.Errorf("%w: a call into TensorFlow does not end, at the gate %s; it keeps about %d MiB, and no other version is loaded until it ends",
			timeout, *l.Gate.Load(), held>>20)
		return m.tellOverdue(l, held, gateResult{overdue: m.freeOverdue(results), err: infer.AtGate(infer.GateTimeout, timeout)})
	}
	switch {
	case p.overdue != nil:
		return m.tellOverdue(l, max(before, host.PrivateMemory())-before, p)
	case ctx.Err() == nil && errors.Is(p.err, context.DeadlineExceeded):
		// The time was up; the gate at which that happened is not to blame.
		p.err = infer.AtGate(infer.GateTimeout, timeout)
	}
	return p
}

// freeOverdue frees the result of an overdue load when it ends, and then closes the channel that it
// returns.
func (m *loads) freeOverdue(results <-chan gateResult) <-chan struct{} {
	freed := make(chan struct{})
	m.retired.Go(func() {
		defer close(freed)
		p := <-results
		if p.v != nil {
			p.v.Release()
			<-p.v.Freed()
		}
		if p.overdue != nil {
			<-p.overdue
		}
	})
	return freed
}

// tellOverdue reports a load that is overdue, and later that it has ended.
func (m *loads) tellOverdue(l load, held uint64, p gateResult) gateResult {
	m.observer.LoadOverdue(l.Number, false)
	m.log.Error("load overdue; nothing else is loaded until it ends. It cannot be cancelled, and keeps its memory",
		"model", m.config.Name, "version", l.Number, "gate", *l.Gate.Load(), "bytes", held, "after", m.config.Gate.Timeout)
	m.retired.Go(func() {
		<-p.overdue
		m.observer.LoadOverdue(l.Number, true)
		m.log.Warn("overdue load ended; its memory is freed", "model", m.config.Name, "version", l.Number)
	})
	return p
}

// unchanged fails if the files have changed since they were found.
func (l load) unchanged() error {
	files, _, _, err := fingerprintOf(l.Dir)
	switch {
	case err != nil:
		return infer.AtGate(infer.GateRead, err)
	case files != l.files:
		return infer.AtGate(infer.GateComplete, errors.New("its files changed while it was loaded"))
	}
	return nil
}
