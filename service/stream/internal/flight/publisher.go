package flight

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/outage"
)

const (
	// The size of one request: enough to make requests cheap, and well below the 1 MiB that topics
	// take by default.
	batchRecords = 500
	batchBytes   = 512 << 10
)

// MaxRefusedPause is the longest pause between two tries to publish to a topic that takes nothing
// for a record, before its random part.
const MaxRefusedPause = 10 * time.Second

// errWithheld ends a partition that drains while an output waits for its topic to take it.
var errWithheld = errors.New("a record waits for its topic to take it")

// A Transport writes batches of records to the brokers.
type Transport interface {
	// Send tries once to write records to a topic, to partition number modulo the number of its
	// partitions. It writes all of them or none, and returns nil when all replicas in sync have
	// them.
	Send(ctx context.Context, topic string, number int, records []stream.Record) error
	// Reaction tells what to do about an error of Send.
	Reaction(err error) Reaction
}

// A Reaction is what to do with records that were not written.
type Reaction int

// The reactions.
const (
	TryAgain Reaction = iota // the error may pass
	Refuse                   // the topic never takes one of the records, but takes others
	GiveUp                   // a retry cannot help
)

// A Publisher writes the outputs of a partition's records in order, at least once: an output is
// sent only after all outputs before it are acknowledged. Its fields are set once. Its methods
// may be called from many goroutines, for different partitions of the input.
type Publisher struct {
	Config    stream.Config
	Outages   *outage.Log
	Transport Transport
}

// Drain publishes the stretches of a partition's flight, and calls published for each. It returns
// when the flight has no further stretch, when ctx ends, or when draining is closed while an output
// waits for its topic to take it. The error is permanent, or ctx's.
func (p *Publisher) Drain(ctx context.Context, draining <-chan struct{}, source stream.Partition, flight *Flight, published func(Stretch)) error {
	for {
		stretch, err := flight.Take(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		err = p.publish(ctx, draining, source, stretch)
		if errors.Is(err, errWithheld) { // its record comes again
			return nil
		}
		if err != nil {
			return fmt.Errorf("%v: %w", source, err)
		}
		bytes := int64(0)
		for _, s := range stretch.Slots {
			bytes += s.Record.Size()
			for range s.Outputs {
				p.Config.Observer.Acknowledged(s.Record)
			}
		}
		records := len(stretch.Slots)
		if records > 0 {
			p.Config.Observer.Delivered(source, stretch.Slots[0].Record.Offset, stretch.Slots[records-1].Record.Offset)
		}
		published(stretch)
		flight.Release(stretch)
		if records > 0 {
			p.Config.Observer.InFlight(source, -records, -bytes)
		}
	}
}

// publish returns when all replicas in sync have the outputs of stretch. It retries as long as that
// may help and ctx allows; an output that its topic does not take, only until draining is closed.
func (p *Publisher) publish(ctx context.Context, draining <-chan struct{}, source stream.Partition, stretch Stretch) error {
	var topics []string
	byTopic := map[string][]*Output{}
	for _, s := range stretch.Slots {
		for _, r := range s.Outputs {
			if byTopic[r.Topic] == nil {
				topics = append(topics, r.Topic)
			}
			o := NewOutput(s.Record, r)
			byTopic[r.Topic] = append(byTopic[r.Topic], &o)
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

// batch returns how many of outs go into one request.
func batch(outs []*Output) int {
	bytes := int64(0)
	for i, o := range outs {
		bytes += o.Record.Size()
		if i > 0 && (i == batchRecords || bytes > batchBytes) {
			return i
		}
	}
	return len(outs)
}

// send publishes outputs of one topic. A broker accepts or refuses a batch as a whole, so the bad
// record of a refused batch is found by halving it. What Config.ReplaceRefused returns is published
// in its place. If it returns nothing, the partition waits here until the topic takes the record.
func (p *Publisher) send(ctx context.Context, draining <-chan struct{}, source stream.Partition, outs []*Output) error {
	err := p.produce(ctx, source, outs)
	if err == nil || p.Transport.Reaction(err) != Refuse {
		return err
	}
	if half := len(outs) / 2; half > 0 {
		if err := p.send(ctx, draining, source, outs[:half]); err != nil {
			return err
		}
		return p.send(ctx, draining, source, outs[half:])
	}
	o := outs[0]
	pause := retry.NewBackoff(100*time.Millisecond, MaxRefusedPause)
	waited := ""
	for err != nil && p.Transport.Reaction(err) == Refuse {
		if err := o.Replace(p.Config, err); err != nil {
			waited = "publish to " + o.Record.Topic
			p.Config.Observer.Retrying(source, stream.Publishing, err)
			p.Outages.Failed(waited, err, "source", source)
			select {
			case <-time.After(pause.NextBackOff()):
			case <-draining:
				return errWithheld
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			o.Restore()
		}
		err = p.produce(ctx, source, outs)
	}
	if err == nil && waited != "" {
		p.Config.Observer.Retrying(source, stream.Publishing, nil)
		p.Outages.Recovered(waited)
	}
	return err
}

// Publish writes records of one topic as one batch, and returns when all replicas in sync have
// them. It retries as long as that may help and ctx allows. source is the input partition that
// they come from.
func (p *Publisher) Publish(ctx context.Context, source stream.Partition, records ...stream.Record) error {
	topic := records[0].Topic
	begin := time.Now()
	pause := retry.NewBackoff(50*time.Millisecond, time.Second)
	for failed := false; ; failed = true {
		err := p.Transport.Send(ctx, topic, source.ID, records)
		if err == nil {
			p.Config.Observer.Published(len(records), time.Since(begin))
			if failed {
				p.Config.Observer.Retrying(source, stream.Publishing, nil)
				p.Outages.Recovered("publish to " + topic)
			}
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = fmt.Errorf("publish to %s: %w", topic, err)
		if p.Transport.Reaction(err) != TryAgain {
			return err
		}
		p.Config.Observer.Retrying(source, stream.Publishing, err)
		p.Outages.Failed("publish to "+topic, err)
		if !retry.Sleep(ctx, pause.NextBackOff()) {
			return context.Cause(ctx)
		}
	}
}

func (p *Publisher) produce(ctx context.Context, source stream.Partition, outs []*Output) error {
	records := make([]stream.Record, len(outs))
	for i, o := range outs {
		records[i] = o.Record
	}
	return p.Publish(ctx, source, records...)
}
