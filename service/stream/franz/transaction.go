package franz

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"inceptor/service/stream"
)

const (
	// batchBytes is what may go to one partition between two flushes, and so
	// in one batch: well below the 1 MiB that topics take by default. A larger
	// record goes alone.
	batchBytes = 512 << 10

	// maxReplacements ends what would go on for ever if each replacement were
	// refused as well.
	maxReplacements = 3

	// slow is after how long a broker that does not answer is told of.
	slow = 2 * time.Second
)

// A transaction holds what was collected since the last commit: all of it is
// needed until the next one, for an aborted transaction is published again.
type transaction struct {
	outputs []*output
	handed  int             // outputs given to the client since the last begin
	next    map[int32]int64 // offsets to commit
	inputs  int             // records that it covers
	bytes   int64           // of records and outputs
	begin   time.Time       // when the first was collected
	drained int             // partitions that have nothing more to give

	together map[destination]int64 // bytes handed over since the last flush, which may share a batch

	unsure   map[string]int64 // bytes of outputs that were refused together, by topic
	replaced bool             // one of them alone, too

	mu     sync.Mutex
	failed []failure
}

func newTransaction() *transaction {
	return &transaction{together: map[destination]int64{}}
}

// A destination is a partition of an output topic.
type destination struct {
	topic     string
	partition int32
}

// An output is one record to publish and the one that caused it.
type output struct {
	source, record stream.Record
	replaced       int  // how many times
	alone          bool // in its batch, for it was in one that was refused
}

type failure struct {
	*output
	err error
}

// step collects, publishes, and commits if it is time to. It tells when it
// should be called again, if nothing happens before.
func (s *session) step(ctx context.Context) (wait time.Duration, err error) {
	if err := s.collect(); err != nil {
		return 0, err
	}
	if err := s.publish(ctx); err != nil {
		return 0, err
	}
	wait = s.due()
	if wait > 0 {
		return wait, nil
	}
	return 0, s.commit(ctx) // there may have been more than one takes
}

// collect takes what is finished out of the windows.
func (s *session) collect() error {
	tx := s.tx
	tx.drained = 0
	for id, p := range s.current.partitions {
		if tx.inputs >= s.bound.Records || s.cfg.Window.Bytes > 0 && tx.bytes >= s.cfg.Window.Bytes {
			return nil
		}
		run, err := p.flight.Ready()
		if errors.Is(err, io.EOF) {
			tx.drained++
			continue
		}
		if err != nil {
			return err
		}
		if run.Slots == nil && run.Next == 0 {
			continue
		}
		if tx.next == nil {
			tx.next, tx.begin = map[int32]int64{}, time.Now()
		}
		tx.next[id] = run.Next
		p.collect(run.Next)
		bytes := int64(0)
		for _, slot := range run.Slots {
			bytes += slot.Record.Size()
			for _, r := range slot.Outputs {
				tx.outputs = append(tx.outputs, &output{source: slot.Record, record: r})
				tx.bytes += r.Size()
			}
		}
		records := len(run.Slots)
		p.flight.Release(run)
		tx.inputs += records
		tx.bytes += bytes
		if records > 0 {
			s.cfg.Observer.InFlight(-records, -bytes)
		}
	}
	return nil
}

// due tells how long the transaction may still wait for more.
func (s *session) due() time.Duration {
	tx := s.tx
	switch interval := s.bound.Interval; {
	case tx.next == nil:
		return time.Hour
	case tx.hasFailed():
		return 0
	case tx.inputs >= s.bound.Records, s.cfg.Window.Bytes > 0 && tx.bytes >= s.cfg.Window.Bytes:
		return 0
	case s.current.idle():
		// Nothing to wait for; but not one transaction after the other
		// where records come one by one.
		return max(0, time.Until(s.lastEnd.Add(interval/10)))
	default:
		return max(0, time.Until(tx.begin.Add(interval)))
	}
}

