package main

import (
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// mendEvery is how often transactions that the broker forgot are looked for.
const mendEvery = 2 * time.Second

// A part is a producer's transaction in one partition.
type part struct {
	topic     string
	partition int32
	producer  int64
	epoch     int16
}

// An ended transaction is one that the coordinator has recorded as complete.
type ended struct {
	producer int64
	epoch    int16 // of the producer after it: one more than in it
}

// mend does what the broker owes. Kafka 4.3.1, killed between the record that a
// transaction ends and the markers of it, skips them when it starts as the only
// broker ("these partitions are likely deleted"), records it as complete, and
// holds readers of committed records back for ever: seen 12 times of 13, with a
// client alone. An administrator has kafka-transactions.sh for it; this writes
// the markers with the very end that the broker has recorded.
func (f *faults) mend() {
	f.Helper()
	if f.happened["broker killed"] == 0 || time.Since(f.mendedAt) < mendEvery {
		return
	}
	f.mendedAt = time.Now()
	ctx, cancel := context.WithTimeout(f.Context(), 20*time.Second)
	defer cancel()
	admin := kadm.NewClient(f.admin)
	before, err := openParts(ctx, admin)
	if err != nil || len(before) == 0 {
		return // the next time: the broker may be on its way
	}
	ends := f.endedTransactions(ctx, admin)
	after, err := openParts(ctx, admin)
	if err != nil {
		return
	}
	// Who was open before the record of its end was read, and is after, is so for good.
	for p, coordinator := range after {
		committed, over := ends[ended{p.producer, p.epoch + 1}]
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
		if t := (ended{p.producer, p.epoch}); !f.mended[t] {
			f.mended[t] = true
			f.Logf("%s: after %q, the broker left a transaction open, in %s and perhaps elsewhere; committed: %v", f.delivery, f.remarks, p.topic, committed)
		}
	}
}

// openParts are the open transactions, with the coordinator's epoch.
func openParts(ctx context.Context, admin *kadm.Client) (map[part]int32, error) {
	partitions := kadm.TopicsSet{}
	partitions.Add("__consumer_offsets", 0)
	for _, topic := range []string{inputTopic, outputTopic, deadLetterTopic} {
		partitions.Add(topic, 0, 1, 2, 3)
	}
	producers, err := admin.DescribeProducers(ctx, partitions)
	open := map[part]int32{}
	for _, p := range producers.SortedProducers() {
		if p.CurrentTxnStartOffset >= 0 {
			open[part{p.Topic, p.Partition, p.ProducerID, p.ProducerEpoch}] = p.CoordinatorEpoch
		}
	}
	return open, err
}

// endedTransactions reads, from the coordinator's own topic, which transactions
// are complete, and whether they were committed.
func (f *faults) endedTransactions(ctx context.Context, admin *kadm.Client) map[ended]bool {
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
	done := map[ended]bool{}
	for _, r := range f.read(ctx, false, ends, topic) {
		v := kmsg.NewTxnMetadataValue()
		if r.Value == nil || v.ReadFrom(r.Value) != nil {
			continue
		}
		switch v.State {
		case kmsg.TransactionStateCompleteCommit:
			done[ended{v.ProducerID, v.ProducerEpoch}] = true
		case kmsg.TransactionStateCompleteAbort:
			done[ended{v.ProducerID, v.ProducerEpoch}] = false
		}
	}
	return done
}

// read reads the records of topics until their ends.
func (f *faults) read(ctx context.Context, committedOnly bool, ends kadm.ListedOffsets, topics ...string) []*kgo.Record {
	f.Helper()
	return slices.DeleteFunc(f.readEntries(ctx, committedOnly, ends, topics...), func(r *kgo.Record) bool { return r.Attrs.IsControl() })
}

// readEntries reads topics until their ends: the last entry of a partition is a
// record, or the marker of a transaction's end.
func (f *faults) readEntries(ctx context.Context, committedOnly bool, ends kadm.ListedOffsets, topics ...string) []*kgo.Record {
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
