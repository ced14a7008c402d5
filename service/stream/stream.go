package stream

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"
)

// A Header is one key and value beside a record; a key may occur repeatedly,
// and the order is kept.
type Header struct {
	Key   string
	Value []byte
}

// A Record is one Kafka record. Of an output record a driver reads Topic, Key,
// Value, Headers and Time; its partition follows from that of its source.
type Record struct {
	Topic     string
	Partition int
	Offset    int64
	Key       []byte // nil: no key, which is not the same as an empty one
	Value     []byte // nil: a tombstone
	Headers   []Header
	Time      time.Time
}

// A Partition is one partition of an input topic.
type Partition struct {
	Topic string
	ID    int
}

// String is the topic's name and the partition's number: "images-3".
func (p Partition) String() string { return p.Topic + "-" + strconv.Itoa(p.ID) }

// MarshalText is String, for JSON.
func (p Partition) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is the opposite of MarshalText.
func (p *Partition) UnmarshalText(text []byte) error {
	at := bytes.LastIndexByte(text, '-')
	n, err := strconv.Atoi(string(text[at+1:]))
	if at < 0 || err != nil {
		return fmt.Errorf("%q is no partition: want TOPIC-NUMBER", text)
	}
	p.Topic, p.ID = string(text[:at]), n
	return nil
}

// ComparePartitions orders partitions by topic, then by number.
func ComparePartitions(a, b Partition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.ID, b.ID))
}

// Source is the partition that an input record comes from.
func (r Record) Source() Partition { return Partition{r.Topic, r.Partition} }

// A Handler turns one input record into the records it causes, in the order
// in which they are to be published; none is an answer too. Its error means
// "try again later": the driver backs off, calls it again and does not commit.
// It is called from many goroutines at once, and must return soon after ctx
// ends.
type Handler func(ctx context.Context, r Record) ([]Record, error)

// Config is what every driver needs to know.
type Config struct {
	Brokers []string // host:port; any one that answers is enough
	Group   string   // consumer group
	Inputs  []string // topics that are read
	Outputs []string // topics that the handler's outputs go to

	// Session is how long the group waits for a member that sends no heartbeats.
	// Zero: 6 s.
	Session time.Duration

	// What only franz can do. Instance is the group.instance.id: a process that comes back
	// with the same one within Session finds its partitions as they were; it does
	// not leave the group when it stops. Rack is the client.rack: replicas there
	// are read from, where the brokers allow it.
	Instance string
	Rack     string

	TLS         *tls.Config           // nil: plain text
	Roots       func() *x509.CertPool // asked at each handshake; nil: those of TLS
	SASL        SASL
	Compression string // of the output: none, gzip, snappy, lz4 or zstd

	// Window bounds, for each partition, the records that were fetched and
	// are not yet published. One record is always let in, however large.
	Window Window

	// TotalBytes bounds the memory of what was fetched and is still needed, over
	// all partitions: fetching waits for it. See Budget. Zero: no bound.
	TotalBytes int64

	// BatchBytes bounds the memory that one batch of records takes when it is
	// decompressed; twice its compressed size may always be taken. It bounds
	// several batches together too: kafkago counts those of one partition's
	// fetch, franz those of all partitions from one poll to the next. Batches
	// that are not compressed are under no bound. Zero: 32 MiB.
	BatchBytes int64

	// Unread is called for a batch that takes more, or cannot be decompressed.
	// Its records are passed, unread, and what it returns is published in their
	// place.
	Unread func(Batch) []Record

	// Start is where a group begins that has no offsets. A partition that a
	// topic gets later begins at its first record.
	Start Start

	// StopOnReset ends the driver with a *ResetError if a position is lost. Without
	// it the driver goes on elsewhere.
	StopOnReset bool

	// DrainTimeout bounds how long the records in flight may take when the
	// group is rebalanced or the driver stops; what is not published by then
	// is not committed and comes again.
	DrainTimeout time.Duration

	// Refused is called when the broker refuses an output record for good,
	// because it is larger than its topic takes, or against a rule of the
	// topic. It returns the record to publish in its place; if that is
	// refused too, it is called with that, a few times at most. The reason
	// wraps ErrInvalidTime or ErrKeyless where it is that. An error means that the topic
	// takes nothing for this record: only a change of the topic can help. The
	// partition waits, and the driver tries again, with pauses, beginning with
	// the first record for that topic.
	Refused func(source, output Record, reason error) (Record, error)

	// GivenUp, if not nil, is called each time a handler has failed on a
	// record, with how long ago it did so first. It returns the records to
	// publish in place of an answer, and true; or false: it is tried again.
	GivenUp func(r Record, since time.Duration, err error) ([]Record, bool)

	Log      *slog.Logger
	Observer Observer
}

// A Batch is a run of records that were compressed together, and are not read.
type Batch struct {
	Topic       string
	Partition   int
	First, Last int64 // offsets; compaction may have removed some between them
}

// ErrInvalidTime is why an output is refused whose time lies further from the
// broker's than its topic allows.
var ErrInvalidTime = errors.New("the record's time is out of the topic's bounds")

// ErrKeyless is wrapped by the error for an output without a key that a compacted
// topic refuses.
var ErrKeyless = errors.New("the topic is compacted (cleanup.policy), and takes no record without a key")

// ErrOpenTransaction is wrapped by the error for a partition that cannot be read
// beyond its last stable offset, because a producer's transaction is open there.
var ErrOpenTransaction = errors.New("a transaction is open")

// Window is a bound on records in flight.
type Window struct {
	Records int
	Bytes   int64 // of keys, values and headers
}

// An Observer is told what a driver does. Its methods are called from many
// goroutines, and on the way of the records: they must not block.
type Observer interface {
	// Assigned is called with the partitions of a new generation: none, if
	// the group has more members than partitions.
	Assigned(partitions []Partition)
	// Revoked is called when that generation ends.
	Revoked()
	// InFlight adds to the records and bytes in the windows.
	InFlight(records int, bytes int64)
	// Buffered is called when the bytes that count against Config.TotalBytes
	// have changed, or how many partitions wait for some to be given back.
	Buffered(bytes int64, waiting int)
	// Published is called after the broker has acknowledged n records of one
	// partition, with the time since they were handed to the client.
	Published(n int, took time.Duration)
	// Committed is called after a commit, and again when the lag has changed
	// without one, so once soon after the partition was assigned: next is the offset that a restart begins with, lag how
	// many records of the partition lie after it.
	Committed(partition Partition, next, lag int64)
	// Retrying is called each time a record could not be read, handled or
	// published, and once with a nil error when it could: of each stage by
	// itself. Of reading only what is wrong with a partition is told, and not
	// that a broker is gone.
	Retrying(partition Partition, stage Stage, err error)
	// Reset is called when reading goes on elsewhere, because the position is lost.
	Reset(r Reset)
	// Authentication is called after each handshake: with an AuthenticationError, or with nil if the
	// broker has taken the credentials.
	Authentication(err error)
}

// A Stage is what is done with a record.
type Stage int

// The stages, in their order.
const (
	Reading Stage = iota
	Handling
	Publishing // and the commit
)
