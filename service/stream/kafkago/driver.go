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
)

// Measured: with these a driver works again about six seconds after its
// broker was killed; with kafka-go's defaults, after thirty.
const (
	rejoinBackoff  = 500 * time.Millisecond
	groupTimeout   = 5 * time.Second
	partitionWatch = time.Second // in metadata that is fetched anyway

	// A drained generation has this long to commit and join again before
	// the group goes on without it.
	rebalanceMargin = commitTimeout + 5*time.Second

	// How many batches are decompressed at a time: each may take
	// Config.BatchBytes before it is known what it takes.
	decompressions = 2

	// Leaving the group is a courtesy that spares the others the session
	// timeout. A lost broker must not make a stop hang on it.
	leaveTimeout = 3 * time.Second
)

// A Driver reads topics, at least once.
type Driver struct {
	cfg     stream.Config
	codec   kafka.Compression
	trouble *stream.Trouble
	worker  *stream.Worker
	budget  *stream.Budget
	slots   chan struct{} // of those who decompress

	partitions map[string]int                       // of each input topic, before the group was last joined; absent: not known
	positions  map[stream.Partition]stream.Position // that the group had, as far as this process knows

	session time.Duration // shorter in tests
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
	trouble := stream.NewTrouble(cfg.Log)
	return &Driver{
		cfg:     cfg,
		codec:   codec,
		trouble: trouble,
		worker:  stream.NewWorker(h, cfg, trouble),
		session: cfg.Session,
		budget:  stream.NewBudget(cfg),
		slots:   make(chan struct{}, decompressions),

		positions: map[stream.Partition]stream.Position{},
	}, nil
}

// Run works until ctx ends, then drains, commits, leaves the group and
// returns nil. It returns an error as soon as one occurs that cannot pass. A
// Driver runs once.
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
		HeartbeatInterval: stream.Heartbeat(d.session),
		SessionTimeout:    d.session,
		RebalanceTimeout:  d.cfg.DrainTimeout + rebalanceMargin,
		JoinGroupBackoff:  rejoinBackoff,
		Timeout:           groupTimeout,
		StartOffset:       kafka.FirstOffset,
		// What matters comes back as an error, to be logged with measure.
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
		gen, err := d.next(ctx, cluster, group)
		if err == nil {
			joined = true
			d.trouble.Worked("join group " + d.cfg.Group)
			err = d.take(ctx, cluster, group, gen)
		} else if !errors.Is(err, kafka.RebalanceInProgress) && ctx.Err() == nil {
			if permanent(err) || unauthenticated(err) && !joined {
				err = fmt.Errorf("join group %s for %s: %w", d.cfg.Group, strings.Join(d.cfg.Inputs, ", "), err)
				return explain(d.cfg, err, "Read", d.cfg.Inputs...)
			}
			d.trouble.Failed("join group "+d.cfg.Group, cluster.conns.Explain(err))
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

// take works through one generation.
func (d *Driver) take(ctx context.Context, cluster *cluster, group *kafka.ConsumerGroup, gen *kafka.Generation) error {
	result := make(chan error)
	gen.Start(func(genCtx context.Context) {
		err := d.generation(ctx, genCtx, cluster, gen)
		if ctx.Err() != nil || err != nil {
			// Close the group while the generation lasts: when it ends
			// before, kafka-go joins the next one, for nothing, and with a
			// rebalance for everybody.
			go func() { _ = group.Close() }()
			<-genCtx.Done()
		}
		result <- err
	})
	return <-result
}

// leave leaves the group, if the broker can be told.
func (d *Driver) leave(group *kafka.ConsumerGroup, cluster *cluster) {
	left := make(chan struct{})
	go func() {
		defer close(left)
		_ = group.Close() // it has no error to give
	}()
	for {
		select {
		case <-left:
			return
		case <-time.After(leaveTimeout):
			cluster.conns.Close() // breaks off whatever it waits for
		}
	}
}

// inflater decompresses the batches of one partition.
func (d *Driver) inflater() *inflate.Decompressor {
	i := inflate.New(d.cfg.BatchBytes)
	i.Slots = d.slots
	return i
}
