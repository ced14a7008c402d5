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

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// positions are the group's positions as this process knows them. Safe for
// concurrent use.
type positions struct {
	mu   sync.Mutex
	of   map[stream.Partition]stream.Position
	next map[stream.Partition]int64 // offsets behind what was published
	seen map[stream.Partition]int64 // these, when the topics were last seen to be the same
}

func (p *positions) get(id stream.Partition) (stream.Position, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.of[id]
	return at, ok
}

func (p *positions) set(id stream.Partition, at stream.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[stream.Partition]stream.Position{}
	}
	p.of[id] = at
}

// same notes that the topics are still the same.
func (p *positions) same() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = maps.Clone(p.next)
}

// published notes that all before next is published.
func (p *positions) published(id stream.Partition, next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == nil {
		p.next = map[stream.Partition]int64{}
	}
	p.next[id] = next
}

// unseen counts the records from an offset on that were published since.
func (p *positions) unseen(id stream.Partition, from int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, p.next[id]-max(from, p.seen[id]))
}

// topics are the topics with a known position.
func (p *positions) topics() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	topics := map[string]bool{}
	for id := range p.of {
		topics[id.Topic] = true
	}
	return topics
}

// A fetchedOffset is what the group has committed of a partition.
type fetchedOffset struct {
	offset   int64
	metadata string
}

// onFetched keeps what the group has committed, before onOffsets is called.
func (s *session) onFetched(_ context.Context, client *kgo.Client, res *kmsg.OffsetFetchResponse) error {
	s.fetcher, s.fetched = client, map[stream.Partition]fetchedOffset{}
	for _, g := range res.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if p.Offset >= 0 && p.Metadata != nil {
					s.fetched[stream.Partition{Topic: t.Topic, ID: int(p.Partition)}] = fetchedOffset{p.Offset, *p.Metadata}
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
func (s *session) onOffsets(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	topics := slices.Collect(maps.Keys(offsets))
	logs, err := s.logs(ctx, topics)
	if err != nil {
		s.end(err)
		return nil, err
	}
	begun, err := s.readBefore(ctx, offsets)
	if err != nil {
		s.end(err)
		return nil, err
	}
	begin := map[stream.Partition]beginning{}
	for topic, of := range offsets {
		for number, offset := range of {
			id := stream.Partition{Topic: topic, ID: int(number)}
			at, err := s.place(ctx, id, offset, logs, begun[topic])
			if err != nil {
				s.end(err)
				return nil, err
			}
			offsets[topic][number] = at.offset
			begin[id] = at
		}
	}
	if g := s.latest.Load(); g != nil {
		g.known.Store(true)
		for id, at := range begin {
			if p := g.partitions[id]; p != nil {
				p.start(at)
			}
		}
	}
	return offsets, nil
}

// A beginning is where the reading of a partition begins.
type beginning struct {
	offset kgo.Offset
	at     int64 // negative: the client finds it out
	topic  stream.TopicID
	commit bool // at once, and not with the first record
}

// startAt is a beginning at an offset.
func startAt(at int64, topic stream.TopicID, commit bool) beginning {
	return beginning{kgo.NewOffset().At(at), at, topic, commit}
}

// place decides where a partition begins.
func (s *session) place(ctx context.Context, id stream.Partition, committed kgo.Offset, l *logs, begun bool) (beginning, error) {
	log, known := l.of(id)
	position := stream.Position{Offset: committed.EpochOffset().Offset}
	if of, ok := s.fetched[id]; ok && of.offset == position.Offset {
		position = stream.Committed(of.offset, of.metadata, s.cluster())
	}
	if uncommitted(committed) {
		before, ok := s.positions.get(id)
		if !ok {
			return s.first(id, l, begun), nil
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
		if err := s.gone(ctx, id, position.Topic); err != nil {
			return beginning{}, err
		}
	}
	switch {
	case reset.Reason == stream.Recreated && s.bound == nil && s.byName.Load(): // some may be of the new topic
		reset.Repeated = s.positions.unseen(id, reset.To)
	case !known && reset.Reason != stream.Recreated:
		reset.Repeated = 0 // as far as can be told
	}
	reset.Partition = id
	if err := s.cfg.Reset(reset); err != nil {
		return beginning{}, err
	}
	return startAt(reset.To, log.Topic, true), nil
}

// first is where a partition without a committed offset begins. A partition that
// was added later begins at its first record, so that no record is lost.
func (s *session) first(id stream.Partition, l *logs, begun bool) beginning {
	log, known := l.of(id)
	from := s.cfg.Start
	time, timed := l.times.Lookup(id.Topic, int32(id.ID))
	client := kgo.NewOffset().AtStart()
	switch {
	case begun || from.IsEarliest():
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

// logs are the logs of the partitions of some topics, as their leaders tell.
type logs struct {
	ids                 map[string]stream.TopicID
	starts, ends, times kadm.ListedOffsets // times: of the first records that are as late as Config.Start
}

// of is the log of one partition. If its leader does not answer, the log counts as
// one that has all offsets.
func (l *logs) of(id stream.Partition) (log stream.Log, known bool) {
	log = stream.Log{Topic: l.ids[id.Topic], Next: math.MaxInt64}
	first, ok := l.starts.Lookup(id.Topic, int32(id.ID))
	next, also := l.ends.Lookup(id.Topic, int32(id.ID))
	if !ok || !also || first.Err != nil || next.Err != nil {
		return log, false
	}
	log.First, log.Next = first.Offset, next.Offset
	return log, true
}

// logs looks up the logs of topics. If one leader fails, the others' are returned.
func (s *session) logs(ctx context.Context, topics []string) (*logs, error) {
	admin := kadm.NewClient(s.fetcher)
	ids, err := s.topicIDs(ctx, s.fetcher, topics)
	if err == nil && len(ids) < len(topics) {
		err = fmt.Errorf("look up the ids of topics: %w", kerr.UnknownTopicOrPartition)
	}
	if err == nil {
		err = s.sameTopics(ids)
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
				s.cfg.Log.Debug("some offsets are not known, leaving them to the client", "topics", topics, "err", err)
			}
		})
	}
	list(&l.starts, admin.ListStartOffsets)
	list(&l.ends, admin.ListEndOffsets)
	if from := s.cfg.Start; !from.Time.IsZero() {
		list(&l.times, func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return admin.ListOffsetsAfterMilli(ctx, from.Time.UnixMilli(), topics...)
		})
	}
	lists.Wait()
	return l, nil
}

// errRecreated ends a session whose client keeps to the id of a deleted topic.
var errRecreated = errors.New("it was deleted and recreated")

// lookUpTopics returns an error when the input topics are not those of the
// session, or cannot be looked up.
func (s *session) lookUpTopics(ctx context.Context) error {
	ids, err := s.topicIDs(ctx, s.client, s.cfg.Inputs)
	if err == nil {
		err = s.sameTopics(ids)
	}
	if err == nil {
		s.positions.same()
	}
	return err
}

// topicIDs asks a broker for the ids of topics, which kadm may know from before, and
// notes that of the cluster. A topic that does not exist has none.
func (s *session) topicIDs(ctx context.Context, client *kgo.Client, topics []string) (map[string]stream.TopicID, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range topics {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = &name
		req.Topics = append(req.Topics, topic)
	}
	res, err := req.RequestWith(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("look up the ids of topics: %w", err)
	}
	if res.ClusterID != nil {
		s.idsMu.Lock()
		s.clusterID = *res.ClusterID
		s.idsMu.Unlock()
	}
	ids := map[string]stream.TopicID{}
	for _, t := range res.Topics {
		err := kerr.ErrorForCode(t.ErrorCode)
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look up the id of a topic: %w", err)
		}
		if t.Topic != nil {
			ids[*t.Topic] = t.TopicID
		}
	}
	return ids, nil
}

