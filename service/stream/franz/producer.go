package franz

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
)

// A producer writes batches of records, one at a time, with a producer id of its own: a
// batch that is sent again after its acknowledgement was lost is not written again. It
// implements flight.Transport for one partition of the input, whose goroutine alone uses
// it.
//
// It makes the requests itself. kgo's producer decides which records share a batch, and
// sends a batch before the one before is answered: after a record that its topic refuses,
// later ones would be written.
type producer struct {
	// Set once.
	client     *kgo.Client
	topics     *outputTopics
	compressor kgo.Compressor // nil: none

	id          int64 // negative: none yet
	epoch       int16
	next        map[destination]int32 // sequence numbers
	maybeStored bool                  // a broker did not answer, and may have the batch
}

// batches are buffers for the batches of all partitions.
var batches = sync.Pool{New: func() any { return new([]byte) }}

func newProducer(client *kgo.Client, topics *outputTopics, compressor kgo.Compressor) *producer {
	return &producer{client: client, topics: topics, compressor: compressor, id: -1}
}

// Reaction implements flight.Transport.
func (*producer) Reaction(err error) flight.Reaction {
	switch {
	case refused(err):
		return flight.Refuse
	case permanent(err) && !forbidden(err) && !errors.Is(err, kerr.ClusterAuthorizationFailed): // identify's errors pass
		return flight.GiveUp
	}
	return flight.TryAgain
}

// Send implements flight.Transport.
func (p *producer) Send(ctx context.Context, topic string, number int, rs []stream.Record) error {
	if len(rs) == 1 && rs[0].Size() > maxRequest {
		return fmt.Errorf("larger than any request that a broker takes: %w", kerr.MessageTooLarge)
	}
	at, err := p.topics.leader(ctx, topic, number)
	if err == nil {
		err = p.identify(ctx)
	}
	if err != nil {
		return err
	}
	to := destination{topic, at.partition}
	err = p.request(ctx, at, to, rs)
	switch {
	case err == nil, errors.Is(err, kerr.DuplicateSequenceNumber):
		p.next[to] = after(p.next[to], len(rs))
		p.maybeStored = false
		return nil
	case refused(err):
		if p.maybeStored {
			p.id = -1 // otherwise the broker might take the next batch for this one, and drop it
		}
		return refusal(err)
	case errors.Is(err, kerr.OutOfOrderSequenceNumber), errors.Is(err, kerr.UnknownProducerID),
		errors.Is(err, kerr.InvalidProducerIDMapping), errors.Is(err, kerr.InvalidProducerEpoch), errors.Is(err, kerr.ProducerFenced):
		p.id = -1 // the broker has forgotten the id
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		p.topics.forget(topic) // it may have been recreated
	default:
		p.maybeStored = true
	}
	p.topics.lost(topic)
	return err
}

