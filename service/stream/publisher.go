package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	// What goes out in one request: enough to make requests cheap, well
	// below the 1 MiB that topics take by default.
	batchRecords = 500
	batchBytes   = 512 << 10

	// maxReplacements is how many replacements for one output are tried in a
	// row. Then the partition waits.
	maxReplacements = 5
)

// errWithheld is why a partition that waits for its topic ends when it drains.
var errWithheld = errors.New("a record waits for its topic to take it")

// A Transport writes batches of records to the brokers.
type Transport interface {
	// Send tries once to write records to a topic, to partition number modulo
	// the number there is. It writes all of them or none, and returns nil once
	// all replicas in sync hold them.
	Send(ctx context.Context, topic string, number int, records []Record) error
	// Verdict tells what an error of Send means.
	Verdict(err error) Verdict
}

// A Verdict tells what becomes of records that were not written.
type Verdict int

// The verdicts.
const (
	TryAgain Verdict = iota // it may pass
	Refuse                  // the topic never takes one of the records, though it takes others
	GiveUp                  // trying again cannot help
)

// A Publisher writes the outputs of a partition's records in order, at least once:
// an output is sent only after all before it are acknowledged. Drivers share it.
// Its methods may be called from many goroutines, for different partitions of the
// input.
type Publisher struct {
	Config    Config
	Trouble   *Trouble
	Transport Transport
}

// An output is one record to publish and the one that caused it.
type output struct {
	source, record Record
	first          Record // for the topic of record, before anything was refused
	replaced       int    // how many times, since first
}

// replace puts in an output's place what cfg.Refused makes of it, or returns
// why there is nothing.
func (o *output) replace(cfg Config, reason error) error {
	var r Record
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

// Drain publishes the runs of a partition's flight, and calls published for each.
// It returns when the flight has no further run, when ctx ends, or when draining
// is closed while an output waits for its topic to take it. The error is
// permanent, or ctx's.
func (p *Publisher) Drain(ctx context.Context, draining <-chan struct{}, source Partition, flight *Flight, published func(Run)) error {
	for {
		run, err := flight.Take(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		err = p.publish(ctx, draining, source, run)
		if errors.Is(err, errWithheld) { // it comes again
			return nil
		}
		if err != nil {
			return fmt.Errorf("%v: %w", source, err)
		}
		bytes := int64(0)
		for _, s := range run.Slots {
			bytes += s.Record.Size()
		}
		records := len(run.Slots)
		published(run)
		flight.Release(run)
		if records > 0 {
			p.Config.Observer.InFlight(-records, -bytes)
		}
	}
}

// publish returns once all replicas in sync hold the outputs of run. It tries
// for as long as it may help and ctx allows; what a topic does not take, only
// until draining is closed.
func (p *Publisher) publish(ctx context.Context, draining <-chan struct{}, source Partition, run Run) error {
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
// place goes what Config.Refused makes of it. Where that makes nothing of it,
// the partition waits here until the topic takes it.
func (p *Publisher) send(ctx context.Context, draining <-chan struct{}, source Partition, outs []*output) error {
	err := p.produce(ctx, source, outs)
	if err == nil || p.Transport.Verdict(err) != Refuse {
		return err
	}
	if half := len(outs) / 2; half > 0 {
		if err := p.send(ctx, draining, source, outs[:half]); err != nil {
			return err
		}
		return p.send(ctx, draining, source, outs[half:])
	}
	o := outs[0]
	pause := backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: MaxRefusedPause, Multiplier: 2, RandomizationFactor: 0.5}
	waited := ""
	for err != nil && p.Transport.Verdict(err) == Refuse {
		if err := o.replace(p.Config, err); err != nil {
			waited = "publish to " + o.record.Topic
			p.Config.Observer.Retrying(source, Publishing, err)
			p.Trouble.Failed(waited, err, "source", source)
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
		p.Config.Observer.Retrying(source, Publishing, nil)
		p.Trouble.Worked(waited)
	}
	return err
}

// Publish writes records of one topic as one batch, and returns once all
// replicas in sync hold them. It tries for as long as it may help and ctx
// allows. source is the partition of the input that they come from.
func (p *Publisher) Publish(ctx context.Context, source Partition, records ...Record) error {
	topic := records[0].Topic
	begin := time.Now()
	pause := backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, MaxInterval: time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	for failed := false; ; failed = true {
		err := p.Transport.Send(ctx, topic, source.ID, records)
		if err == nil {
			p.Config.Observer.Published(len(records), time.Since(begin))
			if failed {
				p.Config.Observer.Retrying(source, Publishing, nil)
				p.Trouble.Worked("publish to " + topic)
			}
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = fmt.Errorf("publish to %s: %w", topic, err)
		if p.Transport.Verdict(err) != TryAgain {
			return err
		}
		p.Config.Observer.Retrying(source, Publishing, err)
		p.Trouble.Failed("publish to "+topic, err)
		t := time.NewTimer(pause.NextBackOff())
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}

func (p *Publisher) produce(ctx context.Context, source Partition, outs []*output) error {
	records := make([]Record, len(outs))
	for i, o := range outs {
		records[i] = o.record
	}
	return p.Publish(ctx, source, records...)
}
