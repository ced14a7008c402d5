package model

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"inceptor/model/infer"
)

// ErrNoVersion says that no version is serving.
var ErrNoVersion = errors.New("no version is serving")

// An Observer is called about versions and their runs, from many goroutines and while records
// wait. Its methods must not block.
type Observer interface {
	infer.Observer
	// LoadOverdue is called when a load has exceeded model.gate.timeout and goes on, and again
	// when it ends. Until then it keeps its memory.
	LoadOverdue(version int64, ended bool)
	// VersionDesired is called with the version that should serve: the one that was chosen by
	// hand, or the highest there is.
	VersionDesired(version int64)
	// VersionLoaded is called when a version has passed its gates.
	VersionLoaded(version int64, took infer.Durations)
	// VersionServing is called when a version begins to serve; not ok: none serves any more.
	VersionServing(version int64, ok bool)
	// VersionFailed is called when a version does not pass a gate.
	VersionFailed(version int64, gate string)
	// VersionRolledBack is called when a version is rolled back, with one of the causes, such as
	// CauseSlow.
	VersionRolledBack(version int64, cause string)
	// PrecisionServing is called with the precision of the version that serves; empty: it runs as
	// it was exported.
	PrecisionServing(precision string)
	// PrecisionCompared is called with how many records were answered in another precision so far,
	// and how many of them with the same best class.
	PrecisionCompared(precision string, records, same int)
	// PrecisionDecided is called with the verdict on another precision: agrees or refused.
	PrecisionDecided(precision, verdict string)
	// VersionUnproven is called with the version that has yet to prove itself, before it does
	// anything: it is being loaded, on probation, a canary or a shadow. Not ok: there is none any
	// more. If native code crashes the process meanwhile, that version is to blame: see Blame.
	VersionUnproven(version int64, ok bool)
	// VersionClosed is called when a version's memory was freed, with how long its last records
	// kept it.
	VersionClosed(version int64, drained time.Duration)
}

// Unobserved is an Observer that does nothing, to use or to embed.
type Unobserved struct{}

// BatchRun implements Observer.
func (Unobserved) BatchRun(int64, infer.Run) {}

// RunOverdue implements Observer.
func (Unobserved) RunOverdue(int64, bool) {}

// LoadOverdue implements Observer.
func (Unobserved) LoadOverdue(int64, bool) {}

// VersionDesired implements Observer.
func (Unobserved) VersionDesired(int64) {}

// VersionLoaded implements Observer.
func (Unobserved) VersionLoaded(int64, infer.Durations) {}

// VersionServing implements Observer.
func (Unobserved) VersionServing(int64, bool) {}

// VersionFailed implements Observer.
func (Unobserved) VersionFailed(int64, string) {}

// VersionRolledBack implements Observer.
func (Unobserved) VersionRolledBack(int64, string) {}

// PrecisionServing implements Observer.
func (Unobserved) PrecisionServing(string) {}

// PrecisionCompared implements Observer.
func (Unobserved) PrecisionCompared(string, int, int) {}

// PrecisionDecided implements Observer.
func (Unobserved) PrecisionDecided(string, string) {}

// VersionUnproven implements Observer.
func (Unobserved) VersionUnproven(int64, bool) {}

// VersionClosed implements Observer.
func (Unobserved) VersionClosed(int64, time.Duration) {}

// A Manager decides which versions of one model are loaded, and which of them answers. Its methods
// are safe for concurrent use, except for Load, Run and Scan: call one of them at a time.
type Manager struct {
	// Set once, by New, and safe for concurrent use.
	config       Config
	log          *slog.Logger
	decodeLimits *infer.DecodeLimits
	recent       *images // the last ones that were answered; nil: nobody asks for agreement
	tap          *tap    // takes records for the steps of a candidate
	stateFile    *stateFile
	published    *published  // by the reconciler
	asked        chan func() // to be done by Run between two rounds

	reconciler *reconciler // of the goroutine of Load, Run or Scan; of Close after that
}

// New checks the configuration. Load or Run loads a version; Close frees its memory.
func New(c Config, log *slog.Logger, o Observer) (*Manager, error) {
	if err := errors.Join(c.Validate()...); err != nil {
		return nil, err
	}
	m := &Manager{
		config: c, log: log, decodeLimits: infer.NewDecodeLimits(c.MaxPixels), stateFile: newStateFile(c),
		published: newPublished(), asked: make(chan func()),
	}
	if c.Gate.Agreement > 0 {
		m.recent = &images{}
	}
	m.reconciler = newReconciler(c, log, o, m.stateFile, m.published, newLoads(c, log, o, m.decodeLimits), m.recent)
	m.tap = m.reconciler.search.tap
	return m, nil
}

