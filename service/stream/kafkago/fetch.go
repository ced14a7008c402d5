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
	// sends a larger batch nevertheless, whole. Where a partition's share of the
	// memory is smaller, so is a fetch, down to leastFetchBytes.
	fetchBytes      = 1 << 20
	leastFetchBytes = 64 << 10

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
	if !p.placed {
		if err := p.place(ctx); err != nil {
			return err
		}
		p.placed = true
	}
	if err := p.look(ctx); err != nil {
		return err
	}
	room, err := p.room(ctx)
	defer room.charge.Release()
	if err != nil {
		return err
	}
	res, err := p.cluster.fetch(ctx, p.id, p.position(), fetchWait, room)
	var full *noRoomError
	if errors.As(err, &full) {
		p.need = max(p.need, full.bytes)
		return nil
	}
	if err != nil {
		return err
	}
	p.need = 0
	p.compared = res.byID
	p.cluster.compares.Store(res.byID)
	switch code := kafka.Error(res.ErrorCode); code {
	case 0:
	case kafka.OffsetOutOfRange, kafka.UnknownTopicID, kafka.InconsistentTopicID:
		return p.displaced(ctx, code)
	default:
		return code
	}
	p.commits.watermark(p.id, res.HighWatermark)
	return p.admit(ctx, &res.FetchResponseTopicPartition, room)
}

// admit lets the records of one response in.
func (p *partition) admit(ctx context.Context, res *kmsg.FetchResponseTopicPartition, room *room) error {
	p.inflateIn(room)
	before := p.next
	opts := kgo.ProcessFetchPartitionOpts{KeepControlRecords: true, Offset: p.next, Topic: p.id.Topic, Partition: int32(p.id.ID)}
	fetched, next := kgo.ProcessFetchPartition(opts, res, p.inflate, nil)
	p.settle(room, len(fetched.Records))
	for _, r := range fetched.Records {
		if r.Attrs.IsControl() { // of a transaction
			p.skipTo(r.Offset + 1)
		} else if err := p.enter(ctx, r, room.charge); err != nil {
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
	if p.next == before && p.need == 0 && len(res.RecordBatches) > 0 {
		return &unreadableError{errors.New("the batch that was fetched has no record that can be read")}
	}
	return nil
}

// enter waits for room for a record and starts its handler.
func (p *partition) enter(ctx context.Context, r *kgo.Record, charge *stream.Charge) error {
	record := stream.Record{Topic: p.id.Topic, Partition: p.id.ID, Offset: r.Offset, Key: r.Key, Value: r.Value, Time: r.Timestamp}
	for _, h := range r.Headers {
		record.Headers = append(record.Headers, stream.Header{Key: h.Key, Value: h.Value})
	}
	slot, err := p.flight.Admit(ctx, record)
	if err != nil {
		return err
	}
	p.next = r.Offset + 1
	charge.Retain(1)
	slot.Charge = charge
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

func (p *partition) skipTo(next int64) {
	p.next = next
	p.flight.Skip(next)
}
