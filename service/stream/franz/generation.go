package franz

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/internal/flight"
)

// pauseAfter is how long partitions that have space wait for those that are full.
// Then the full ones are paused: the client drops what it has fetched of them, and
// fetches it once more.
const pauseAfter = 100 * time.Millisecond

// A generation is the partitions that the group has given to this member, until
// it takes them away.
type generation struct {
	// Set once.
	partitions map[stream.Partition]*partition
	since      time.Time
	space      chan struct{} // signalled when a partition may have space again
	endFeeding context.CancelFunc
	endWork    context.CancelFunc
	draining   chan struct{} // closed when nothing more is let in
	feeders    sync.WaitGroup

	placed  atomic.Bool // it is known where the partitions begin
	claimed atomic.Bool // see claim
	ended   bool        // of whoever has claimed the generation
}

// newGeneration starts to work on partitions. wake is called whenever one may
// have something to publish; pause and resume are those of fetching.
func newGeneration(ids []stream.Partition, cfg stream.Config, worker *flight.Worker, budget *flight.Budget, wake func(), pause, resume func(stream.Partition)) *generation {
	feeding, endFeeding := context.WithCancel(context.Background())
	work, endWork := context.WithCancel(context.Background())
	g := &generation{
		partitions: map[stream.Partition]*partition{}, since: time.Now(), space: make(chan struct{}, 1),
		endFeeding: endFeeding, endWork: endWork, draining: make(chan struct{}),
	}
	for _, id := range ids {
		p := &partition{
			id:       id,
			cfg:      cfg,
			flight:   flight.New(cfg.Window, 0),
			arrived:  make(chan struct{}, 1),
			memory:   budget.Share(len(ids)),
			fetch:    int64(partitionBytes(cfg, len(ids))),
			granted:  make(chan struct{}, 1),
			rested:   time.NewTimer(time.Hour),
			pauses:   retry.NewBackoff(100*time.Millisecond, 5*time.Second),
			progress: newProgress(id, cfg.Observer),
			space:    g.space,
			wake:     wake,
			pause:    pause,
			resume:   resume,
		}
		p.rested.Stop()
		g.partitions[id] = p
		g.feeders.Go(func() {
			p.feed(feeding, func(s *flight.Slot) { worker.Begin(work, g.draining, s, wake) })
		})
	}
	return g
}

// claim returns true to the first who calls it: that one works on the generation
// and ends it. It is the session's loop, or whoever replaces the generation
// before.
func (g *generation) claim() bool { return g.claimed.CompareAndSwap(false, true) }

// drain lets nothing more in; it is called once.
func (g *generation) drain() {
	g.endFeeding()
	g.feeders.Wait()
	for _, p := range g.partitions {
		p.flight.Close()
	}
	close(g.draining)
}

func (g *generation) drains() bool {
	select {
	case <-g.draining:
		return true
	default:
		return false
	}
}

// end gives up the records that are still in flight, and counts them.
func (g *generation) end() (left int) {
	if g.ended {
		return 0
	}
	g.ended = true
	if !g.drains() {
		g.drain()
	}
	g.endWork()
	for _, p := range g.partitions {
		p.memory.Close()
		records, bytes := p.flight.Held()
		if records > 0 {
			p.cfg.Observer.InFlight(p.id, -records, -bytes)
		}
		left += records
	}
	return left
}

// idle reports whether everything that was fetched is published.
func (g *generation) idle() bool {
	for _, p := range g.partitions {
		if !p.idle() {
			return false
		}
	}
	return true
}

// awaitSpace waits until all partitions have space for what is polled next, life
// ends, or the generation drains. If some have waited for the full ones for long
// enough, it returns the full ones, which are to be paused.
func (g *generation) awaitSpace(life context.Context) (full []*partition) {
	var late <-chan time.Time
	for {
		full, open := g.full()
		if len(full) == 0 {
			return nil
		}
		if open > 0 && late == nil {
			t := time.NewTimer(pauseAfter)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-g.space:
		case <-late:
			return full
		case <-g.draining:
			return nil
		case <-life.Done():
			return nil
		}
	}
}

// full returns the partitions that are full, and how many are not. Paused ones are
// neither.
func (g *generation) full() (full []*partition, open int) {
	for _, p := range g.partitions {
		p.mu.Lock()
		switch {
		case p.paused, p.resting:
		case p.full():
			full = append(full, p)
		default:
			open++
		}
		p.mu.Unlock()
	}
	return full, open
}

// rewound notes that records come again that have been polled already.
func (g *generation) rewound() {
	for _, p := range g.partitions {
		p.mu.Lock()
		p.rewound = true
		p.mu.Unlock()
	}
}
