package kafkago

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

// maxResponse bounds a response. A batch is never larger than the request that
// a broker has taken it in, at most 100 MiB by default.
const maxResponse = 512 << 20

// A fetchRequest is kafka-go's, whose response is taken as it is: kafka-go
// decompresses all that is in one before it gives anything away, and without
// a bound.
type fetchRequest struct {
	fetch.Request
	version int16
}

// A fetchResponse is the answer for the one partition that was asked for.
type fetchResponse struct {
	kmsg.FetchResponseTopicPartition
}

// ApiKey implements protocol.Message.
func (*fetchResponse) ApiKey() protocol.ApiKey { return protocol.Fetch } //nolint:revive // kafka-go's name

// Required implements protocol.RawExchanger.
func (r *fetchRequest) Required(versions map[protocol.ApiKey]int16) bool {
	r.version = versions[protocol.Fetch]
	return true
}

// RawExchange implements protocol.RawExchanger.
func (r *fetchRequest) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	t := r.Topics[0]
	req := kmsg.NewPtrFetchRequest()
	req.SetVersion(r.version)
	req.MinBytes, req.MaxBytes, req.MaxWaitMillis = r.MinBytes, r.MaxBytes, r.MaxWaitTime
	topic := kmsg.NewFetchRequestTopic()
	topic.Topic = t.Topic
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.Partition, partition.FetchOffset, partition.PartitionMaxBytes = t.Partitions[0].Partition, t.Partitions[0].FetchOffset, t.Partitions[0].PartitionMaxBytes
	topic.Partitions = append(topic.Partitions, partition)
	req.Topics = append(req.Topics, topic)
	const correlation = 1 // one request at a time is on a connection
	if _, err := rw.Write(kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)).AppendRequest(nil, req, correlation)); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint32(head[:])) - 4
	if got := binary.BigEndian.Uint32(head[4:]); got != correlation || size < 0 || size > maxResponse {
		return nil, fmt.Errorf("fetch: a response of %d bytes to request %d", size, got)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(rw, body); err != nil {
		return nil, err
	}
	res := req.ResponseKind().(*kmsg.FetchResponse)
	if err := res.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	if len(res.Topics) != 1 || len(res.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("fetch: a response for %d topics, want one partition of one", len(res.Topics))
	}
	p := res.Topics[0].Partitions[0]
	if p.ErrorCode == 0 {
		p.ErrorCode = res.ErrorCode
	}
	return &fetchResponse{p}, nil
}

// fetch asks for records of a partition from an offset on.
func (c *cluster) fetch(ctx context.Context, partition stream.Partition, offset int64) (*kmsg.FetchResponseTopicPartition, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req := &fetchRequest{Request: fetch.Request{
		MaxWaitTime: int32(fetchWait.Milliseconds()), MinBytes: 1, MaxBytes: fetchBytes,
		Topics: []fetch.RequestTopic{{Topic: partition.Topic, Partitions: []fetch.RequestPartition{{
			Partition: int32(partition.ID), FetchOffset: offset, PartitionMaxBytes: fetchBytes,
		}}}},
	}}
	res, err := c.transport.RoundTrip(ctx, c.client.Addr, req)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	return &res.(*fetchResponse).FetchResponseTopicPartition, nil
}
