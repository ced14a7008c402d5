package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/errgroup"

	"inceptor/model/remote"
	"inceptor/savedmodel"
)

// A FallbackObserver is told what a Fallback does, from many goroutines: it
// must not block.
type FallbackObserver interface {
	remote.Observer
	// FellBack is called every quarter of a second with whether the model
	// server answers in place of a version here, and how long it did since the
	// last call.
	FellBack(now bool, did time.Duration)
}

// How a version here is given a rest when its runs fail: not for the image's
// sake, that is.
const (
	localFailures = 3 // in a row
	localRest     = 5 * time.Second
)

// A Fallback is a Manager with a model server that answers while no version
// here can. A version here is preferred as soon as there is one. If its runs
// fail, the server answers those images, and after some failures in a row all
// of them for a while; then one image tries the version here first. If neither
// can answer, the error is one that may pass.
type Fallback struct {
	*Manager
	server   *Server
	library  string // path of TensorFlow's, as for savedmodel.OpenLibrary
	observer FallbackObserver

	breaker *gobreaker.TwoStepCircuitBreaker[struct{}] // of the version here
	failure atomic.Pointer[error]                      // the last of its runs
	missing atomic.Pointer[error]                      // why there is no library; nil: there is one
}

// NewFallback checks the configurations. It opens TensorFlow's library if it
// is where library says; if not, that may come later. Nothing is connected to
// yet.
func NewFallback(c Config, f remote.Config, library string, log *slog.Logger, o Observer, fo FallbackObserver) (*Fallback, error) {
	b := &Fallback{library: library, observer: fo}
	var err error
	if b.Manager, err = New(c, log, o); err != nil {
		return nil, err
	}
	if b.server, err = NewServer(c, f, log, fo); err != nil {
		return nil, err
	}
	b.server.decoding = b.decoding // both take this process's memory
	b.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1, Timeout: localRest,
		IsExcluded:  func(err error) bool { return errors.Is(err, errNotRun) },
		ReadyToTrip: func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= localFailures },
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
		b.log.Error("no version can be loaded", "err", err)
	}
	return false
}

// unavailable is why no version here can be asked; empty: one can.
func (b *Fallback) unavailable() string {
	if b.missing.Load() != nil {
		return savedmodel.ErrNoRuntime.Error()
	}
	if _, err := b.Manager.Serving(); err != nil {
		return err.Error()
	}
	if b.breaker.State() == gobreaker.StateOpen {
		return b.lastFailure()
	}
	return ""
}

func (b *Fallback) lastFailure() string { return "runs fail: " + (*b.failure.Load()).Error() }

// Records is how many records one run takes at most, here or on the server.
func (b *Fallback) Records() int { return max(b.Manager.Records(), b.server.Records()) }

// Classify is Manager.Classify, or what the server answers.
func (b *Fallback) Classify(ctx context.Context, key, image []byte) (Prediction, error) {
	why := b.unavailable()
	var here error
	if why == "" {
		var p Prediction
		if p, here = b.here(ctx, key, image); here == nil || !mayPass(here) || ctx.Err() != nil {
			return p, here
		}
		why = here.Error()
	} else {
		here = errors.New(why)
	}
	p, err := b.server.classify(ctx, image, b.wanted())
	p.Reason = why
	var guilty *InputError
	switch {
	case errors.As(err, &guilty) && guilty.Reason == ReasonServerTooLarge:
		return p, fmt.Errorf("no version here can answer (%w), and the server cannot: %w", here, guilty.Err) // one here will
	case err != nil && mayPass(err) && ctx.Err() == nil:
		return p, fmt.Errorf("no version here can answer (%w): %w", here, err)
	}
	return p, err
}

// wanted is Manager.Wanted for the server; remote.NoVersion: any version.
func (b *Fallback) wanted() int64 {
	version, ok := b.Wanted()
	if !ok {
		return remote.NoVersion
	}
	return version
}

