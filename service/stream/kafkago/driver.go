package kafkago

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
	"inceptor/service/stream/internal/flight"
	"inceptor/service/stream/internal/outage"
	"inceptor/service/stream/internal/resume"
	"inceptor/service/stream/internal/wire"
)

// Measured: with these a driver has recovered about six seconds after its broker was killed; with
// kafka-go's defaults, after thirty.
const (
	rejoinBackoff  = 500 * time.Millisecond
	groupTimeout   = 5 * time.Second
	partitionWatch = time.Second // from metadata that is fetched anyway

	// A drained generation has this long to commit and join again before the group goes on without
	// it.
	rebalanceMargin = commitTimeout + 5*time.Second

	// How many batches are decompressed at a time. Each may take Config.BatchBytes before its size
	// is known.
	decompressions = 2

	// Leaving the group spares the other members the session timeout. A lost broker must not hold
	// back a stop for it.
	leaveTimeout = 3 * time.Second
)

// A Driver reads topics, at least once. It runs once.
type Driver struct {
	// Set once.
	cfg     stream.Config
	codec   kafka.Compression
	outages *outage.Log
	worker  *flight.Worker
	budget  *flight.Budget
	slots   chan struct{} // bounds how many partitions decompress at a time

	// Used by Run's goroutine, and by watchPartitions while a generation lasts.
	partitions map[string]int // of each input topic, before the group was last joined; absent: not known

	// Used by Run's goroutine only.
	positions map[stream.Partition]resume.Position // that the group had, as far as this process knows
}

// New checks the configuration; it does not connect.
func New(cfg stream.Config, h stream.Handler) (*Driver, error) {
	cfg, err := cfg.Checked()
	if err != nil {
		return nil, err
	}
	codec, err := compression(cfg.Compression)
	if err != nil {
		return nil, err
	}
	outages := outage.NewLog(cfg.Log)
	return &Driver{
		cfg:     cfg,
		codec:   codec,
		outages: outages,
		worker:  flight.NewWorker(h, cfg, outages),
		budget:  flight.NewBudget(cfg),
		slots:   make(chan struct{}, decompressions),

		positions: map[stream.Partition]resume.Position{},
	}, nil
}

// Run works until ctx ends, then drains, commits, leaves the group and returns nil. It returns an
// error as soon as a retry cannot help.
func (d *Driver) Run(ctx context.Context) error {
	cluster := connect(d.cfg)
	defer d.worker.Await()
	defer cluster.close()

	d.partitions = map[string]int{}
	for _, topic := range d.cfg.Inputs {
		if n, err := cluster.partitions(ctx, topic); err == nil {
			d.partitions[topic] = n
		}
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID:                d.cfg.Group,
		Brokers:           d.cfg.Brokers,
		Dialer:            cluster.dialer,
		Topics:            d.cfg.Inputs,
		GroupBalancers:    balancers(cluster),
		HeartbeatInterval: wire.Heartbeat(d.cfg.Session),
		SessionTimeout:    d.cfg.Session,
		RebalanceTimeout:  d.cfg.DrainTimeout + rebalanceMargin,
		JoinGroupBackoff:  rejoinBackoff,
		Timeout:           groupTimeout,
		StartOffset:       kafka.FirstOffset,
		// Errors that matter are returned too, and logged without flooding the log.
		ErrorLogger: kafka.LoggerFunc(func(format string, args ...any) {
			d.cfg.Log.Debug("kafka-go", "message", fmt.Sprintf(format, args...))
		}),
	})
	if err != nil {
		return fmt.Errorf("join group %s: %w", d.cfg.Group, err)
	}
	defer d.leave(group, cluster)
	joined := false // once
	for {
		gen, err := d.nextGeneration(ctx, cluster, group)
		if err == nil {
			joined = true
			d.outages.Recovered("join group " + d.cfg.Group)
			err = d.runGeneration(ctx, cluster, group, gen)
		} else if !errors.Is(err, kafka.RebalanceInProgress) && ctx.Err() == nil {
			if permanent(err) || unauthenticated(err) && !joined {
				err = fmt.Errorf("join group %s for %s: %w", d.cfg.Group, strings.Join(d.cfg.Inputs, ", "), err)
				return explain(d.cfg, err, "Read", d.cfg.Inputs...)
			}
			d.outages.Failed("join group "+d.cfg.Group, cluster.conns.Explain(err))
			err = nil // kafka-go pauses
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, kafka.RebalanceInProgress) {
			return explain(d.cfg, err, "Read", d.cfg.Inputs...)
		}
	}
}

// runGeneration works through one generation.
func (d *Driver) runGeneration(ctx context.Context, cluster *cluster, group *kafka.ConsumerGroup, gen *kafka.Generation) error {
	result := make(chan error)
	gen.Start(func(genCtx context.Context) {
		err := d.generation(ctx, genCtx, cluster, gen)
		if ctx.Err() != nil || err != nil {
			// Close the group while the generation lasts. If the generation ended first, kafka-go
			// would join the next one for nothing, and cause a rebalance.
			go func() { _ = group.Close() }()
			<-genCtx.Done()
		}
		result <- err
	})
	return <-result
}

// leave leaves the group, if the broker can be reached.
func (d *Driver) leave(group *kafka.ConsumerGroup, cluster *cluster) {
	left := make(chan struct{})
	go func() {
		defer close(left)
		_ = group.Close() // its error is always nil
	}()
	for {
		select {
		case <-left:
			return
		case <-time.After(leaveTimeout):
			cluster.conns.Close() // ends whatever it waits for
		}
	}
}

// inflater decompresses the batches of one partition.
func (d *Driver) inflater() *inflate.Decompressor {
	i := inflate.New(d.cfg.BatchBytes)
	i.Slots = d.slots
	return i
}
