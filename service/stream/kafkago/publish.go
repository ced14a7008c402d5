package kafkago

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"inceptor/service/stream"
)

const (
	// What goes out in one request: enough to make requests cheap, well
	// below the 1 MiB that topics take by default.
	batchRecords = 500
	batchBytes   = 512 << 10

	// maxReplacements is how many replacements for one output are tried in a
	// row. Then the partition waits.
	maxReplacements = 5

	// maxRequest is a little less than the socket.request.max.bytes of a
	// broker, which breaks the connection beyond it, without a word.
	maxRequest = 100<<20 - 64<<10
)

// errWithheld is why a partition that waits for its topic ends when it drains.
var errWithheld = errors.New("a record waits for its topic to take it")

var errRequestTooLarge = errors.New("larger than any request that a broker takes")

// A publisher writes outputs. One call at a time for each source partition:
// that, and one request at a time in a call, is what keeps the order.
type publisher struct {
	cfg     stream.Config
	client  *kafka.Client
	codec   kafka.Compression
	trouble *stream.Trouble

	mu     sync.Mutex
	counts map[string]int // of partitions of each output topic
}

// An output is one record to publish and the one that caused it.
type output struct {
	source, record stream.Record
	first          stream.Record // for the topic of record, before anything was refused
	replaced       int           // how many times, since first
}

// replace puts in an output's place what cfg.Refused makes of it, or returns
// why there is nothing.
func (o *output) replace(cfg stream.Config, reason error) error {
	var r stream.Record
	var err error
	if o.replaced < maxReplacements {
		r, err = cfg.Refused(o.source, o.record, reason)
	} else {
		err = errors.New("its replacements are refused too")
	}
	if err != nil {
		return fmt.Errorf("what offset %d of %v caused is refused: %w",
			o.source.Offset, o.source.Source(), errors.Join(reason, err))
	}
	if r.Topic != o.record.Topic {
		o.first = r
	}
	o.record = r
	o.replaced++
	return nil
}

