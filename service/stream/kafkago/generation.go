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

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
	"inceptor/service/stream/internal/wire"
)

// generation works on the assigned partitions until the group goes on
// (genCtx), the driver is stopped (ctx), or an error occurs for which a retry cannot help.
// Then it drains: fetching ends at once; records in flight have DrainTimeout to be
// handled and published; what was published is committed.
func (d *Driver) generation(ctx, genCtx context.Context, cluster *cluster, gen *kafka.Generation) error {
	assigned := assignedPartitions(gen)
	d.cfg.Log.Info("assigned", "group", gen.GroupID, "generation", gen.ID, "partitions", assigned)
	d.cfg.Observer.Assigned(assigned)
	defer d.cfg.Observer.Revoked()

	life, end := context.WithCancel(genCtx)
	defer end()
	defer context.AfterFunc(ctx, end)()
	work, endWork := context.WithCancel(context.Background())
	defer endWork()

	workers, fetchCtx := errgroup.WithContext(life)
	commits := newCommits(d.cfg, cluster, d.outages, gen)
	partitions := d.newPartitions(life, cluster, gen, assigned, commits)

	background, endBackground := context.WithCancel(context.Background())
	defer endBackground()
	var watchers sync.WaitGroup
	var commitErr error
	watchers.Go(func() {
		if commitErr = commits.run(background, fetchCtx.Done(), wire.Heartbeat(d.cfg.Session)); commitErr != nil {
			end()
		}
	})
	watchers.Go(func() { commits.watchLag(background) })
	watchers.Go(func() { d.watchPartitions(background, cluster, end) })

	for _, p := range partitions {
		p.start(fetchCtx, work, workers)
	}
	workers.Go(func() error { // a member without partitions waits for some
		<-fetchCtx.Done()
		return nil
	})
	<-fetchCtx.Done()
	timeout := time.AfterFunc(d.cfg.DrainTimeout, endWork)
	err := workers.Wait()
	timeout.Stop()
	endWork()
	deadline := time.Now().Add(commitTimeout)
	endBackground()
	watchers.Wait()

	flushErr := commits.flush(deadline)
	maps.Copy(d.positions, commits.positions())
	left := 0
	for _, p := range partitions {
		left += p.abandon()
	}
	if left > 0 || flushErr != nil {
		d.cfg.Log.Warn("generation ended with uncommitted records; they will be read again",
			"generation", gen.ID, "in_flight", left, "commit_err", flushErr)
	}
	return errors.Join(err, commitErr)
}

// assignedPartitions returns what a generation is assigned, in order.
func assignedPartitions(gen *kafka.Generation) (assigned []stream.Partition) {
	for topic, of := range gen.Assignments {
		for _, a := range of {
			assigned = append(assigned, stream.Partition{Topic: topic, ID: a.ID})
		}
	}
	slices.SortFunc(assigned, stream.ComparePartitions)
	return assigned
}

// newPartitions looks up where the assigned partitions begin, and returns them. There are none if
// ctx ends before.
func (d *Driver) newPartitions(
	ctx context.Context, cluster *cluster, gen *kafka.Generation, assigned []stream.Partition, commits *commits,
) (partitions []*partition) {
	publisher := &flight.Publisher{
		Config: d.cfg, Outages: d.outages,
		Transport: &transport{cfg: d.cfg, cluster: cluster, codec: d.codec},
	}
	for id, start := range d.startPoints(ctx, cluster, gen.ID, assigned) {
		partitions = append(partitions, &partition{
			cfg:        d.cfg,
			cluster:    cluster,
			inflate:    d.inflater(),
			share:      d.budget.Share(len(assigned)),
			outages:    d.outages,
			id:         id,
			startPoint: start,
			flight:     flight.New(d.cfg.Window, 0),
			publisher:  publisher,
			commits:    commits,
			worker:     d.worker,
			draining:   make(chan struct{}),
		})
	}
	return partitions
}

// watchPartitions ends the generation when an input topic has another number of partitions than
// before the group was joined: new ones are assigned to no member yet. It replaces kafka-go's
// watch, which begins to count after the assignment, misses what comes between, and rejoins
// without a pause while a topic does not exist.
func (d *Driver) watchPartitions(ctx context.Context, cluster *cluster, end func()) {
	for retry.Sleep(ctx, partitionWatch) {
		for _, topic := range d.cfg.Inputs {
			n, err := cluster.partitions(ctx, topic)
			if err != nil {
				continue // a fetch reports the same fault
			}
			before, known := d.partitions[topic]
			d.partitions[topic] = n
			if known && n != before {
				d.cfg.Log.Info("number of partitions changed; joining the group again", "topic", topic, "before", before, "now", n)
				end()
				return
			}
		}
	}
}
