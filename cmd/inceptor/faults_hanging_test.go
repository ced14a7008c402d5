package main

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// hangingCheckInterval is the time between two searches for hanging transactions.
const hangingCheckInterval = 2 * time.Second

// An openTransaction is a producer's transaction in one partition.
type openTransaction struct {
	topic     string
	partition int32
	producer  int64
	epoch     int16
}

// A producerEpoch names a transaction: a producer has only one in an epoch.
type producerEpoch struct {
	producer int64
	epoch    int16
}

// endHangingTransactions ends the transactions that the broker has forgotten. Kafka 4.3.1, killed
// between the record that ends a transaction and its markers, skips the markers when it starts as
// the only broker ("these partitions are likely deleted"). It records the transaction as complete
// and holds readers of committed records back for ever: 12 times of 13, with a client alone. An
// administrator has kafka-transactions.sh for it. This writes the markers with the end that the
// broker has recorded.
func (f *faultRun) endHangingTransactions() {
	f.Helper()
	if f.happened["broker killed"] == 0 || time.Since(f.lookedForHanging) < hangingCheckInterval {
		return
	}
	f.lookedForHanging = time.Now()
	ctx, cancel := context.WithTimeout(f.Context(), 20*time.Second)
	defer cancel()
	admin := kadm.NewClient(f.admin)
	before, err := openTransactions(ctx, admin)
	if err != nil || len(before) == 0 {
		return // try the next time: the broker may still be starting
	}
	ends := f.endedTransactions(ctx, admin)
	after, err := openTransactions(ctx, admin)
	if err != nil {
		return
	}
	// A transaction hangs if it was open before the record of its end was read, and still is.
	for p, coordinator := range after {
		committed, over := ends[producerEpoch{p.producer, p.epoch + 1}]
		if _, was := before[p]; !was || !over {
			continue
		}
		partitions := kadm.TopicsSet{}
		partitions.Add(p.topic, p.partition)
		res, err := admin.WriteTxnMarkers(ctx, kadm.TxnMarkers{
			ProducerID: p.producer, ProducerEpoch: p.epoch, Commit: committed,
			CoordinatorEpoch: max(coordinator, 0), Topics: partitions,
		})
		if err == nil {
			err = res[p.producer].Topics[p.topic].Partitions[p.partition].Err
		}
		if err != nil {
			f.Fatalf("end the transaction %+v, which the broker left open: %v", p, err)
		}
		if t := (producerEpoch{p.producer, p.epoch}); !f.endedHanging[t] {
			f.endedHanging[t] = true
			f.Logf("%s: after %q, the broker left a transaction open, in %s and perhaps elsewhere; committed: %v", f.delivery, f.remarks, p.topic, committed)
		}
	}
}

// openTransactions returns the open transactions, with the coordinator's epoch.
func openTransactions(ctx context.Context, admin *kadm.Client) (map[openTransaction]int32, error) {
	partitions := kadm.TopicsSet{}
	partitions.Add("__consumer_offsets", 0)
	for _, topic := range []string{inputTopic, outputTopic, deadLetterTopic} {
		partitions.Add(topic, 0, 1, 2, 3)
	}
	producers, err := admin.DescribeProducers(ctx, partitions)
	open := map[openTransaction]int32{}
	for _, p := range producers.SortedProducers() {
		if p.CurrentTxnStartOffset >= 0 {
			open[openTransaction{p.Topic, p.Partition, p.ProducerID, p.ProducerEpoch}] = p.CoordinatorEpoch
		}
	}
	return open, err
}

// endedTransactions reads from the coordinator's own topic which transactions are complete, and
// whether they were committed. The epoch of each is the one after it.
func (f *faultRun) endedTransactions(ctx context.Context, admin *kadm.Client) map[producerEpoch]bool {
	f.Helper()
	const topic = "__transaction_state"
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		f.Logf("%s: %v", topic, err)
		return nil
	}
	done := map[producerEpoch]bool{}
	for _, r := range f.read(ctx, false, ends, topic) {
		v := kmsg.NewTxnMetadataValue()
		if r.Value == nil || v.ReadFrom(r.Value) != nil {
			continue
		}
		switch v.State {
		case kmsg.TransactionStateCompleteCommit:
			done[producerEpoch{v.ProducerID, v.ProducerEpoch}] = true
		case kmsg.TransactionStateCompleteAbort:
			done[producerEpoch{v.ProducerID, v.ProducerEpoch}] = false
		}
	}
	return done
}

// read returns the records of topics up to these ends.
func (f *faultRun) read(ctx context.Context, committedOnly bool, ends kadm.ListedOffsets, topics ...string) []*kgo.Record {
	f.Helper()
	return slices.DeleteFunc(f.readEntries(ctx, committedOnly, ends, topics...), func(r *kgo.Record) bool { return r.Attrs.IsControl() })
}

// readEntries returns the records of topics, and the markers of the ends of transactions, up to
// these ends.
func (f *faultRun) readEntries(ctx context.Context, committedOnly bool, ends kadm.ListedOffsets, topics ...string) []*kgo.Record {
	f.Helper()
	missing := 0
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			missing++
		}
	})
	reader := newClient(f.T, f.brokers, append(isolation(committedOnly), kgo.ConsumeTopics(topics...), kgo.KeepControlRecords())...)
	defer reader.Close()
	var entries []*kgo.Record
	for missing > 0 {
		fetches := reader.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			f.Fatalf("read %v: %v; %d partitions are not at their end\n%s", topics, err, missing, f.offsets())
		}
		fetches.EachRecord(func(r *kgo.Record) {
			entries = append(entries, r)
			if end, _ := ends.Lookup(r.Topic, r.Partition); r.Offset == end.Offset-1 {
				missing--
			}
		})
	}
	return entries
}