// publish returns once all replicas in sync hold the outputs of run. It tries
// for as long as it may help and ctx allows; what a topic does not take, only
// until draining is closed.
func (p *publisher) publish(ctx context.Context, draining <-chan struct{}, source stream.Partition, run stream.Run) error {
	var topics []string
	byTopic := map[string][]*output{}
	for _, s := range run.Slots {
		for _, r := range s.Outputs {
			if byTopic[r.Topic] == nil {
				topics = append(topics, r.Topic)
			}
			byTopic[r.Topic] = append(byTopic[r.Topic], &output{source: s.Record, record: r, first: r})
		}
	}
	for _, t := range topics {
		for rest := byTopic[t]; len(rest) > 0; {
			n := batch(rest)
			if err := p.send(ctx, draining, source, rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
	}
	return nil
}

// batch tells how many of outs go into one request.
func batch(outs []*output) int {
	bytes := int64(0)
	for i, o := range outs {
		bytes += o.record.Size()
		if i > 0 && (i == batchRecords || bytes > batchBytes) {
			return i
		}
	}
	return len(outs)
}

// send publishes outputs of one topic. A broker takes or refuses a batch as a
// whole, so the guilty record of a refused one is found by halving; in its
// place goes what cfg.Refused makes of it. Where that makes nothing of it,
// the partition waits here until the topic takes it.
func (p *publisher) send(ctx context.Context, draining <-chan struct{}, source stream.Partition, outs []*output) error {
	err := p.produce(ctx, source, outs)
	if err == nil || !refused(err) {
		return err
	}
	if half := len(outs) / 2; half > 0 {
		if err := p.send(ctx, draining, source, outs[:half]); err != nil {
			return err
		}
		return p.send(ctx, draining, source, outs[half:])
	}
	o := outs[0]
	pause := backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: stream.MaxRefusedPause, Multiplier: 2, RandomizationFactor: 0.5}
	waited := ""
	for refused(err) {
		if err := o.replace(p.cfg, err); err != nil {
			waited = "publish to " + o.record.Topic
			p.cfg.Observer.Retrying(source, stream.Publishing, err)
			p.trouble.Failed(waited, err, "source", source)
			select {
			case <-time.After(pause.NextBackOff()):
			case <-draining:
				return errWithheld
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			o.record, o.replaced = o.first, 0
		}
		err = p.produce(ctx, source, outs)
	}
	if err == nil && waited != "" {
		p.cfg.Observer.Retrying(source, stream.Publishing, nil)
		p.trouble.Worked(waited)
	}
	return err
}

// produce sends one request until it is acknowledged, or refused.
func (p *publisher) produce(ctx context.Context, source stream.Partition, outs []*output) error {
	topic := outs[0].record.Topic
	if len(outs) == 1 && outs[0].record.Size() > maxRequest {
		return fmt.Errorf("publish to %s: %w", topic, errRequestTooLarge)
	}
	begin := time.Now()
	pause := backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, MaxInterval: time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	for failed := false; ; failed = true {
		err := p.try(ctx, topic, source.ID, outs)
		switch {
		case err == nil:
			p.cfg.Observer.Published(len(outs), time.Since(begin))
			if failed {
				p.cfg.Observer.Retrying(source, stream.Publishing, nil)
				p.trouble.Worked("publish to " + topic)
			}
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, kafka.InvalidTimestamp):
			return fmt.Errorf("publish to %s: %w: %w", topic, stream.ErrInvalidTime, err)
		case refused(err), permanent(err) && !forbidden(err):
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
		err = fmt.Errorf("publish to %s: %w", topic, err)
		if errors.Is(err, kafka.UnknownTopicOrPartition) || errors.Is(err, protocol.ErrNoPartition) {
			p.forget(topic) // it may have been made anew
		}
		p.cfg.Observer.Retrying(source, stream.Publishing, err)
		p.trouble.Failed("publish to "+topic, err)
		if !sleep(ctx, pause.NextBackOff()) {
			return context.Cause(ctx)
		}
	}
}

func (p *publisher) try(ctx context.Context, topic string, partition int, outs []*output) error {
	n, err := p.partitions(ctx, topic)
	if err != nil {
		return err
	}
	records := make([]kafka.Record, len(outs))
	for i, o := range outs {
		r := o.record
		records[i] = kafka.Record{Time: r.Time, Key: kafka.NewBytes(r.Key), Value: kafka.NewBytes(r.Value)}
		for _, h := range r.Headers {
			records[i].Headers = append(records[i].Headers, kafka.Header{Key: h.Key, Value: h.Value})
		}
	}
	res, err := p.client.Produce(ctx, &kafka.ProduceRequest{
		Topic:        topic,
		Partition:    partition % n,
		RequiredAcks: kafka.RequireAll,
		Compression:  p.codec,
		Records:      kafka.NewRecordReader(records...),
	})
	if err != nil {
		return err
	}
	return res.Error
}

// partitions counts those of a topic, once in a generation: the count decides
// where the outputs of a partition go, and must not change under way.
func (p *publisher) partitions(ctx context.Context, topic string) (int, error) {
	p.mu.Lock()
	n := p.counts[topic]
	p.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	res, err := p.client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	t := res.Topics[0]
	switch {
	case errors.Is(t.Error, kafka.UnknownTopicOrPartition):
		return 0, p.unknown(ctx, topic)
	case t.Error != nil:
		return 0, t.Error
	case len(t.Partitions) == 0:
		return 0, kafka.LeaderNotAvailable
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts == nil {
		p.counts = map[string]int{}
	}
	p.counts[topic] = len(t.Partitions)
	return len(t.Partitions), nil
}

// unknown finds out why a topic is not known: there is none, or it is
// forbidden.
func (p *publisher) unknown(ctx context.Context, topic string) error {
	cluster, err := connect(p.cfg, topic)
	if err != nil {
		return err
	}
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

func (p *publisher) forget(topic string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.counts, topic)
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
