package franz

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"inceptor/internal/retry"
	"inceptor/service/stream"
	"inceptor/service/stream/inflate"
	"inceptor/service/stream/internal/flight"
	"inceptor/service/stream/internal/resume"
)

// queueRecords and queueBytes bound what waits in a partition's queue. Beyond them
// nothing more of it is polled.
const (
	queueRecords = 500
	queueBytes   = 1 << 20
)

// failingFor is how long an error that may pass by itself lasts before the observer is
// told. If no record comes, it is also how long no error must come before reading counts
// as recovered.
const failingFor = 10 * time.Second

// A partition belongs to one generation. Its polled records wait in a queue for
// space in the window, are handled side by side, and are collected in order.
type partition struct {
	// Set once.
	id       stream.Partition
	cfg      stream.Config
	flight   *flight.Flight
	progress *progress
	memory   *flight.Share
	fetch    int64                  // bytes that are fetched at a time, unless a batch has more
	arrived  chan struct{}          // signalled when the queue has records
	granted  chan struct{}          // signalled when the partition has its turn at the memory
	rested   *time.Timer            // runs while the partition rests
	space    chan<- struct{}        // the generation's
	wake     func()                 // called when there may be something to publish or commit
	pause    func(stream.Partition) // called with mu held, as is resume, so that both come in order
	resume   func(stream.Partition)

	turn atomic.Bool // it has waited for memory, and may be polled next

	mu sync.Mutex // guards the rest

	// What was polled.
	topic   resume.TopicID // zero: not known
	placed  bool           // next is where the reading began, or later
	queue   []queued
	held    int                    // records in the queue, or on their way from it into the window
	bytes   int64                  // of these records
	next    int64                  // every offset below has been polled
	rewound bool                   // offsets below next come again
	unread  map[int64]stream.Batch // by the offset that stands for it in the queue

	// Whether more may be polled.
	paused     bool  // the partition is full
	asked      bool  // for a turn at the memory
	lastPolled int64 // bytes of memory of what was polled last

	// Whether reading fails.
	failing  time.Time // since when nothing can be read; zero: it can
	reported bool      // to the observer
	resting  bool      // paused until reading is tried again
	tried    time.Time // when it was tried again
	pauses   retry.Backoff
}

// A queued record is charged together with those that were polled with it.
type queued struct {
	*kgo.Record
	charge *flight.Charge // nil: not at all
}

// push puts polled records into the queue.
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
			if p.rewound {
				continue
			}
			return fmt.Errorf("read from %v: offset %d comes after %d: the topic was recreated, or its log truncated", p.id, r.Offset, p.next-1)
		}
		p.rewound = false
		charge.Retain(1)
		p.enqueue(queued{r, charge})
		bytes += inflate.RecordCost + size(r)
	}
	return nil
}

// charge charges what was polled: it is in memory, whether there was space or not.
// The caller holds mu.
func (p *partition) charge(c *flight.Charge, bytes int64) {
	c.Set(bytes)
	p.lastPolled = bytes
	p.turn.Store(false)
}

// enqueue adds a record to the queue. The caller holds mu.
func (p *partition) enqueue(r queued) {
	p.next = r.Offset + 1
	p.queue = append(p.queue, r)
	p.held++
	p.bytes += size(r.Record)
	signal(p.arrived)
}

// skip puts a batch that cannot be read into the queue, as one record. It leaves a
// batch out that comes again.
func (p *partition) skip(b stream.Batch) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if b.Last < p.next {
		if p.rewound {
			return nil
		}
		return fmt.Errorf("read from %v: offset %d comes after %d: the topic was recreated, or its log truncated", p.id, b.Last, p.next-1)
	}
	p.rewound = false
	b.First = max(b.First, p.next, p.progress.last())
	if p.unread == nil {
		p.unread = map[int64]stream.Batch{}
	}
	p.unread[b.Last] = b
	p.enqueue(queued{&kgo.Record{Topic: b.Topic, Partition: int32(p.id.ID), Offset: b.Last}, nil})
	return nil
}

// overtaken returns a reset if retention has removed records before they were
// polled.
func (p *partition) overtaken(fetched kgo.FetchPartition) (stream.Reset, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to := fetched.LogStartOffset
	if len(fetched.Records) > 0 {
		to = min(to, fetched.Records[0].Offset)
	}
	from := p.next
	if fetched.Err != nil || !p.placed || to <= from {
		return stream.Reset{}, false
	}
	p.next = to
	return stream.Reset{Partition: p.id, Reason: stream.OutOfRange, From: from, To: to, Skipped: to - from}, true
}

