package fallback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/errgroup"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/remote"
	"inceptor/savedmodel"
)

// An Observer is called by a Fallback, from many goroutines. Its methods must not block.
type Observer interface {
	remote.Observer
	// FellBack is called every quarter of a second with whether the model server answers in
	// place of a local version, and how long it did so since the last call.
	FellBack(now bool, did time.Duration)
}

// When a local version is not asked for a while, because its runs fail and no record is to
// blame.
const (
	maxLocalFailures = 3 // in a row
	localPause       = 5 * time.Second
)

// A Fallback is a Manager with a model server that answers while no local version can. It
// prefers a local version as soon as there is one. If a run of that fails, the server answers
// its records, and after some failures in a row all records for a while. Then one record tries
// the local version first. If neither can answer, the error may pass.
type Fallback struct {
	// Set once.
	*model.Manager
	server   *Server
	library  string // path of TensorFlow's library, as for savedmodel.OpenLibrary
	log      *slog.Logger
	observer Observer
	breaker  *gobreaker.TwoStepCircuitBreaker[struct{}] // of the local version

	// Safe for concurrent use.
	lastFailure atomic.Pointer[error] // of a local run
	missing     atomic.Pointer[error] // why there is no library; nil: it is open
}

// New checks the configurations. It opens TensorFlow's library if that is at this path;
// otherwise Run opens it later. It connects to nothing yet.
func New(c model.Config, f remote.Config, library string, log *slog.Logger, o model.Observer, fo Observer) (*Fallback, error) {
	m, err := model.New(c, log, o)
	if err != nil {
		return nil, err
	}
	server, err := newServer(c, f, m.DecodeLimits(), log, fo)
	if err != nil {
		return nil, err
	}
	b := &Fallback{Manager: m, server: server, library: library, log: log, observer: fo}
	b.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1, Timeout: localPause,
		IsExcluded:  func(err error) bool { return errors.Is(err, errNotCounted) },
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= maxLocalFailures },
	})
	b.openLibrary()
	return b, nil
}

func (b *Fallback) openLibrary() bool {
	err := savedmodel.OpenLibrary(b.library)
	if err == nil {
		b.missing.Store(nil)
		return true
	}
	if b.missing.Swap(&err) == nil {
		b.log.Error("cannot open TensorFlow's library; no local version can be loaded", "err", err)
	}
	return false
}

// whyNotLocal returns why no local version can be asked; empty: one can.
func (b *Fallback) whyNotLocal() string {
	if b.missing.Load() != nil {
		return savedmodel.ErrNoRuntime.Error()
	}
	if _, err := b.Manager.Serving(); err != nil {
		return err.Error()
	}
	if b.breaker.State() == gobreaker.StateOpen {
		return b.whyRunsFail()
	}
	return ""
}

func (b *Fallback) whyRunsFail() string { return "runs fail: " + (*b.lastFailure.Load()).Error() }

// MaxBatch returns how many records one run takes at most, in this process or on the server.
func (b *Fallback) MaxBatch() int { return max(b.Manager.MaxBatch(), b.server.MaxBatch()) }

// Classify answers one record, as Manager.Classify does, with a local version or with the
// server.
func (b *Fallback) Classify(ctx context.Context, key, image []byte) (infer.Prediction, error) {
	why := b.whyNotLocal()
	var local error
	if why == "" {
		var p infer.Prediction
		if p, local = b.classifyLocally(ctx, key, image); local == nil || !mayPass(local) || ctx.Err() != nil {
			return p, local
		}
		why = local.Error()
	} else {
		local = errors.New(why)
	}
	p, err := b.server.model.Classify(ctx, image, b.wanted())
	p.Reason = why
	var guilty *infer.InputError
	switch {
	case errors.As(err, &guilty) && guilty.Reason == infer.ReasonServerTooLarge: // a local version will take it
		return p, fmt.Errorf("no local version can answer (%w), and the model server cannot: %w", local, guilty.Err)
	case err != nil && mayPass(err) && ctx.Err() == nil:
		return p, fmt.Errorf("no local version can answer (%w): %w", local, err)
	}
	return p, err
}

// wanted returns the version to ask the server for; remote.NoVersion: any.
func (b *Fallback) wanted() int64 {
	version, ok := b.Wanted()
	if !ok {
		return remote.NoVersion
	}
	return version
}