// mayPass tells whether an error does not blame the image.
func mayPass(err error) bool {
	var guilty *InputError
	return !errors.As(err, &guilty)
}

var (
	errResting = errors.New("another image is trying it")          // why a version here is not asked
	errNotRun  = errors.New("says nothing about a version's runs") // for the breaker
)

// here asks the version here, unless its runs fail.
func (b *Fallback) here(ctx context.Context, key, image []byte) (Prediction, error) {
	done, err := b.breaker.Allow()
	if err != nil {
		return Prediction{}, fmt.Errorf("%s; %w", b.lastFailure(), errResting)
	}
	p, err := b.Manager.Classify(ctx, key, image)
	switch {
	case err == nil, !mayPass(err):
		done(nil)
		return p, err
	case errors.Is(err, ErrNoVersion), ctx.Err() != nil:
		done(errNotRun)
		return p, err
	}
	b.failure.Store(&err)
	done(err)
	return p, fmt.Errorf("runs fail: %w", err)
}

// Serving tells which version answers, here or on the server. Its error is why
// none can, and wraps ErrNoVersion.
func (b *Fallback) Serving() (Info, error) {
	why := b.unavailable()
	if why == "" {
		return b.Manager.Serving()
	}
	info, err := b.server.serving(b.wanted())
	if err != nil {
		return Info{}, fmt.Errorf("%w; here: %s", err, why)
	}
	return info, nil
}

const (
	watchEvery = 250 * time.Millisecond // it looks at itself

	// retryEvery is how often library and directory are looked for.
	retryEvery = 5 * time.Second
)

// Run runs the versions here, and asks the server for what it has while it is
// needed, until ctx ends.
func (b *Fallback) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { b.runHere(ctx); return nil })
	g.Go(func() error { b.runServer(ctx); return nil })
	b.watch(ctx)
	return g.Wait()
}

// watch tells who answers.
func (b *Fallback) watch(ctx context.Context) {
	last, fell := time.Now(), false
	for ctx.Err() == nil {
		why := b.unavailable()
		if why == "" && b.breaker.State() == gobreaker.StateHalfOpen {
			why = b.lastFailure() // one image tries the version here
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
				b.log.Info("a version here answers")
			}
		}
		b.observer.FellBack(fell, did)
		select {
		case <-ctx.Done():
		case <-time.After(watchEvery):
		}
	}
}

// runServer lets the server be ready when it is needed.
func (b *Fallback) runServer(ctx context.Context) {
	for ctx.Err() == nil {
		if b.unavailable() != "" {
			b.server.probe(ctx, b.wanted())
		}
		select {
		case <-ctx.Done():
		case <-time.After(probeEvery):
		}
	}
}

// runHere runs the versions here, as soon as there are library and directory.
func (b *Fallback) runHere(ctx context.Context) {
	for ctx.Err() == nil {
		if b.openLibrary() {
			if err := b.Manager.Run(ctx); err != nil {
				b.note("no version can be loaded", err.Error())
			}
		} else if candidates, err := scan(b.config.Dir); err == nil {
			b.remember(candidates) // for wanted
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

// Load finds out once what can answer: a version here, or the server. Its error
// is why neither can.
func (b *Fallback) Load(ctx context.Context) error {
	here := b.Manager.Load(ctx)
	if here == nil {
		return nil
	}
	if err := b.missing.Load(); err != nil {
		here = *err
	}
	if err := b.server.load(ctx, b.wanted()); err != nil {
		return errors.Join(here, err)
	}
	return nil
}

// Wait waits until a version here or the server can answer; its error is that
// of ctx.
func (b *Fallback) Wait(ctx context.Context) error {
	select {
	case <-b.ready:
		return nil
	case <-b.server.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends what is under way at the server, and gives the memory of the
// versions here back. Run must have ended.
func (b *Fallback) Close() {
	b.server.Close()
	b.Manager.Close()
}
