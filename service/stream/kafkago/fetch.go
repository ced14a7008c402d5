package kafkago

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
)

const (
	// fetchBytes bounds what one fetch holds beside the window; a broker
	// sends a larger batch nevertheless, whole.
	fetchBytes = 1 << 20

	// fetchWait is how long a broker keeps a fetch waiting for records. It
	// answers as soon as there is one.
	fetchWait = 2 * time.Second
)

// failingFor is how long an error that may pass by itself goes on until the
// observer is told.
const failingFor = 10 * time.Second

// fetch admits the partition's records into the window until ctx ends. The
// window is what holds it back. Whatever is wrong with what is read costs this
// partition only, which is read again and again.
func (p *partition) fetch(ctx context.Context) error {
	operation := "read from " + p.id.Topic
	pause := backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, MaxInterval: time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	// Of a generation before, perhaps. One partition that works is no reason
	// to report the end of another's trouble again and again.
	failed, told := true, false
	var since time.Time
	for {
		err := p.fetchOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			if failed {
				failed, since = false, time.Time{}
				pause.Reset()
				p.trouble.Worked(operation)
			}
			if told {
				told = false
				p.cfg.Observer.Retrying(p.id, stream.Reading, nil)
			}
			continue
		case permanent(err) && !errors.Is(err, kafka.UnsupportedCompressionType) && !errors.Is(err, kafka.UnsupportedForMessageFormat):
			return fmt.Errorf("read from %v: %w", p.id, err)
		}
		failed = true
		if since.IsZero() {
			since = time.Now()
		}
		var unreadable *unreadableError
		var answer kafka.Error
		if errors.As(err, &unreadable) || errors.As(err, &answer) && time.Since(since) > failingFor {
			told = true
			p.cfg.Observer.Retrying(p.id, stream.Reading, fmt.Errorf("read from %s at offset %d: %w", p.id.Topic, p.next, err))
		}
		p.trouble.Failed(operation, err, "partition", p.id.ID, "offset", p.next)
		if !sleep(ctx, pause.NextBackOff()) {
			return context.Cause(ctx)
		}
	}
}

// An unreadableError is what is wrong with the records that a broker has sent.
type unreadableError struct{ error }

func (e *unreadableError) Unwrap() error { return e.error }

func (p *partition) fetchOnce(ctx context.Context) error {
	if p.next < 0 { // nothing committed yet
		first, _, err := p.bounds(ctx)
		if err != nil {
			return err
		}
		p.next = first
		p.flight.Rewind(first)
		p.commits.start(p.id, first)
	}
	res, err := p.cluster.fetch(ctx, p.id, p.next)
	if err != nil {
		return err
	}
	switch code := kafka.Error(res.ErrorCode); code {
	case 0:
	case kafka.OffsetOutOfRange:
		return p.outOfRange(ctx)
	default:
		return code
	}
	p.commits.watermark(p.id, res.HighWatermark)
	return p.admit(ctx, res)
}

// admit lets the records of one response in.
func (p *partition) admit(ctx context.Context, res *kmsg.FetchResponseTopicPartition) error {
	p.inflate.Reset()
	before := p.next
	opts := kgo.ProcessFetchPartitionOpts{KeepControlRecords: true, Offset: p.next, Topic: p.id.Topic, Partition: int32(p.id.ID)}
	fetched, next := kgo.ProcessFetchPartition(opts, res, p.inflate, nil)
	for _, r := range fetched.Records {
		if r.Attrs.IsControl() { // of a transaction
			p.skipTo(r.Offset + 1)
		} else if err := p.enter(ctx, r); err != nil {
			return err
		}
	}
	var unread *kgo.ErrDecompressTooLarge
	switch {
	case errors.As(fetched.Err, &unread):
		return p.pass(ctx, stream.Batch{Topic: p.id.Topic, Partition: p.id.ID, First: max(p.next, unread.Offset), Last: unread.NextOffset - 1})
	case errors.Is(fetched.Err, inflate.ErrLater): // those before it are taken all the same
	case fetched.Err != nil:
		return &unreadableError{fetched.Err}
	}
	// Compaction may leave batches without records, or without those at the end.
	if next > p.next {
		p.skipTo(next)
	}
	if p.next == before && len(res.RecordBatches) > 0 {
		return &unreadableError{errors.New("the batch that was fetched has no record that can be read")}
	}
	return nil
}

// enter waits for room for a record and starts its handler.
func (p *partition) enter(ctx context.Context, r *kgo.Record) error {
	record := stream.Record{Topic: p.id.Topic, Partition: p.id.ID, Offset: r.Offset, Key: r.Key, Value: r.Value, Time: r.Timestamp}
	for _, h := range r.Headers {
		record.Headers = append(record.Headers, stream.Header{Key: h.Key, Value: h.Value})
	}
	slot, err := p.flight.Admit(ctx, record)
	if err != nil {
		return err
	}
	p.next = r.Offset + 1
	p.cfg.Observer.InFlight(1, record.Size())
	p.begin(slot)
	return nil
}

// pass lets something in that stands for a batch of records.
func (p *partition) pass(ctx context.Context, b stream.Batch) error {
	slot, err := p.flight.Admit(ctx, stream.Record{Topic: p.id.Topic, Partition: p.id.ID, Offset: b.Last})
	if err != nil {
		return err
	}
	p.next = b.Last + 1
	p.cfg.Observer.InFlight(1, slot.Record.Size())
	slot.Done(p.cfg.Unread(b))
	return nil
}

// outOfRange goes on with the earliest record when the log does not hold the
// one that is due: retention has overtaken it, or the topic was made anew.
func (p *partition) outOfRange(ctx context.Context) error {
	first, last, err := p.bounds(ctx)
	if err != nil {
		return err
	}
	if p.next >= first && p.next <= last { // a new leader that has not caught up
		return kafka.OffsetOutOfRange
	}
	p.cfg.Log.Warn("offset out of range, going to the earliest record",
		"topic", p.id.Topic, "partition", p.id.ID, "offset", p.next, "first", first, "last", last)
	// What is in flight has offsets of the old log; let it be committed first.
	for held, _ := p.flight.Held(); held > 0; held, _ = p.flight.Held() {
		if !sleep(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	p.next = first
	p.flight.Rewind(first)
	p.commits.rewind(p.id, first)
	return nil
}

// bounds are the offsets of the partition's first record and of its next one.
func (p *partition) bounds(ctx context.Context) (first, last int64, err error) {
	res, err := p.cluster.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{p.id.Topic: {kafka.FirstOffsetOf(p.id.ID), kafka.LastOffsetOf(p.id.ID)}},
	})
	if err != nil {
		return 0, 0, err
	}
	for _, o := range res.Topics[p.id.Topic] {
		if o.Partition == p.id.ID {
			return o.FirstOffset, o.LastOffset, o.Error
		}
	}
	return 0, 0, kafka.UnknownTopicOrPartition
}

func (p *partition) skipTo(next int64) {
	p.next = next
	p.flight.Skip(next)
}