// identify asks for a producer id if there is none.
func (p *producer) identify(ctx context.Context) error {
	if p.id >= 0 {
		return nil
	}
	res, err := kmsg.NewPtrInitProducerIDRequest().RequestWith(ctx, p.client)
	if err == nil {
		err = kerr.ErrorForCode(res.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("ask for a producer id, which takes Write on a topic, or IdempotentWrite before Kafka 2.8: %w", err)
	}
	p.id, p.epoch, p.next, p.maybeStored = res.ProducerID, res.ProducerEpoch, map[destination]int32{}, false
	return nil
}

// request sends one batch and waits for the answer.
func (p *producer) request(ctx context.Context, at leader, to destination, rs []stream.Record) error {
	buffer := batches.Get().(*[]byte)
	*buffer = appendBatch((*buffer)[:0], p.compressor, rs, p.id, p.epoch, p.next[to])
	part := kmsg.NewProduceRequestTopicPartition()
	part.Partition, part.Records = to.partition, *buffer
	topic := kmsg.NewProduceRequestTopic()
	topic.Topic, topic.TopicID = to.topic, at.id
	topic.Partitions = append(topic.Partitions, part)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, int32(produceTimeout.Milliseconds())
	req.Topics = append(req.Topics, topic)
	res, err := p.client.Broker(int(at.broker)).Request(ctx, req)
	if err != nil {
		return err // the client may still use the buffer
	}
	if cap(*buffer) <= 4*batchBytes {
		batches.Put(buffer)
	}
	topics := res.(*kmsg.ProduceResponse).Topics
	if len(topics) != 1 || len(topics[0].Partitions) != 1 {
		return errors.New("the broker has answered for another batch")
	}
	written := topics[0].Partitions[0]
	err = kerr.ErrorForCode(written.ErrorCode)
	if err != nil && written.ErrorMessage != nil {
		err = fmt.Errorf("%w: %s", err, *written.ErrorMessage)
	}
	return err
}

// after returns the sequence number that follows n others.
func after(sequence int32, n int) int32 {
	return int32((int64(sequence) + int64(n)) & math.MaxInt32)
}

// outputTopics remembers the leaders of the output topics' partitions, for one generation.
// Safe for concurrent use.
type outputTopics struct {
	client *kgo.Client

	mu sync.Mutex
	of map[string]*outputTopic // guarded by mu; what it points to does not change
}

type outputTopic struct {
	id      [16]byte
	leaders []int32 // of the partitions; negative: none
	stale   bool    // the leaders may have changed
}

// A leader is the broker that a partition of an output topic is written to.
type leader struct {
	id        [16]byte // of the topic
	partition int32
	broker    int32
}

// leader returns the partition that a number stands for. How many partitions a topic has
// decides where outputs go, so it does not change in a generation.
func (t *outputTopics) leader(ctx context.Context, topic string, number int) (leader, error) {
	t.mu.Lock()
	known := t.of[topic]
	t.mu.Unlock()
	if known == nil || known.stale {
		found, err := t.find(ctx, topic)
		if err != nil {
			return leader{}, err
		}
		if known != nil && len(known.leaders) <= len(found.leaders) {
			found.leaders = found.leaders[:len(known.leaders)]
		}
		known = found
		t.mu.Lock()
		if t.of == nil {
			t.of = map[string]*outputTopic{}
		}
		t.of[topic] = known
		t.mu.Unlock()
	}
	at := leader{known.id, int32(number % len(known.leaders)), -1}
	if at.broker = known.leaders[at.partition]; at.broker < 0 {
		t.lost(topic)
		return at, kerr.LeaderNotAvailable
	}
	return at, nil
}

// find asks a broker for a topic.
func (t *outputTopics) find(ctx context.Context, topic string) (*outputTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	wanted := kmsg.NewMetadataRequestTopic()
	wanted.Topic = &topic
	req.Topics = append(req.Topics, wanted)
	res, err := t.client.RequestCachedMetadata(ctx, req, 0)
	if err != nil {
		return nil, err
	}
	for _, found := range res.Topics {
		if found.Topic == nil || *found.Topic != topic {
			continue
		}
		if err := kerr.ErrorForCode(found.ErrorCode); err != nil {
			return nil, err
		}
		o := &outputTopic{id: found.TopicID, leaders: make([]int32, len(found.Partitions))}
		for i := range o.leaders {
			o.leaders[i] = -1
		}
		for _, p := range found.Partitions {
			if int(p.Partition) < len(o.leaders) {
				o.leaders[p.Partition] = p.Leader
			}
		}
		if len(o.leaders) > 0 {
			return o, nil
		}
	}
	return nil, kerr.LeaderNotAvailable
}

// lost notes that a partition of a topic may have another leader.
func (t *outputTopics) lost(topic string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if known := t.of[topic]; known != nil {
		t.of[topic] = &outputTopic{known.id, known.leaders, true}
	}
}

// forget notes that a topic may be another one now.
func (t *outputTopics) forget(topic string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.of, topic)
}
