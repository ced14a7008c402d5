package franz

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
)

// queueRecords and queueBytes are how much of a partition waits before its
// window until nothing more is polled.
const (
	queueRecords = 500
	queueBytes   = 1 << 20
)

// failingFor is how long an error that may pass by itself goes on until the
// observer is told; and how long none must come, where no record does, until
// reading is well.
const failingFor = 10 * time.Second

// A partition of one generation: polled records wait in its queue for room
// in the window, are handled side by side, and collected in order.
type partition struct {
	id      stream.Partition
	cfg     stream.Config
	flight  *stream.Flight
	arrived chan struct{}
	rested  *time.Timer // when reading is tried again
	room    chan<- struct{}
	wake    func() // there may be something to commit
	memory  *stream.Share
	fetch   int64                  // bytes that are fetched at a time, unless a batch has more
	turn    atomic.Bool            // it has waited for memory, and may be polled next
	granted chan struct{}          // signalled when it may
	pause   func(stream.Partition) // called with mu held, so that both come in order
	resume  func(stream.Partition)

	mu     sync.Mutex
	topic  stream.TopicID // zero: not known
	placed bool           // next is where the reading began, or later
	queue  []queued
	held   int                    // records in the queue, or on their way from it into the window
	bytes  int64                  // of them
	next   int64                  // every offset below has been polled
	again  bool                   // offsets below next come again
	paused bool                   // for there is no room
	asked  bool                   // for a turn
	piece  int64                  // memory of what was polled last
	unread map[int64]stream.Batch // by the offset that stands for it in the queue

	failing time.Time // since when nothing can be read; zero: it can
	told    bool      // the observer knows
	resting bool      // paused until reading is tried again
	tried   time.Time // when it was
	pauses  backoff.ExponentialBackOff

	high      int64 // watermark
	committed int64 // negative: not known
	collected int64 // what is committed with the next transaction
	toldLag   int64 // that the observer knows
}

// A queued record is charged together with those that were polled with it.
type queued struct {
	*kgo.Record
	charge *stream.Charge // nil: not at all
}

// push takes polled records.
func (p *partition) push(fetched kgo.FetchPartition) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(fetched.Records) == 0 {
		return nil
	}
	charge := p.memory.Charge()
	defer charge.Release()
	bytes := int64(0)
	defer func() { p.charge(charge, bytes) }()
	for _, r := range fetched.Records {
		if r.Offset < p.next {
			if p.again {
				continue
			}
			return fmt.Errorf("read from %v: offset %d comes after %d: the topic was recreated, or its log truncated", p.id, r.Offset, p.next-1)
		}
		p.again = false
		charge.Retain(1)
		p.enqueue(queued{r, charge})
		bytes += inflate.RecordCost + size(r)
	}
	return nil
}

// charge charges what was polled, which is in memory, room or not. The caller
// holds mu.
func (p *partition) charge(c *stream.Charge, bytes int64) {
	c.Set(bytes)
	p.piece = bytes
	p.turn.Store(false)
}

// enqueue takes a record. The caller holds mu.
func (p *partition) enqueue(r queued) {
	p.next = r.Offset + 1
	p.queue = append(p.queue, r)
	p.held++
	p.bytes += size(r.Record)
	signal(p.arrived)
}

// pass takes a batch that is not read; one that comes again is left.
func (p *partition) pass(b stream.Batch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.Last < p.next {
		if p.again {
			return nil
		}
		return fmt.Errorf("read from %v: offset %d comes after %d: the topic was recreated, or its log truncated", p.id, b.Last, p.next-1)
	}
	p.again = false
	b.First = max(b.First, p.next, p.committed)
	if p.unread == nil {
		p.unread = map[int64]stream.Batch{}
	}
	p.unread[b.Last] = b
	p.enqueue(queued{&kgo.Record{Topic: b.Topic, Partition: int32(p.id.ID), Offset: b.Last}, nil})
	return nil
}

// size is what a record counts for, as in its window.
func size(r *kgo.Record) int64 {
	n := int64(len(r.Key) + len(r.Value))
	for _, h := range r.Headers {
		n += stream.HeaderBytes + int64(len(h.Key)+len(h.Value))
	}
	return n
}

// full tells whether nothing more should be polled. The caller holds mu.
func (p *partition) full() bool { return p.queueFull() || p.starved() }

func (p *partition) queueFull() bool { return p.held >= queueRecords || p.bytes >= queueBytes }

// starved tells whether there is no memory for more. It then asks for a turn.
// The caller holds mu.
func (p *partition) starved() bool {
	next := max(p.piece, p.fetch)
	if p.memory.Room(next, p.turn.Load()) {
		return false
	}
	if !p.asked {
		p.asked = true
		p.turn.Store(false)
		p.memory.Turn(next, func() {
			p.turn.Store(true)
			signal(p.granted)
		})
	}
	return true
}

