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

const (
	// holdEvery is how often it is checked whether an open transaction holds a
	// partition back.
	holdEvery = 2 * time.Second

	// heldAfter is how long a partition must stand still at an open transaction
	// before it is reported. Most transactions take less.
	heldAfter = 4 * time.Second

	// describeEvery is how often the producer of the transaction is looked up.
	describeEvery = 10 * time.Second
)

// A standstill is since when a partition has given no records while a transaction
// is open in it.
type standstill struct {
	stable, next int64
	open         bool
	since        time.Time
}

// look returns the standstill as of now. stable is the last stable offset, high
// the high watermark: an open transaction lies between them. next is the offset
// after the last record that was read.
func (s standstill) look(now time.Time, stable, high, next int64) standstill {
	open := stable < high
	if !open || !s.open || s.stable != stable || s.next != next {
		return standstill{stable, next, open, now}
	}
	return s
}

// held tells whether the partition waits for the end of a transaction.
func (s standstill) held(now time.Time) bool { return s.open && now.Sub(s.since) >= heldAfter }

// A holder is an open transaction that holds a partition back, as far as the
// broker tells.
type holder struct {
	partition stream.Partition
	first     int64 // its first offset
	producer  kadm.DescribedProducer
	known     bool // producer is
	txn       kadm.DescribedTransaction
	begun     bool  // txn is known, and goes on
	ended     bool  // its coordinator has no such transaction, or it is over
	err       error // why the rest is not known
}

// Error says what is waited for, and what can be done. It has no durations, so
// that it is the same as long as nothing changes.
func (h holder) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "an open transaction holds back every record of %v from offset %d on", h.partition, h.first)
	if h.known {
		fmt.Fprintf(&b, ": producer id %d, epoch %d, wrote to it last at %s",
			h.producer.ProducerID, h.producer.ProducerEpoch, utc(h.producer.LastTimestamp))
	}
	switch abort := fmt.Sprintf("`kafka-transactions.sh abort --topic %s --partition %d --start-offset %d`", h.partition.Topic, h.partition.ID, h.first); {
	case h.begun:
		fmt.Fprintf(&b, "; transaction %s began at %s, with a timeout of %v: end it in its producer, or wait for the timeout",
			h.txn.TxnID, utc(h.txn.StartTimestamp), time.Duration(h.txn.TimeoutMillis)*time.Millisecond)
	case h.ended:
		fmt.Fprintf(&b, "; its coordinator has no such transaction under way, so it may hang: see `kafka-transactions.sh find-hanging`, and %s", abort)
	default:
		fmt.Fprintf(&b, "; if its producer does not end it: `kafka-transactions.sh find-hanging`, and %s", abort)
	}
	if h.err != nil {
		fmt.Fprintf(&b, " (the broker does not say whose: %v)", h.err)
	}
	return b.String()
}

// Unwrap makes it a stream.ErrOpenTransaction.
func (h holder) Unwrap() error { return stream.ErrOpenTransaction }

func utc(millis int64) string { return time.UnixMilli(millis).UTC().Format(time.RFC3339) }

// A hold is what is known of one partition.
type hold struct {
	standstill
	stall  stall
	holder holder
	looked time.Time // when the holder was looked up; zero: nothing was told
}

// watchHolds tells of partitions that are held back by open transactions, and
// ends the session if the client does not fetch one.
func (s *session) watchHolds(life context.Context) {
	admin := kadm.NewClient(s.client)
	var g *generation
	holds := map[stream.Partition]*hold{}
	for sleep(life, holdEvery) {
		if latest := s.latest.Load(); latest != g {
			g = latest
			clear(holds) // with the generation, the observer has forgotten them
		}
		if g != nil && len(g.partitions) > 0 && !g.drains() {
			s.lookUpHolds(life, admin, g, holds)
		}
	}
}

func (s *session) lookUpHolds(life context.Context, admin *kadm.Client, g *generation, holds map[stream.Partition]*hold) {
	ctx, cancel := context.WithTimeout(life, s.session)
	defer cancel()
	stable, err := admin.ListCommittedOffsets(ctx, s.cfg.Inputs...)
	if err != nil {
		return // fetching tells of it
	}
	ends, err := admin.ListEndOffsets(ctx, s.cfg.Inputs...)
	if err != nil {
		return
	}
	waiting, over := map[string]bool{}, map[string]bool{} // by topic
	for id, p := range g.partitions {
		h := holds[id]
		if h == nil {
			h = &hold{}
			holds[id] = h
		}
		last, ok := stable.Lookup(id.Topic, int32(id.ID))
		end, ok2 := ends.Lookup(id.Topic, int32(id.ID))
		if !ok || !ok2 || last.Err != nil || end.Err != nil {
			continue
		}
		now := time.Now()
		if s.endStalled(p, h, now, last.Offset) {
			return
		}
		if next, waits := p.waitsForRecords(); waits {
			h.standstill = h.look(now, last.Offset, end.Offset, next)
		} else {
			h.standstill = standstill{}
		}
		operation := "read beyond an open transaction of " + id.Topic
		switch {
		case h.held(now):
			waiting[operation] = true
			if now.Sub(h.looked) < describeEvery {
				continue
			}
			before := h.holder.Error()
			again := !h.looked.IsZero()
			h.holder, h.looked = s.holderOf(ctx, admin, id, last.Offset), now
			if life.Err() != nil {
				return
			}
			s.trouble.Failed(operation, h.holder, "partition", id.ID)
			if !again || h.holder.Error() != before {
				s.cfg.Observer.Retrying(id, stream.Reading, h.holder)
			}
		case !h.looked.IsZero():
			h.looked = time.Time{}
			over[operation] = true
			s.cfg.Observer.Retrying(id, stream.Reading, nil)
		}
	}
	for operation := range over {
		if !waiting[operation] {
			s.trouble.Worked(operation)
		}
	}
}

// holderOf looks up which transaction is open at the last stable offset. That
// takes Read on the topic, and for its id Describe on that.
func (s *session) holderOf(ctx context.Context, admin *kadm.Client, id stream.Partition, stable int64) holder {
	h := holder{partition: id, first: stable}
	topics := kadm.TopicsSet{}
	topics.Add(id.Topic, int32(id.ID))
	described, err := admin.DescribeProducers(ctx, topics)
	p := described[id.Topic].Partitions[int32(id.ID)]
	if h.err = errors.Join(err, p.Err); h.err != nil {
		return h
	}
	for _, producer := range p.ActiveProducers {
		if first := producer.CurrentTxnStartOffset; first >= 0 && (!h.known || first < h.first) {
			h.producer, h.first, h.known = producer, first, true
		}
	}
	if !h.known {
		return h
	}
	listed, err := admin.ListTransactions(ctx, []int64{h.producer.ProducerID}, nil)
	ids := slices.Collect(maps.Keys(listed))
	if err != nil || len(ids) == 0 {
		return h // or its id is forbidden to us
	}
	txns, err := admin.DescribeTransactions(ctx, ids...)
	if err != nil {
		return h
	}
	for _, txn := range txns {
		switch {
		case txn.Err != nil:
		case txn.State == "Ongoing" && txn.ProducerID == h.producer.ProducerID && txn.ProducerEpoch >= h.producer.ProducerEpoch:
			h.txn, h.begun = txn, true
		case strings.HasPrefix(txn.State, "Complete") || txn.State == "Empty":
			h.ended = true
		}
	}
	return h
}
