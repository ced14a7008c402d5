package stream

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// HeaderBytes is what a header counts for besides its bytes: there may be very
// many that have none.
const HeaderBytes = 40

// smallOutputs is up to what outputs of a record are not charged: as much as
// predictions take.
const smallOutputs = 16 << 10

// Size is what a record counts for in a window: the bytes of its key, value
// and headers.
func (r Record) Size() int64 {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += HeaderBytes + len(h.Key) + len(h.Value)
	}
	return int64(n)
}

// A Flight holds the records of one partition that were fetched and are not
// yet published: a window bounded in records and bytes, which lets them in by
// offset, lets their handlers finish in any order, and gives them out by
// offset again. Drivers share it, so that "publish in order, commit the
// unbroken run" is written, and tested, once.
//
// One goroutine admits, one takes runs; handlers finish slots from anywhere.
type Flight struct {
	limit Window
	room  chan struct{} // signalled when Admit may look again
	ready chan struct{} // signalled when Take may look again

	mu       sync.Mutex
	queue    []*Slot // by offset; queue[0] is the next to be published
	spare    []*Slot // released, to be used again
	bytes    int64
	next     int64 // every offset below is in queue, published, or not a record
	reported int64 // the Next of the last released run
	closed   bool
}

// A Slot is one record in a Flight.
type Slot struct {
	Record  Record
	Outputs []Record // set by Done
	Charge  *Charge  // may be nil; a reference to it is dropped by Release

	flight *Flight
	size   int64
	state  slotState
}

type slotState uint8

const (
	working slotState = iota
	done
	dropped
)

// A Run is the unbroken run of finished records at the head of a Flight.
// Slots may be empty: then only offsets without a record were passed.
type Run struct {
	Slots []*Slot
	Next  int64 // the offset to commit once all of Slots are published
}

// NewFlight returns an empty window on a partition that is read from start.
func NewFlight(limit Window, start int64) *Flight {
	return &Flight{
		limit:    limit,
		room:     make(chan struct{}, 1),
		ready:    make(chan struct{}, 1),
		next:     start,
		reported: start,
	}
}

// Admit waits until there is room for r and lets it in. Offsets must ascend;
// those left out (compaction removes records) count as passed.
func (f *Flight) Admit(ctx context.Context, r Record) (*Slot, error) {
	size := r.Size()
	for {
		s, err := f.admit(r, size)
		if s != nil || err != nil {
			return s, err
		}
		select {
		case <-f.room:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (f *Flight) admit(r Record, size int64) (*Slot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, io.ErrClosedPipe
	case r.Offset < f.next:
		return nil, fmt.Errorf("offset %d of partition %d comes after %d", r.Offset, r.Partition, f.next-1)
	case len(f.queue) > 0 && f.full(size):
		return nil, nil
	}
	var s *Slot
	if n := len(f.spare) - 1; n >= 0 {
		s, f.spare = f.spare[n], f.spare[:n]
	} else {
		s = &Slot{flight: f}
	}
	s.Record, s.Outputs, s.size, s.state = r, nil, size, working
	f.queue = append(f.queue, s)
	f.bytes += size
	f.next = r.Offset + 1
	return s, nil
}

func (f *Flight) full(size int64) bool {
	return len(f.queue) >= f.limit.Records || f.limit.Bytes > 0 && f.bytes+size > f.limit.Bytes
}

// Skip notes that no offset below next holds a record that is still to come:
// they were compacted away, or are markers of transactions.
func (f *Flight) Skip(next int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if next > f.next {
		f.next = next
		signal(f.ready)
	}
}

// Rewind sets the offset of the next record, backwards too, when the log no
// longer holds the one that was expected. Records in flight stay.
func (f *Flight) Rewind(next int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next, f.reported = next, next
}

// Done finishes the record with what is to be published for it.
func (s *Slot) Done(outputs []Record) {
	if s.Charge != nil {
		if more := outputBytes(s.Record, outputs); more > smallOutputs {
			s.Charge.Add(more)
		}
	}
	s.finish(done, outputs)
}

// outputBytes is what outputs take in memory besides their input: a dead letter
// holds the input's own value.
func outputBytes(input Record, outputs []Record) (bytes int64) {
	for _, r := range outputs {
		bytes += r.Size()
		if len(r.Value) > 0 && len(input.Value) > 0 && &r.Value[0] == &input.Value[0] {
			bytes -= int64(len(r.Value))
		}
	}
	return bytes
}

// Drop gives the record up: neither it nor any record behind it is published
// or committed, so the next generation begins with it.
func (s *Slot) Drop() { s.finish(dropped, nil) }

func (s *Slot) finish(state slotState, outputs []Record) {
	s.flight.mu.Lock()
	defer s.flight.mu.Unlock()
	s.state, s.Outputs = state, outputs
	signal(s.flight.ready)
}

// Take waits for a run to publish. The run stays in the window until it is
// given to Release. Take returns io.EOF when there will be no further run:
// the flight is closed, and either empty or headed by a dropped record.
func (f *Flight) Take(ctx context.Context) (Run, error) {
	for {
		if err := context.Cause(ctx); err != nil {
			return Run{}, err
		}
		if run, err := f.take(); err != nil || run.Slots != nil || run.Next > 0 {
			return run, err
		}
		select {
		case <-f.ready:
		case <-ctx.Done():
		}
	}
}

// Ready is Take without waiting: the run is the zero value if there is nothing
// to publish yet.
func (f *Flight) Ready() (Run, error) { return f.take() }

func (f *Flight) take() (Run, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for n < len(f.queue) && f.queue[n].state == done {
		n++
	}
	switch {
	case n > 0 && n == len(f.queue):
		return Run{f.queue[:n:n], f.next}, nil
	case n > 0:
		return Run{f.queue[:n:n], f.queue[n-1].Record.Offset + 1}, nil
	case len(f.queue) == 0 && f.next > f.reported:
		return Run{nil, f.next}, nil
	case f.closed && (len(f.queue) == 0 || f.queue[0].state == dropped):
		return Run{}, io.EOF
	}
	return Run{}, nil
}

// Release lets go of a published run, which must not be used after it: its slots
// are used again. It makes room.
func (f *Flight) Release(run Run) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range run.Slots {
		f.bytes -= s.size
		if s.Charge != nil {
			s.Charge.Release()
		}
		s.Record, s.Outputs, s.Charge = Record{}, nil, nil
	}
	f.spare = append(f.spare, run.Slots...)
	clear(f.queue[:len(run.Slots)]) // or the array would hold the values
	f.queue = f.queue[len(run.Slots):]
	f.reported = run.Next
	signal(f.room)
}

// Close lets no further record in; those in flight may still finish.
func (f *Flight) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	signal(f.ready)
}

// Held tells how many records, of how many bytes, are in the window.
func (f *Flight) Held() (records int, bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queue), f.bytes
}

// Settled tells whether all that was let in or skipped is published and released.
func (f *Flight) Settled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.queue) == 0 && f.next <= f.reported
}

// signal wakes the one goroutine that waits on c, or the next that will.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
