package kafkago

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
)

// maxRequest is a little less than a broker's default socket.request.max.bytes: for a larger
// request it closes the connection without an answer.
const maxRequest = 100<<20 - 64<<10

var errRequestTooLarge = errors.New("record larger than any request that a broker takes")

// A transport writes batches with kafka-go, for one generation. Safe for concurrent use.
type transport struct {
	// Set once.
	cfg     stream.Config
	cluster *cluster
	codec   kafka.Compression

	mu     sync.Mutex
	counts map[string]int // number of partitions, by output topic; guarded by mu
}

// Reaction implements flight.Transport.
func (*transport) Reaction(err error) flight.Reaction {
	switch {
	case refused(err):
		return flight.Refuse
	case permanent(err) && !forbidden(err):
		return flight.GiveUp
	}
	return flight.TryAgain
}

// Send implements flight.Transport.
func (t *transport) Send(ctx context.Context, topic string, number int, rs []stream.Record) error {
	if len(rs) == 1 && rs[0].Size() > maxRequest {
		return errRequestTooLarge
	}
	err := t.try(ctx, topic, number, rs)
	switch {
	case errors.Is(err, kafka.InvalidTimestamp):
		return fmt.Errorf("%w: %w", stream.ErrInvalidTime, err)
	case withoutKey(err):
		return fmt.Errorf("%w: %w", stream.ErrKeyless, err)
	case errors.Is(err, kafka.UnknownTopicOrPartition), errors.Is(err, protocol.ErrNoPartition):
		t.forget(topic) // it may be created again
	}
	return err
}

func (t *transport) try(ctx context.Context, topic string, number int, rs []stream.Record) error {
	n, err := t.partitions(ctx, topic)
	if err != nil {
		return err
	}
	records := make([]kafka.Record, len(rs))
	for i, r := range rs {
		records[i] = kafka.Record{Time: r.Time, Key: kafka.NewBytes(r.Key), Value: kafka.NewBytes(r.Value)}
		for _, h := range r.Headers {
			records[i].Headers = append(records[i].Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
	}
	ctx, cancel := t.cluster.requestContext(ctx)
	defer cancel()
	ctx, end := whileLeader(ctx, t.cluster.client, topic, number%n)
	defer end()
	res, err := t.cluster.producer.Produce(ctx, &kafka.ProduceRequest{
		Topic:        topic,
		Partition:    number % n,
		RequiredAcks: kafka.RequireAll,
		Compression:  t.codec,
		Records:      kafka.NewRecordReader(records...),
	})
	if err = leaderMoved(ctx, err); err != nil {
		return err
	}
	return res.Error
}

// partitions returns the number of a topic's partitions. It is looked up once in a generation: it
// decides where the outputs of a partition go, and must not change meanwhile.
func (t *transport) partitions(ctx context.Context, topic string) (int, error) {
	t.mu.Lock()
	n := t.counts[topic]
	t.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	res, err := t.cluster.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	found := res.Topics[0]
	switch {
	case errors.Is(found.Error, kafka.UnknownTopicOrPartition):
		return 0, t.unknown(ctx, topic)
	case found.Error != nil:
		return 0, found.Error
	case len(found.Partitions) == 0:
		return 0, kafka.LeaderNotAvailable
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	t.counts[topic] = len(found.Partitions)
	return len(found.Partitions), nil
}

// unknown finds out why the broker does not know a topic: it does not exist, or it is forbidden.
func (t *transport) unknown(ctx context.Context, topic string) error {
	cluster := connect(t.cfg, topic)
	defer cluster.close()
	res, err := cluster.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err == nil {
		err = res.Topics[0].Error
	}
	if err == nil { // just created
		err = kafka.UnknownTopicOrPartition
	}
	return err
}

func (t *transport) forget(topic string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.counts, topic)
}
