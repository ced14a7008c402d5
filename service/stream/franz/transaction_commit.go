package franz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/internal/retry"
	"inceptor/service/stream"
)

// slowAfter is after how long the log says that a broker does not answer.
const slowAfter = 2 * time.Second

// commit commits the transaction, with as many attempts as it takes. It returns once
// everything is committed that is not withheld, or with an error that ends the
// session.
func (tx *transaction) commit(ctx context.Context) error {
	operation := "commit to " + tx.cfg.Group
	pause := retry.NewBackoff(20*time.Millisecond, time.Second)
	for failed := false; ; failed = true {
		committed, again, err := tx.attempt(ctx)
		if err != nil {
			return err
		}
		if committed && failed {
			tx.retrying(nil)
			tx.outages.Recovered(operation)
		}
		if committed || len(tx.covered) == 0 { // all are withheld
			return nil
		}
		tx.restart()
		if again != nil {
			tx.retrying(again)
			tx.outages.Failed(operation, again)
			if !retry.Sleep(ctx, pause.NextBackOff()) {
				return context.Cause(ctx)
			}
		}
	}
}

// attempt publishes everything and ends the transaction. again is a reason to pause
// before the next attempt.
func (tx *transaction) attempt(ctx context.Context) (committed bool, again, err error) {
	if err := tx.publish(ctx); err != nil {
		return false, nil, err
	}
	if err := tx.flush(ctx); err != nil {
		return false, nil, err
	}
	if tx.hasFailed() {
		again, err = tx.repair(ctx)
		_, endErr := tx.end(ctx, kgo.TryAbort)
		return false, again, cmp.Or(err, endErr)
	}
	committed, err = tx.end(ctx, kgo.TryCommit)
	if err == nil && !committed {
		committed, err = tx.wasCommitted(ctx)
	}
	if err == nil && !committed {
		again = errors.New("the transaction was aborted")
	}
	return committed, again, err
}

// end ends the transaction and begins the next one. Without an error it has ended.
// It may be committed though end returns false: a broker may do what it is asked and
// answer that it does not know.
func (tx *transaction) end(ctx context.Context, how kgo.TransactionEndTry) (committed bool, err error) {
	if how == kgo.TryCommit && tx.byName.Load() { // what was read may be of another topic
		if err := tx.checkTopics(ctx, tx.client); err != nil {
			return false, err
		}
	}
	next := tx.offsets()
	ctx = kgo.PreTxnCommitFnContext(ctx, func(req *kmsg.TxnOffsetCommitRequest) error {
		tx.rewrite(req, next)
		return nil
	})
	tx.polls.exclusive(func() {
		err = tx.reportSlow("commit", func() (err error) {
			committed, err = tx.group.End(ctx, how)
			return err
		})
		if !committed {
			tx.generation.rewound()
		}
		if err == nil && !committed && how == kgo.TryCommit && tx.brokerLost.Load() {
			// If the broker has lost the end of the transaction before, that one is
			// aborted with this one. Both have to be published again.
			err = errors.New("a broker could not be reached meanwhile")
		}
		if err == nil {
			err = tx.group.Begin()
		}
	})
	if err != nil {
		return false, fmt.Errorf("end a transaction of group %s as %s: %w", tx.cfg.Group, tx.id, err)
	}
	return committed, nil
}

// rewrite puts these offsets into a request, in the place of those that were polled.
func (tx *transaction) rewrite(req *kmsg.TxnOffsetCommitRequest, next map[stream.Partition]int64) {
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
		metadata := tx.generation.partitions[id].position(offset).Metadata(tx.inputs.cluster())
		p.Partition, p.Offset, p.Metadata = int32(id.ID), offset, &metadata
		topic.Partitions = append(topic.Partitions, p)
	}
	req.Topics = req.Topics[:0]
	for _, topic := range topics {
		if len(topic.Partitions) > 0 {
			req.Topics = append(req.Topics, *topic)
		}
	}
}

// wasCommitted asks the group whether the transaction that has ended was committed:
// its offsets are committed if and only if its outputs are.
func (tx *transaction) wasCommitted(ctx context.Context) (bool, error) {
	next := tx.offsets()
	operation := "look up the offsets of " + tx.cfg.Group
	begin, late := time.Now(), false
	for {
		offsets, unstable, err := groupOffsets(ctx, tx.client, tx.cfg, slices.Collect(maps.Keys(next)))
		switch {
		case err != nil:
			return false, err
		case len(unstable) == 0:
			if late {
				tx.retrying(nil)
				tx.outages.Recovered(operation)
			}
			return maps.Equal(offsets, next), nil
		}
		if time.Since(begin) > slowAfter {
			late = true
			err := errUnstable(unstable)
			tx.retrying(err)
			tx.outages.Failed(operation, err)
		}
		if !retry.Sleep(ctx, 50*time.Millisecond) {
			return false, context.Cause(ctx)
		}
	}
}

// reportSlow runs something that franz-go tries for as long as it takes. It reports
// if that takes longer than slowAfter.
func (tx *transaction) reportSlow(operation string, f func() error) error {
	operation += " " + tx.cfg.Group
	done, slow := make(chan struct{}), make(chan bool)
	go func() {
		begin, late := time.Now(), false
		defer func() { slow <- late }()
		for {
			t := time.NewTimer(slowAfter)
			select {
			case <-done:
				t.Stop()
				return
			case <-t.C:
				late = true
				err := tx.conns.Explain(fmt.Errorf("no answer from the broker for %v", time.Since(begin).Round(time.Second)))
				tx.retrying(err)
				tx.outages.Failed(operation, err)
			}
		}
	}()
	err := f()
	close(done)
	if late := <-slow; late && err == nil {
		tx.retrying(nil)
		tx.outages.Recovered(operation)
	}
	return err
}

// retrying tells the observer of every partition in the transaction.
func (tx *transaction) retrying(err error) {
	for id := range tx.covered {
		tx.cfg.Observer.Retrying(id, stream.Publishing, err)
	}
}
