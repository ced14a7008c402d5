package franz

import (
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"

	"inceptor/service/stream"
)

// A share is what one partition has in a transaction.
type share struct {
	next    int64 // offset to commit
	records int
	bytes   int64 // of records and outputs
	charges []*stream.Charge
}

// chargesOf takes the charges of a run, whose records are needed for longer
// than they are in their window.
func chargesOf(run stream.Run) (charges []*stream.Charge) {
	for _, slot := range run.Slots {
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

// release gives back the memory of what is committed.
func (s *share) release() {
	for _, c := range s.charges {
		c.Release()
	}
}

// A withheld partition has an output that its topic does not take, nor
// anything in its place. It stays out of the transactions, with everything
// behind that output, so that the other partitions go on.
type withheld struct {
	share
	outputs   []*output
	operation string
	pause     backoff.ExponentialBackOff
	until     time.Time // when it is tried again
	tried     bool      // it is in the transaction again
}

// withhold takes a partition out of the transaction, and says why.
func (s *transactional) withhold(id stream.Partition, topic string, reason error) {
	w := s.withheld[id]
	if w == nil {
		w = &withheld{
			operation: "publish to " + topic,
			pause:     backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: stream.MaxRefusedPause, Multiplier: 2, RandomizationFactor: 0.5},
		}
		s.withheld[id] = w
	}
	w.tried = false
	w.until = time.Now().Add(w.pause.NextBackOff())
	w.share, w.outputs = s.tx.take(id)
	s.current.partitions[id].uncollect()
	for _, o := range w.outputs {
		o.record, o.replaced = o.first, 0
	}
	s.cfg.Observer.Retrying(id, stream.Publishing, reason)
	s.trouble.Failed(w.operation, reason, "source", id)
}

// take removes a partition from the transaction, and returns what it had there.
func (tx *transaction) take(id stream.Partition) (share, []*output) {
	var taken, rest []*output
	for _, o := range tx.outputs {
		if o.source.Source() == id {
			taken = append(taken, o)
		} else {
			rest = append(rest, o)
		}
	}
	had := share{}
	if s := tx.shares[id]; s != nil {
		had = *s
	}
	delete(tx.shares, id)
	tx.outputs = rest
	tx.records -= had.records
	tx.bytes -= had.bytes
	return had, taken
}

// again puts withheld partitions back into the transaction whose pause is over.
func (s *transactional) again(now time.Time) {
	for id, w := range s.withheld {
		if w.tried || now.Before(w.until) || s.current.drains() {
			continue
		}
		w.tried = true
		s.current.partitions[id].collect(w.next)
		s.tx.add(id, w.share, w.outputs)
	}
}

// released notes that what was withheld is committed.
func (s *transactional) released() {
	for id, w := range s.withheld {
		if w.tried && s.tx.shares[id] != nil {
			delete(s.withheld, id)
			s.cfg.Observer.Retrying(id, stream.Publishing, nil)
			s.trouble.Worked(w.operation)
		}
	}
}

// nextTry is how long it is until a withheld partition is tried again, an hour
// at most: while the generation drains, none is.
func (s *transactional) nextTry() time.Duration {
	most := time.Hour
	if s.current.drains() {
		return most
	}
	for _, w := range s.withheld {
		if !w.tried {
			most = min(most, max(0, time.Until(w.until)))
		}
	}
	return most
}

// refusedForGood is why a partition is withheld.
func refusedForGood(o *output, reason error) error {
	return fmt.Errorf("what offset %d of %v caused is refused: %w",
		o.source.Offset, o.source.Source(), reason)
}
