package franz

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
)

// batchBytes is what may go to one partition between two flushes, and so in one
// batch. It is well below the 1 MiB that topics take by default. A larger record
// goes alone.
const batchBytes = 512 << 10

// A transaction publishes outputs, and commits them together with the offsets of
// the records that caused them. It keeps everything until it is committed: if it
// is aborted, everything is published again. The session's loop alone uses it, but
// for fail.
type transaction struct {
	// Set once.
	*transactor
	generation *generation
	withheld   *withheldPartitions // stay out of it; of the generation
	topics     *topicRules         // of the generation

	// What it covers.
	outputs []*output
	covered map[stream.Partition]*covered
	records int
	bytes   int64     // of records and outputs
	since   time.Time // when the first was added

	// What the client has of it.
	sent      int                   // outputs given to the client since the last begin
	unflushed map[destination]int64 // bytes given since the last flush, which may share a batch

	suspectBytes map[string]int64 // of outputs that were refused together, by topic
	replaced     bool             // an output was refused alone, too

	mu     sync.Mutex
	failed []failure // guarded by mu
}

// A destination is a partition of an output topic.
type destination struct {
	topic     string
	partition int32
}

// An output is one record to publish and the one that caused it.
type output struct {
	flight.Output
	alone bool // in its batch, because a batch with it was refused
}

// A failure is an output that was not written, and the reason.
type failure struct {
	*output
	err error
}

// covered is what one commit covers of a partition.
type covered struct {
	next    int64 // offset to commit
	records int
	first   int64 // offset of the first of records
	last    int64 // offset of the last one
	bytes   int64 // of records and outputs
	charges []*flight.Charge
}

// release gives back the memory of what is committed.
func (c *covered) release() {
	for _, charge := range c.charges {
		charge.Release()
	}
}

// chargesOf takes the charges from a stretch: its records are needed for longer than
// they are in the window.
func chargesOf(stretch flight.Stretch) (charges []*flight.Charge) {
	for _, slot := range stretch.Slots {
		switch c := slot.Charge; {
		case c == nil:
		case len(charges) > 0 && charges[len(charges)-1] == c: // one reference is enough
			continue
		default:
			charges = append(charges, c)
		}
		slot.Charge = nil
	}
	return charges
}

// newTransaction returns an empty transaction.
func newTransaction(t *transactor, g *generation, w *withheldPartitions, topics *topicRules) *transaction {
	return &transaction{
		transactor: t, generation: g, withheld: w, topics: topics,
		covered: map[stream.Partition]*covered{}, unflushed: map[destination]int64{},
	}
}

// add lets the transaction cover more of a partition.
func (tx *transaction) add(id stream.Partition, more covered, outputs []*output) {
	if len(tx.covered) == 0 {
		tx.since = time.Now()
	}
	c := tx.covered[id]
	if c == nil {
		c = &covered{}
		tx.covered[id] = c
	}
	c.next = more.next
	if more.records > 0 {
		if c.records == 0 {
			c.first = more.first
		}
		c.last = more.last
	}
	c.records += more.records
	c.bytes += more.bytes
	c.charges = append(c.charges, more.charges...)
	tx.records += more.records
	tx.bytes += more.bytes
	tx.outputs = append(tx.outputs, outputs...)
}

// remove removes a partition from the transaction, and returns what it had there.
func (tx *transaction) remove(id stream.Partition) (covered, []*output) {
	var removed, rest []*output
	for _, o := range tx.outputs {
		if o.Source.Source() == id {
			removed = append(removed, o)
		} else {
			rest = append(rest, o)
		}
	}
	had := covered{}
	if c := tx.covered[id]; c != nil {
		had = *c
	}
	delete(tx.covered, id)
	tx.outputs = rest
	tx.records -= had.records
	tx.bytes -= had.bytes
	return had, removed
}

