package kafkago

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"inceptor/service/stream"
)

// maxRequest is a little less than the socket.request.max.bytes of a broker,
// which breaks the connection beyond it, without a word.
const maxRequest = 100<<20 - 64<<10

var errRequestTooLarge = errors.New("larger than any request that a broker takes")

// transport writes batches with kafka-go, for one generation. Safe for
// concurrent use.
type transport struct {
	cfg     stream.Config
	cluster *cluster
	codec   kafka.Compression

	mu     sync.Mutex
	counts map[string]int // of partitions of each output topic
}

// Verdict implements stream.Transport.
func (*transport) Verdict(err error) stream.Verdict {
	switch {
	case refused(err):
		return stream.Refuse
	case permanent(err) && !forbidden(err):
		return stream.GiveUp
	}
	return stream.TryAgain
}

// Send implements stream.Transport.
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
		t.forget(topic) // it may have been made anew
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
	ctx, cancel := t.cluster.patient(ctx)
	defer cancel()
	ctx, end := whileLed(ctx, t.cluster.client, topic, number%n)
	defer end()
	res, err := t.cluster.producer.Produce(ctx, &kafka.ProduceRequest{
		Topic:        topic,
		Partition:    number % n,
		RequiredAcks: kafka.RequireAll,
		Compression:  t.codec,
		Records:      kafka.NewRecordReader(records...),
	})
	if err = moved(ctx, err); err != nil {
		return err
	}
	return res.Error
}

// partitions counts those of a topic, once in a generation: the count decides
// where the outputs of a partition go, and must not change under way.
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

// unknown finds out why a topic is not known: there is none, or it is
// forbidden.
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

// sleep tells whether d has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
