package kafkago

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/resume"
)

// compareEvery is how often a topic's id is looked up if the brokers do not compare it
// themselves, as before Kafka 3.1.
const compareEvery = 10 * time.Second

// A startPoint is where a generation begins to read a partition.
type startPoint struct {
	committed  resume.Position
	remembered resume.Position // as this process remembers it, if the group has committed nothing
	topicKnown bool            // the group has read the topic before: a partition without an offset is new
}

// startPoints looks up where the partitions of a generation begin. It retries until ctx ends.
func (d *Driver) startPoints(ctx context.Context, cluster *cluster, generation int32, partitions []stream.Partition) map[stream.Partition]startPoint {
	operation := "look up the offsets of " + d.cfg.Group
	for len(partitions) > 0 {
		committed, err := cluster.committed(ctx, d.cfg.Group)
		if err == nil {
			d.outages.Recovered(operation)
			return d.startPointsOf(generation, partitions, committed)
		}
		if ctx.Err() == nil {
			d.outages.Failed(operation, err)
		}
		if !retry.Sleep(ctx, rejoinBackoff) {
			break
		}
	}
	return nil
}

func (d *Driver) startPointsOf(generation int32, partitions []stream.Partition, committed map[stream.Partition]resume.Position) map[stream.Partition]startPoint {
	begun := map[string]bool{}
	for id := range d.positions {
		begun[id.Topic] = true
	}
	if generation > resume.FirstGeneration {
		for id := range committed {
			begun[id.Topic] = true
		}
	}
	all := map[stream.Partition]startPoint{}
	for _, id := range partitions {
		b := startPoint{committed: nowhere, remembered: nowhere, topicKnown: begun[id.Topic]}
		if at, ok := committed[id]; ok {
			b.committed = at
		} else if at, ok := d.positions[id]; ok {
			b.remembered = at
		}
		all[id] = b
	}
	return all
}

// committed returns the positions that a group has committed, of all topics.
func (c *cluster) committed(ctx context.Context, group string) (map[stream.Partition]resume.Position, error) {
	ctx, cancel := context.WithTimeout(ctx, groupTimeout)
	defer cancel()
	meta, err := c.client.Metadata(ctx, &kafka.MetadataRequest{Topics: c.cfg.Inputs})
	if err != nil {
		return nil, err
	}
	c.id = meta.ClusterID
	res, err := c.client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: group})
	if err == nil {
		err = res.Error
	}
	if err != nil {
		return nil, err
	}
	all := map[stream.Partition]resume.Position{}
	for topic, partitions := range res.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return nil, p.Error
			}
			if p.CommittedOffset >= 0 {
				all[stream.Partition{Topic: topic, ID: p.Partition}] = resume.Committed(p.CommittedOffset, p.Metadata, c.id)
			}
		}
	}
	return all, nil
}

// findStart looks up where reading begins, and records it.
func (p *partition) findStart(ctx context.Context) error {
	b := p.startPoint
	p.brokerCompares = p.cluster.compares.Load()
	switch {
	case b.committed.Offset >= 0:
		p.next, p.topic = b.committed.Offset, b.committed.Topic
		if p.topic == (resume.TopicID{}) { // another client's: take it for an offset of the topic that exists now
			id, err := p.cluster.topicID(ctx, p.id.Topic)
			if err != nil {
				return err
			}
			p.topic = id
		}
		p.nextThen = p.next
		p.flight.Rewind(p.next)
		p.commits.start(p.id, p.position(), true)
	case b.remembered.Offset >= 0:
		log, err := p.log(ctx)
		if err != nil {
			return err
		}
		p.next = b.remembered.Offset
		return p.reset(ctx, b.remembered.Expired(log), log.Topic)
	default:
		at, log, err := p.first(ctx)
		if err != nil {
			return err
		}
		p.next, p.topic, p.nextThen = at, log.Topic, at
		p.flight.Rewind(at)
		if p.cfg.Start.IsEarliest() {
			p.commits.start(p.id, p.position(), false)
		} else { // committed at once: a partition that is added later has no offset
			p.commits.rewind(p.id, p.position())
		}
	}
	return nil
}

// first returns where a partition without a committed offset begins. A partition that was added
// later begins at its first record, so that no record is lost.
func (p *partition) first(ctx context.Context) (at int64, log resume.Log, err error) {
	log, err = p.log(ctx)
	start := p.cfg.Start
	switch {
	case err != nil || p.startPoint.topicKnown || start.IsEarliest():
		at = log.First
	case start.Latest:
		at = log.Next
	default:
		at, err = p.offsetAt(ctx, start.Time, log)
	}
	return at, log, err
}

