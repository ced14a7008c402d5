package franz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/resume"
)

// startTimeout bounds how long all partitions of a generation wait for the
// look-up of where some of them begin.
const startTimeout = 2 * time.Second

// beginnings decides where the partitions of each generation begin, in the
// client's callbacks.
type beginnings struct {
	// Set once.
	*sessionContext
	exactlyOnce bool

	// Of the goroutine in which the client manages the group.
	client    *kgo.Client                          // the first callbacks come before kgo.NewClient returns
	committed map[stream.Partition]committedOffset // of the generation that begins
}

// A committedOffset is what the group has committed of a partition.
type committedOffset struct {
	offset   int64
	metadata string
}

// onFetched keeps what the group has committed, for onOffsets, which is called
// next.
func (b *beginnings) onFetched(_ context.Context, client *kgo.Client, res *kmsg.OffsetFetchResponse) error {
	b.client, b.committed = client, map[stream.Partition]committedOffset{}
	for _, g := range res.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if p.Offset >= 0 && p.Metadata != nil {
					b.committed[stream.Partition{Topic: t.Topic, ID: int(p.Partition)}] = committedOffset{p.Offset, *p.Metadata}
				}
			}
		}
	}
	return nil
}

// onOffsets decides where the partitions of a generation begin, given the group's
// committed offsets. The client can skip a batch only in partitions with a known
// offset. A partition without a leader is left to the client, which looks up its
// offset as soon as it can, so that the others do not wait for it.
func (b *beginnings) onOffsets(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	begin, err := b.find(ctx, offsets)
	if err != nil {
		b.endSession(err)
		return nil, err
	}
	for id, at := range begin {
		offsets[id.Topic][int32(id.ID)] = at.offset
	}
	if g := b.latest.Load(); g != nil {
		g.placed.Store(true)
		for id, at := range begin {
			if p := g.partitions[id]; p != nil {
				p.start(at)
			}
		}
	}
	return offsets, nil
}

// find looks up where partitions with these committed offsets begin.
func (b *beginnings) find(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[stream.Partition]beginning, error) {
	logs, err := b.lookUpLogs(ctx, slices.Collect(maps.Keys(offsets)))
	if err != nil {
		return nil, err
	}
	readBefore, err := b.readBefore(ctx, offsets)
	if err != nil {
		return nil, err
	}
	begin := map[stream.Partition]beginning{}
	for topic, of := range offsets {
		for number, offset := range of {
			id := stream.Partition{Topic: topic, ID: int(number)}
			if begin[id], err = b.place(ctx, id, offset, logs, readBefore[topic]); err != nil {
				return nil, err
			}
		}
	}
	return begin, nil
}

// A beginning is where the reading of a partition begins.
type beginning struct {
	offset kgo.Offset
	at     int64 // negative: the client finds it out
	topic  resume.TopicID
	commit bool // at once, and not with the first record
}

// startAt returns a beginning at an offset.
func startAt(at int64, topic resume.TopicID, commit bool) beginning {
	return beginning{kgo.NewOffset().At(at), at, topic, commit}
}

// place decides where a partition begins.
func (b *beginnings) place(ctx context.Context, id stream.Partition, committed kgo.Offset, l *logs, readBefore bool) (beginning, error) {
	log, known := l.of(id)
	position := resume.Position{Offset: committed.EpochOffset().Offset}
	if of, ok := b.committed[id]; ok && of.offset == position.Offset {
		position = resume.Committed(of.offset, of.metadata, b.inputs.cluster())
	}
	if uncommitted(committed) {
		before, ok := b.positions.get(id)
		if !ok {
			return b.first(id, l, readBefore), nil
		}
		position = before
	}
	reset, lost := position.Check(log)
	if uncommitted(committed) {
		reset, lost = position.Expired(log), true
	}
	if !lost {
		return beginning{committed, position.Offset, log.Topic, false}, nil
	}
	if reset.Reason == stream.Recreated {
		if err := b.confirmDeleted(ctx, id, position.Topic); err != nil {
			return beginning{}, err
		}
	}
	switch {
	case reset.Reason == stream.Recreated && !b.exactlyOnce && b.byName.Load(): // some may be of the new topic
		reset.Repeated = b.positions.unchecked(id, reset.To)
	case !known && reset.Reason != stream.Recreated:
		reset.Repeated = 0 // that we know of
	}
	reset.Partition = id
	if err := resume.Report(b.cfg, reset); err != nil {
		return beginning{}, err
	}
	return startAt(reset.To, log.Topic, true), nil
}

// uncommitted reports whether the group has committed nothing.
func uncommitted(o kgo.Offset) bool { return o.EpochOffset().Offset < 0 }

