package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"inceptor/model"
	"inceptor/service/input"
	"inceptor/service/stream"
	"inceptor/service/stream/franz"
	"inceptor/service/stream/kafkago"
)

// A Service reads images from Kafka and writes predictions.
type Service struct {
	config  Config
	log     *slog.Logger
	metrics *Metrics
	recent  *recent
	input   *input.Reader
	driver  driver
	stream  stream.Config
	aside   *kafkago.Sideline
	cancel  context.CancelCauseFunc // ends delivery, with the reason; set by deliver
	compare *comparer
	journal *journal

	registry *prometheus.Registry
	model    Model
	started  time.Time
}

// A driver owns delivery until ctx ends: kafkago gives it at least once, franz
// at least once or exactly once.
type driver interface {
	Run(ctx context.Context) error
}

func newDriver(k Kafka, c stream.Config, h stream.Handler) (driver, error) {
	switch {
	case k.Delivery == exactlyOnce:
		return franz.New(c, franz.Transaction(k.Transaction), h)
	case k.usesFranz():
		return franz.NewAtLeastOnce(c, h)
	}
	return kafkago.New(c, h)
}

// A Model is a Classifier that can tell what it serves.
type Model interface {
	Classifier
	// Serving tells which version serves; its error is why there is none.
	Serving() (model.Info, error)
	// Wait waits until a version has begun to serve; its error is that of ctx.
	Wait(ctx context.Context) error
	// Versions lists the versions there are, with their states.
	Versions() []model.Status
	// Records is how many records one run takes at most, of the version that serves.
	Records() int
	// Beside is the label of the version that answers beside the stable one.
	Beside() string
	// ClassifyAs is Classify by the version with a label.
	ClassifyAs(ctx context.Context, label string, image []byte) (model.Prediction, error)
	// Blame takes a version back that was new when native code crashed the
	// process, and tells whether it did.
	Blame(version int64) bool
	// Use, UseHighest and Rollback change which version serves.
	Use(ctx context.Context, version int64) error
	UseHighest(ctx context.Context) error
	Rollback(ctx context.Context) (int64, error)
}

// New puts a service together; it connects to nothing yet. Close it after Run.
func New(c Config, m Model, metrics *Metrics, registry *prometheus.Registry, log *slog.Logger) (*Service, error) {
	if err := errors.Join(c.Validate()...); err != nil {
		return nil, err
	}
	s := &Service{config: c, log: log, metrics: metrics, recent: &recent{}, registry: registry, model: m, started: time.Now()}
	var err error
	if s.input, err = input.New(c.Input); err != nil {
		return nil, err
	}
	h := &handler{
		input: s.input, classifier: m,
		output: c.Kafka.Output, deadLetter: c.Kafka.DeadLetter, tombstones: c.Kafka.Tombstones,
		metrics: metrics, recent: s.recent, log: log, stop: func(reason error) { s.cancel(reason) },
	}
	for _, warning := range c.Kafka.securityWarnings() {
		log.Warn(warning)
	}
	h.turns = newTurns(func() int { return c.places(m.Records()) })
	if c.Model.Backend != model.OnlyRemote { // else no native code is run
		s.journal = openJournal(c.Crash, c.Kafka, m.Blame, log)
		h.journal, metrics.tried = s.journal, s.journal.try
		if s.journal != nil {
			s.journal.overdue = func() bool { return metrics.overdueRuns.Load() > 0 }
		}
	}
	if s.stream, err = c.streamConfig(log, journalObserver{drainCheck{metrics, c, log}, s.journal}, h); err == nil {
		s.driver, err = newDriver(c.Kafka, s.stream, h.handle)
	}
	metrics.limit.Set(float64(s.stream.TotalBytes))
	if err == nil {
		s.aside, err = kafkago.NewSideline(s.stream)
	}
	if err != nil {
		return nil, errors.Join(err, s.journal.close(), s.input.Close())
	}
	s.compare = newComparer(m, model.Lanes*c.ModelConfig().MaxBatch(), c.Kafka.Shadow, s.aside.Publish, metrics, log)
	h.comparer = s.compare
	registry.MustRegister(NewModelInfo(m))
	return s, nil
}

// Close gives back what New took.
func (s *Service) Close() error {
	s.compare.close()
	s.aside.Close()
	return errors.Join(s.journal.close(), s.input.Close())
}

