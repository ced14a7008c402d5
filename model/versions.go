package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"inceptor/savedmodel"
)

// known is what the manager remembers of one version.
type known struct {
	candidate
	there   bool // in the directory, when it was last looked at
	files   fingerprint
	since   time.Time       // when its files were first seen as they are, or its state began
	found   bool            // files and since are known
	bytes   int64           // of these files
	digest  string          // of these files; empty: not made yet
	loaded  *version        // nil: it is not
	late    <-chan struct{} // closed when memory was given back that a load or a run has kept too long
	hung    string          // why late, if a run has; for people
	refused *GateError
	retry   time.Time // when to try again although nothing changed; zero: never
	backoff *backoff.ExponentialBackOff
}

// isLate tells whether a load or a run of these files is still under way
// although its time was up. Another load beside it would be later still, or hang
// again, and take as much memory again.
func (k *known) isLate() bool { return k.late != nil && !isClosed(k.late) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// hangs tells whether a version answers nothing: every lane has a run that
// does not end, or had when it was unloaded.
func (k *known) hangs() bool {
	if k.loaded != nil {
		return k.loaded.batcher.isStuck()
	}
	return k.hung != "" && k.isLate()
}

// remember keeps what was found, and drops what is known of versions that are
// neither there nor loaded.
func (m *Manager) remember(candidates []candidate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.known {
		k.there = false
	}
	for _, c := range candidates {
		k := m.known[c.number]
		if k == nil {
			k = &known{}
			m.known[c.number] = k
		}
		k.candidate, k.there = c, true
	}
	for number, k := range m.known {
		if !k.there && k.loaded == nil && k != m.loading && k != m.instead && !k.isLate() {
			delete(m.known, number)
		}
	}
}

// lookAway notes that it is not known what is there. What was refused stays so.
func (m *Manager) lookAway() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.known {
		k.there = false
	}
}

// order lists the versions that may be loaded, the highest first.
func (m *Manager) order() []*known {
	var list []*known
	for _, k := range m.known {
		if (k.there || k.loaded != nil) && m.config.Versions.allows(k.number) {
			list = append(list, k)
		}
	}
	slices.SortFunc(list, func(a, b *known) int { return cmp.Compare(b.number, a.number) })
	return list
}

// Pauses between tries of a version that was refused through no fault of its
// own.
const (
	firstRetry = time.Second
	maxRetry   = time.Minute
)

// rest tells how long a version is not to be touched yet: until its files have
// been quiet, or until it may be tried again.
func (m *Manager) rest(k *known, quiet time.Duration, d decided) time.Duration {
	now := time.Now()
	files, size, last, _ := fingerprintOf(k.dir) // files that cannot be read fail a gate, which tells why
	if !k.found || files != k.files {
		since := now
		if !k.found {
			m.log.Info("found", "model", m.config.Name, "version", k.number)
			if !m.scanned && last.Before(now) {
				since = last // it was here before us, and need not rest again
			}
		}
		m.mu.Lock()
		k.files, k.bytes, k.since, k.found, k.digest = files, size, since, true, ""
		k.refused, k.retry, k.backoff = nil, time.Time{}, nil
		k.late, k.hung = nil, "" // these files do not hang yet
		m.mu.Unlock()
	}
	switch {
	case k.isLate(), k.refused != nil && k.retry.IsZero():
		return m.config.Poll
	case k.refused != nil && now.Before(k.retry):
		return k.retry.Sub(now)
	}
	if wait := k.since.Add(quiet).Sub(now); wait > 0 {
		return wait
	}
	if r, ok := d.of(k.number); ok && m.still(k, r) {
		return m.config.Poll
	}
	return 0
}

// still tells whether a version is the one that was taken back, and no other
// under the same number.
func (m *Manager) still(k *known, r rejected) bool {
	if k.digest == "" {
		digest, err := savedmodel.Digest(context.Background(), k.dir)
		if err != nil {
			return false // a gate tells why
		}
		m.mu.Lock()
		k.digest = digest
		m.mu.Unlock()
	}
	if k.digest != r.Digest {
		m.log.Info("changed since it was taken back", "model", m.config.Name, "version", k.number)
		m.decide(func(d *decided) { d.forgive(k.number) })
		return false
	}
	return true
}

// passed is what came of taking a version through its gates.
type passed struct {
	v    *version // nil: it was refused, or has only been looked at
	took Durations
	late <-chan struct{} // not nil: it still loads, or a run of it hangs; closed when it has been freed
	err  error
}

