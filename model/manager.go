package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoVersion says that no version is serving.
var ErrNoVersion = errors.New("no version is serving")

// ErrHangs says that a run of the version that serves does not end.
var ErrHangs = errors.New("hangs")

// An Observer is told what the model does, from many goroutines and on the
// images' way: it must not block.
type Observer interface {
	// BatchRun is called after each run of a version that answers.
	BatchRun(version int64, r Run)
	// RunOverdue is called when a run takes longer than a run may. It is called
	// again when the run ends after all; until then it keeps its memory.
	RunOverdue(version int64, ended bool)
	// LoadOverdue is called when a load has not ended although its time was up,
	// and again when it has; until then it keeps its memory.
	LoadOverdue(version int64, ended bool)
	// VersionDesired is called with the version that should serve: the one
	// that was chosen by hand, or the highest there is.
	VersionDesired(version int64)
	// VersionLoaded is called when a version has passed its gates.
	VersionLoaded(version int64, took Durations)
	// VersionServing is called when a version begins to serve; not ok: none
	// serves any more.
	VersionServing(version int64, ok bool)
	// VersionRefused is called when a version does not pass a gate.
	VersionRefused(version int64, gate string)
	// VersionRejected is called when a version is taken back, by hand or by
	// itself, with the word for why.
	VersionRejected(version int64, cause string)
	// VersionTried is called with the version that has yet to prove itself: it
	// is being loaded, on probation, a canary or a shadow; before it does
	// anything. Not ok: there is none any more. If native code crashes the
	// process meanwhile, that version is to be blamed: see Blame.
	VersionTried(version int64, ok bool)
	// VersionClosed is called when a version's memory was given back, with
	// how long its last images kept it.
	VersionClosed(version int64, drained time.Duration)
}

// Durations say where the time of one load went. Pause is how long images had
// to wait: nothing, unless the version was loaded in place of another.
type Durations struct {
	Load   time.Duration // TensorFlow's own
	WarmUp time.Duration
	Each   time.Duration // an image in the first run of the largest batch
	Gates  time.Duration // all of them, those before included
	Pause  time.Duration
}

// A Run is one run of a version on a batch.
type Run struct {
	Size   int  // images in the batch
	Failed int  // images that got an error by it
	Halved bool // it failed on some image, and is run again in two halves
	Took   time.Duration
	Err    error
	shared bool // another run went on meanwhile
}

// Unobserved is an Observer that does nothing, to be used or to be embedded.
type Unobserved struct{}

// BatchRun implements Observer.
func (Unobserved) BatchRun(int64, Run) {}

// RunOverdue implements Observer.
func (Unobserved) RunOverdue(int64, bool) {}

// LoadOverdue implements Observer.
func (Unobserved) LoadOverdue(int64, bool) {}

// VersionDesired implements Observer.
func (Unobserved) VersionDesired(int64) {}

// VersionLoaded implements Observer.
func (Unobserved) VersionLoaded(int64, Durations) {}

// VersionServing implements Observer.
func (Unobserved) VersionServing(int64, bool) {}

// VersionRefused implements Observer.
func (Unobserved) VersionRefused(int64, string) {}

// VersionRejected implements Observer.
func (Unobserved) VersionRejected(int64, string) {}

// VersionTried implements Observer.
func (Unobserved) VersionTried(int64, bool) {}

// VersionClosed implements Observer.
func (Unobserved) VersionClosed(int64, time.Duration) {}

// A Manager keeps the versions of one model: which are loaded, and which of
// them answers. Its methods are safe for concurrent use, but for Load and Run,
// of which one may be called at a time.
//
// One goroutine, that of Load or Run, decides. It looks at the directory, at
// what was chosen by hand and at how the versions fare, and does the next
// thing that brings the one in line with the others; loads alone go on beside
// it, one at a time. Everybody else reads routes, which is replaced whole.
type Manager struct {
	// Set once, by New.
	config   Config
	log      *slog.Logger
	observer Observer
	decoding *decoding
	recent   *images // nil: nobody asks for agreement
	choice   *choice
	memory   func() (available uint64, known bool)
	bound    func(longest time.Duration) time.Duration // of a run

	// Safe for concurrent use.
	routes  atomic.Pointer[routes]
	unread  atomic.Pointer[error] // why the choice is not known; nil: it is
	once    sync.Once             // closes ready
	ready   chan struct{}         // closed when a version serves for the first time
	retired sync.WaitGroup        // versions that are being freed, and loads under way
	loads   chan loaded           // the outcome of the load under way
	asked   chan func()           // by hand, to be done between two steps

	// Of the deciding goroutine alone.
	scanned bool              // Run has looked once
	tried   *int64            // what the observer was told; nil: that there is none
	noted   map[string]string // the last problem of each kind that was logged

	// What others read: only the deciding goroutine changes it, and Close after that
	// has ended, and does so under mu.
	mu      sync.Mutex
	known   map[int64]*known // every version that is in the directory, or loaded
	loading *known           // its load is under way
	instead *known           // in place of this one, if not nil
	trial   *trial           // of the version that serves
	resume  chan<- struct{}  // ends the pause, if there is one
	costs   float64          // bytes of memory for a byte of a version's files, at most so far
	late    []lateLoad       // loads whose time was up
}

