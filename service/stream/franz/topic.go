package franz

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// scanQuiet is after how long without a record a scan is at its end, though
// the log's end was not seen: compaction may have removed the last records.
const scanQuiet = 5 * time.Second

// Scan calls each with the committed records that a topic holds now, those of a
// partition in order, until each returns an error. It belongs to no group. Of
// cfg it needs Brokers, TLS and SASL.
func Scan(ctx context.Context, cfg stream.Config, topic string, each func(stream.Record) error) error {
	var conns stream.Connections
	defer conns.Shut()
	client, err := kgo.NewClient(connection(cfg, &conns)...)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("read from %s: %w", topic, err)
	}
	ends, err := admin.ListCommittedOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("read from %s: %w", topic, err)
	}
	from, left := map[int32]kgo.Offset{}, map[int32]int64{} // partition to end
	ends.Each(func(end kadm.ListedOffset) {
		if start, ok := starts.Lookup(topic, end.Partition); ok && start.Offset < end.Offset {
			from[end.Partition], left[end.Partition] = kgo.NewOffset().At(start.Offset), end.Offset
		}
	})
	if len(left) == 0 {
		return nil
	}
	reader, err := kgo.NewClient(append(connection(cfg, &conns),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // one may be the last
	)...)
	if err != nil {
		return err
	}
	defer reader.Close()
	for len(left) > 0 {
		quiet, cancel := context.WithTimeout(ctx, scanQuiet)
		fetches := reader.PollFetches(quiet)
		cancel()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if fetches.Empty() && quiet.Err() != nil {
			return nil
		}
		for _, e := range fetches.Errors() {
			if quiet.Err() == nil {
				return fmt.Errorf("read from %s partition %d: %w", topic, e.Partition, e.Err)
			}
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			end, wanted := left[r.Partition]
			if wanted && r.Offset < end && !r.Attrs.IsControl() {
				if err := each(record(r)); err != nil {
					return err
				}
			}
			if wanted && r.Offset >= end-1 {
				delete(left, r.Partition)
			}
		}
	}
	return nil
}

// A Sender writes records outside any transaction, once each.
type Sender struct {
	conns  stream.Connections
	client *kgo.Client
	counts map[string]int
}

// NewSender returns a Sender, which connects when it is used. Of cfg it needs
// Brokers, TLS, SASL and Compression.
func NewSender(cfg stream.Config) (*Sender, error) {
	s := &Sender{counts: map[string]int{}}
	var err error
	s.client, err = kgo.NewClient(append(connection(cfg, &s.conns),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(compression(cfg.Compression)),
		kgo.ProducerBatchMaxBytes(maxRequest),
	)...)
	return s, err
}

// Send writes r to its topic and partition, modulo the number there is, and
// returns once all replicas in sync have it.
func (s *Sender) Send(ctx context.Context, r stream.Record) error {
	n := s.counts[r.Topic]
	if n == 0 {
		res, err := kadm.NewClient(s.client).Metadata(ctx, r.Topic)
		if err == nil {
			err = res.Topics[r.Topic].Err
		}
		if n = len(res.Topics[r.Topic].Partitions); err != nil || n == 0 {
			return fmt.Errorf("publish to %s: %w", r.Topic, err)
		}
		s.counts[r.Topic] = n
	}
	out := &kgo.Record{Topic: r.Topic, Partition: int32(r.Partition % n), Key: r.Key, Value: r.Value, Timestamp: r.Time}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	if err := s.client.ProduceSync(ctx, out).FirstErr(); err != nil {
		return fmt.Errorf("publish to %s: %w", r.Topic, err)
	}
	return nil
}

// Close gives the connections back.
func (s *Sender) Close() {
	s.client.Close()
	s.conns.Shut()
}
