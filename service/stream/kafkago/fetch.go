package kafkago

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"inceptor/service/stream"
)

const (
	// fetchBytes bounds what one fetch holds beside the window; a broker
	// sends a larger batch nevertheless, whole.
	fetchBytes = 1 << 20

	// fetchWait is how long a broker keeps a fetch waiting for records. It
	// answers as soon as there is one.
	fetchWait = 2 * time.Second
)

// fetch admits the partition's records into the window until ctx ends. The
// window is what holds it back.
func (p *partition) fetch(ctx context.Context) error {
	operation := "read from " + p.topic
	pause := backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, MaxInterval: time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	// Of a generation before, perhaps. One partition that works is no reason
	// to report the end of another's trouble again and again.
	failed := true
	for {
		err := p.fetchOnce(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			if failed {
				failed = false
				pause.Reset()
				p.trouble.Worked(operation)
			}
			continue
		case permanent(err):
			return fmt.Errorf("read from %s partition %d: %w", p.topic, p.id, err)
		}
		failed = true
		p.trouble.Failed(operation, err, "partition", p.id)
		if !sleep(ctx, pause.NextBackOff()) {
			return context.Cause(ctx)
		}
	}
}

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
	res, err := p.client.Fetch(ctx, &kafka.FetchRequest{
		Topic:     p.topic,
		Partition: p.id,
		Offset:    p.next,
		MinBytes:  1,
		MaxBytes:  fetchBytes,
		MaxWait:   fetchWait,
	})
	if err != nil {
		return err
	}
	if errors.Is(res.Error, kafka.OffsetOutOfRange) {
		return p.outOfRange(ctx)
	}
	if res.Error != nil {
		return res.Error
	}
	p.commits.watermark(p.id, res.HighWatermark)
	return p.admit(ctx, res.Records)
}

// admit lets the records of one response in. The response consists of batches,
// and only a batch tells whether it holds records, or the markers of a
// transaction.
func (p *partition) admit(ctx context.Context, response kafka.RecordReader) error {
	batches, ok := response.(*protocol.RecordStream)
	if !ok {
		return nil // no records
	}
	before, base := p.next, int64(-1)
	for _, b := range batches.Records {
		control := false
		switch b := b.(type) {
		case *protocol.ControlBatch:
			control, base = true, b.BaseOffset
		case *protocol.RecordBatch:
			base = b.BaseOffset
		}
		for {
			r, err := b.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if r.Offset < p.next { // batches come whole, and may begin earlier
				release(r)
				continue
			}
			if control {
				release(r)
				p.skipTo(r.Offset + 1)
				continue
			}
			if err := p.enter(ctx, r); err != nil {
				return err
			}
		}
	}
	// Compaction may leave batches without records, or without those at the
	// end. What was asked for is then known not to exist, up to the last
	// batch; go on behind it, or the same would come for ever.
	if len(batches.Records) > 0 && p.next == before {
		p.skipTo(max(before, base) + 1)
	}
	return nil
}

// enter waits for room for a record and starts its handler.
func (p *partition) enter(ctx context.Context, r *kafka.Record) error {
	defer release(r)
	record := stream.Record{Topic: p.topic, Partition: p.id, Offset: r.Offset, Time: r.Time}
	var err error
	if record.Key, err = protocol.ReadAll(r.Key); err != nil {
		return err
	}
	if record.Value, err = protocol.ReadAll(r.Value); err != nil {
		return err
	}
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

// release gives the memory of a record back to kafka-go.
func release(r *kafka.Record) {
	if r.Key != nil {
		r.Key.Close()
	}
	if r.Value != nil {
		r.Value.Close()
	}
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
		"topic", p.topic, "partition", p.id, "offset", p.next, "first", first, "last", last)
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
	res, err := p.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{p.topic: {kafka.FirstOffsetOf(p.id), kafka.LastOffsetOf(p.id)}},
	})
	if err != nil {
		return 0, 0, err
	}
	for _, o := range res.Topics[p.topic] {
		if o.Partition == p.id {
			return o.FirstOffset, o.LastOffset, o.Error
		}
	}
	return 0, 0, kafka.UnknownTopicOrPartition
}

func (p *partition) skipTo(next int64) {
	p.next = next
	p.flight.Skip(next)
}
