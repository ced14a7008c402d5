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

// A Header is one key and value of a record. A key may occur repeatedly; the order is kept.
type Header struct {
	Key   string
	Value []byte
}

// A Record is one Kafka record. Of an output, a driver uses Topic, Key, Value, Headers and Time;
// its partition follows from that of its source.
type Record struct {
	Topic     string
	Partition int
	Offset    int64
	Key       []byte // nil: no key, which is not the same as an empty one
	Value     []byte // nil: a tombstone
	Headers   []Header
	Time      time.Time
}

// HeaderBytes is what a header counts for besides its key and value: there may be very many empty
// ones.
const HeaderBytes = 40

// Size is what a record counts for in a window: the bytes of its key, value and headers.
func (r Record) Size() int64 {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += HeaderBytes + len(h.Key) + len(h.Value)
	}
	return int64(n)
}

// A Partition is one partition of an input topic.
type Partition struct {
	Topic string
	ID    int
}

// String returns the topic's name and the partition's number, such as "images-3".
func (p Partition) String() string { return p.Topic + "-" + strconv.Itoa(p.ID) }

// MarshalText returns String, for JSON.
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

// ID returns topic-partition-offset, which names an input record for ever.
func (r Record) ID() string { return string(r.AppendID(make([]byte, 0, 64))) }

// AppendID appends ID to b.
func (r Record) AppendID(b []byte) []byte {
	b = strconv.AppendInt(append(append(b, r.Topic...), '-'), int64(r.Partition), 10)
	return strconv.AppendInt(append(b, '-'), r.Offset, 10)
}

// Source returns the partition that an input record comes from.
func (r Record) Source() Partition { return Partition{r.Topic, r.Partition} }

// A Handler turns one input record into the records to publish for it, in their order; there may be
// none. Its error means "try again later": the driver backs off, calls it again, and does not
// commit. It is called from many goroutines at once, and must return soon after ctx ends, which it
// does before Observer.Revoked is called.
type Handler func(ctx context.Context, r Record) ([]Record, error)

// Config is the configuration of a driver. Brokers, Group, Inputs, Outputs, Window and
// ReplaceUnread are needed; Checked fills in the rest.
type Config struct {
	Brokers []string // host:port; any one that answers is enough
	Group   string   // consumer group
	Inputs  []string // topics that are read
	Outputs []string // topics that the handler's outputs go to

	// Session is how long the group waits for a member that sends no heartbeats.
	// Zero: 6 s.
	Session time.Duration

	// These two are for franz only. Instance is the group.instance.id: a process that comes back
	// with the same one within Session finds its partitions as they were, for it does not leave
	// the group when it stops. Rack is the client.rack: replicas there are read from, if the
	// brokers allow it.
	Instance string
	Rack     string

	TLS         *tls.Config           // nil: plain text
	Roots       func() *x509.CertPool // asked at each handshake; nil: those of TLS
	SASL        SASL
	Compression string // of the output: none, gzip, snappy, lz4 or zstd

	// Window bounds the records of each partition that are fetched and not yet published. One
	// record is always allowed, however large.
	Window Window

	// TotalBytes bounds the memory of the records of all partitions, from the fetch until they are
	// published. Fetching waits while it is used up. It may be exceeded by one response. Zero: no
	// bound.
	TotalBytes int64

	// BatchBytes bounds the memory of one batch of records after it is decompressed; twice its
	// compressed size is always allowed. It bounds several batches together too: kafkago counts
	// those of one partition's fetch, franz those of all partitions from one poll to the next.
	// Batches that are not compressed have no bound. Zero: 32 MiB.
	BatchBytes int64

	// ReplaceUnread is called for a batch that needs more than BatchBytes, or cannot be
	// decompressed. Its records are skipped, and what ReplaceUnread returns is published in their
	// place.
	ReplaceUnread func(Batch) []Record

	// Start is where a group without offsets begins. A partition that is added to a topic later
	// begins at its first record.
	Start Start

	// StopOnReset ends the driver with a *ResetError if a position is lost. Without it the driver
	// goes on at another offset, and reports a Reset.
	StopOnReset bool

	// DrainTimeout bounds how long a rebalance or a stop waits for the records in flight. Records
	// that are not published by then are not committed, and are read again.
	DrainTimeout time.Duration

	// ReplaceRefused is called when the broker refuses an output for good: it is larger than its
	// topic takes, or against a rule of the topic. It returns the record to publish in its place.
	// If that is refused too, ReplaceRefused is called with it, a few times at most. The reason may
	// wrap ErrInvalidTime or ErrKeyless. An error means that the topic takes nothing for this
	// record, so only a change of the topic can help. Then the partition waits, and the driver
	// tries again with pauses, beginning with the first record for that topic.
	ReplaceRefused func(source, output Record, reason error) (Record, error)

	// OnFailure, if not nil, is called each time a handler fails on a record; since is the time
	// from its first failure. It returns the records to publish in place of an answer, and true; or
	// false: the handler is called again. ctx is the handler's.
	OnFailure func(ctx context.Context, r Record, since time.Duration, err error) ([]Record, bool)

	Log      *slog.Logger
	Observer Observer
}