// publish hands to the client what was not yet.
func (s *session) publish(ctx context.Context) error {
	tx := s.tx
	for ; tx.handed < len(tx.outputs); tx.handed++ {
		o := tx.outputs[tx.handed]
		n, err := s.partitions(ctx, o)
		if err != nil {
			return err
		}
		r := &kgo.Record{
			Topic: o.record.Topic, Partition: int32(o.source.Partition % n),
			Key: o.record.Key, Value: o.record.Value, Timestamp: o.record.Time,
		}
		for _, h := range o.record.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		limit := int64(batchBytes)
		if known := s.limits[r.Topic]; known > 0 {
			limit = min(limit, known)
		}
		to, size := destination{r.Topic, r.Partition}, o.record.Size()
		if o.alone || tx.together[to] > 0 && tx.together[to]+size > limit {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
		tx.together[to] += size
		s.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				tx.mu.Lock()
				defer tx.mu.Unlock()
				tx.failed = append(tx.failed, failure{o, err})
			}
		})
		if o.alone {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
		if tx.hasFailed() {
			return nil // the commit makes something of it
		}
	}
	return nil
}

// restart lets everything be published anew.
func (tx *transaction) restart() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.handed, tx.failed = 0, nil
}

func (tx *transaction) hasFailed() bool {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return len(tx.failed) > 0
}

// flush waits until the broker has acknowledged, or refused, what was handed
// to the client.
func (s *session) flush(ctx context.Context) error {
	clear(s.tx.together)
	return s.patiently("publish", func() error { return s.client.Flush(ctx) })
}

// partitions counts those of an output's topic, once in a generation: the
// count decides where the outputs of a partition go, and must not change under
// way.
func (s *session) partitions(ctx context.Context, o *output) (int, error) {
	topic := o.record.Topic
	operation := "publish to " + topic
	admin := kadm.NewClient(s.client)
	pause := backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, MaxInterval: time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	for failed := false; ; failed = true {
		if n := s.counts[topic]; n > 0 {
			if failed {
				s.cfg.Observer.Retrying(o.source.Partition, nil)
				s.trouble.Worked(operation)
			}
			return n, nil
		}
		res, err := admin.Metadata(ctx, topic)
		if err == nil {
			err = res.Topics[topic].Err
		}
		switch {
		case ctx.Err() != nil:
			return 0, context.Cause(ctx)
		case err == nil && len(res.Topics[topic].Partitions) > 0:
			s.counts[topic] = len(res.Topics[topic].Partitions)
			continue
		case err == nil:
			err = kerr.LeaderNotAvailable
		case permanent(err):
			return 0, fmt.Errorf("publish to %s: %w", topic, err)
		}
		s.cfg.Observer.Retrying(o.source.Partition, err)
		s.trouble.Failed(operation, err)
		if !sleep(ctx, pause.NextBackOff()) {
			return 0, context.Cause(ctx)
		}
	}
}

