package kafkago

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
	"inceptor/service/stream/internal/flight"
	"inceptor/service/stream/internal/outage"
	"inceptor/service/stream/internal/resume"
)

// A partition is one partition's work in one generation: records are fetched into its flight,
// handled in parallel, published in order, and recorded for commit.
type partition struct {
	// Set once.
	cfg        stream.Config
	cluster    *cluster
	inflate    *inflate.Decompressor
	outages    *outage.Log
	id         stream.Partition
	startPoint startPoint
	share      *flight.Share
	flight     *flight.Flight
	publisher  *flight.Publisher
	commits    *commits
	worker     *flight.Worker
	begin      func(*flight.Slot) // starts the handler of a record; set by start
	draining   chan struct{}      // closed when no more records are admitted

	// Used by the fetching goroutine only.
	started        bool           // next is known
	next           int64          // offset to fetch
	topic          resume.TopicID // that next belongs to
	brokerCompares bool           // the broker compares the topic's id
	comparedAt     time.Time      // when we last did, if the broker does not
	nextThen       int64          // next, at that time
	need           int64          // memory that the next response takes; zero: not known
	ratio          float64        // memory that the last response took, divided by its size
}

// start runs the partition in g. It stops fetching when fetchCtx ends. Then it drains until work
// ends, which is the context of handlers and publishing.
func (p *partition) start(fetchCtx, work context.Context, g *errgroup.Group) {
	p.begin = func(s *flight.Slot) { p.worker.Begin(work, p.draining, s, nil) }
	g.Go(func() error {
		defer close(p.draining)
		defer p.flight.Close()
		return unlessEnded(fetchCtx, p.fetch(fetchCtx))
	})
	g.Go(func() error { return unlessEnded(work, p.publish(work)) })
}

// unlessEnded returns err, or nil if ctx has ended, which is no error here.
func unlessEnded(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

// publish publishes stretch after stretch, until the flight is drained or work ends.
func (p *partition) publish(work context.Context) error {
	return p.publisher.Drain(work, p.draining, p.id, p.flight, func(stretch flight.Stretch) { p.commits.add(p.id, stretch.Next) })
}

// abandon gives the memory back, and returns how many records are left in the window.
func (p *partition) abandon() (records int) {
	p.share.Close()
	records, bytes := p.flight.Held()
	if records > 0 {
		p.cfg.Observer.InFlight(p.id, -records, -bytes)
	}
	return records
}