// cluster is the id of the Kafka cluster; empty: not known.
func (s *session) cluster() string {
	s.idsMu.Lock()
	defer s.idsMu.Unlock()
	return s.clusterID
}

// sameTopics returns an error when a topic is another one than at the session's
// first look: the client keeps to the old one.
func (s *session) sameTopics(ids map[string]stream.TopicID) error {
	s.idsMu.Lock()
	defer s.idsMu.Unlock()
	for topic, id := range ids {
		if before, known := s.ids[topic]; known && id != before {
			return fmt.Errorf("topic %s: %w", topic, errRecreated)
		}
		s.ids[topic] = id
	}
	return nil
}

// readBefore tells of which topics the group has an offset, of any partition. Those of
// the group's first generation are from members that were quicker to begin than we.
func (s *session) readBefore(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]bool, error) {
	topics := s.positions.topics()
	if _, generation := s.fetcher.GroupMetadata(); generation <= stream.FirstGeneration || s.cfg.Start.IsEarliest() {
		return topics, nil
	}
	all, err := kadm.NewClient(s.fetcher).FetchOffsets(ctx, s.cfg.Group)
	if err != nil {
		return nil, fmt.Errorf("look up the offsets of group %s: %w", s.cfg.Group, err)
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

// gone returns nil if a partition's leader says that a topic's id no longer exists:
// another broker's metadata may be old. It returns nil, too, if the leader compares
// no ids.
func (s *session) gone(ctx context.Context, id stream.Partition, topic stream.TopicID) error {
	meta, err := kadm.NewClient(s.fetcher).Metadata(ctx, id.Topic)
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
	res, err := s.fetcher.Broker(int(meta.Topics[id.Topic].Partitions[int32(id.ID)].Leader)).RetriableRequest(ctx, req)
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

// overtaken tells of records that retention has removed before they were polled.
func (p *partition) overtaken(fetched kgo.FetchPartition) (stream.Reset, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to := fetched.LogStartOffset
	if len(fetched.Records) > 0 {
		to = min(to, fetched.Records[0].Offset)
	}
	from := p.next
	if fetched.Err != nil || !p.placed || to <= from {
		return stream.Reset{}, false
	}
	p.next = to
	return stream.Reset{Partition: p.id, Reason: stream.OutOfRange, From: from, To: to, Skipped: to - from}, true
}
