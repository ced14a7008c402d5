package kafkago

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
)

// A partition is worked on for one generation: records are fetched into its
// flight, handled side by side, published in order, and marked for commit.
type partition struct {
	cfg     stream.Config
	cluster *cluster
	inflate *inflate.Decompressor
	trouble *stream.Trouble

	id        stream.Partition
	beginning beginning
	placed    bool           // next is known
	next      int64          // to be fetched
	topic     stream.TopicID // that next belongs to
	compared  bool           // the broker compares it
	looked    time.Time      // when we did, otherwise
	seen      int64          // next, then
	share     *stream.Share
	need      int64   // memory that what is fetched next takes; zero: not known
	ratio     float64 // of the memory that the last response took to its size
	flight    *stream.Flight
	publisher *stream.Publisher
	commits   *commits
	worker    *stream.Worker

	begin    func(*stream.Slot) // starts the handler of a record
	draining chan struct{}      // closed when nothing more is let in
}

// start runs the partition in g. It stops fetching when fetchCtx ends, and
// then drains until work, the context of handlers and publishing, ends.
func (p *partition) start(fetchCtx, work context.Context, g *errgroup.Group) {
	p.begin = func(s *stream.Slot) { p.worker.Begin(work, p.draining, s, nil) }
	g.Go(func() error {
		defer close(p.draining)
		defer p.flight.Close()
		return unlessEnded(fetchCtx, p.fetch(fetchCtx))
	})
	g.Go(func() error { return unlessEnded(work, p.publish(work)) })
}

// unlessEnded is err, or nil if ctx has ended, which is no error here.
func unlessEnded(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

// publish publishes run after run. It returns once the flight is drained, or
// work has ended.
func (p *partition) publish(work context.Context) error {
	return p.publisher.Drain(work, p.draining, p.id, p.flight, func(run stream.Run) { p.commits.add(p.id, run.Next) })
}

// abandon counts what is left in the window at the end.
func (p *partition) abandon() (records int) {
	p.share.Close()
	records, bytes := p.flight.Held()
	if records > 0 {
		p.cfg.Observer.InFlight(-records, -bytes)
	}
	return records
}
