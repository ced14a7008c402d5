package franz

import (
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

	"inceptor/service/stream"
)

// batchBytes is what may go to one partition between two flushes, and so in one
// batch: well below the 1 MiB that topics take by default. A larger record goes
// alone.
const batchBytes = 512 << 10

// transactional delivers exactly once: outputs and offsets are committed
// together.
type transactional struct {
	*session
	group    *kgo.GroupTransactSession
	tx       *transaction                   // of the current generation
	withheld map[stream.Partition]*withheld // partitions that stay out of its transactions
	begun    bool                           // franz-go is in a transaction, always after the first generation
	lastEnd  time.Time                      // of a transaction
	counts   map[string]int                 // of partitions of each output topic, known for one generation
	limits   map[string]int64               // of bytes that an output topic takes together, where one has shown

	compacted map[string]time.Time // output topics that take no record without a key, and until when that holds
}

func (s *transactional) open(opts []kgo.Opt) (*kgo.Client, error) {
	group, err := kgo.NewGroupTransactSession(append(opts,
		kgo.TransactionalID(s.bound.ID),
		kgo.TransactionTimeout(s.bound.Timeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(compression(s.cfg.Compression)),
		kgo.ProducerBatchMaxBytes(maxRequest),
		kgo.ProduceRequestTimeout(produceTimeout),
		kgo.UnknownTopicRetries(-1),
	)...)
	if err != nil {
		return nil, err
	}
	s.group = group
	return group.Client(), nil
}

// begin begins a transaction for a generation.
func (s *transactional) begin(ctx context.Context, g *generation) (err error) {
	// A rebalance leaves a note that makes the next transaction an aborted
	// one. Nothing is in it here, and it is better spent.
	s.turn.alone(func() {
		if s.begun {
			_, err = s.group.End(ctx, kgo.TryAbort)
			g.rewound()
		}
		if err == nil && (!s.begun || s.shaken.Load()) {
			err = s.endOrphan(ctx)
		}
		if err == nil {
			err = s.group.Begin()
		}
		s.begun = true
	})
	if err != nil {
		return fmt.Errorf("begin a transaction as %s: %w", s.bound.ID, err)
	}
	s.tx, s.withheld = newTransaction(), map[stream.Partition]*withheld{}
	s.counts, s.limits, s.compacted = map[string]int{}, map[string]int64{}, map[string]time.Time{}
	return nil
}

func (s *transactional) drained() bool { return s.tx.drained == len(s.current.partitions) }

func (s *transactional) finish(ctx context.Context) error {
	if err := s.collect(); err != nil {
		return err
	}
	return s.commit(ctx)
}

func (s *transactional) abandon() (left int) {
	left = s.tx.records
	for _, w := range s.withheld {
		if !w.tried { // else it is counted with the transaction
			left += w.records
		}
	}
	s.tx, s.withheld = nil, nil
	return left
}

// A transaction holds what was collected since the last commit: all of it is
// needed until the next one, for an aborted transaction is published again.
type transaction struct {
	outputs []*output
	handed  int                         // outputs given to the client since the last begin
	shares  map[stream.Partition]*share // what it covers, by partition
	records int                         // that it covers
	bytes   int64                       // of records and outputs
	begin   time.Time                   // when the first was collected
	drained int                         // partitions that have nothing more to give

	together map[destination]int64 // bytes handed over since the last flush, which may share a batch

	unsure   map[string]int64 // bytes of outputs that were refused together, by topic
	replaced bool             // one of them alone, too

	mu     sync.Mutex
	failed []failure
}

func newTransaction() *transaction {
	return &transaction{shares: map[stream.Partition]*share{}, together: map[destination]int64{}}
}

// A destination is a partition of an output topic.
type destination struct {
	topic     string
	partition int32
}

// An output is one record to publish and the one that caused it.
type output struct {
	source, record stream.Record
	first          stream.Record // for the topic of record, before anything was refused
	replaced       int           // how many times, since first
	alone          bool          // in its batch, for it was in one that was refused
}

type failure struct {
	*output
	err error
}

// step collects, publishes, and commits if it is time to. It tells when it
// should be called again, if nothing happens before.
func (s *transactional) step(ctx context.Context) (wait time.Duration, err error) {
	s.again(time.Now())
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
func (s *transactional) collect() error {
	tx := s.tx
	tx.drained = 0
	for id, p := range s.current.partitions {
		if s.withheld[id] != nil {
			tx.drained++ // what is behind it cannot be committed before it
			continue
		}
		if tx.records >= s.bound.Records || s.cfg.Window.Bytes > 0 && tx.bytes >= s.cfg.Window.Bytes {
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
		p.collect(run.Next)
		bytes, more := int64(0), int64(0)
		var outputs []*output
		for _, slot := range run.Slots {
			bytes += slot.Record.Size()
			for _, r := range slot.Outputs {
				outputs = append(outputs, &output{source: slot.Record, record: r, first: r})
				more += r.Size()
			}
		}
		records := len(run.Slots)
		covered := share{next: run.Next, records: records, bytes: bytes + more, charges: chargesOf(run)}
		p.flight.Release(run)
		tx.add(id, covered, outputs)
		if records > 0 {
			s.cfg.Observer.InFlight(-records, -bytes)
		}
	}
	return nil
}

// add lets the transaction cover more of a partition.
func (tx *transaction) add(id stream.Partition, more share, outputs []*output) {
	if len(tx.shares) == 0 {
		tx.begin = time.Now()
	}
	s := tx.shares[id]
	if s == nil {
		s = &share{}
		tx.shares[id] = s
	}
	s.next = more.next
	s.records += more.records
	s.bytes += more.bytes
	s.charges = append(s.charges, more.charges...)
	tx.records += more.records
	tx.bytes += more.bytes
	tx.outputs = append(tx.outputs, outputs...)
}

// offsets are those that it commits.
func (tx *transaction) offsets() map[stream.Partition]int64 {
	offsets := make(map[stream.Partition]int64, len(tx.shares))
	for id, s := range tx.shares {
		offsets[id] = s.next
	}
	return offsets
}

// due tells how long the transaction may still wait for more.
func (s *transactional) due() time.Duration {
	tx := s.tx
	switch interval := s.bound.Interval; {
	case len(tx.shares) == 0:
		return s.nextTry()
	case tx.hasFailed():
		return 0
	case tx.records >= s.bound.Records, s.cfg.Window.Bytes > 0 && tx.bytes >= s.cfg.Window.Bytes:
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
func (s *transactional) publish(ctx context.Context) error {
	tx := s.tx
	if tx.handed == 0 && len(tx.outputs) > 0 && s.shaken.Load() {
		if err := s.endOrphan(ctx); err != nil {
			return err
		}
	}
	for ; tx.handed < len(tx.outputs); tx.handed++ {
		o := tx.outputs[tx.handed]
		if err := s.replaceKeyless(o); err != nil {
			tx.fail(o, fmt.Errorf("%w: %w", kerr.InvalidRecord, err))
			return nil // the commit makes something of it
		}
		n, err := s.partitions(ctx, o)
		if forbidden(err) {
			tx.fail(o, err)
			return nil // the commit makes something of it
		}
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
				tx.fail(o, err)
			}
		})
		if o.alone {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
		if tx.hasFailed() {
			return nil
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

func (tx *transaction) fail(o *output, err error) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.failed = append(tx.failed, failure{o, err})
}

func (tx *transaction) hasFailed() bool {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return len(tx.failed) > 0
}

// flush waits until the broker has acknowledged, or refused, what was handed
// to the client.
func (s *transactional) flush(ctx context.Context) error {
	clear(s.tx.together)
	return s.patiently("publish", func() error { return s.client.Flush(ctx) })
}

// partitions counts those of an output's topic, once in a generation: the
// count decides where the outputs of a partition go, and must not change under
// way.
func (s *transactional) partitions(ctx context.Context, o *output) (int, error) {
	topic := o.record.Topic
	operation := "publish to " + topic
	admin := kadm.NewClient(s.client)
	pause := backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, MaxInterval: time.Second, Multiplier: 2, RandomizationFactor: 0.5}
	for failed := false; ; failed = true {
		if n := s.counts[topic]; n > 0 {
			if failed {
				s.cfg.Observer.Retrying(o.source.Source(), stream.Publishing, nil)
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
			return 0, explain(s.cfg, fmt.Errorf("publish to %s: %w", topic, err), s.bound.ID, "Write", topic)
		}
		s.cfg.Observer.Retrying(o.source.Source(), stream.Publishing, err)
		s.trouble.Failed(operation, err)
		if !sleep(ctx, pause.NextBackOff()) {
			return 0, context.Cause(ctx)
		}
	}
}
