package franz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
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
// and the next transaction would end what is open in its own way. So it has to
// be called before that begins to write, and before our producer id is asked
// for, with which the coordinator forgets how the last one ended.
//
// The second end is that of a transaction with nothing in it, in what stands
// still: its markers are those that are missing. Where it is another's
// transaction that is open they do nothing.
func (s *transactional) endOrphan(ctx context.Context) error {
	s.shaken.Store(false)
	admin := kadm.NewClient(s.client)
	var suspects map[position]bool // what stands still
	still := 0                     // looks for which it has
	var why error                  // there is no verdict
	for look := range mostLooks {
		if look > 0 && !sleep(ctx, lookEvery) {
			return context.Cause(ctx)
		}
		open, err := s.unfinished(ctx, admin)
		var answer *kerr.Error
		if errors.As(err, &answer) && !permanent(err) { // of a partition that has no leader, perhaps
			why = err
			continue
		}
		if err != nil {
			return err
		}
		if still == 0 {
			suspects = open
		}
		maps.DeleteFunc(suspects, func(p position, _ bool) bool { return !open[p] })
		if len(suspects) == 0 {
			return nil
		}
		all, err := admin.DescribeTransactions(ctx, s.bound.ID)
		last := all[s.bound.ID]
		if why = cmp.Or(err, last.Err); errors.Is(why, kerr.TransactionalIDNotFound) {
			return nil
		} else if why != nil {
			continue
		}
		switch last.State {
		case "PrepareCommit", "PrepareAbort":
			still = 0
			why = errors.New("it is being ended")
		case "CompleteCommit", "CompleteAbort":
			if still++; still <= stillLooks {
				why = errors.New("it did not stand still for long enough")
				continue
			}
			if s.foreign(ctx, admin, last.ProducerID, suspects) {
				return nil
			}
			return s.excuse(s.endAgain(ctx, admin, last, suspects))
		case "Ongoing":
			// It will be aborted. With one before that was lost, this has to
			// be too: its offsets, and so its records, come again.
			if unstable, _ := s.split(suspects); unstable && !s.begun {
				return s.excuse(s.extend(ctx, s.client, last, suspects))
			}
			return nil
		default:
			return nil
		}
	}
	s.cfg.Log.Warn("a transaction is open, and it is unknown whether it is our last one", "id", s.bound.ID, "err", why)
	return nil
}

// A position is where a partition stands.
type position struct {
	topic     string
	partition int32
	offset    int64 // up to which readers of committed records get; of inputs: 0
}

