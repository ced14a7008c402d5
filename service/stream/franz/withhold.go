package franz

import (
	"time"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
	"inceptor/service/stream/internal/outage"
)

// withheldPartitions are the partitions of a generation that stay out of its
// transactions, so that the others go on. Of the session's loop.
type withheldPartitions struct {
	// Set once.
	cfg        stream.Config
	outages    *outage.Log
	generation *generation

	of map[stream.Partition]*withheld
}

// A withheld partition has an output that its topic does not take, nor any
// replacement. It waits with that output and everything that follows.
type withheld struct {
	covered
	outputs   []*output
	operation string
	pause     retry.Backoff
	until     time.Time // when it is tried again
	tried     bool      // it is in the transaction again
}

// withhold takes a partition out of a transaction, and reports why.
func (w *withheldPartitions) withhold(tx *transaction, id stream.Partition, topic string, reason error) {
	p := w.of[id]
	if p == nil {
		p = &withheld{
			operation: "publish to " + topic,
			pause:     retry.NewBackoff(100*time.Millisecond, flight.MaxRefusedPause),
		}
		w.of[id] = p
	}
	p.tried = false
	p.until = time.Now().Add(p.pause.NextBackOff())
	p.covered, p.outputs = tx.remove(id)
	w.generation.partitions[id].progress.uncollect()
	for _, o := range p.outputs {
		o.Restore()
	}
	w.cfg.Observer.Retrying(id, stream.Publishing, reason)
	w.outages.Failed(p.operation, reason, "source", id)
}

// retry puts the partitions back into a transaction whose pause is over.
func (w *withheldPartitions) retry(tx *transaction, now time.Time) {
	for id, p := range w.of {
		if p.tried || now.Before(p.until) || w.generation.drains() {
			continue
		}
		p.tried = true
		w.generation.partitions[id].progress.collect(p.next)
		tx.add(id, p.covered, p.outputs)
	}
}

// committed releases the partitions that a committed transaction has covered.
func (w *withheldPartitions) committed(tx *transaction) {
	for id, p := range w.of {
		if p.tried && tx.covered[id] != nil {
			delete(w.of, id)
			w.cfg.Observer.Retrying(id, stream.Publishing, nil)
			w.outages.Recovered(p.operation)
		}
	}
}

// nextTry returns how long it is until a partition is tried again, an hour at most.
// While the generation drains, none is.
func (w *withheldPartitions) nextTry() time.Duration {
	most := time.Hour
	if w.generation.drains() {
		return most
	}
	for _, p := range w.of {
		if !p.tried {
			most = min(most, max(0, time.Until(p.until)))
		}
	}
	return most
}

// records counts the records that wait here and are in no transaction.
func (w *withheldPartitions) records() (n int) {
	for _, p := range w.of {
		if !p.tried {
			n += p.records
		}
	}
	return n
}
