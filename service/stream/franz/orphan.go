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
	lookEvery = 100 * time.Millisecond

	// stillLooks is for how many looks something has to stand still until it
	// is not just another member's transaction that ends soon.
	stillLooks = 10

	// mostLooks bounds the wait for partitions that have no leader, and for a
	// coordinator that tells nothing, or has not told all partitions yet.
	mostLooks = 50
)

// endOrphan ends our last transaction once more where its end is recorded, but
// has not come to its partitions and never will: Kafka 4.3.1, killed between
// the two, takes the partitions for deleted when it starts as the only broker.
// The group's offsets then stay unstable, and members wait for them for ever;
// and the next transaction would end what is open in its own way. It has to be
// called before our producer id is asked for, with which the coordinator
// forgets how the transaction ended.
//
// The second end is that of a transaction with nothing in it, in what stands
// still: its markers are those that are missing. Where it is another's
// transaction that is open they do nothing. It gives our producer an epoch
// that a client does not know which has asked before, so that is an error.
//
// Where our last transaction was begun after the crash, by a session that
// outlived it, both end in the same way: committed, as the one before mostly
// was; or aborted, and both come again.
func (s *session) endOrphan(ctx context.Context) error {
	s.shaken.Store(false)
	admin := kadm.NewClient(s.client)
	var suspects map[position]bool
	var unknown error // why the coordinator does not tell
	for look := range mostLooks {
		if look > 0 && !sleep(ctx, lookEvery) {
			return context.Cause(ctx)
		}
		open, err := s.unfinished(ctx, admin)
		var answer *kerr.Error
		switch {
		case errors.As(err, &answer) && !permanent(err): // of a partition that has no leader, perhaps
			continue
		case err != nil:
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
		unknown = cmp.Or(err, last.Err)
		switch {
		case errors.Is(unknown, kerr.TransactionalIDNotFound):
			return nil
		case unknown != nil, last.State == "PrepareCommit", last.State == "PrepareAbort":
		case last.State != "CompleteCommit" && last.State != "CompleteAbort": // there is none, or it is open and will be aborted
			return nil
		case look < stillLooks:
		case s.foreign(ctx, admin, last.ProducerID, suspects):
			return nil
		default:
			return s.endAgain(ctx, last, suspects)
		}
	}
	if unknown != nil {
		s.cfg.Log.Warn("a transaction is open, and it is unknown whether it is our last one", "id", s.bound.ID, "err", unknown)
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

// foreign tells whether what stands still is certainly not of a producer. Only
// who may read the outputs is told.
func (s *session) foreign(ctx context.Context, admin *kadm.Client, producer int64, open map[position]bool) bool {
	outputs := s.outputs(open)
	if len(outputs) == 0 {
		return false
	}
	described, err := admin.DescribeProducers(ctx, outputs)
	if err != nil {
		return false
	}
	for _, t := range described {
		for _, p := range t.Partitions {
			if p.Err != nil {
				return false
			}
			if of, ok := p.ActiveProducers[producer]; ok && of.CurrentTxnStartOffset >= 0 {
				return false
			}
		}
	}
	return true
}

// outputs are the partitions of open that are not of the input.
func (s *session) outputs(open map[position]bool) kadm.TopicsSet {
	outputs := kadm.TopicsSet{}
	for p := range open {
		if p.topic != s.cfg.Input {
			outputs.Add(p.topic, p.partition)
		}
	}
	return outputs
}

// endAgain is not broken off when ctx ends: a transaction of which only a part
// is added would be aborted.
func (s *session) endAgain(ctx context.Context, last kadm.DescribedTransaction, open map[position]bool) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("end the transaction %s again: %w", s.bound.ID, err)
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.session)
	defer cancel()
	if outputs := s.outputs(open); len(outputs) > 0 {
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
	s.cfg.Log.Warn("what is open looks like our last transaction, of which a broker that crashed has told only its coordinator; it is ended once more, as it was",
		"id", s.bound.ID, "committed", end.Commit)
	if s.begun {
		return errors.New("a broker had lost the end of a transaction")
	}
	return nil
}
