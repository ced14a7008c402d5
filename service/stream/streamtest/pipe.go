package streamtest

import (
	"context"

	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
)

// A Pipe passes records through a handler as a driver does, but without a broker: into the window
// of one partition and out again, in order. Not for concurrent use.
type Pipe struct {
	observer stream.Observer
	worker   *flight.Worker
	flight   *flight.Flight
	next     int64 // offset
}

// NewPipe returns a Pipe. Of cfg it needs Window and Observer.
func NewPipe(h stream.Handler, cfg stream.Config) *Pipe {
	return &Pipe{observer: cfg.Observer, worker: flight.NewWorker(h, cfg, nil), flight: flight.New(cfg.Window, 0)}
}

// Pass passes r n times, each with the next offset, and calls each with the outputs.
func (p *Pipe) Pass(n int, r stream.Record, each func([]stream.Record)) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	first := p.next
	p.next += int64(n)
	go func() {
		for r.Offset = first; r.Offset < first+int64(n); r.Offset++ {
			s, err := p.flight.Admit(ctx, r)
			if err != nil {
				cancel(err)
				return
			}
			p.worker.Begin(context.Background(), nil, s, nil)
		}
	}()
	for passed := 0; passed < n; {
		stretch, err := p.flight.Take(ctx)
		if err != nil {
			return err
		}
		for _, s := range stretch.Slots {
			each(s.Outputs)
			for range s.Outputs {
				p.observer.Acknowledged(s.Record)
			}
		}
		passed += len(stretch.Slots)
		p.flight.Release(stretch)
	}
	return nil
}
