package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// readAll returns all records of topics, once no transaction is open in them.
func (f *faultRun) readAll(committedOnly bool, topics ...string) []*kgo.Record {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), recovery)
	defer cancel()
	return f.read(ctx, committedOnly, f.stableEnds(ctx, topics...), topics...)
}

// stableEnds waits until every transaction in the topics has ended, and returns the topics' ends.
func (f *faultRun) stableEnds(ctx context.Context, topics ...string) kadm.ListedOffsets {
	f.Helper()
	admin := kadm.NewClient(f.admin)
	for ; ; time.Sleep(100 * time.Millisecond) {
		f.endHangingTransactions()
		ends, err := admin.ListEndOffsets(ctx, topics...)
		if err == nil {
			err = ends.Error()
		}
		var stable kadm.ListedOffsets
		if err == nil {
			stable, err = admin.ListCommittedOffsets(ctx, topics...)
		}
		if err == nil {
			err = stable.Error()
		}
		if err != nil {
			f.Fatalf("ends of %v: %v\n%s", topics, err, f.offsets())
		}
		open := false
		ends.Each(func(end kadm.ListedOffset) {
			s, _ := stable.Lookup(end.Topic, end.Partition)
			open = open || s.Offset != end.Offset
		})
		if !open {
			return ends
		}
	}
}

// offsets describes the positions in all topics and the open transactions, for the log of a
// failure.
func (f *faultRun) offsets() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	admin := kadm.NewClient(f.admin)
	var lines []string
	tell := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	topics := append(f.outputs.topics(), inputTopic)
	ends, err := admin.ListEndOffsets(ctx, topics...)
	if err != nil {
		return err.Error()
	}
	stable, err := admin.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return err.Error()
	}
	group, err := admin.FetchOffsets(ctx, f.group)
	if err != nil {
		return err.Error()
	}
	partitions := kadm.TopicsSet{}
	for _, end := range ends.Offsets().Sorted() {
		partitions.Add(end.Topic, end.Partition)
		s, _ := stable.Lookup(end.Topic, end.Partition)
		g, _ := group.Lookup(end.Topic, end.Partition)
		tell("%s-%d: end %d, stable %d, the group is at %d", end.Topic, end.Partition, end.At, s.Offset, g.At)
	}
	producers, err := admin.DescribeProducers(ctx, partitions)
	if err != nil {
		return err.Error()
	}
	for _, p := range producers.SortedProducers() {
		if p.CurrentTxnStartOffset >= 0 {
			tell("%s-%d: a transaction of producer %d, epoch %d, is open since offset %d", p.Topic, p.Partition, p.ProducerID, p.ProducerEpoch, p.CurrentTxnStartOffset)
		}
	}
	transactions, err := admin.DescribeTransactions(ctx)
	if err != nil {
		return err.Error()
	}
	for _, t := range transactions.Sorted() {
		tell("transactional id %s: producer %d, epoch %d, %s", t.TxnID, t.ProducerID, t.ProducerEpoch, t.State)
	}
	return strings.Join(lines, "\n")
}
