package kafkago

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/segmentio/kafka-go/protocol/offsetcommit"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/resume"
)

// The first versions of requests that name a topic by its id, and the last ones that use its name.
const (
	fetchByID    = 13 // Kafka 3.1
	fetchByName  = 11
	commitByID   = 10 // Kafka 4.1
	commitByName = 7
	metadataByID = 10 // Kafka 2.8
)

// A fetchRequest is kafka-go's, but its response is not decoded by kafka-go, which decompresses
// all of it at once, without a bound.
type fetchRequest struct {
	fetch.Request
	exchanger *exchanger
	topic     resume.TopicID
	reserved  *reservation
}

// A fetchResponse is the answer for the one partition of the request.
type fetchResponse struct {
	kmsg.FetchResponseTopicPartition
	byID bool // the broker has compared the topic's id
}

// ApiKey implements protocol.Message.
func (*fetchResponse) ApiKey() protocol.ApiKey { return protocol.Fetch } //nolint:revive // kafka-go's name

// Required implements protocol.RawExchanger.
func (*fetchRequest) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange implements protocol.RawExchanger.
func (r *fetchRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	version, err := r.exchanger.version(rw, int16(kmsg.Fetch), fetchByID)
	if err != nil {
		return nil, err
	}
	byID := version == fetchByID && r.topic != resume.TopicID{}
	if !byID {
		version = min(version, fetchByName)
	}
	t := r.Topics[0]
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(version)
	req.MinBytes, req.MaxBytes, req.MaxWaitMillis = r.MinBytes, r.MaxBytes, r.MaxWaitTime
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic, topic.TopicID = t.Topic, r.topic
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes = t.Partitions[0].Partition, t.Partitions[0].FetchOffset, t.Partitions[0].PartitionMaxBytes
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	answer, err := r.exchanger.send(rw, req, r.reserved)
	if err != nil {
		return nil, err
	}
	res := answer.(*kmsg.FetchResponse)
	if res.ErrorCode != 0 {
		return &fetchResponse{FetchResponseTopicPartition: kmsg.FetchResponseTopicPartition{ErrorCode: res.ErrorCode}, byID: byID}, nil
	}
	if len(res.Topics) == 0 { // a throttled broker sends no records
		return &fetchResponse{FetchResponseTopicPartition: kmsg.FetchResponseTopicPartition{HighWatermark: -1}, byID: byID}, nil
	}
	if len(res.Topics) != 1 || len(res.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("fetch: a response for %d topics, want one partition of one", len(res.Topics))
	}
	return &fetchResponse{res.Topics[0].Partitions[0], byID}, nil
}

// fetch asks for the records of a partition from a position on. The broker waits for records as
// long as wait. The response is charged to reserved.
func (c *cluster) fetch(ctx context.Context, partition stream.Partition, from resume.Position, wait time.Duration, reserved *reservation) (*fetchResponse, error) {
	ctx, cancel := c.requestContext(ctx)
	defer cancel()
	ctx, end := whileLeader(ctx, c.client, partition.Topic, partition.ID)
	defer end()
	reserved.ctx = ctx
	req := &fetchRequest{exchanger: &c.exchanger, reserved: reserved, topic: from.Topic, Request: fetch.Request{
		MaxWaitTime: int32(wait.Milliseconds()), MinBytes: 1, MaxBytes: reserved.maxBytes,
		Topics: []fetch.RequestTopic{{Topic: partition.Topic, Partitions: []fetch.RequestPartition{{
			Partition: int32(partition.ID), FetchOffset: from.Offset, PartitionMaxBytes: reserved.maxBytes,
		}}}},
	}}
	res, err := c.transport.RoundTrip(ctx, c.client.Addr, req)
	if err = leaderMoved(ctx, err); err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	return res.(*fetchResponse), nil
}

// A metadataRequest asks for the ids of topics, which kafka-go does not know.
type metadataRequest struct {
	exchanger *exchanger
	topics    []string
}

// A metadataResponse is the answer to it.
type metadataResponse struct{ *kmsg.MetadataResponse }

// ApiKey implements protocol.Message.
func (*metadataRequest) ApiKey() protocol.ApiKey { return protocol.Metadata } //nolint:revive // kafka-go's name

// ApiKey implements protocol.Message.
func (metadataResponse) ApiKey() protocol.ApiKey { return protocol.Metadata } //nolint:revive // kafka-go's name