// halt pauses the partition, if there is still no room.
func (p *partition) halt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full() {
		p.paused = true
		p.pause(p.id)
	}
}

// proceed ends a wait for memory.
func (p *partition) proceed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = false
	if !p.queueFull() {
		p.unpause()
	}
}

// unpause lets the partition be polled again. The caller holds mu.
func (p *partition) unpause() {
	if p.paused {
		p.paused = false
		if !p.resting {
			p.resume(p.id)
		}
	}
	signal(p.room)
}

// fail notes that nothing can be read now, and lets the partition rest before
// the next try. An error that may pass by itself is told the observer when it
// has lasted.
func (p *partition) fail(err error, passing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing.IsZero() {
		p.failing = time.Now()
	}
	if !passing || time.Since(p.failing) > failingFor {
		p.told = true
		p.cfg.Observer.Retrying(p.id, stream.Reading, err)
	}
	p.rest(p.pauses.NextBackOff())
}

// yield lets others be read that had to wait for this partition.
func (p *partition) yield() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest(2 * fetchWait)
}

// rest pauses the partition for a while. The caller holds mu.
func (p *partition) rest(d time.Duration) {
	if !p.resting {
		p.resting = true
		p.pause(p.id)
		p.rested.Reset(d)
	}
}

// retry ends a rest.
func (p *partition) retry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting, p.tried = false, time.Now()
	if !p.paused {
		p.resume(p.id)
	}
	signal(p.room)
}

// failed tells since when nothing can be read; zero: it can.
func (p *partition) failed() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failing
}

// recover notes that something was read, or that no error has come for long
// enough; it tells whether one had come before.
func (p *partition) recover(read bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing.IsZero() || !read && (p.resting || time.Since(p.tried) < failingFor) {
		return false
	}
	p.failing = time.Time{}
	p.pauses.Reset()
	if p.told {
		p.told = false
		p.cfg.Observer.Retrying(p.id, stream.Reading, nil)
	}
	return true
}

// left notes that a record has left the queue for the window.
func (p *partition) left(r *kgo.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wasFull := p.queueFull()
	p.held--
	p.bytes -= size(r)
	if wasFull && !p.full() {
		p.unpause()
	}
}

// feed lets the queue's records into the window until ctx ends.
func (p *partition) feed(ctx context.Context, begin func(*stream.Slot), wake func()) {
	defer p.rested.Stop()
	for {
		select {
		case <-p.arrived:
		case <-p.rested.C:
			p.retry()
			continue
		case <-p.granted:
			p.proceed()
			continue
		case <-ctx.Done():
			return
		}
		p.mu.Lock()
		queue, unread := p.queue, p.unread
		p.queue, p.unread = nil, nil
		p.mu.Unlock()
		for i, r := range queue {
			queue[i] = queued{} // its memory is the window's now
			if r.Attrs.IsControl() {
				p.flight.Skip(r.Offset + 1)
				r.charge.Release()
			} else {
				slot, err := p.flight.Admit(ctx, record(r.Record))
				if err != nil {
					return
				}
				slot.Charge = r.charge
				p.cfg.Observer.InFlight(1, slot.Record.Size())
				if b, ok := unread[r.Offset]; ok {
					slot.Done(p.cfg.Unread(b))
				} else {
					begin(slot)
				}
			}
			p.left(r.Record)
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

// waitsForRecords tells whether nothing of the partition is on its way to the
// window, and nothing keeps it from being fetched; and after which offset.
func (p *partition) waitsForRecords() (next int64, waits bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next, p.held == 0 && !p.paused && !p.resting && p.failing.IsZero()
}

// start notes where the reading begins.
func (p *partition) start(s beginning) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.topic = s.topic
	if s.at < 0 {
		return
	}
	p.next, p.placed = s.at, true
	p.committed, p.collected = s.at, s.at
	if s.commit {
		p.flight.Skip(s.at)
		p.wake()
	}
}

// assume takes an offset for the committed one, as long as none is known.
func (p *partition) assume(offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.committed < 0 {
		p.committed, p.collected = offset, offset
	}
}

// position is that of an offset.
func (p *partition) position(offset int64) stream.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return stream.Position{Offset: offset, Topic: p.topic}
}

// collect notes what goes into the next transaction.
func (p *partition) collect(next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.collected = next
}

// uncollect notes that what was collected is not in the next transaction, which
// so does not tell the lag.
func (p *partition) uncollect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.collected = p.committed
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
	if p.committed >= 0 && p.committed == p.collected && p.lag() != p.toldLag {
		p.tell()
	}
}

func (p *partition) lag() int64 { return max(0, p.high-p.committed) }

func (p *partition) tell() {
	p.toldLag = p.lag()
	p.cfg.Observer.Committed(p.id, p.committed, p.toldLag)
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
