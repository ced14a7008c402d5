package stream

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// A TopicID tells a topic from an earlier one of the same name. Zero: not
// known, as with brokers before Kafka 2.8.
type TopicID [16]byte

// String is the id as Kafka's own tools print it.
func (id TopicID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// The keys in the metadata of a committed offset.
const (
	topicKey   = "topic-id="
	clusterKey = "cluster-id="
)

// A Position is the offset at which reading of a partition goes on, and the topic
// that it belongs to.
type Position struct {
	Offset int64   // of the next record; negative: there is none
	Topic  TopicID // that the offset belongs to
}

// Metadata is what a driver stores with the committed offset, so that whoever
// reads it later can tell which topic, of which Kafka cluster, the offset belongs
// to. cluster is the cluster's id; empty: the brokers do not tell it.
func (p Position) Metadata(cluster string) string {
	switch {
	case p.Topic == (TopicID{}):
		return ""
	case cluster == "":
		return topicKey + p.Topic.String()
	}
	return topicKey + p.Topic.String() + " " + clusterKey + cluster
}

// Committed is the position of a committed offset, in the Kafka cluster with an
// id. Where another client has committed it, the metadata names no topic. Where
// it was copied from another cluster, as MirrorMaker does, the topic's id means
// nothing here.
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

// A Log is the range of offsets that a partition's leader has, and its topic.
type Log struct {
	Topic       TopicID
	First, Next int64 // offsets of the first record and of the one to come
}

// The reasons of a Reset.
const (
	Recreated  = "recreated"    // the topic was deleted and created again
	OutOfRange = "out-of-range" // retention removed records before they were read
	BeyondEnd  = "beyond-end"   // the log ends before the position
	Expired    = "expired"      // the group's offset is gone
)

// A Reset is a change of a position that is lost: its offset no longer names the
// record that was due.
type Reset struct {
	Partition Partition
	Reason    string
	From, To  int64 // offsets of the record that was due, and of the one that is read next
	Skipped   int64 // records that the broker removed before they were read
	Repeated  int64 // records that may be handled once more, at most
}

// Check returns where reading goes on in a log, and whether the position is lost
// there. No record that the log still has is skipped.
func (p Position) Check(log Log) (Reset, bool) {
	r := Reset{From: p.Offset, To: log.First}
	switch {
	case p.Offset < 0:
		return Reset{}, false
	case p.Topic != log.Topic && p.Topic != (TopicID{}) && log.Topic != (TopicID{}):
		r.Reason, r.Skipped = Recreated, log.First
	case p.Offset < log.First:
		r.Reason, r.Skipped = OutOfRange, log.First-p.Offset
	case p.Offset > log.Next:
		r.Reason, r.Repeated = BeyondEnd, max(0, log.Next-log.First) // the two are not looked up at once
	default:
		return Reset{}, false
	}
	return r, true
}

// Expired is the reset of a position whose committed offset is gone, while this
// process still knows it. If the topic may be another one, for brokers tell no
// id, all of it is read again.
func (p Position) Expired(log Log) Reset {
	if r, lost := p.Check(log); lost {
		return r
	}
	r := Reset{Reason: Expired, From: p.Offset, To: p.Offset}
	if log.Topic == (TopicID{}) || log.Topic != p.Topic {
		r.To, r.Repeated = log.First, p.Offset-log.First
	}
	return r
}

// consequences are the log lines of resets, by reason.
var consequences = map[string]string{
	Recreated:  "the topic was deleted and recreated, reading it from its first record",
	OutOfRange: "retention removed records before they were read, skipping them",
	BeyondEnd:  "the log ends before the position, reading it again from its first record",
	Expired:    "the group's offset is gone, going on from what this process knows",
}

// A ResetError ends a driver with Config.StopOnReset.
type ResetError struct{ Reset }

// Error implements error.
func (e *ResetError) Error() string {
	return fmt.Sprintf("position of %v is lost (%s): offset %d was due, the first record that can be read is %d, %d records would be skipped and up to %d repeated. "+
		"To go on there, set kafka.on-reset=continue, or set the group's offset with kafka-consumer-groups --reset-offsets and start again",
		e.Partition, e.Reason, e.From, e.To, e.Skipped, e.Repeated)
}

// Reset tells the log and the observer of a reset. With StopOnReset it returns a
// *ResetError instead.
func (c Config) Reset(r Reset) error {
	if c.StopOnReset {
		return &ResetError{r}
	}
	c.Log.Warn(consequences[r.Reason], "topic", r.Partition.Topic, "partition", r.Partition.ID, "reason", r.Reason,
		"from", r.From, "to", r.To, "skipped", r.Skipped, "repeated", r.Repeated)
	c.Observer.Reset(r)
	return nil
}

// A Start is where a group without offsets begins. The zero value is the earliest
// record.
type Start struct {
	Latest bool
	Time   time.Time // the first record that is as late or later; zero: see Latest
}

// UnmarshalText takes earliest, latest, or a time such as 2026-11-29T08:00:00Z.
func (s *Start) UnmarshalText(text []byte) error {
	switch value := string(text); value {
	case "earliest", "":
		*s = Start{}
	case "latest":
		*s = Start{Latest: true}
	default:
		t, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return fmt.Errorf("%q: want earliest, latest, or a time such as 2026-11-29T08:00:00Z", value)
		}
		*s = Start{Time: t}
	}
	return nil
}

// MarshalText is the opposite of UnmarshalText.
func (s Start) MarshalText() ([]byte, error) {
	switch {
	case !s.Time.IsZero():
		return s.Time.AppendFormat(nil, time.RFC3339), nil
	case s.Latest:
		return []byte("latest"), nil
	}
	return []byte("earliest"), nil
}

// FirstGeneration is a group's first. All of its members begin as Config.Start says,
// though some have committed where by the time that others look.
const FirstGeneration = 1

// IsEarliest tells whether the group begins at the first record.
func (s Start) IsEarliest() bool { return s == Start{} }
