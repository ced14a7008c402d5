package kafkago

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
	"inceptor/service/stream/internal/flight"
)

const (
	// fetchBytes bounds one fetch; a broker sends a larger batch all the same, whole. If a
	// partition's share of the memory is smaller, so is a fetch, down to leastFetchBytes.
	fetchBytes      = 1 << 20
	leastFetchBytes = 64 << 10

	// fetchWait is how long a broker keeps a fetch waiting for records. It answers as soon as
	// there is one.
	fetchWait = 2 * time.Second
)

// failingFor is how long an error that may pass by itself lasts until the observer is told.
const failingFor = 10 * time.Second

// fetch reads the partition's records into the window until ctx ends; a full window holds it
// back. If records cannot be read, only this partition waits, and they are read again and again.
func (p *partition) fetch(ctx context.Context) error {
	operation := "read from " + p.id.Topic
	pause := retry.NewBackoff(50*time.Millisecond, time.Second)
	// An outage may be that of an earlier generation, so the first success reports a recovery.
	// Later ones do so only after a failure of this partition, or each would end another's
	// outage.
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
				p.outages.Recovered(operation)
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
		p.outages.Failed(operation, err, "partition", p.id.ID, "offset", p.next)
		if !retry.Sleep(ctx, pause.NextBackOff()) {
			return context.Cause(ctx)
		}
	}
}

// An unreadableError says why the records that a broker has sent cannot be read.
type unreadableError struct{ error }

func (e *unreadableError) Unwrap() error { return e.error }

func (p *partition) fetchOnce(ctx context.Context) error {
	if !p.started {
		if err := p.findStart(ctx); err != nil {
			return err
		}
		p.started = true
	}
	if err := p.compareTopicID(ctx); err != nil {
		return err
	}
	reserved, err := p.reserve(ctx)
	defer reserved.charge.Release()
	if err != nil {
		return err
	}
	res, err := p.cluster.fetch(ctx, p.id, p.position(), fetchWait, reserved)
	var full *overBudgetError
	if errors.As(err, &full) {
		p.need = max(p.need, full.bytes)
		return nil
	}
	if err != nil {
		return err
	}
	p.need = 0
	p.brokerCompares = res.byID
	p.cluster.compares.Store(res.byID)
	switch code := kafka.Error(res.ErrorCode); code {
	case 0:
	case kafka.OffsetOutOfRange, kafka.UnknownTopicID, kafka.InconsistentTopicID:
		return p.checkPosition(ctx, code)
	default:
		return code
	}
	p.commits.watermark(p.id, res.HighWatermark)
	return p.admitAll(ctx, &res.FetchResponseTopicPartition, reserved)
}

// admitAll admits the records of one response to the window.
func (p *partition) admitAll(ctx context.Context, res *kmsg.FetchResponseTopicPartition, reserved *reservation) error {
	p.limitInflate(reserved)
	before := p.next
	opts := kgo.ProcessFetchPartitionOpts{KeepControlRecords: true, Offset: p.next, Topic: p.id.Topic, Partition: int32(p.id.ID)}
	fetched, next := kgo.ProcessFetchPartition(opts, res, p.inflate, nil)
	p.settle(reserved, len(fetched.Records))
	for _, r := range fetched.Records {
		if r.Attrs.IsControl() { // of a transaction
			p.skipTo(r.Offset + 1)
		} else if err := p.admitRecord(ctx, r, reserved.charge); err != nil {
			return err
		}
	}
	var unread *kgo.ErrDecompressTooLarge
	switch {
	case errors.As(fetched.Err, &unread):
		return p.admitUnread(ctx, stream.Batch{Topic: p.id.Topic, Partition: p.id.ID, First: max(p.next, unread.Offset), Last: unread.NextOffset - 1})
	case errors.Is(fetched.Err, inflate.ErrLater): // the records before it are admitted
	case fetched.Err != nil:
		return &unreadableError{fetched.Err}
	}
	// Compaction may leave batches without records, or without their last ones.
	if next > p.next {
		p.skipTo(next)
	}
	if p.next == before && p.need == 0 && len(res.RecordBatches) > 0 {
		return &unreadableError{errors.New("the fetched batch has no record that can be read")}
	}
	return nil
}

// admitRecord waits until the window has space for a record, and starts its handler.
func (p *partition) admitRecord(ctx context.Context, r *kgo.Record, charge *flight.Charge) error {
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
	p.cfg.Observer.InFlight(p.id, 1, record.Size())
	p.begin(slot)
	return nil
}

// admitUnread admits one slot for a whole batch that is not read.
func (p *partition) admitUnread(ctx context.Context, b stream.Batch) error {
	slot, err := p.flight.Admit(ctx, stream.Record{Topic: p.id.Topic, Partition: p.id.ID, Offset: b.Last})
	if err != nil {
		return err
	}
	p.next = b.Last + 1
	p.cfg.Observer.InFlight(p.id, 1, slot.Record.Size())
	slot.Done(p.cfg.ReplaceUnread(b))
	return nil
}

func (p *partition) skipTo(next int64) {
	p.next = next
	p.flight.Skip(next)
}
