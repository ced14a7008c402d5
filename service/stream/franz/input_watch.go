package franz

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/internal/retry"
	"inceptor/service/stream"
)

const (
	// watchEvery is how often the partitions are checked.
	watchEvery = 2 * time.Second

	// describeEvery is how often the producer of an open transaction is looked up.
	describeEvery = 10 * time.Second
)

// An inputWatch reports partitions that open transactions hold back. It ends the
// session if the client does not fetch a partition.
type inputWatch struct {
	// Set once.
	*sessionContext
	client       *kgo.Client
	stallTimeout time.Duration

	// Of its goroutine.
	stalls     map[stream.Partition]int64 // the driver's
	generation *generation
	watched    map[stream.Partition]*watchedInput
}

// A watchedInput is what is known of one partition of an input.
type watchedInput struct {
	wait   openWait
	stall  stall
	txn    openTransaction
	toldAt time.Time // when txn was reported; zero: nothing was
}

func (w *inputWatch) run(life context.Context) {
	admin := kadm.NewClient(w.client)
	for retry.Sleep(life, watchEvery) {
		if g := w.latest.Load(); g != w.generation {
			// With the generation, the observer forgets what it was told.
			w.generation, w.watched = g, map[stream.Partition]*watchedInput{}
		}
		if g := w.generation; g != nil && len(g.partitions) > 0 && !g.drains() {
			w.check(life, admin)
		}
	}
}

// check looks at all partitions once.
func (w *inputWatch) check(life context.Context, admin *kadm.Client) {
	ctx, cancel := context.WithTimeout(life, w.sessionTimeout)
	defer cancel()
	stable, err := admin.ListCommittedOffsets(ctx, w.cfg.Inputs...)
	if err != nil {
		return // fetches fail too, and are logged
	}
	ends, err := admin.ListEndOffsets(ctx, w.cfg.Inputs...)
	if err != nil {
		return
	}
	waiting, over := map[string]bool{}, map[string]bool{} // by operation
	for id, p := range w.generation.partitions {
		in := w.watched[id]
		if in == nil {
			in = &watchedInput{}
			w.watched[id] = in
		}
		last, ok := stable.Lookup(id.Topic, int32(id.ID))
		end, ok2 := ends.Lookup(id.Topic, int32(id.ID))
		if !ok || !ok2 || last.Err != nil || end.Err != nil {
			continue
		}
		now := time.Now()
		if w.endStalled(p, in, now, last.Offset) {
			return
		}
		if next, waits := p.waitsForRecords(); waits {
			in.wait = in.wait.update(now, last.Offset, end.Offset, next)
		} else {
			in.wait = openWait{}
		}
		operation := "read beyond an open transaction of " + id.Topic
		switch {
		case in.wait.long(now):
			waiting[operation] = true
			w.report(ctx, admin, operation, id, in, last.Offset)
		case !in.toldAt.IsZero():
			in.toldAt = time.Time{}
			over[operation] = true
			w.cfg.Observer.Retrying(id, stream.Reading, nil)
		}
		if life.Err() != nil {
			return
		}
	}
	for operation := range over {
		if !waiting[operation] {
			w.outages.Recovered(operation)
		}
	}
}

// report reports the open transaction that holds a partition back, every
// describeEvery.
func (w *inputWatch) report(ctx context.Context, admin *kadm.Client, operation string, id stream.Partition, in *watchedInput, stable int64) {
	now := time.Now()
	if now.Sub(in.toldAt) < describeEvery {
		return
	}
	before, again := in.txn.Error(), !in.toldAt.IsZero()
	in.txn, in.toldAt = describeOpen(ctx, admin, id, stable), now
	if errors.Is(ctx.Err(), context.Canceled) {
		return // the session ends
	}
	w.outages.Failed(operation, in.txn, "partition", id.ID)
	if !again || in.txn.Error() != before {
		w.cfg.Observer.Retrying(id, stream.Reading, in.txn)
	}
}
