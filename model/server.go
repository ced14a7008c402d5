package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"inceptor/model/remote"
)

// A Server answers with the model of a model server alone: neither versions
// here nor TensorFlow's library are needed. Its methods are safe for concurrent
// use, but for Run, which is called once.
type Server struct {
	distant
	log     *slog.Logger
	resting atomic.Bool           // its breaker is open
	problem atomic.Pointer[error] // why it could not be asked for what it has; nil: it was not, or it could
	warned  string                // of the last warning, "" if there is nothing to warn of; probe only
	ready   chan struct{}
	once    sync.Once // ready
}

// NewServer checks the configurations; it connects to nothing yet. The model
// server's name for the model is c.Name, unless f has another.
func NewServer(c Config, f remote.Config, log *slog.Logger, o remote.Observer) (*Server, error) {
	if err := errors.Join(c.Validate()...); err != nil {
		return nil, err
	}
	if f.Model == "" {
		f.Model = c.Name
	}
	c.Session.OwnThreads, c.Batch.Max = true, c.MaxBatch()
	s := &Server{log: log, ready: make(chan struct{})}
	client, err := remote.New(f, log, breakerWatch{o, &s.resting})
	s.distant = distant{config: c, client: client, lanes: f.Concurrency, decoding: newDecoding(c.MaxPixels), log: log}
	return s, err
}

// breakerWatch notes what the breaker does, on the way to an observer.
type breakerWatch struct {
	remote.Observer
	open *atomic.Bool
}

// BreakerChanged implements remote.Observer.
func (w breakerWatch) BreakerChanged(state string) {
	w.open.Store(state == gobreaker.StateOpen.String())
	w.Observer.BreakerChanged(state)
}

// Classify is Manager.Classify by the model server.
func (s *Server) Classify(ctx context.Context, _, image []byte) (Prediction, error) {
	return s.classify(ctx, image, remote.NoVersion)
}

// Records is how many records one call of the server takes at most.
func (s *Server) Records() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound != nil {
		return s.bound.batcher.Max
	}
	return s.config.Batch.Max
}

// Serving tells which version the server has, as far as it told. Its error
// wraps ErrNoVersion.
func (s *Server) Serving() (Info, error) { return s.serving(remote.NoVersion) }

func (s *Server) serving(want int64) (Info, error) {
	info, ok := s.info(want)
	problem := s.problem.Load() // once: probe may clear it meanwhile
	switch {
	case !ok && problem != nil:
		return Info{}, fmt.Errorf("%w: the model server cannot answer: %w", ErrNoVersion, *problem)
	case !ok:
		return Info{}, fmt.Errorf("%w: the model server has not told yet that it has the model", ErrNoVersion)
	case s.resting.Load():
		return Info{}, fmt.Errorf("%w: the model server does not answer: %s", ErrNoVersion, s.client.Cause())
	}
	return info, nil
}

// Wait waits until the server has told that it has the model; its error is
// that of ctx.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// probeEvery is how often a server is asked what it has, until it tells.
const probeEvery = time.Second

// Run asks the server for what it has, until ctx ends, so that the first image
// need not wait for that.
func (s *Server) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		s.probe(ctx, remote.NoVersion)
		select {
		case <-ctx.Done():
		case <-time.After(probeEvery):
		}
	}
	return nil
}

// probe asks once, if need be. Not for concurrent use.
func (s *Server) probe(ctx context.Context, want int64) {
	err := s.load(ctx, want)
	switch key := problemOf(err); {
	case ctx.Err() != nil:
	case err == nil:
		s.problem.Store(nil)
		s.once.Do(func() { close(s.ready) })
		s.warned = ""
	case remote.KindOf(err) == remote.KindOpen && s.problem.Load() != nil: // which says why
	default:
		s.problem.Store(&err)
		if key != s.warned {
			s.warned = key
			s.log.Warn("model server cannot answer", "err", err)
			return
		}
		s.log.Debug("model server cannot answer", "err", err)
	}
}

// problemOf tells errors apart that are worth a warning each. What is said of a
// server that is not there differs from call to call.
func problemOf(err error) string {
	switch kind := remote.KindOf(err); {
	case err == nil:
		return ""
	case kind == remote.KindUnavailable, kind == remote.KindOpen:
		return string(remote.KindUnavailable)
	}
	return err.Error()
}

func (s *Server) load(ctx context.Context, want int64) error {
	b, err := s.bind(ctx, want)
	if err != nil {
		return err
	}
	b.drop()
	return nil
}

// Check has the server classify a made-up picture, by this version if
// fallback.version is same; remote.NoVersion: any. It returns what has answered. Of a model for
// other contents it asks only what it takes.
func (s *Server) Check(ctx context.Context, version int64) (Info, error) {
	if !s.config.Content.image() {
		b, err := s.bind(ctx, version)
		if err != nil {
			return Info{}, err
		}
		defer b.drop()
		return b.info, nil
	}
	p, err := s.classify(ctx, sampleFor(s.config.MaxPixels), version)
	return p.Info, err
}

// Assumed tells what of the preprocessing for the server nothing states, as
// Prediction.Assumed; empty: all is known, or the server was not asked yet.
func (s *Server) Assumed() string { return s.assumption() }

// Load asks the server for what it has. Its error is why it cannot answer.
func (s *Server) Load(ctx context.Context) error { return s.load(ctx, remote.NoVersion) }

// Close ends what is under way at the server. Run must have ended.
func (s *Server) Close() {
	_ = s.client.Close() // nothing is lost by it
	s.close()
}

// errServersOwn is the error of Use and Rollback.
var errServersOwn = fmt.Errorf("%w here: with model.backend=remote the model server chooses its versions", ErrUnknownVersion)

// Versions lists none: there are none here.
func (s *Server) Versions() []Status { return nil }

// Beside is Manager.Beside: there is none.
func (s *Server) Beside() string { return "" }

// ClassifyAs is Manager.ClassifyAs: there are no labels here.
func (s *Server) ClassifyAs(context.Context, string, []byte) (Prediction, error) {
	return Prediction{}, ErrNoVersion
}

// Blame is Manager.Blame: there is no native code here.
func (s *Server) Blame(int64) bool { return false }

// Use is Manager.Use: there is nothing to choose from.
func (s *Server) Use(context.Context, int64) error { return errServersOwn }

// UseHighest is Manager.UseHighest: there is nothing to choose from.
func (s *Server) UseHighest(context.Context) error { return errServersOwn }

// Rollback is Manager.Rollback: there is nothing to go back to.
func (s *Server) Rollback(context.Context) (int64, error) { return 0, errServersOwn }
