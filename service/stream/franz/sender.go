package franz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// sendQuiet is how long a Sender waits for the brokers.
const sendQuiet = 30 * time.Second

// A Sender writes records outside any transaction, once each. Not for
// concurrent use.
type Sender struct {
	conns  *stream.Connections
	client *kgo.Client
	counts map[string]int // partitions by topic
	quiet  time.Duration
}

// NewSender returns a Sender, which connects when it is used. Of cfg it needs
// Brokers, TLS, SASL and Compression.
func NewSender(cfg stream.Config) (*Sender, error) {
	s := &Sender{conns: stream.NewConnections(cfg), counts: map[string]int{}, quiet: sendQuiet}
	var err error
	s.client, err = kgo.NewClient(append(connection(cfg, s.conns),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(compression(cfg.Compression)),
		kgo.ProducerBatchMaxBytes(maxRequest),
		kgo.AllowIdempotentProduceCancellation(), // or Send's context could not end it
	)...)
	return s, err
}

// Send writes r to its topic and partition, modulo the number there is, and
// returns once all replicas in sync have it. After 30 s without an answer, or
// when ctx ends, it gives up, and the record may be there all the same.
func (s *Sender) Send(ctx context.Context, r stream.Record) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.quiet,
		fmt.Errorf("no broker has acknowledged the record within %v, though one may have it", s.quiet))
	defer cancel()
	if err := s.send(ctx, r); err != nil {
		return fmt.Errorf("publish to %s: %w", r.Topic, because(ctx, err))
	}
	return nil
}

func (s *Sender) send(ctx context.Context, r stream.Record) error {
	n := s.counts[r.Topic]
	if n == 0 {
		res, err := kadm.NewClient(s.client).Metadata(ctx, r.Topic)
		if err == nil {
			err = res.Topics[r.Topic].Err
		}
		if err != nil {
			return err
		}
		if n = len(res.Topics[r.Topic].Partitions); n == 0 {
			return errors.New("the topic has no partitions")
		}
		s.counts[r.Topic] = n
	}
	out := &kgo.Record{Topic: r.Topic, Partition: int32(r.Partition % n), Key: r.Key, Value: r.Value, Timestamp: r.Time}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return s.client.ProduceSync(ctx, out).FirstErr()
}

// Close gives the connections back.
func (s *Sender) Close() {
	s.client.Close()
	s.conns.Shut()
}
