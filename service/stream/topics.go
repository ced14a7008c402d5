package stream

import (
	"errors"
	"time"
)

// MaxRefusedPause is the longest pause between two tries to publish to a topic
// that takes nothing for a record.
const MaxRefusedPause = 10 * time.Second

// ErrMissingTopics is wrapped, with their names, when topics do not exist and
// were not to be created.
var ErrMissingTopics = errors.New("topics do not exist")

// A Topic is what a driver's check found out about one topic.
type Topic struct {
	Name       string
	Partitions int
	Created    bool // just now, by the check

	// Replicas is how many brokers hold a partition, where they are fewest.
	Replicas int

	// MinInSync is how many of them must have a record before it is
	// acknowledged. Zero: the broker does not tell.
	MinInSync int

	// Compacted tells that the topic keeps only the last record of each key,
	// and takes none without a key. False, too, if the broker does not tell.
	Compacted bool

	// MaxMessageBytes is the largest batch of records that the topic takes,
	// after compression. Zero: the broker does not tell.
	MaxMessageBytes int
}