// Required implements protocol.RawExchanger.
func (*metadataRequest) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange implements protocol.RawExchanger.
func (r *metadataRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	version, err := r.exchanger.version(rw, int16(kmsg.Metadata), metadataByID)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrMetadataRequest()
	req.SetVersion(version)
	for _, name := range r.topics {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = &name
		req.Topics = append(req.Topics, topic)
	}
	res, err := r.exchanger.send(rw, req, nil)
	if err != nil {
		return nil, err
	}
	return metadataResponse{res.(*kmsg.MetadataResponse)}, nil
}

// topicID looks up a topic's id; it is zero if the brokers have no ids. One broker's answer may
// be older than what another has answered before.
func (c *cluster) topicID(ctx context.Context, topic string) (resume.TopicID, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	res, err := c.transport.RoundTrip(ctx, c.client.Addr, &metadataRequest{&c.exchanger, []string{topic}})
	if err != nil {
		return resume.TopicID{}, fmt.Errorf("look up the id of topic %s: %w", topic, err)
	}
	for _, t := range res.(metadataResponse).Topics {
		if t.Topic != nil && *t.Topic == topic {
			if t.ErrorCode != 0 {
				return resume.TopicID{}, kafka.Error(t.ErrorCode)
			}
			return t.TopicID, nil
		}
	}
	return resume.TopicID{}, kafka.UnknownTopicOrPartition
}

// A commitRequest is kafka-go's with the topics' ids, if the broker knows them: it then refuses the
// offsets of a topic that is gone.
type commitRequest struct {
	offsetcommit.Request
	exchanger *exchanger
	cluster   string // its id
	positions map[stream.Partition]resume.Position
}

// A commitResponse has an error for each partition whose offset was refused.
type commitResponse struct {
	refused map[stream.Partition]error
}

// ApiKey implements protocol.Message.
func (*commitResponse) ApiKey() protocol.ApiKey { return protocol.OffsetCommit } //nolint:revive // kafka-go's name

// Required implements protocol.RawExchanger.
func (*commitRequest) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange implements protocol.RawExchanger.
func (r *commitRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	version, err := r.exchanger.version(rw, int16(kmsg.OffsetCommit), commitByID)
	if err != nil {
		return nil, err
	}
	type topic struct {
		name string
		id   resume.TopicID
	}
	topics := map[topic][]kmsg.OffsetCommitRequestTopicPartition{}
	for id, position := range r.positions {
		if position.Topic == (resume.TopicID{}) {
			version = min(version, commitByName)
		}
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		metadata := position.Metadata(r.cluster)
		p.Partition, p.Offset, p.Metadata = int32(id.ID), position.Offset, &metadata
		of := topic{id.Topic, position.Topic}
		topics[of] = append(topics[of], p)
	}
	if version < commitByID {
		version = min(version, commitByName)
	}
	req := kmsg.NewPtrOffsetCommitRequest()
	req.SetVersion(version)
	req.Group, req.Generation, req.MemberID = r.GroupID, r.GenerationID, r.MemberID
	for of, partitions := range topics {
		t := kmsg.NewOffsetCommitRequestTopic()
		t.Topic, t.TopicID, t.Partitions = of.name, of.id, partitions
		req.Topics = append(req.Topics, t)
	}
	answer, err := r.exchanger.send(rw, req, nil)
	if err != nil {
		return nil, err
	}
	res := &commitResponse{refused: map[stream.Partition]error{}}
	for id := range r.positions {
		res.refused[id] = errors.New("the broker's answer lacks the partition")
	}
	for _, t := range answer.(*kmsg.OffsetCommitResponse).Topics {
		for _, p := range t.Partitions {
			id := stream.Partition{Topic: t.Topic, ID: int(p.Partition)}
			for of := range topics {
				if version >= commitByID && of.id == resume.TopicID(t.TopicID) {
					id.Topic = of.name
				}
			}
			delete(res.refused, id)
			if p.ErrorCode != 0 {
				res.refused[id] = kafka.Error(p.ErrorCode)
			}
		}
	}
	return res, nil
}

// commit commits positions of a group, and returns an error for each partition
// whose position was refused.
func (c *cluster) commit(ctx context.Context, gen *kafka.Generation, positions map[stream.Partition]resume.Position) (map[stream.Partition]error, error) {
	res, err := c.transport.RoundTrip(ctx, c.client.Addr, &commitRequest{
		Request:   offsetcommit.Request{GroupID: gen.GroupID, GenerationID: gen.ID, MemberID: gen.MemberID},
		exchanger: &c.exchanger, cluster: c.id, positions: positions,
	})
	if err != nil {
		return nil, err
	}
	return res.(*commitResponse).refused, nil
}
