package franz

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
)

// queueRecords and queueBytes are how much of a partition waits before its
// window until nothing more is polled.
const (
	queueRecords = 500
	queueBytes   = 1 << 20
)

// A partition of one generation: polled records wait in its queue for room
// in the window, are handled side by side, and collected in order.
type partition struct {
	id      int32
	cfg     stream.Config
	flight  *stream.Flight
	arrived chan struct{}
	room    chan<- struct{}
	pause   func(int32) // called with mu held, so that both come in order
	resume  func(int32)

	mu     sync.Mutex
	queue  []*kgo.Record
	held   int   // records in the queue, or on their way from it into the window
	bytes  int64 // of them
	next   int64 // every offset below has been polled
	again  bool  // offsets below next come again
	paused bool

	high      int64 // watermark
	committed int64 // negative: not known
	collected int64 // what is committed with the next transaction
	told      int64 // lag that the observer knows
}

// push takes polled records.
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
		p.bytes += size(r)
	}
	if p.held > 0 {
		signal(p.arrived)
	}
	return nil
}

func size(r *kgo.Record) int64 { return int64(len(r.Key) + len(r.Value)) }

// full tells whether nothing more should be polled. The caller holds mu.
func (p *partition) full() bool { return p.held >= queueRecords || p.bytes >= queueBytes }

// halt pauses the partition, if there is still no room.
func (p *partition) halt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full() {
		p.paused = true
		p.pause(p.id)
	}
}

// left notes that a record has left the queue for the window.
func (p *partition) left(r *kgo.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wasFull := p.full()
	p.held--
	p.bytes -= size(r)
	if !wasFull || p.full() {
		return
	}
	if p.paused {
		p.paused = false
		p.resume(p.id)
	}
	signal(p.room)
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
		p.queue = nil
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
			p.left(r)
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
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