// A loaded is the outcome of a load.
type loaded struct {
	passed
	k      *known
	loader loader

	// Of a load in place of another version.
	instead  *known
	looked   bool      // the files are as they should be, and nothing is loaded yet
	paused   time.Time // when images began to wait
	restored *version  // instead, loaded again
	// Not nil: instead is still being loaded again, although its time was up; closed when
	// that has been freed.
	stillLoads <-chan struct{}
}

// load takes a version through its gates, aside; the outcome comes by
// m.loads. The version instead, if not nil, is drained and unloaded once the
// other one has been looked at, and loaded again if that is refused after all.
func (m *Manager) load(ctx context.Context, k, instead *known) {
	m.log.Info("loading", "model", m.config.Name, "version", k.number)
	r := m.routes.Load()
	m.mu.Lock()
	m.loading, m.instead = k, instead
	m.mu.Unlock()
	m.tellTried()
	l := loader{
		config: m.config, decoding: m.decoding, at: k.candidate, files: k.files, serving: r.stable, // compared with, loaded or not
		log: m.log, observer: m.observer, gate: new(atomic.Pointer[string]), bound: m.bound, calm: r.stable != nil && instead == nil,
	}
	// The way back, or what was chosen by hand, need not agree with what it is to replace.
	if serving := m.servingKnown(); m.recent != nil && serving != nil && k.number > serving.number && !m.choice.now().uses(k.number) {
		l.recent = m.recent.list()
	}
	m.retired.Go(func() {
		o := loaded{k: k, loader: l, instead: instead}
		if instead != nil {
			_, o.err = l.look(ctx)
			o.looked = o.err == nil
		} else {
			o.passed = m.gates(ctx, l)
		}
		m.loads <- o
	})
}

// graceful is how long after the end of its time a load may still return by itself: all that is not
// a call into TensorFlow looks at the time.
const graceful = time.Second

// gates is a load within model.gate.timeout. TensorFlow cannot be
// interrupted: what is too late is freed when it comes.
func (m *Manager) gates(ctx context.Context, l loader) passed {
	start, before := time.Now(), privateMemory()
	within, cancel := context.WithTimeout(ctx, m.config.Gate.Timeout)
	defer cancel()
	l.gate = new(atomic.Pointer[string]) // of this load alone: another one may begin while it is late
	l.enter(GateRead)
	came := make(chan passed, 1)
	go func() {
		var p passed
		l.took, l.late = &p.took, &p.late
		if p.v, p.err = l.load(within); p.err == nil {
			if p.err = l.unchanged(); p.err != nil {
				p.v.drop()
				<-p.v.freed
				p.v = nil
			}
		}
		p.took.Gates = time.Since(start)
		came <- p
	}()
	late := fmt.Errorf("not done after %v", m.config.Gate.Timeout)
	var p passed
	select {
	case p = <-came:
	case <-ctx.Done():
		return passed{late: m.freeLate(came), err: atGate(GateTimeout, ctx.Err())}
	case <-time.After(m.config.Gate.Timeout + graceful):
		held := max(before, privateMemory()) - before
		late = fmt.Errorf("%w: a call into TensorFlow does not end, at the gate %s; it keeps about %d MiB, and no other version is loaded until it ends",
			late, *l.gate.Load(), held>>20)
		return m.overdue(l, held, passed{late: m.freeLate(came), err: atGate(GateTimeout, late)})
	}
	switch {
	case p.late != nil:
		return m.overdue(l, max(before, privateMemory())-before, p)
	case ctx.Err() == nil && errors.Is(p.err, context.DeadlineExceeded): // the gate that noticed first is not to blame
		p.err = atGate(GateTimeout, late)
	}
	return p
}

// freeLate frees what a load brings after its time, and then closes the channel that it returns.
func (m *Manager) freeLate(came <-chan passed) <-chan struct{} {
	freed := make(chan struct{})
	m.retired.Go(func() {
		defer close(freed)
		p := <-came
		if p.v != nil {
			p.v.drop()
			<-p.v.freed
		}
		if p.late != nil {
			<-p.late
		}
	})
	return freed
}

// overdue tells of a load that was refused and goes on all the same, until it ends.
func (m *Manager) overdue(l loader, held uint64, p passed) passed {
	m.observer.LoadOverdue(l.at.number, false)
	m.log.Error("a load does not end, and nothing else is loaded until it does. It cannot be cancelled, and keeps its memory",
		"model", m.config.Name, "version", l.at.number, "gate", *l.gate.Load(), "bytes", held, "after", m.config.Gate.Timeout)
	m.retired.Go(func() {
		<-p.late
		m.observer.LoadOverdue(l.at.number, true)
		m.log.Warn("a load that was overdue has ended; what it held is given back", "model", m.config.Name, "version", l.at.number)
	})
	return p
}