// offsets returns the offsets that it commits.
func (tx *transaction) offsets() map[stream.Partition]int64 {
	offsets := make(map[stream.Partition]int64, len(tx.covered))
	for id, c := range tx.covered {
		offsets[id] = c.next
	}
	return offsets
}

// publish gives the outputs to the client that it does not have yet. It stops at
// the first that fails, which commit repairs.
func (tx *transaction) publish(ctx context.Context) error {
	if tx.sent == 0 && len(tx.outputs) > 0 && tx.brokerLost.Load() {
		if err := tx.endHanging(ctx); err != nil {
			return err
		}
	}
	for ; tx.sent < len(tx.outputs); tx.sent++ {
		if err := tx.send(ctx, tx.outputs[tx.sent]); err != nil {
			return err
		}
		if tx.hasFailed() {
			return nil
		}
	}
	return nil
}

// send gives one output to the client.
func (tx *transaction) send(ctx context.Context, o *output) error {
	if err := tx.replaceKeyless(o); err != nil {
		tx.fail(o, fmt.Errorf("%w: %w", kerr.InvalidRecord, err))
		return nil
	}
	n, err := tx.partitions(ctx, o)
	if forbidden(err) {
		tx.fail(o, err)
		return nil
	}
	if err != nil {
		return err
	}
	r := &kgo.Record{
		Topic: o.Record.Topic, Partition: int32(o.Source.Partition % n),
		Key: o.Record.Key, Value: o.Record.Value, Timestamp: o.Record.Time,
	}
	for _, h := range o.Record.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	to, size := destination{r.Topic, r.Partition}, o.Record.Size()
	if o.alone || tx.unflushed[to] > 0 && tx.unflushed[to]+size > tx.topics.batchBytes(r.Topic) {
		if err := tx.flush(ctx); err != nil {
			return err
		}
	}
	tx.unflushed[to] += size
	tx.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		if err != nil {
			tx.fail(o, err)
		}
	})
	if o.alone {
		return tx.flush(ctx)
	}
	return nil
}

// flush waits until the broker has acknowledged or refused what the client has.
func (tx *transaction) flush(ctx context.Context) error {
	clear(tx.unflushed)
	return tx.reportSlow("publish", func() error { return tx.client.Flush(ctx) })
}

// partitions returns how many partitions an output's topic has. The number decides
// where the outputs of a partition go, and so must not change: it is looked up once
// in a generation.
func (tx *transaction) partitions(ctx context.Context, o *output) (int, error) {
	topic := o.Record.Topic
	operation := "publish to " + topic
	admin := kadm.NewClient(tx.client)
	pause := retry.NewBackoff(50*time.Millisecond, time.Second)
	for failed := false; ; failed = true {
		if n := tx.topics.partitions[topic]; n > 0 {
			if failed {
				tx.cfg.Observer.Retrying(o.Source.Source(), stream.Publishing, nil)
				tx.outages.Recovered(operation)
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
			tx.topics.partitions[topic] = len(res.Topics[topic].Partitions)
			continue
		case err == nil:
			err = kerr.LeaderNotAvailable
		case permanent(err):
			return 0, explain(tx.cfg, fmt.Errorf("publish to %s: %w", topic, err), tx.id, "Write", topic)
		}
		tx.cfg.Observer.Retrying(o.Source.Source(), stream.Publishing, err)
		tx.outages.Failed(operation, err)
		if !retry.Sleep(ctx, pause.NextBackOff()) {
			return 0, context.Cause(ctx)
		}
	}
}

// restart lets everything be published again, in a new transaction.
func (tx *transaction) restart() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.sent, tx.failed = 0, nil
}

// fail notes that an output was not written. The client calls it from a goroutine
// of its own.
func (tx *transaction) fail(o *output, err error) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.failed = append(tx.failed, failure{o, err})
}

// takeFailed returns the outputs that were not written, and forgets them.
func (tx *transaction) takeFailed() []failure {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	failed := tx.failed
	tx.failed = nil
	return failed
}

func (tx *transaction) hasFailed() bool {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return len(tx.failed) > 0
}
