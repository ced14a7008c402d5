package kafkago

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"

	"inceptor/service/stream"
)

// generation works on the assigned partitions until the group goes on
// (genCtx), the driver is stopped (ctx), or an error occurs that cannot pass.
// Either way it drains: fetching ends at once; what is in flight has
// DrainTimeout to be handled and published; what was published is committed.
func (d *Driver) generation(ctx, genCtx context.Context, cluster *cluster, gen *kafka.Generation) error {
	var assigned []stream.Partition
	for topic, of := range gen.Assignments {
		for _, a := range of {
			assigned = append(assigned, stream.Partition{Topic: topic, ID: a.ID})
		}
	}
	slices.SortFunc(assigned, stream.ComparePartitions)
	d.cfg.Log.Info("assigned", "group", gen.GroupID, "generation", gen.ID, "partitions", assigned)
	d.cfg.Observer.Assigned(assigned)
	defer d.cfg.Observer.Revoked()

	life, end := context.WithCancel(genCtx)
	defer end()
	defer context.AfterFunc(ctx, end)()
	work, endWork := context.WithCancel(context.Background())
	defer endWork()

	workers, fetchCtx := errgroup.WithContext(life)
	commits := newCommits(d.cfg, cluster, d.trouble, gen)
	publisher := &stream.Publisher{
		Config: d.cfg, Trouble: d.trouble,
		Transport: &transport{cfg: d.cfg, cluster: cluster, codec: d.codec},
	}
	var partitions []*partition
	for id, beginning := range d.beginnings(life, cluster, gen.ID, assigned) {
		partitions = append(partitions, &partition{
			cfg:       d.cfg,
			cluster:   cluster,
			inflate:   d.inflater(),
			share:     d.budget.Share(len(assigned)),
			trouble:   d.trouble,
			id:        id,
			beginning: beginning,
			flight:    stream.NewFlight(d.cfg.Window, 0),
			publisher: publisher,
			commits:   commits,
			worker:    d.worker,
			draining:  make(chan struct{}),
		})
	}

	aside, endAside := context.WithCancel(context.Background())
	defer endAside()
	var sides sync.WaitGroup
	var commitErr error
	sides.Go(func() {
		if commitErr = commits.run(aside, fetchCtx.Done(), stream.Heartbeat(d.session)); commitErr != nil {
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
	maps.Copy(d.positions, commits.positions())
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

// watchPartitions ends the generation when an input topic has not as many
// partitions as before the group was joined: new ones are nobody's yet. It
// stands in for kafka-go's watch, which begins to count after they have been
// assigned, misses what comes between, and rejoins without a pause for as
// long as there is no topic.
func (d *Driver) watchPartitions(ctx context.Context, cluster *cluster, end func()) {
	for sleep(ctx, partitionWatch) {
		for _, topic := range d.cfg.Inputs {
			n, err := cluster.partitions(ctx, topic)
			if err != nil {
				continue // fetching tells of it
			}
			before, known := d.partitions[topic]
			d.partitions[topic] = n
			if known && n != before {
				d.cfg.Log.Info("the number of partitions has changed, joining the group again", "topic", topic, "before", before, "now", n)
				end()
				return
			}
		}
	}
}