// Classify answers one encoded image (JPEG, PNG, GIF's first frame, BMP, WebP), which it
// does not keep. It joins the images of concurrent calls to batches. Images of the same key
// are answered by the same version, also while a canary takes a part of them. An image that
// cannot be classified gives an *infer.InputError, and so does every further try; other errors,
// ErrNoVersion among them, may pass. While a version is loaded in place of another, it waits.
func (m *Manager) Classify(ctx context.Context, key, image []byte) (infer.Prediction, error) {
	var stuck *infer.Version // has abandoned this image
	for {
		v, label, err := m.published.acquire(ctx, key)
		if err != nil {
			return infer.Prediction{}, err
		}
		p, err := m.classifyBy(ctx, v, label, image)
		v.Release()
		if errors.Is(err, infer.ErrAbandoned) && v != stuck {
			stuck = v // another version may serve by now
			continue
		}
		return p, err
	}
}

func (m *Manager) classifyBy(ctx context.Context, v *infer.Version, label string, image []byte) (infer.Prediction, error) {
	p, err := v.Classify(ctx, image)
	p.Label = label
	if err == nil && m.recent != nil && label == LabelStable {
		m.recent.add(image, p)
	}
	if err == nil && label == LabelStable {
		m.tap.offer(v, image, p)
	}
	return p, err
}

// ClassifyAs is Classify by the version with this label. The error is ErrNoVersion if none has it.
func (m *Manager) ClassifyAs(ctx context.Context, label string, image []byte) (infer.Prediction, error) {
	v, err := m.published.acquireLabel(label)
	if err != nil {
		return infer.Prediction{}, err
	}
	defer v.Release()
	p, err := v.Classify(ctx, image)
	p.Label = label
	return p, err
}

// Serving returns which version serves, the stable one. The error wraps ErrNoVersion, or
// infer.ErrHangs while a run of it is overdue.
func (m *Manager) Serving() (infer.Info, error) { return m.published.serving() }

// MaxBatch returns how many records one run of the version that serves takes at most.
func (m *Manager) MaxBatch() int {
	if v := m.published.routes.Load().stable; v != nil {
		return v.MaxBatch()
	}
	return m.config.MaxBatch()
}

// Secondary returns LabelCanary or LabelShadow if a version has that label; empty: none has.
func (m *Manager) Secondary() string { return m.published.routes.Load().label }

// Ready is closed when a version serves for the first time.
func (m *Manager) Ready() <-chan struct{} { return m.published.ready }

// DecodeLimits returns the limits on decoding that all versions share.
func (m *Manager) DecodeLimits() *infer.DecodeLimits { return m.decodeLimits }

// Wait waits until a version serves for the first time. The error is that of ctx.
func (m *Manager) Wait(ctx context.Context) error {
	select {
	case <-m.Ready():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeTimeout bounds Close: a load in TensorFlow cannot be interrupted.
const closeTimeout = 10 * time.Second

// Close stops serving, and frees the memory of every version. It waits for records and loads under
// way, but not for ever: the memory of a run that does not end is left to the end of the process.
// Run must have ended.
func (m *Manager) Close() {
	m.reconciler.close()
	if !m.reconciler.loads.wait(closeTimeout) {
		m.log.Warn("a load or a run has not ended; its memory is not freed", "after", closeTimeout)
	}
}

// Wanted returns the version that serves or, while none does, the one that should: the one that was
// chosen by hand, or the highest that has neither failed nor been rolled back; not ok: there is
// none.
func (m *Manager) Wanted() (version int64, ok bool) {
	if v := m.published.routes.Load().stable; v != nil {
		return v.Info().Version, true
	}
	d := m.stateFile.now()
	if d.Use != nil {
		return *d.Use, true
	}
	good := false
	for _, e := range m.published.snapshot.Load().versions {
		if !m.config.Versions.allows(e.Version) {
			continue
		}
		fine := e.failed == nil && !d.forbids(&e)
		if !ok || fine && !good {
			version, ok, good = e.Version, true, fine
		}
	}
	return version, ok
}
