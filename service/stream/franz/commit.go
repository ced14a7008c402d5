package franz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

const (
	// maxReplacements is how many replacements for one output are tried in a
	// row. Then its partition is withheld.
	maxReplacements = 5

	// slow is after how long a broker that does not answer is told of.
	slow = 2 * time.Second
)

// commit ends the transaction, again and again if need be: it returns once
// what was collected is committed, or with an error that ends the session.
func (s *transactional) commit(ctx context.Context) error {
	tx := s.tx
	if len(tx.shares) == 0 {
		return nil
	}
	pause := backoff.ExponentialBackOff{InitialInterval: 20 * time.Millisecond, MaxInterval: time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	for failed := false; ; failed = true {
		if err := s.publish(ctx); err != nil {
			return err
		}
		err := s.flush(ctx)
		if err != nil {
			return err
		}
		var again error
		how := kgo.TryCommit
		if tx.hasFailed() {
			how = kgo.TryAbort
			again, err = s.repair(ctx)
		}
		committed, endErr := s.endTransaction(ctx, how)
		if err = cmp.Or(err, endErr); err != nil {
			return err
		}
		if !committed && how == kgo.TryCommit {
			if committed, err = s.settled(ctx); err != nil {
				return err
			}
		}
		if committed {
			if failed {
				s.retrying(nil)
				s.trouble.Worked("commit to " + s.cfg.Group)
			}
			break
		}
		if len(tx.shares) == 0 { // all are withheld
			break
		}
		tx.restart()
		if how == kgo.TryCommit {
			again = errors.New("the transaction was aborted")
		}
		if again != nil {
			s.retrying(again)
			s.trouble.Failed("commit to "+s.cfg.Group, again)
			if !sleep(ctx, pause.NextBackOff()) {
				return context.Cause(ctx)
			}
		}
	}
	for topic, bytes := range tx.unsure {
		if !tx.replaced { // none alone is too large for the topic, but together they are
			s.limits[topic] = bytes / 2
		}
	}
	s.lastEnd = time.Now()
	took, published := time.Since(tx.begin), map[stream.Partition]int{}
	for _, o := range tx.outputs {
		published[o.source.Source()]++
	}
	for _, n := range published {
		s.cfg.Observer.Published(n, took)
	}
	for id, next := range tx.offsets() {
		p := s.current.partitions[id]
		s.positions.set(id, p.position(next))
		p.commit(next)
	}
	for _, covered := range tx.shares {
		covered.release()
	}
	s.released()
	s.tx = newTransaction()
	s.tx.drained = tx.drained
	return nil
}

// endTransaction ends the transaction and begins the next one. Without an
// error it is over, though perhaps committed when franz-go does not say so: a
// broker may do what it is asked and answer that it does not know.
func (s *transactional) endTransaction(ctx context.Context, how kgo.TransactionEndTry) (committed bool, err error) {
	if how == kgo.TryCommit && s.byName.Load() { // what was read may be of another topic
		if err := s.lookUpTopics(ctx); err != nil {
			return false, err
		}
	}
	next := s.tx.offsets()
	ctx = kgo.PreTxnCommitFnContext(ctx, func(req *kmsg.TxnOffsetCommitRequest) error {
		topics := map[string]*kmsg.TxnOffsetCommitRequestTopic{}
		for _, polled := range req.Topics {
			topic := kmsg.NewTxnOffsetCommitRequestTopic()
			topic.Topic, topic.TopicID = polled.Topic, polled.TopicID
			topics[polled.Topic] = &topic
		}
		for id, offset := range next {
			topic := topics[id.Topic]
			if topic == nil {
				t := kmsg.NewTxnOffsetCommitRequestTopic()
				t.Topic = id.Topic
				topic, topics[id.Topic] = &t, &t
			}
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			metadata := s.current.partitions[id].position(offset).Metadata(s.cluster())
			p.Partition, p.Offset, p.Metadata = int32(id.ID), offset, &metadata
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = req.Topics[:0]
		for _, topic := range topics {
			if len(topic.Partitions) > 0 {
				req.Topics = append(req.Topics, *topic)
			}
		}
		return nil
	})
	s.turn.alone(func() {
		err = s.patiently("commit", func() (err error) {
			committed, err = s.group.End(ctx, how)
			return err
		})
		if !committed {
			s.current.rewound()
		}
		if err == nil && !committed && how == kgo.TryCommit && s.shaken.Load() {
			// If the broker has lost the end of the one before, that is
			// aborted with this one, and both have to come again.
			err = errors.New("a broker was gone meanwhile")
		}
		if err == nil {
			err = s.group.Begin()
		}
	})
	if err != nil {
		return false, fmt.Errorf("end a transaction of group %s as %s: %w", s.cfg.Group, s.bound.ID, err)
	}
	return committed, nil
}

// settled asks the group whether the transaction that has ended was committed:
// its offsets and its records come together.
func (s *transactional) settled(ctx context.Context) (committed bool, err error) {
	next := s.tx.offsets()
	operation := "look up the offsets of " + s.cfg.Group
	begin, late := time.Now(), false
	for {
		offsets, unstable, err := s.offsets(ctx, slices.Collect(maps.Keys(next)))
		switch {
		case err != nil:
			return false, err
		case len(unstable) == 0:
			if late {
				s.retrying(nil)
				s.trouble.Worked(operation)
			}
			return maps.Equal(offsets, next), nil
		}
		if time.Since(begin) > slow {
			late = true
			err := heldBack(unstable)
			s.retrying(err)
			s.trouble.Failed(operation, err)
		}
		if !sleep(ctx, 50*time.Millisecond) {
			return false, context.Cause(ctx)
		}
	}
}

// heldBack is why partitions have no offsets.
func heldBack(unstable []stream.Partition) error {
	slices.SortFunc(unstable, stream.ComparePartitions)
	return fmt.Errorf("a transaction has not ended in partitions %v: %w", unstable, kerr.UnstableOffsetCommit)
}

// offsets are what the group has committed of partitions of the inputs, or of all
// of them where there are none given; those that a transaction may yet change
// are unstable instead.
func (s *session) offsets(ctx context.Context, partitions []stream.Partition) (stable map[stream.Partition]int64, unstable []stream.Partition, err error) {
	failed := func(err error) error {
		return fmt.Errorf("look up the offsets of group %s: %w", s.cfg.Group, err)
	}
	inputs, err := kadm.NewClient(s.client).Metadata(ctx, s.cfg.Inputs...)
	if err != nil {
		return nil, nil, failed(err)
	}
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = s.cfg.Group
	names := map[kadm.TopicID]string{}
	for _, name := range s.cfg.Inputs {
		input := inputs.Topics[name]
		names[input.ID] = name
		topic := kmsg.NewOffsetFetchRequestGroupTopic()
		topic.Topic, topic.TopicID = name, input.ID
		if partitions == nil {
			topic.Partitions = input.Partitions.Numbers()
		}
		for _, p := range partitions {
			if p.Topic == name {
				topic.Partitions = append(topic.Partitions, int32(p.ID))
			}
		}
		if len(topic.Partitions) > 0 { // none would mean all
			group.Topics = append(group.Topics, topic)
		}
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	req.Groups = append(req.Groups, group)
	res, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return nil, nil, failed(err)
	}
	stable = map[stream.Partition]int64{}
	for _, g := range res.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
			return nil, nil, failed(err)
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				id := stream.Partition{Topic: cmp.Or(t.Topic, names[t.TopicID]), ID: int(p.Partition)}
				switch err := kerr.ErrorForCode(p.ErrorCode); {
				case errors.Is(err, kerr.UnstableOffsetCommit):
					unstable = append(unstable, id)
				case err != nil:
					return nil, nil, failed(err)
				default:
					stable[id] = p.Offset
				}
			}
		}
	}
	return stable, unstable, nil
}

