package kafkago

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
)

// generation works on the assigned partitions until the group goes on
// (genCtx), the driver is stopped (ctx), or an error occurs that cannot pass.
// Either way it drains: fetching ends at once; what is in flight has
// DrainTimeout to be handled and published; what was published is committed.
func (d *Driver) generation(ctx, genCtx context.Context, cluster *cluster, gen *kafka.Generation) error {
	assigned := gen.Assignments[d.cfg.Input]
	ids := make([]int, len(assigned))
	for i, a := range assigned {
		ids[i] = a.ID
	}
	d.cfg.Log.Info("assigned", "group", gen.GroupID, "generation", gen.ID, "topic", d.cfg.Input, "partitions", ids)
	d.cfg.Observer.Assigned(ids)
	defer d.cfg.Observer.Revoked()

	life, end := context.WithCancel(genCtx)
	defer end()
	defer context.AfterFunc(ctx, end)()
	work, endWork := context.WithCancel(context.Background())
	defer endWork()

	workers, fetchCtx := errgroup.WithContext(life)
	commits := newCommits(d.cfg, cluster.client, d.trouble, gen)
	publisher := &publisher{cfg: d.cfg, client: cluster.client, codec: d.codec, trouble: d.trouble}
	partitions := make([]*partition, len(assigned))
	for i, a := range assigned {
		p := &partition{
			cfg:       d.cfg,
			cluster:   cluster,
			inflate:   inflate.New(d.cfg.BatchBytes),
			trouble:   d.trouble,
			topic:     d.cfg.Input,
			id:        a.ID,
			next:      a.Offset,
			flight:    stream.NewFlight(d.cfg.Window, max(0, a.Offset)),
			publisher: publisher,
			commits:   commits,
			worker:    d.worker,
			draining:  make(chan struct{}),
		}
		if a.Offset >= 0 {
			commits.start(a.ID, a.Offset)
		}
		partitions[i] = p
	}

	aside, endAside := context.WithCancel(context.Background())
	defer endAside()
	var sides sync.WaitGroup
	var commitErr error
	sides.Go(func() {
		if commitErr = commits.run(aside, fetchCtx.Done(), d.session/heartbeats); commitErr != nil {
			end()
		}
	})
	sides.Go(func() { commits.watchLag(aside) })
	sides.Go(func() { d.watchPartitions(aside, cluster, end) })

	for _, p := range partitions {
		p.start(fetchCtx, work, workers)
	}
	workers.Go(func() error { // a member without partitions waits for some
		<-fetchCtx.Done()
		return nil
	})
	<-fetchCtx.Done()
	late := time.AfterFunc(d.cfg.DrainTimeout, endWork)
	err := workers.Wait()
	late.Stop()
	endWork()
	deadline := time.Now().Add(commitTimeout)
	endAside()
	sides.Wait()

	flushErr := commits.flush(deadline)
	left := 0
	for _, p := range partitions {
		left += p.abandon()
	}
	if left > 0 || flushErr != nil {
		d.cfg.Log.Warn("generation ended with records uncommitted, which come again",
			"generation", gen.ID, "in_flight", left, "commit_err", flushErr)
	}
	return errors.Join(err, commitErr)
}

// watchPartitions ends the generation when the input topic has not as many
// partitions as before the group was joined: new ones are nobody's yet. It
// stands in for kafka-go's watch, which begins to count after they have been
// assigned, misses what comes between, and rejoins without a pause for as
// long as there is no topic.
func (d *Driver) watchPartitions(ctx context.Context, cluster *cluster, end func()) {
	for sleep(ctx, partitionWatch) {
		n, err := cluster.partitions(ctx, d.cfg.Input)
		if err != nil {
			continue // fetching tells of it
		}
		before := d.partitions
		d.partitions = n
		if before >= 0 && n != before {
			d.cfg.Log.Info("the topic has other partitions, joining again", "topic", d.cfg.Input, "before", before, "now", n)
			end()
			return
		}
	}
}
