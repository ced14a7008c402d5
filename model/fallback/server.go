package fallback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/remote"
)

// A Server answers with the model of a model server alone. It needs neither local versions nor
// TensorFlow's library. Its methods are safe for concurrent use, except for Run, which is
// called once.
type Server struct {
	// Set once.
	model *infer.RemoteModel
	log   *slog.Logger

	// Safe for concurrent use.
	problem   atomic.Pointer[error] // why the last probe failed; nil: it did not
	ready     chan struct{}         // closed when a probe has succeeded
	closeOnce sync.Once             // closes ready

	warned string // the problem of the last warning; empty: the last probe succeeded; only used by probe
}

// NewServer checks the configurations. It connects to nothing yet. The server's name for the
// model is f.Model or, where that is empty, c.Name.
func NewServer(c model.Config, f remote.Config, log *slog.Logger, o remote.Observer) (*Server, error) {
	return newServer(c, f, infer.NewDecodeLimits(c.MaxPixels), log, o)
}

func newServer(c model.Config, f remote.Config, limits *infer.DecodeLimits, log *slog.Logger, o remote.Observer) (*Server, error) {
	if err := errors.Join(c.Validate()...); err != nil {
		return nil, err
	}
	if f.Model == "" {
		f.Model = c.Name
	}
	m, err := infer.NewRemoteModel(c.Options(), c.Folders, f, limits, log, o)
	if err != nil {
		return nil, err
	}
	return &Server{model: m, log: log, ready: make(chan struct{})}, nil
}

// Classify answers one record, as Manager.Classify does. It ignores the key.
func (s *Server) Classify(ctx context.Context, _, image []byte) (infer.Prediction, error) {
	return s.model.Classify(ctx, image, remote.NoVersion)
}

// MaxBatch returns how many records one call of the server takes at most.
func (s *Server) MaxBatch() int { return s.model.MaxBatch() }

// Serving returns which version the server has, as far as it reports that. The error wraps
// ErrNoVersion.
func (s *Server) Serving() (infer.Info, error) { return s.serving(remote.NoVersion) }

func (s *Server) serving(want int64) (infer.Info, error) {
	info, ok := s.model.Info(want)
	problem := s.problem.Load() // once: probe may change it meanwhile
	switch {
	case !ok && problem != nil:
		return infer.Info{}, fmt.Errorf("%w: the model server cannot answer: %w", model.ErrNoVersion, *problem)
	case !ok:
		return infer.Info{}, fmt.Errorf("%w: the model server has not reported yet that it has the model", model.ErrNoVersion)
	}
	if why := s.model.Unreachable(); why != "" {
		return infer.Info{}, fmt.Errorf("%w: the model server does not answer: %s", model.ErrNoVersion, why)
	}
	return info, nil
}

// Wait waits until the server has reported that it has the model. The error is that of ctx.
func (s *Server) Wait(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// probeEvery is how often a server is asked what it has, until it reports that.
const probeEvery = time.Second

// Run asks the server what it has, until ctx ends, so that the first record need not wait for
// that.
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

// probe asks the server what it has, unless that is known. Not for concurrent use.
func (s *Server) probe(ctx context.Context, want int64) {
	_, err := s.model.Load(ctx, want)
	switch problem := problemOf(err); {
	case ctx.Err() != nil:
	case err == nil:
		s.problem.Store(nil)
		s.closeOnce.Do(func() { close(s.ready) })
		s.warned = ""
	case remote.KindOf(err) == remote.KindOpen && s.problem.Load() != nil: // the stored one is the cause
	default:
		s.problem.Store(&err)
		if problem != s.warned {
			s.warned = problem
			s.log.Warn("model server cannot answer", "err", err)
			return
		}
		s.log.Debug("model server cannot answer", "err", err)
	}
}

// problemOf returns the same text for errors that need only one warning. The text about a
// server that is down changes from call to call.
func problemOf(err error) string {
	switch kind := remote.KindOf(err); {
	case err == nil:
		return ""
	case kind == remote.KindUnavailable, kind == remote.KindOpen:
		return string(remote.KindUnavailable)
	}
	return err.Error()
}

// Check has the server classify a made-up picture, and returns which version has answered. With
// fallback.version=same that must be this version; remote.NoVersion: any. Of a model for
// other content it asks only what that takes.
func (s *Server) Check(ctx context.Context, version int64) (infer.Info, error) {
	return s.model.Check(ctx, version)
}

// Assumed returns what of the preprocessing for the server is assumed, as Prediction.Assumed
// does; empty: nothing, or the server has not been asked yet.
func (s *Server) Assumed() string { return s.model.Assumed() }

// Load asks the server what it has. The error says why it cannot answer.
func (s *Server) Load(ctx context.Context) error { return s.load(ctx, remote.NoVersion) }

func (s *Server) load(ctx context.Context, want int64) error {
	_, err := s.model.Load(ctx, want)
	return err
}

// Close cancels the calls under way. Run must have ended.
func (s *Server) Close() { s.model.Close() }