// unfinished is where a transaction seems to be open: partitions of the inputs
// whose offsets are unstable, and those of the outputs that readers of
// committed records cannot read to their end.
func (s *transactional) unfinished(ctx context.Context, admin *kadm.Client) (map[position]bool, error) {
	open := map[position]bool{}
	_, unstable, err := s.offsets(ctx, nil)
	if err != nil {
		return nil, err
	}
	for _, id := range unstable {
		open[position{topic: id.Topic, partition: int32(id.ID)}] = true
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

// split tells apart whether offsets are open, and which partitions of outputs.
func (s *transactional) split(open map[position]bool) (offsets bool, outputs kadm.TopicsSet) {
	for p := range open {
		if slices.Contains(s.cfg.Inputs, p.topic) {
			offsets = true
		} else {
			outputs.Add(p.topic, p.partition)
		}
	}
	return offsets, outputs
}

// foreign tells whether what is open is certainly not of a producer: only who
// may read the outputs is told, and nobody whose the offsets are.
func (s *transactional) foreign(ctx context.Context, admin *kadm.Client, producer int64, open map[position]bool) bool {
	offsets, outputs := s.split(open)
	if offsets && !s.begun { // joining, nothing is lost by a needless end
		return false
	}
	if len(outputs) == 0 {
		return false
	}
	held, told := s.held(ctx, admin, producer, outputs)
	return told && len(held) == 0
}

// held is where a producer has a transaction open, with the offsets at which it
// begins there, if the broker tells us.
func (s *transactional) held(ctx context.Context, admin *kadm.Client, producer int64, outputs kadm.TopicsSet) (held map[position]bool, told bool) {
	held = map[position]bool{}
	if len(outputs) == 0 {
		return held, true
	}
	described, err := admin.DescribeProducers(ctx, outputs)
	if err != nil {
		return nil, false
	}
	for _, t := range described {
		for _, p := range t.Partitions {
			if p.Err != nil {
				return nil, false
			}
			if of, ok := p.ActiveProducers[producer]; ok && of.CurrentTxnStartOffset >= 0 {
				held[position{t.Topic, p.Partition, of.CurrentTxnStartOffset}] = true
			}
		}
	}
	return held, true
}

// excuse makes of an error one that neither ends the driver nor takes it for
// fenced: what is open may not be ours.
func (s *transactional) excuse(err error) error {
	switch {
	case err == nil:
		return nil
	case permanent(err):
		s.cfg.Log.Warn("what a crash may have left open stays so", "id", s.bound.ID, "err", err)
		return nil
	}
	return errors.New(err.Error())
}

// endAgain ends our last transaction in what is open. It is not broken off when
// ctx ends: a transaction of which only a part is added would be aborted.
//
// Another process with our transactional id may have begun a transaction since
// we looked. The coordinator takes what we add for a part of that one, and our
// end would be its end. So we look again just before, and leave a transaction
// that has anything in it but what we have added.
func (s *transactional) endAgain(ctx context.Context, admin *kadm.Client, last kadm.DescribedTransaction, open map[position]bool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Driver.session)
	defer cancel()
	// Of a later version, the end would give our producer an epoch that
	// s.client does not know.
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(kmsg.EndTxn.Int16(), 4)
	client, err := kgo.NewClient(append(connection(s.cfg, s.conns), kgo.MaxVersions(versions))...)
	if err != nil {
		return err
	}
	defer client.Close()
	_, outputs := s.split(open)
	before, told := s.held(ctx, admin, last.ProducerID, outputs)
	if now, err := s.lookAgain(ctx, admin); err != nil || !sameTransaction(now, last, last.State) {
		return s.leave(err)
	}
	if err := s.extend(ctx, client, last, open); err != nil {
		return err
	}
	now, err := s.lookAgain(ctx, admin)
	after, stillTold := s.held(ctx, admin, last.ProducerID, outputs)
	if err != nil || !sameTransaction(now, last, "Ongoing") || !exactly(now.Topics, outputs) || told != stillTold || !maps.Equal(before, after) {
		return s.leave(err)
	}
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch = s.bound.ID, last.ProducerID, last.ProducerEpoch
	end.Commit = last.State == "CompleteCommit"
	ended, err := end.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(ended.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("end the transaction %s again: %w", s.bound.ID, err)
	}
	s.cfg.Log.Warn("what is open may be our last transaction, if a broker has told its end to the coordinator and crashed; it is ended once more, as it was",
		"id", s.bound.ID, "committed", end.Commit)
	return nil
}

// lookAgain asks the coordinator for our transaction, for as long as it may
// tell.
func (s *transactional) lookAgain(ctx context.Context, admin *kadm.Client) (kadm.DescribedTransaction, error) {
	for {
		all, err := admin.DescribeTransactions(ctx, s.bound.ID)
		now := all[s.bound.ID]
		if err = cmp.Or(err, now.Err); err == nil || permanent(err) || !sleep(ctx, lookEvery) {
			return now, err
		}
	}
}

// sameTransaction tells whether a transaction is the one before, and in a state.
func sameTransaction(now, before kadm.DescribedTransaction, state string) bool {
	return now.State == state && now.ProducerID == before.ProducerID && now.ProducerEpoch == before.ProducerEpoch
}

// exactly tells whether a transaction has these partitions in it and those of
// the offsets of one group, and nothing else.
func exactly(in, outputs kadm.TopicsSet) bool {
	const offsets = "__consumer_offsets"
	n := 0
	for topic, partitions := range in {
		switch {
		case topic == offsets:
			n += len(partitions)
		case !maps.Equal(partitions, outputs[topic]):
			return false
		}
	}
	return n == 1 && len(in) == len(outputs)+1
}

// leave leaves a transaction that is not ours, or of which that is not known.
func (s *transactional) leave(err error) error {
	if err != nil {
		return fmt.Errorf("look at the transaction %s again: %w", s.bound.ID, err)
	}
	s.cfg.Log.Warn("another process uses our transactional id, its transaction is left alone; give each process its own kafka.transaction.id", "id", s.bound.ID)
	return nil
}

// extend adds partitions and the group's offsets to our transaction, or begins
// one with them.
func (s *transactional) extend(ctx context.Context, client *kgo.Client, last kadm.DescribedTransaction, open map[position]bool) error {
	failed := func(err error) error {
		return fmt.Errorf("add what is open to the transaction %s: %w", s.bound.ID, err)
	}
	if _, outputs := s.split(open); len(outputs) > 0 {
		partitions := kmsg.NewPtrAddPartitionsToTxnRequest()
		partitions.TransactionalID, partitions.ProducerID, partitions.ProducerEpoch = s.bound.ID, last.ProducerID, last.ProducerEpoch
		for _, t := range outputs.Sorted() {
			topic := kmsg.NewAddPartitionsToTxnRequestTopic()
			topic.Topic, topic.Partitions = t.Topic, t.Partitions
			partitions.Topics = append(partitions.Topics, topic)
		}
		added, err := partitions.RequestWith(ctx, client)
		if err != nil {
			return failed(err)
		}
		for _, t := range added.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return failed(fmt.Errorf("%s-%d: %w", t.Topic, p.Partition, err))
				}
			}
		}
	}
	offsets := kmsg.NewPtrAddOffsetsToTxnRequest()
	offsets.TransactionalID, offsets.ProducerID, offsets.ProducerEpoch, offsets.Group = s.bound.ID, last.ProducerID, last.ProducerEpoch, s.cfg.Group
	added, err := offsets.RequestWith(ctx, client)
	if err == nil {
		err = kerr.ErrorForCode(added.ErrorCode)
	}
	if err != nil {
		return failed(err)
	}
	return nil
}
