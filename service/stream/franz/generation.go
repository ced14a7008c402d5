package franz

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"inceptor/service/stream"
)

// impatience is how long partitions that have room wait for those that have
// none. These are paused then: what the client has fetched of them in the
// meantime is lost, and is fetched once more.
const impatience = 100 * time.Millisecond

// A generation is the partitions that the group has given to this member,
// until it takes them away.
type generation struct {
	partitions map[stream.Partition]*partition
	since      time.Time
	known      atomic.Bool // where the partitions begin

	room       chan struct{} // signalled when hold may look again
	endFeeding context.CancelFunc
	endWork    context.CancelFunc
	draining   chan struct{} // closed when nothing more is let in
	feeders    sync.WaitGroup
	taken      atomic.Bool // by whoever ends it: the session's loop, or who replaces it before
	ended      bool        // of that one only
}

// newGeneration starts to work on partitions. wake is called whenever one may
// have something to publish; pause and resume are those of fetching.
func newGeneration(ids []stream.Partition, cfg stream.Config, worker *stream.Worker, budget *stream.Budget, wake func(), pause, resume func(stream.Partition)) *generation {
	feeding, endFeeding := context.WithCancel(context.Background())
	work, endWork := context.WithCancel(context.Background())
	g := &generation{
		partitions: map[stream.Partition]*partition{}, since: time.Now(), room: make(chan struct{}, 1),
		endFeeding: endFeeding, endWork: endWork, draining: make(chan struct{}),
	}
	for _, id := range ids {
		p := &partition{
			id:        id,
			cfg:       cfg,
			flight:    stream.NewFlight(cfg.Window, 0),
			arrived:   make(chan struct{}, 1),
			memory:    budget.Share(len(ids)),
			fetch:     int64(partitionBytes(cfg, len(ids))),
			granted:   make(chan struct{}, 1),
			rested:    time.NewTimer(time.Hour),
			pauses:    backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, MaxInterval: 5 * time.Second, Multiplier: 2, RandomizationFactor: 0.5},
			committed: -1,
			collected: -1,
			toldLag:   -1,
			room:      g.room,
			wake:      wake,
			pause:     pause,
			resume:    resume,
		}
		p.rested.Stop()
		g.partitions[id] = p
		g.feeders.Go(func() {
			p.feed(feeding, func(s *stream.Slot) { worker.Begin(work, g.draining, s, wake) }, wake)
		})
	}
	return g
}

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

// end gives up what is still in flight, and counts it.
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
			p.cfg.Observer.InFlight(-records, -bytes)
		}
		left += records
	}
	return left
}

// idle tells whether nothing was fetched that is not published.
func (g *generation) idle() bool {
	for _, p := range g.partitions {
		if !p.idle() {
			return false
		}
	}
	return true
}

// hold waits until there is room for what is polled next, life ends, or the
// generation drains; or it returns the partitions to be paused before, since
// others have waited for them long enough.
func (g *generation) hold(life context.Context) (late []*partition) {
	var impatient <-chan time.Time
	for {
		full, open := g.full()
		if len(full) == 0 {
			return nil
		}
		if open > 0 && impatient == nil {
			t := time.NewTimer(impatience)
			defer t.Stop()
			impatient = t.C
		}
		select {
		case <-g.room:
		case <-impatient:
			return full
		case <-g.draining:
			return nil
		case <-life.Done():
			return nil
		}
	}
}

// full lists the partitions that have no room, and counts those that have:
// what is paused is neither.
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

// rewound tells that records come again that have been polled already.
func (g *generation) rewound() {
	for _, p := range g.partitions {
		p.mu.Lock()
		p.again = true
		p.mu.Unlock()
	}
}