// commit ends the transaction, again and again if need be: it returns once
// what was collected is committed, or with an error that ends the session.
func (s *session) commit(ctx context.Context) error {
	tx := s.tx
	if tx.next == nil {
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
			again, err = s.repair()
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
	took, published := time.Since(tx.begin), map[int]int{}
	for _, o := range tx.outputs {
		published[o.source.Partition]++
	}
	for _, n := range published {
		s.cfg.Observer.Published(n, took)
	}
	for id, next := range tx.next {
		s.current.partitions[id].commit(next)
	}
	s.tx = newTransaction()
	s.tx.drained = tx.drained
	return nil
}

// endTransaction ends the transaction and begins the next one. Without an
// error it is over, though perhaps committed when franz-go does not say so: a
// broker may do what it is asked and answer that it does not know.
func (s *session) endTransaction(ctx context.Context, how kgo.TransactionEndTry) (committed bool, err error) {
	next := s.tx.next
	ctx = kgo.PreTxnCommitFnContext(ctx, func(req *kmsg.TxnOffsetCommitRequest) error {
		topic := kmsg.NewTxnOffsetCommitRequestTopic()
		topic.Topic = s.cfg.Input
		if len(req.Topics) > 0 {
			topic.TopicID = req.Topics[0].TopicID
		}
		for id, offset := range next {
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.Metadata = id, offset, &req.MemberID
			topic.Partitions = append(topic.Partitions, p)
		}
		req.Topics = append(req.Topics[:0], topic)
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
func (s *session) settled(ctx context.Context) (committed bool, err error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	group := kmsg.NewOffsetFetchRequestGroup()
	group.Group = s.cfg.Group
	topic := kmsg.NewOffsetFetchRequestGroupTopic()
	topic.Topic = s.cfg.Input
	for id := range s.tx.next {
		topic.Partitions = append(topic.Partitions, id)
	}
	if ids, err := kadm.NewClient(s.client).Metadata(ctx, s.cfg.Input); err == nil {
		topic.TopicID = ids.Topics[s.cfg.Input].ID
	}
	group.Topics = append(group.Topics, topic)
	req.Groups = append(req.Groups, group)
	for {
		res, err := req.RequestWith(ctx, s.client)
		if err != nil {
			return false, fmt.Errorf("look up the offsets of group %s: %w", s.cfg.Group, err)
		}
		committed, err = sameOffsets(res, s.tx.next)
		if errors.Is(err, kerr.UnstableOffsetCommit) && sleep(ctx, 50*time.Millisecond) {
			continue
		}
		if err != nil {
			err = fmt.Errorf("look up the offsets of group %s: %w", s.cfg.Group, err)
		}
		return committed, err
	}
}

func sameOffsets(res *kmsg.OffsetFetchResponse, want map[int32]int64) (same bool, err error) {
	seen := 0
	for _, g := range res.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
			return false, err
		}
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return false, err
				}
				if p.Offset == want[p.Partition] {
					seen++
				}
			}
		}
	}
	return seen == len(want), nil
}

// repair puts something else in the place of what was refused, so that
// everything can be published in a new transaction. What it returns first is
// why it is worth waiting before; the second is a fault that does not pass.
func (s *session) repair() (again, err error) {
	tx := s.tx
	tx.mu.Lock()
	failed := tx.failed
	tx.failed = nil
	tx.mu.Unlock()
	suspects := map[*output]error{}
	for _, f := range failed {
		topic := f.record.Topic
		switch {
		case refused(f.err):
			suspects[f.output] = f.err
		case permanent(f.err):
			return nil, fmt.Errorf("publish to %s: %w", topic, f.err)
		default:
			again = fmt.Errorf("publish to %s: %w", topic, f.err)
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
			return nil, err
		}
	}
	return again, nil
}

// replace puts what Config.Refused makes of a refused record in its place.
func (s *session) replace(o *output, reason error) error {
	reason = refusal(fmt.Errorf("publish to %s: %w", o.record.Topic, reason))
	if o.replaced == maxReplacements {
		return &foreverError{fmt.Errorf("the replacement for what offset %d of %s-%d caused is refused too: %w",
			o.source.Offset, o.source.Topic, o.source.Partition, reason)}
	}
	r, err := s.cfg.Refused(o.source, o.record, reason)
	if err != nil {
		return &foreverError{fmt.Errorf("what offset %d of %s-%d caused is refused: %w",
			o.source.Offset, o.source.Topic, o.source.Partition, errors.Join(reason, err))}
	}
	o.record, o.alone = r, true
	o.replaced++
	return nil
}

// patiently runs something that franz-go tries for as long as it takes, and
// tells of it when that is long.
func (s *session) patiently(operation string, f func() error) error {
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
				err := s.reach.wrap("no answer from the broker for %v", time.Since(begin).Round(time.Second))
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
func (s *session) retrying(err error) {
	for id := range s.tx.next {
		s.cfg.Observer.Retrying(int(id), err)
	}
}
