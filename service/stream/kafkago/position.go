package kafkago

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"

	"inceptor/service/stream"
)

// lookEvery is how often a topic's id is looked up where the brokers do not
// compare it themselves: before Kafka 3.1.
const lookEvery = 10 * time.Second

// A beginning is where a generation begins to read a partition.
type beginning struct {
	committed stream.Position
	before    stream.Position // where this process was, if the group has committed nothing
	begun     bool            // the group has read the topic before this generation: a partition without an offset is new
}

// beginnings looks up where the partitions of a generation begin, until it is
// known or ctx ends.
func (d *Driver) beginnings(ctx context.Context, cluster *cluster, generation int32, partitions []stream.Partition) map[stream.Partition]beginning {
	operation := "look up the offsets of " + d.cfg.Group
	for len(partitions) > 0 {
		committed, err := cluster.committed(ctx, d.cfg.Group)
		if err == nil {
			d.trouble.Worked(operation)
			return d.begin(generation, partitions, committed)
		}
		if ctx.Err() == nil {
			d.trouble.Failed(operation, err)
		}
		if !sleep(ctx, rejoinBackoff) {
			break
		}
	}
	return nil
}

func (d *Driver) begin(generation int32, partitions []stream.Partition, committed map[stream.Partition]stream.Position) map[stream.Partition]beginning {
	begun := map[string]bool{}
	for id := range d.positions {
		begun[id.Topic] = true
	}
	if generation > stream.FirstGeneration {
		for id := range committed {
			begun[id.Topic] = true
		}
	}
	all := map[stream.Partition]beginning{}
	for _, id := range partitions {
		b := beginning{committed: nowhere, before: nowhere, begun: begun[id.Topic]}
		if at, ok := committed[id]; ok {
			b.committed = at
		} else if at, ok := d.positions[id]; ok {
			b.before = at
		}
		all[id] = b
	}
	return all
}

// committed are the positions that a group has committed, of all topics.
func (c *cluster) committed(ctx context.Context, group string) (map[stream.Partition]stream.Position, error) {
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
	all := map[stream.Partition]stream.Position{}
	for topic, partitions := range res.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return nil, p.Error
			}
			if p.CommittedOffset >= 0 {
				all[stream.Partition{Topic: topic, ID: p.Partition}] = stream.Committed(p.CommittedOffset, p.Metadata, c.id)
			}
		}
	}
	return all, nil
}

// place looks up where the reading begins.
func (p *partition) place(ctx context.Context) error {
	b := p.beginning
	p.compared = p.cluster.compares.Load()
	switch {
	case b.committed.Offset >= 0:
		p.next, p.topic = b.committed.Offset, b.committed.Topic
		if p.topic == (stream.TopicID{}) { // somebody else's: it belongs to the topic that there is
			id, err := p.cluster.topicID(ctx, p.id.Topic)
			if err != nil {
				return err
			}
			p.topic = id
		}
		p.seen = p.next
		p.flight.Rewind(p.next)
		p.commits.start(p.id, p.position(), true)
	case b.before.Offset >= 0:
		log, err := p.log(ctx)
		if err != nil {
			return err
		}
		p.next = b.before.Offset
		return p.reset(ctx, b.before.Expired(log), log.Topic)
	default:
		at, log, err := p.first(ctx)
		if err != nil {
			return err
		}
		p.next, p.topic, p.seen = at, log.Topic, at
		p.flight.Rewind(at)
		if p.cfg.Start.IsEarliest() {
			p.commits.start(p.id, p.position(), false)
		} else { // at once, or a partition that the group adds later would not be told from this one
			p.commits.rewind(p.id, p.position())
		}
	}
	return nil
}

// first is where a partition without a committed offset begins. A partition that
// was added later begins at its first record, so that no record is lost.
func (p *partition) first(ctx context.Context) (at int64, log stream.Log, err error) {
	log, err = p.log(ctx)
	start := p.cfg.Start
	switch {
	case err != nil || p.beginning.begun || start.IsEarliest():
		at = log.First
	case start.Latest:
		at = log.Next
	default:
		at, err = p.offsetAt(ctx, start.Time, log)
	}
	return at, log, err
}

func (p *partition) position() stream.Position {
	return stream.Position{Offset: p.next, Topic: p.topic}
}

// look compares the topic's id now and then, where the brokers do not.
func (p *partition) look(ctx context.Context) error {
	if p.compared || p.topic == (stream.TopicID{}) || time.Since(p.looked) < lookEvery {
		return nil
	}
	id, err := p.cluster.topicID(ctx, p.id.Topic)
	switch {
	case err != nil:
		return err
	case id == stream.TopicID{}: // that broker knows none
		p.looked = time.Now()
		return nil
	case id != p.topic:
		return p.displaced(ctx, kafka.InconsistentTopicID)
	}
	p.looked, p.seen = time.Now(), p.next
	return nil
}

// displaced goes on elsewhere if the log does not have the record that is due. If
// that is not certain, it returns reason.
func (p *partition) displaced(ctx context.Context, reason kafka.Error) error {
	log, err := p.log(ctx)
	if err != nil {
		return err
	}
	r, lost := p.position().Check(log)
	if !lost { // a new leader that has not caught up, or does not know a new topic yet
		return reason
	}
	if r.Reason == stream.Recreated && !p.compared { // what was read since the last look may be of the new topic
		r.Repeated = max(0, p.next-max(r.To, p.seen))
	}
	return p.reset(ctx, r, log.Topic)
}

// reset goes on where r says. What is in flight has offsets of the old log: it
// is published, and noted for the commit, first.
func (p *partition) reset(ctx context.Context, r stream.Reset, topic stream.TopicID) error {
	for !p.flight.Settled() {
		if !sleep(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	r.Partition = p.id
	if err := p.cfg.Reset(r); err != nil {
		return err
	}
	p.next, p.topic, p.looked, p.seen = r.To, topic, time.Now(), r.To
	p.flight.Rewind(r.To)
	p.commits.rewind(p.id, p.position())
	return nil
}

// log is what the partition's leader holds now.
func (p *partition) log(ctx context.Context) (log stream.Log, err error) {
	log.Topic, err = p.cluster.topicID(ctx, p.id.Topic)
	if err != nil {
		return log, err
	}
	if p.topic != (stream.TopicID{}) && log.Topic != p.topic {
		// A broker may know less than the leader: it has the last word.
		room := &room{charge: p.share.Charge(), fetch: 1, ratio: 1}
		defer room.charge.Release()
		res, err := p.cluster.fetch(ctx, p.id, stream.Position{Topic: log.Topic}, 0, room)
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

// bounds are the offsets of the partition's first record and of its next one.
func (p *partition) bounds(ctx context.Context) (first, next int64, err error) {
	o, err := p.list(ctx, kafka.FirstOffsetOf(p.id.ID), kafka.LastOffsetOf(p.id.ID))
	return o.FirstOffset, o.LastOffset, err
}

// offsetAt is that of the first record which is as late as t, or later.
func (p *partition) offsetAt(ctx context.Context, t time.Time, log stream.Log) (int64, error) {
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

// otherTopic tells whether the broker does not know the topic's id: it was
// deleted, or is too new for that broker.
func otherTopic(err error) bool {
	return errors.Is(err, kafka.UnknownTopicID) || errors.Is(err, kafka.InconsistentTopicID)
}
