package franz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	// patience is how long something may look open that is not: other members'
	// transactions end in less.
	patience = time.Second

	// preparation is how long a transaction that has ended is waited for, until
	// all its partitions know.
	preparation = 5 * time.Second
)

// endOrphan ends our last transaction once more where its end is recorded, but
// has not come to its partitions and never will: Kafka 4.3.1, killed between
// the two, takes the partitions for deleted when it starts as the only broker.
// The group's offsets then stay unstable, and members wait for them for ever;
// and what was aborted would be committed with the next transaction. It has to
// be called before our producer id is asked for, with which the coordinator
// forgets how the transaction ended.
//
// The second end is that of a transaction with nothing in it, in what stands
// still: its markers are those that are missing, and where it was another's
// transaction that is open they do nothing.
func (s *session) endOrphan(ctx context.Context) error {
	admin := kadm.NewClient(s.client)
	var suspects map[position]bool
	for begin := time.Now(); time.Since(begin) < preparation; {
		open, err := s.unfinished(ctx, admin)
		if err != nil {
			return err
		}
		if suspects != nil { // what stands still is in both
			maps.DeleteFunc(open, func(p position, _ bool) bool { return !suspects[p] })
		}
		if suspects = open; len(suspects) == 0 {
			return nil
		}
		all, err := admin.DescribeTransactions(ctx, s.bound.ID)
		last := all[s.bound.ID]
		switch err = cmp.Or(err, last.Err); {
		case errors.Is(err, kerr.TransactionalIDNotFound):
			return nil
		case err != nil:
			s.cfg.Log.Warn("a transaction is open, and it is unknown whether it is our last one", "id", s.bound.ID, "err", err)
			return nil
		}
		switch last.State {
		case "CompleteCommit", "CompleteAbort":
			if time.Since(begin) > patience {
				return s.endAgain(ctx, last, suspects)
			}
		case "PrepareCommit", "PrepareAbort":
		default: // none has ended, or it is open and will be aborted
			return nil
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
	return nil
}

// A position is where a partition stands.
type position struct {
	topic     string
	partition int32
	offset    int64
}

// unfinished is where a transaction seems to be open: partitions of the input
// whose offsets are unstable, and those of the outputs that readers of
// committed records cannot read to their end.
func (s *session) unfinished(ctx context.Context, admin *kadm.Client) (map[position]bool, error) {
	open := map[position]bool{}
	_, unstable, err := s.offsets(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, id := range unstable {
		open[position{topic: s.cfg.Input, partition: id}] = true
	}
	ends, err := admin.ListEndOffsets(ctx, s.cfg.Outputs...)
	var stable kadm.ListedOffsets
	if err == nil {
		stable, err = admin.ListCommittedOffsets(ctx, s.cfg.Outputs...)
	}
	if err != nil && !permanent(err) { // what is is told when something is published
		return nil, fmt.Errorf("look up the ends of %v: %w", s.cfg.Outputs, err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		at, ok := stable.Lookup(end.Topic, end.Partition)
		if ok && end.Err == nil && at.Err == nil && at.Offset < end.Offset {
			open[position{end.Topic, end.Partition, at.Offset}] = true
		}
	})
	return open, nil
}

func (s *session) endAgain(ctx context.Context, last kadm.DescribedTransaction, open map[position]bool) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("end the transaction %s again: %w", s.bound.ID, err)
		}
	}()
	outputs := kadm.TopicsSet{}
	for p := range open {
		if p.topic != s.cfg.Input {
			outputs.Add(p.topic, p.partition)
		}
	}
	if len(outputs) > 0 {
		partitions := kmsg.NewPtrAddPartitionsToTxnRequest()
		partitions.TransactionalID, partitions.ProducerID, partitions.ProducerEpoch = s.bound.ID, last.ProducerID, last.ProducerEpoch
		for _, t := range outputs.Sorted() {
			topic := kmsg.NewAddPartitionsToTxnRequestTopic()
			topic.Topic, topic.Partitions = t.Topic, t.Partitions
			partitions.Topics = append(partitions.Topics, topic)
		}
		added, err := partitions.RequestWith(ctx, s.client)
		if err != nil {
			return err
		}
		for _, t := range added.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return fmt.Errorf("%s-%d: %w", t.Topic, p.Partition, err)
				}
			}
		}
	}
	offsets := kmsg.NewPtrAddOffsetsToTxnRequest()
	offsets.TransactionalID, offsets.ProducerID, offsets.ProducerEpoch, offsets.Group = s.bound.ID, last.ProducerID, last.ProducerEpoch, s.cfg.Group
	grouped, err := offsets.RequestWith(ctx, s.client)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(grouped.ErrorCode); err != nil {
		return err
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch = s.bound.ID, last.ProducerID, last.ProducerEpoch
	end.Commit = last.State == "CompleteCommit"
	ended, err := end.RequestWith(ctx, s.client)
	if err != nil {
		return err
	}
	if err := kerr.ErrorForCode(ended.ErrorCode); err != nil {
		return err
	}
	s.cfg.Log.Warn("something is open, as if a broker had crashed at the end of our last transaction, which is ended once more, as it was",
		"id", s.bound.ID, "committed", end.Commit)
	if s.begun {
		return errors.New("the producer has another epoch since then") // which the client does not know
	}
	return nil
}
