package franz

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"inceptor/service/stream"
)

// heldAfter is how long a partition must wait for an open transaction before it is
// reported. Most transactions take less.
const heldAfter = 4 * time.Second

// An openWait is since when a partition has given no records while a transaction
// is open in it.
type openWait struct {
	stable, next int64
	open         bool
	since        time.Time
}

// update returns the wait as of now. stable is the last stable offset, high the
// high watermark: an open transaction lies between them. next is the offset after
// the last record that was read.
func (w openWait) update(now time.Time, stable, high, next int64) openWait {
	open := stable < high
	if !open || !w.open || w.stable != stable || w.next != next {
		return openWait{stable, next, open, now}
	}
	return w
}

// long reports whether the partition has waited for long enough to be reported.
func (w openWait) long(now time.Time) bool { return w.open && now.Sub(w.since) >= heldAfter }

// An openTransaction holds a partition back. It is an error that says what is known
// of it.
type openTransaction struct {
	partition stream.Partition
	first     int64 // its first offset
	producer  kadm.DescribedProducer
	known     bool // producer is
	txn       kadm.DescribedTransaction
	ongoing   bool  // txn is known, and goes on
	ended     bool  // its coordinator has no such transaction, or it is over
	err       error // why the rest is not known
}

// Error says what the partition waits for, and what can be done. It has no
// durations, so it is the same as long as nothing changes.
func (o openTransaction) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "an open transaction holds back every record of %v from offset %d on", o.partition, o.first)
	if o.known {
		fmt.Fprintf(&b, ": producer id %d, epoch %d, wrote to it last at %s",
			o.producer.ProducerID, o.producer.ProducerEpoch, utc(o.producer.LastTimestamp))
	}
	switch abort := fmt.Sprintf("`kafka-transactions.sh abort --topic %s --partition %d --start-offset %d`", o.partition.Topic, o.partition.ID, o.first); {
	case o.ongoing:
		fmt.Fprintf(&b, "; transaction %s began at %s, with a timeout of %v: end it in its producer, or wait for the timeout",
			o.txn.TxnID, utc(o.txn.StartTimestamp), time.Duration(o.txn.TimeoutMillis)*time.Millisecond)
	case o.ended:
		fmt.Fprintf(&b, "; its coordinator has no such transaction under way, so it may hang: see `kafka-transactions.sh find-hanging`, and %s", abort)
	default:
		fmt.Fprintf(&b, "; if its producer does not end it: `kafka-transactions.sh find-hanging`, and %s", abort)
	}
	if o.err != nil {
		fmt.Fprintf(&b, " (the broker does not say whose: %v)", o.err)
	}
	return b.String()
}

// Unwrap makes it a stream.ErrOpenTransaction.
func (openTransaction) Unwrap() error { return stream.ErrOpenTransaction }

func utc(millis int64) string { return time.UnixMilli(millis).UTC().Format(time.RFC3339) }

// describeOpen looks up which transaction is open at the last stable offset. That
// needs Read on the topic and, for the transactional id, Describe on that.
func describeOpen(ctx context.Context, admin *kadm.Client, id stream.Partition, stable int64) openTransaction {
	o := openTransaction{partition: id, first: stable}
	topics := kadm.TopicsSet{}
	topics.Add(id.Topic, int32(id.ID))
	described, err := admin.DescribeProducers(ctx, topics)
	p := described[id.Topic].Partitions[int32(id.ID)]
	if o.err = errors.Join(err, p.Err); o.err != nil {
		return o
	}
	for _, producer := range p.ActiveProducers {
		if first := producer.CurrentTxnStartOffset; first >= 0 && (!o.known || first < o.first) {
			o.producer, o.first, o.known = producer, first, true
		}
	}
	if !o.known {
		return o
	}
	listed, err := admin.ListTransactions(ctx, []int64{o.producer.ProducerID}, nil)
	ids := slices.Collect(maps.Keys(listed))
	if err != nil || len(ids) == 0 {
		return o // we may not see its id, perhaps
	}
	txns, err := admin.DescribeTransactions(ctx, ids...)
	if err != nil {
		return o
	}
	for _, txn := range txns {
		switch {
		case txn.Err != nil:
		case txn.State == "Ongoing" && txn.ProducerID == o.producer.ProducerID && txn.ProducerEpoch >= o.producer.ProducerEpoch:
			o.txn, o.ongoing = txn, true
		case strings.HasPrefix(txn.State, "Complete") || txn.State == "Empty":
			o.ended = true
		}
	}
	return o
}
