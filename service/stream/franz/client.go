package franz

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/wire"
)

// publishQuiet is how long Publish waits for the brokers.
const publishQuiet = 30 * time.Second

// A Client does what a process needs of Kafka besides delivery, whatever its driver: it checks
// topics and permissions, reads a topic whole, and publishes single records. Safe for concurrent
// use.
type Client struct {
	// Set once.
	cfg       stream.Config
	tx        *Transaction // nil: delivery uses none
	conns     *wire.Connections
	publisher *kgo.Client
	quiet     time.Duration // publishQuiet; shorter in tests

	mu     sync.Mutex
	counts map[string]int // partitions of topics that were published to; guarded by mu
}

// NewClient returns a Client, which connects when it is used. Close it. tx is the transaction of
// the driver, if it uses one.
func NewClient(cfg stream.Config, tx *Transaction) (*Client, error) {
	if cfg.Observer == nil {
		cfg.Observer = stream.Unobserved{}
	}
	c := &Client{cfg: cfg, tx: tx, conns: wire.NewConnections(cfg), quiet: publishQuiet, counts: map[string]int{}}
	var err error
	c.publisher, err = kgo.NewClient(append(connection(cfg, c.conns),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(compression(cfg.Compression)),
		kgo.ProducerBatchMaxBytes(maxRequest),
		kgo.AllowIdempotentProduceCancellation(), // or Publish's context could not end it
	)...)
	return c, err
}

// Publish writes r to its topic and partition, modulo the number of partitions there, outside any
// transaction. It returns once all replicas in sync have the record. After 30 s without an answer,
// or when ctx ends, it gives up; the record may be there all the same.
func (c *Client) Publish(ctx context.Context, r stream.Record) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.quiet,
		fmt.Errorf("no broker has acknowledged the record within %v, though one may have it", c.quiet))
	defer cancel()
	err := c.publish(ctx, r)
	if errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.UnknownTopicOrPartition) { // perhaps recreated
		c.forget(r.Topic)
		err = c.publish(ctx, r)
	}
	if err != nil {
		return fmt.Errorf("publish to %s: %w", r.Topic, because(ctx, err))
	}
	return nil
}

func (c *Client) publish(ctx context.Context, r stream.Record) error {
	n, err := c.partitions(ctx, r.Topic)
	if err != nil {
		return err
	}
	out := &kgo.Record{Topic: r.Topic, Partition: int32(r.Partition % n), Key: r.Key, Value: r.Value, Timestamp: r.Time}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return c.publisher.ProduceSync(ctx, out).FirstErr()
}

// partitions counts those of a topic, and remembers the number.
func (c *Client) partitions(ctx context.Context, topic string) (int, error) {
	c.mu.Lock()
	n := c.counts[topic]
	c.mu.Unlock()
	if n > 0 {
		return n, nil
	}
	res, err := kadm.NewClient(c.publisher).Metadata(ctx, topic)
	if err == nil {
		err = res.Topics[topic].Err
	}
	if err != nil {
		return 0, err
	}
	if n = len(res.Topics[topic].Partitions); n == 0 {
		return 0, errors.New("the topic has no partitions")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[topic] = n
	return n, nil
}

// forget forgets what is known of a topic.
func (c *Client) forget(topic string) {
	c.publisher.PurgeTopicsFromProducing(topic)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.counts, topic)
}

// Close closes the connections.
func (c *Client) Close() {
	c.publisher.Close()
	c.conns.Shut()
}

// requester returns a client for a few requests, and a function that closes it.
func (c *Client) requester(opts ...kgo.Opt) (*kgo.Client, func(), error) {
	conns := c.conns.Again()
	client, err := kgo.NewClient(append(connection(c.cfg, conns), opts...)...)
	if err != nil {
		return nil, nil, err
	}
	return client, func() {
		conns.Shut()
		client.Close()
	}, nil
}