// New checks the configuration. Load or Run loads a version; Close gives its
// memory back.
func New(c Config, log *slog.Logger, o Observer) (*Manager, error) {
	if err := errors.Join(c.Validate()...); err != nil {
		return nil, err
	}
	m := &Manager{
		decoding: newDecoding(c.MaxPixels),
		config:   c, log: log, observer: o,
		ready: make(chan struct{}), loads: make(chan loaded, 1), asked: make(chan func()),
		known: map[int64]*known{}, noted: map[string]string{},
		choice: newChoice(c), memory: availableMemory, bound: boundOf,
	}
	if c.Gate.Agreement > 0 {
		m.recent = &images{most: c.Gate.Images}
	}
	m.config.Session, m.config.Batch.Max = c.session(), c.MaxBatch()
	m.routes.Store(&routes{})
	return m, nil
}

// Classify answers one encoded image (JPEG, PNG, GIF's first frame, BMP, WebP),
// which it does not keep. It joins the images of concurrent calls to batches.
// Images of the same key are answered by the same version, also while a canary
// takes a part of them. An image that cannot be classified gives an
// *InputError, and so does every further try; other errors, ErrNoVersion among
// them, may pass. While a version is loaded in place of another, it waits.
func (m *Manager) Classify(ctx context.Context, key, image []byte) (Prediction, error) {
	var hung *version
	for {
		v, label, err := m.acquire(ctx, key)
		if err != nil {
			return Prediction{}, err
		}
		p, err := m.classifyBy(ctx, v, label, image)
		v.drop()
		if errors.Is(err, errAbandoned) && v != hung {
			hung = v // another one may serve by now
			continue
		}
		return p, err
	}
}

func (m *Manager) classifyBy(ctx context.Context, v *version, label string, image []byte) (Prediction, error) {
	p, err := v.classify(ctx, image)
	p.Label = label
	if err == nil && m.recent != nil && label == LabelStable {
		m.recent.add(image, p)
	}
	return p, err
}

// ClassifyAs is Classify by the version that has the label; ErrNoVersion says
// that none has.
func (m *Manager) ClassifyAs(ctx context.Context, label string, image []byte) (Prediction, error) {
	v, err := m.acquireLabel(label)
	if err != nil {
		return Prediction{}, err
	}
	defer v.drop()
	p, err := v.classify(ctx, image)
	p.Label = label
	return p, err
}

// Info tells one version from all others.
type Info struct {
	Model   string
	Version int64  // remote.NoVersion: the model server does not tell
	Digest  string // of the version's directory: "sha256:…"
}

func (i Info) String() string {
	s := fmt.Sprintf("%s, version %d", i.Model, i.Version)
	if i.Version < 0 {
		s = i.Model + ", a version that the model server does not tell"
	}
	if i.Digest != "" {
		s += ", " + i.Digest
	}
	return s
}

// Serving tells which version serves, the stable one. Its error is
// ErrNoVersion, or ErrHangs while a run of it is overdue.
func (m *Manager) Serving() (Info, error) {
	r := m.routes.Load()
	if r.paused != nil {
		return Info{}, fmt.Errorf("%w: version %d is being loaded in place of the last one", ErrNoVersion, r.coming)
	}
	if r.stable == nil {
		if err := m.unknown(); err != nil {
			return Info{}, fmt.Errorf("%w: %w", ErrNoVersion, err)
		}
		return Info{}, ErrNoVersion
	}
	if late := r.stable.batcher.hang(); late != nil {
		return Info{}, fmt.Errorf("version %d %w: %w", r.stable.info.Version, ErrHangs, late)
	}
	return r.stable.info, nil
}

// Records is how many records one run takes at most, of the version that serves.
func (m *Manager) Records() int {
	if v := m.routes.Load().stable; v != nil {
		return v.batcher.Max
	}
	return m.config.Batch.Max
}

// Beside is the label of the version that answers beside the stable one,
// LabelCanary or LabelShadow; empty: there is none.
func (m *Manager) Beside() string { return m.routes.Load().label }

// Wait waits until a version has begun to serve; its error is that of ctx.
func (m *Manager) Wait(ctx context.Context) error {
	select {
	case <-m.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// closeTimeout bounds Close: a load in TensorFlow cannot be interrupted.
const closeTimeout = 10 * time.Second

// Close stops serving, and waits until the memory of every version is given
// back, which an image or a load under way delays, but not for ever: a run that does
// not end is left to the end of the process. Run must have ended.
func (m *Manager) Close() {
	m.routes.Store(&routes{})
	m.mu.Lock()
	for _, k := range m.known {
		m.unload(k)
	}
	m.mu.Unlock()
	freed := make(chan struct{})
	go func() {
		defer close(freed)
		m.retired.Wait()
	}()
	select {
	case <-freed:
	case <-time.After(closeTimeout):
		m.log.Warn("a version still loads, or a run of it does not end; its memory is not given back", "after", closeTimeout)
	}
}

// Wanted is the version that serves or, while none does, the one that should:
// what was chosen by hand, or the highest that was neither refused nor taken
// back; not ok: there is none.
func (m *Manager) Wanted() (version int64, ok bool) {
	if v := m.routes.Load().stable; v != nil {
		return v.info.Version, true
	}
	d := m.choice.now()
	if d.Use != nil {
		return *d.Use, true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	good := false
	for _, k := range m.known {
		if !m.config.Versions.allows(k.number) {
			continue
		}
		fine := k.refused == nil && !d.against(k)
		if !ok || fine && !good || fine == good && k.number > version {
			version, ok, good = k.number, true, fine
		}
	}
	return version, ok
}