// A lateLoad is a load that goes on although its time was up.
type lateLoad struct {
	number int64
	ended  <-chan struct{}
}

// lateness is why nothing is loaded now; empty: nothing speaks against it. What a load beside one
// that hangs would take is not known, and it may hang as well. Only what served, and was unloaded
// to make room, is loaded again beside it. The lock is held.
func (m *Manager) lateness() string {
	for _, l := range m.late {
		if !isClosed(l.ended) {
			return fmt.Sprintf("a load of version %d does not end", l.number)
		}
	}
	return ""
}

// unchanged makes sure that what was loaded is what was looked at, and nothing
// in between.
func (l loader) unchanged() error {
	files, _, _, err := fingerprintOf(l.at.dir)
	switch {
	case err != nil:
		return atGate(GateRead, err)
	case files != l.files:
		return atGate(GateComplete, errors.New("its files changed while it was loaded"))
	}
	return nil
}

// arrived notes the outcome of a load.
func (m *Manager) arrived(ctx context.Context, o loaded) {
	if o.looked {
		o.looked = false
		m.pause(ctx, o)
		return
	}
	m.settle(ctx, o)
	if o.v == nil && ctx.Err() == nil {
		m.unchoose(o.k) // without the lock: the file may be locked by another process
	}
}

// settle notes what came of a load.
func (m *Manager) settle(ctx context.Context, o loaded) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loading, m.instead = nil, nil
	o.k.late, o.k.hung = o.late, ""
	if o.restored != nil {
		o.instead.loaded = o.restored
	}
	if o.late != nil {
		m.late = append(m.late, lateLoad{o.k.number, o.late})
	}
	if o.stillLoads != nil {
		o.instead.late, o.instead.hung = o.stillLoads, ""
		m.late = append(m.late, lateLoad{o.instead.number, o.stillLoads})
	}
	if o.v != nil {
		o.k.loaded, o.k.digest, o.k.since, o.k.refused = o.v, o.v.info.Digest, time.Now(), nil
		m.learn(o.k)
		if o.instead != nil {
			o.took.Pause = time.Since(o.paused)
		}
		m.observer.VersionLoaded(o.k.number, o.took)
		m.log.Info("passed its gates", "model", m.config.Name, "version", o.k.number,
			"load", o.took.Load.Round(time.Millisecond), "warm_up", o.took.WarmUp.Round(time.Millisecond), "took", o.took.Gates.Round(time.Millisecond))
		return
	}
	if ctx.Err() == nil {
		m.refuse(o.k, o.err)
	}
}

// unchoose takes a choice by hand back whose version was refused for good: what
// was chosen before holds again, else nothing would serve after a restart.
func (m *Manager) unchoose(k *known) {
	if !k.retry.IsZero() || errors.Is(k.refused, savedmodel.ErrNoRuntime) || !m.choice.now().uses(k.number) {
		return
	}
	m.decide(func(d *decided) { d.unuse(k.number) })
	again := "the highest"
	if use := m.choice.now().Use; use != nil {
		again = strconv.FormatInt(*use, 10)
	}
	m.log.Warn("the chosen version was refused; what was chosen before holds again", "model", m.config.Name, "version", k.number, "again", again)
}

// refuse notes why a version is not taken. The lock is held.
func (m *Manager) refuse(k *known, err error) {
	gate := &GateError{GateLoad, err}
	errors.As(err, &gate)
	k.refused = gate
	k.retry = time.Time{}
	if gate.transient() && !errors.Is(err, savedmodel.ErrNoRuntime) {
		if k.backoff == nil {
			k.backoff = &backoff.ExponentialBackOff{InitialInterval: firstRetry, MaxInterval: maxRetry, Multiplier: 2, RandomizationFactor: 0.2}
		}
		k.retry = time.Now().Add(k.backoff.NextBackOff())
	}
	m.observer.VersionRefused(k.number, gate.Gate)
	logPanic(m.log, err, "model", m.config.Name, "version", k.number, "gate", gate.Gate)
	m.log.Error("refused", "model", m.config.Name, "version", k.number, "gate", gate.Gate, "err", gate.Err, "again", !k.retry.IsZero())
}

// unload ends the manager's own lease on a version; the last one frees it. The
// lock is held.
func (m *Manager) unload(k *known) {
	v := k.loaded
	if v == nil {
		return
	}
	k.loaded = nil
	if late := v.batcher.hang(); late != nil {
		k.late, k.hung = v.freed, late.Error()
	}
	m.log.Info("draining", "model", m.config.Name, "version", k.number)
	since := time.Now()
	m.retired.Go(func() {
		v.drop()
		<-v.freed
		m.observer.VersionClosed(v.info.Version, time.Since(since))
	})
}