func (p *partition) position() resume.Position {
	return resume.Position{Offset: p.next, Topic: p.topic}
}

// compareTopicID compares the topic's id from time to time, if the brokers do not.
func (p *partition) compareTopicID(ctx context.Context) error {
	if p.brokerCompares || p.topic == (resume.TopicID{}) || time.Since(p.comparedAt) < compareEvery {
		return nil
	}
	id, err := p.cluster.topicID(ctx, p.id.Topic)
	switch {
	case err != nil:
		return err
	case id == resume.TopicID{}: // that broker does not know it
		p.comparedAt = time.Now()
		return nil
	case id != p.topic:
		return p.checkPosition(ctx, kafka.InconsistentTopicID)
	}
	p.comparedAt, p.nextThen = time.Now(), p.next
	return nil
}

// checkPosition sets another position if the log does not have the record that is due. If that is
// not certain, it returns reason.
func (p *partition) checkPosition(ctx context.Context, reason kafka.Error) error {
	log, err := p.log(ctx)
	if err != nil {
		return err
	}
	r, lost := p.position().Check(log)
	if !lost { // a new leader that has not caught up, or does not know the new topic yet
		return reason
	}
	if r.Reason == stream.Recreated && !p.brokerCompares { // records read since the last comparison may be the new topic's
		r.Repeated = max(0, p.next-max(r.To, p.nextThen))
	}
	return p.reset(ctx, r, log.Topic)
}

// reset goes on where r says. Records in flight have offsets of the old log: they are published,
// and recorded for the commit, first.
func (p *partition) reset(ctx context.Context, r stream.Reset, topic resume.TopicID) error {
	for !p.flight.Settled() {
		if !retry.Sleep(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	r.Partition = p.id
	if err := resume.Report(p.cfg, r); err != nil {
		return err
	}
	p.next, p.topic, p.comparedAt, p.nextThen = r.To, topic, time.Now(), r.To
	p.flight.Rewind(r.To)
	p.commits.rewind(p.id, p.position())
	return nil
}

// log returns what the partition's leader holds now.
func (p *partition) log(ctx context.Context) (log resume.Log, err error) {
	log.Topic, err = p.cluster.topicID(ctx, p.id.Topic)
	if err != nil {
		return log, err
	}
	if p.topic != (resume.TopicID{}) && log.Topic != p.topic {
		// Another broker may know less than the leader, so the leader decides.
		reserved := &reservation{charge: p.share.Charge(), maxBytes: 1, ratio: 1}
		defer reserved.charge.Release()
		res, err := p.cluster.fetch(ctx, p.id, resume.Position{Topic: log.Topic}, 0, reserved)
		if err != nil {
			return log, err
		}
		if code := kafka.Error(res.ErrorCode); res.byID && otherTopic(code) {
			return log, code
		}
	}
	log.First, log.Next, err = p.bounds(ctx)
	return log, err
}

// bounds returns the offsets of the partition's first record and of its next one.
func (p *partition) bounds(ctx context.Context) (first, next int64, err error) {
	o, err := p.list(ctx, kafka.FirstOffsetOf(p.id.ID), kafka.LastOffsetOf(p.id.ID))
	return o.FirstOffset, o.LastOffset, err
}

// offsetAt returns the offset of the first record at t or later; if there is none, the end.
func (p *partition) offsetAt(ctx context.Context, t time.Time, log resume.Log) (int64, error) {
	o, err := p.list(ctx, kafka.TimeOffsetOf(p.id.ID, t))
	at := log.Next
	for offset := range o.Offsets {
		if offset >= 0 {
			at = offset
		}
	}
	return at, err
}

func (p *partition) list(ctx context.Context, ask ...kafka.OffsetRequest) (kafka.PartitionOffsets, error) {
	res, err := p.cluster.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{p.id.Topic: ask}})
	if err != nil {
		return kafka.PartitionOffsets{}, err
	}
	for _, o := range res.Topics[p.id.Topic] {
		if o.Partition == p.id.ID {
			return o, o.Error
		}
	}
	return kafka.PartitionOffsets{}, kafka.UnknownTopicOrPartition
}

// otherTopic tells whether the broker does not know the topic's id: the topic was deleted, or is
// too new for that broker.
func otherTopic(err error) bool {
	return errors.Is(err, kafka.UnknownTopicID) || errors.Is(err, kafka.InconsistentTopicID)
}