// A Batch is a range of records that were compressed together and are not read.
type Batch struct {
	Topic       string
	Partition   int
	First, Last int64 // offsets; compaction may have removed some in between
}

// ErrInvalidTime is wrapped by the reason for refusing an output whose time is further from the
// broker's than its topic allows.
var ErrInvalidTime = errors.New("the record's time is out of the topic's bounds")

// ErrKeyless is wrapped by the reason for refusing an output without a key: its topic is compacted.
var ErrKeyless = errors.New("the topic is compacted (cleanup.policy), and takes no record without a key")

// ErrOpenTransaction is wrapped by the error for a partition that cannot be read beyond its last
// stable offset, because a producer has a transaction open there.
var ErrOpenTransaction = errors.New("a transaction is open")

// A Window bounds the records in flight.
type Window struct {
	Records int
	Bytes   int64 // of keys, values and headers
}

// An Observer is told what a driver does. Its methods are called from many goroutines while records
// wait, so they must not block.
type Observer interface {
	// Assigned is called with the partitions of a new generation. There are none if the group has
	// more members than partitions.
	Assigned(partitions []Partition)
	// Revoked is called when that generation ends.
	Revoked()
	// InFlight adds to the records and bytes in the window of a partition.
	InFlight(partition Partition, records int, bytes int64)
	// Buffered is called when the bytes that count against Config.TotalBytes change, or the number
	// of partitions that wait for bytes to be released.
	Buffered(bytes int64, waiting int)
	// Published is called after the broker has acknowledged n records of one partition. took is the
	// time since they were handed to the client.
	Published(n int, took time.Duration)
	// Delivered is called when the brokers have acknowledged every output of the records of a
	// partition from offset first to last; exactly once, when their transaction is committed.
	Delivered(partition Partition, first, last int64)
	// Acknowledged is called for each output when Delivered is, with the record that caused it.
	Acknowledged(source Record)
	// Committed is called after a commit, soon after a partition was assigned, and when the lag has
	// changed without a commit. next is the offset at which a restart begins; lag is the number of
	// records from there to the end of the partition.
	Committed(partition Partition, next, lag int64)
	// Retrying is called each time a stage fails for a record, or the group does not take the
	// offset of a partition, and once with a nil error when that stage has recovered. Reading fails
	// only for a fault of the partition itself, not because a broker is gone.
	Retrying(partition Partition, stage Stage, err error)
	// Reset is called when a position is lost and reading goes on at another offset.
	Reset(r Reset)
	// Authentication is called after each handshake: with an AuthenticationError, or with nil if
	// the broker has accepted the credentials.
	Authentication(err error)
}

// A Stage is a step on a record's way.
type Stage int

// The stages, in their order.
const (
	Reading Stage = iota
	Handling
	Publishing // and, exactly once, the commit
	Committing // at least once: the outputs are published
)
