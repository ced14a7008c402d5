package stream

import "errors"

// ErrMissingTopics is wrapped by the error that names topics which do not exist and were not to be
// created.
var ErrMissingTopics = errors.New("topics do not exist")

// A Topic is what a check found out about one topic.
type Topic struct {
	Name       string
	Partitions int
	Created    bool // by this check

	// Replicas is the number of brokers that hold the partition with the fewest.
	Replicas int

	// MinInSync is how many of them must have a record before it is acknowledged. Zero: the broker
	// does not tell.
	MinInSync int

	// Compacted tells whether the topic keeps only the last record of each key, and takes none
	// without a key. It is false, too, if the broker does not tell.
	Compacted bool

	// MaxMessageBytes is the size of the largest batch of records that the topic takes, after
	// compression. Zero: the broker does not tell.
	MaxMessageBytes int
}
