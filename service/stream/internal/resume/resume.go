// Package resume finds the offset at which reading of a partition goes on, also when the committed
// one no longer means what it meant: its topic was recreated, or retention removed the record.
package resume

import (
	"encoding/base64"
	"strings"

	"inceptor/service/stream"
)

// A TopicID tells a topic from an earlier one of the same name. Zero: not known, as with brokers
// before Kafka 2.8.
type TopicID [16]byte

// String returns the id as Kafka's own tools print it.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// The keys in the metadata of a committed offset.
const (
	topicKey   = "topic-id="
	clusterKey = "cluster-id="
)

// A Position is the offset at which reading of a partition goes on, with the topic that it
// belongs to.
type Position struct {
	Offset int64   // of the next record; negative: there is none
	Topic  TopicID // that the offset belongs to
}

// Metadata returns what a driver stores with the committed offset. It names the topic that the
// offset belongs to, and the Kafka cluster with this id. An empty id means that the brokers do
// not tell it.
func (p Position) Metadata(cluster string) string {
	switch {
	case p.Topic == (TopicID{}):
		return ""
	case cluster == "":
		return topicKey + p.Topic.String()
	}
	return topicKey + p.Topic.String() + " " + clusterKey + cluster
}

// Committed returns the position of a committed offset, in the Kafka cluster with this id. It has
// no topic if another client has committed it, or if it was copied from another cluster, as
// MirrorMaker does: the topic's id means nothing here then.
func Committed(offset int64, metadata, cluster string) Position {
	topic, of, _ := strings.Cut(metadata, " ")
	topic, named := strings.CutPrefix(topic, topicKey)
	of, known := strings.CutPrefix(of, clusterKey)
	p := Position{Offset: offset}
	id, err := base64.RawURLEncoding.DecodeString(topic)
	if !named || err != nil || len(id) != len(p.Topic) || known && cluster != "" && of != cluster {
		return p
	}
	p.Topic = TopicID(id)
	return p
}

// A Log is the range of offsets that a partition's leader has, and the topic that they belong to.
type Log struct {
	Topic       TopicID
	First, Next int64 // offsets of the first record and of the one to come
}

// Check tells whether the position is lost in a log, and where reading goes on there. It skips no
// record that the log still has.
func (p Position) Check(log Log) (stream.Reset, bool) {
	r := stream.Reset{From: p.Offset, To: log.First}
	switch {
	case p.Offset < 0:
		return stream.Reset{}, false
	case p.Topic != log.Topic && p.Topic != (TopicID{}) && log.Topic != (TopicID{}):
		r.Reason, r.Skipped = stream.Recreated, log.First
	case p.Offset < log.First:
		r.Reason, r.Skipped = stream.OutOfRange, log.First-p.Offset
	case p.Offset > log.Next:
		r.Reason, r.Repeated = stream.BeyondEnd, max(0, log.Next-log.First) // the two are not looked up at once
	default:
		return stream.Reset{}, false
	}
	return r, true
}

// Expired returns the reset of a position whose committed offset is gone, while this process
// still knows it. If brokers tell no topic ids, the topic may be another one, and all of it is
// read again.
func (p Position) Expired(log Log) stream.Reset {
	if r, lost := p.Check(log); lost {
		return r
	}
	r := stream.Reset{Reason: stream.Expired, From: p.Offset, To: p.Offset}
	if log.Topic == (TopicID{}) || log.Topic != p.Topic {
		r.To, r.Repeated = log.First, p.Offset-log.First
	}
	return r
}

// consequences are the log lines for resets, by reason.
var consequences = map[string]string{
	stream.Recreated:  "topic deleted and recreated; reading it from its first record",
	stream.OutOfRange: "data loss: retention removed records before they were read; skipping them",
	stream.BeyondEnd:  "data loss: log truncated; reading it again from its first record",
	stream.Expired:    "committed offset gone; going on from the one that this process remembers",
}

// Report logs a reset and tells the observer. With StopOnReset it returns a *stream.ResetError
// instead.
func Report(c stream.Config, r stream.Reset) error {
	if c.StopOnReset {
		return &stream.ResetError{Reset: r}
	}
	c.Log.Warn(consequences[r.Reason], "topic", r.Partition.Topic, "partition", r.Partition.ID, "reason", r.Reason,
		"from", r.From, "to", r.To, "skipped", r.Skipped, "repeated", r.Repeated)
	c.Observer.Reset(r)
	return nil
}

// FirstGeneration is the number of a group's first generation. All of its members begin as
// Config.Start says, though some may have committed an offset before others look for it.
const FirstGeneration = 1
