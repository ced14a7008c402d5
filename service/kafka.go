package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"inceptor/service/stream"
	"inceptor/service/stream/franz"
	"inceptor/service/stream/kafkago"
)

// A driver fetches, hands records to the handler, publishes and commits, until ctx
// ends. kafkago delivers at least once, franz at least once or exactly once.
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

// A cluster is what a service needs of Kafka besides delivery.
type cluster interface {
	// CheckTopics returns the inputs and the outputs. Missing ones are created, or an error.
	CheckTopics(ctx context.Context, create bool) ([]stream.Topic, error)
	// Inspect looks at everything that a process needs, and changes nothing.
	Inspect(ctx context.Context, create bool) stream.Inspection
	// ExplainSession adds the brokers' bounds to an error of the driver that refuses the session.
	ExplainSession(ctx context.Context, err error) error
	// Scan calls each with the records that a topic holds now.
	Scan(ctx context.Context, topic string, each func(stream.Record) error) error
	// Publish writes a record on the side: without the stream's order and guarantees.
	Publish(ctx context.Context, r stream.Record) error
	Close()
}

// newCluster connects to nothing yet. Close it.
func newCluster(k Kafka, c stream.Config) (cluster, error) {
	if k.Delivery == exactlyOnce {
		return franz.NewClient(c, (*franz.Transaction)(&k.Transaction))
	}
	return franz.NewClient(c, nil)
}

// openCluster is for commands that deliver nothing. Close what it returns.
func (c Config) openCluster(log *slog.Logger) (cluster, error) {
	config, err := c.streamConfig(log, nil, &handler{})
	if err != nil {
		return nil, err
	}
	return newCluster(c.Kafka, config)
}

// prepareTopics waits for a broker, creates missing topics with
// kafka.create-topics, and logs what does not fit together.
func (s *Service) prepareTopics(ctx context.Context) error {
	topics, err := s.kafka.CheckTopics(ctx, s.config.Kafka.CreateTopics)
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

// explain adds to an error what to do about it.
func explain(err error) error {
	if errors.Is(err, stream.ErrMissingTopics) {
		return fmt.Errorf("%w; create them, or set kafka.create-topics", err)
	}
	return err
}

// compactionWarnings tell which records are lost if an output topic is compacted.
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

// limitWarnings tell which limits of the topics do not fit together, and which
// topics lose records with one broker.
func limitWarnings(c Config, topics []stream.Topic) []string {
	limit := map[string]int{}
	var warnings []string
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	var single []string
	for _, t := range topics {
		limit[t.Name] = t.MaxMessageBytes
		switch written := !slices.Contains(c.Kafka.Input, t.Name); {
		case written && t.MinInSync > t.Replicas && t.Replicas > 0:
			warn("min.insync.replicas of %s is %d, but it has %d replicas: nothing can be written to it", t.Name, t.MinInSync, t.Replicas)
		case t.Replicas == 1:
			single = append(single, t.Name)
		case written && t.MinInSync == 1 && t.Replicas > 1:
			warn("min.insync.replicas of %s is 1: while its other replicas are behind, an acknowledged record may be lost with one broker; raise it to 2", t.Name)
		}
	}
	if len(single) > 0 {
		warn("%s: a replication factor of 1: when the broker loses a disk, records are lost whatever kafka.delivery says", strings.Join(single, ", "))
	}
	// The dead-letter topic must take the largest records of the input, with the
	// headers that are added.
	dead := limit[c.Kafka.DeadLetter]
	for _, input := range c.Kafka.Input {
		in := limit[input]
		if in > 0 && dead > 0 && dead < in+deadLetterOverhead {
			warn("max.message.bytes of %s is %d, of %s %d: the largest records do not fit with the %d bytes of headers that a dead letter adds, "+
				"and their dead letters would lack the value; raise it to %d",
				c.Kafka.DeadLetter, dead, input, in, deadLetterOverhead, in+deadLetterOverhead)
		}
		// A batch may always take twice its compressed size.
		if bound := c.batchBytes(); int64(in) > bound {
			warn("max.message.bytes of %s is %d: a batch may need more than %d bytes when it is decompressed, "+
				"and then becomes one dead letter for all its records; raise kafka.window.bytes, or let producers send smaller batches",
				input, in, bound)
		}
	}
	return warnings
}

// deadLetterOverhead bounds the size of a dead letter's own headers.
const deadLetterOverhead = maxErrorBytes + 1024
