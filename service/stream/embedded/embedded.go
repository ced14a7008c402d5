// Package embedded runs a Kafka broker inside this process, with a small client: franz-go's
// kfake. Any Kafka client can use it, such as kcat. It keeps everything in memory until Close. It
// is for demonstrations and tests, not for data that matters.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// A Broker is one broker on 127.0.0.1.
type Broker struct {
	cluster *kfake.Cluster
}

// Start starts a broker with these topics, of so many partitions each. It listens on the port of
// 127.0.0.1, or on a free one if that is taken or 0. Close it.
func Start(port, partitions int, topics ...string) (*Broker, error) {
	if !free(port) {
		port = 0
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.SeedTopics(int32(partitions), topics...))
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	return &Broker{cluster}, nil
}

func free(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return !errors.Is(err, syscall.EADDRINUSE)
	}
	return l.Close() == nil
}

// Addr returns the broker's address, 127.0.0.1:PORT.
func (b *Broker) Addr() string { return b.cluster.ListenAddrs()[0] }

// Close stops the broker, and its records are gone.
func (b *Broker) Close() { b.cluster.Close() }

// Send writes records, and waits until the broker has them. Of each it uses Topic, Key and Value.
func (b *Broker) Send(ctx context.Context, records ...stream.Record) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()))
	if err != nil {
		return err
	}
	defer client.Close()
	out := make([]*kgo.Record, len(records))
	for i, r := range records {
		out[i] = &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value}
	}
	return client.ProduceSync(ctx, out...).FirstErr()
}

// Follow calls each with every record of the topics, from their first one on, until ctx ends or
// each returns false. Topics may be created later.
func (b *Broker) Follow(ctx context.Context, each func(stream.Record) bool, topics ...string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.ConsumeTopics(topics...),
		kgo.MetadataMinAge(100*time.Millisecond), kgo.UnknownTopicRetries(-1))
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
			return err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			record := stream.Record{
				Topic: r.Topic, Partition: int(r.Partition), Offset: r.Offset, Key: r.Key, Value: r.Value, Time: r.Timestamp,
			}
			for _, h := range r.Headers {
				record.Headers = append(record.Headers, stream.Header{Key: h.Key, Value: h.Value})
			}
			if !each(record) {
				return nil
			}
		}
	}
}