// Run works until ctx ends: then it stops fetching, drains what is in flight,
// commits and leaves the group, within shutdown.timeout, and returns nil; that of
// ctx, if no broker had answered or no version had served by then. Other errors are of a kind that does
// not pass.
func (s *Service) Run(ctx context.Context) error {
	// First of all: a service that waits for its broker is alive, and tells so.
	var listener net.Listener
	if s.config.HTTP.Listen != "" {
		var err error
		if listener, err = net.Listen("tcp", s.config.HTTP.Listen); err != nil {
			return fmt.Errorf("http.listen: %w", err)
		}
		s.log.Info("listening", "address", "http://"+listener.Addr().String())
	}
	// Health and metrics outlive the stream: they show how it drains.
	httpCtx, stopHTTP := context.WithCancel(context.WithoutCancel(ctx))
	g, ctx := errgroup.WithContext(ctx)
	if listener != nil {
		g.Go(func() error { return serve(httpCtx, listener, s.routes(), s.log) })
	}
	g.Go(func() error {
		defer stopHTTP()
		if err := s.prepareTopics(ctx); err != nil {
			return err
		}
		// Not before it can answer: the partitions that the group would give
		// it, others may be able to work on.
		if err := s.model.Wait(ctx); err != nil {
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
	err := franz.ExplainSession(ctx, s.stream, s.driver.Run(delivery))
	if ctx.Err() == nil {
		err = errors.Join(err, context.Cause(delivery))
	}
	return err
}

// prepareTopics waits for a broker, makes topics if it may, and compares limits.
func (s *Service) prepareTopics(ctx context.Context) error {
	topics, err := kafkago.CheckTopics(ctx, s.stream, s.config.Kafka.CreateTopics)
	if err != nil {
		return explain(err)
	}
	for _, t := range topics {
		if t.Created {
			s.log.Info("topic created", "topic", t.Name, "partitions", t.Partitions)
		}
	}
	for _, warning := range compactionWarnings(s.config, topics) {
		s.log.Warn(warning)
	}
	for _, warning := range limitWarnings(s.config, topics) {
		s.log.Info(warning)
	}
	return nil
}

// outputs are the topics that are written to.
func (c Config) outputs() []string {
	topics := []string{c.Kafka.Output, c.Kafka.DeadLetter}
	if c.Model.Rollout == model.LabelShadow {
		topics = append(topics, c.Kafka.Shadow)
	}
	return topics
}

// explain adds to an error what can be done about it.
func explain(err error) error {
	if errors.Is(err, stream.ErrMissingTopics) {
		return fmt.Errorf("%w; create them, or set kafka.create-topics", err)
	}
	return err
}

// checkTimeout bounds CheckTopics, which would wait for a broker for ever.
const checkTimeout = 15 * time.Second

// CheckTopics asks the brokers for the topics, without creating any, and warns
// of limits that do not fit together, and of secrets in the clear.
func CheckTopics(ctx context.Context, c Config, log *slog.Logger) (topics []stream.Topic, warnings []string, err error) {
	warnings = c.Kafka.securityWarnings()
	config, err := c.streamConfig(log, nil, &handler{})
	if err != nil {
		return nil, warnings, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	topics, err = kafkago.CheckTopics(ctx, config, false)
	switch {
	case c.Kafka.CreateTopics && errors.Is(err, stream.ErrMissingTopics):
		return nil, append(warnings, err.Error()+"; run will create them, as kafka.create-topics is set"), nil
	case err != nil:
		return nil, warnings, explain(err)
	}
	return topics, slices.Concat(warnings, compactionWarnings(c, topics), limitWarnings(c, topics)), nil
}

// compactionWarnings tell what is lost to compacted topics that are written to.
func compactionWarnings(c Config, topics []stream.Topic) (warnings []string) {
	for _, t := range topics {
		switch {
		case !t.Compacted || !slices.Contains(c.outputs(), t.Name):
		case t.Name == c.Kafka.DeadLetter:
			warnings = append(warnings, fmt.Sprintf("%s is compacted (cleanup.policy): only the last dead letter of each key is kept, "+
				"and those of records without a value are removed; set cleanup.policy=delete", t.Name))
		default:
			warnings = append(warnings, fmt.Sprintf("%s is compacted (cleanup.policy): answers without a key are refused, and become dead letters; "+
				"older answers of the same key vanish; set cleanup.policy=delete unless that is what you want", t.Name))
		}
	}
	return warnings
}

// CheckAccess asks the brokers for every permission that a process needs, and
// returns those that it lacks; and, last, why it may not join the group, which
// nobody in it notices.
func CheckAccess(ctx context.Context, c Config, log *slog.Logger) (denied []error, join error) {
	config, err := c.streamConfig(log, nil, &handler{})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var tx *franz.Transaction
	if c.Kafka.Delivery == exactlyOnce {
		tx = (*franz.Transaction)(&c.Kafka.Transaction)
	}
	join = franz.TryJoin(ctx, config)
	return franz.CheckAccess(ctx, config, tx), join
}

// limitWarnings compares the topics' limits with each other, and with what
// their brokers may lose.
func limitWarnings(c Config, topics []stream.Topic) []string {
	limit := map[string]int{}
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	for _, t := range topics {
		limit[t.Name] = t.MaxMessageBytes
		switch written := !slices.Contains(c.Kafka.Input, t.Name); {
		case written && t.MinInSync > t.Replicas && t.Replicas > 0:
			warn("min.insync.replicas of %s is %d, but it has %d replicas: nothing can be written to it", t.Name, t.MinInSync, t.Replicas)
		case t.Replicas == 1:
			warn("%s has a replication factor of 1: when its broker loses a disk, records are lost whatever kafka.delivery says", t.Name)
		case written && t.MinInSync == 1 && t.Replicas > 1:
			warn("min.insync.replicas of %s is 1: while its other replicas are behind, an acknowledged record may be lost with one broker; raise it to 2", t.Name)
		}
	}
	// What the input takes the dead-letter topic must take too, with the
	// headers that are added.
	dead := limit[c.Kafka.DeadLetter]
	for _, input := range c.Kafka.Input {
		in := limit[input]
		if in > 0 && dead > 0 && dead < in+deadLetterOverhead {
			warn("max.message.bytes of %s is %d, of %s %d: the largest records do not fit with the %d bytes of headers that a dead letter adds, "+
				"and would be dead letters without their values; raise it to %d",
				c.Kafka.DeadLetter, dead, input, in, deadLetterOverhead, in+deadLetterOverhead)
		}
		// A batch may always take twice what it takes compressed.
		if bound := c.batchBytes(); int64(in) > bound {
			warn("max.message.bytes of %s is %d: compressed batches that take more than %d bytes when they are decompressed may come, "+
				"and each is one dead letter for all its records; raise kafka.window.bytes, or let producers send smaller batches",
				input, in, bound)
		}
	}
	return warnings
}

// deadLetterOverhead is room for a dead letter's own headers.
const deadLetterOverhead = maxErrorBytes + 1024