// mayPass reports whether an error does not blame the record.
func mayPass(err error) bool {
	var guilty *infer.InputError
	return !errors.As(err, &guilty)
}

var (
	errTrying     = errors.New("another image is trying it")          // why the local version is not asked
	errNotCounted = errors.New("says nothing about a version's runs") // for the breaker
)

// classifyLocally asks the local version, unless its runs fail.
func (b *Fallback) classifyLocally(ctx context.Context, key, image []byte) (infer.Prediction, error) {
	done, err := b.breaker.Allow()
	if err != nil {
		return infer.Prediction{}, fmt.Errorf("%s; %w", b.whyRunsFail(), errTrying)
	}
	p, err := b.Manager.Classify(ctx, key, image)
	switch {
	case err == nil, !mayPass(err):
		done(nil)
		return p, err
	case errors.Is(err, model.ErrNoVersion), ctx.Err() != nil:
		done(errNotCounted)
		return p, err
	}
	b.lastFailure.Store(&err)
	done(err)
	return p, fmt.Errorf("runs fail: %w", err)
}

// Serving returns which version answers, in this process or on the server. The error says why
// neither can, and wraps ErrNoVersion.
func (b *Fallback) Serving() (infer.Info, error) {
	why := b.whyNotLocal()
	if why == "" {
		return b.Manager.Serving()
	}
	info, err := b.server.serving(b.wanted())
	if err != nil {
		return infer.Info{}, fmt.Errorf("%w; local versions: %s", err, why)
	}
	return info, nil
}

const (
	// watchEvery is how often the observer is told who answers.
	watchEvery = 250 * time.Millisecond
	// retryEvery is how often a missing library or directory is looked for.
	retryEvery = 5 * time.Second
)

// Run manages the local versions, and keeps the server ready while it is needed, until ctx
// ends.
func (b *Fallback) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { b.runManager(ctx); return nil })
	g.Go(func() error { b.runServer(ctx); return nil })
	b.watch(ctx)
	return g.Wait()
}

// watch logs, and tells the observer, whether the server answers.
func (b *Fallback) watch(ctx context.Context) {
	last, fell := time.Now(), false
	for ctx.Err() == nil {
		why := b.whyNotLocal()
		if why == "" && b.breaker.State() == gobreaker.StateHalfOpen {
			why = b.whyRunsFail() // one record tries the local version
		}
		did := time.Duration(0)
		if fell {
			did = time.Since(last)
		}
		last = time.Now()
		if now := why != ""; now != fell {
			if fell = now; fell {
				b.log.Warn("falling back to the model server", "reason", why)
			} else {
				b.log.Info("a local version answers again")
			}
		}
		b.observer.FellBack(fell, did)
		select {
		case <-ctx.Done():
		case <-time.After(watchEvery):
		}
	}
}

// runServer asks the server what it has while it is needed.
func (b *Fallback) runServer(ctx context.Context) {
	for ctx.Err() == nil {
		if b.whyNotLocal() != "" {
			b.server.probe(ctx, b.wanted())
		}
		select {
		case <-ctx.Done():
		case <-time.After(probeEvery):
		}
	}
}

// runManager runs the Manager as soon as the library and the directory are there.
func (b *Fallback) runManager(ctx context.Context) {
	warned := ""
	for ctx.Err() == nil {
		if !b.openLibrary() {
			_ = b.Scan() // so that wanted has a version; Run reports the error
		} else if err := b.Manager.Run(ctx); err != nil && err.Error() != warned {
			warned = err.Error()
			b.log.Warn("no local version can be loaded", "reason", warned)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

// Load finds once what can answer: a local version, or the server. The error says why neither
// can.
func (b *Fallback) Load(ctx context.Context) error {
	local := b.Manager.Load(ctx)
	if local == nil {
		return nil
	}
	if err := b.missing.Load(); err != nil {
		local = *err
	}
	if err := b.server.load(ctx, b.wanted()); err != nil {
		return errors.Join(local, err)
	}
	return nil
}

// Wait waits until a local version or the server can answer. The error is that of ctx.
func (b *Fallback) Wait(ctx context.Context) error {
	select {
	case <-b.Ready():
		return nil
	case <-b.server.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close cancels the calls under way, and frees the memory of the local versions. Run must have
// ended.
func (b *Fallback) Close() {
	b.server.Close()
	b.Manager.Close()
}
