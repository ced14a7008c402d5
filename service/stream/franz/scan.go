package franz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/wire"
)

const (
	// scanQuiet is how long a scan waits for brokers that send nothing. A restart, or the
	// election of a leader, takes less.
	scanQuiet = 30 * time.Second
	// scanWait is how long a broker keeps a request while it has nothing to send.
	scanWait = 500 * time.Millisecond
	// scanPause is the time between two attempts.
	scanPause = 250 * time.Millisecond
	// scanEmpty is how many empty answers in a row mean that a log has nothing more. A single one
	// may come from a broker that reads from remote storage.
	scanEmpty = 3

	maxScanBytes  = 16 << 20  // of a response; more if one batch is larger
	maxScanUnpack = 256 << 20 // of a batch, decompressed
)

// Scan calls each with the committed records that a topic has now, those of a partition in order,
// until each returns an error. It uses no group. If the brokers send nothing for 30 s though there
// is more, the error names the partition and offset that did not come.
func (c *Client) Scan(ctx context.Context, topic string, each func(stream.Record) error) error {
	return c.scan(ctx, topic, scanQuiet, each)
}

func (c *Client) scan(ctx context.Context, topic string, quiet time.Duration, each func(stream.Record) error) error {
	conns := c.conns.Again()
	defer conns.Shut()
	client, err := kgo.NewClient(append(connection(c.cfg, conns), kgo.MaxDecompressBatchBytes(maxScanUnpack))...)
	if err != nil {
		return err
	}
	defer client.Close()
	s := &scanner{conns: conns, client: client, admin: kadm.NewClient(client), topic: topic, quiet: quiet, each: each}
	s.unpack, _ = client.OptValue(kgo.WithDecompressor).(kgo.Decompressor) // with the bound
	starts, err := s.offsets(ctx, s.admin.ListStartOffsets)
	if err != nil {
		return err
	}
	ends, err := s.offsets(ctx, s.admin.ListCommittedOffsets)
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(ends)) {
		start, ok := starts[id]
		if !ok {
			continue // the partition was added meanwhile
		}
		if err := s.partition(ctx, id, start.Offset, ends[id].Offset); err != nil {
			return err
		}
	}
	return nil
}

// A scanner reads the partitions of one topic, one after the other. It asks the leaders itself: a
// consuming client does not tell an empty answer from no answer. One goroutine uses it.
type scanner struct {
	conns  *wire.Connections
	client *kgo.Client
	admin  *kadm.Client
	unpack kgo.Decompressor
	topic  string
	quiet  time.Duration
	each   func(stream.Record) error

	detail kadm.TopicDetail // with the leaders; without partitions it must be looked up
}

// offsets looks up the offsets of one kind, by partition.
func (s *scanner) offsets(
	ctx context.Context, list func(context.Context, ...string) (kadm.ListedOffsets, error),
) (map[int32]kadm.ListedOffset, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.quiet, fmt.Errorf("no broker has answered for %v", s.quiet))
	defer cancel()
	listed, err := list(ctx, s.topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("read from %s: %w", s.topic, because(ctx, err))
	}
	return listed[s.topic], nil
}

// partition calls each with the records from the offset from on, up to the one before end.
func (s *scanner) partition(ctx context.Context, id int32, from, end int64) error {
	heard, empty := time.Now(), 0
	for from < end {
		got, err := s.fetch(ctx, id, from)
		for _, r := range got.records {
			if r.Offset >= end {
				break
			}
			if err := s.each(record(r)); err != nil {
				return err
			}
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case got.next > from:
			from, heard, empty = got.next, time.Now(), 0
			continue
		case err == nil && got.stable < end:
			err = fmt.Errorf("the log's committed end is %d now", got.stable)
		case err == nil && got.empty:
			if empty++; empty == scanEmpty {
				return nil // the rest was compacted away, or aborted
			}
			continue
		case err == nil: // a quota has shortened the answer, or it has a part of a batch
			err = errors.New("the broker sends no whole batch")
		}
		empty, s.detail = 0, kadm.TopicDetail{}
		if permanent(err) {
			return fmt.Errorf("read from %s, partition %d: %w", s.topic, id, err)
		}
		if errors.Is(err, kerr.OffsetOutOfRange) {
			starts, err := s.offsets(ctx, s.admin.ListStartOffsets)
			if err != nil {
				return err
			}
			if start := starts[id].Offset; start > from { // retention has removed records meanwhile
				from, heard = min(start, end), time.Now()
				continue
			}
		}
		if time.Since(heard) > s.quiet {
			return fmt.Errorf("read from %s, partition %d: offset %d did not come within %v, of records up to offset %d: %w",
				s.topic, id, from, s.quiet, end-1, err)
		}
		if !retry.Sleep(ctx, scanPause) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// A scanned is what a broker has sent from an offset on.
type scanned struct {
	records []*kgo.Record // committed ones, without control records
	next    int64         // offset to go on with
	empty   bool          // the broker has nothing to send
	stable  int64         // the log's committed end
}

// fetch asks the partition's leader once. It may return records together with an error.
func (s *scanner) fetch(ctx context.Context, id int32, from int64) (scanned, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.quiet, errors.New("the broker does not answer"))
	defer cancel()
	got := scanned{next: from}
	if len(s.detail.Partitions) == 0 {
		meta, err := s.admin.Metadata(ctx, s.topic)
		if err == nil {
			err = meta.Topics[s.topic].Err
		}
		if err != nil {
			return got, because(ctx, err)
		}
		s.detail = meta.Topics[s.topic]
	}
	leader, ok := s.detail.Partitions[id]
	switch {
	case !ok:
		return got, kerr.UnknownTopicOrPartition
	case leader.Err != nil:
		return got, leader.Err
	}
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = int32(scanWait.Milliseconds()), 1, maxScanBytes
	req.IsolationLevel = 1 // committed
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = s.topic, s.detail.ID
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition, part.FetchOffset, part.PartitionMaxBytes = id, from, maxScanBytes
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	throttled := s.conns.Throttled()
	res, err := s.client.Broker(int(leader.Leader)).Request(ctx, req)
	if err != nil {
		return got, because(ctx, err)
	}
	got, err = s.read(res.(*kmsg.FetchResponse), id, from)
	got.empty = got.empty && s.conns.Throttled() == throttled
	return got, err
}

// because returns why ctx ended, if it did, else err.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *scanner) read(res *kmsg.FetchResponse, id int32, from int64) (scanned, error) {
	if err := kerr.ErrorForCode(res.ErrorCode); err != nil {
		return scanned{next: from}, err
	}
	for _, t := range res.Topics {
		for i := range t.Partitions {
			p := &t.Partitions[i]
			if p.Partition != id {
				continue
			}
			opts := kgo.ProcessFetchPartitionOpts{
				Offset: from, IsolationLevel: kgo.ReadCommitted(), Topic: s.topic, Partition: id,
			}
			read, next := kgo.ProcessFetchPartition(opts, p, s.unpack, nil)
			return scanned{
				records: read.Records, next: next, stable: p.LastStableOffset,
				empty: len(p.RecordBatches) == 0,
			}, read.Err
		}
	}
	return scanned{next: from}, errors.New("the broker's answer lacks the partition")
}
