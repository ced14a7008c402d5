package franz

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

const (
	// queueRecords and queueBytes are how much of a partition waits before
	// its window until it is not polled any more.
	queueRecords = 500
	queueBytes   = 1 << 20
)

// A generation is the partitions that the group has given to this member,
// until it takes them away.
type generation struct {
	partitions map[int32]*partition

	endFeeding context.CancelFunc
	endWork    context.CancelFunc
	draining   chan struct{} // closed when nothing more is let in
	feeders    sync.WaitGroup
	ended      bool
}

// newGeneration starts to work on partitions. wake is called whenever one may
// have something to publish.
func newGeneration(ids []int32, cfg stream.Config, worker *stream.Worker, wake func(), pause, resume func(int32)) *generation {
	feeding, endFeeding := context.WithCancel(context.Background())
	work, endWork := context.WithCancel(context.Background())
	g := &generation{partitions: map[int32]*partition{}, endFeeding: endFeeding, endWork: endWork, draining: make(chan struct{})}
	for _, id := range ids {
		p := &partition{
			id:        id,
			cfg:       cfg,
			flight:    stream.NewFlight(cfg.Window, 0),
			arrived:   make(chan struct{}, 1),
			committed: -1,
			collected: -1,
			told:      -1,
			pause:     pause,
			resume:    resume,
		}
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

// rewound tells that records come again that have been polled already.
func (g *generation) rewound() {
	for _, p := range g.partitions {
		p.mu.Lock()
		p.again = true
		p.mu.Unlock()
	}
}

// A partition of one generation: polled records wait in its queue for room
// in the window, are handled side by side, and collected in order.
type partition struct {
	id      int32
	cfg     stream.Config
	flight  *stream.Flight
	arrived chan struct{}
	pause   func(int32) // of its fetching; called with mu held, so that both come in order
	resume  func(int32)

	mu     sync.Mutex
	queue  []*kgo.Record
	bytes  int64
	held   int   // records in the queue, or on their way from it into the window
	next   int64 // every offset below has been polled
	again  bool  // offsets below next come again
	paused bool

	high      int64 // watermark
	committed int64 // negative: not known
	collected int64 // what is committed with the next transaction
	told      int64 // lag that the observer knows
}

// push takes polled records, and pauses the partition when it has enough.
func (p *partition) push(fetched kgo.FetchPartition) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range fetched.Records {
		if r.Offset < p.next {
			if p.again {
				continue
			}
			return fmt.Errorf("read from %s partition %d: offset %d comes after %d, the log was made anew", r.Topic, p.id, r.Offset, p.next-1)
		}
		p.again = false
		p.next = r.Offset + 1
		p.queue = append(p.queue, r)
		p.held++
		p.bytes += int64(len(r.Key) + len(r.Value))
	}
	if p.held > 0 {
		signal(p.arrived)
	}
	if !p.paused && (len(p.queue) >= queueRecords || p.bytes >= queueBytes) {
		p.paused = true
		p.pause(p.id)
	}
	return nil
}

// feed lets the queue's records into the window until ctx ends.
func (p *partition) feed(ctx context.Context, begin func(*stream.Slot), wake func()) {
	for {
		select {
		case <-p.arrived:
		case <-ctx.Done():
			return
		}
		p.mu.Lock()
		queue := p.queue
		p.queue, p.bytes = nil, 0
		p.mu.Unlock()
		for i, r := range queue {
			queue[i] = nil // its memory is the window's now
			if r.Attrs.IsControl() {
				p.flight.Skip(r.Offset + 1)
			} else {
				slot, err := p.flight.Admit(ctx, record(r))
				if err != nil {
					return
				}
				p.cfg.Observer.InFlight(1, slot.Record.Size())
				begin(slot)
			}
			p.mu.Lock()
			p.held--
			if p.paused && i >= len(queue)/2 && len(p.queue) == 0 { // in time, for it takes a while to come
				p.paused = false
				p.resume(p.id)
			}
			p.mu.Unlock()
		}
		wake()
	}
}

func (p *partition) idle() bool {
	p.mu.Lock()
	held := p.held
	p.mu.Unlock()
	if held > 0 {
		return false
	}
	records, _ := p.flight.Held()
	return records == 0
}

// start notes the offset that the group has committed.
func (p *partition) start(offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.committed < 0 {
		p.committed, p.collected = offset, offset
	}
}

// collect notes what goes into the next transaction.
func (p *partition) collect(next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.collected = next
}

// commit notes, and tells, that a transaction is committed.
func (p *partition) commit(next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committed = next
	p.tell()
}

// watermark notes how long the log is, and tells the lag if nothing else will.
func (p *partition) watermark(high int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.high = high
	if p.committed >= 0 && p.committed == p.collected && p.lag() != p.told {
		p.tell()
	}
}

func (p *partition) lag() int64 { return max(0, p.high-p.committed) }

func (p *partition) tell() {
	p.told = p.lag()
	p.cfg.Observer.Committed(int(p.id), p.committed, p.told)
}

func record(r *kgo.Record) stream.Record {
	out := stream.Record{Topic: r.Topic, Partition: int(r.Partition), Offset: r.Offset, Key: r.Key, Value: r.Value, Time: r.Timestamp}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, stream.Header{Key: h.Key, Value: h.Value})
	}
	return out
}

// signal wakes the one goroutine that waits on c, or the next that will.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