// first is where a partition without a committed offset begins. A partition that
// was added later begins at its first record, so that no record is lost.
func (b *beginnings) first(id stream.Partition, l *logs, readBefore bool) beginning {
	log, known := l.of(id)
	from := b.cfg.Start
	time, timed := l.times.Lookup(id.Topic, int32(id.ID))
	client := kgo.NewOffset().AtStart()
	switch {
	case readBefore || from.IsEarliest():
		if known {
			return startAt(log.First, log.Topic, false)
		}
	case from.Latest:
		if known {
			return startAt(log.Next, log.Topic, true)
		}
		client = kgo.NewOffset().AtEnd()
	default:
		if timed && time.Err == nil {
			return startAt(time.Offset, log.Topic, true)
		}
		client = kgo.NewOffset().AfterMilli(from.Time.UnixMilli())
	}
	return beginning{client, -1, log.Topic, false}
}

// logs are the logs of the partitions of some topics, as their leaders know them.
type logs struct {
	ids                 map[string]resume.TopicID
	starts, ends, times kadm.ListedOffsets // times: of the first records that are as late as Config.Start
}

// of returns the log of one partition. If its leader does not answer, the log
// counts as one that has all offsets.
func (l *logs) of(id stream.Partition) (log resume.Log, known bool) {
	log = resume.Log{Topic: l.ids[id.Topic], Next: math.MaxInt64}
	first, ok := l.starts.Lookup(id.Topic, int32(id.ID))
	next, also := l.ends.Lookup(id.Topic, int32(id.ID))
	if !ok || !also || first.Err != nil || next.Err != nil {
		return log, false
	}
	log.First, log.Next = first.Offset, next.Offset
	return log, true
}

// lookUpLogs looks up the logs of topics. If a leader fails, its logs are missing.
func (b *beginnings) lookUpLogs(ctx context.Context, topics []string) (*logs, error) {
	admin := kadm.NewClient(b.client)
	ids, err := b.inputs.lookUp(ctx, b.client, topics)
	if err == nil && len(ids) < len(topics) {
		err = fmt.Errorf("look up the ids of topics: %w", kerr.UnknownTopicOrPartition)
	}
	if err == nil {
		err = b.inputs.compare(ids)
	}
	if err != nil {
		return nil, err
	}
	l := &logs{ids: ids}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var lists sync.WaitGroup
	list := func(into *kadm.ListedOffsets, f func(context.Context, ...string) (kadm.ListedOffsets, error)) {
		lists.Go(func() {
			var err error
			if *into, err = f(ctx, topics...); err != nil {
				b.cfg.Log.Debug("some offsets are not known; leaving them to the client", "topics", topics, "err", err)
			}
		})
	}
	list(&l.starts, admin.ListStartOffsets)
	list(&l.ends, admin.ListEndOffsets)
	if from := b.cfg.Start; !from.Time.IsZero() {
		list(&l.times, func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return admin.ListOffsetsAfterMilli(ctx, from.Time.UnixMilli(), topics...)
		})
	}
	lists.Wait()
	return l, nil
}

// readBefore returns the topics of which the group has an offset, of any
// partition. In the group's first generation, other members may have committed
// theirs before us: these do not count.
func (b *beginnings) readBefore(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]bool, error) {
	topics := b.positions.topics()
	if _, generation := b.client.GroupMetadata(); generation <= resume.FirstGeneration || b.cfg.Start.IsEarliest() {
		return topics, nil
	}
	all, err := kadm.NewClient(b.client).FetchOffsets(ctx, b.cfg.Group)
	if err != nil {
		return nil, fmt.Errorf("look up the offsets of group %s: %w", b.cfg.Group, err)
	}
	for topic, of := range all {
		for _, o := range of {
			if o.Err == nil && o.At >= 0 {
				topics[topic] = true
			}
		}
	}
	for topic, of := range offsets {
		for _, o := range of {
			if !uncommitted(o) {
				topics[topic] = true
			}
		}
	}
	return topics, nil
}

// confirmDeleted returns an error unless a partition's leader says that a topic's
// id no longer exists: another broker's metadata may be old. It returns nil, too,
// if the leader compares no ids.
func (b *beginnings) confirmDeleted(ctx context.Context, id stream.Partition, topic resume.TopicID) error {
	meta, err := kadm.NewClient(b.client).Metadata(ctx, id.Topic)
	if err != nil {
		return err
	}
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = id.Topic, topic
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition = int32(id.ID)
	t.Partitions = append(t.Partitions, p)
	req := kmsg.NewPtrFetchRequest()
	req.Topics = append(req.Topics, t)
	res, err := b.client.Broker(int(meta.Topics[id.Topic].Partitions[int32(id.ID)].Leader)).RetriableRequest(ctx, req)
	if err != nil {
		return err
	}
	answer := res.(*kmsg.FetchResponse)
	code := answer.ErrorCode
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			code = cmp.Or(code, p.ErrorCode)
		}
	}
	if err := kerr.ErrorForCode(code); answer.Version >= 13 && !errors.Is(err, kerr.UnknownTopicID) && !errors.Is(err, kerr.InconsistentTopicID) {
		return fmt.Errorf("a broker has another id for topic %s than the leader of %v", id.Topic, id)
	}
	return nil
}