// size returns what a record counts for, in the queue as in the window.
func size(r *kgo.Record) int64 {
	n := int64(len(r.Key) + len(r.Value))
	for _, h := range r.Headers {
		n += stream.HeaderBytes + int64(len(h.Key)+len(h.Value))
	}
	return n
}

// full reports whether nothing more may be polled. The caller holds mu.
func (p *partition) full() bool { return p.queueFull() || p.starved() }

func (p *partition) queueFull() bool { return p.held >= queueRecords || p.bytes >= queueBytes }

// starved reports whether there is no memory for more, and then asks for a turn. The
// caller holds mu.
func (p *partition) starved() bool {
	next := max(p.lastPolled, p.fetch)
	if p.memory.Fits(next, p.turn.Load()) {
		return false
	}
	if !p.asked {
		p.asked = true
		p.turn.Store(false)
		p.memory.Notify(next, func() {
			p.turn.Store(true)
			signal(p.granted)
		})
	}
	return true
}

// pauseIfFull pauses the partition if it is still full.
func (p *partition) pauseIfFull() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full() {
		p.paused = true
		p.pause(p.id)
	}
}

// memoryGranted ends a wait for memory.
func (p *partition) memoryGranted() {
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
	signal(p.space)
}

// fail notes that nothing can be read now, and lets the partition rest before the
// next attempt. The observer hears of an error at once, or after failingFor if it
// may pass by itself.
func (p *partition) fail(err error, mayPass bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing.IsZero() {
		p.failing = time.Now()
	}
	if !mayPass || time.Since(p.failing) > failingFor {
		p.reported = true
		p.cfg.Observer.Retrying(p.id, stream.Reading, err)
	}
	p.rest(p.pauses.NextBackOff())
}

// yield lets the partition rest, so that others are read that have waited for it.
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

// endRest lets the partition be polled again after a rest.
func (p *partition) endRest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting, p.tried = false, time.Now()
	if !p.paused {
		p.resume(p.id)
	}
	signal(p.space)
}

// failingSince returns since when nothing can be read; zero: it can.
func (p *partition) failingSince() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failing
}

// recovered returns true once after an error: when something was read, or when no
// further error has come for failingFor.
func (p *partition) recovered(read bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failing.IsZero() || !read && (p.resting || time.Since(p.tried) < failingFor) {
		return false
	}
	p.failing = time.Time{}
	p.pauses.Reset()
	if p.reported {
		p.reported = false
		p.cfg.Observer.Retrying(p.id, stream.Reading, nil)
	}
	return true
}

// admitted notes that a record has gone from the queue into the window.
func (p *partition) admitted(r *kgo.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	wasFull := p.queueFull()
	p.held--
	p.bytes -= size(r)
	if wasFull && !p.full() {
		p.unpause()
	}
}

// feed lets the queue's records into the window until ctx ends, and calls begin
// for each that is to be handled.
func (p *partition) feed(ctx context.Context, begin func(*flight.Slot)) {
	defer p.rested.Stop()
	for {
		select {
		case <-p.arrived:
		case <-p.rested.C:
			p.endRest()
			continue
		case <-p.granted:
			p.memoryGranted()
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
				p.cfg.Observer.InFlight(p.id, 1, slot.Record.Size())
				if b, ok := unread[r.Offset]; ok {
					slot.Done(p.cfg.ReplaceUnread(b))
				} else {
					begin(slot)
				}
			}
			p.admitted(r.Record)
		}
		p.wake()
	}
}

// idle reports whether everything that was polled is published.
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

// waitsForRecords reports whether nothing of the partition is on its way to the
// window though it may be fetched; and the offset that is due.
func (p *partition) waitsForRecords() (next int64, waits bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next, p.held == 0 && !p.paused && !p.resting && p.failing.IsZero()
}

// start notes where reading begins.
func (p *partition) start(s beginning) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.topic = s.topic
	if s.at < 0 {
		return
	}
	p.next, p.placed = s.at, true
	p.progress.start(s.at)
	if s.commit {
		p.flight.Skip(s.at)
		p.wake()
	}
}

// position returns the position of an offset.
func (p *partition) position(offset int64) resume.Position {
	p.mu.Lock()
	defer p.mu.Unlock()
	return resume.Position{Offset: offset, Topic: p.topic}
}

// record makes a stream.Record of the client's.
func record(r *kgo.Record) stream.Record {
	out := stream.Record{Topic: r.Topic, Partition: int(r.Partition), Offset: r.Offset, Key: r.Key, Value: r.Value, Time: r.Timestamp}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, stream.Header{Key: h.Key, Value: h.Value})
	}
	return out
}

// signal wakes the goroutine that waits on c, or the next one that will.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
