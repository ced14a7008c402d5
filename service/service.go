package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/internal/recent"
	"inceptor/service/internal/thumbnail"
	"inceptor/service/stream"
)

// A Service reads images from Kafka and writes predictions.
type Service struct {
	// Version is that of the program, for the page. Set it before Run.
	Version string
	// LogLevel is the level of the log, for PUT /log/level. Nil: it cannot be changed. Set it
	// before Run.
	LogLevel *slog.LevelVar

	// Set once, by New.
	config     Config
	log        *slog.Logger
	started    time.Time
	classifier Classifier
	versions   VersionController // the classifier; nil: it has no versions to choose from
	metrics    *Metrics
	registry   *prometheus.Registry
	recent     *recent.Records
	thumbnails *thumbnail.Maker // nil: there are none
	history    pageHistory
	input      *input.Reader
	stream     stream.Config
	driver     driver
	kafka      cluster
	comparer   *comparer // nil without versions
	letters    *letterLog
	journal    *journal // nil: there is none

	// Set by deliver before the driver calls the handler: ends delivery, with the reason.
	cancel context.CancelCauseFunc
}

// New returns a service that Run starts; it connects to nothing yet. If the
// Classifier is also a VersionController, /models lists its versions and
// changes which one serves. The registry is what /metrics shows; metrics must be
// registered there, and observe the model. Close the service after Run.
func New(c Config, classifier Classifier, metrics *Metrics, registry *prometheus.Registry, log *slog.Logger) (*Service, error) {
	if err := errors.Join(c.Validate()...); err != nil {
		return nil, err
	}
	s := &Service{config: c, log: log, metrics: metrics, recent: &recent.Records{Shorten: shortAnswer}, registry: registry, classifier: classifier, started: time.Now()}
	s.versions, _ = classifier.(VersionController)
	var err error
	if s.input, err = input.New(c.Input); err != nil {
		return nil, err
	}
	h := &handler{
		input: s.input, classifier: classifier,
		output: c.Kafka.Output, deadLetter: c.Kafka.DeadLetter, tombstones: c.Kafka.Tombstones,
		metrics: metrics.records, recent: s.recent, letters: newLetterLog(c, log), lines: newRecordLog(c.Log.Records, log),
		log: log, stop: func(reason error) { s.cancel(reason) },
	}
	s.letters = h.letters
	for _, warning := range c.Kafka.securityWarnings() {
		log.Warn(warning)
	}
	h.queue = newFairQueue(func() int { return c.maxInModel(classifier.MaxBatch()) })
	if c.Model.Backend != model.OnlyRemote { // else no native code runs in this process
		s.journal = openJournal(c.Crash, c.Kafka, s.blame, log)
		h.journal, metrics.unproven = s.journal, s.journal.setUnproven
		if s.journal != nil {
			s.journal.overdue = func() bool { return metrics.overdueRuns.Load() > 0 }
		}
	}
	if c.HTTP.Listen != "" && c.HTTP.Thumbnails {
		s.thumbnails = thumbnail.New(metrics.modelRan, log)
		h.thumbnails = s.thumbnails
	}
	o := observer{metrics.stream, metrics.ready, s.journal, s.recent, s.thumbnails, newDrainCheck(c, metrics.imageTime, log)}
	handle := stream.Handler(h.handle)
	if s.stream, err = c.streamConfig(log, o, h); err == nil {
		if c.Tracer != nil {
			c.Tracer.OnSpans(metrics.traced)
			s.stream, handle = c.Tracer.Records(s.stream, handle, sendersHeaders)
		}
		s.driver, err = newDriver(c.Kafka, s.stream, handle)
	}
	metrics.stream.inputs(c.Kafka.Input)
	metrics.stream.limit.Set(float64(s.stream.TotalBytes))
	if err == nil {
		s.kafka, err = newCluster(c.Kafka, s.stream)
	}
	if err != nil {
		s.thumbnails.Close()
		return nil, errors.Join(err, s.journal.close(), s.input.Close())
	}
	if s.versions != nil {
		publish := s.kafka.Publish
		if c.Tracer != nil {
			publish = c.Tracer.Publish(publish)
		}
		s.comparer = newComparer(s.versions, infer.Lanes*c.ModelConfig().MaxBatch(), c.Kafka.Shadow, publish, metrics.records.compared, log)
		h.comparer = s.comparer
	}
	registry.MustRegister(NewModelInfo(classifier), NewMemory(s.versions))
	return s, nil
}

// blame rolls a version back that was unproven when native code crashed the process,
// and tells whether it did.
func (s *Service) blame(version int64) bool { return s.versions != nil && s.versions.Blame(version) }

// Close frees what New has opened. Run must have returned.
func (s *Service) Close() error {
	if s.comparer != nil {
		s.comparer.close()
	}
	s.letters.close()
	s.thumbnails.Close()
	s.kafka.Close()
	return errors.Join(s.journal.close(), s.input.Close())
}

// Run answers records until ctx ends. Then it stops fetching, drains the records
// in flight, commits and leaves the group, within shutdown.timeout, and returns
// nil. It returns ctx's error if until then no broker had answered or no version
// had served. Any other error will not pass by itself.
func (s *Service) Run(ctx context.Context) error {
	// Listen first: a service that waits for its broker is alive, and /healthz says so.
	var listener net.Listener
	if s.config.HTTP.Listen != "" {
		var err error
		if listener, err = net.Listen("tcp", s.config.HTTP.Listen); err != nil {
			return fmt.Errorf("http.listen: %w", err)
		}
		s.log.Info("listening", "address", "http://"+listener.Addr().String())
	}
	// Health and metrics are served until the stream has drained.
	httpCtx, stopHTTP := context.WithCancel(context.WithoutCancel(ctx))
	g, ctx := errgroup.WithContext(ctx)
	if listener != nil {
		g.Go(func() error { return serve(httpCtx, listener, s.routes(), s.log) })
		g.Go(func() error { s.remember(httpCtx); return nil })
	}
	g.Go(func() error {
		defer stopHTTP()
		if err := s.prepareTopics(ctx); err != nil {
			return err
		}
		// Join the group only once a version can answer: until then other
		// processes may be able to answer the records of its partitions.
		if err := s.classifier.Wait(ctx); err != nil {
			return err
		}
		return s.deliver(ctx)
	})
	return g.Wait()
}

// deliver runs the driver until ctx ends, or the handler gives up.
func (s *Service) deliver(ctx context.Context) error {
	delivery, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.cancel = cancel
	err := s.kafka.ExplainSession(ctx, s.driver.Run(delivery))
	if ctx.Err() == nil {
		err = errors.Join(err, context.Cause(delivery))
	}
	return err
}

// outputs lists the topics that the service writes to.
func (c Config) outputs() []string {
	topics := []string{c.Kafka.Output, c.Kafka.DeadLetter}
	if c.Model.Rollout == model.LabelShadow {
		topics = append(topics, c.Kafka.Shadow)
	}
	return topics
}