// repair puts something else in the place of what was refused, so that
// everything can be published in a new transaction. What it returns first is
// why it is worth waiting before; the second is a fault that does not pass.
func (s *transactional) repair(ctx context.Context) (again, err error) {
	tx := s.tx
	tx.mu.Lock()
	failed := tx.failed
	tx.failed = nil
	tx.mu.Unlock()
	suspects, denied := map[*output]error{}, map[*output]error{}
	for i, f := range failed {
		failed[i].err = s.refusedKeyless(ctx, f)
	}
	for _, f := range failed {
		topic := f.record.Topic
		switch {
		case s.wantsKey(f.record): // replaced below, with all others that have none
		case !f.alone && f.record.Key != nil && s.takesKeyed(topic) && errors.Is(f.err, kerr.InvalidRecord): // it was in one batch with those
		case refused(f.err):
			suspects[f.output] = f.err
		case forbidden(f.err):
			denied[f.output] = fmt.Errorf("publish to %s: %w", topic, f.err)
		case permanent(f.err):
			return nil, fmt.Errorf("publish to %s: %w", topic, f.err)
		default:
			again = fmt.Errorf("publish to %s: %w", topic, f.err)
		}
	}
	for _, o := range tx.outputs {
		if err := s.replaceKeyless(o); err != nil {
			denied[o] = refusedForGood(o, err)
		}
	}
	for o, err := range suspects {
		if !o.alone && len(suspects) > 1 {
			o.alone = true // the next time it shows who is to blame
			if tx.unsure == nil {
				tx.unsure = map[string]int64{}
			}
			tx.unsure[o.record.Topic] += o.record.Size()
			continue
		}
		tx.replaced = true
		if err := s.replace(o, err); err != nil {
			denied[o] = refusedForGood(o, err)
		}
	}
	for o, err := range denied {
		if id := o.source.Source(); tx.shares[id] != nil { // not yet, for another output
			s.withhold(id, o.record.Topic, err)
		}
	}
	return again, nil
}

// replace puts what Config.Refused makes of a refused record in its place, or
// returns why there is nothing.
func (s *transactional) replace(o *output, reason error) error {
	reason = refusal(fmt.Errorf("publish to %s: %w", o.record.Topic, reason))
	if o.replaced == maxReplacements {
		return fmt.Errorf("%w\nits replacements are refused too", reason)
	}
	r, err := s.cfg.Refused(o.source, o.record, reason)
	if err != nil {
		return errors.Join(reason, err)
	}
	if r.Topic != o.record.Topic {
		o.first = r
	}
	o.record, o.alone = r, true
	o.replaced++
	return nil
}

// patiently runs something that franz-go tries for as long as it takes, and
// tells of it when that is long.
func (s *transactional) patiently(operation string, f func() error) error {
	operation += " " + s.cfg.Group
	done, told := make(chan struct{}), make(chan bool)
	go func() {
		begin, late := time.Now(), false
		defer func() { told <- late }()
		for {
			t := time.NewTimer(slow)
			select {
			case <-done:
				t.Stop()
				return
			case <-t.C:
				late = true
				err := s.conns.Explain(fmt.Errorf("no answer from the broker for %v", time.Since(begin).Round(time.Second)))
				s.retrying(err)
				s.trouble.Failed(operation, err)
			}
		}
	}()
	err := f()
	close(done)
	if late := <-told; late && err == nil {
		s.retrying(nil)
		s.trouble.Worked(operation)
	}
	return err
}

// retrying tells the observer of every partition in the transaction.
func (s *transactional) retrying(err error) {
	for id := range s.tx.shares {
		s.cfg.Observer.Retrying(id, stream.Publishing, err)
	}
}
