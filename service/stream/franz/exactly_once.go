package franz

import (
	"context"
	"errors"
	"io"
	"time"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
)

// exactlyOnce delivers exactly once: it collects what the handlers have finished
// into a transaction, and decides when that is committed. The session's loop alone
// uses it.
type exactlyOnce struct {
	// Set once.
	*sessionContext
	limits     Transaction
	transactor *transactor

	// Of the session's loop.
	generation *generation
	tx         *transaction
	withheld   *withheldPartitions
	exhausted  int       // partitions that have nothing more to give
	lastEnd    time.Time // of a transaction
}

// begin begins a transaction for a generation.
func (e *exactlyOnce) begin(ctx context.Context, g *generation) error {
	if err := e.transactor.begin(ctx, g); err != nil {
		return err
	}
	e.generation = g
	e.withheld = &withheldPartitions{cfg: e.cfg, outages: e.outages, generation: g, of: map[stream.Partition]*withheld{}}
	e.tx = newTransaction(e.transactor, g, e.withheld, newTopicRules())
	return nil
}

// step collects, publishes, and commits if it is time to.
func (e *exactlyOnce) step(ctx context.Context) (wait time.Duration, err error) {
	e.withheld.retry(e.tx, time.Now())
	if err := e.collect(); err != nil {
		return 0, err
	}
	if err := e.tx.publish(ctx); err != nil {
		return 0, err
	}
	wait = e.due()
	if wait > 0 {
		return wait, nil
	}
	return 0, e.commit(ctx) // there may be more than one transaction takes
}

func (e *exactlyOnce) drained() bool { return e.exhausted == len(e.generation.partitions) }

func (e *exactlyOnce) finish(ctx context.Context) error {
	if err := e.collect(); err != nil {
		return err
	}
	return e.commit(ctx)
}

func (e *exactlyOnce) abandon() (left int) {
	left = e.tx.records + e.withheld.records()
	e.generation, e.tx, e.withheld = nil, nil, nil
	return left
}

// collect takes what is finished out of the windows.
func (e *exactlyOnce) collect() error {
	e.exhausted = 0
	for id, p := range e.generation.partitions {
		if e.withheld.of[id] != nil {
			e.exhausted++ // what follows it cannot be committed before it
			continue
		}
		if e.full() {
			return nil
		}
		stretch, err := p.flight.Ready()
		if errors.Is(err, io.EOF) {
			e.exhausted++
			continue
		}
		if err != nil {
			return err
		}
		if stretch.Slots == nil && stretch.Next == 0 {
			continue
		}
		p.progress.collect(stretch.Next)
		bytes, more := int64(0), int64(0)
		var outputs []*output
		for _, slot := range stretch.Slots {
			bytes += slot.Record.Size()
			for _, r := range slot.Outputs {
				outputs = append(outputs, &output{Output: flight.NewOutput(slot.Record, r)})
				more += r.Size()
			}
		}
		records := len(stretch.Slots)
		added := covered{next: stretch.Next, records: records, bytes: bytes + more, charges: chargesOf(stretch)}
		if records > 0 {
			added.first, added.last = stretch.Slots[0].Record.Offset, stretch.Slots[records-1].Record.Offset
		}
		p.flight.Release(stretch)
		e.tx.add(id, added, outputs)
		if records > 0 {
			e.cfg.Observer.InFlight(id, -records, -bytes)
		}
	}
	return nil
}

// full reports whether the transaction should take no more.
func (e *exactlyOnce) full() bool {
	return e.tx.records >= e.limits.Records || e.cfg.Window.Bytes > 0 && e.tx.bytes >= e.cfg.Window.Bytes
}

// due returns how long the transaction may still wait for more.
func (e *exactlyOnce) due() time.Duration {
	switch {
	case len(e.tx.covered) == 0:
		return e.withheld.nextTry()
	case e.tx.hasFailed(), e.full():
		return 0
	case e.generation.idle():
		// There is nothing to wait for. But where records come one by one, not
		// each makes a transaction.
		return max(0, time.Until(e.lastEnd.Add(e.limits.Interval/10)))
	default:
		return max(0, time.Until(e.tx.since.Add(e.limits.Interval)))
	}
}

// commit commits the transaction, reports that, and begins with an empty one.
func (e *exactlyOnce) commit(ctx context.Context) error {
	tx := e.tx
	if len(tx.covered) == 0 {
		return nil
	}
	if err := tx.commit(ctx); err != nil {
		return err
	}
	tx.learnLimits()
	e.lastEnd = time.Now()
	took, published := time.Since(tx.since), map[stream.Partition]int{}
	for _, o := range tx.outputs {
		published[o.Source.Source()]++
		e.cfg.Observer.Acknowledged(o.Source)
	}
	for _, n := range published {
		e.cfg.Observer.Published(n, took)
	}
	for id, c := range tx.covered {
		if c.records > 0 {
			e.cfg.Observer.Delivered(id, c.first, c.last)
		}
	}
	for id, next := range tx.offsets() {
		p := e.generation.partitions[id]
		e.positions.set(id, p.position(next))
		p.progress.commit(next)
	}
	for _, c := range tx.covered {
		c.release()
	}
	e.withheld.committed(tx)
	e.tx = newTransaction(tx.transactor, tx.generation, tx.withheld, tx.topics)
	return nil
}
